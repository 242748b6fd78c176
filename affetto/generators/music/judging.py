"""Which of several versions of a passage stays: how near it comes to what was asked, and how well the tune sings."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from scipy.ndimage import correlate1d

from affetto.generators.music.composer_data import FaderScale
from affetto.generators.music.composer_net import FADERS
from affetto.generators.music.form import MusicPlan, valence_at
from affetto.generators.music.grammar import LENGTHS, LOWEST, MELODY
from affetto.generators.music.sampling import Written
from affetto.media.music import attributes_of, mode_valence
from affetto.tokenizers.attributes import KEY_NEAR

_ASKED, _FELT = 3.0, 0.25  # cost of a fader level missed: one that was named, one that the emotion implies
_VAD = np.array([3.0, 2.0, 0.4])
_COLOUR = 2.0
_BESIDE = 0.3  # of what the emotion weighs where a fader was named, which may well ask for the contrary
_LEAP, _LIKELY, _MUTE, _STUCK = 0.4, 0.3, 0.3, 0.8
_TUNE_NOTES = (
    3.4,
    2.2,
)  # a bar's tune has this many notes at least, and so many more for each unit of arousal
_REPEATED = 0.35  # share of the tune's moves that may stay on the same note


class Judge:
    """Puts a cost on versions of a passage; the lowest is best."""

    def __init__(self, plan: MusicPlan, scale: FaderScale) -> None:
        self.plan, self.scale = plan, scale

    def cost(
        self, version: Written, first: int, last: int, earlier: Sequence[Int64[np.ndarray, "_ 6"]]
    ) -> float:
        """Distance from the emotion and the faders, leaps and standstill of the tune, and unlikely words.

        `earlier` are the words (word, 6) of the bars just before, the last of which has the tune's last note.
        """
        bars = self.plan.bars[first:last]
        notes = passage_notes(version.words, self.plan, first)
        seconds = float(self.plan.bar_seconds[first:last].sum())
        found = attributes_of(notes, seconds)
        if found is None:
            return 1e9
        wanted = np.mean([bar.vad for bar in bars], axis=0)
        told = bars[0].told
        total = (_BESIDE if told else 1.0) * float(_VAD @ np.abs(found.vad() - wanted))
        colour = _BESIDE if told and "mode" not in told else 1.0
        total += colour * _COLOUR * self._off_colour(version, first, earlier)
        levels = self.scale.position(
            fader_values(notes, version.words, found.major, seconds, self.plan.steps, last - first)
        )
        for index, name in enumerate(FADERS):
            asked = np.mean([bar.faders.get(name, 4.0) for bar in bars])
            weight = _ASKED if name in told else _FELT
            total += weight * abs(float(levels[index]) - float(asked)) / 4.0
        if any(bar.melody for bar in bars):
            sung = float((version.words[:, 0] == MELODY).sum()) / len(bars)
            total += _MUTE * max(_TUNE_NOTES[0] + _TUNE_NOTES[1] * float(wanted[1]) - sung, 0.0)
        line = tune_moves(version.words, earlier[-1] if len(earlier) else None)
        if len(line):
            total += _LEAP * float(np.maximum(np.abs(line) - 7, 0).mean())
            total += _STUCK * max(float((line == 0).mean()) - _REPEATED, 0.0)
        return total - _LIKELY * version.log_likelihood

    def _off_colour(self, version: Written, first: int, earlier: Sequence[Int64[np.ndarray, "_ 6"]]) -> float:
        """How far the mode of bars is on average from the valence it should give, each heard among its neighbours."""
        words = np.concatenate([*earlier, version.words])
        notes = words[words[:, 0] >= MELODY]
        bar = notes[:, 1] - (first - len(earlier))
        classes = (notes[:, 3] + LOWEST - 1) % 12
        heard = np.bincount(bar * 12 + classes, LENGTHS[notes[:, 4]], minlength=12 * int(bar.max() + 1))
        found = mode_valence(correlate1d(heard.reshape(-1, 12), KEY_NEAR, axis=0, mode="constant"))[
            len(earlier) :
        ]
        levels = np.array([bar.faders.get("mode", 4.0) for bar in self.plan.bars[first : first + len(found)]])
        return float(np.abs(found - valence_at(levels)).mean())


def passage_notes(
    words: Int64[np.ndarray, "word 6"], plan: MusicPlan, first: int
) -> Float64[np.ndarray, "note 4"]:
    """Start and duration in seconds, sounding pitch, velocity of the notes of a passage that begins with bar `first`."""
    notes = words[words[:, 0] >= MELODY]
    step = np.array([60.0 / bar.bpm / 4 for bar in plan.bars])[notes[:, 1]]
    begin = (plan.starts - plan.starts[first])[notes[:, 1]]
    columns = (
        begin + notes[:, 2] * step,
        LENGTHS[notes[:, 4]] * step,
        notes[:, 3] + LOWEST - 1 + plan.shift,
        20 + 4 * (notes[:, 5] - 1),
    )
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def fader_values(
    notes: Float64[np.ndarray, "note 4"],
    words: Int64[np.ndarray, "word 6"],
    major: float,
    seconds: float,
    steps: int,
    bars: int,
) -> Float64[np.ndarray, "6"]:
    """The attributes behind the faders, in their order, of a whole passage."""
    sounding = words[words[:, 0] >= MELODY]
    onsets = len(np.unique(sounding[:, 1] * 64 + sounding[:, 2]))
    return np.array(
        [
            onsets / (steps * bars),
            len(notes) / seconds,
            len(notes) / max(onsets, 1),
            notes[:, 2].mean(),
            notes[:, 3].mean(),
            major,
        ]
    )


def tune_moves(
    words: Int64[np.ndarray, "word 6"], before: Int64[np.ndarray, "earlier 6"] | None
) -> Int64[np.ndarray, "move"]:
    """The intervals of the tune in semitones, the first from the last note of the bar before."""
    sung = words[words[:, 0] == MELODY, 3]
    if before is not None:
        sung = np.concatenate([before[before[:, 0] == MELODY, 3][-1:], sung])
    return np.diff(sung)
