"""A reading of faces by the poses of the rules: how far a performance goes toward each, above the mouth.

It belongs to the critics that choose, as the rules' distance in `choosing` does; the face critic, which reports, has no part
in it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from affetto.acting.expression import LOWER_FACE, expression_pose
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.evaluation.measuring import CriticCard, Measured
from affetto.media.animation.curves import ARKIT_52, FaceCurves

POSES = CriticCard(
    name="poses of the rules",
    accuracy="none of its own: a projection on the poses that taught the generators",
    held_out=False,
    note="chooses and calibrates",
)
_LEAST = 0.05  # length of a pose above the mouth from which it can be told

_ABOVE = ~LOWER_FACE & np.array([not name.startswith(("eyeLook", "eyeBlink")) for name in ARKIT_52])


def pose_above(name: str) -> Float[np.ndarray, "channel"]:
    """The channels above the mouth that the rules have for a named emotion at full strength; blinks and gaze left out."""
    batch = EmotionTrack.constant(Emotion.from_label(name)).sample(np.zeros(1))
    pose = expression_pose(
        np.asarray(batch.anchors(), np.float64), np.asarray(batch.effective_vad, np.float64)
    )
    return pose[0, _ABOVE]


def measure_poses(curves: FaceCurves, names: Sequence[str]) -> Measured:
    """How far a performance goes on the mean toward the pose of each name: 1 is all of it, and more may be.

    What has hardly a pose above the mouth reads as 0. `shares` are no probabilities here; `vad` is left at the origin.
    """
    shown = curves.weights[:, _ABOVE].astype(np.float64)
    poses = np.stack([pose_above(name) for name in names])
    length = np.square(poses).sum(axis=1)
    shares = np.where(length > _LEAST**2, shown @ poses.T / np.maximum(length, _LEAST**2), 0.0)
    return Measured(
        medium="face",
        critic=POSES,
        times=curves.times,
        vad=np.zeros((len(shown), 3)),
        names=tuple(names),
        shares=shares,
    )
