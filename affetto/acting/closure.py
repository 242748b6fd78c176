"""Lips that truly meet: bilabial closures solved on the head's own lip gap, whatever the expression says."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter1d

from affetto.acting.visemes import pose
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
_SMILING = np.flatnonzero(pose(dict.fromkeys(("mouthSmile", "mouthStretch", "mouthDimple"), 1.0)))
_PRESSING = pose({"mouthPress": 0.30, "mouthRollLower": 0.20, "mouthRollUpper": 0.18})
_PUSHING = pose({"mouthShrugLower": 0.75, "mouthPress": 0.70, "mouthRollLower": 0.45})
_GIVING = pose(
    dict.fromkeys(
        (
            *("mouthUpperUp", "mouthLowerDown", "mouthFunnel", "mouthPucker", "mouthShrugUpper", "jawOpen"),
            *(
                "mouthSmile",
                "mouthStretch",
                "mouthDimple",
                "mouthFrown",
                "noseSneer",
                "mouthClose",
                "cheekPuff",
            ),
            *("jawForward", "mouthLeft", "mouthRight", "jawLeft", "jawRight", "tongueOut", "mouthRollUpper"),
        ),
        1.0,
    )
)
_IS_CLOSE = np.arange(len(_PUSHING)) == _CLOSE


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
    from one are returned unchanged, and no frame opens wider than it was, or than counts as touching (`CLOSED_GAP`).
    """
    ease = closing_ease(closure > 0.5, fps)
    touched = np.flatnonzero(ease > 0)
    if len(touched) == 0:
        return weights
    before = weights[touched].astype(np.float64)
    shut = _shut(before, head)
    share = ease[touched, None]
    eased = (1.0 - share) * before + share * shut
    gap = head.lip_gap(weights[touched])
    wider = head.lip_gap(eased.astype(np.float32)) > gap + 1e-4
    eased = np.where(wider[:, None], shut, eased)
    # shutting itself may part the lips of a face on which every shape is at its end
    hopeless = head.lip_gap(eased.astype(np.float32)) > np.maximum(gap, CLOSED_GAP) + 1e-3
    eased = np.where(hopeless[:, None], before, eased)
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
    """Poses near the given ones in which the lips touch, by four means in turn, each only as far as needed.

    First what parts the lips is damped and they press lightly; then mouthClose follows the jaw; then the lower lip
    pushes up; last, for faces that bare the teeth by other means, the expression itself gives way.
    """
    posed = weights.copy()
    posed[:, _PARTING] *= 0.15
    posed[:, _SMILING] *= 0.75
    posed[:, _JAW] = np.minimum(posed[:, _JAW], _JAW_LIMIT)
    posed = np.maximum(posed, _PRESSING)
    most = np.minimum(1.0, 1.15 * posed[:, _JAW] + 0.05)
    posed = _applied(posed, head, most, lambda rows, amount: np.where(_IS_CLOSE, amount, rows))
    ones = np.ones(len(posed))
    posed = _applied(posed, head, ones, lambda rows, amount: np.maximum(rows, amount * _PUSHING))
    return _applied(posed, head, ones, lambda rows, amount: rows * (1.0 - amount * _GIVING))


def _applied(
    rows: Float[np.ndarray, "frame 52"],
    head: LipGap,
    most: Float[np.ndarray, "frame"],
    change: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Float[np.ndarray, "frame 52"]:
    """`change(rows, amount)` with the least amount in 0..`most` that shuts the lips, or `most` where none does."""

    def shut(amount: np.ndarray) -> np.ndarray:
        return head.lip_gap(change(rows, amount[:, None]).astype(np.float32)) <= CLOSED_GAP

    return change(rows, _least(shut, most)[:, None])


def _least(
    enough: Callable[[np.ndarray], Bool[np.ndarray, "frame"]], most: Float[np.ndarray, "frame"]
) -> Float[np.ndarray, "frame"]:
    """The least amount in 0..most for which `enough` holds, by bisection; `most` where none does."""
    low = np.zeros_like(most)
    already = enough(low)
    if already.all():
        return low
    high = np.where(already, 0.0, most)
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        good = enough(middle)
        high = np.where(good, middle, high)
        low = np.where(good, low, middle)
    return high
