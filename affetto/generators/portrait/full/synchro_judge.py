"""What SynchroRaMa's losses judge by: lips against sound, expression, emotion and looks, all read from latents.

The paper draws a sync loss, an action-unit loss, an emotion loss and an attribute-action loss beside the diffusion loss; its
networks and weights are not public. These heads read the denoiser's estimate of the clean latents, so that no frame has
to be decoded while training; they are trained on real latents first and then stand still.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

_TEMPERATURE = 0.1
POINTS = 68


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What is read from the latents of a clip."""

    lips: Float[Tensor, "clip frame width"]  # unit vectors, to be compared with those of the sound
    points: Float[Tensor, "clip frame 136"]  # the 68 points about their mean, in shares of the picture
    emotion: Float[Tensor, "clip klass"]  # logits over `ANCHORS_8`
    looks: Float[Tensor, "clip looks"]  # a unit vector, to be compared with the picture's embedding


class LatentJudge(ModelMixin, ConfigMixin):
    """Latents of a clip to `Readings`, and the sound beside it to unit vectors of the same space."""

    @register_to_config
    def __init__(
        self,
        width: int = 128,
        states: int = 1920,
        embedding: int = 1024,
        emotions: int = 8,
        channels: int = 64,
    ) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv2d(4, channels, 3, padding=1), nn.SiLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.SiLU(),
            nn.AdaptiveAvgPool2d(4),
        )  # fmt: skip
        self.course = nn.Conv1d(16 * width, width, 3, padding=1)
        self.lips = nn.Linear(width, width)
        self.points = nn.Linear(width, 2 * POINTS)
        self.emotion = nn.Linear(width, emotions)
        self.looks = nn.Linear(width, embedding)
        self.sound = nn.Sequential(nn.Linear(states, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, latents: Float[Tensor, "clip frame 4 row column"]) -> Readings:
        """What a clip shows."""
        clips = len(latents)
        seen = self.front(latents.flatten(0, 1)).flatten(1)
        hidden = F.silu(self.course(rearrange(seen, "(c f) d -> c d f", c=clips)))
        hidden = rearrange(hidden, "c d f -> c f d")
        whole = hidden.mean(1)
        return Readings(
            lips=F.normalize(self.lips(hidden), dim=-1),
            points=self.points(hidden),
            emotion=self.emotion(whole),
            looks=F.normalize(self.looks(whole), dim=-1),
        )

    def heard(self, speech: Float[Tensor, "clip frame state"]) -> Float[Tensor, "clip frame width"]:
        """The sound of each frame where matching lips would be."""
        return F.normalize(self.sound(speech), dim=-1)


def judge_terms(
    judge: LatentJudge,
    latents: Float[Tensor, "clip frame 4 row column"],
    speech: Float[Tensor, "clip frame state"],
    points: Float[Tensor, "clip frame 136"],
    emotion: Int[Tensor, "clip"],
    looks: Float[Tensor, "clip looks"],
    *,
    contrast: bool,
) -> Mapping[str, Float[Tensor, ""]]:
    """The four terms; `contrast` asks each frame to find its own sound among all (to train the judge itself)."""
    read, heard = judge(latents), judge.heard(speech)
    if contrast:
        scores = read.lips.flatten(0, 1) @ heard.flatten(0, 1).T / _TEMPERATURE
        own = torch.arange(len(scores), device=scores.device)
        sync = 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own))
    else:
        sync = 1.0 - (read.lips * heard).sum(-1).mean()
    return {
        "sync": sync,
        "expression": (read.points - points).abs().mean(),
        "emotion": F.cross_entropy(read.emotion, emotion),
        "looks": 1.0 - (read.looks * F.normalize(looks, dim=-1)).sum(-1).mean(),
    }
