"""Emotion as DICE-Talk takes it: eight published priors, and every emotion, strength and course between them."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.generators.portrait.full.clip import FPS, FrameTokens
from affetto.generators.portrait.full.projections import EmotionModel
from affetto.runtime.errors import InvalidInputError


def anchor_course(
    emotion: str | Emotion | EmotionTrack | None, frames: int, *, fps: float = FPS
) -> Float[np.ndarray, "frame 8"]:
    """The weight of each anchor (order `ANCHORS_8`) at each frame; rows sum to one.

    A named emotion at intensity 1 is one-hot. VAD points give convex weights. The intensity is a gain on what differs
    from neutral: 0 is exactly neutral, above 1 extrapolates.
    """
    return as_track(emotion).sample(np.arange(frames) / fps).anchors()


def priors_of(
    weights: Float[np.ndarray, "frame 8"], priors: Float[Tensor, "8 width"]
) -> tuple[Float[Tensor, "row width"], np.ndarray]:
    """The different priors of a course, and which of them each frame takes.

    neutral + sum of weight * (anchor - neutral): the anchors differ little beside what they share, so the deviations
    are what is mixed.
    """
    rows, index = np.unique(weights.astype(np.float64).round(6), axis=0, return_inverse=True)
    neutral = priors[ANCHORS_8.index("neutral")].double()
    share = torch.from_numpy(rows).to(priors.device)
    mixed = neutral + share @ (priors.double() - neutral)
    return mixed.to(priors.dtype), index.reshape(-1)


@torch.inference_mode()
def emotion_tokens(
    model: EmotionModel, priors: Float[Tensor, "8 width"], weights: Float[np.ndarray, "frame 8"]
) -> FrameTokens:
    """Tokens for the denoiser, computed once for each different emotion of the course; the bank is expanded once."""
    rows, index = priors_of(weights, priors)
    memory = model.bank.memory()
    told = torch.cat(
        [model.bank(row[None].to(model.device, model.dtype), memory=memory).tokens for row in rows]
    )
    null = model.bank.null(memory=memory)
    return FrameTokens(
        rows=torch.cat([told, null]), index=torch.from_numpy(index).to(told.device), null=len(told)
    )


def stacked(priors: Mapping[str, Float[Tensor, "width"]]) -> Float[Tensor, "8 width"]:
    """Priors by name as one matrix in the order of `ANCHORS_8`; raises InvalidInputError when one is missing."""
    missing = [name for name in ANCHORS_8 if name not in priors]
    if missing:
        raise InvalidInputError(
            f"the emotion prior {missing[0]!r} is missing: give the folder with all eight .npy"
        )
    return torch.stack([priors[name].float() for name in ANCHORS_8])
