"""The networks of the embedded face: a temporal VAE over blend shapes, and a decoder from speech and emotion to it.

After FLINT and EMOTE (Danecek et al. 2023): a motion prior learnt on curves alone, then a transformer with symmetric
ALiBi that finds latents for what is said and felt. Here attention reaches a bounded distance, so that windows with a
margin equal the whole.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from affetto.acting.adapter import WIDTH as EMOTION_WIDTH
from affetto.media.animation.curves import ARKIT_52
from affetto.runtime.attention import SelfAttention, symmetric_alibi
from affetto.speech.phones import PHONES

FACTOR = 4  # frames for each latent
CONTENT_WIDTH = len(PHONES) + 3  # posteriors, closure, loudness, speaking


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Sizes; `reach` bounds attention in the decoder, in frames at 25 Hz on each side."""

    channels: int = len(ARKIT_52)
    content: int = CONTENT_WIDTH
    emotion: int = EMOTION_WIDTH
    latent: int = 64
    prior_width: int = 128
    width: int = 160
    layers: int = 3
    heads: int = 4
    reach: int = 12

    def to_metadata(self) -> dict[str, str]:
        """The sizes as text, for the header of a weight file."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "MotionConfig":
        """The sizes that a weight file's header tells."""
        return cls(**{name: int(metadata[name]) for name in asdict(cls()) if name in metadata})


def local_alibi(
    heads: int, frames: int, reach: int, device: torch.device
) -> Float[Tensor, "head frame frame"]:
    """Symmetric ALiBi that ends at `reach` frames: nothing farther is attended to."""
    bias = symmetric_alibi(heads, frames, device=device)
    position = torch.arange(frames, device=device)
    far = (position[:, None] - position[None, :]).abs() > reach
    return bias.masked_fill(far, float("-inf"))


class Block(nn.Module):
    """Pre-norm attention and MLP whose norms take scale and shift from the style, when there is one."""

    def __init__(self, width: int, heads: int, style: int = 0, expansion: int = 3) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )
        self.modulate = nn.Linear(style, 4 * width) if style else None
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def forward(
        self,
        hidden: Float[Tensor, "batch frame width"],
        bias: Float[Tensor, "head frame frame"],
        style: Float[Tensor, "batch frame style"] | None = None,
    ) -> Float[Tensor, "batch frame width"]:
        """The hidden states, each having looked around."""
        first, second = self.norms[0](hidden), None
        if self.modulate is not None and style is not None:
            scale, shift, second_scale, second = self.modulate(style).chunk(4, dim=-1)
            first = first * (1 + scale) + shift
            hidden = hidden + self.attention(first, bias)
            return hidden + self.mlp(self.norms[1](hidden) * (1 + second_scale) + second)
        hidden = hidden + self.attention(first, bias)
        return hidden + self.mlp(self.norms[1](hidden))


class _Convolution(nn.Module):
    """Convolution over time on (batch, frame, width), with layer norm and GELU; edges are repeated."""

    def __init__(self, width_in: int, width: int, kernel: int = 5, stride: int = 1) -> None:
        super().__init__()
        self.kernel = kernel
        self.convolve = nn.Conv1d(width_in, width, kernel, stride)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Float[Tensor, "batch frame width"]) -> Float[Tensor, "batch kept out"]:
        """The convolved states; a stride of two halves the frames."""
        half = self.kernel // 2
        across = F.pad(rearrange(hidden, "b t w -> b w t"), (half, half), mode="replicate")
        return F.gelu(self.norm(rearrange(self.convolve(across), "b w t -> b t w")))


