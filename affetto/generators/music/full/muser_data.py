"""Labelled MIDI as MusER reads it: EMOPIA's layout, files `Q1_NAME.mid` .. `Q4_NAME.mid`, performances put on beats."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64

from affetto.generators.music.full.muser_composer import score_words
from affetto.generators.music.full.muser_weights import MuserIds
from affetto.media.midi import Score, load_midi
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.tokenizers.beat_grid import grid_error, on_beats
from affetto.tokenizers.beat_tracker import BeatTracker
from affetto.tokenizers.compound import Words
from affetto.tokenizers.muser_words import MUSER

_LABEL = re.compile(r"Q([1-4])[_-]", re.IGNORECASE)
_ON_GRID = (
    0.1  # sixteenths, the mean distance of onsets from the grid in music that was written, not performed
)


@dataclass(frozen=True, kw_only=True, eq=False)
class MuserClips:
    """Clips as inputs and targets in the network's ids: word n of `target` follows word n of `words`."""

    words: Int64[np.ndarray, "clip word 8"]
    target: Int64[np.ndarray, "clip word 8"]
    lengths: Int64[np.ndarray, "clip"]
    quadrants: Int64[np.ndarray, "clip"]

    def __len__(self) -> int:
        return len(self.lengths)


def labelled_files(data: str | Path) -> list[tuple[Path, int]]:
    """The MIDI files under `data` and their quadrants, sorted; raises InvalidInputError when there are none."""
    found = []
    for path in sorted(Path(data).rglob("*.mid*")):
        label = _LABEL.match(path.name)
        if label is not None and path.suffix.lower() in (".mid", ".midi"):
            found.append((path, int(label[1])))
    if not found:
        raise InvalidInputError(f"{data}: holds no files such as Q1_NAME.mid: name a folder of labelled MIDI")
    return found


def read_clips(
    data: str | Path,
    cache: Path,
    *,
    ids: MuserIds,
    length: int,
    progress: ProgressCallback | None = None,
) -> MuserClips:
    """All clips of at most `length` words, read once and kept in `cache`; those that cannot be read are left out."""
    files = labelled_files(data)
    names = [path.name for path, _ in files]
    held = _cached(cache, names)
    if held is None:
        held, tracker = [], None
        for index, (path, quadrant) in enumerate(files):
            score = load_midi(path)
            if len(score.pitched().notes) and grid_error(score.pitched()).mean() > _ON_GRID:
                tracker = tracker or BeatTracker.from_pretrained()
                score = _tracked(score, tracker)
            held.append(np.zeros((0, 8), np.int16) if score is None else _ids(score, quadrant))
            if progress is not None and index % 10 == 0:
                progress(ProgressEvent(stage="clips", done=index, total=len(files), message=path.name))
        _keep(cache, names, held)
    fitting = [each for each in held if 2 <= len(each) <= length + 1]
    if not fitting:
        raise InvalidInputError(f"{data}: no clip has 2..{length} words: give clips of half a minute")
    return as_clips([ids.to_network(Words(ids=each, vocabulary=MUSER)) for each in fitting], ids, length)


def as_clips(pieces: Sequence[Int64[np.ndarray, "_ 8"]], ids: MuserIds, length: int) -> MuserClips:
    """Pieces in the network's ids, emotion word first, as padded inputs and targets."""
    blank = np.array([ids.network_id(column, 0) for column in range(8)], np.int64)
    words = np.tile(blank, (len(pieces), length, 1))
    target = words.copy()
    for row, piece in enumerate(pieces):
        words[row, : len(piece) - 1], target[row, : len(piece) - 1] = piece[:-1], piece[1:]
    quadrants = np.array([int(ids.ours(7)[piece[0, 7]]) for piece in pieces], np.int64)
    lengths = np.array([len(piece) - 1 for piece in pieces], np.int64)
    return MuserClips(words=words, target=target, lengths=lengths, quadrants=quadrants)


def _tracked(score: Score, tracker: BeatTracker) -> Score | None:
    """The performance on beats; None when no beats are found in it."""
    try:
        return on_beats(score, tracker(score))
    except InvalidInputError:
        return None


def _ids(score: Score, quadrant: int) -> Int16[np.ndarray, "word 8"]:
    if len(score.pitched().notes) == 0:
        return np.zeros((0, 8), np.int16)
    return score_words(score, quadrant=quadrant).ids


def _cached(cache: Path, names: list[str]) -> list[np.ndarray] | None:
    if not cache.is_file():
        return None
    with np.load(cache, allow_pickle=False) as held:
        if held["names"].tolist() != names:
            return None
        ends = np.cumsum(held["counts"])
        return np.split(held["ids"], ends[:-1])


def _keep(cache: Path, names: list[str], held: list[np.ndarray]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(cache) as temporary, temporary.open("wb") as file:
        counts = np.array([len(each) for each in held], np.int64)
        np.savez_compressed(file, names=np.array(names), counts=counts, ids=np.concatenate(held))
