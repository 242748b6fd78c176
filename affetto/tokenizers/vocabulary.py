"""What the ids of compound words mean: eight columns, each counting in musical order.

The columns are those of EMOPIA and MusER (arXiv 2312.10307): tempo, chord, place in the bar, family, pitch, duration,
velocity, emotion. In every column 0 means "says nothing here". Unlike theirs, ids rise with what they stand for.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affetto.runtime.errors import UsageError

TEMPO, CHORD, POSITION, FAMILY, PITCH, DURATION, VELOCITY, EMOTION = range(8)
COLUMNS = ("tempo", "chord", "position", "family", "pitch", "duration", "velocity", "emotion")
END, MOOD, METRICAL, NOTE_WORD = range(4)  # families: end of piece, emotion, bar or position, note
CONTINUE = 1  # in the tempo and chord columns: as before

STEPS_PER_BEAT = 4  # positions and durations count sixteenths
NO_CHORD = 2
FIRST_CHORD = 3
ROOTS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
QUALITIES = ("M", "m", "o", "+", "7", "M7", "m7", "o7", "/o7", "sus2", "sus4")
METERS = ((4, 4), (3, 4), (2, 4), (6, 8), (5, 4), (6, 4), (12, 8), (9, 8))  # each has its own bar word


def meter_steps(numerator: int, denominator: int) -> int:
    """Sixteenths in a bar of this metre."""
    return 4 * STEPS_PER_BEAT * numerator // denominator


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The values behind the ids. Positions come after the bar words, which name the metre."""

    tempos: tuple[int, ...] = tuple(range(32, 225, 3))  # quarter notes a minute
    pitches: tuple[int, ...] = tuple(range(21, 109))
    durations: tuple[int, ...] = (*range(1, 17), 20, 24, 28, 32)  # sixteenths
    velocities: tuple[int, ...] = tuple(range(20, 125, 4))
    meters: tuple[tuple[int, int], ...] = METERS
    quadrants: int = 4

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many ids each column has."""
        return (
            2 + len(self.tempos),
            FIRST_CHORD + len(ROOTS) * len(QUALITIES),
            self.first_position + self.most_steps,
            4,
            1 + len(self.pitches),
            1 + len(self.durations),
            1 + len(self.velocities),
            1 + self.quadrants,
        )

    @property
    def first_position(self) -> int:
        """The id of the first sixteenth of a bar; 1 and the ids up to here are bar words."""
        return 1 + len(self.meters)

    @cached_property
    def most_steps(self) -> int:
        """Positions in the longest bar."""
        return max(meter_steps(*meter) for meter in self.meters)

    @cached_property
    def bar_steps(self) -> np.ndarray:
        """Sixteenths in the bar that each bar word opens, by its id; 0 at id 0."""
        return np.array([0, *(meter_steps(*meter) for meter in self.meters)], np.int64)

    def bar_id(self, numerator: int, denominator: int) -> int:
        """The bar word for a metre; raises `UsageError` for a metre that has none."""
        if (numerator, denominator) not in self.meters:
            known = ", ".join(f"{top}/{bottom}" for top, bottom in self.meters)
            raise UsageError(f"metre {numerator}/{denominator} has no word: use one of {known}")
        return 1 + self.meters.index((numerator, denominator))

    def tempo_ids(self, bpm: float | np.ndarray) -> np.ndarray:
        """The nearest tempo id."""
        return np.asarray(2 + _nearest(self.tempos, bpm))

    def duration_ids(self, steps: float | np.ndarray) -> np.ndarray:
        """The nearest duration id, at least a sixteenth."""
        return np.asarray(1 + _nearest(self.durations, steps))

    def velocity_ids(self, velocity: float | np.ndarray) -> np.ndarray:
        """The nearest velocity id."""
        return np.asarray(1 + _nearest(self.velocities, velocity))

    def pitch_ids(self, pitch: np.ndarray) -> np.ndarray:
        """The pitch id, 0 for pitches that have none."""
        ids = np.asarray(pitch, np.int64) - self.pitches[0] + 1
        return np.where((ids >= 1) & (ids <= len(self.pitches)), ids, 0)

    @cached_property
    def values(self) -> dict[int, np.ndarray]:
        """For the columns tempo, pitch, duration and velocity the value of each id, NaN where an id has none."""
        blank = [np.nan]
        return {
            TEMPO: np.array([*blank, *blank, *self.tempos], np.float64),
            PITCH: np.array([*blank, *self.pitches], np.float64),
            DURATION: np.array([*blank, *self.durations], np.float64),
            VELOCITY: np.array([*blank, *self.velocities], np.float64),
        }


def _nearest(values: tuple[int, ...], wanted: float | np.ndarray) -> np.ndarray:
    edges = (np.array(values[1:], np.float64) + np.array(values[:-1], np.float64)) / 2
    return np.asarray(np.searchsorted(edges, np.asarray(wanted, np.float64), side="right"))


def chord_id(name: str) -> int:
    """The id of a chord name such as `C_M`, `F#_m7` or `N`; raises `UsageError` for a name that is none."""
    if name in ("N", "N_N"):
        return NO_CHORD
    root, _, quality = name.partition("_")
    if root not in ROOTS or quality not in QUALITIES:
        raise UsageError(f"no chord is called {name!r}: write a root, _ and a quality, such as C_M or F#_m7")
    return FIRST_CHORD + ROOTS.index(root) * len(QUALITIES) + QUALITIES.index(quality)


def chord_name(index: int) -> str:
    """The name of a chord id from `NO_CHORD` upward."""
    if index == NO_CHORD:
        return "N_N"
    root, quality = divmod(index - FIRST_CHORD, len(QUALITIES))
    return f"{ROOTS[root]}_{QUALITIES[quality]}"


def is_chord(name: str) -> bool:
    """Whether a marker's text is a chord name."""
    root, _, quality = name.partition("_")
    return name in ("N", "N_N") or (root in ROOTS and quality in QUALITIES)


def transposed_chords(ids: np.ndarray, semitones: int) -> np.ndarray:
    """Chord ids moved by semitones; ids that are no chord stay."""
    moved = (ids - FIRST_CHORD + semitones * len(QUALITIES)) % (len(ROOTS) * len(QUALITIES)) + FIRST_CHORD
    return np.where(ids >= FIRST_CHORD, moved, ids)


EMBEDDED = Vocabulary()
"""The vocabulary of the shipped composer."""
