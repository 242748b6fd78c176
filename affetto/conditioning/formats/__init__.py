"""Emotion tracks as files: native JSON, CSV, EmotionML 1.0, SRT and VTT cues; the suffix chooses."""

from collections.abc import Callable
from pathlib import Path

from affetto.conditioning.formats import cues, emotionml, native, table
from affetto.conditioning.formats.reading import read_text
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path

__all__ = ["SUFFIXES", "load_track", "save_track"]

_READERS: dict[str, Callable[[Path, str], EmotionTrack]] = {
    ".json": native.read,
    ".csv": table.read,
    ".xml": emotionml.read,
    ".emotionml": emotionml.read,
    ".srt": cues.read,
    ".vtt": cues.read,
}
_WRITERS: dict[str, Callable[[EmotionTrack], str]] = {
    ".json": native.write,
    ".csv": table.write,
    ".xml": emotionml.write,
    ".emotionml": emotionml.write,
    ".srt": cues.write_srt,
    ".vtt": cues.write_vtt,
}
SUFFIXES = tuple(_READERS)


def load_track(path: str | Path) -> EmotionTrack:
    """The emotion track in a file, read by its suffix; errors are one line naming the file and its line."""
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: emotion tracks are read from {', '.join(SUFFIXES)}")
    return reader(path, read_text(path))


def save_track(path: str | Path, track: EmotionTrack, *, overwrite: bool = True) -> None:
    """Write a track in the format of the suffix.

    Only JSON keeps everything. CSV, EmotionML and cues have no pulses, lanes or lags, CSV and cues no space either,
    and cues round times to milliseconds.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"{path}: emotion tracks are written as {', '.join(SUFFIXES)}")
    text = writer(track)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
