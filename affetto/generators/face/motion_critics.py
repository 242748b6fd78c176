"""Readers of faces, used only in training: which viseme a frame shows, which emotion a stretch shows.

They stand where EMOTE has a lip-reading network and a video-emotion network: the first must read the same from both
copies of an exchange, the second must read each copy's own emotion.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.conditioning.anchors import ANCHORS_8
from affetto.media.animation.curves import ARKIT_52
from affetto.speech.phones import VISEMES


class VisemeReader(nn.Module):
    """Curves (batch, frame, 52) -> viseme logits of each frame."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(len(ARKIT_52), width, 7, padding=3),
            nn.GELU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(width, len(VISEMES), 1),
        )

    def forward(self, curves: Float[Tensor, "batch frame 52"]) -> Float[Tensor, "batch frame 15"]:
        """Logits over `VISEMES`."""
        return rearrange(self.layers(rearrange(curves, "b t c -> b c t")), "b v t -> b t v")


class EmotionReader(nn.Module):
    """Curves (batch, frame, 52) -> logits over the eight anchors for the whole stretch."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(len(ARKIT_52), width, 5, stride=4, padding=2),
            nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.GELU(),
        )
        self.leave = nn.Linear(width, len(ANCHORS_8))

    def forward(self, curves: Float[Tensor, "batch frame 52"]) -> Float[Tensor, "batch 8"]:
        """Logits over `ANCHORS_8`."""
        return self.leave(reduce(self.layers(rearrange(curves, "b t c -> b c t")), "b w t -> b w", "mean"))


def viseme_loss(
    logits: Float[Tensor, "batch frame 15"], visemes: Int[Tensor, "batch frame"]
) -> Float[Tensor, ""]:
    """Cross entropy of the frames' visemes."""
    return F.cross_entropy(rearrange(logits, "b t v -> (b t) v"), rearrange(visemes, "b t -> (b t)"))


def emotion_loss(
    logits: Float[Tensor, "batch 8"], emotion: Float[Tensor, "batch frame 12"]
) -> Float[Tensor, ""]:
    """Cross entropy against the mean anchor weights of each stretch."""
    shares = reduce(emotion[..., : len(ANCHORS_8)], "b t a -> b a", "mean")
    return F.cross_entropy(logits, shares / shares.sum(dim=-1, keepdim=True))


def disagreement(logits: Float[Tensor, "pair frame 15"]) -> Float[Tensor, ""]:
    """Symmetric KL divergence between what the two halves of an exchange batch seem to say."""
    first, second = torch.log_softmax(logits, dim=-1).chunk(2)
    return 0.5 * ((first.exp() - second.exp()) * (first - second)).sum(dim=-1).mean()
