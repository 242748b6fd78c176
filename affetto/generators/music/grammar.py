"""What a composed word may be: its columns, and which word may follow which.

A word is one line of the compound stream, in the manner of MusER: END closes a piece or an infilled gap, BAR opens a
bar, BEAT moves to one of its sixteenths, MELODY and NOTE sound there. Key, chord and tempo are not in the words: the
plan of the piece holds them (affetto.generators.music.form). Every word carries its bar and position, so that a
network knows where it stands however the words are ordered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int

from affetto.tokenizers.vocabulary import EMBEDDED, STEPS_PER_BEAT

END, BAR, BEAT, MELODY, NOTE = range(5)
FAMILIES = ("end", "bar", "beat", "melody", "note")
COLUMNS = ("family", "bar", "position", "pitch", "duration", "velocity")
FAMILY, BAR_INDEX, POSITION, PITCH, DURATION, VELOCITY = range(6)

MAX_STEPS = 24
"""Sixteenths in the longest bar there is a place for; 4/4 has 16."""
LOWEST, HIGHEST = EMBEDDED.pitches[0], EMBEDDED.pitches[-1]
LENGTHS = np.array([0, *EMBEDDED.durations])
"""Sixteenths by duration id; 0 = none."""
SIZES = {
    "family": len(FAMILIES),
    "position": MAX_STEPS,
    "pitch": 1 + len(EMBEDDED.pitches),  # 0 = none
    "duration": len(LENGTHS),
    "velocity": 1 + len(EMBEDDED.velocities),
}
MAX_TOGETHER = 10  # fingers


@dataclass(frozen=True, kw_only=True)
class BarRule:
    """What one bar must obey: its length, and onsets, melody or ranges when these are prescribed.

    `melody` maps a position to (pitch id, duration id), 0 leaving either free; `onsets` are the only positions at which
    something may begin.
    """

    steps: int = 4 * STEPS_PER_BEAT
    onsets: frozenset[int] | None = None
    melody: Mapping[int, tuple[int, int]] | None = None
    lowest: int = 1
    highest: int = SIZES["pitch"] - 1
    tune: tuple[int, int] = (1, SIZES["pitch"] - 1)  # the lowest and highest pitch id of the melody
    room: int | None = None  # sixteenths from the bar's start within which every note must end
    need_start: bool = True  # something must begin on the first beat
    max_beats: int = MAX_STEPS
    valence: float = 0.0  # what the mode of the bar should add to its valence; a wish, not a rule
    pitches: Mapping[int, frozenset[int]] = field(
        default_factory=dict
    )  # position -> pitch classes allowed there


class BarState:
    """Where one bar stands while it is written, and what may come next."""

    def __init__(self, rule: BarRule) -> None:
        self.rule = rule
        self.position = -1
        self.last_pitch = SIZES["pitch"]  # notes that sound together are written from the top down
        self.together = 0
        self.beats = 0
        self.owes_melody = False

    def families(self) -> Bool[np.ndarray, "5"]:
        """Which families may follow; BAR stands for the end of this bar."""
        allowed = np.zeros(5, bool)
        at_beat = self.position >= 0
        if at_beat and self.owes_melody:
            allowed[MELODY] = True
            return allowed
        if at_beat and self.together < MAX_TOGETHER and self.pitches(NOTE).any():
            allowed[NOTE] = True
            # one voice, and the highest of what begins with it
            allowed[MELODY] = self.rule.melody is None and self.together == 0 and self.pitches(MELODY).any()
        if at_beat and self.together == 0:
            return allowed  # a beat must sound
        positions = self.positions()
        owed = self.rule.onsets is not None and bool(positions.any())
        waiting = self.rule.melody is not None and any(p > self.position for p in self.rule.melody)
        allowed[BEAT] = positions.any() and (self.beats < self.rule.max_beats or owed or waiting)
        empty = self.position < 0 and self.rule.need_start
        allowed[BAR] = not (owed or waiting or empty)
        return allowed

    def positions(self) -> Bool[np.ndarray, "24"]:
        """At which sixteenths the next beat may stand."""
        allowed = np.zeros(MAX_STEPS, bool)
        allowed[self.position + 1 : self.rule.steps] = True
        must: list[int] = []
        if self.rule.onsets is not None:
            allowed &= np.isin(np.arange(MAX_STEPS), list(self.rule.onsets))
            must += [p for p in self.rule.onsets if p > self.position]
        if self.rule.melody is not None:
            must += [p for p in self.rule.melody if p > self.position]
            allowed[[p for p in self.rule.melody if self.position < p < self.rule.steps]] = True
        if self.position < 0 and self.rule.need_start and not must:
            must = [0]
        if must:
            allowed[min(must) + 1 :] = False
        return allowed

    def pitches(self, family: int) -> Bool[np.ndarray, "pitch"]:
        """Which pitches the next note here may have."""
        allowed = np.zeros(SIZES["pitch"], bool)
        asked = self._asked(family)[0]
        if asked:
            allowed[asked] = True
            return allowed
        low, high = self.rule.tune if family == MELODY else (self.rule.lowest, self.rule.highest)
        allowed[low : min(self.last_pitch, high + 1)] = True
        classes = self.rule.pitches.get(self.position)
        if classes is not None:
            allowed &= np.isin((np.arange(SIZES["pitch"]) + LOWEST - 1) % 12, list(classes))
        return allowed

    def durations(self, family: int) -> Bool[np.ndarray, "duration"]:
        """How long the next note here may last."""
        allowed = np.zeros(SIZES["duration"], bool)
        asked = self._asked(family)[1]
        if asked:
            allowed[asked] = True
            return allowed
        room = self.rule.room if self.rule.room is not None else LENGTHS[-1]
        allowed[1:] = LENGTHS[1:] <= room - max(self.position, 0) * (self.rule.room is not None)
        return allowed

    def _asked(self, family: int) -> tuple[int, int]:
        if family == MELODY and self.owes_melody and self.rule.melody is not None:
            return self.rule.melody[self.position]
        return 0, 0

    def advance(self, word: Sequence[int] | Int[np.ndarray, "6"]) -> None:
        """Take one written word into account."""
        family = int(word[FAMILY])
        if family == BEAT:
            self.position = int(word[POSITION])
            self.last_pitch = SIZES["pitch"]
            self.together = 0
            self.beats += 1
            self.owes_melody = self.rule.melody is not None and self.position in self.rule.melody
        elif family in (MELODY, NOTE):
            self.last_pitch = int(word[PITCH])
            self.together += 1
            if family == MELODY:
                self.owes_melody = False


def check_words(words: Int[np.ndarray, "word 6"], rules: Sequence[BarRule], *, first_bar: int = 0) -> None:
    """Raise ValueError unless `words` are whole bars that obey their rules, from `first_bar` on."""
    bar, state = first_bar - 1, None
    for index, word in enumerate(words):
        family = int(word[FAMILY])
        if family in (BAR, END):
            if state is not None and not state.families()[BAR]:
                raise ValueError(f"word {index}: bar {bar} may not end here")
            if family == END:
                state = None
                continue
            bar += 1
            state = BarState(rules[bar - first_bar])
            continue
        if state is None or not state.families()[family]:
            raise ValueError(f"word {index}: {FAMILIES[family]} may not stand here")
        if family == BEAT and not state.positions()[int(word[POSITION])]:
            raise ValueError(f"word {index}: no beat may stand at {word[POSITION]}")
        if family in (MELODY, NOTE):
            allowed = state.pitches(family)[int(word[PITCH])] and state.durations(family)[int(word[DURATION])]
            if not allowed or not 1 <= word[VELOCITY] < SIZES["velocity"]:
                raise ValueError(f"word {index}: no such note may stand here")
        state.advance(word)
