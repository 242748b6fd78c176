"""Performances counted in beats: notes in seconds and a grid of beats give a score on bars."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from affetto.media.midi import NOTE, Score, note_array
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.vocabulary import EMBEDDED, STEPS_PER_BEAT

_SPLIT = {2: (2,), 3: (3,), 4: (4,), 5: (5,), 6: (3, 3), 7: (4, 3)}  # beats between down-beats -> bars
SLOWEST, FASTEST = 32.0, 224.0  # beats a minute that the words can say


@dataclass(frozen=True, kw_only=True, eq=False)
class BeatGrid:
    """The beats of a performance, in rising seconds, and which of them begin a bar."""

    times: Float64[np.ndarray, "beat"]
    downbeats: Bool[np.ndarray, "beat"]

    def __post_init__(self) -> None:
        if len(self.times) < 2 or not (np.diff(self.times) > 0).all():
            raise InvalidInputError("a grid of beats needs two or more, each later than the one before")

    def at(self, seconds: float | np.ndarray) -> np.ndarray:
        """The (fractional) beat at each second; beyond the first and last beat at their pace."""
        times, seconds = self.times, np.asarray(seconds, np.float64)
        inside = np.interp(seconds, times, np.arange(len(times)))
        before = np.minimum(seconds - times[0], 0.0) / (times[1] - times[0])
        after = np.maximum(seconds - times[-1], 0.0) / (times[-1] - times[-2])
        return np.asarray(inside + before + after)


def on_beats(score: Score, grid: BeatGrid, chords: list[tuple[float, str]] | None = None) -> Score:
    """The notes of a performance in beats counted from its first bar, on the tracks they have.

    Bars between down-beats that are too long are split; the tempo is that of the median beat in each bar. `chords` are
    (second, chord name) and become markers at the nearest beat.
    """
    timed = score.timed_notes()
    bars, lengths = bar_grid(np.flatnonzero(grid.downbeats), len(grid.times))
    first = float(grid.at(timed[:1, 0].sum())) + 0.5 / STEPS_PER_BEAT
    while len(bars) > 1 and bars[1] <= first:  # leading silence
        bars, lengths = bars[1:], lengths[1:]
    while bars[0] > first:  # an upbeat
        bars = np.concatenate([[bars[0] - lengths[0]], bars])
        lengths = np.concatenate([lengths[:1], lengths])
    start = grid.at(timed[:, 0]) - bars[0]
    end = grid.at(timed[:, 0] + timed[:, 1]) - bars[0]
    rows = np.zeros(len(timed), NOTE)
    rows["start"], rows["duration"] = np.maximum(start, 0.0), end - np.maximum(start, 0.0)
    rows["pitch"], rows["velocity"] = timed[:, 2], timed[:, 3]
    rows["track"] = score.pitched().notes["track"]
    inside = (rows["start"] < bars[-1] + lengths[-1] - bars[0]) & (rows["duration"] > 0)
    named = {max(round(float(grid.at(at) - bars[0])), 0): name for at, name in chords or []}
    return Score(
        notes=note_array(rows[inside]),
        tracks=score.tracks,
        tempos=bar_tempos(grid, bars, lengths),
        meters=tuple(
            (float(bar - bars[0]), int(top), 4)
            for index, (bar, top) in enumerate(zip(bars, lengths, strict=True))
            if index == 0 or top != lengths[index - 1]
        ),
        markers=tuple(sorted((float(beat), name) for beat, name in named.items())),
    )


def grid_error(score: Score) -> Float[np.ndarray, "note"]:
    """How far each note of a score in beats begins from the nearest sixteenth, in sixteenths (0..0.5)."""
    steps = score.notes["start"] * STEPS_PER_BEAT
    return np.abs(steps - np.round(steps))


def bar_grid(
    marks: Int64[np.ndarray, "mark"], beats: int
) -> tuple[Int64[np.ndarray, "bar"], Int64[np.ndarray, "bar"]]:
    """The first beat and the beats of each bar; gaps between down-beats become bars of two to five beats."""
    if len(marks) < 2:
        marks = np.arange(int(marks[0]) if len(marks) else 0, beats + 4, 4)
    gaps = np.diff(marks)
    common = int(np.bincount(gaps[gaps > 1]).argmax()) if (gaps > 1).any() else 4
    usual = _SPLIT.get(common, (4,))[0]
    lengths: list[int] = []
    carried = 0  # a bar of one beat joins the next
    for gap in gaps.tolist():
        left = gap + carried
        carried = 0
        while left > 7:
            lengths.append(usual)
            left -= usual
        if left == 1:
            carried = 1
        elif left:
            lengths.extend(_SPLIT[left])
    tail = beats + 4 - int(marks[-1])
    lengths.extend([usual] * max(-(-(tail + carried) // usual), 1))
    sizes = np.array(lengths, np.int64)
    return int(marks[0]) + np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes


def bar_tempos(
    grid: BeatGrid, bars: Int64[np.ndarray, "bar"], lengths: Int64[np.ndarray, "bar"]
) -> tuple[tuple[float, float], ...]:
    """(beat, quarter notes a minute) where the tempo of a bar, on the vocabulary's grid, differs from the one before."""
    gaps = np.diff(grid.times)
    tempos: list[tuple[float, float]] = []
    for bar, length in zip(bars.tolist(), lengths.tolist(), strict=True):
        inside = gaps[max(bar, 0) : bar + length] if bar < len(gaps) else gaps[-4:]
        pace = float(np.median(inside if len(inside) else gaps[:4]))
        bpm = float(np.clip(60.0 / max(pace, 1e-3), SLOWEST, FASTEST))
        bpm = float(EMBEDDED.tempos[int(EMBEDDED.tempo_ids(bpm)) - 2])
        if not tempos or tempos[-1][1] != bpm:
            tempos.append((float(bar - bars[0]), bpm))
    return tuple(tempos)
