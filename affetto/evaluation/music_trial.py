"""The pieces a bench of the composer listens to: requests for every quadrant, fader sweeps, courses, and a rule baseline."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from affetto.evaluation.music_sets import QUADRANTS
from affetto.generators.music.composer_net import FADERS
from affetto.generators.music.pipeline import MusicComposer, MusicPiece
from affetto.media.midi import NOTE, Score, note_array
from affetto.media.music import KEYS

SECONDS = 24.0
REQUESTS = {
    1: ("happy", "excited", "vad(0.6,0.6,0.3)"),
    2: ("angry", "fear", "vad(-0.6,0.6,0.3)"),
    3: ("sad", "bored", "vad(-0.6,-0.6,-0.3)"),
    4: ("relaxed", "calm", "vad(0.5,-0.6,-0.1)"),
}
"""What is asked for in each quadrant, in turns."""
LEVELS = (0.0, 2.0, 4.0, 6.0, 8.0)
COURSES = (
    "0:sad; 12:excited; 24:relaxed",
    "0:vad(0.7,-0.6,0); 24:vad(-0.7,0.6,0)",
    "0:vad(-0.7,-0.6,0); 12:vad(0.6,-0.6,0); 24:vad(0.6,0.6,0)",
    "0:angry; 12:calm; 24:happy",
)
_LOUDER, _FASTER = 14, 1.25  # what the rules do for high arousal, and undo for low
_RAISED = {3: 4, 8: 9, 10: 11}  # degrees of minor -> major, semitones above the tonic
_LOWERED = {high: low for low, high in _RAISED.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A piece and what was asked for."""

    quadrant: int
    request: str | None
    piece: MusicPiece


class Trial:
    """Composes what the bench needs, once, and remembers it."""

    def __init__(
        self,
        composer: MusicComposer,
        *,
        per_quadrant: int = 9,
        sweeps: int = 8,
        sweep_bars: int = 5,
        varied: int = 12,
        seconds: float = SECONDS,
        seed: int = 0,
        tick: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.composer, self.seed, self.tick = composer, seed, tick
        self.per_quadrant, self.seconds = per_quadrant, seconds
        self.sweeps, self.sweep_bars, self.clips = sweeps, sweep_bars, varied
        self.made: list[tuple[MusicPiece, float | None, int | None]] = []
        """Every piece, with the seconds or the bars that were asked for."""

    def compose(
        self, emotion: str | None, *, seconds: float | None = None, bars: int | None = None, **options: object
    ) -> MusicPiece:
        """One piece, remembered."""
        piece = self.composer(emotion, seconds=seconds, bars=bars, **options)  # pyright: ignore[reportArgumentType]
        self.made.append((piece, seconds, bars))
        self.tick(str(emotion))
        return piece

    @cached_property
    def asked(self) -> list[Asked]:
        """Pieces for every quadrant."""
        return [
            Asked(
                quadrant=quadrant,
                request=(request := requests[index % len(requests)]),
                piece=self.compose(
                    request, seconds=self.seconds, seed=1000 * self.seed + 40 * quadrant + index
                ),
            )
            for quadrant, requests in REQUESTS.items()
            for index in range(self.per_quadrant)
        ]

    @property
    def quadrants(self) -> Int64[np.ndarray, "clip"]:
        """What was asked of each piece in `asked`, and of each in `ruled`."""
        return np.repeat(np.arange(1, 5), self.per_quadrant)

    @cached_property
    def ruled(self) -> list[Score]:
        """Neutral pieces edited by rules toward every quadrant, in the order of `asked`."""
        neutral = [
            self.compose(None, seconds=self.seconds, seed=1000 * self.seed + index)
            for index in range(self.per_quadrant)
        ]
        return [by_rules(piece.score, piece.plan.key, quadrant) for quadrant in REQUESTS for piece in neutral]

    @cached_property
    def swept(self) -> dict[str, Float64[np.ndarray, "piece level attribute"]]:
        """For each fader, the attributes behind all faders of neutral pieces at its levels; the held last bar left out."""
        found: dict[str, Float64[np.ndarray, "piece level attribute"]] = {}
        for name in FADERS:
            rows = np.zeros((self.sweeps, len(LEVELS), len(FADERS)))
            for take in range(self.sweeps):
                for column, level in enumerate(LEVELS):
                    piece = self.compose(
                        None, bars=self.sweep_bars, seed=1000 * self.seed + take, faders={name: level}
                    )
                    rows[take, column] = fader_attributes(piece)
            found[name] = rows
        return found

    @cached_property
    def courses(self) -> list[Float64[np.ndarray, "bar 7"]]:
        """Emotion curves (`MusicPiece.emotion_curve`) of pieces whose emotion changes; the held last bar left out."""
        return [
            self.compose(course, seconds=1.25 * self.seconds, seed=1000 * self.seed + index).emotion_curve()[
                :-1
            ]
            for index, course in enumerate(COURSES)
        ]

    def vary(self) -> None:
        """Short pieces of other metres, endings and instruments, for the readers."""
        moods = [request for requests in REQUESTS.values() for request in requests]
        for index in range(self.clips):
            rng = np.random.default_rng([self.seed, index])
            self.compose(
                moods[index % len(moods)],
                seconds=float(rng.uniform(4.0, 12.0)),
                seed=index,
                metre=("4/4", "3/4", "2/4")[index % 3],
                loop=index % 4 == 0,
                ensemble="ensemble" if index % 2 else "piano",
            )


def fader_attributes(piece: MusicPiece) -> Float64[np.ndarray, "6"]:
    """What each fader should move, measured on the notes."""
    found = piece.attributes()
    columns = ["major" if name == "mode" else name for name in FADERS]
    return np.array([getattr(found, name)[: len(piece.plan.bars) - 1].mean() for name in columns], np.float64)


def by_rules(score: Score, key: str, quadrant: int) -> Score:
    """A piece with its mode turned, and its loudness, tempo and density moved, as a quadrant asks; nothing learned."""
    valence, arousal = QUADRANTS[quadrant - 1]
    tonic = KEYS.index(key) % 12
    notes = score.notes.copy()
    table = _RAISED if valence > 0 else _LOWERED
    degrees = (notes["pitch"].astype(np.int64) - tonic) % 12
    notes["pitch"] += np.array([table.get(int(each), int(each)) - int(each) for each in degrees], np.int16)
    notes["velocity"] = np.clip(notes["velocity"] + _LOUDER * arousal, 20, 124)
    notes = _denser(notes) if arousal > 0 else _thinner(notes)
    pace = _FASTER if arousal > 0 else 1.0 / _FASTER
    return replace(
        score, notes=note_array(notes), tempos=tuple((beat, bpm * pace) for beat, bpm in score.tempos)
    )


def _denser(notes: np.ndarray) -> np.ndarray:
    """Every note of a quarter or more struck again at its half."""
    long = notes["duration"] >= 1.0
    again = np.zeros(int(long.sum()), NOTE)
    again[:] = notes[long]
    again["duration"] /= 2.0
    again["start"] += again["duration"]
    first = notes.copy()
    first["duration"][long] /= 2.0
    return np.concatenate([first, again])


def _thinner(notes: np.ndarray) -> np.ndarray:
    """Only what begins on a quarter, held half as long again."""
    kept = notes[np.abs(notes["start"] - np.round(notes["start"])) < 1e-6].copy()
    kept["duration"] *= 1.5
    return kept if len(kept) > 4 else notes
