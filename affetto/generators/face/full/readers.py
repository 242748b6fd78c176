"""What judges a motion while EMOTE trains: a reader of lips and a reader of emotions, both frozen by then.

EMOTE's authors render the face and use networks for video (a lip reader, an emotion recogniser). These read the motion
itself: no renderer and no foreign network is needed, and both are trained on the user's data as a stage of the recipe.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.generators.face.full.layers import AlibiEncoder
from affetto.generators.face.full.style import EMOTIONS, LEVELS

_TEMPERATURE = 0.1
_WIDTH = 64


class LipReader(nn.Module):
    """Lip shapes to what is said, frame by frame, as unit vectors; half a second is seen around each frame."""

    def __init__(self, lips: int, width: int = _WIDTH) -> None:
        super().__init__()
        self.shape = nn.Linear(3 * lips, 2 * width)
        self.course = nn.Sequential(
            nn.Conv1d(2 * width, 2 * width, 5, padding=2), nn.GELU(),
            nn.Conv1d(2 * width, 2 * width, 5, padding=2), nn.GELU(),
            nn.Conv1d(2 * width, width, 5, padding=2),
        )  # fmt: skip

    def forward(self, lips: Float[Tensor, "clip frame lip 3"]) -> Float[Tensor, "clip frame width"]:
        """A unit vector for each frame; positions are millimetres."""
        hidden = self.shape(rearrange(lips, "b t v xyz -> b t (v xyz)") / 10.0)
        return F.normalize(
            rearrange(self.course(rearrange(hidden, "b t d -> b d t")), "b d t -> b t d"), dim=-1
        )


class SpeechMatch(nn.Module):
    """Speech states to where a matching lip shape would be; trains the lip reader and is then done."""

    def __init__(self, states: int, width: int = _WIDTH) -> None:
        super().__init__()
        self.map = nn.Sequential(nn.Linear(states, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(
        self, states: Float[Tensor, "clip frame state"], read: Float[Tensor, "clip frame width"]
    ) -> Float[Tensor, ""]:
        """How hard it is to find each frame's own sound among all frames of the batch, and its own lips (InfoNCE)."""
        heard = F.normalize(self.map(states), dim=-1)
        scores = rearrange(heard, "b t d -> (b t) d") @ rearrange(read, "b t d -> d (b t)") / _TEMPERATURE
        own = torch.arange(len(scores), device=scores.device)
        return 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own))


class EmotionReader(nn.Module):
    """A motion to one vector for how it feels, and to the logits of emotion and level; one layer, as EMOTE's own has."""

    def __init__(self, channels: int, width: int = 256, heads: int = 8) -> None:
        super().__init__()
        self.inputs = nn.Linear(2 * channels, width)
        self.layer = AlibiEncoder(width, heads, width, layers=1, period=1, dropout=0.1)
        self.emotion = nn.Linear(width, len(EMOTIONS))
        self.level = nn.Linear(width, len(LEVELS))

    def feature(self, motion: Float[Tensor, "clip frame channel"]) -> Float[Tensor, "clip width"]:
        """The mean over the clip of what is seen in each frame and its change."""
        change = F.pad(motion[:, 1:] - motion[:, :-1], (0, 0, 1, 0))
        return self.layer(self.inputs(torch.cat([motion, 10.0 * change], dim=-1))).mean(1)

    def forward(
        self,
        motion: Float[Tensor, "clip frame channel"],
        emotion: Int[Tensor, "clip"],
        level: Int[Tensor, "clip"],
    ) -> Float[Tensor, ""]:
        """The cross-entropy of both labels; a neutral face has no level."""
        feature = self.feature(motion)
        loss = F.cross_entropy(self.emotion(feature), emotion)
        felt = emotion != EMOTIONS.index("neutral")
        if felt.any():
            loss = loss + F.cross_entropy(self.level(feature[felt]), level[felt])
        return loss
