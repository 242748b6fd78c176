"""The network behind the embedded speech encoder: convolutions over frames beside a small net over statistics."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affetto.conditioning.encoders.speech_features import SpeechSpec

SPEECH_CLASSES: tuple[str, ...] = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
"""What the network tells apart, in the order of its outputs."""


@dataclass(frozen=True, kw_only=True)
class SpeechNetworkConfig:
    """Sizes of the speech network; the defaults are those of the shipped weights."""

    spec: SpeechSpec = field(default_factory=SpeechSpec)
    width: int = 96
    blocks: int = 4
    statistics: int = 227  # what `functionals` gives
    embedding: int = 96
    dropout: float = 0.4
    classes: int = len(SPEECH_CLASSES)


class ConvBlock(nn.Module):
    """A residual pair of convolutions in time, normalised over channels and frames."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv1d(width, width, 5, padding=2)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "clip width frame"]) -> Float[Tensor, "clip width frame"]:
        """The input plus what the convolutions add."""
        return hidden + self.second(self.dropout(F.gelu(self.first(F.gelu(self.norm(hidden))))))


class SpeechNetwork(nn.Module):
    """Class logits and VAD of a two-second window from its frame features and its statistics."""

    def __init__(self, config: SpeechNetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, rows = config.width, config.spec.channels
        self.frame_mean: Tensor
        self.frame_scale: Tensor
        self.statistic_mean: Tensor
        self.statistic_scale: Tensor
        self.register_buffer("frame_mean", torch.zeros(rows))
        self.register_buffer("frame_scale", torch.ones(rows))
        self.register_buffer("statistic_mean", torch.zeros(config.statistics))
        self.register_buffer("statistic_scale", torch.ones(config.statistics))
        self.stem = nn.Conv1d(rows + 1, width, 5, stride=2, padding=2)
        self.early = nn.Sequential(*[ConvBlock(width, config.dropout / 2) for _ in range(config.blocks // 2)])
        self.halve = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.late = nn.Sequential(
            *[ConvBlock(width, config.dropout / 2) for _ in range(config.blocks - config.blocks // 2)]
        )
        self.attention = nn.Conv1d(width, 1, 1)
        self.summary = nn.Linear(3 * width, config.embedding)
        self.statistic = nn.Linear(config.statistics, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.logits = nn.Linear(2 * config.embedding, config.classes)
        self.vad = nn.Linear(2 * config.embedding, 3)

    def embed(
        self,
        features: Float[Tensor, "clip channel frame"],
        active: Bool[Tensor, "clip frame"],
        statistics: Float[Tensor, "clip statistic"],
    ) -> Float[Tensor, "clip width"]:
        """The joint embedding; frames that are not active neither count nor leak in through the convolutions' edges."""
        mask = active[:, None].to(features.dtype)
        rows = (features - self.frame_mean[:, None]) / self.frame_scale[:, None] * mask
        hidden = self.early(self.stem(torch.cat([rows, mask], dim=1)))
        hidden = self.late(self.halve(hidden))
        shrunk = F.max_pool1d(mask, 4, 4, ceil_mode=True)[..., : hidden.shape[-1]]
        share = shrunk / shrunk.sum(-1, keepdim=True).clamp_min(1.0)
        mean = (hidden * share).sum(-1)
        spread = ((hidden - mean[..., None]).square() * share).sum(-1).clamp_min(1e-6).sqrt()
        scores = self.attention(hidden).float().masked_fill(shrunk < 0.5, -1e4).softmax(-1)
        focus = (hidden * scores.to(hidden.dtype)).sum(-1)
        by_frames = F.gelu(self.summary(self.dropout(torch.cat([mean, spread, focus], dim=-1))))
        scaled = ((statistics - self.statistic_mean) / self.statistic_scale).clamp(-5.0, 5.0)
        by_statistics = F.gelu(self.statistic(self.dropout(scaled)))
        return torch.cat([by_frames, by_statistics], dim=-1)

    def forward(
        self,
        features: Float[Tensor, "clip channel frame"],
        active: Bool[Tensor, "clip frame"],
        statistics: Float[Tensor, "clip statistic"],
    ) -> tuple[Float[Tensor, "clip label"], Float[Tensor, "clip 3"]]:
        """Logits over `SPEECH_CLASSES` and VAD in [-1, 1], both in float32."""
        embedding = self.dropout(self.embed(features, active, statistics))
        return self.logits(embedding).float(), torch.tanh(self.vad(embedding).float())


class LinearReader(nn.Module):
    """Class logits and VAD as linear functions of the statistics alone; steadier than the network on unheard voices."""

    def __init__(self, config: SpeechNetworkConfig) -> None:
        super().__init__()
        self.statistic_mean: Tensor
        self.statistic_scale: Tensor
        self.register_buffer("statistic_mean", torch.zeros(config.statistics))
        self.register_buffer("statistic_scale", torch.ones(config.statistics))
        self.logits = nn.Linear(config.statistics, config.classes)
        self.vad = nn.Linear(config.statistics, 3)

    def forward(
        self, statistics: Float[Tensor, "clip statistic"]
    ) -> tuple[Float[Tensor, "clip label"], Float[Tensor, "clip 3"]]:
        """Logits over `SPEECH_CLASSES` and VAD in [-1, 1], both in float32."""
        with torch.autocast(statistics.device.type, enabled=False):
            scaled = (statistics.float() - self.statistic_mean) / self.statistic_scale
            return self.logits(scaled), self.vad(scaled).clamp(-1.0, 1.0)
