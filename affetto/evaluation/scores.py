"""Was it what was asked for? Scores that know nothing of a medium: they compare what was measured with what was wanted.

Both are courses over time on the lexical chart, so that a face, a voice and a piece of music are scored alike. Labels are
soft: every emotion that was plausibly asked for counts (Mower et al. 2011; Chou & Lee 2019), not only the strongest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d

from affetto.evaluation.face_metrics import spearman

PLAUSIBLE = 0.2
"""The share of a wanted mixture from which an emotion counts as asked for."""

_MOVES = 0.02
_ALIKE = 0.4  # correlation below which two courses are too different to tell a lag from


def ccc(first: Float[np.ndarray, "frame"], second: Float[np.ndarray, "frame"]) -> float:
    """Lin's concordance correlation coefficient, -1..1; NaN where neither moves."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    spread = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    if a.std() < 1e-9 and b.std() < 1e-9:
        return float("nan")
    return float(2.0 * np.mean((a - a.mean()) * (b - b.mean())) / spread)


def vad_error(
    measured: Float[np.ndarray, "frame 3"],
    wanted: Float[np.ndarray, "frame 3"],
    sd: Sequence[float] = (0.51, 0.34, 0.34),
) -> tuple[float, float]:
    """Root mean square distance in VAD, and the same in standard deviations of the emotion vocabulary."""
    gap = np.asarray(measured, np.float64) - np.asarray(wanted, np.float64)
    return float(np.sqrt(np.square(gap).sum(axis=1).mean())), float(
        np.sqrt(np.square(gap / np.asarray(sd)).sum(axis=1).mean())
    )


def js_divergence(first: Float[np.ndarray, "*row name"], second: Float[np.ndarray, "*row name"]) -> float:
    """Mean Jensen-Shannon divergence of distributions (last axis), in bits: 0 the same, 1 nothing shared."""
    p, q = (np.clip(np.asarray(x, np.float64), 0, None) for x in (first, second))
    p, q = (x / np.maximum(x.sum(axis=-1, keepdims=True), 1e-12) for x in (p, q))
    middle = 0.5 * (p + q)

    def kl(x: np.ndarray) -> np.ndarray:
        logs = np.log2(np.maximum(x, 1e-12) / np.maximum(middle, 1e-12))
        return np.asarray(np.where(x > 0, x * logs, 0.0).sum(axis=-1))

    return float(np.mean(0.5 * kl(p) + 0.5 * kl(q)))


def overlap(first: Float[np.ndarray, "*row name"], second: Float[np.ndarray, "*row name"]) -> float:
    """Mean shared probability of two distributions: 1 when they agree."""
    return float(np.minimum(first, second).sum(axis=-1).mean())


def plausible(wanted: Float[np.ndarray, "*row name"]) -> Bool[np.ndarray, "*row name"]:
    """Every emotion that counts as asked for: its share is at least a fifth, or it is the strongest."""
    return (wanted >= PLAUSIBLE) | (wanted >= wanted.max(axis=-1, keepdims=True) - 1e-9)


def top_k(
    measured: Float[np.ndarray, "row name"], wanted: Float[np.ndarray, "row name"], k: int = 1
) -> float:
    """The share of rows of which one of the `k` strongest measured emotions was plausibly asked for."""
    best = np.argsort(-measured, axis=-1, kind="stable")[:, :k]
    return float(np.take_along_axis(plausible(wanted), best, axis=-1).any(axis=-1).mean())


@dataclass(frozen=True, kw_only=True)
class Linearity:
    """How what is got follows what is asked: rank correlation, share of variance of a straight line, and its slope."""

    spearman: float
    r2: float
    slope: float
    monotone: bool  # no step falls by more than a twentieth of the whole rise, or a hundredth


def linearity(asked: Sequence[float | int], got: Sequence[float | int]) -> Linearity:
    """The linearity of one ask-vs-get curve, strengths rising."""
    x, y = np.asarray(asked, np.float64), np.asarray(got, np.float64)
    if np.ptp(y) < 1e-9 or np.ptp(x) < 1e-9:
        return Linearity(spearman=0.0, r2=0.0, slope=0.0, monotone=True)
    slope, offset = np.polyfit(x, y, 1)
    rest = y - (slope * x + offset)
    falls = np.diff(y[np.argsort(x, kind="stable")])
    return Linearity(
        spearman=spearman(x.tolist(), y.tolist()),
        r2=float(1.0 - rest.var() / y.var()),
        slope=float(slope),
        monotone=bool(falls.min() >= -0.05 * max(float(np.ptp(y)), 0.2)),
    )


