"""A first look at any file of sound, pictures, video or notes by a decoder shut into a process with limits, by its suffix."""

from collections.abc import Callable, Mapping
from pathlib import Path

from affetto.media.audio import look_at_sound
from affetto.media.image import look_at_picture
from affetto.media.midi import look_at_midi
from affetto.media.video import look_at_video

SOUND = (".wav", ".flac", ".mp3", ".ogg")
VIDEO = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
NOTES = (".mid", ".midi")

_LOOKS: Mapping[tuple[str, ...], Callable[[Path], object]] = {
    SOUND: look_at_sound,
    VIDEO: look_at_video,
    PICTURES: look_at_picture,
    NOTES: look_at_midi,
}


def look_at_media(path: str | Path) -> None:
    """Look at a file, if its suffix is one of sound, video, pictures or notes; raises what is wrong with it."""
    path = Path(path)
    for suffixes, look in _LOOKS.items():
        if path.suffix.lower() in suffixes:
            look(path)
