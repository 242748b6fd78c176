"""What generators do when they save: mark the sound or the frames, write beside, sign, then show the file."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from affetto.media.audio import Audio, save_audio
from affetto.media.video import VideoWriter
from affetto.provenance.certificates import has_identity
from affetto.provenance.manifests import EMBEDDING, Origin, can_sign, sign_file
from affetto.provenance.recipes import note_recipe
from affetto.provenance.settings import marking_settings
from affetto.runtime.files import atomic_path

Frame = UInt8[np.ndarray, "row column channel"]


def marked_audio(audio: Audio) -> Audio:
    """The sound as it is to be saved: with the mark, unless marks are off. Sound that affetto did not make is not for this."""
    settings = marking_settings()
    if not settings.watermark:
        return audio
    from affetto.provenance.audio_mark import mark_audio

    return mark_audio(audio, key=settings.key, tag=settings.tag)


def marked_frame(frame: Frame) -> Frame:
    """The picture as it is to be saved: with the mark, unless marks are off."""
    settings = marking_settings()
    if not settings.watermark:
        return frame
    from affetto.provenance.picture_mark import mark_frame  # compiles on first use

    return mark_frame(frame, key=settings.key)


def save_marked_audio(
    path: str | Path, audio: Audio, origin: Origin, *, overwrite: bool = True, subtype: str = "PCM_16"
) -> Path:
    """Write sound that affetto made: marked, signed where signing is on; returns the path."""
    with sealed(path, origin, overwrite=overwrite) as temporary:
        save_audio(temporary, marked_audio(audio), subtype=subtype)
    return Path(path)


@contextlib.contextmanager
def marked_video(
    path: str | Path,
    size: tuple[int, int],
    fps: float,
    audio: Audio | None,
    origin: Origin,
    *,
    overwrite: bool = True,
) -> Iterator[Callable[[Frame], None]]:
    """Yield what takes the frames (RGB) of an .mp4 whose pictures affetto made: marked, signed where signing is on.

    The sound goes in as it is, since it may be someone's own recording.
    """
    with (
        sealed(path, origin, overwrite=overwrite) as temporary,
        VideoWriter(temporary, size, fps, audio) as writer,
    ):
        yield lambda frame: writer.write(marked_frame(frame))


@contextlib.contextmanager
def sealed(path: str | Path, origin: Origin, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield where to write `path`; given its recipe and signed when the block ends, and then moved into its place.

    With `always`, this raises when signing is impossible, no file appears, and formats that hold no manifest get one
    beside them. With `auto`, files that can hold a manifest are signed once this user has an identity.
    """
    path = Path(path)
    settings = marking_settings()
    told = replace(origin, recipe={**origin.recipe, "marking": settings.words})
    holds = path.suffix.lower() in EMBEDDING
    with atomic_path(path, overwrite=overwrite) as temporary:
        yield temporary
        if settings.recipe:
            note_recipe(temporary, origin.generator, told.recipe)
        if settings.sign == "always" or (settings.sign == "auto" and holds and can_sign() and has_identity()):
            sign_file(temporary, told, shown_as=path)
