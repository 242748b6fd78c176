"""Whether a piece contains a tune of the music that was learned from: runs of twelve melody notes, looked up by hash.

A run is eleven intervals and the gaps between onsets, so that neither key nor tempo hides it. Runs that say nothing
(scales on one note, fewer than four different moves) are left out.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt32

from affetto.generators.music.songs import read_songs
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.tokenizers.compound import Words, encode
from affetto.tokenizers.vocabulary import PITCH
from affetto.weights.store import load_arrays, read_arrays, save_tensors

GRAM = 12
MAX_SHARE = 0.03
"""More of a piece's runs in one song than this is a copy (different songs share .4 %, at most .6 % for 95 of 100)."""
MAX_LONGEST = 24  # notes in a row
_FEW = 4  # runs that may be chance whatever their share
_DISTINCT = 4
WEIGHTS = "music-copycheck"


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """How much of a piece stands in the one song that holds most of it."""

    longest: int  # notes in a row that also stand in one song; 0 when fewer than twelve
    share: float  # of the piece's runs of twelve
    song: int | None  # which, in the order learned
    runs: int

    @property
    def copied(self) -> bool:
        """Whether that is too much."""
        return self.longest > MAX_LONGEST or (self.share > MAX_SHARE and self.share * self.runs > _FEW)


def melody_moves(
    steps: Int64[np.ndarray, "note"], pitch: Int64[np.ndarray, "note"]
) -> Int64[np.ndarray, "move"]:
    """Interval and gap from each highest note to the next as one number; notes come by step, the highest first."""
    top = np.diff(steps, prepend=-1) != 0
    return np.diff(pitch[top]) * 64 + np.minimum(np.diff(steps[top]), 63)


def gram_hashes(
    moves: Int64[np.ndarray, "move"],
) -> tuple[UInt32[np.ndarray, "run"], Int64[np.ndarray, "run"]]:
    """The hash of each telling run of twelve notes, and where it begins."""
    if len(moves) < GRAM - 1:
        return np.zeros(0, np.uint32), np.zeros(0, np.int64)
    runs = np.lib.stride_tricks.sliding_window_view(moves, GRAM - 1).astype(np.uint64)
    mixed = np.zeros(len(runs), np.uint64)
    for column in runs.T:  # FNV-1a, a move at a time
        mixed = (mixed ^ column) * np.uint64(0x100000001B3) + np.uint64(0x9E3779B97F4A7C15)
    ordered = np.sort(runs, axis=1)
    telling = (np.diff(ordered, axis=1) != 0).sum(axis=1) + 1 >= _DISTINCT
    return (mixed >> np.uint64(32)).astype(np.uint32)[telling], np.flatnonzero(telling)


@dataclass(frozen=True, kw_only=True, eq=False)
class CopyCheck:
    """The runs of all songs learned from, as sorted hashes with the song of each."""

    hashes: UInt32[np.ndarray, "run"]
    songs: np.ndarray  # (run,) uint16

    @classmethod
    def load(cls) -> "CopyCheck":
        """The shipped table."""
        arrays, _ = load_arrays(WEIGHTS)
        return cls(hashes=arrays["hashes"].view(np.uint32), songs=arrays["songs"].view(np.uint16))

    @classmethod
    def read(cls, path: Path) -> "CopyCheck":
        """A table from a file."""
        arrays, _ = read_arrays(path)
        return cls(hashes=arrays["hashes"].view(np.uint32), songs=arrays["songs"].view(np.uint16))

    @classmethod
    def of(cls, songs: Iterable[Words]) -> "CopyCheck":
        """The table of these songs."""
        pairs = []
        for index, words in enumerate(songs):
            hashes = np.unique(gram_hashes(words_moves(words))[0])
            pairs.append(hashes.astype(np.uint64) << np.uint64(16) | np.uint64(index))
        ordered = np.sort(np.concatenate([np.zeros(0, np.uint64), *pairs]))
        return cls(
            hashes=(ordered >> np.uint64(16)).astype(np.uint32),
            songs=(ordered & np.uint64(0xFFFF)).astype(np.uint16),
        )

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the table."""
        save_tensors(
            path, {"hashes": self.hashes.view(np.int32), "songs": self.songs.view(np.int16)}, metadata
        )

    def report(self, words: Words) -> CopyReport:
        """How much of a piece stands in one song."""
        hashes, places = gram_hashes(words_moves(words))
        first = np.searchsorted(self.hashes, hashes, side="left")
        last = np.searchsorted(self.hashes, hashes, side="right")
        found: dict[int, list[int]] = {}
        for place, a, b in zip(places.tolist(), first.tolist(), last.tolist(), strict=True):
            for song in set(self.songs[a:b].tolist()):
                found.setdefault(song, []).append(place)
        if not found:
            return CopyReport(longest=0, share=0.0, song=None, runs=len(hashes))
        song = max(found, key=lambda each: (len(found[each]), -each))
        longest = max(_longest(places_) for places_ in found.values())
        return CopyReport(longest=longest, share=len(found[song]) / len(hashes), song=song, runs=len(hashes))


def words_moves(words: Words) -> Int64[np.ndarray, "move"]:
    """The moves of the highest notes of a piece."""
    note = words.is_note
    return melody_moves(words.steps[note], words.ids[note, PITCH].astype(np.int64))


def _longest(places: list[int]) -> int:
    best = run = 1
    for before, after in itertools.pairwise(sorted(places)):
        run = run + 1 if after == before + 1 else 1
        best = max(best, run)
    return best + GRAM - 1


def train_copycheck(
    data: Path,
    output: Path,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> CopyReport:
    """Write the table of all songs in `data` to `output`; gives the report of an unheard scale, as a trial.

    Nothing is drawn: `seed` is recorded only.
    """

    def pieces() -> Iterable[Words]:
        for done, song in enumerate(read_songs(data)):
            if cancel is not None:
                cancel.check()
            if progress is not None and done % 50 == 0:
                progress(ProgressEvent(stage="songs", done=done, total=1291, message=song.name))
            yield encode(song.score)

    table = CopyCheck.of(pieces())
    table.save(output, {"seed": str(seed), "gram": str(GRAM)})
    return CopyReport(longest=0, share=0.0, song=None, runs=len(table.hashes))
