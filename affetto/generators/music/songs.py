"""The music the composer learns from: POP909 on its own beats, and Bach's chorales.

POP909 (MIT, 2020 Music X Lab) brings beats, bars and chords with each performance, its melody, bridge and piano on
tracks of their own. The chorales are public domain, as rows of four pitches a sixteenth long.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from affetto.media.midi import Score, TrackInfo, note_array, parse_midi
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.beat_grid import BeatGrid, on_beats
from affetto.tokenizers.chords import with_chords
from affetto.tokenizers.vocabulary import NO_CHORD, QUALITIES, ROOTS, STEPS_PER_BEAT, chord_name

SOURCES = ("pop909", "chorale")
VOICES = tuple(TrackInfo(name=name) for name in ("soprano", "alto", "tenor", "bass"))
_FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#", "Cb": "B", "Fb": "E"}
_QUALITY = {
    "maj": "M", "min": "m", "dim": "o", "aug": "+", "7": "7", "maj7": "M7", "min7": "m7", "dim7": "o7", "hdim7": "/o7",
    "sus2": "sus2", "sus4": "sus4", "sus4(b7)": "sus4", "maj6": "M", "min6": "m", "minmaj7": "m",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Song:
    """One piece with its bars at the right beats."""

    name: str
    source: str  # one of SOURCES
    score: Score


def read_songs(data: Path) -> Iterator[Song]:
    """All songs in `data`/music, POP909 first; raises `InvalidInputError` when the archives are not there."""
    folder = data / "music" if (data / "music").is_dir() else data
    for name in ("pop909.zip", "chorales_and_tunes.zip"):
        if not (folder / name).is_file():
            raise InvalidInputError(f"{folder / name}: no such file: put the archive there")
    yield from pop909(folder / "pop909.zip")
    yield from chorales(folder / "chorales_and_tunes.zip")


def pop909(archive: Path) -> Iterator[Song]:
    """The 909 songs, each on the beats and chords given with it."""
    with zipfile.ZipFile(archive) as files:
        for entry in sorted(name for name in files.namelist() if name.endswith(".mid")):
            folder = entry.rsplit("/", 1)[0]
            beats = read_beats(files.read(f"{folder}/beat_midi.txt"))
            chords = read_chords(files.read(f"{folder}/chord_midi.txt").decode())
            score = parse_midi(files.read(entry), name=entry)
            yield Song(name=Path(entry).stem, source="pop909", score=on_beats(score, beats, chords))


def read_beats(text: bytes) -> BeatGrid:
    """The beats in POP909's lines `second half-bar-mark bar-mark`."""
    rows = np.loadtxt(io.BytesIO(text), ndmin=2)
    return BeatGrid(times=rows[:, 0].astype(np.float64), downbeats=rows[:, 2] > 0)


def read_chords(text: str) -> list[tuple[float, str]]:
    """(second, chord name) of POP909's lines `start end root:quality/bass`; the bass is left away."""
    chords = []
    for line in text.splitlines():
        start, _, label = line.split("\t")
        root, _, quality = label.partition(":")
        root = _FLATS.get(root, root)
        known = _QUALITY.get(quality.split("/")[0])
        name = f"{root}_{known}" if root in ROOTS and known in QUALITIES else chord_name(NO_CHORD)
        chords.append((float(start), name))
    return chords


def chorales(archive: Path) -> Iterator[Song]:
    """The 382 chorales, with chords recognised, a quiet dynamic that leans on the melody and on strong beats."""
    with zipfile.ZipFile(archive) as files:
        pieces = json.loads(files.read("jsb-chorales-16th.json"))
    for part in sorted(pieces):
        for index, piece in enumerate(pieces[part]):
            grid = np.array([(row + [0] * 4)[:4] for row in piece], np.int64)
            yield Song(name=f"{part}{index:03d}", source="chorale", score=with_chords(chorale_score(grid)))


def chorale_score(grid: Int64[np.ndarray, "step 4"]) -> Score:
    """Four voices, a pitch for each sixteenth, as a score; equal neighbours are one note, at most a bar long.

    The grid does not say where bars begin: the phase and metre (4/4 or 3/4) are those at whose first beat most long notes
    begin, where the length of the piece agrees if it can.
    """
    held = []
    for voice in range(4):
        line = grid[:, voice]
        begins = np.flatnonzero(np.diff(line, prepend=-1))
        ends = np.append(begins[1:], len(line))
        held.extend(
            (int(a), int(min(b - a, 16)), int(line[a]), voice) for a, b in zip(begins, ends, strict=True)
        )
    held = [each for each in held if each[2] > 0]
    weight = np.zeros(len(grid))
    for begin, length, _, voice in held:
        weight[begin] += length * (2 if voice == 3 else 1)
    steps, phase = max(
        ((bar, phase) for bar in (16, 12) for phase in range(0, bar, STEPS_PER_BEAT)),
        key=lambda each: weight[each[1] :: each[0]].mean() * (1.2 if len(grid) % each[0] == each[1] else 1.0),
    )
    shift = (steps - phase) % steps
    rows = [
        (
            (begin + shift) / STEPS_PER_BEAT,
            length / STEPS_PER_BEAT,
            pitch,
            60 + 8 * (voice == 0) + 6 * ((begin + shift) % steps == 0) - 4 * ((begin + shift) % 4 != 0),
            voice,
        )
        for begin, length, pitch, voice in held
    ]
    return Score(notes=note_array(rows), tracks=VOICES, tempos=((0.0, 80.0),), meters=((0.0, steps // 4, 4),))
