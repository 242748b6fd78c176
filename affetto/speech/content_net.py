"""The network that reads phones off log-mels: a convolutional front end and a few local-attention blocks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affetto.media.mel import MelSpec
from affetto.runtime.attention import SelfAttention, symmetric_alibi
from affetto.runtime.errors import UsageError
from affetto.speech.phones import PHONES

MEL = MelSpec()
LOUD_RMS = 5.0
"""The loud parts of a window are scaled to this RMS, so that the floor of the log-mels lies some 58 dB below."""
_QUIET = -7.5
"""Log power under which no frame counts as loud: some 30 dB below the loud frames of speech at `LOUD_RMS`."""


@dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """Sizes of the content network; `reach_s` bounds what a frame may attend to on each side."""

    bands: int = 80
    phones: int = len(PHONES)
    width: int = 160
    layers: int = 4
    heads: int = 4
    expansion: int = 3
    kernel: int = 9
    dropout: float = 0.0
    reach_s: float = 0.3

    def to_metadata(self) -> dict[str, str]:
        """The sizes as text, for the header of a weight file."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ContentConfig":
        """The sizes that a weight file's header tells."""
        fields = {
            name: type(default)(metadata[name]) for name, default in asdict(cls()).items() if name in metadata
        }
        config = cls(**fields)
        if config.phones != len(PHONES):
            raise UsageError(
                f"these weights know {config.phones} phones, this program {len(PHONES)}: use matching ones"
            )
        return config


def normalise(
    mels: Float[Tensor, "batch band frame"], present: Bool[Tensor, "batch frame"]
) -> Float[Tensor, "batch channel frame"]:
    """Log-mels without the channel's colour, and the loudness of each frame as one more channel.

    The mean of each band over the loud frames (cepstral mean normalisation in the log-mel domain) is subtracted.
    """
    loudness = torch.logsumexp(mels, dim=1)
    peak = loud_part(loudness, present).clamp_min(_QUIET)
    weight = (torch.sigmoid(1.5 * (loudness - peak + 5.0)) + 1e-4) * present
    weight = rearrange(weight, "b t -> b 1 t")
    mean = reduce(mels * weight, "b c t -> b c 1", "sum") / reduce(weight, "b c t -> b c 1", "sum").clamp_min(
        1e-6
    )
    colour_free = ((mels - mean) / 3.0).clamp(-4.0, 2.0)
    level = rearrange(((loudness - peak) / 3.0).clamp(-5.0, 1.0), "b t -> b 1 t")
    return torch.cat([colour_free, level], dim=1) * rearrange(present, "b t -> b 1 t")


def loud_part(
    loudness: Float[Tensor, "batch frame"], present: Bool[Tensor, "batch frame"]
) -> Float[Tensor, "batch 1"]:
    """The 95th percentile of each clip's frames, padding not counted."""
    heard = torch.where(present, loudness, -torch.inf).sort(dim=1, descending=True).values
    place = 0.05 * (present.sum(dim=1, keepdim=True) - 1).clamp_min(0)
    below = place.floor().long()
    above = (below + 1).clamp_max((present.sum(dim=1, keepdim=True) - 1).clamp_min(0))
    return torch.lerp(heard.gather(1, below), heard.gather(1, above), (place - below).to(heard.dtype))


class _Convolution(nn.Module):
    """Gated depthwise convolution over time (the convolution module of Gulati et al. 2020, with layer norm)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 2 * width)
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, width)

    def forward(
        self, hidden: Float[Tensor, "batch frame width"], present: Float[Tensor, "batch frame 1"]
    ) -> Float[Tensor, "batch frame width"]:
        gated = F.glu(self.enter(hidden), dim=-1) * present
        mixed = rearrange(self.mix(rearrange(gated, "b t c -> b c t")), "b c t -> b t c")
        return self.leave(F.silu(self.norm(mixed)))


class _Block(nn.Module):
    def __init__(self, config: ContentConfig) -> None:
        super().__init__()
        width = config.width
        self.attend_norm, self.conv_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.attend = SelfAttention(width, config.heads)
        self.convolve = _Convolution(width, config.kernel)
        self.feed = nn.Sequential(
            nn.Linear(width, config.expansion * width), nn.GELU(), nn.Linear(config.expansion * width, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden: Float[Tensor, "batch frame width"],
        bias: Float[Tensor, "batch head frame frame"],
        present: Float[Tensor, "batch frame 1"],
    ) -> Float[Tensor, "batch frame width"]:
        hidden = hidden + self.dropout(self.attend(self.attend_norm(hidden), bias))
        hidden = hidden + self.dropout(self.convolve(self.conv_norm(hidden), present))
        return hidden + self.dropout(self.feed(self.feed_norm(hidden)))


class ContentEncoder(nn.Module):
    """Features, phone logits, closure logits and speaking logits at 50 Hz from log-mels at 100 Hz."""

    def __init__(self, config: ContentConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.listen = nn.Conv1d(config.bands + 1, width, 5, padding=2)
        self.halve = nn.Conv1d(width, width, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.name_phone = nn.Linear(width, config.phones)
        self.judge = nn.Linear(width, 2)  # closure, speaking

    def bias(self, present: Bool[Tensor, "batch frame"]) -> Float[Tensor, "batch head frame frame"]:
        """Distance penalties of the attention; minus infinity beyond `reach_s` and at padding."""
        frames = present.shape[1]
        distance = symmetric_alibi(self.config.heads, frames, device=present.device)
        position = torch.arange(frames, device=present.device)
        gap = (position[:, None] - position[None, :]).abs()
        near = gap <= round(self.config.reach_s * 50.0)
        # A padded frame attends to itself alone, which keeps its row finite.
        allowed = (near & rearrange(present, "b t -> b 1 t")) | (gap == 0)
        return rearrange(distance, "h q k -> 1 h q k").masked_fill(
            ~rearrange(allowed, "b q k -> b 1 q k"), -torch.inf
        )

    def forward(
        self, mels: Float[Tensor, "batch band frame"], present: Bool[Tensor, "batch frame"] | None = None
    ) -> tuple[
        Float[Tensor, "batch half width"],
        Float[Tensor, "batch half phone"],
        Float[Tensor, "batch half"],
        Float[Tensor, "batch half"],
    ]:
        """Output frame t speaks of mel frame 2t; `present` marks the mel frames that are not padding."""
        if present is None:
            present = torch.ones(mels.shape[0], mels.shape[2], dtype=torch.bool, device=mels.device)
        with torch.autocast(mels.device.type, enabled=False):
            inputs = normalise(mels.float(), present)
        heard = F.gelu(self.listen(inputs)) * rearrange(present, "b t -> b 1 t")
        hidden = rearrange(F.gelu(self.halve(heard)), "b c t -> b t c")
        half = present[:, ::2]
        bias = self.bias(half)
        if torch.is_autocast_enabled(mels.device.type):  # once, and not in every block
            bias = bias.to(torch.get_autocast_dtype(mels.device.type))
        keep = rearrange(half, "b t -> b t 1").to(hidden.dtype)
        for block in self.blocks:
            hidden = block(hidden, bias, keep)
        features = self.norm(hidden)
        judged = self.judge(features)
        return features, self.name_phone(features), judged[..., 0], judged[..., 1]
