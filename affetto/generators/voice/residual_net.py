"""The network of the embedded voice: a flow from the emotion's mean residual to the residual of this very sentence.

After EmoReg (arXiv 2412.20359) and DiffVC (Popov et al. 2022): the walk starts about an average (there the average
voice, here the bank's mean residual), and the embedding e_ir = e_s + i e_d is fused at every step. Flow matching (Lipman
et al. 2023) stands in for their diffusion. What is said is told as content units, kinds of sound found in speech without transcripts.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from affetto.generators.voice.controls import BANDS, WIDTH
from affetto.generators.voice.speaker import STATISTICS

FACTOR = 4  # frames for each token
EMBEDDING = 256
UNIT_SIZE = 12 + 5
"""Numbers by which content units are told apart: twelve cepstra, voicing, loudness, three shares of noise."""


@dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """Sizes of the network; tokens come at 25 Hz."""

    channels: int = WIDTH
    source: int = WIDTH
    speaker: int = STATISTICS
    embedding: int = EMBEDDING
    width: int = 128
    style: int = 128
    code: int = 48
    blocks: int = 5
    kernel: int = 7
    units: int = 0  # content units; 0 for none

    def to_metadata(self) -> dict[str, str]:
        """The sizes as text, for the header of a weight file."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ResidualConfig":
        """The sizes that a weight file's header tells."""
        return cls(**{name: int(metadata[name]) for name in asdict(cls()) if name in metadata})


