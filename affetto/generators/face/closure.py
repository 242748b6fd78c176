"""Lips that truly meet: bilabial closures solved on the head's own lip gap, whatever the expression says."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter1d

from affetto.generators.face.visemes import pose
from affetto.media.animation.curves import ARKIT_INDEX

CLOSED_GAP = 0.006  # of the inter-pupil distance; viewers read anything below .015 as shut
_RAMP_S = 0.050
_JAW, _CLOSE = ARKIT_INDEX["jawOpen"], ARKIT_INDEX["mouthClose"]
_JAW_LIMIT = 0.25  # mouthClose can bridge no more than this without stretching the lips
_ROUNDS = 9  # of bisection: to 1/512 of the range
_PARTING = np.flatnonzero(
    pose(
        dict.fromkeys(("mouthUpperUp", "mouthLowerDown", "mouthFunnel", "mouthShrugUpper", "tongueOut"), 1.0)
    )
)
_SMILING = np.flatnonzero(
    pose(dict.fromkeys(("mouthSmile", "mouthStretch", "mouthDimple", "noseSneer"), 1.0))
)
_PRESSING = pose({"mouthPress": 0.30, "mouthRollLower": 0.20, "mouthRollUpper": 0.18})


@runtime_checkable
class LipGap(Protocol):
    """A head that knows how far its lips are apart."""

    def lip_gap(self, weights: Float[np.ndarray, "frame 52"], /) -> Float[np.ndarray, "frame"]:
        """The opening between the lips as a fraction of the inter-pupil distance; 0 when they touch."""
        ...


def close_lips(
    weights: Float[np.ndarray, "frame 52"],
    closure: Float[np.ndarray, "frame"],
    head: LipGap,
    *,
    fps: float = 50.0,
) -> Float[np.ndarray, "frame 52"]:
    """The same curves with the lips shut wherever `closure` (0..1) exceeds one half, eased in and out over 50 ms.

    The gap of `head` falls below 1.5 % of the inter-pupil distance inside every closure; frames farther than the ramp
    from one are returned unchanged, and no frame opens wider than it was.
    """
    ease = closing_ease(closure > 0.5, fps)
    touched = np.flatnonzero(ease > 0)
    if len(touched) == 0:
        return weights
    before = weights[touched].astype(np.float64)
    shut = _shut(before, head)
    share = ease[touched, None]
    eased = (1.0 - share) * before + share * shut
    wider = head.lip_gap(eased.astype(np.float32)) > head.lip_gap(weights[touched]) + 1e-4
    eased = np.where(wider[:, None], shut, eased)
    closed = weights.copy()
    closed[touched] = eased
    return closed


def closing_ease(shut: Bool[np.ndarray, "frame"], fps: float) -> Float[np.ndarray, "frame"]:
    """1 in every closure, falling along raised cosines to 0 within 50 ms on both sides."""
    reach = max(1, int(_RAMP_S * fps))
    distance = np.full(len(shut), reach + 1.0)
    for step in range(reach, -1, -1):
        distance[maximum_filter1d(shut.astype(np.uint8), 2 * step + 1, mode="constant") > 0] = step
    return np.where(distance > reach, 0.0, 0.5 + 0.5 * np.cos(np.pi * distance / (reach + 1)))


def _shut(weights: Float[np.ndarray, "frame 52"], head: LipGap) -> Float[np.ndarray, "frame 52"]:
    """The nearest poses found in which the lips touch: press, then mouthClose, then less of what parts them."""
    posed = weights.copy()
    posed[:, _PARTING] *= 0.15
    posed[:, _SMILING] *= 0.75
    posed[:, _JAW] = np.minimum(posed[:, _JAW], _JAW_LIMIT)
    posed = np.maximum(posed, _PRESSING)

    def gap(pose_: np.ndarray) -> np.ndarray:
        return head.lip_gap(pose_.astype(np.float32))

    def with_close(amount: np.ndarray) -> np.ndarray:
        tried = posed.copy()
        tried[:, _CLOSE] = amount
        return tried

    most = np.minimum(1.0, 1.15 * posed[:, _JAW] + 0.05)
    posed = with_close(_least(lambda amount: gap(with_close(amount)) <= CLOSED_GAP, most))
    if (still_open := gap(posed) > CLOSED_GAP).any():
        open_pose = posed

        def relaxed(amount: np.ndarray) -> np.ndarray:
            shrunk = open_pose * (1.0 - amount[:, None] * _GIVING)
            return np.maximum(shrunk, _PRESSING * still_open[:, None])

        amount = _least(lambda tried: (gap(relaxed(tried)) <= CLOSED_GAP) | ~still_open, np.ones(len(posed)))
        posed = np.where(still_open[:, None], relaxed(amount), posed)
    return posed


def _least(
    enough: Callable[[np.ndarray], Bool[np.ndarray, "frame"]], most: Float[np.ndarray, "frame"]
) -> Float[np.ndarray, "frame"]:
    """The least amount in 0..most for which `enough` holds, by bisection; `most` where none does."""
    low, high = np.zeros_like(most), most.copy()
    high = np.where(enough(low), 0.0, high)
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        good = enough(middle)
        high = np.where(good, middle, high)
        low = np.where(good, low, middle)
    return high


_GIVING = np.array(
    pose(
        dict.fromkeys(
            (
                *(
                    "mouthUpperUp",
                    "mouthLowerDown",
                    "mouthFunnel",
                    "mouthPucker",
                    "mouthShrugUpper",
                    "jawOpen",
                ),
                *("mouthShrugLower", "mouthSmile", "mouthStretch", "mouthDimple", "mouthFrown", "noseSneer"),
                *("jawForward", "mouthClose", "mouthLeft", "mouthRight", "jawLeft", "jawRight", "tongueOut"),
            ),
            1.0,
        )
    )
)
