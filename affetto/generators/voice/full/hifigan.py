"""HiFi-GAN's generator (Kong, Kim and Bae, NeurIPS 2020): log-mels in, sound out.

Under the published parameter names with weight normalisation folded in; the defaults are V1, the size of the
`universal` checkpoint that DiffVC used (13.9 M parameters).
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from affetto.runtime.errors import InvalidInputError
from affetto.weights.tensors import check_layout

_SLOPE = 0.1


@dataclass(frozen=True, kw_only=True)
class HiFiGANConfig:
    """Sizes of the generator, V1 by default; `blocks` 2 is the small residual block of V3."""

    bands: int = 80
    channels: int = 512
    rates: tuple[int, ...] = (8, 8, 2, 2)  # their product is the hop
    kernels: tuple[int, ...] = (16, 16, 4, 4)
    block_kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    blocks: int = 1

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "HiFiGANConfig":
        """What `to_json` wrote; raises InvalidInputError for anything else."""
        try:
            values: dict[str, Any] = {
                key: _tuples(value) if isinstance(value, list) else value
                for key, value in json.loads(text).items()
            }
            return cls(**values)
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidInputError(
                f"no HiFi-GAN configuration in these weights ({error}): convert them again"
            ) from error


def _tuples(value: list[Any]) -> tuple[Any, ...]:
    return tuple(_tuples(each) if isinstance(each, list) else each for each in value)


def _conv(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


class ResBlock1(nn.Module):
    """Dilated convolutions, each followed by a plain one, added up."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_conv(channels, kernel, 1) for _ in dilations)

    def forward(self, hidden: Float[Tensor, "batch channel sample"]) -> Float[Tensor, "batch channel sample"]:
        """The refined signal."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            branch = first(F.leaky_relu(hidden, _SLOPE))
            hidden = hidden + second(F.leaky_relu(branch, _SLOPE))
        return hidden


class ResBlock2(nn.Module):
    """Dilated convolutions, added up."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)

    def forward(self, hidden: Float[Tensor, "batch channel sample"]) -> Float[Tensor, "batch channel sample"]:
        """The refined signal."""
        for conv in self.convs:
            hidden = hidden + conv(F.leaky_relu(hidden, _SLOPE))
        return hidden


class HiFiGAN(nn.Module):
    """The generator; `hop` samples for each frame of log-mels."""

    def __init__(self, config: HiFiGANConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HiFiGANConfig()
        block = ResBlock1 if config.blocks == 1 else ResBlock2
        self.conv_pre = nn.Conv1d(config.bands, config.channels, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        channels = config.channels
        for rate, kernel in zip(config.rates, config.kernels, strict=True):
            self.ups.append(
                nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            )
            channels //= 2
            for width, dilations in zip(config.block_kernels, config.dilations, strict=True):
                self.resblocks.append(block(channels, width, dilations))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    @property
    def hop(self) -> int:
        """Samples for each frame."""
        return int(torch.tensor(self.config.rates).prod())

    def forward(self, mel: Float[Tensor, "batch band frame"]) -> Float[Tensor, "batch sample"]:
        """Sound in -1..1."""
        hidden = self.conv_pre(mel)
        count = len(self.config.block_kernels)
        for level, up in enumerate(self.ups):
            hidden = up(F.leaky_relu(hidden, _SLOPE))
            parts = [block(hidden) for block in self.resblocks[level * count : (level + 1) * count]]
            hidden = torch.stack(parts).mean(dim=0)
        # The published code leaves the slope at torch's default here; the checkpoints were trained so.
        return rearrange(torch.tanh(self.conv_post(F.leaky_relu(hidden))), "b 1 n -> b n")


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with every pair `x.weight_g`, `x.weight_v` replaced by `x.weight` = g v / |v|."""
    folded: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.endswith(".weight_v"):
            stem = key.removesuffix("_v")
            if f"{stem}_g" not in tensors:
                raise InvalidInputError(
                    f"key {stem + '_g'!r} is missing: these are not weight-normalised weights"
                )
            direction = value.float()
            length = direction.flatten(1).norm(dim=1).reshape(-1, *[1] * (direction.ndim - 1))
            folded[stem] = tensors[f"{stem}_g"].float() * direction / length
        elif not key.endswith(".weight_g"):
            folded[key] = value.float()
    return folded


def load_hifigan(tensors: Mapping[str, Tensor], config: HiFiGANConfig) -> HiFiGAN:
    """The generator with these weights (folded or not) in evaluation mode; raises InvalidInputError when they misfit."""
    with torch.device("meta"):
        network = HiFiGAN(config)
    folded = fold_weight_norm(tensors)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_layout({key: tuple(value.shape) for key, value in folded.items()}, expected, "HiFi-GAN")
    network.load_state_dict(folded, assign=True)
    return network.eval()
