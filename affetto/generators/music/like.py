"""Music that starts from a MIDI file: varied, continued, filled in, or with one of its elements taken over."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from affetto.generators.music.adapter import faders_of, music_vad
from affetto.generators.music.compose import Forced
from affetto.generators.music.composer_data import SongBars, canonical_shift, melody_role, song_bars
from affetto.generators.music.form import METRES, BarPlan, MusicPlan, MusicRequest, plan_piece
from affetto.generators.music.grammar import BEAT, MELODY
from affetto.generators.music.harmony import HarmonyModel
from affetto.media.midi import Score, load_midi, note_array
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.tokenizers.chords import song_key, with_chords
from affetto.tokenizers.compound import Words, encode
from affetto.tokenizers.vocabulary import (
    NO_CHORD,
    PITCH,
    ROOTS,
    chord_id,
    chord_name,
    is_chord,
    transposed_chords,
)

_MOST_BARS = 256
_CLEARLY_MINOR = 3.4  # level of the mode fader, 0..8
_MAJOR_DEGREES = {0: "M", 2: "m", 4: "m", 5: "M", 7: "M", 9: "m", 11: "o"}  # semitones: the triad there
_MINOR_DEGREES = {0: "m", 2: "o", 3: "M", 5: "m", 7: "M", 8: "M", 10: "M"}
_TUNE_ABOVE = 55  # MIDI: the highest note of an onset is taken for the tune from here upward


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """A piece that was given: its score, and its bars in C major or A minor."""

    name: str
    score: Score
    song: SongBars
    metre: str
    tonic: int  # of the major key that shares its signature
    key: int  # row of media.music.KEYS

    @property
    def chords(self) -> list[tuple[str, ...]]:
        """The sounding chords of each bar, by quarters of it; silence takes those before."""
        sounding = transposed_chords(self.song.chords, -int(canonical_shift(self.tonic)))
        names: list[tuple[str, ...]] = []
        current = chord_id(f"{ROOTS[self.key % 12]}_{'m' if self.key >= 12 else 'M'}")
        for row in sounding:
            slots = []
            for chord in row:
                current = int(chord) if chord > NO_CHORD else current
                slots.append(chord_name(current))
            names.append(tuple(slots))
        return names


def read_material(source: str | Path | Score) -> Material:
    """A MIDI file or score, its notes on the sixteenth grid, its key and chords recognised where they are not marked.

    Raises InvalidInputError for a file that is none or that holds no notes, and for metres nothing is composed in.
    """
    name = "the score" if isinstance(source, Score) else str(source)
    score = source if isinstance(source, Score) else load_midi(source)
    if len(score.pitched().notes) == 0:
        raise InvalidInputError(f"{name}: holds no notes: give a piece with some")
    if not any(is_chord(text) for _, text in score.markers):
        score = with_chords(score)
    words = encode(score)
    steps = np.unique(words.bar_steps)
    metres = {length: metre for metre, length in METRES.items()}
    if len(steps) != 1 or int(steps[0]) not in metres:
        raise InvalidInputError(
            f"{name}: changes its metre or has none of {', '.join(METRES)}: give another piece"
        )
    if len(words.bar_steps) > _MOST_BARS:
        raise InvalidInputError(f"{name}: {len(words.bar_steps)} bars exceed {_MOST_BARS}: cut it into parts")
    key = song_key(words)
    song = song_bars(words, _role(score, words), name=name)
    return Material(
        name=name,
        score=score,
        song=song,
        metre=metres[int(steps[0])],
        tonic=int(-canonical_shift(key)) % 12,
        key=key,
    )


def _role(score: Score, words: Words) -> Int64[np.ndarray, "word"]:
    """1 for the tune: a track called melody, else the highest note of every onset."""
    named = melody_role(score, words)
    if named.any():
        return named
    pitch = words.vocabulary.pitches[0] - 1 + words.ids[:, PITCH].astype(np.int64)
    note = words.is_note
    steps = np.where(note, words.steps, -1)
    first = np.append(True, np.diff(steps) != 0) & note
    before = np.append(False, ~note[:-1])
    return ((first | (note & before)) & (pitch >= _TUNE_ABOVE)).astype(np.int64)


def like_plan(
    request: MusicRequest, material: Material, mode: str, harmony: HarmonyModel
) -> tuple[MusicPlan, Forced]:
    """The plan of a piece like the material, and what it must keep of it (see `MusicComposer.__call__`)."""
    count = len(material.song)
    if request.bars is None and request.seconds is None:
        request = dataclasses.replace(request, bars=count if mode != "continue" else 8)
    minor = material.key >= 12
    if request.key is None and mode != "rhythm":
        if mode != "continue":
            minor = _wanted_minor(request, harmony, minor=minor)
        request = dataclasses.replace(request, key=_key_name(material, minor=minor))
    if request.tempo is None and request.seconds is None and request.emotion is None:
        request = dataclasses.replace(request, tempo=float(np.median(material.song.bpm)))
    plan = plan_piece(request, harmony)
    if mode == "continue":
        return _continued(plan, material)
    forced = Forced()
    bars = list(plan.bars)
    if mode in ("vary", "harmony"):
        chords = material.chords
        if minor != (material.key >= 12):
            chords = [other_mode(names, material.key % 12, minor=minor) for names in chords]
        last = len(bars) - (1 if plan.ending == "cadence" and len(bars) > count else 0)
        for index in range(last):
            bars[index] = dataclasses.replace(bars[index], chords=chords[index % count])
    if mode == "rhythm":
        forced = Forced(onsets={index: _onsets(material, index % count) for index in range(len(bars))})
        forced = dataclasses.replace(forced, onsets={bar: on for bar, on in forced.onsets.items() if on})
    if mode == "vary":
        forced = Forced(melody={index: _tune_rhythm(material, index % count) for index in range(len(bars))})
        bars = [dataclasses.replace(bar, repeats=None, alike=0) for bar in bars]
    return dataclasses.replace(plan, bars=tuple(bars)), forced


def _key_name(material: Material, *, minor: bool) -> str:
    names = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
    return f"{names[material.key % 12]} {'minor' if minor else 'major'}"


def _wanted_minor(request: MusicRequest, harmony: HarmonyModel, *, minor: bool) -> bool:
    """Whether a variation should be in minor: as the emotion says where it is clear, else as the material is."""
    levels = [bar.faders["mode"] for bar in plan_piece(request, harmony).bars]
    mean = sum(levels) / len(levels)
    return mean < _CLEARLY_MINOR or (minor and mean <= 8.0 - _CLEARLY_MINOR)


def other_mode(names: tuple[str, ...], tonic: int, *, minor: bool) -> tuple[str, ...]:
    """The same degrees of the scale in minor (or in major): I-IV-V becomes i-iv-V; chords off the scale stay."""
    here, there = (_MAJOR_DEGREES, _MINOR_DEGREES) if minor else (_MINOR_DEGREES, _MAJOR_DEGREES)
    moved = []
    for name in names:
        root, _, quality = name.partition("_")
        step = (ROOTS.index(root) - tonic) % 12 if root in ROOTS else -1
        if step not in here:
            moved.append(name)
            continue
        degree = list(here).index(step)
        target = list(there)[degree]
        kept = quality in ("sus2", "sus4", "7") and degree == 4
        moved.append(f"{ROOTS[(tonic + target) % 12]}_{quality if kept else there[target]}")
    return tuple(moved)


def _onsets(material: Material, bar: int) -> frozenset[int]:
    words = _bar_words(material, bar)
    return frozenset(words[words[:, 0] == BEAT, 2].tolist())


def _tune_rhythm(material: Material, bar: int) -> dict[int, tuple[int, int]]:
    words = _bar_words(material, bar)
    sung = words[words[:, 0] == MELODY]
    return {int(word[2]): (0, int(word[4])) for word in sung}


def _bar_words(material: Material, bar: int) -> Int64[np.ndarray, "word 6"]:
    song = material.song
    words = song.words[song.starts[bar] : song.starts[bar + 1]].astype(np.int64)
    beats = np.flatnonzero(words[:, 0] == BEAT)
    silent = [
        i for i in beats if i + 1 == len(words) or words[i + 1, 0] == BEAT
    ]  # said only a chord or a tempo
    return np.delete(words, silent, axis=0)


def _kept_plan(material: Material, index: int, like: BarPlan) -> BarPlan:
    bpm = float(np.clip(material.song.bpm[index], 30.0, 240.0))
    mode = "minor" if material.song.mode[index] == 2 else "major"
    return dataclasses.replace(
        like,
        section="given",
        phrase=-1,
        mode=mode,
        chords=material.chords[index],
        bpm=bpm,
        repeats=None,
        alike=0,
    )


def _continued(plan: MusicPlan, material: Material) -> tuple[MusicPlan, Forced]:
    """The material, then the planned bars."""
    count = len(material.song)
    given = [_kept_plan(material, index, plan.bars[0]) for index in range(count)]
    new = [
        dataclasses.replace(bar, repeats=None if bar.repeats is None else bar.repeats + count)
        for bar in plan.bars
    ]
    kept = {index: _kept_words(material, index) for index in range(count)}
    return dataclasses.replace(plan, bars=(*given, *new)), Forced(kept=kept)


def _kept_words(material: Material, index: int) -> Int64[np.ndarray, "word 6"]:
    words = _bar_words(material, index)
    words[:, 1] = index
    return words


def infill_plan(
    request: MusicRequest, material: Material, infill: tuple[int, int]
) -> tuple[MusicPlan, Forced]:
    """A plan over the material's own bars in which only `infill` (first, last; from 1) is written."""
    count = len(material.song)
    first, last = infill
    if not 1 <= first <= last <= count:
        raise UsageError(f"{material.name} has bars 1..{count}: {first}-{last} cannot be filled in")
    if request.bars is not None or request.seconds is not None:
        raise UsageError("an infilled piece keeps its length: leave --bars and --seconds away")
    seconds = material.score.seconds_of(np.arange(count + 1) * METRES[material.metre] / 4)
    vad = music_vad(request.emotion, (seconds[1:] + seconds[:-1]) / 2, seed=request.seed)
    levels = faders_of(vad)
    chords = material.chords
    bars = []
    for index in range(count):
        inside = first - 1 <= index < last
        names = ("rhythm", "density", "polyphony", "register", "velocity", "mode")
        told = dict(zip(names, levels[index].tolist(), strict=True)) | (
            dict(request.faders) if inside else {}
        )
        bars.append(
            BarPlan(
                phrase=0 if index < first - 1 else 1 if inside else 2,
                section="new" if inside else "given",
                mode="minor" if material.song.mode[index] == 2 else "major",
                chords=chords[index],
                bpm=float(np.clip(material.song.bpm[index], 30.0, 240.0)),
                vad=(float(vad[index, 0]), float(vad[index, 1]), float(vad[index, 2])),
                faders=told,
                told=tuple(request.faders),
            )
        )
    plan = MusicPlan(
        tonic=material.tonic, metre=material.metre, bars=tuple(bars), ending="open", seed=request.seed
    )
    kept = {index: _kept_words(material, index) for index in range(count) if not first - 1 <= index < last}
    return plan, Forced(kept=kept)


