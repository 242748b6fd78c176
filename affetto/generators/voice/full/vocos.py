"""A ConvNeXt vocoder that predicts a spectrum and inverts it (after Vocos, Siuzdak, ICLR 2024, arXiv 2306.00814).

Written anew, under the published parameter names, so that the public `vocos-mel-24khz` weights load; the defaults are
that model (13.5 M parameters).
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from affetto.runtime.errors import InvalidInputError
from affetto.weights.tensors import check_layout

FRONT_END_KEYS = ("feature_extractor.", "head.istft.window")
"""Keys of the published file that hold its mel front end and window, which are computed here."""
_LOUDEST = 100.0  # magnitudes are cut here, as published


@dataclass(frozen=True, kw_only=True)
class VocosConfig:
    """Sizes; the defaults are those of vocos-mel-24khz."""

    bands: int = 100
    width: int = 512
    hidden: int = 1536
    layers: int = 8
    fft: int = 1024
    hop: int = 256

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "VocosConfig":
        """What `to_json` wrote; raises InvalidInputError for anything else."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"no Vocos configuration in these weights ({error}): convert them again"
            ) from error


class ConvNeXt(nn.Module):
    """Depth-wise convolution over time, then a wide layer on each frame, scaled and added."""

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, hidden)
        self.pwconv2 = nn.Linear(hidden, width)
        self.gamma = nn.Parameter(torch.full((width,), scale))

    def forward(self, frames: Float[Tensor, "batch frame width"]) -> Float[Tensor, "batch frame width"]:
        """The refined frames."""
        branch = rearrange(self.dwconv(rearrange(frames, "b t c -> b c t")), "b c t -> b t c")
        return frames + self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(branch))))


class Backbone(nn.Module):
    """Mels to hidden frames at the same rate."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.embed = nn.Conv1d(config.bands, config.width, 7, padding=3)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.convnext = nn.ModuleList(
            ConvNeXt(config.width, config.hidden, 1.0 / config.layers) for _ in range(config.layers)
        )
        self.final_layer_norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, mel: Float[Tensor, "batch band frame"]) -> Float[Tensor, "batch frame width"]:
        """The hidden frames."""
        frames = self.norm(rearrange(self.embed(mel), "b c t -> b t c"))
        for block in self.convnext:
            frames = block(frames)
        return self.final_layer_norm(frames)


class SpectrumHead(nn.Module):
    """Log-magnitude and phase of every bin, inverted by overlap-add."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.fft, self.hop = config.fft, config.hop
        self.out = nn.Linear(config.width, config.fft + 2)

    def forward(self, frames: Float[Tensor, "batch frame width"]) -> Float[Tensor, "batch sample"]:
        """Sound of (frames - 1) * hop samples: frames are centred, the first on sample 0."""
        loudness, phase = rearrange(self.out(frames).float(), "b t (n f) -> n b f t", n=2)
        with torch.autocast(frames.device.type, enabled=False):
            spectrum = torch.polar(loudness.exp().clamp(max=_LOUDEST), phase)
            window = torch.hann_window(self.fft, device=frames.device)
            return torch.istft(spectrum, self.fft, self.hop, self.fft, window, center=True)


class Vocos(nn.Module):
    """The vocoder."""

    def __init__(self, config: VocosConfig | None = None) -> None:
        super().__init__()
        self.config = config or VocosConfig()
        self.backbone = Backbone(self.config)
        self.head = SpectrumHead(self.config)
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, mel: Float[Tensor, "batch band frame"]) -> Float[Tensor, "batch sample"]:
        """Sound of (frames - 1) * hop samples."""
        return self.head(self.backbone(mel))


def load_vocos(tensors: Mapping[str, Tensor], config: VocosConfig) -> Vocos:
    """The vocoder with these weights in evaluation mode; the published file's front end is left out.

    Raises InvalidInputError when the weights do not fit.
    """
    with torch.device("meta"):
        network = Vocos(config)
    own = {key: value.float() for key, value in tensors.items() if not key.startswith(FRONT_END_KEYS)}
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_layout({key: tuple(value.shape) for key, value in own.items()}, expected, "Vocos")
    network.load_state_dict(own, assign=True)
    return network.eval()
