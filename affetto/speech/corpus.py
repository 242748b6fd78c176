"""Speech with known phone times: readers for recorded corpora, and synthesisers that tell when each phone starts.

Marks in EMO-DB's `.lablaut` files are the STARTS of what they name (checked on bursts and sibilants).
"""

import csv
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from affetto.media.espeak import Espeak
from affetto.media.lablaut import read_marks, split_label
from affetto.runtime.errors import InvalidInputError
from affetto.speech.g2p import espeak_phones, merge_silences
from affetto.speech.phones import (
    PLOSIVES,
    SILENCE,
    VOICELESS_STOPS,
    VOWELS,
    TimedPhone,
    from_arpabet,
    from_sampa,
)

RATE = 16_000
EMODB_SPLITS = {"12": "test", "16": "test", "03": "validation", "14": "validation"}
_STRESS = {"1": 0.0, "2": 0.5, "3": 1.0}


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One spoken clip at 16 kHz with its phones (empty while unknown) and its text (empty when unknown)."""

    name: str
    samples: Float[np.ndarray, "sample"]
    phones: tuple[TimedPhone, ...]
    split: str  # train, validation or test
    source: str
    language: str
    text: str = ""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / RATE


def read_mono(path: Path) -> Float[np.ndarray, "sample"]:
    """The samples of an audio file, mixed to one channel at 16 kHz."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise InvalidInputError(f"{path}: cannot be read as audio: give a FLAC or WAV file") from error
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, RATE), np.float32)


def read_lablaut(path: Path, seconds: float) -> list[TimedPhone]:
    """Timed phones of one EMO-DB label file, cut at `seconds`; bursts and breath join their plosive."""
    return _Labels(seconds).read(read_marks(path))


