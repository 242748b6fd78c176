"""Songs as the composer learns them: words in one key, and what the plan of each bar would have said."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int16, Int64

from affetto.generators.music.composer_net import (
    BAR_COLUMNS,
    CHORD_SLOTS,
    COLUMN_INDEX,
    FADERS,
    LAGS,
    LEVELS,
)
from affetto.generators.music.grammar import BAR, BEAT, END, MAX_STEPS, MELODY, NOTE
from affetto.media.midi import Score
from affetto.media.music import ATTRIBUTES, formula_vad
from affetto.runtime.files import atomic_path
from affetto.tokenizers.attributes import bar_attributes
from affetto.tokenizers.chords import bar_key_path
from affetto.tokenizers.compound import Words
from affetto.tokenizers.vocabulary import END as WORD_END
from affetto.tokenizers.vocabulary import (
    FAMILY,
    FIRST_CHORD,
    METRICAL,
    NOTE_WORD,
    PITCH,
    QUALITIES,
    STEPS_PER_BEAT,
    transposed_chords,
)

ATTRIBUTE_NAMES = (
    "rhythm",
    "density",
    "polyphony",
    "register",
    "velocity",
    "major",
    "duration",
    "spread",
    "soft",
    "range",
    "low",
    "clarity",
)
_FORMULA = [ATTRIBUTE_NAMES.index(name) for name in ATTRIBUTES]
_LIKENESS = (0.25, 0.45, 0.65, 0.85)
_TEMPO_EDGES = np.linspace(np.log(48.0), np.log(192.0), 15)


@dataclass(frozen=True, kw_only=True, eq=False)
class SongBars:
    """One song in C major or A minor: its words, and per bar what is known."""

    name: str
    source: str
    words: Int16[np.ndarray, "word 6"]
    starts: Int64[np.ndarray, "edge"]  # the first word of each bar, and one past the last
    steps: Int64[np.ndarray, "bar"]
    bpm: Float32[np.ndarray, "bar"]
    mode: Int64[np.ndarray, "bar"]  # 1 major, 2 minor
    chords: Int64[np.ndarray, "bar slot"]  # chord ids of the vocabulary
    melody: Int64[np.ndarray, "bar"]  # 1 the tune rests, 2 it sounds
    attributes: Float32[np.ndarray, "bar 12"]
    lag: Int64[np.ndarray, "bar"]
    likeness: Int64[np.ndarray, "bar"]
    source_bar: Int64[np.ndarray, "bar"]  # the bar that is most alike, -1 when none is

    def __len__(self) -> int:
        return len(self.steps)


def canonical_shift(key: int | np.ndarray) -> np.ndarray:
    """Semitones (-6..5) that bring a key, a row of `media.music.KEYS`, to C major or A minor."""
    tonic = np.asarray(key) % 12 + np.where(np.asarray(key) >= 12, 3, 0)
    return np.asarray((-tonic + 6) % 12 - 6)


def song_bars(
    words: Words, role: Int64[np.ndarray, "word"], *, name: str = "", source: str = "pop909"
) -> SongBars:
    """A song of the data set in one key; `role` is 1 for the notes of its melody."""
    keys = bar_key_path(words)
    keep = (words.bars >= 0) & (words.ids[:, FAMILY] != WORD_END)
    bar_of = words.bars[keep]
    ids = words.ids.copy()
    shift = canonical_shift(keys)[np.maximum(words.bars, 0)]
    pitch = ids[:, PITCH].astype(np.int64) + shift
    top = len(words.vocabulary.pitches)
    pitch = np.where(pitch > top, pitch - 12, np.where(pitch < 1, pitch + 12, pitch))
    ids[:, PITCH] = np.where(ids[:, PITCH] > 0, pitch, 0)
    moved = Words(ids=ids, vocabulary=words.vocabulary)
    chord = words.chords.copy()
    for semitones in np.unique(shift):
        here = shift == semitones
        chord[here] = transposed_chords(words.chords[here], int(semitones))
    own = own_words(moved, role)[keep]
    starts = np.append(np.searchsorted(bar_of, np.arange(len(keys))), len(own))
    positions = own[:, 2].astype(np.int64)
    chords = _slots(chord[keep], bar_of, positions, words.bar_steps)
    sounding = np.zeros(len(keys), np.int64)
    np.maximum.at(sounding, bar_of, own[:, 0] == MELODY)
    lag, likeness, alike = repetition(own, len(keys))
    return SongBars(
        name=name,
        source=source,
        words=own,
        starts=starts.astype(np.int64),
        steps=words.bar_steps,
        bpm=words.bpm[keep][np.maximum(starts[1:] - 1, 0)].astype(np.float32),
        mode=np.where(keys >= 12, 2, 1).astype(np.int64),
        chords=chords,
        melody=1 + sounding,
        attributes=bar_attributes(moved).stack(),
        lag=lag,
        likeness=likeness,
        source_bar=alike,
    )


def melody_role(score: Score, words: Words) -> Int64[np.ndarray, "word"]:
    """1 for the words that the melody sings: a track MELODY or soprano; where it rests a whole bar, BRIDGE."""
    notes = score.notes
    names = [track.name.lower() for track in score.tracks]
    step = np.floor(notes["start"] * STEPS_PER_BEAT + 0.5).astype(np.int64)
    track = np.array([{"melody": 2, "soprano": 2, "bridge": 1}.get(name, 0) for name in names] or [0])[
        notes["track"]
    ]
    starts = np.concatenate([[0], np.cumsum(words.bar_steps)])
    bar = np.clip(np.searchsorted(starts, step, side="right") - 1, 0, len(words.bar_steps) - 1)
    sung = np.zeros(len(words.bar_steps), bool)
    sung[bar[track == 2]] = True
    leads = (track == 2) | ((track == 1) & ~sung[bar])
    codes = step[leads] * 128 + notes["pitch"][leads]
    pitch = words.vocabulary.pitches[0] - 1 + words.ids[:, PITCH].astype(np.int64)
    return (words.is_note & np.isin(words.steps * 128 + pitch, codes)).astype(np.int64)


def own_words(words: Words, role: Int64[np.ndarray, "word"]) -> Int16[np.ndarray, "word 6"]:
    """The tokenizer's words in the composer's columns."""
    ids = words.ids.astype(np.int64)
    own = np.zeros((len(ids), 6), np.int16)
    metrical, note = ids[:, FAMILY] == METRICAL, ids[:, FAMILY] == NOTE_WORD
    own[:, 0] = np.where(note, np.where(role > 0, MELODY, NOTE), np.where(words.is_bar, BAR, BEAT))
    own[:, 0] = np.where(metrical | note, own[:, 0], END)
    own[:, 1] = words.bars
    first = np.concatenate([[0], np.cumsum(words.bar_steps)])[np.maximum(words.bars, 0)]
    own[:, 2] = np.where(words.is_bar, 0, words.steps - first)
    own[:, 3:6] = ids[:, [PITCH, PITCH + 1, PITCH + 2]]
    return own


def _slots(
    chord: Int64[np.ndarray, "word"],
    bar: Int64[np.ndarray, "word"],
    position: Int64[np.ndarray, "word"],
    steps: Int64[np.ndarray, "bar"],
) -> Int64[np.ndarray, "bar slot"]:
    """The chord that sounds in most of each quarter of a bar: the one in force at its end."""
    slots = np.zeros((len(steps), CHORD_SLOTS), np.int64)
    time = bar * MAX_STEPS + position
    for slot in range(CHORD_SLOTS):
        ends = np.arange(len(steps)) * MAX_STEPS + (slot + 1) * steps // CHORD_SLOTS - 1
        slots[:, slot] = chord[np.maximum(np.searchsorted(time, ends, side="right") - 1, 0)]
    return slots


def repetition(
    words: Int16[np.ndarray, "word 6"], bars: int
) -> tuple[Int64[np.ndarray, "bar"], Int64[np.ndarray, "bar"], Int64[np.ndarray, "bar"]]:
    """For each bar: which lag of `LAGS` it repeats (1..), how alike it is (1..4), and the bar it is most like."""
    note = words[words[:, 0] >= MELODY].astype(np.int64)
    grid = np.zeros((bars, MAX_STEPS * 128), np.float32)
    grid[note[:, 1], note[:, 2] * 128 + note[:, 3]] = 1.0
    count = grid.sum(axis=1)
    both = grid @ grid.T
    alike = both / np.maximum(count[:, None] + count[None] - both, 1.0)
    earlier = np.tri(bars, k=-1) * (np.subtract.outer(np.arange(bars), np.arange(bars)) <= 64)
    alike = alike * earlier
    best = alike.argmax(axis=1) if bars else np.zeros(0, np.int64)
    value = alike[np.arange(bars), best]
    distance = np.arange(bars) - best
    for lag in LAGS[1:-1][::-1]:  # a usual distance wins over a slightly better unusual one
        index = np.arange(bars) - lag
        there = np.where(index >= 0, alike[np.arange(bars), np.maximum(index, 0)], 0.0)
        take = there >= value - 0.05
        distance = np.where(take & (there > 0), lag, distance)
    best = np.maximum(np.arange(bars) - distance, 0)
    value = alike[np.arange(bars), best]
    some = value >= _LIKENESS[0]
    known = {lag: index + 1 for index, lag in enumerate(LAGS)}
    lags = np.array([known.get(int(d), known[-1]) for d in distance], np.int64)
    likeness = np.searchsorted(np.array(_LIKENESS), value, side="right")
    return np.where(some, lags, 1), np.where(some, likeness, 0).astype(np.int64), np.where(some, best, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaderScale:
    """How attributes become levels 1..9: the eight edges between levels and the middle of each level."""

    edges: Float[np.ndarray, "fader 8"]
    middles: Float[np.ndarray, "fader 9"]

    @classmethod
    def fit(cls, values: Float[np.ndarray, "bar fader"]) -> "FaderScale":
        """Levels that hold equally many of the given bars."""
        edges = np.quantile(values, np.arange(1, LEVELS) / LEVELS, axis=0).T
        middles = np.quantile(values, (np.arange(LEVELS) + 0.5) / LEVELS, axis=0).T
        return cls(edges=edges, middles=middles)

    def levels(self, values: Float[np.ndarray, "bar fader"]) -> Int64[np.ndarray, "bar fader"]:
        """The level (1..9) of each attribute."""
        columns = [np.searchsorted(self.edges[i], values[:, i], side="right") for i in range(values.shape[1])]
        return 1 + np.stack(columns, axis=1).astype(np.int64)

    def position(self, values: Float[np.ndarray, "fader"]) -> Float[np.ndarray, "fader"]:
        """Where attributes lie between the levels, 0..8 in steps as fine as they are."""
        levels = np.arange(LEVELS, dtype=np.float64)
        return np.array(
            [np.interp(value, row, levels) for value, row in zip(values, self.middles, strict=True)]
        )


def tempo_level(bpm: float | np.ndarray) -> np.ndarray:
    """The tempo class 1..16."""
    return np.asarray(1 + np.searchsorted(_TEMPO_EDGES, np.log(np.asarray(bpm, np.float64)), side="right"))


def metre_class(steps: int | np.ndarray) -> np.ndarray:
    """1 = 4/4, 2 = 3/4, 3 = 2/4, 4 = any other."""
    steps = np.asarray(steps)
    return np.select([steps == 16, steps == 12, steps == 8], [1, 2, 3], default=4)


def chord_classes(chords: Int64[np.ndarray, "*bar slot"]) -> tuple[np.ndarray, np.ndarray]:
    """Root and quality classes of the network for chord ids of the vocabulary."""
    index = chords - FIRST_CHORD
    root = np.where(index >= 0, index // len(QUALITIES) + 2, 1)
    quality = np.where(index >= 0, index % len(QUALITIES) + 2, 1)
    return root, quality


def attribute_vad(attributes: Float[np.ndarray, "bar 12"]) -> Float[np.ndarray, "bar 3"]:
    """The formula's valence, arousal and dominance of each bar."""
    return formula_vad(attributes[:, _FORMULA])