class Block(nn.Module):
    """ConvNeXt over time whose norm takes scale and shift from the style of each token."""

    def __init__(self, width: int, style: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = dilation * (kernel // 2)
        self.across = nn.Conv1d(width, width, kernel, dilation=dilation, groups=width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(style, 2 * width)
        out = nn.Linear(3 * width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Dropout(dropout), out)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        nn.init.zeros_(out.weight)

    def forward(
        self, hidden: Float[Tensor, "batch token width"], style: Float[Tensor, "batch token style"]
    ) -> Float[Tensor, "batch token width"]:
        """The tokens, each having looked around."""
        padded = F.pad(rearrange(hidden, "b t w -> b w t"), (self.reach, self.reach), mode="constant")
        around = rearrange(self.across(padded), "b w t -> b t w")
        scale, shift = self.modulate(style).chunk(2, dim=-1)
        return hidden + self.mlp(self.norm(around) * (1 + scale) + shift)


def time_features(sigma: Float[Tensor, "batch"], width: int = 32) -> Float[Tensor, "batch {width}"]:
    """Sines and cosines of the noise level 0..1."""
    frequency = torch.exp(torch.linspace(0.0, math.log(100.0), width // 2, device=sigma.device))
    angle = sigma[:, None].float() * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def sound_features(source: Float[Tensor, "*clip frame source"]) -> Float[Tensor, "*clip frame size"]:
    """What tells one speech sound from another, from normalised controls: cepstra of the colour, loudness, voicing, noise."""
    colour = source[..., 3 : 3 + BANDS].float()
    order = torch.arange(1, UNIT_SIZE - 4, device=source.device)[:, None]
    phase = (torch.arange(BANDS, device=source.device) + 0.5)[None]
    waves = torch.cos(math.pi / BANDS * order * phase) * (2.0 / BANDS) ** 0.5
    rest = [source[..., 1:3], source[..., 3 + BANDS :]]
    return torch.cat([colour @ waves.T, *(part.float() for part in rest)], dim=-1)


def unit_shares(
    source: Float[Tensor, "clip frame source"], centres: Float[Tensor, "unit size"]
) -> Float[Tensor, "clip frame unit"]:
    """How near each frame is to each content unit, shares that sum to 1: soft k-means, the nearest counting most."""
    features = sound_features(source)
    far = (
        features.square().sum(-1, keepdim=True)
        - 2 * features @ centres.float().T
        + centres.float().square().sum(-1)
    )
    return torch.softmax(-far, dim=-1)


class ResidualNet(nn.Module):
    """Velocity of the flow over normalised residuals, all at 100 Hz; the number of frames must be a multiple of four.

    `scale` holds the standard deviation of each column about the prior mean: what flows is (residual - mean) / scale.
    """

    scale: Tensor
    embedding_mean: Tensor
    embedding_scale: Tensor
    unit_centres: Tensor

    def __init__(self, config: ResidualConfig | None = None, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.config = config = config or ResidualConfig()
        self.register_buffer("scale", torch.ones(config.channels))
        self.register_buffer("embedding_mean", torch.zeros(config.embedding))
        self.register_buffer("embedding_scale", torch.ones(()))
        self.register_buffer(
            "unit_centres", torch.zeros(config.units, UNIT_SIZE), persistent=config.units > 0
        )
        self.meaning = nn.Linear(config.units, config.width, bias=False) if config.units else None
        self.hear = nn.Conv1d(config.source, config.width, 2 * FACTOR, FACTOR, padding=FACTOR // 2)
        self.enter = nn.Conv1d(config.channels, config.width, 2 * FACTOR, FACTOR, padding=FACTOR // 2)
        self.place = nn.Linear(config.embedding, config.code)
        self.move = nn.Linear(config.embedding, config.code)
        self.loosen = nn.Dropout(2 * dropout)
        told = 2 * config.code + config.channels + config.speaker + 32
        self.style = nn.Sequential(
            nn.Linear(told, config.style),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(config.style, config.style),
        )
        dilations = (1, 2, 4)
        self.blocks = nn.ModuleList(
            Block(config.width, config.style, config.kernel, dilations[index % 3], dropout)
            for index in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.ConvTranspose1d(
            config.width, config.channels, 2 * FACTOR, FACTOR, padding=FACTOR // 2
        )
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(
        self,
        noisy: Float[Tensor, "batch frame channel"],
        sigma: Float[Tensor, "batch"],
        *,
        source: Float[Tensor, "batch frame source"],
        mean: Float[Tensor, "batch token channel"],
        speaker: Float[Tensor, "batch speaker"],
        place: Float[Tensor, "batch 256"],
        target: Float[Tensor, "batch token 256"],
    ) -> Float[Tensor, "batch frame channel"]:
        """Noise less residual, both normalised, at noise level `sigma`.

        `source`: the source's normalised controls; `mean`: the prior mean at full strength; `place`: e_s; `target`:
        e_ir for each token of four frames; `speaker`: the vector of `SpeakerStatistics`.
        """
        tokens = mean.shape[1]
        there = (target - self.embedding_mean) / self.embedding_scale
        moved = (target - place[:, None]) / self.embedding_scale
        told = [
            self.loosen(self.place(there)),
            self.loosen(self.move(moved)),
            mean / self.scale,
            speaker[:, None].expand(-1, tokens, -1),
            time_features(sigma)[:, None].expand(-1, tokens, -1),
        ]
        style = self.style(torch.cat([part.to(noisy.dtype) for part in told], dim=-1))
        heard = self.hear(rearrange(source, "b t c -> b c t"))
        if self.meaning is not None:
            said = reduce(unit_shares(source, self.unit_centres), "b (t n) u -> b t u", "mean", n=FACTOR)
            heard = heard + rearrange(self.meaning(said.to(noisy.dtype)), "b t w -> b w t")
        hidden = rearrange(heard + self.enter(rearrange(noisy, "b t c -> b c t")), "b w t -> b t w")
        for block in self.blocks:
            hidden = block(hidden, style)
        out = self.leave(rearrange(self.norm(hidden), "b t w -> b w t"))
        level = sigma[:, None, None]
        drift = (2 * level - 1) / (
            level.square() + (1 - level).square()
        )  # best linear guess at unit variance
        return drift * noisy + rearrange(out, "b c t -> b t c")
