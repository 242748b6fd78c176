"""What each bar of a piece sounds like, and the emotion the formula reads there.

A bar is heard among its neighbours: loudness, density and register are averaged over three bars, the key over five.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Float64
from scipy.ndimage import correlate1d

from affetto.media.music import ATTRIBUTES, CENTRE, formula_vad, key_correlations
from affetto.tokenizers.compound import Words
from affetto.tokenizers.vocabulary import DURATION, PITCH, STEPS_PER_BEAT, VELOCITY

_NEAR = np.array([0.5, 1.0, 0.5])
KEY_NEAR = np.array([0.25, 0.5, 1.0, 0.5, 0.25])
"""How much the bars two before to two after one count for its key."""
_MIDDLE_C = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class BarAttributes:
    """One value for each bar. The first six are what faders move; the formula reads the rest with them."""

    rhythm: Float32[np.ndarray, "bar"]  # share of the sixteenths at which a note begins
    density: Float32[np.ndarray, "bar"]  # notes a second
    polyphony: Float32[np.ndarray, "bar"]  # notes that begin together
    register: Float32[np.ndarray, "bar"]  # mean pitch
    velocity: Float32[np.ndarray, "bar"]  # mean
    major: Float32[np.ndarray, "bar"]  # best correlation with a major key less the best with a minor one
    duration: Float32[np.ndarray, "bar"]  # mean seconds of a note
    spread: Float32[np.ndarray, "bar"]  # standard deviation of pitch, semitones
    soft: Float32[np.ndarray, "bar"]  # 10th percentile of velocity
    range: Float32[np.ndarray, "bar"]  # velocities from the 10th to the 90th percentile
    low: Float32[np.ndarray, "bar"]  # mean pitch below middle C
    clarity: Float32[np.ndarray, "bar"]  # best correlation with any key

    def stack(self) -> Float32[np.ndarray, "bar 12"]:
        """All attributes side by side, in the order of the fields."""
        return np.stack([getattr(self, each.name) for each in fields(self)], axis=1)

    def vad(self) -> Float64[np.ndarray, "bar 3"]:
        """Valence, arousal and dominance of each bar by `formula_vad`."""
        return formula_vad(np.stack([getattr(self, name) for name in ATTRIBUTES], axis=1))


FADERS = ("rhythm", "density", "polyphony", "register", "velocity", "major")
"""The attributes that have a fader."""


def bar_attributes(words: Words) -> BarAttributes:
    """The attributes of each bar of a piece; a bar far from any note has average ones."""
    bars = len(words.bar_steps)
    note = words.is_note
    bar, ids = words.bars[note], words.ids[note].astype(np.int64)
    values = words.vocabulary.values
    pitch, velocity = values[PITCH][ids[:, PITCH]], values[VELOCITY][ids[:, VELOCITY]]
    length = values[DURATION][ids[:, DURATION]] / STEPS_PER_BEAT

    def total(weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(bar, weights, minlength=bars).astype(np.float64)

    def near(sums: np.ndarray) -> np.ndarray:
        return correlate1d(sums, _NEAR, axis=0, mode="constant")

    def mean(sums: np.ndarray, counts: np.ndarray, otherwise: float) -> Float32[np.ndarray, "bar"]:
        several = near(counts)
        return np.where(several > 0, near(sums) / np.maximum(several, 1e-9), otherwise).astype(np.float32)

    counts, below = total(), pitch < _MIDDLE_C
    onsets = np.bincount(bar[_first_of_each(words.steps[note])], minlength=bars).astype(np.float64)
    quiet, loud = _percentiles(bar, velocity, bars)
    seconds = words.bar_steps / STEPS_PER_BEAT * 60.0 / _bar_bpm(words)
    register = mean(total(pitch), counts, 60.0)
    square = mean(total(pitch**2), counts, 60.0**2 + 100.0)
    average = dict(zip(ATTRIBUTES, CENTRE.tolist(), strict=True))
    keys = key_correlations(bar_keys(words))
    major, minor = keys[:, :12].max(axis=1, initial=-1.0), keys[:, 12:].max(axis=1, initial=-1.0)
    return BarAttributes(
        rhythm=mean(onsets, words.bar_steps.astype(np.float64), 0.0),
        density=mean(counts, seconds, 0.0),
        polyphony=mean(counts, onsets, 1.0),
        register=register,
        velocity=mean(total(velocity), counts, 64.0),
        major=(major - minor).astype(np.float32),
        duration=mean(total(length * 60.0 / words.bpm[note]), counts, average["duration"]),
        spread=np.sqrt(np.maximum(square - register**2, 0.0)).astype(np.float32),
        soft=mean(quiet * counts, counts, average["soft"]),
        range=mean((loud - quiet) * counts, counts, average["range"]),
        low=mean(total(np.where(below, pitch, 0.0)), total(below.astype(np.float64)), float(_MIDDLE_C)),
        clarity=np.maximum(major, minor).astype(np.float32),
    )


def bar_keys(words: Words) -> Float64[np.ndarray, "bar 12"]:
    """How long each pitch class sounds in and around each bar, sixteenths; near bars count most."""
    bars, note = len(words.bar_steps), words.is_note
    ids = words.ids[note].astype(np.int64)
    classes = (words.vocabulary.values[PITCH][ids[:, PITCH]]).astype(np.int64) % 12
    lengths = words.vocabulary.values[DURATION][ids[:, DURATION]]
    flat = np.bincount(words.bars[note] * 12 + classes, lengths, minlength=bars * 12)
    return correlate1d(flat.astype(np.float64).reshape(bars, 12), KEY_NEAR, axis=0, mode="constant")


def _bar_bpm(words: Words) -> np.ndarray:
    """The tempo at the end of each bar, where a change at its first position has been said."""
    last = np.append(np.flatnonzero(words.is_bar)[1:] - 1, len(words) - 1)
    return words.bpm[last[: len(words.bar_steps)]]


def _first_of_each(steps: np.ndarray) -> np.ndarray:
    """Whether a note is the first of those that begin together; notes come by step."""
    return np.diff(steps, prepend=-1) != 0


def _percentiles(bar: np.ndarray, values: np.ndarray, bars: int) -> tuple[np.ndarray, np.ndarray]:
    """The 10th and 90th percentile (nearest rank) of the values in each bar; 0 where there are none."""
    ordered = values[np.lexsort((values, bar))]
    counts = np.bincount(bar, minlength=bars)
    first = np.cumsum(counts) - counts
    filled = counts > 0
    low, high = np.zeros(bars), np.zeros(bars)
    low[filled] = ordered[(first + np.round(0.1 * (counts - 1)).astype(np.int64))[filled]]
    high[filled] = ordered[(first + np.round(0.9 * (counts - 1)).astype(np.int64))[filled]]
    return low, high
