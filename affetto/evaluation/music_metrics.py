"""What sets of music are compared by: range, pitch classes, polyphony, groove, entropy, and how far two sets overlap.

Definitions as in muspy and in the papers of EMOPIA and MusER (arXiv 2108.01374, 2312.10307), so that the figures can be set
beside theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from affetto.evaluation.face_metrics import spearman
from affetto.media.midi import Score
from affetto.tokenizers.vocabulary import STEPS_PER_BEAT

METRICS = ("pitch range", "pitch classes", "polyphony", "groove", "H1", "H4")
_BAR_STEPS = 16
_MAX_BARS = 512
_OVERLAP_BINS = 12


def cut(score: Score, seconds: float) -> Score:
    """The notes that begin in the first `seconds`, and end there at the latest."""
    notes = score.notes.copy()
    end = float(score.beats_of(seconds))
    notes["duration"] = np.minimum(notes["duration"], end - notes["start"])
    return replace(score, notes=notes[notes["duration"] > 1e-6])


def metrics_of(score: Score) -> dict[str, float]:
    """The value of each of METRICS for one piece; NaN for a piece without notes."""
    notes = score.pitched().notes
    if len(notes) == 0:
        return dict.fromkeys(METRICS, float("nan"))
    pitch = notes["pitch"].astype(np.int64)
    values = (
        float(np.ptp(pitch)),
        float(len(np.unique(pitch % 12))),
        polyphony(notes["start"], notes["start"] + notes["duration"]),
        groove_consistency(score),
        class_entropy(score, bars=1),
        class_entropy(score, bars=4),
    )
    return dict(zip(METRICS, values, strict=True))


def polyphony(start: Float[np.ndarray, "note"], end: Float[np.ndarray, "note"]) -> float:
    """Mean number of notes that sound at once, over the time in which any sounds."""
    reach = np.maximum.accumulate(end[order := np.argsort(start, kind="stable")])
    opens = start[order]
    gaps = np.maximum(opens[1:] - reach[:-1], 0.0).sum()
    covered = reach[-1] - opens[0] - gaps
    return float((end - start).sum() / max(covered, 1e-9))


def onset_grid(score: Score) -> Bool[np.ndarray, "bar 16"]:
    """Whether a note begins at each sixteenth, bars of four quarters from the start."""
    step = np.round(score.pitched().notes["start"] * STEPS_PER_BEAT).astype(np.int64)
    bars = min(int(step.max(initial=0)) // _BAR_STEPS + 1, _MAX_BARS)
    grid = np.zeros(bars * _BAR_STEPS, bool)
    grid[step[step < len(grid)]] = True
    return grid.reshape(bars, _BAR_STEPS)


def groove_consistency(score: Score) -> float:
    """One less the share of sixteenths at which a bar's onsets differ from those of the next; 1 for a single bar."""
    grid = onset_grid(score)
    return 1.0 - float((grid[1:] ^ grid[:-1]).mean()) if len(grid) > 1 else 1.0


def class_entropy(score: Score, *, bars: int) -> float:
    """Entropy in bits of the pitch classes that begin in `bars` bars, mean over the piece."""
    notes = score.pitched().notes
    window = (notes["start"] // (4.0 * bars)).astype(np.int64)
    counts = np.zeros((int(window.max(initial=0)) + 1, 12))
    np.add.at(counts, (window, notes["pitch"].astype(np.int64) % 12), 1.0)
    counts = counts[counts.sum(axis=1) > 0]
    return float(np.mean([entropy(row) for row in counts])) if len(counts) else 0.0


def entropy(counts: Float[np.ndarray, "kind"]) -> float:
    """Entropy of a distribution given by counts, bits."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def overlapped_area(first: Sequence[float], second: Sequence[float]) -> float:
    """How much the distributions of two samples overlap, 0..1: histograms whose bins hold equal shares of the larger.

    Bins of equal share do not depend on outliers; small samples stay below 1 even when nothing differs, so a noise floor
    belongs beside every figure (`overlap_floor`).
    """
    larger, smaller = (first, second) if len(first) >= len(second) else (second, first)
    edges = np.unique(np.quantile(np.asarray(larger, np.float64), np.linspace(0, 1, _OVERLAP_BINS + 1)[1:-1]))
    shares = [
        np.bincount(
            np.searchsorted(edges, np.asarray(each, np.float64), side="right"), minlength=len(edges) + 1
        )
        / len(each)
        for each in (larger, smaller)
    ]
    return float(np.minimum(*shares).sum())


def overlap_floor(values: Sequence[float], size: int, rng: np.random.Generator, *, times: int = 20) -> float:
    """The overlapped area of random samples of `size` with the rest of the same music: what a perfect set reaches."""
    pool = np.asarray(values, np.float64)
    found = []
    for _ in range(times):
        order = rng.permutation(len(pool))
        found.append(overlapped_area(pool[order[size:]].tolist(), pool[order[:size]].tolist()))
    return float(np.mean(found))


def effect_matrix(
    found: Mapping[str, Float[np.ndarray, "piece level attribute"]],
) -> Float64[np.ndarray, "fader attribute"]:
    """How far each fader, from lowest to highest, moves each attribute: in deviations of what pieces have by chance.

    Chance is the deviation of an attribute between pieces at the middle level, pooled over all sweeps.
    """
    middles = [values[:, values.shape[1] // 2] for values in found.values()]
    swings = [values - values.mean(axis=1, keepdims=True) for values in found.values()]
    chance = np.concatenate([*middles, *(each.reshape(-1, each.shape[-1]) for each in swings)]).std(axis=0)
    return np.stack(
        [(values[:, -1] - values[:, 0]).mean(axis=0) / np.maximum(chance, 1e-9) for values in found.values()]
    )


def dominant(matrix: Float[np.ndarray, "fader attribute"]) -> int:
    """How many rows have their largest absolute value on the diagonal."""
    return int((np.abs(matrix).argmax(axis=1) == np.arange(len(matrix))).sum())


def shuffled_accuracy(
    asked: Int64[np.ndarray, "clip"],
    heard: Int64[np.ndarray, "clip"],
    rng: np.random.Generator,
    *,
    times: int = 200,
) -> float:
    """The accuracy when requests are dealt out anew: what chance gives with these answers."""
    return float(np.mean([(rng.permutation(asked) == heard).mean() for _ in range(times)]))


def ends_on_tonic(score: Score, tonic: int) -> bool:
    """Whether the lowest note that begins last is the tonic (a pitch class)."""
    notes = score.pitched().notes
    last = notes[notes["start"] >= notes["start"].max(initial=0.0) - 1e-6]
    return bool(len(last)) and int(last["pitch"].min()) % 12 == tonic


def rank_correlation(asked: Sequence[float], found: Sequence[float]) -> float:
    """Spearman's rank correlation of what was asked and what is found; 0 when either does not move."""
    return spearman(asked, found) if np.ptp(asked) > 1e-9 and np.ptp(found) > 1e-9 else 0.0