class _Labels:
    """Builds phones out of marks: a mark opens a phone, or says that the present one bursts, breathes or goes on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.phones: list[TimedPhone] = []
        self.nucleus = 0  # how many phones the newest symbol gave: 2 for a diphthong

    def read(self, marks: Sequence[tuple[float, str]]) -> list[TimedPhone]:
        self.phones = [TimedPhone(SILENCE, 0.0, marks[0][0])] if marks else []
        for index, (start, label) in enumerate(marks):
            end = marks[index + 1][0] if index + 1 < len(marks) else self.seconds
            start, end = min(start, self.seconds), min(end, self.seconds)
            if end > start:
                self._add(start, end, label)
        return merge_silences(self.phones)

    def _add(self, start: float, end: float, label: str) -> None:
        mark, symbol, rest = split_label(label)
        if symbol.startswith((".", "(")):
            self.phones.append(TimedPhone(SILENCE, start, end))
            self.nucleus = 1
            return
        base = symbol.removesuffix("asp") if symbol.endswith("asp") else symbol
        names = from_sampa(base)
        if not names:
            self._extend(end, start if mark == "!" else None)
        elif mark == "!" or base != symbol:
            self._burst(names[0], start, end, nasal="na" in rest.replace("nas", ""))
        else:
            self._open(names, start, end, rest, symbol)

    def _open(self, names: list[str], start: float, end: float, rest: str, symbol: str) -> None:
        stress = next((value for digit, value in _STRESS.items() if rest.rstrip().endswith(digit)), 0.0)
        last = self.phones[-1] if self.phones else None
        if last and len(names) == 1 and last.phone == names[0] and last.release is None and last.end == start:
            self._extend(
                end, None
            )  # the same plosive again: a doubled mark, or the real closure after a pause
            return
        bounds = _share(start, end, len(names))
        self.nucleus = len(names)
        weak = symbol == "B" or "+fr" in rest
        for name, first, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
            loud = stress if name in VOWELS else 0.0
            self.phones.append(TimedPhone(name, float(first), float(stop), loud, None, not weak))

    def _burst(self, name: str, start: float, end: float, *, nasal: bool) -> None:
        last = self.phones[-1] if self.phones else None
        if last is None or last.phone not in PLOSIVES:
            self.phones.append(TimedPhone(name, start, end, 0.0, start))
            return
        # Through the nose the closure goes on: the lips of [pm] part only after the m.
        release = None if nasal else start if last.release is None else last.release
        self.phones[-1] = replace(last, end=end, release=release)

    def _extend(self, end: float, release: float | None) -> None:
        if self.phones:
            last = self.phones[-1]
            opened = release if last.release is None and last.phone in PLOSIVES else last.release
            self.phones[-1] = replace(last, end=end, release=opened)
            if self.nucleus == 2:
                bounds = _share(self.phones[-2].start, end, 2)
                self.phones[-2] = replace(self.phones[-2], end=float(bounds[1]))
                self.phones[-1] = replace(self.phones[-1], start=float(bounds[1]))


def _share(start: float, end: float, parts: int) -> Float[np.ndarray, "bound"]:
    shares = np.array([0.55, 0.45]) if parts == 2 else np.full(parts, 1.0 / parts)
    return start + (end - start) * np.concatenate([[0.0], np.cumsum(shares)])


def read_emodb(folder: Path) -> Iterator[Utterance]:
    """Every labelled EMO-DB clip; speakers 12 and 16 are the test split, 03 and 14 validation."""
    with (folder / "index.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        labels = folder / "phones" / f"{row['name']}xx.lablaut"
        if not labels.exists():
            continue
        samples = read_mono(folder / "audio" / f"{row['name']}.flac")
        seconds = min(len(samples) / RATE, float(row["seconds"]))
        samples = samples[: round(seconds * RATE)]
        phones = tuple(read_lablaut(labels, seconds))
        split = EMODB_SPLITS.get(row["speaker"], "train")
        yield Utterance(
            name=row["name"], samples=samples, phones=phones, split=split, source="emodb", language="de"
        )


def read_sentences(
    folder: Path, *, language: str, held_out: int, split: str = "train"
) -> Iterator[Utterance]:
    """Clips of a folder with an `index.csv` of names and texts, phones unknown; the last ones are validation."""
    with (folder / "index.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for index, row in enumerate(rows):
        part = "validation" if index >= len(rows) - held_out else split
        samples = read_mono(folder / f"{row['name']}.flac")
        yield Utterance(
            name=row["name"],
            samples=samples,
            phones=(),
            split=part,
            source=folder.name,
            language=language,
            text=row["text"],
        )


def speak_espeak(
    engine: Espeak, name: str, text: str, voice: str, *, wpm: int, pitch: int, spread: int
) -> Utterance:
    """One clip spoken by espeak-ng."""
    spoken = engine.say(text, voice, wpm=wpm, pitch=pitch, spread=spread)
    samples = np.asarray(soxr.resample(spoken.samples, spoken.rate, RATE), np.float32)
    phones = tuple(espeak_phones(spoken))
    language = voice.split("+")[0]
    return Utterance(
        name=name,
        samples=samples,
        phones=phones,
        split="train",
        source="espeak",
        language=language,
        text=text,
    )


def speak_flite(name: str, text: str, voice: str, *, stretch: float = 1.0, pitch: float = 0.0) -> Utterance:
    """One clip spoken by flite (slt, rms or awb), with releases found in the sound; pitch 0 keeps the voice's own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "speech.wav"
        command = ["flite", "-voice", voice, "-t", text, "-psdur", "-o", str(target)]
        command += ["--setf", f"duration_stretch={stretch:.3f}"]
        command += ["--setf", f"int_f0_target_mean={pitch:.1f}"] if pitch > 0 else []
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        samples = read_mono(target)
    phones = tuple(flite_phones(done.stdout, samples))
    return Utterance(
        name=name, samples=samples, phones=phones, split="train", source="flite", language="en-us", text=text
    )


def flite_phones(report: str, samples: Float[np.ndarray, "sample"]) -> list[TimedPhone]:
    """Timed phones from flite's `phone:end` report, the release of each plosive found by its burst."""
    phones: list[TimedPhone] = []
    start = 0.0
    for field in report.split():
        symbol, _, stop = field.rpartition(":")
        if not symbol:
            continue
        names, end = from_arpabet(symbol), float(stop)
        bounds = [start, start + 0.55 * (end - start), end] if len(names) == 2 else [start, end]
        for name, first, last in zip(names, bounds[:-1], bounds[1:], strict=True):
            release = find_release(samples, first, last, name) if name in PLOSIVES else None
            phones.append(TimedPhone(name, first, max(first, last), 0.0, release))
        start = end
    return merge_silences(phones)


def find_release(samples: Float[np.ndarray, "sample"], start: float, end: float, phone: str) -> float:
    """Seconds at which a plosive's closure opens: the steepest rise of treble in the last three quarters of it."""
    hop, width = 64, 128
    first, stop = int(start * RATE), int(end * RATE)
    piece = samples[max(first - hop, 0) : stop + hop]
    if stop - first < 6 * hop or len(piece) < width + 6 * hop:
        return end if phone not in VOICELESS_STOPS else start + 0.6 * (end - start)
    treble = np.diff(piece, prepend=piece[:1])
    energy = np.convolve(treble**2, np.ones(width) / width, mode="same")[::hop]
    rise = np.diff(np.log(energy + 1e-8))
    low = len(rise) // 4
    at = low + int(np.argmax(rise[low:]))
    return float(np.clip(start + at * hop / RATE, start, end))
