"""Utterances with known phones and what readers heard of them, as `readings` writes them to disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from affetto.runtime.errors import InvalidInputError
from affetto.speech.content import CONTENT_FPS, SpeechContent
from affetto.speech.phones import PHONES, TimedPhone


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One utterance: what was said when, and how readers heard it (the first reading is the perfect one)."""

    name: str
    split: str
    phones: tuple[TimedPhone, ...]
    readings: tuple[SpeechContent, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.readings[0].seconds


def read_clips(folder: Path) -> list[Clip]:
    """The clips of `folder`: files `SOURCE-NAME-READER.npz` grouped by what is before the last dash.

    Raises InvalidInputError when there are none, or when they were made for another phone inventory.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.npz")):
        groups.setdefault(path.stem.rpartition("-")[0], []).append(path)
    clips = [_read_clip(name, paths) for name, paths in groups.items()]
    if not clips:
        raise InvalidInputError(
            f"{folder}: holds no .npz readings, nor the corpora (speech/emodb): name a folder of either"
        )
    return clips


def _read_clip(name: str, paths: Sequence[Path]) -> Clip:
    oracle = [path for path in paths if path.stem.endswith("-oracle")]
    with np.load((oracle or paths)[0], allow_pickle=False) as file:
        if tuple(file["inventory"]) != PHONES:
            raise InvalidInputError(f"{paths[0]}: was made for another phone inventory: make it again")
        columns = (
            file[key].tolist() for key in ("phone_names", "starts", "ends", "stress", "releases", "closes")
        )
        phones = tuple(
            TimedPhone(label, start, end, stress, None if np.isnan(release) else release, closes)
            for label, start, end, stress, release, closes in zip(*columns, strict=True)
        )
        split, seconds = str(file["split"]), float(file["seconds"])
    perfect = SpeechContent.from_phones(phones, seconds, _read_content((oracle or paths)[0]).loudness)
    heard = [_read_content(path) for path in paths if path not in oracle]
    if any(len(reading) != len(perfect) for reading in heard):
        raise InvalidInputError(f"{paths[0]}: the readings of {name} differ in length: make them again")
    return Clip(name=name, split=split, phones=phones, readings=(perfect, *heard))


def _read_content(path: Path) -> SpeechContent:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key].astype(np.float32) for key in ("phones", "closure", "loudness", "speaking")}
    return SpeechContent(fps=CONTENT_FPS, **arrays)


def content_rows(content: SpeechContent) -> Float[np.ndarray, "frame width"]:
    """What the network hears of each frame: posteriors, closure, loudness, speaking."""
    sides = np.stack([content.closure, content.loudness, content.speaking], axis=1)
    return np.concatenate([content.phones, sides], axis=1).astype(np.float32)
