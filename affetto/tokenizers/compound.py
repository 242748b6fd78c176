"""Scores as compound words, and back: one row for each bar, place in a bar with something new, and note.

A piece reads `[emotion] (bar (position note*)*)* end`, notes of one place from the highest down, as in EMOPIA and MusER
(arXiv 2312.10307, section 3). What lies on the sixteenth grid survives encoding and decoding exactly; `quantisation` tells
what other music loses.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int16, Int64

from affetto.media.midi import NOTE, Score, TrackInfo, note_array
from affetto.runtime.errors import UsageError
from affetto.tokenizers.vocabulary import (
    CHORD,
    CONTINUE,
    DURATION,
    EMBEDDED,
    EMOTION,
    END,
    FAMILY,
    METRICAL,
    MOOD,
    NO_CHORD,
    NOTE_WORD,
    PITCH,
    POSITION,
    STEPS_PER_BEAT,
    TEMPO,
    VELOCITY,
    Vocabulary,
    chord_id,
    chord_name,
    is_chord,
    meter_steps,
    transposed_chords,
)

PIANO = TrackInfo(name="Piano", program=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """A piece as compound words: ids (word, column) in the order of `vocabulary.COLUMNS`."""

    ids: Int16[np.ndarray, "word 8"]
    vocabulary: Vocabulary = EMBEDDED

    def __post_init__(self) -> None:
        wrong = (self.ids < 0) | (self.ids >= np.array(self.vocabulary.sizes))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise UsageError(
                f"word {row}, column {column}: id {self.ids[row, column]} is not in the vocabulary"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def is_bar(self) -> np.ndarray:
        """Which words open a bar."""
        place = self.ids[:, POSITION]
        return (self.ids[:, FAMILY] == METRICAL) & (place > 0) & (place < self.vocabulary.first_position)

    @cached_property
    def is_note(self) -> np.ndarray:
        """Which words are notes."""
        return self.ids[:, FAMILY] == NOTE_WORD

    @cached_property
    def bars(self) -> Int64[np.ndarray, "word"]:
        """The bar of each word, from 0; -1 before the first."""
        return np.cumsum(self.is_bar) - 1

    @cached_property
    def bar_steps(self) -> Int64[np.ndarray, "bar"]:
        """The sixteenths in each bar."""
        return self.vocabulary.bar_steps[self.ids[self.is_bar, POSITION]]

    @cached_property
    def steps(self) -> Int64[np.ndarray, "word"]:
        """The sixteenth from the start of the piece at which each word stands."""
        starts = np.concatenate([[0], np.cumsum(self.bar_steps)])
        place = np.maximum(self.ids[:, POSITION].astype(np.int64) - self.vocabulary.first_position, 0)
        metrical = self.ids[:, FAMILY] == METRICAL
        latest = np.maximum.accumulate(np.where(metrical, np.arange(len(self)), -1))
        return starts[np.maximum(self.bars, 0)] + np.where(latest >= 0, place[latest], 0)

    @cached_property
    def bpm(self) -> np.ndarray:
        """The tempo in force at each word, quarter notes a minute; 120 before the first."""
        tempo = self.ids[:, TEMPO].astype(np.int64)
        latest = np.maximum.accumulate(np.where(tempo > CONTINUE, np.arange(len(self)), -1))
        values = self.vocabulary.values[TEMPO][tempo]
        return np.where(latest >= 0, values[latest], 120.0)

    @cached_property
    def chords(self) -> Int64[np.ndarray, "word"]:
        """The id of the chord in force at each word; `NO_CHORD` before the first."""
        chord = self.ids[:, CHORD].astype(np.int64)
        latest = np.maximum.accumulate(np.where(chord > CONTINUE, np.arange(len(self)), -1))
        return np.where(latest >= 0, chord[latest], NO_CHORD)

    def transposed(self, semitones: int) -> "Words":
        """The same piece in another key; notes that leave the range stay in it, an octave away."""
        ids = self.ids.copy()
        pitch, top = ids[:, PITCH].astype(np.int64) + semitones, len(self.vocabulary.pitches)
        pitch = np.where(pitch > top, pitch - 12, np.where(pitch < 1, pitch + 12, pitch))
        ids[:, PITCH] = np.where(self.ids[:, PITCH] > 0, pitch, 0)
        ids[:, CHORD] = transposed_chords(ids[:, CHORD].astype(np.int64), semitones)
        return dataclasses.replace(self, ids=ids)


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """What a score loses as compound words, over its notes."""

    notes: int
    out_of_range: int  # pitches that have no id
    merged: int  # notes that fell together with another of the same pitch
    shortened: int  # notes cut because their pitch sounds again
    onset: float  # mean distance moved, sixteenths
    duration: float  # mean change of length, sixteenths
    velocity: float  # mean change


def encode(score: Score, *, vocabulary: Vocabulary = EMBEDDED, quadrant: int = 0) -> Words:
    """The compound words of all notes but drums, with its tempo, metre and the chords among its markers.

    A metre without a bar word is written as one of the same length, else as 4/4. `quadrant` 1..4 puts an emotion word in
    front.
    """
    rows, _ = _note_rows(score.pitched(), vocabulary)
    edges, bar_ids = _bars(score, 1 + int(rows[:, 0].max(initial=0)), vocabulary)
    tempos = _changes([(beat, int(vocabulary.tempo_ids(bpm))) for beat, bpm in score.tempos])
    named = [(beat, chord_id(text)) for beat, text in score.markers if is_chord(text)]
    chords = _changes(named)
    places = np.unique([*rows[:, 0], *tempos, *chords]).astype(np.int64)
    places = places[places < edges[-1]]

    bar_rows = np.zeros((len(bar_ids), 8), np.int16)
    bar_rows[:, POSITION], bar_rows[:, FAMILY] = bar_ids, METRICAL
    metrical = np.zeros((len(places), 8), np.int16)
    metrical[:, TEMPO] = [tempos.get(int(place), CONTINUE) for place in places]
    metrical[:, CHORD] = [chords.get(int(place), CONTINUE) for place in places]
    within = places - edges[np.searchsorted(edges, places, side="right") - 1]
    metrical[:, POSITION], metrical[:, FAMILY] = within + vocabulary.first_position, METRICAL
    notes = np.zeros((len(rows), 8), np.int16)
    notes[:, FAMILY] = NOTE_WORD
    notes[:, [PITCH, DURATION, VELOCITY]] = rows[:, 1:]

    step = np.concatenate([edges[:-1], places, rows[:, 0]])
    kind = np.repeat([0, 1, 2], [len(bar_rows), len(metrical), len(notes)])
    pitch = np.concatenate([np.zeros(len(bar_rows) + len(metrical)), -rows[:, 1]])
    body = np.concatenate([bar_rows, metrical, notes])[np.lexsort((pitch, kind, step))]
    end = np.zeros((1, 8), np.int16)  # the family END is 0
    mood = np.zeros((1 if quadrant else 0, 8), np.int16)
    mood[:, FAMILY], mood[:, EMOTION] = MOOD, quadrant
    return Words(ids=np.concatenate([mood, body, end]), vocabulary=vocabulary)


def decode(words: Words) -> Score:
    """The score that compound words spell, one piano track with chords as markers; words after the end are ignored.

    Raises `UsageError` when notes stand before the first bar, miss a field, or lie beyond their bar.
    """
    ends = np.flatnonzero(words.ids[:, FAMILY] == END)
    if len(ends):
        words = dataclasses.replace(words, ids=words.ids[: ends[0]])
    _check_grammar(words)
    ids, vocabulary = words.ids.astype(np.int64), words.vocabulary
    beats = words.steps / STEPS_PER_BEAT
    note = words.is_note
    notes = np.zeros(int(note.sum()), NOTE)
    notes["start"] = beats[note]
    notes["duration"] = vocabulary.values[DURATION][ids[note, DURATION]] / STEPS_PER_BEAT
    notes["pitch"] = vocabulary.values[PITCH][ids[note, PITCH]]
    notes["velocity"] = vocabulary.values[VELOCITY][ids[note, VELOCITY]]
    tempos = _settled(beats, ids[:, TEMPO])
    meters = _settled(beats, np.where(words.is_bar, ids[:, POSITION] + CONTINUE, 0))
    return Score(
        notes=note_array(notes),
        tracks=(PIANO,),
        tempos=tuple(
            (beat if index else 0.0, float(vocabulary.values[TEMPO][tempo]))
            for index, (beat, tempo) in enumerate(tempos)
        )
        or ((0.0, 120.0),),
        meters=tuple((beat, *vocabulary.meters[bar - CONTINUE - 1]) for beat, bar in meters)
        or ((0.0, 4, 4),),
        markers=tuple((beat, chord_name(chord)) for beat, chord in _settled(beats, ids[:, CHORD])),
    )


def quantisation(score: Score, *, vocabulary: Vocabulary = EMBEDDED) -> Quantisation:
    """What `score` loses when it becomes compound words."""
    return _note_rows(score.pitched(), vocabulary)[1]


def _check_grammar(words: Words) -> None:
    ids = words.ids
    if (words.bars[ids[:, FAMILY] != MOOD] < 0).any():
        raise UsageError("the words begin without a bar word: put one before the first note or position")
    incomplete = words.is_note & (ids[:, [PITCH, DURATION, VELOCITY]] == 0).any(axis=1)
    if incomplete.any():
        raise UsageError(f"word {int(np.argmax(incomplete))}: a note without pitch, duration or velocity")
    place = ids[:, POSITION].astype(np.int64) - words.vocabulary.first_position
    beyond = (place >= 0) & (place >= words.bar_steps[words.bars] if len(words.bar_steps) else place < 0)
    if beyond.any():
        raise UsageError(f"word {int(np.argmax(beyond))}: lies beyond the end of its bar")


def _note_rows(score: Score, vocabulary: Vocabulary) -> tuple[Int64[np.ndarray, "note 4"], Quantisation]:
    """Step, pitch id, duration id, velocity id of each note that remains, and what was lost."""
    notes = score.notes
    start = notes["start"] * STEPS_PER_BEAT
    length = notes["duration"] * STEPS_PER_BEAT
    step = np.floor(start + 0.5).astype(np.int64)
    pitch = vocabulary.pitch_ids(notes["pitch"])
    kept = pitch > 0
    step, pitch, length, start = step[kept], pitch[kept], length[kept], start[kept]
    velocity = notes["velocity"][kept].astype(np.float64)
    duration = vocabulary.duration_ids(length)
    strength = vocabulary.velocity_ids(velocity)
    loss = {
        "onset": _mean(np.abs(step - start)),
        "duration": _mean(np.abs(vocabulary.values[DURATION][duration] - length)),
        "velocity": _mean(np.abs(vocabulary.values[VELOCITY][strength] - velocity)),
    }
    # of notes that fall together the longest stays, as loud as the loudest
    order = np.lexsort((-duration, step, pitch))
    step, pitch, duration, strength = (column[order] for column in (step, pitch, duration, strength))
    first = np.ones(len(step), bool)
    first[1:] = (np.diff(step) != 0) | (np.diff(pitch) != 0)
    groups = np.flatnonzero(first)
    strength = np.maximum.reduceat(strength, groups) if len(groups) else strength
    step, pitch, duration = step[first], pitch[first], duration[first]
    # a pitch ends where it begins again
    gap = np.full(len(step), np.iinfo(np.int64).max)
    gap[:-1] = np.where(np.diff(pitch) == 0, np.diff(step), gap[:-1])
    longest = np.searchsorted(np.array(vocabulary.durations), gap, side="right")
    rows = np.stack([step, pitch, np.minimum(duration, longest), strength], axis=1)
    summary = Quantisation(
        notes=len(notes),
        out_of_range=int((~kept).sum()),
        merged=int((~first).sum()),
        shortened=int((duration > longest).sum()),
        **loss,
    )
    return rows[np.lexsort((-pitch, step))], summary


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _bars(score: Score, steps: int, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which bars begin and the last ends, covering `steps`, and the bar word of each."""
    changes = sorted(
        (round(beat * STEPS_PER_BEAT), _known_meter(top, bottom, vocabulary))
        for beat, top, bottom in score.meters
    )
    edges, ids, current = [0], [], _known_meter(4, 4, vocabulary)
    while edges[-1] < steps:
        while changes and changes[0][0] <= edges[-1]:  # within a bar, a change waits for the next
            current = changes.pop(0)[1]
        ids.append(current)
        edges.append(edges[-1] + int(vocabulary.bar_steps[current]))
    return np.array(edges, np.int64), np.array(ids, np.int64)


def _known_meter(top: int, bottom: int, vocabulary: Vocabulary) -> int:
    if (top, bottom) in vocabulary.meters:
        return vocabulary.bar_id(top, bottom)
    as_long = [meter for meter in vocabulary.meters if meter_steps(*meter) == 16 * top / bottom]
    return vocabulary.bar_id(*(as_long or [(4, 4)])[0])


def _changes(events: list[tuple[float, int]]) -> dict[int, int]:
    """The id at each step where it changes; of several in one step the last counts."""
    at = {
        max(round(beat * STEPS_PER_BEAT), 0): value
        for beat, value in sorted(events, key=lambda each: each[0])
    }
    changes: dict[int, int] = {}
    latest = None
    for step, value in at.items():
        if value != latest:
            changes[step] = latest = value
    return changes


def _settled(beats: np.ndarray, ids: np.ndarray) -> list[tuple[float, int]]:
    """(beat, id) where a column of words says something new."""
    said = np.flatnonzero(ids > CONTINUE)
    fresh = [row for index, row in enumerate(said) if index == 0 or ids[row] != ids[said[index - 1]]]
    return [(float(beats[row]), int(ids[row])) for row in fresh]
