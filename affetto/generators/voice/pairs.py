"""What changes from one take of a sentence to another by the same speaker, frame by frame: residuals to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d

from affetto.generators.voice.controls import BANDS, CONTROL_FPS, WIDTH, VoiceControls
from affetto.generators.voice.speaker import LOUD_DB, SEMITONE

PITCH, ENERGY, ENVELOPE, NOISE, RATE = slice(0, 1), slice(1, 2), slice(2, 26), slice(26, 29), slice(29, 30)
GROUPS = (PITCH, ENERGY, ENVELOPE, NOISE, RATE)
"""Columns of a stacked residual."""

_SMOOTH = (2.0, 3.0, 3.5, 4.0, 4.0)  # frames of Gaussian for each group: alignment is no finer
_LIMITS = (18.0, 30.0, 30.0, 1.0, 1.1)
_NEVER = 1e3


@runtime_checkable
class Phone(Protocol):
    """Something said between two times in seconds."""

    @property
    def phone(self) -> str:
        """The phone, in IPA."""
        ...

    @property
    def start(self) -> float:
        """Where it begins, seconds."""
        ...

    @property
    def end(self) -> float:
        """Where it ends, seconds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Take:
    """One recording of a sentence as training sees it; `heard_s` is how much of it exists (some are cut short)."""

    name: str
    speaker: str
    text: str
    emotion: str
    controls: VoiceControls
    phones: tuple[Phone, ...]
    embedding: Float[np.ndarray, "256"]
    weight: float = 1.0
    heard_s: float = np.inf


