"""By how much one thing follows another in time: lips the sound, a face its emotion."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d

from affetto.acting.visemes import PHONE_TARGETS, VISEME_TARGETS
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves
from affetto.speech.content import SpeechContent
from affetto.speech.phones import PHONES, VISEME_OF

_COARTICULATION_S = 0.03

_MOVES = 0.02  # standard deviation of a cause that counts as movement
_LEAST = 0.1  # explained share below which the match is too poor to tell a lag from


def lag_of(
    cause: Float[np.ndarray, "frame column"],
    effect: Float[np.ndarray, "frame channel"],
    *,
    fps: float,
    mask: Bool[np.ndarray, "frame"] | None = None,
    reach_s: float = 0.3,
) -> tuple[float, float] | None:
    """Seconds by which `effect` follows `cause`, and the share of its variance that the best shift explains.

    At each shift a linear map from cause to effect is fitted; the best one tells the lag, refined by a parabola through
    its neighbours. None when nothing moves or the match is too poor.
    """
    moving = cause[:, cause.std(axis=0) > _MOVES]
    effect = effect[:, effect.std(axis=0) > 1e-6]
    reach = round(reach_s * fps)
    if not moving.shape[1] or not effect.shape[1] or len(cause) < 4 * reach:
        return None
    inner = slice(reach, len(cause) - reach)
    kept = np.ones(len(cause), bool) if mask is None else mask
    kept = kept[inner]
    if kept.sum() < 2 * reach:
        return None
    wanted = effect[inner][kept].astype(np.float64)
    wanted = (wanted - wanted.mean(axis=0)) / (wanted.std(axis=0) + 1e-9)
    shifts = np.arange(-reach, reach + 1)
    scores = []
    for shift in shifts:
        rows = moving[reach - shift : len(moving) - reach - shift][kept].astype(np.float64)
        design = np.column_stack([rows - rows.mean(axis=0), np.ones(len(rows))])
        weights, *_ = np.linalg.lstsq(design, wanted, rcond=1e-6)
        scores.append(1.0 - float(np.square(wanted - design @ weights).mean()))
    best = int(np.argmax(scores))
    if scores[best] < _LEAST:
        return None
    offset = 0.0
    if 0 < best < len(shifts) - 1:
        left, middle, right = scores[best - 1 : best + 2]
        curvature = left - 2 * middle + right
        offset = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float((shifts[best] + offset) / fps), scores[best]


def expected_opening(heard: SpeechContent, head: HeadModel) -> Float[np.ndarray, "frame 2"]:
    """How far lips are open for what is heard: the mean opening of its phones, and the same as loud as it is said."""
    gaps = head.lip_gap(
        np.stack([PHONE_TARGETS.get(phone, VISEME_TARGETS[VISEME_OF[phone]]) for phone in PHONES]).astype(
            np.float32
        )
    )
    opening = gaussian_filter1d(heard.phones @ gaps, _COARTICULATION_S * heard.fps, mode="nearest")
    scaled = opening / max(float(gaps.max()), 1e-6)
    return np.stack([scaled, scaled * heard.loudness], axis=1).astype(np.float64)


def lip_lag(curves: FaceCurves, heard: SpeechContent, head: HeadModel) -> tuple[float, float] | None:
    """Seconds by which the opening of the lips follows what is heard, and how much that explains of it.

    `heard` is read off the sound as it is played. None where lips and sound hardly agree.
    """
    fine = curves.resampled(heard.fps)
    count = min(len(fine), len(heard))
    opening = head.lip_gap(fine.weights[:count])[:, None]
    cause = expected_opening(heard, head)[:count]
    return lag_of(cause, opening, fps=heard.fps, mask=heard.speaking[:count] > 0.5)
