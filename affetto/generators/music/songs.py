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
from jaxtyping import Float, Int64

from affetto.media.midi import NOTE, Score, TrackInfo, note_array, parse_midi
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.chords import with_chords
from affetto.tokenizers.vocabulary import EMBEDDED, NO_CHORD, QUALITIES, ROOTS, STEPS_PER_BEAT, chord_name

SOURCES = ("pop909", "chorale")
VOICES = tuple(TrackInfo(name=name) for name in ("soprano", "alto", "tenor", "bass"))
_FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#", "Cb": "B", "Fb": "E"}
_QUALITY = {
    "maj": "M", "min": "m", "dim": "o", "aug": "+", "7": "7", "maj7": "M7", "min7": "m7", "dim7": "o7", "hdim7": "/o7",
    "sus2": "sus2", "sus4": "sus4", "sus4(b7)": "sus4", "maj6": "M", "min6": "m", "minmaj7": "m",
}  # fmt: skip
_SPLIT = {
    1: (1,),
    2: (2,),
    3: (3,),
    4: (4,),
    5: (5,),
    6: (3, 3),
    7: (4, 3),
}  # beats between down-beats -> bars


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
            beats = np.loadtxt(io.BytesIO(files.read(f"{folder}/beat_midi.txt")), ndmin=2)
            chords = read_chords(files.read(f"{folder}/chord_midi.txt").decode())
            score = parse_midi(files.read(entry), name=entry)
            yield Song(name=Path(entry).stem, source="pop909", score=on_beats(score, beats, chords))


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


def on_beats(
    score: Score, beats: Float[np.ndarray, "beat 3"], chords: list[tuple[float, str]] | None = None
) -> Score:
    """The notes of a performance in beats counted from its first bar.

    `beats` holds (second, half-bar mark, bar mark) as in POP909. Bars between down-beats that are too long are split; the
    tempo is that of the median beat in each bar.
    """
    times = beats[:, 0]
    timed = score.timed_notes()
    marks = np.flatnonzero(beats[:, 2] > 0)
    bars, lengths = bar_grid(marks, len(times))
    first = float(beats_at(times, timed[:1, 0].sum())) + 0.5 / STEPS_PER_BEAT
    while len(bars) > 1 and bars[1] <= first:  # leading silence
        bars, lengths = bars[1:], lengths[1:]
    while bars[0] > first:  # an upbeat
        bars = np.concatenate([[bars[0] - lengths[0]], bars])
        lengths = np.concatenate([lengths[:1], lengths])
    start = beats_at(times, timed[:, 0]) - bars[0]
    end = beats_at(times, timed[:, 0] + timed[:, 1]) - bars[0]
    rows = np.zeros(len(timed), NOTE)
    rows["start"], rows["duration"] = np.maximum(start, 0.0), end - np.maximum(start, 0.0)
    rows["pitch"], rows["velocity"] = timed[:, 2], timed[:, 3]
    rows["track"] = score.pitched().notes["track"]
    inside = (rows["start"] < bars[-1] + lengths[-1] - bars[0]) & (rows["duration"] > 0)
    markers = [(max(round(float(beats_at(times, at) - bars[0])), 0), name) for at, name in chords or []]
    return Score(
        notes=note_array(rows[inside]),
        tracks=score.tracks,
        tempos=bar_tempos(times, bars, lengths),
        meters=tuple(
            (float(bar - bars[0]), int(top), 4)
            for index, (bar, top) in enumerate(zip(bars, lengths, strict=True))
            if index == 0 or top != lengths[index - 1]
        ),
        markers=tuple(sorted((float(beat), name) for beat, name in dict(markers).items())),
    )


def beats_at(times: Float[np.ndarray, "beat"], seconds: float | np.ndarray) -> np.ndarray:
    """The (fractional) beat at each second; beyond the first and last beat at their pace."""
    seconds = np.asarray(seconds, np.float64)
    inside = np.interp(seconds, times, np.arange(len(times)))
    before = np.minimum(seconds - times[0], 0.0) / (times[1] - times[0])
    after = np.maximum(seconds - times[-1], 0.0) / (times[-1] - times[-2])
    return np.asarray(inside + before + after)


def bar_grid(
    marks: Int64[np.ndarray, "mark"], beats: int
) -> tuple[Int64[np.ndarray, "bar"], Int64[np.ndarray, "bar"]]:
    """The first beat and the beats of each bar; gaps between down-beats become bars of two to five beats."""
    if len(marks) < 2:
        marks = np.arange(int(marks[0]) if len(marks) else 0, beats + 4, 4)
    gaps = np.diff(marks)
    common = int(np.bincount(gaps[gaps > 1]).argmax()) if (gaps > 1).any() else 4
    usual = _SPLIT.get(common, (4,))[0]
    lengths: list[int] = []
    carried = 0  # a bar of one beat joins the next
    for gap in gaps.tolist():
        left = gap + carried
        carried = 0
        while left > 7:
            lengths.append(usual)
            left -= usual
        if left == 1:
            carried = 1
        elif left:
            lengths.extend(_SPLIT[left])
    tail = beats + 4 - int(marks[-1])
    lengths.extend([usual] * max(-(-(tail + carried) // usual), 1))
    sizes = np.array(lengths, np.int64)
    return int(marks[0]) + np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes


def bar_tempos(
    times: Float[np.ndarray, "beat"], bars: Int64[np.ndarray, "bar"], lengths: Int64[np.ndarray, "bar"]
) -> tuple[tuple[float, float], ...]:
    """(beat, quarter notes a minute) where the tempo of a bar, on the vocabulary's grid, differs from the one before."""
    gaps = np.diff(times)
    tempos: list[tuple[float, float]] = []
    for bar, length in zip(bars.tolist(), lengths.tolist(), strict=True):
        inside = gaps[max(bar, 0) : bar + length] if bar < len(gaps) else gaps[-4:]
        bpm = float(np.clip(60.0 / max(np.median(inside if len(inside) else gaps[:4]), 1e-3), 32, 224))
        bpm = float(EMBEDDED.tempos[int(EMBEDDED.tempo_ids(bpm)) - 2])
        if not tempos or tempos[-1][1] != bpm:
            tempos.append((float(bar - bars[0]), bpm))
    return tuple(tempos)


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