@dataclass(frozen=True, kw_only=True)
class Transition:
    """How a change of emotion is met: seconds late (negative: early), overshoot and roughness."""

    lag_s: float
    overshoot: float  # how far beyond the wanted range, as a share of it
    roughness: float  # mean absolute second difference against the wanted course's range, per second squared


def transition(
    measured: Float[np.ndarray, "frame axis"],
    wanted: Float[np.ndarray, "frame axis"],
    fps: float,
    *,
    reach_s: float = 2.0,
) -> Transition | None:
    """The transition along the direction in which the wanted course moves most; None where it stands still or is not met at all."""
    centred = wanted - wanted.mean(axis=0)
    if centred.std(axis=0).max() < _MOVES or len(wanted) < 8:
        return None
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    want, got = centred @ axes[0], (measured - wanted.mean(axis=0)) @ axes[0]
    reach = min(round(reach_s * fps), len(want) // 2)
    shifts = np.arange(-reach, reach + 1)
    scores = []
    for shift in shifts:
        a = want[max(0, -shift) : len(want) - max(0, shift)]
        b = got[max(0, shift) : len(got) - max(0, -shift)]
        a, b = a - a.mean(), b - b.mean()
        scores.append(float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12)))
    best = int(np.argmax(scores))
    if scores[best] < _ALIKE or best in (0, len(shifts) - 1):
        return None
    offset = 0.0
    if 0 < best < len(shifts) - 1:
        left, middle, right = scores[best - 1 : best + 2]
        curvature = left - 2 * middle + right
        offset = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    span = float(np.ptp(want))
    gain = float(np.clip(got @ want / (want @ want), 0.1, 10.0))  # a timid critic is not an undershoot
    even = got / gain
    over = max(float(even.max() - want.max()), float(want.min() - even.min()), 0.0)
    smooth = gaussian_filter1d(even, 1.0, mode="nearest")
    rough = float(np.abs(np.diff(smooth, n=2)).mean() * fps**2 / span) if len(smooth) > 2 else 0.0
    return Transition(lag_s=float((shifts[best] + offset) / fps), overshoot=over / span, roughness=rough)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """How far a critic's confidence can be trusted: expected calibration error, mean confidence and accuracy."""

    ece: float
    confidence: float
    accuracy: float
    items: int


def calibration_error(confidence: Sequence[float], hit: Sequence[bool], *, bins: int = 10) -> Calibrated:
    """Expected calibration error over equal bins of confidence (Guo et al. 2017)."""
    sure, right = np.asarray(confidence, np.float64), np.asarray(hit, np.float64)
    which = np.clip((sure * bins).astype(int), 0, bins - 1)
    total = 0.0
    for index in range(bins):
        here = which == index
        if here.any():
            total += here.mean() * abs(sure[here].mean() - right[here].mean())
    return Calibrated(
        ece=float(total), confidence=float(sure.mean()), accuracy=float(right.mean()), items=len(sure)
    )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Whether two media say the same: divergence and overlap of their mixtures, concordance of their courses."""

    js: float
    overlap: float
    ccc: Mapping[str, float]
    wanted_js: float | None = None  # of what was asked of the two, when that differs on purpose

    @property
    def conflict_kept(self) -> bool | None:
        """Whether a conflict that was asked for is really there: at least half as far apart as asked."""
        return None if self.wanted_js is None or self.wanted_js < 0.05 else self.js >= 0.5 * self.wanted_js


AXES = ("valence", "arousal", "dominance")


def agreement(
    first: tuple[Float[np.ndarray, "frame 3"], Float[np.ndarray, "frame name"]],
    second: tuple[Float[np.ndarray, "frame 3"], Float[np.ndarray, "frame name"]],
    *,
    wanted_js: float | None = None,
) -> Agreement:
    """The agreement of two courses on the same frames, each VAD and mixture."""
    count = min(len(first[0]), len(second[0]))
    return Agreement(
        js=js_divergence(first[1][:count], second[1][:count]),
        overlap=overlap(first[1][:count], second[1][:count]),
        ccc={axis: ccc(first[0][:count, i], second[0][:count, i]) for i, axis in enumerate(AXES)},
        wanted_js=wanted_js,
    )
