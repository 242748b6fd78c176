"""Perfect readings made imperfect, as those of a real reader are."""

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from affetto.speech.phones import PHONES, VISEME_INDEX


def confusions() -> Float[np.ndarray, "phone phone"]:
    """How likely a reader takes one phone for another: often one of the same viseme, sometimes any."""
    visemes = np.array(VISEME_INDEX)
    same = (visemes[:, None] == visemes[None, :]).astype(np.float64)
    return 0.7 * same / same.sum(axis=1, keepdims=True) + 0.3 / len(PHONES)


def spoil(
    rows: Float[np.ndarray, "frame width"],
    confusion: Float[np.ndarray, "phone phone"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "frame width"]:
    """A perfect reading as a real reader might give it: soft shifted edges, doubts, slips, a missed closure."""
    count, frames = len(PHONES), len(rows)
    labels = rows[:, :count].argmax(axis=1)
    edges = np.flatnonzero(np.diff(labels)) + 1
    moved = np.sort(np.clip(edges + np.round(rng.normal(0.0, 0.8, len(edges))).astype(int), 1, frames - 1))
    segment = np.searchsorted(moved, np.arange(frames), side="right")
    said = labels[np.concatenate([[0], edges])]
    heard = np.where(rng.random(len(said)) < 0.12, _slips(said, confusion, rng), said)[segment]
    doubt = np.clip(rng.beta(1.2, 4.0, len(said)), 0.0, 0.9)[segment]
    posteriors = (1 - doubt)[:, None] * np.eye(count)[heard] + doubt[:, None] * confusion[heard]
    posteriors = gaussian_filter1d(posteriors, rng.uniform(0.4, 1.2), axis=0, mode="nearest")
    spoilt = rows.astype(np.float64)
    spoilt[:, :count] = posteriors / posteriors.sum(axis=1, keepdims=True)
    spoilt[:, count] = _spoilt_closure(rows[:, count], rng)
    gain = rng.uniform(0.9, 1.1)
    spoilt[:, count + 1] = np.clip(gain * rows[:, count + 1] + rng.normal(0, 0.02, frames), 0, 1)
    spoilt[:, count + 2] = gaussian_filter1d(
        rows[:, count + 2].astype(np.float64), rng.uniform(0.5, 2.0), mode="nearest"
    )
    return spoilt.astype(np.float32)


def _slips(
    segments: Int[np.ndarray, "segment"],
    confusion: Float[np.ndarray, "phone phone"],
    rng: np.random.Generator,
) -> Int[np.ndarray, "segment"]:
    drawn = rng.random(len(segments))[:, None]
    return (np.cumsum(confusion[segments], axis=1) < drawn).sum(axis=1).clip(0, len(PHONES) - 1)


def _spoilt_closure(
    closure: Float[np.ndarray, "frame"], rng: np.random.Generator
) -> Float[np.ndarray, "frame"]:
    bounds = np.flatnonzero(np.diff(np.concatenate([[0.0], closure, [0.0]])))
    spoilt = np.zeros(len(closure))
    for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
        sure = 0.15 if rng.random() < 0.05 else rng.uniform(0.7, 1.0)
        first, last = start + round(rng.normal(0, 0.6)), stop + round(rng.normal(0, 0.6))
        spoilt[max(first, 0) : max(last, first + 1, 1)] = sure
    soft = gaussian_filter1d(spoilt, rng.uniform(0.3, 0.8), mode="nearest")
    return np.clip(soft + np.abs(rng.normal(0, 0.02, len(closure))), 0, 1)
