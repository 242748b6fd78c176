"""From a plan to words: phrase by phrase, some bars brought back, others written in several versions of which the best stays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from affetto.generators.music.composer_data import FaderScale, bar_conditions
from affetto.generators.music.composer_net import FADERS, LAGS
from affetto.generators.music.form import BarPlan, MusicPlan, bar_feeling_distance, valence_at
from affetto.generators.music.grammar import (
    LENGTHS,
    LOWEST,
    MELODY,
    NOTE,
    SIZES,
    BarRule,
)
from affetto.generators.music.harmony import chord_classes_of, scale_classes
from affetto.generators.music.judging import Judge
from affetto.generators.music.sampling import BarTable, BarWriter, SamplingOptions, Written
from affetto.media.previews import notes_preview
from affetto.runtime.memory import together
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.tokenizers.chords import chord_root
from affetto.tokenizers.vocabulary import chord_id, transposed_chords

_CONTEXT_WORDS = 320
_RECENT_BARS = 8
_RUN = 6  # bars written in one go, of which the best version stays
_SAME_FEELING = 0.2  # bars whose feelings differ by less may be the same notes
_TUNE = (55, 86)  # MIDI pitches of the melody
_LOWEST, _HIGHEST = 28, 96
_BELOW_TUNE = 76  # the accompaniment stays under this while a tune sounds
_FINAL_BASS, _FINAL_INNER = (
    (33, 45),
    52,
)  # where the last root lies, and from where the chord above it is filled up

BarWords = list[np.ndarray]
"""The words (word, 6) of each bar."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Forced:
    """What is prescribed for bars, in C major or A minor: bars kept as they are, and rhythms or tunes to follow."""

    kept: Mapping[int, np.ndarray] = field(default_factory=dict)  # bar -> its words
    onsets: Mapping[int, frozenset[int]] = field(default_factory=dict)
    melody: Mapping[int, Mapping[int, tuple[int, int]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Composition:
    """The words of every bar, in C major or A minor, and what is known about how they came about."""

    bars: BarWords
    written: int  # bars that the network wrote; the others were brought back or kept
    words: int  # that the network drew, over all versions
    lengths: Float64[np.ndarray, "note"] | None = (
        None  # sixteenths each of `note_rows` sounds; None = as they ring
    )


def canonical_chords(plan: MusicPlan) -> Int64[np.ndarray, "bar slot"]:
    """The chord ids of a plan, moved to C major or A minor."""
    ids = np.array([[chord_id(name) for name in bar.chords] for bar in plan.bars], np.int64)
    return transposed_chords(ids, -plan.shift)


def bar_table(plan: MusicPlan, scale: FaderScale) -> BarTable:
    """What the network is told about the bars of a plan."""
    del scale  # levels of a plan are levels of the network, one lower
    count = len(plan.bars)
    chords = canonical_chords(plan)
    following = np.append(chords[1:, 0], chords[0, 0] if plan.ending == "loop" else chords[-1, 3])
    lags = [0 if bar.repeats is None else index - bar.repeats for index, bar in enumerate(plan.bars)]
    known = {lag: index + 1 for index, lag in enumerate(LAGS)}
    levels = np.array([[round(bar.faders.get(name, 4.0)) + 1 for name in FADERS] for bar in plan.bars])
    remaining = np.full(count, 16) if plan.ending == "loop" else count - 1 - np.arange(count)
    rows = bar_conditions(
        levels=levels.astype(np.int64),
        mode=np.array([2 if bar.mode == "minor" else 1 for bar in plan.bars]),
        bpm=np.array([bar.bpm for bar in plan.bars]),
        remaining=remaining,
        shift=np.full(count, plan.shift),
        steps=np.full(count, plan.steps),
        melody=np.array([2 if bar.melody else 1 for bar in plan.bars]),
        lag=np.array([known.get(lag, known[-1]) if lag else 1 for lag in lags]),
        likeness=np.array([bar.alike for bar in plan.bars]),
        chords=chords,
        next_chord=following,
    )
    vad = np.array([bar.vad for bar in plan.bars], np.float32)
    return BarTable(bars=rows, vad=vad, known=np.ones(count, bool))


class Composer:
    """Writes the words of a plan."""

    def __init__(self, writer: BarWriter, scale: FaderScale, options: SamplingOptions) -> None:
        self.writer, self.scale, self.options = writer, scale, options

    def __call__(
        self,
        plan: MusicPlan,
        *,
        seed: int,
        forced: Forced | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Composition:
        """The words of all bars; the same plan and seed give the same words."""
        forced = forced or Forced()
        work = _Work(self, plan, forced, seed)
        runs = _runs(plan, forced)
        for first, last in runs:
            if cancel is not None:
                cancel.check()
            work.write(first, last)
            if progress is not None:
                look = partial(_written, plan, work.bars, last)
                progress(ProgressEvent(stage="compose", done=last, total=len(plan.bars), preview=look))
        return Composition(
            bars=[work.bars[index] for index in range(len(plan.bars))], written=work.written, words=work.words
        )


def _written(plan: MusicPlan, bars: Mapping[int, np.ndarray], count: int) -> dict[str, Any]:
    """The notes of the first bars, at the mean tempo of the plan."""
    rows = note_rows([bars[index] for index in range(count)], plan.steps)
    sixteenth = 15.0 / float(np.mean([bar.bpm for bar in plan.bars]))
    return notes_preview(rows[:, :4] * [sixteenth, sixteenth, 1.0, 1.0])


def _runs(plan: MusicPlan, forced: Forced) -> list[tuple[int, int]]:
    """Stretches of bars written in one go: phrases, cut where kept bars begin or end."""
    runs: list[tuple[int, int]] = []
    for index, bar in enumerate(plan.bars):
        if index in forced.kept:
            continue
        joined = runs and runs[-1][1] == index and plan.bars[index - 1].phrase == bar.phrase
        closes = index == len(plan.bars) - 1 and plan.ending == "cadence"  # it must know the tune before it
        if joined and index - runs[-1][0] < _RUN and not closes:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


class _Work:
    """The bars of one piece while it is written."""

    def __init__(self, composer: Composer, plan: MusicPlan, forced: Forced, seed: int) -> None:
        self.plan, self.forced, self.seed, self.options = plan, forced, seed, composer.options
        self.writer = composer.writer
        self.table = bar_table(plan, composer.scale)
        self.chords = canonical_chords(plan)
        self.judge = Judge(plan, composer.scale)
        self.bars: dict[int, np.ndarray] = dict(forced.kept)
        self.written = self.words = 0

    def write(self, first: int, last: int) -> None:
        """Fill bars `first` .. `last - 1`: bring back what returns unchanged, write the rest."""
        index = first
        while index < last:
            if self._returns(index):
                self.bars[index] = self._brought_back(index)
                index += 1
                continue
            end = index + 1
            while end < last and not self._returns(end):
                end += 1
            self._compose(index, end)
            index = end

    def _returns(self, index: int) -> bool:
        """Whether a bar brings back an earlier one note for note."""
        bar = self.plan.bars[index]
        source = bar.repeats
        if source is None or bar.alike < 4 or source not in self.bars or index in self.forced.onsets:
            return False
        if not (self.chords[index] == self.chords[source]).all() or index - source < 2:
            return False
        # a section's third bar is written anew under its tune: repetition with variation
        varied = (index - source) % 4 == 0 and self._place(index) >= 2
        return not varied and bar_feeling_distance(bar, self.plan.bars[source]) < _SAME_FEELING

    def _place(self, index: int) -> int:
        """How many bars of its phrase come before a bar."""
        first = index
        while first > 0 and self.plan.bars[first - 1].phrase == self.plan.bars[index].phrase:
            first -= 1
        return index - first

    def _brought_back(self, index: int) -> np.ndarray:
        words = self.bars[self.plan.bars[index].repeats or 0].copy()
        words[:, 1] = index
        return words

    def _compose(self, first: int, last: int) -> None:
        context, segment = self._context(first, last)
        rules = [self._rule(index) for index in range(first, last)]
        seeds = [[self.seed, 11, first, version] for version in range(self.options.candidates)]
        versions, at_once = list[Written](), together(len(seeds))
        for begin in range(0, len(seeds), at_once):
            versions += self.writer(
                context, segment, self.table, rules,
                first_bar=first, seeds=seeds[begin : begin + at_once], options=self.options,
            )  # fmt: skip
        self.words += sum(len(version.words) for version in versions)
        earlier = [self.bars[index] for index in (first - 2, first - 1) if index in self.bars]
        best = min(versions, key=lambda each: self.judge.cost(each, first, last, earlier))
        for index in range(first, last):
            words = best.words[best.words[:, 1] == index]
            if index == len(self.plan.bars) - 1 and self.plan.ending == "cadence":
                words = self._closed(words, index)
            self.bars[index] = words
        self.written += last - first

    def _context(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The words to read before writing: what is brought back if it is far, what came just before, what follows."""
        recent = [index for index in range(max(first - _RECENT_BARS, 0), first) if index in self.bars]
        after = [index for index in range(last, min(last + 4, len(self.plan.bars))) if index in self.bars]
        parts: list[tuple[np.ndarray, int]] = []
        sources = [self.plan.bars[index].repeats for index in range(first, last)]
        far = sorted(
            {s for s in sources if s is not None and s in self.bars and s not in recent and s < first}
        )
        closing: list[np.ndarray] = []
        if self.plan.ending == "loop" and last == len(self.plan.bars) and first > 0:
            for index in range(min(2, first)):
                words = self.bars[index].copy()
                words[:, 1] = last + index
                closing.append(words)
        gap = bool(after or closing)
        room = _CONTEXT_WORDS
        for index in reversed(recent):
            if len(self.bars[index]) > room:
                break
            room -= len(self.bars[index])
            parts.insert(0, (self.bars[index], 1 if gap else 0))
        head = [self.bars[index] for index in far]
        while head and sum(map(len, head)) > room:
            head.pop(0)
        parts = [(words, 1) for words in head] + parts
        parts += [(self.bars[index], 2) for index in after] + [(words, 2) for words in closing]
        if not parts:
            return np.zeros((0, 6), np.int64), np.zeros(0, np.int64)
        return (
            np.concatenate([words for words, _ in parts]).astype(np.int64),
            np.concatenate([np.full(len(words), segment) for words, segment in parts]),
        )

    def _rule(self, index: int) -> BarRule:
        plan, bar = self.plan, self.plan.bars[index]
        final = index == len(plan.bars) - 1
        steps = plan.steps
        pitches = {
            position: scale_classes(int(self.chords[index, position * 4 // steps]))
            for position in range(steps)
        }
        shift = plan.shift
        tune = (_TUNE[0] - LOWEST + 1 - shift, _TUNE[1] - LOWEST + 1 - shift)
        rule = BarRule(
            steps=steps,
            onsets=self.forced.onsets.get(index),
            melody=self._melody(index, bar),
            lowest=_LOWEST - LOWEST + 1 - shift,
            highest=min((_BELOW_TUNE if bar.melody else _HIGHEST) - LOWEST + 1 - shift, SIZES["pitch"] - 1),
            tune=tune,
            room=steps if final else None,
            need_start=bar.alike == 0 and index not in self.forced.onsets,
            valence=float(valence_at(np.array(bar.faders.get("mode", 4.0)))),
            pitches=pitches,
        )
        if final and plan.ending == "cadence" and len(plan.bars) > 1 and index not in self.forced.onsets:
            return self._closing_rule(rule, index)
        return rule

    def _melody(self, index: int, bar: BarPlan) -> Mapping[int, tuple[int, int]] | None:
        """The tune a bar must carry: prescribed, or that of the bar it brings back, bent to its own chords."""
        if index in self.forced.melody:
            return self.forced.melody[index]
        if not bar.melody:
            return {}
        if bar.repeats is None or bar.alike < 4 or bar.repeats not in self.bars:
            return None
        tune: dict[int, tuple[int, int]] = {}
        for word in self.bars[bar.repeats]:
            if word[0] == MELODY:
                fits = scale_classes(int(self.chords[index, int(word[2]) * 4 // self.plan.steps]))
                pitch = int(word[3]) if (int(word[3]) + LOWEST - 1) % 12 in fits else 0
                tune[int(word[2])] = (pitch, int(word[4]))
        return tune

    def _closing_rule(self, rule: BarRule, index: int) -> BarRule:
        """One chord on the first beat, the tune on its tonic, held to the end."""
        chord = int(self.chords[index, 0])
        tones = chord_classes_of(chord) or scale_classes(chord)
        last = self._last_tune(index)
        low, high = rule.tune
        tonic = max(chord_root(chord), 0)
        choices = [p for p in range(low, high + 1) if (p + LOWEST - 1) % 12 == tonic]
        pitch = min(choices, key=lambda p: abs(p - last))
        whole = int(np.flatnonzero(rule.steps >= LENGTHS)[-1])
        return BarRule(
            steps=rule.steps,
            onsets=frozenset((0,)),
            melody={0: (pitch, whole)} if self.plan.bars[index].melody else {},
            lowest=rule.lowest,
            highest=rule.highest,
            tune=rule.tune,
            room=rule.steps,
            need_start=True,
            pitches={0: tones},
        )

    def _last_tune(self, index: int) -> int:
        for before in range(index - 1, -1, -1):
            if before in self.bars:
                sung = self.bars[before][self.bars[before][:, 0] == MELODY]
                if len(sung):
                    return int(sung[-1, 3])
        return 72 - LOWEST + 1

    def _closed(self, words: np.ndarray, index: int) -> np.ndarray:
        """The last bar with every note held to its end, over the root of its chord in the bass."""
        notes = words[:, 0] >= MELODY
        chord = int(self.chords[index, 0])
        if index == 0 or not notes.any() or chord_root(chord) < 0:
            return words
        whole = int(np.flatnonzero(self.plan.steps >= LENGTHS)[-1])
        sounding = words[:, 3] + LOWEST - 1 + self.plan.shift
        words = words[~notes | (sounding > _FINAL_BASS[1] + 3)].copy()
        notes = words[:, 0] >= MELODY
        words[notes, 4] = whole
        root = (chord_root(chord) + self.plan.shift) % 12
        bass = next(pitch for pitch in range(_FINAL_BASS[0], _FINAL_BASS[1] + 1) if pitch % 12 == root)
        loud = int(np.median(words[notes, 5])) if notes.any() else 12
        pitches = {int(pitch) for pitch in words[notes, 3]}
        top = max(pitches, default=SIZES["pitch"])
        inner = {  # the tones of the chord that would be missing, about middle C
            pitch
            for tone in sorted(chord_classes_of(chord))
            for pitch in range(_FINAL_INNER - LOWEST + 1 - self.plan.shift, top)
            if (pitch + LOWEST - 1) % 12 == tone
            and pitch < _FINAL_INNER + 13 - LOWEST - self.plan.shift
            and all((pitch - other) % 12 for other in pitches - {top})
        }
        added = [
            *sorted(inner, reverse=True)[: max(4 - len(pitches), 0)],
            bass - LOWEST + 1 - self.plan.shift,
        ]
        rows = [[NOTE, index, 0, pitch, whole, max(loud - 2, 1)] for pitch in added]
        return np.concatenate([words, np.array(rows, words.dtype)])


def note_rows(bars: Sequence[np.ndarray], steps: int) -> Float64[np.ndarray, "note 6"]:
    """All notes: step in the piece, sixteenths, pitch in C, velocity, 1 for the tune, bar.

    A pitch ends where it begins again, and nothing lasts past the end.
    """
    words = np.concatenate(bars).astype(np.int64)
    notes = words[words[:, 0] >= MELODY]
    start = notes[:, 1] * steps + notes[:, 2]
    length = LENGTHS[notes[:, 4]]
    pitch = notes[:, 3] + LOWEST - 1
    order = np.lexsort((start, pitch))
    start, length, pitch, notes = start[order], length[order], pitch[order], notes[order]
    same = np.append(np.diff(pitch) == 0, False)
    gap = np.where(same, np.append(np.diff(start), 0), np.iinfo(np.int64).max)
    keep = gap > 0
    length = np.minimum(np.minimum(length, gap), len(bars) * steps - start)
    velocity = 20 + 4 * (notes[:, 5] - 1)
    rows = np.stack([start, length, pitch, velocity, notes[:, 0] == MELODY, notes[:, 1]], axis=1)[keep]
    return rows[np.lexsort((-rows[:, 2], rows[:, 0]))].astype(np.float64)
