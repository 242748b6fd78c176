"""What a face performance is measured by: closures, sync, lip and brow motion, agreement of visemes.

Every function takes plain curves and timed labels, so that any animator, baseline or recording can be scored alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import spearmanr

CLOSED_GAP = 0.015  # of the inter-pupil distance: nearer lips read as shut
TOLERANCE_S = 0.040  # one frame at 25 frames a second


@dataclass(frozen=True, kw_only=True)
class ClosureScore:
    """How well shut lips match the bilabials of the speech."""

    recall: float  # share of bilabials during which (within the tolerance) the lips shut
    precision: float  # share of closures while speaking that touch a bilabial (within the tolerance)
    shut_share: float  # share of speaking time with the lips shut
    bilabials: int


def _runs(active: Bool[np.ndarray, "frame"]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def closure_score(
    gap: Float[np.ndarray, "frame"],
    fps: float,
    closures: Sequence[tuple[float, float]],
    speaking: Bool[np.ndarray, "frame"],
) -> ClosureScore:
    """Recall and precision of lip closure against the `closures` (start, end in seconds) of /p b m/.

    `gap` is the lip opening as a share of the inter-pupil distance; `speaking` marks the frames that count for
    precision: lips may rest shut in pauses.
    """
    shut = gap < CLOSED_GAP
    times = np.arange(len(gap)) / fps
    half_frame = 0.5 / fps
    hit = [
        bool(
            shut[
                (times >= start - TOLERANCE_S - half_frame) & (times <= end + TOLERANCE_S + half_frame)
            ].any()
        )
        for start, end in closures
    ]
    runs = [(first / fps, (last - 1) / fps) for first, last in _runs(shut & speaking)]
    true_runs = sum(
        any(stop >= start - TOLERANCE_S and first <= end + TOLERANCE_S for start, end in closures)
        for first, stop in runs
    )
    return ClosureScore(
        recall=float(np.mean(hit)) if hit else float("nan"),
        precision=true_runs / len(runs) if runs else float("nan"),
        shut_share=float(shut[speaking].mean()) if speaking.any() else float("nan"),
        bilabials=len(closures),
    )


def pooled(scores: Sequence[ClosureScore]) -> ClosureScore:
    """The scores of many clips as one: recall weighted by bilabials, the others averaged over clips."""
    counts = np.array([score.bilabials for score in scores])
    with_bilabials = counts > 0
    recalls = np.array([score.recall for score in scores])[with_bilabials]
    return ClosureScore(
        recall=float(np.average(recalls, weights=counts[with_bilabials]))
        if with_bilabials.any()
        else float("nan"),
        precision=float(np.nanmean([score.precision for score in scores])),
        shut_share=float(np.nanmean([score.shut_share for score in scores])),
        bilabials=int(counts.sum()),
    )


def sync_offset(
    opening: Float[np.ndarray, "frame"],
    reference: Float[np.ndarray, "frame"],
    fps: float,
    *,
    reach: float = 0.3,
) -> float:
    """Seconds by which `opening` lags `reference` (negative: leads), at the peak of their cross-correlation.

    Both curves are sampled at `fps`; the peak is refined by a parabola through its neighbours.
    """
    count = min(len(opening), len(reference))
    a = opening[:count] - opening[:count].mean()
    b = reference[:count] - reference[:count].mean()
    span = min(round(reach * fps), count - 1)
    lags = np.arange(-span, span + 1)
    scores = np.array(
        [np.dot(a[max(0, lag) : count + min(0, lag)], b[max(0, -lag) : count - max(0, lag)]) for lag in lags]
    )
    best = int(scores.argmax())
    shift = 0.0
    if 0 < best < len(lags) - 1:
        left, centre, right = scores[best - 1 : best + 2]
        curvature = left - 2 * centre + right
        shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float((lags[best] + shift) / fps)


def lip_vertex_error(
    predicted: Float[np.ndarray, "frame vertex 3"], target: Float[np.ndarray, "frame vertex 3"], ipd: float
) -> float:
    """LVE: the largest lip-vertex distance of each frame, averaged over frames, in % of the inter-pupil distance.

    CodeTalker (Xing et al. 2023) squares it; a plain distance keeps the unit readable.
    """
    distance = np.linalg.norm(predicted - target, axis=-1)
    return float(100.0 * distance.max(axis=1).mean() / ipd)


def face_dynamics_deviation(
    predicted: Float[np.ndarray, "frame vertex 3"], target: Float[np.ndarray, "frame vertex 3"], ipd: float
) -> float:
    """FDD: temporal spread of upper-face motion, predicted minus target, in % of the inter-pupil distance.

    Positive: livelier than the target; negative: stiffer (CodeTalker, section 4.2, here of distances).
    """

    def spread(vertices: np.ndarray) -> np.ndarray:
        return np.linalg.norm(vertices - vertices.mean(axis=0), axis=-1).std(axis=0)

    return float(100.0 * (spread(predicted) - spread(target)).mean() / ipd)


def jerk(weights: Float[np.ndarray, "frame channel"], fps: float) -> float:
    """Mean absolute third difference of the curves in units per second cubed; shaky curves have much."""
    return float(np.abs(np.diff(weights, n=3, axis=0)).mean() * fps**3) if len(weights) > 3 else 0.0


def spearman(asked: Sequence[float], measured: Sequence[float]) -> float:
    """Rank correlation of asked and measured strength: 1 when more asked always gives more."""
    return float(np.asarray(spearmanr(asked, measured))[0])