class MotionPrior(nn.Module):
    """Temporal VAE of the 52 curves: 50 Hz in, Gaussian latents at 12.5 Hz, 50 Hz out."""

    def __init__(self, channels: int, width: int, latent: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.encode_convolutions = nn.Sequential(
            _Convolution(channels, width),
            _Convolution(width, width, stride=2),
            _Convolution(width, width, stride=2),
        )
        self.encode_block = Block(width, heads)
        self.gaussian = nn.Linear(width, 2 * latent)
        self.enter = nn.Linear(latent, width)
        self.decode_coarse = _Convolution(width, width, 3)
        self.decode_middle = _Convolution(width, width)
        self.decode_block = Block(width, heads)
        self.decode_fine = _Convolution(width, width)
        self.leave = nn.Conv1d(width, channels, 5)

    def encode(
        self, curves: Float[Tensor, "batch frame channel"]
    ) -> tuple[Float[Tensor, "batch step latent"], Float[Tensor, "batch step latent"]]:
        """Mean and log variance of the latents; the frames must be a multiple of four."""
        hidden = self.encode_convolutions(curves)
        bias = local_alibi(self.heads, hidden.shape[1], self.reach, hidden.device)
        mean, log_variance = self.gaussian(self.encode_block(hidden, bias)).chunk(2, dim=-1)
        return mean, log_variance.clamp(-10.0, 4.0)

    def decode(self, latents: Float[Tensor, "batch step latent"]) -> Float[Tensor, "batch frame channel"]:
        """Curves, four frames for each latent; not yet clipped to 0..1."""
        hidden = self.decode_coarse(self.enter(latents))
        hidden = self.decode_middle(repeat(hidden, "b s w -> b (s n) w", n=2))
        bias = local_alibi(self.heads, hidden.shape[1], self.reach, hidden.device)
        hidden = self.decode_block(hidden, bias)
        hidden = self.decode_fine(repeat(hidden, "b s w -> b (s n) w", n=2))
        across = F.pad(rearrange(hidden, "b t w -> b w t"), (2, 2), mode="replicate")
        return rearrange(self.leave(across), "b c t -> b t c")


class MotionDecoder(nn.Module):
    """Speech content and emotion at 50 Hz -> latents of the prior at 12.5 Hz."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        width, style = config.width, 64
        self.heads, self.reach = config.heads, config.reach
        self.hear = _Convolution(config.content, width)
        self.halve = _Convolution(width, width, stride=2)
        self.style = nn.Sequential(nn.Linear(config.emotion, style), nn.GELU(), nn.Linear(style, style))
        self.join = nn.Linear(width + style, width)
        self.blocks = nn.ModuleList([Block(width, config.heads, style) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(width)
        self.squash = nn.Linear(2 * width, config.latent)
        self.bear = nn.Sequential(nn.Linear(config.emotion, 128), nn.GELU(), nn.Linear(128, config.latent))

    def forward(
        self, content: Float[Tensor, "batch frame content"], emotion: Float[Tensor, "batch frame emotion"]
    ) -> Float[Tensor, "batch step latent"]:
        """The latents; the frames must be a multiple of four.

        What an emotion looks like at rest takes a path of its own (`bear`), so that the transformer is left with how
        speech and emotion meet.
        """
        hidden = self.halve(self.hear(content))
        style = self.style(reduce(emotion, "b (t n) e -> b t e", "mean", n=2))
        hidden = self.join(torch.cat([hidden, style], dim=-1))
        bias = local_alibi(self.heads, hidden.shape[1], self.reach, hidden.device)
        for block in self.blocks:
            hidden = block(hidden, bias, style)
        spoken = self.squash(rearrange(self.norm(hidden), "b (s n) w -> b s (n w)", n=2))
        return spoken + self.bear(reduce(emotion, "b (s n) e -> b s e", "mean", n=FACTOR))


class MotionNet(nn.Module):
    """Speech and emotion to blend shapes: `MotionDecoder`, then the decoder of `MotionPrior`."""

    def __init__(self, config: MotionConfig | None = None) -> None:
        super().__init__()
        self.config = config or MotionConfig()
        sizes = self.config
        self.prior = MotionPrior(sizes.channels, sizes.prior_width, sizes.latent, sizes.heads, sizes.reach)
        self.decoder = MotionDecoder(sizes)

    def forward(
        self, content: Float[Tensor, "batch frame content"], emotion: Float[Tensor, "batch frame emotion"]
    ) -> Float[Tensor, "batch frame channel"]:
        """Curves at 50 Hz, not yet clipped; the frames must be a multiple of four."""
        return self.prior.decode(self.decoder(content, emotion))
