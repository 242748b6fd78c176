"""Played music that composed music is judged by: EMOPIA's clips, counted in beats and written as our own words are.

EMOPIA (arXiv 2108.01374, CC BY-NC-SA 4.0) is read from the folder given to the bench and nothing made from it is kept.
"""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from affetto.generators.music.dataset import tune_groups
from affetto.media.midi import Score, parse_midi
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.tokenizers.beat_grid import on_beats
from affetto.tokenizers.beat_tracker import BeatTracker
from affetto.tokenizers.compound import decode, encode

ARCHIVE = "emopia_train_val.zip"
QUADRANTS = ((1, 1), (-1, 1), (-1, -1), (1, -1))
"""The signs of valence and arousal in quadrants 1 to 4."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledClip:
    """A clip of played piano music and the quadrant in which listeners put it."""

    name: str
    quadrant: int  # 1..4
    song: int  # clips of one song, or of two versions of it, share the number
    split: str  # official: train or val
    score: Score  # on the sixteenth grid


def as_written(score: Score) -> Score:
    """The score as it comes back from compound words: sixteenths, lengths of a bar at most, coarse velocities, no pedal."""
    return decode(encode(score))


def archive_in(data: Path) -> Path | None:
    """EMOPIA's archive in `data` or its folder `music`, or None when it is not there."""
    found = [folder / ARCHIVE for folder in (data, data / "music") if (folder / ARCHIVE).is_file()]
    return found[0] if found else None


def read_emopia(archive: Path, *, progress: ProgressCallback | None = None) -> list[LabelledClip]:
    """All clips of the archive, on beats found by the embedded tracker; about a tenth of a second each."""
    with zipfile.ZipFile(archive) as files:
        try:
            rows = list(csv.DictReader(io.StringIO(files.read("labels.csv").decode())))
            entries = {Path(name).stem: name for name in files.namelist() if name.endswith(".mid")}
            rows = [row for row in rows if row["clip"] in entries]
        except KeyError as error:
            raise InvalidInputError(f"{archive}: holds no labels.csv with EMOPIA's columns") from error
        tracker = BeatTracker.from_pretrained("embedded", device="cpu")
        scores = []
        for done, row in enumerate(rows):
            if progress is not None and done % 50 == 0:
                progress(ProgressEvent(stage="EMOPIA", done=done, total=len(rows)))
            played = parse_midi(files.read(entries[row["clip"]]), name=row["clip"])
            scores.append(as_written(on_beats(played, tracker(played))))
    songs = song_numbers([row["youtube_id"] for row in rows], scores)
    return [
        LabelledClip(
            name=row["clip"],
            quadrant=int(row["quadrant"]),
            song=int(song),
            split=row["official_split"],
            score=score,
        )
        for row, song, score in zip(rows, songs, scores, strict=True)
    ]


def song_numbers(names: Sequence[str], scores: Sequence[Score]) -> Int64[np.ndarray, "clip"]:
    """A number for each clip, the same for clips of one name and for clips that share tunes."""
    tunes = tune_groups([encode(score) for score in scores])
    _, named = np.unique(np.array(names), return_inverse=True)
    count = len(names)
    links = []
    for groups in (tunes, named):
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        links.append(np.stack([np.arange(count), first[inverse]]))
    rows, columns = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
