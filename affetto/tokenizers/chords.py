"""Chords and keys of a score, by templates and the best path through them."""

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from affetto.media.midi import Score
from affetto.media.music import key_correlations
from affetto.tokenizers.attributes import bar_keys
from affetto.tokenizers.compound import Words
from affetto.tokenizers.vocabulary import (
    FIRST_CHORD,
    NO_CHORD,
    QUALITIES,
    ROOTS,
    STEPS_PER_BEAT,
    chord_name,
    is_chord,
)

_TONES = {  # semitones above the root
    "M": (0, 4, 7), "m": (0, 3, 7), "o": (0, 3, 6), "+": (0, 4, 8), "7": (0, 4, 7, 10), "M7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10), "o7": (0, 3, 6, 9), "/o7": (0, 3, 6, 10), "sus2": (0, 2, 7), "sus4": (0, 5, 7),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ChordModel:
    """How much the recogniser trusts what: weights on cosines, in nats."""

    match: float = 12.0  # of the cosine between what sounds and a chord's tones
    bass: float = 1.2  # when the lowest note is the root
    fifth: float = 0.3  # when the lowest note is another tone of the chord
    change: float = 1.6  # against a new chord at any beat
    offbeat: float = 1.0  # more against it, unless a bar or its half begins
    silence: float = 5.0  # evidence for "no chord" where nothing sounds
    rare: tuple[float, ...] = (0.0, 0.1, 1.6, 1.8, 0.9, 1.0, 0.7, 2.0, 1.8, 1.0, 1.0)  # against each quality


def chord_tones(quality: str) -> tuple[int, ...]:
    """The semitones above the root that sound in a chord of this quality."""
    return _TONES[quality]


def _templates() -> Float64[np.ndarray, "132 12"]:
    rows = np.zeros((len(ROOTS) * len(QUALITIES), 12))
    for root in range(12):
        for index, quality in enumerate(QUALITIES):
            rows[root * len(QUALITIES) + index, [(root + tone) % 12 for tone in _TONES[quality]]] = 1.0
    return rows


_CHORDS = _templates()


def recognised_chords(score: Score, *, model: ChordModel | None = None) -> tuple[tuple[float, str], ...]:
    """(beat, chord name) where the harmony changes: the best path through 132 chords and silence, beat by beat."""
    model = model or ChordModel()
    chroma, bass = beat_chroma(score)
    if len(chroma) == 0:
        return ()
    strong = _strong_beats(score, len(chroma))
    cost = model.change + model.offbeat * ~strong
    path = best_path(_evidence(chroma, bass, model), cost)
    changes = np.flatnonzero(np.diff(path, prepend=-1))
    return tuple((float(beat), chord_name(int(path[beat]) + NO_CHORD)) for beat in changes)


def with_chords(score: Score, *, model: ChordModel | None = None) -> Score:
    """The score with recognised chords as markers, in place of chords that were marked before."""
    others = tuple(mark for mark in score.markers if not is_chord(mark[1]))
    found = recognised_chords(score, model=model)
    return dataclasses.replace(score, markers=tuple(sorted((*others, *found))))


def beat_chroma(score: Score) -> tuple[Float64[np.ndarray, "beat 12"], Int64[np.ndarray, "beat"]]:
    """How long each pitch class sounds in each beat, and the lowest pitch class there (-1: none)."""
    notes = score.pitched().notes
    start = np.round(notes["start"] * STEPS_PER_BEAT).astype(np.int64)
    end = np.maximum(
        np.round((notes["start"] + notes["duration"]) * STEPS_PER_BEAT).astype(np.int64), start + 1
    )
    beats = -(-int(end.max(initial=0)) // STEPS_PER_BEAT)
    edges = np.zeros((beats * STEPS_PER_BEAT + 1, 128), np.int32)
    np.add.at(edges, (start, notes["pitch"]), 1)
    np.add.at(edges, (end, notes["pitch"]), -1)
    roll = np.cumsum(edges, axis=0)[:-1] > 0
    held = roll.reshape(beats, STEPS_PER_BEAT, 128).sum(axis=1)
    chroma = np.zeros((beats, 12))
    for pitch_class in range(12):
        chroma[:, pitch_class] = held[:, pitch_class::12].sum(axis=1)
    lowest = np.where(held.any(axis=1), np.argmax(held > 0, axis=1) % 12, -1)
    return chroma, lowest.astype(np.int64)


def _evidence(
    chroma: Float64[np.ndarray, "beat 12"], bass: Int64[np.ndarray, "beat"], model: ChordModel
) -> Float64[np.ndarray, "beat 133"]:
    """Log evidence of silence and each chord at each beat."""
    heard = np.sqrt(chroma)  # a doubled or long note is not worth its whole length
    heard /= np.maximum(np.linalg.norm(heard, axis=1, keepdims=True), 1e-9)
    shapes = _CHORDS / np.linalg.norm(_CHORDS, axis=1, keepdims=True)
    evidence = model.match * (heard @ shapes.T) - np.tile(model.rare, 12)
    roots = np.repeat(np.arange(12), len(QUALITIES))
    sounding = bass >= 0
    evidence += model.bass * ((bass[:, None] == roots) & sounding[:, None])
    within = (_CHORDS[:, np.maximum(bass, 0)].T > 0) & (bass[:, None] != roots) & sounding[:, None]
    evidence += model.fifth * within
    silence = np.where(sounding, 0.0, model.silence)
    return np.concatenate([silence[:, None], evidence], axis=1)


def _strong_beats(score: Score, beats: int) -> Bool[np.ndarray, "beat"]:
    """The beats at which a bar, or the second half of one of four beats, begins."""
    strong = np.zeros(beats, bool)
    changes = [*score.meters, (float("inf"), 4, 4)]
    for (at, top, bottom), (until, _, _) in itertools.pairwise(changes):
        bar = max(round(4 * top / bottom), 1)
        stride = bar // 2 if bar % 2 == 0 and bar > 2 else bar
        strong[round(at) : int(min(until, beats)) : stride] = True
    return strong


def best_path(
    evidence: Float[np.ndarray, "time state"], cost: Float[np.ndarray, "time"]
) -> Int64[np.ndarray, "time"]:
    """The states with the most evidence when every change of state at a time costs `cost` there (Viterbi)."""
    count, states = evidence.shape
    back = np.zeros((count, states), np.int64)
    stay = np.arange(states)
    best = evidence[0].astype(np.float64)
    for time in range(1, count):
        leader = int(best.argmax())
        moved = best[leader] - cost[time]
        back[time] = np.where(best >= moved, stay, leader)
        best = np.maximum(best, moved) + evidence[time]
    path = np.zeros(count, np.int64)
    path[-1] = best.argmax()
    for time in range(count - 1, 0, -1):
        path[time - 1] = back[time, path[time]]
    return path


def bar_key_path(words: Words, *, sharpness: float = 12.0, change: float = 8.0) -> Int64[np.ndarray, "bar"]:
    """The key of each bar, a row of `media.music.KEYS`; a modulation must be worth `change` nats of evidence."""
    evidence = sharpness * key_correlations(bar_keys(words))
    if len(evidence) == 0:
        return np.zeros(0, np.int64)
    return best_path(evidence, np.full(len(evidence), change))


def song_key(words: Words) -> int:
    """The key of the whole piece, a row of `media.music.KEYS`."""
    return int(key_correlations(bar_keys(words).sum(axis=0)).argmax())


def chord_root(index: int) -> int:
    """The root of a chord id, 0 = C; -1 for no chord."""
    return (index - FIRST_CHORD) // len(QUALITIES) if index >= FIRST_CHORD else -1
