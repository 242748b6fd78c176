"""What all emotion file readers share: caps, and errors that name file and line."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import MAX_KEYFRAMES, EmotionTrack, Keyframe
from affetto.runtime.errors import AffettoError, InvalidInputError

MAX_BYTES = 32 * 2**20


def read_text(path: Path) -> str:
    """The file as text (UTF-8, with or without a byte order mark), at most `MAX_BYTES`."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise InvalidInputError(f"{path}: cannot be read ({reason}): check the path") from error
    if len(raw) > MAX_BYTES:
        raise InvalidInputError(f"{path}: larger than {MAX_BYTES // 2**20} MiB: split the track")
    if not raw.strip():
        raise InvalidInputError(f"{path}: the file is empty: it needs at least one keyframe")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InvalidInputError(f"{path}:{line}: not UTF-8 text: save it as UTF-8") from error


@contextlib.contextmanager
def blaming(path: Path, line: int) -> Iterator[None]:
    """Give every error of the block the file and line it comes from, as an `InvalidInputError`."""
    try:
        yield
    except AffettoError as error:
        raise InvalidInputError(f"{path}:{line}: {error}") from error


def number(text: str, what: str) -> float:
    """The finite number in a cell or attribute."""
    try:
        value = float(text)
    except ValueError:
        raise InvalidInputError(f"{what} must be a number, got {text[:40]!r}") from None
    if not math.isfinite(value):
        raise InvalidInputError(f"{what} must be a finite number, got {text[:40]!r}")
    return value


class KeyframeList:
    """Keyframes as a reader meets them, checked one by one, so that an error names the line that caused it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys: list[Keyframe] = []

    def add(self, line: int, time: float, emotion: Emotion, ease: str = "linear") -> None:
        """Append one keyframe, which must come after the last."""
        with blaming(self._path, line):
            if self.keys and time <= self.keys[-1].time:
                what = "repeats" if time == self.keys[-1].time else "comes after"
                raise InvalidInputError(
                    f"the keyframe at {time:g} s {what} {self.keys[-1].time:g} s: times must rise, each once"
                )
            if len(self.keys) >= MAX_KEYFRAMES:
                raise InvalidInputError(f"more than {MAX_KEYFRAMES} keyframes: thin the track out")
            self.keys.append(Keyframe(time=time, emotion=emotion, ease=ease))

    def track(self, **options: Any) -> EmotionTrack:
        """The finished track."""
        if not self.keys:
            raise InvalidInputError(f"{self._path}: no keyframes in it: it needs at least one emotion")
        with blaming(self._path, 1):
            return EmotionTrack(keyframes=tuple(self.keys), **options)


def names_text(emotion: Emotion) -> str:
    """The named part of an emotion's text form: `happy` or `happy:0.6+sad:0.4`, empty without names."""
    if len(emotion.mixture) == 1:
        return next(iter(emotion.mixture))
    return "+".join(f"{name}:{share!r}" for name, share in emotion.mixture.items())
