"""MusER's and EMOPIA's word ids, which sort the names of events as text, and ours, which sort what they mean.

Tempo 101 comes before tempo 32 there. The tables are rebuilt from the names; a published `dictionary.pkl` can be read
instead. (MusER: arXiv 2312.10307; EMOPIA: arXiv 2108.01374.)
"""

import dataclasses
import pickle
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16, Int64

from affetto.media.files import checked_size
from affetto.media.midi import Score
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.compound import Words, encode
from affetto.tokenizers.vocabulary import FAMILY, METRICAL, NO_CHORD, POSITION, Vocabulary, chord_name

COLUMN_NAMES = ("tempo", "chord", "bar-beat", "type", "pitch", "duration", "velocity", "emotion")  # theirs
TICKS_PER_STEP = 120
# every third tempo from 32, as far as the music of Pop1K7 and EMOPIA has it
_NO_TEMPO = (152, 164, 173, 179, 185, 191, 197, 203, 209, 212, 218)
MUSER = Vocabulary(
    tempos=tuple(bpm for bpm in range(32, 225, 3) if bpm not in _NO_TEMPO),
    pitches=tuple(range(22, 108)),
    durations=tuple(range(17)),  # 0 is a note shorter than half a sixteenth
    velocities=tuple(range(40, 121, 2)),
    meters=((4, 4),),
)
"""Their fields in our order of ids: sizes 56, 135, 18, 4, 87, 18, 42, 5."""

Name = str | int


def event_names() -> tuple[tuple[Name, ...], ...]:
    """For each column the name MusER gives to what our ids mean."""
    return (
        (0, "CONTI", *(f"Tempo_{bpm}" for bpm in MUSER.tempos)),
        (0, "CONTI", *(chord_name(index) for index in range(NO_CHORD, MUSER.sizes[1]))),
        (0, "Bar", *(f"Beat_{step}" for step in range(MUSER.most_steps))),
        ("EOS", "Emotion", "Metrical", "Note"),
        (0, *(f"Note_Pitch_{pitch}" for pitch in MUSER.pitches)),
        (0, *(f"Note_Duration_{steps * TICKS_PER_STEP}" for steps in MUSER.durations)),
        (0, *(f"Note_Velocity_{velocity}" for velocity in MUSER.velocities)),
        tuple(range(1 + MUSER.quadrants)),
    )


@dataclass(frozen=True, kw_only=True)
class MuserTables:
    """The names behind MusER's ids, column by column in the order of their ids."""

    names: tuple[tuple[Name, ...], ...]

    @staticmethod
    def rebuilt() -> "MuserTables":
        """The tables by their rule: numbers first, then names as text. Velocities 40..120 are inferred, not published."""
        return MuserTables(
            names=tuple(
                tuple(sorted(column, key=lambda name: (not isinstance(name, int), name)))
                for column in event_names()
            )
        )

    @staticmethod
    def load(path: str | Path) -> "MuserTables":
        """The tables of a published `dictionary.pkl`; raises `InvalidInputError` for anything else."""
        path = Path(path)
        checked_size(path, 2**20, kind="dictionary")
        try:
            with path.open("rb") as file:
                _, word2event = _PlainUnpickler(file).load()
            names = tuple(
                tuple(word2event[column][index] for index in range(len(word2event[column])))
                for column in COLUMN_NAMES
            )
        except (
            pickle.UnpicklingError,
            EOFError,
            KeyError,
            ValueError,
            TypeError,
            IndexError,
            AttributeError,
        ) as error:
            raise InvalidInputError(
                f"{path}: no dictionary of compound words ({error}): name MusER's dictionary.pkl"
            ) from error
        for column, ours, theirs in zip(COLUMN_NAMES, event_names(), names, strict=True):
            strange = set(theirs) - set(ours)
            if strange:
                raise InvalidInputError(
                    f"{path}: column {column} knows {min(map(str, strange))}: name MusER's dictionary.pkl"
                )
        return MuserTables(names=names)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many ids each column has."""
        return tuple(len(column) for column in self.names)

    @cached_property
    def theirs(self) -> tuple[Int64[np.ndarray, "id"], ...]:
        """For each column their id of each of ours, -1 where they have none."""
        tables = []
        for ours, names in zip(event_names(), self.names, strict=True):
            known = {name: index for index, name in enumerate(names)}
            tables.append(np.array([known.get(name, -1) for name in ours], np.int64))
        return tuple(tables)

    @cached_property
    def ours(self) -> tuple[Int64[np.ndarray, "id"], ...]:
        """For each column our id of each of theirs."""
        tables = []
        for ours, names in zip(event_names(), self.names, strict=True):
            known = {name: index for index, name in enumerate(ours)}
            tables.append(np.array([known[name] for name in names], np.int64))
        return tuple(tables)

    def to_muser(self, words: Words) -> Int64[np.ndarray, "word 8"]:
        """Their ids of words in the `MUSER` vocabulary; an event their tables lack becomes its nearest neighbour."""
        assert words.vocabulary == MUSER, "encode with vocabulary=MUSER"
        columns = []
        for column, table in enumerate(self.theirs):
            known = np.flatnonzero(table >= 0)
            nearest = known[np.abs(np.arange(len(table))[:, None] - known[None]).argmin(axis=1)]
            columns.append(table[nearest][words.ids[:, column]])
        return np.stack(columns, axis=1)

    def from_muser(self, ids: Int64[np.ndarray, "word 8"]) -> Words:
        """The words behind their ids; raises `InvalidInputError` for an id their tables do not have."""
        for column, size in enumerate(self.sizes):
            if len(ids) and not 0 <= ids[:, column].min() <= ids[:, column].max() < size:
                raise InvalidInputError(f"column {COLUMN_NAMES[column]}: an id is outside 0..{size - 1}")
        ours = np.stack([table[ids[:, column]] for column, table in enumerate(self.ours)], axis=1)
        return Words(ids=ours.astype(np.int16), vocabulary=MUSER)


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries of text and numbers; anything with code behind it is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def encode_muser(score: Score, *, quadrant: int) -> Words:
    """A score as MusER reads it: an emotion word first, metre taken as 4/4, and an empty bar before the end."""
    words = encode(dataclasses.replace(score, meters=((0.0, 4, 4),)), vocabulary=MUSER, quadrant=quadrant)
    bar: Int16[np.ndarray, "1 8"] = np.zeros((1, 8), np.int16)
    bar[0, POSITION], bar[0, FAMILY] = 1, METRICAL
    return Words(ids=np.concatenate([words.ids[:-1], bar, words.ids[-1:]]), vocabulary=MUSER)