@dataclass(frozen=True, kw_only=True)
class PairResidual:
    """Target less source at every frame of the source, and how far each of the five groups is to be believed (0..1)."""

    residual: Float[np.ndarray, "frame 30"]
    trust: Float[np.ndarray, "frame 5"]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Stretches of the source and where the target says the same, in seconds, both rising."""

    source: Float[np.ndarray, "stretch 2"]
    target: Float[np.ndarray, "stretch 2"]

    def __len__(self) -> int:
        return len(self.source)


def match(source: Sequence[str], target: Sequence[str], *, pause: str = "sil") -> list[tuple[int, int]]:
    """Index pairs of the best global alignment of two phone strings; pauses pair only with pauses (Needleman-Wunsch)."""
    rows, columns = len(source), len(target)
    gain = np.zeros((rows, columns))
    for row, name in enumerate(source):
        for column, other in enumerate(target):
            same = name == other
            gain[row, column] = 1.0 if same else -_NEVER if pause in (name, other) else 0.0
    gap = -0.25
    best = np.zeros((rows + 1, columns + 1))
    best[:, 0] = gap * np.arange(rows + 1)
    best[0, :] = gap * np.arange(columns + 1)
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            paired = best[row - 1, column - 1] + gain[row - 1, column - 1]
            best[row, column] = max(paired, best[row - 1, column] + gap, best[row, column - 1] + gap)
    pairs: list[tuple[int, int]] = []
    row, column = rows, columns
    while row and column:
        if best[row, column] == best[row - 1, column - 1] + gain[row - 1, column - 1]:
            row, column = row - 1, column - 1
            pairs.append((row, column))
        elif best[row, column] == best[row - 1, column] + gap:
            row -= 1
        else:
            column -= 1
    return pairs[::-1]


def align(source: Take, target: Take, *, pause: str = "sil") -> Alignment:
    """Phone by phone, the stretches that both takes hold; what only one of them says is left out."""
    found = match([p.phone for p in source.phones], [p.phone for p in target.phones], pause=pause)
    spans = []
    for here, there in found:
        one, other = source.phones[here], target.phones[there]
        whole = one.end <= source.heard_s and other.end <= target.heard_s
        if whole and min(one.end - one.start, other.end - other.start) > 0.005:
            spans.append((one.start, one.end, other.start, other.end))
    table = np.array(spans, np.float64).reshape(-1, 4)
    return Alignment(source=table[:, :2], target=table[:, 2:])


def speech_level(controls: VoiceControls) -> float:
    """The mean power, in dB, of the frames within 30 dB of the loudest."""
    energy = controls.energy.astype(np.float64)
    if not len(energy):
        return 0.0
    loud = energy[energy > energy.max() - LOUD_DB]
    return float(10.0 * np.log10(np.mean(10.0 ** (loud / 10.0))))


def pair_residual(source: Take, target: Take, alignment: Alignment) -> PairResidual:
    """What turns the source's controls into the target's, at the source's frames.

    Energy is taken relative to each take's speech level; the rate is the log ratio of the durations of each phone.
    Where the takes do not match, where one is silent, or where pitch would leap by an octave and a half, trust is 0.
    """
    frames = len(source.controls.log_f0)
    times = np.arange(frames) / CONTROL_FPS
    stretch, inside = _stretches(alignment, times)
    residual = np.zeros((frames, WIDTH))
    trust = np.zeros((frames, len(GROUPS)))
    if not len(alignment) or not inside.any():
        return PairResidual(residual=residual.astype(np.float32), trust=trust.astype(np.float32))
    start, end = alignment.source[stretch].T
    first, last = alignment.target[stretch].T
    there = (first + (times - start) / (end - start) * (last - first)) * CONTROL_FPS
    one, other = source.controls.stack(), _at(target.controls.stack(), there)
    delta = other - one
    residual[:, PITCH] = SEMITONE * delta[:, :1]
    loud = one[:, 2] - speech_level(source.controls)
    loud_there = other[:, 2] - speech_level(target.controls)
    residual[:, 1] = loud_there - loud
    residual[:, ENVELOPE] = delta[:, 3 : 3 + BANDS]
    residual[:, NOISE] = delta[:, 3 + BANDS :]
    residual[:, 29] = np.log((last - first) / (end - start))
    voiced = inside * (one[:, 1] > 0.5) * (other[:, 1] > 0.5)
    voiced = (
        voiced
        * (np.abs(residual[:, 0]) < _LIMITS[0])
        * _near(source)
        * _at(_near(target)[:, None], there)[:, 0]
    )
    heard = inside * np.clip((np.minimum(loud, loud_there) + 40.0) / 10.0, 0.0, 1.0)
    trust[:, 0], trust[:, 1], trust[:, 2], trust[:, 3], trust[:, 4] = voiced, inside, heard, voiced, inside
    return _smoothed(residual, trust)


def _stretches(
    alignment: Alignment, times: Float[np.ndarray, "frame"]
) -> tuple[Int[np.ndarray, "frame"], Bool[np.ndarray, "frame"]]:
    """The stretch each frame lies in (or the one before), and whether it does."""
    if not len(alignment):
        return np.zeros(len(times), np.int64), np.zeros(len(times), bool)
    at = np.clip(np.searchsorted(alignment.source[:, 0], times + 1e-9, side="right") - 1, 0, None)
    inside = (times >= alignment.source[at, 0] - 1e-9) & (times < alignment.source[at, 1])
    return at, inside


def _at(
    rows: Float[np.ndarray, "there width"], position: Float[np.ndarray, "frame"]
) -> Float[np.ndarray, "frame width"]:
    """Rows at fractional positions, the ends held."""
    position = np.clip(position, 0.0, len(rows) - 1.0)
    low = np.minimum(position.astype(np.int64), max(len(rows) - 2, 0))
    share = (position - low)[:, None]
    high = np.minimum(low + 1, len(rows) - 1)
    return rows[low].astype(np.float64) * (1 - share) + rows[high] * share


def _near(take: Take) -> Float[np.ndarray, "frame"]:
    """1 where pitch lies within an octave of the take's median: beyond that the tracker has mostly erred."""
    pitch, voiced = take.controls.log_f0.astype(np.float64), take.controls.voiced > 0.5
    middle = np.median(pitch[voiced]) if voiced.any() else 0.0
    return (np.abs(pitch - middle) * SEMITONE < 13.0).astype(np.float64)


def _smoothed(residual: Float[np.ndarray, "frame 30"], trust: Float[np.ndarray, "frame 5"]) -> PairResidual:
    out = np.zeros_like(residual)
    kept = np.zeros_like(trust)
    for group, (columns, sigma, limit) in enumerate(zip(GROUPS, _SMOOTH, _LIMITS, strict=True)):
        weight = trust[:, group : group + 1]
        total = gaussian_filter1d(weight, sigma, axis=0, mode="nearest")
        clipped = np.clip(residual[:, columns], -limit, limit)
        out[:, columns] = gaussian_filter1d(weight * clipped, sigma, axis=0, mode="nearest") / np.maximum(
            total, 1e-3
        )
        kept[:, group] = trust[:, group]
    out[:, ENVELOPE] -= out[:, ENVELOPE].mean(axis=1, keepdims=True)
    return PairResidual(residual=out.astype(np.float32), trust=kept.astype(np.float32))
