"""Changes to a song that leave it music: key, tempo, dynamics, fewer notes in the accompaniment, longer or shorter notes.

The songs are mostly loud and dense; the changes widen what the formula reads in them, and its reading follows each change.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from affetto.tokenizers.compound import Words
from affetto.tokenizers.vocabulary import (
    CHORD,
    CONTINUE,
    DURATION,
    FAMILY,
    METRICAL,
    NOTE_WORD,
    PITCH,
    POSITION,
    STEPS_PER_BEAT,
    TEMPO,
    VELOCITY,
)

THINNEST = 3


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """One change: semitones, a factor on tempo, velocities scaled about their mean and moved, accompaniment, lengths."""

    semitones: int = 0
    tempo: float = 1.0
    velocity: float = 0.0
    contrast: float = 1.0
    thinness: int = 0  # 0..3: accompaniment leaves odd sixteenths, off-beats, every second beat
    sustain: float = 1.0  # a factor on lengths; no note is drawn over a change of harmony

    @staticmethod
    def draw(rng: np.random.Generator) -> "Augmentation":
        """Any key, tempo within 15 %, dynamics from soft to loud; four in ten thinner, half with other lengths."""
        return Augmentation(
            semitones=int(rng.integers(-5, 7)),
            tempo=float(np.exp(rng.uniform(-0.15, 0.15))),
            velocity=float(rng.uniform(-56.0, 12.0)),
            contrast=float(rng.uniform(0.7, 1.3)),
            thinness=int(rng.integers(1, THINNEST + 1)) if rng.random() < 0.4 else 0,
            sustain=float(np.exp(rng.uniform(-0.4, 1.1))) if rng.random() < 0.5 else 1.0,
        )

    def __call__(self, words: Words) -> Words:
        """The changed piece."""
        words = thinned(words, self.thinness) if self.thinness else words
        words = sustained(words, self.sustain) if self.sustain != 1.0 else words
        words = words.transposed(self.semitones) if self.semitones else words
        vocabulary, ids = words.vocabulary, words.ids.copy()
        tempo, loud = ids[:, TEMPO] > CONTINUE, ids[:, FAMILY] == NOTE_WORD
        bpm = vocabulary.values[TEMPO][ids[tempo, TEMPO]] * self.tempo
        ids[tempo, TEMPO] = vocabulary.tempo_ids(bpm)
        velocity = vocabulary.values[VELOCITY][ids[loud, VELOCITY]]
        middle = velocity.mean() if len(velocity) else 0.0
        moved = middle + self.contrast * (velocity - middle) + self.velocity
        ids[loud, VELOCITY] = vocabulary.velocity_ids(moved)
        return dataclasses.replace(words, ids=ids)


def thinned(words: Words, level: int) -> Words:
    """The piece without the accompaniment on weak places; `level` 1..3 leaves it fewer places.

    Accompaniment are notes that begin while a higher one sounds. Level 1 silences it on odd sixteenths, 2 off the beat,
    3 off every second beat.
    """
    places = np.maximum(words.ids[:, POSITION].astype(np.int64) - words.vocabulary.first_position, 0)
    latest = np.maximum.accumulate(np.where(words.ids[:, FAMILY] == METRICAL, np.arange(len(words)), 0))
    kept_every = (2, STEPS_PER_BEAT, 2 * STEPS_PER_BEAT)[level - 1]
    silent = np.zeros(len(words), bool)
    silent[words.is_note] = _accompaniment(words) & (places[latest[words.is_note]] % kept_every != 0)
    ids = words.ids[~silent]
    # a place where nothing is left and nothing is said goes with its notes
    follows = np.append(ids[1:, FAMILY], 0) == NOTE_WORD
    idle = (ids[:, FAMILY] == METRICAL) & (ids[:, TEMPO] == CONTINUE) & (ids[:, CHORD] == CONTINUE) & ~follows
    return dataclasses.replace(words, ids=ids[~idle])


def sustained(words: Words, factor: float) -> Words:
    """The piece with lengths times `factor`, none drawn beyond the next chord or the next note of its pitch."""
    ids, note = words.ids.copy(), words.is_note
    steps, pitch = words.steps[note], ids[note, PITCH].astype(np.int64)
    length = words.vocabulary.values[DURATION][ids[note, DURATION]]
    changes = np.append(words.steps[ids[:, CHORD] > CONTINUE], np.iinfo(np.int64).max)
    harmony = changes[np.searchsorted(changes, steps, side="right")] - steps
    wanted = np.where(factor > 1, np.minimum(length * factor, np.maximum(harmony, length)), length * factor)
    order = np.lexsort((steps, pitch))
    gap = np.full(len(steps), np.inf)
    again = np.diff(pitch[order]) == 0
    gap[order[:-1][again]] = np.diff(steps[order])[again]
    longest = np.searchsorted(np.array(words.vocabulary.durations), gap, side="right")
    ids[note, DURATION] = np.minimum(words.vocabulary.duration_ids(wanted), longest)
    return dataclasses.replace(words, ids=ids)


def _accompaniment(words: Words) -> Bool[np.ndarray, "note"]:
    """Which notes begin while a higher one sounds or begins."""
    note = words.is_note
    steps, pitch = words.steps[note], words.ids[note, PITCH].astype(np.int64)
    length = words.vocabulary.values[DURATION][words.ids[note, DURATION]].astype(np.int64)
    within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    highest = np.zeros(int((steps + length).max(initial=0)), np.int64)
    np.maximum.at(highest, np.repeat(steps, length) + within, np.repeat(pitch, length))
    return pitch < highest[steps]