def shifted_attributes(
    attributes: Float[np.ndarray, "bar 12"],
    *,
    semitones: float = 0.0,
    louder: float = 0.0,
    faster: float = 1.0,
) -> Float[np.ndarray, "bar 12"]:
    """The attributes the same bars would have in another key, at another loudness, at another tempo."""
    moved = attributes.astype(np.float64)
    column = {name: index for index, name in enumerate(ATTRIBUTE_NAMES)}
    moved[:, [column["register"], column["low"]]] += semitones
    moved[:, [column["velocity"], column["soft"]]] += louder
    moved[:, column["density"]] *= faster
    moved[:, column["duration"]] /= faster
    return moved


def bar_conditions(
    *,
    levels: Int64[np.ndarray, "bar fader"],
    mode: np.ndarray,
    bpm: np.ndarray,
    remaining: np.ndarray,
    shift: int | np.ndarray,
    steps: np.ndarray,
    melody: np.ndarray,
    lag: np.ndarray,
    likeness: np.ndarray,
    chords: Int64[np.ndarray, "bar slot"],
    next_chord: Int64[np.ndarray, "bar"],
) -> Int64[np.ndarray, "bar column"]:
    """The classes of every bar in the order of `BAR_COLUMNS`; class 0 leaves a matter open."""
    rows = np.zeros((len(steps), len(BAR_COLUMNS)), np.int64)
    for index, name in enumerate(FADERS):
        rows[:, COLUMN_INDEX[f"fader_{name}"]] = levels[:, index]
    rows[:, COLUMN_INDEX["mode"]] = mode
    rows[:, COLUMN_INDEX["tempo"]] = tempo_level(bpm)
    rows[:, COLUMN_INDEX["remaining"]] = np.clip(remaining, 0, 16) + 1
    rows[:, COLUMN_INDEX["shift"]] = np.asarray(shift) + 7
    rows[:, COLUMN_INDEX["metre"]] = metre_class(steps)
    rows[:, COLUMN_INDEX["melody"]] = melody
    rows[:, COLUMN_INDEX["lag"]] = lag
    rows[:, COLUMN_INDEX["likeness"]] = likeness
    root, quality = chord_classes(np.concatenate([chords, next_chord[:, None]], axis=1))
    for slot in range(CHORD_SLOTS + 1):
        rows[:, COLUMN_INDEX[f"root_{slot}"]] = root[:, slot]
        rows[:, COLUMN_INDEX[f"quality_{slot}"]] = quality[:, slot]
    return rows