def spliced(score: Score, plan: MusicPlan, material: Material) -> Score:
    """The given score with the written bars put in: outside them its notes stay exactly as they were."""
    beats = plan.beats
    new = np.array([bar.section != "given" for bar in plan.bars])

    def inside(start: np.ndarray) -> np.ndarray:
        bar = np.clip((start / beats).astype(np.int64), 0, len(new) - 1)
        return new[bar]

    given = material.score
    old = given.notes[~inside(given.notes["start"])].copy()
    edges = np.flatnonzero(np.diff(np.append(False, new).astype(np.int8)) == 1) * beats
    for edge in edges:  # what sounds into a rewritten bar ends there
        across = (old["start"] < edge) & (old["start"] + old["duration"] > edge)
        old["duration"][across] = edge - old["start"][across]
    fresh = score.notes[inside(score.notes["start"])].copy()
    fresh["track"] = 0
    longer = len(plan.bars) > len(material.song)
    start = len(material.song) * beats
    return dataclasses.replace(
        given,
        notes=note_array(np.concatenate([old, fresh])),
        tempos=(*given.tempos, *((at, bpm) for at, bpm in score.tempos if at >= start))
        if longer
        else given.tempos,
        markers=(*given.markers, *((at, text) for at, text in score.markers if at >= start)),
    )
