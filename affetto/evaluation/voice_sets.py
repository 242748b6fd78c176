"""Recorded speech that converted speech is judged by: EMO-DB's takes, and readers of three languages."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from affetto.media.audio import Audio, load_audio
from affetto.runtime.errors import InvalidInputError

EMOTIONS = ("angry", "bored", "disgusted", "fear", "happy", "neutral", "sad")
"""What EMO-DB's actors played, by the names that emotions have here."""

CORE = ("angry", "happy", "neutral", "sad")
"""The emotions whose takes are whole in the copy of EMO-DB in use; of the others it holds the first two seconds."""

TEST_SPEAKERS = ("12", "16")
VALIDATION_SPEAKERS = ("03", "14")

READERS: Mapping[str, str] = {
    "english_kathleen": "English, a woman",
    "dutch_flemishguy": "Dutch, a man",
    "german_kerstin": "German, a woman",
}
"""Folders of neutral readers and who reads there."""

_NAMES = {
    "anger": "angry", "boredom": "bored", "disgust": "disgusted", "fear": "fear", "happiness": "happy",
    "neutral": "neutral", "sadness": "sad",
}  # fmt: skip
_MARGIN = 0.05  # seconds kept around the speech of a take


@dataclass(frozen=True, kw_only=True)
class Take:
    """One utterance, cut to where it speaks; `sentence` tells what is said, `whole` that the recording is not cut short."""

    name: str
    speaker: str
    sex: str  # m or f
    sentence: str
    emotion: str  # one of EMOTIONS
    audio: Audio
    whole: bool

    @property
    def split(self) -> str:
        """`test`, `validation` or `train`, by speaker."""
        if self.speaker in TEST_SPEAKERS:
            return "test"
        return "validation" if self.speaker in VALIDATION_SPEAKERS else "train"


def read_takes(data: Path) -> list[Take]:
    """All takes of EMO-DB below `data`; raises InvalidInputError when they are not there."""
    folder = data / "speech" / "emodb"
    takes = []
    for row in _rows(folder):
        audio = load_audio(folder / "audio" / f"{row['name']}.flac").sliced(0.0, float(row["seconds"]))
        takes.append(
            Take(
                name=row["name"],
                speaker=row["speaker"],
                sex=row["sex"],
                sentence=row["sentence"],
                emotion=_NAMES[row["emotion"]],
                audio=trimmed(audio),
                whole=row["extent"] == "whole",
            )
        )
    return takes


def read_reader(data: Path, name: str, *, count: int) -> list[Take]:
    """The last `count` sentences of 2 to 5 seconds that a neutral reader (a key of READERS) speaks."""
    folder = data / "speech" / name
    rows = [row for row in _rows(folder) if 2.0 <= float(row["seconds"]) <= 5.0][-count:]
    sex = "m" if "a man" in READERS[name] else "f"
    takes = []
    for row in rows:
        audio = load_audio(folder / f"{row['name']}.flac")
        peak = float(np.abs(audio.samples).max(initial=1e-6))
        loud = Audio(samples=(0.7 / peak * audio.samples).astype(np.float32), rate=audio.rate)
        takes.append(
            Take(
                name=row["name"],
                speaker=name,
                sex=sex,
                sentence=row["text"],
                emotion="neutral",
                audio=trimmed(loud),
                whole=True,
            )
        )
    return takes


def trimmed(audio: Audio) -> Audio:
    """The sound from its first to its last moment within 40 dB of the loudest, with a small margin."""
    first, stop = _extent(audio.mono(), audio.rate)
    return audio.sliced(first - _MARGIN, stop + _MARGIN)


def _extent(samples: Float32[np.ndarray, "sample"], rate: int) -> tuple[float, float]:
    hop = rate // 100
    count = max(1, len(samples) // hop)
    blocks = (
        np.resize(samples, (count, hop)) if len(samples) < hop else samples[: count * hop].reshape(count, hop)
    )
    power = np.square(blocks, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power > 1e-4 * power.max())
    return (float(loud[0]) / 100, float(loud[-1] + 1) / 100) if len(loud) else (0.0, len(samples) / rate)


def _rows(folder: Path) -> Sequence[dict[str, str]]:
    index = folder / "index.csv"
    if not index.is_file():
        raise InvalidInputError(
            f"{folder}: holds no index.csv: give --data the folder that contains speech/{folder.name}"
        )
    with index.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