_BAR_FIELDS = ("steps", "bpm", "mode", "chords", "melody", "attributes", "lag", "likeness", "source_bar")


def save_song_bars(path: Path, songs: Sequence[SongBars], splits: np.ndarray) -> None:
    """Write songs end to end as one archive, each with its part of the split."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(song, name) for song in songs]) for name in _BAR_FIELDS
    }
    columns["words"] = np.concatenate([song.words for song in songs])
    columns["bar_words"] = np.concatenate([np.diff(song.starts) for song in songs])
    columns["bars"] = np.array([len(song) for song in songs])
    columns["names"] = np.array([song.name for song in songs])
    columns["sources"] = np.array([song.source for song in songs])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, splits=splits, **columns)


def load_song_bars(path: Path) -> tuple[list[SongBars], np.ndarray]:
    """The songs that `save_song_bars` wrote, and the part of the split of each."""
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    edges = np.concatenate([[0], np.cumsum(columns["bars"])])
    starts = np.concatenate([[0], np.cumsum(columns["bar_words"])])
    songs = []
    for index, (a, b) in enumerate(itertools.pairwise(edges)):
        songs.append(
            SongBars(
                name=str(columns["names"][index]),
                source=str(columns["sources"][index]),
                words=columns["words"][starts[a] : starts[b]],
                starts=starts[a : b + 1] - starts[a],
                **{name: columns[name][a:b] for name in _BAR_FIELDS},
            )
        )
    return songs, columns["splits"]
