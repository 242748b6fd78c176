"""FLINT, EMOTE's temporal prior of facial motion: a variational autoencoder that halves the rate three times.

Danecek et al. 2023 (arXiv 2306.08990), section 3.1; module names and sizes are those of the published checkpoints.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from affetto.generators.face.full.layers import AlibiEncoder

JAW = 3


@dataclass(frozen=True, kw_only=True)
class FlintConfig:
    """Sizes: `width` of the latents, `halvings` of the rate, `expressions` of FLAME; the jaw adds three numbers."""

    width: int = 128
    heads: int = 8
    hidden: int = 384
    layers: int = 1
    halvings: int = 3
    expressions: int = 100
    projected: bool = True  # the final release has a projection after the transformer

    @property
    def factor(self) -> int:
        """Frames for each latent."""
        return 2**self.halvings

    @property
    def channels(self) -> int:
        """Numbers for each frame."""
        return self.expressions + JAW


def _convolved(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv1d(inputs, outputs, 5, stride=stride, padding=2, padding_mode="replicate")
    return nn.Sequential(convolution, nn.LeakyReLU(0.2), nn.BatchNorm1d(outputs))


class FlintDecoder(nn.Module):
    """Latents to FLAME expression and jaw (axis-angle, radians)."""

    def __init__(self, config: FlintConfig) -> None:
        super().__init__()
        width = config.width
        first = nn.Sequential(
            nn.ConvTranspose1d(width, width, 5, stride=2, padding=2, output_padding=1),
            nn.LeakyReLU(0.2),
            nn.BatchNorm1d(width),
        )
        rest = (_convolved(width, width) for _ in range(1, config.halvings))
        self.expander = nn.ModuleList([first, *rest])
        self.decoder_linear_embedding = nn.Linear(width, width)
        self.decoder_transformer = AlibiEncoder(
            width, config.heads, config.hidden, layers=config.layers, period=1, dropout=0.0
        )
        self.post_transformer_linear = nn.Linear(width, width) if config.projected else None
        self.cross_smooth_layer = nn.Conv1d(width, config.channels, 5, padding=2)

    def forward(self, latents: Float[Tensor, "batch step width"]) -> Float[Tensor, "batch frame channel"]:
        """Eight frames (at three halvings) for each latent."""
        hidden = rearrange(latents, "b t d -> b d t")
        for index, block in enumerate(self.expander):
            hidden = block(hidden)
            if index:
                hidden = hidden.repeat_interleave(2, dim=2)
        hidden = self.decoder_linear_embedding(rearrange(hidden, "b d t -> b t d"))
        hidden = self.decoder_transformer(hidden)
        if self.post_transformer_linear is not None:
            hidden = self.post_transformer_linear(hidden)
        motion = self.cross_smooth_layer(rearrange(hidden, "b t d -> b d t"))
        return rearrange(motion, "b d t -> b t d")


class FlintEncoder(nn.Module):
    """FLAME motion to the mean and log-variance of its latents; needed for training only."""

    def __init__(self, config: FlintConfig) -> None:
        super().__init__()
        width = config.width
        blocks = [_convolved(config.channels, width, stride=2)]
        blocks += [_convolved(width, width) for _ in range(1, config.halvings)]
        self.squasher = nn.ModuleList(blocks)
        self.encoder_linear_embedding = nn.Linear(width, width)
        self.encoder_transformer = AlibiEncoder(
            width, config.heads, config.hidden, layers=config.layers, period=1, dropout=0.0
        )
        self.mean = nn.Linear(width, width)
        self.logvar = nn.Linear(width, width)

    def forward(
        self, motion: Float[Tensor, "batch frame channel"]
    ) -> tuple[Float[Tensor, "batch step width"], Float[Tensor, "batch step width"]]:
        """The Gaussian of each latent; frames must be a multiple of the factor."""
        hidden = rearrange(motion, "b t d -> b d t")
        for index, block in enumerate(self.squasher):
            hidden = block(hidden)
            if index:
                hidden = F.max_pool1d(hidden, 2)
        hidden = self.encoder_transformer(self.encoder_linear_embedding(rearrange(hidden, "b d t -> b t d")))
        return self.mean(hidden), self.logvar(hidden)


class Flint(nn.Module):
    """Encoder and decoder together, for training the prior."""

    def __init__(self, config: FlintConfig) -> None:
        super().__init__()
        self.config = config
        self.motion_encoder = FlintEncoder(config)
        self.motion_decoder = FlintDecoder(config)

    def forward(
        self, motion: Float[Tensor, "batch frame channel"]
    ) -> tuple[Float[Tensor, "batch frame channel"], Float[Tensor, ""]]:
        """The motion as it comes back from a sampled latent, and KL(latent || N(0, 1)) averaged over latents."""
        mean, logvar = self.motion_encoder(motion)
        latent = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(-1).mean()
        return self.motion_decoder(latent), divergence
