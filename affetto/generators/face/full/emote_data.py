"""Training data of EMOTE: recordings with FLAME curves and labels, listed in a table, cut into short pieces."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from affetto.generators.face.full.audio import RATE, normalised
from affetto.generators.face.full.emote import FPS
from affetto.generators.face.full.flame_curves import FlameCurves
from affetto.generators.face.full.style import EMOTIONS, label_row
from affetto.media.audio import load_audio
from affetto.runtime.errors import InvalidInputError

INDEX = "index.csv"
_COLUMNS = ("audio", "flame", "emotion", "level", "person")
_UNIT = round(RATE / FPS)


@dataclass(frozen=True, kw_only=True)
class EmoteClip:
    """One recording: sound and curves are read when they are needed."""

    audio: Path
    flame: Path
    emotion: str
    level: int
    person: str


def read_index(folder: str | Path) -> list[EmoteClip]:
    """The recordings that `index.csv` lists: audio, flame (.npz of `FlameCurves`), emotion, level 1..3, person.

    Paths are relative to the folder. Raises InvalidInputError with the line that is wrong.
    """
    path = Path(folder) / INDEX
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(
            f"{path}: cannot be read ({error}): write a table of {', '.join(_COLUMNS)}"
        ) from error
    if not rows or any(column not in rows[0] for column in _COLUMNS):
        raise InvalidInputError(f"{path}: needs the columns {', '.join(_COLUMNS)} and at least one row")
    return [_clip(path, number, row) for number, row in enumerate(rows, start=2)]


def _clip(path: Path, number: int, row: Mapping[str, str]) -> EmoteClip:
    where = f"{path}, line {number}"
    if row["emotion"] not in EMOTIONS:
        raise InvalidInputError(f"{where}: unknown emotion {row['emotion']!r}: use {', '.join(EMOTIONS)}")
    if row["level"] not in ("1", "2", "3"):
        raise InvalidInputError(f"{where}: level {row['level']!r} must be 1, 2 or 3")
    if not row["person"]:
        raise InvalidInputError(f"{where}: the person is missing: give a name")
    audio, flame = (path.parent / row[name] for name in ("audio", "flame"))
    for each in (audio, flame):
        if not each.is_file():
            raise InvalidInputError(f"{where}: no file {each}: check the path")
    return EmoteClip(
        audio=audio, flame=flame, emotion=row["emotion"], level=int(row["level"]), person=row["person"]
    )


class EmoteData:
    """Pieces of `frames` frames drawn from the recordings; sounds and curves already read are kept in memory."""

    def __init__(
        self, clips: Sequence[EmoteClip], people: Sequence[str], *, frames: int, expressions: int
    ) -> None:
        self.clips, self.people = list(clips), tuple(people)
        self._frames, self._expressions = frames, expressions
        self._read: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def piece(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Samples, motion, style (frame by frame) and labels of a random stretch of a recording; rest where it ends."""
        samples, motion = self._clip(index)
        start = int(rng.integers(0, max(len(motion) - self._frames, 0) + 1))
        stop = start + self._frames
        part, sound = motion[start:stop], samples[start * _UNIT : stop * _UNIT]
        part = np.pad(part, ((0, self._frames - len(part)), (0, 0)), mode="edge")
        sound = np.pad(sound, (0, self._frames * _UNIT - len(sound)))
        clip = self.clips[index]
        row = label_row(clip.emotion, clip.level, clip.person, self.people)
        labels = torch.tensor([EMOTIONS.index(clip.emotion), clip.level - 1])
        style = np.broadcast_to(row, (self._frames, len(row))).copy()
        return torch.from_numpy(sound), torch.from_numpy(part.copy()), torch.from_numpy(style), labels

    def batch(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """So many pieces: samples, motions, styles, labels."""
        rows = [self.piece(int(rng.integers(len(self.clips))), rng) for _ in range(size)]
        samples, motion, style, labels = (torch.stack(each) for each in zip(*rows, strict=True))
        return samples, motion, style, labels

    def _clip(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index not in self._read:
            clip = self.clips[index]
            samples = normalised(load_audio(clip.audio).resampled(RATE).mono())
            curves = FlameCurves.load(clip.flame).resampled(FPS)
            if curves.expression.shape[1] < self._expressions:
                raise InvalidInputError(
                    f"{clip.flame}: {curves.expression.shape[1]} expressions, but {self._expressions} are trained"
                )
            motion = np.concatenate([curves.expression[:, : self._expressions], curves.jaw], axis=1)
            self._read[index] = samples, motion.astype(np.float32)
        return self._read[index]


def derangement(size: int, rng: np.random.Generator) -> Tensor:
    """A permutation of 0..size-1 that leaves nothing in its place (a random cycle, Sattolo 1986); size 2 or more."""
    order = np.arange(size)
    for last in range(size - 1, 0, -1):
        other = int(rng.integers(last))
        order[[last, other]] = order[[other, last]]
    return torch.from_numpy(order)
