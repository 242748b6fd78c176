"""What generators do when they save: mark the sound or the frames, write beside, sign, then show the file."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from affetto.media.audio import Audio, save_audio
from affetto.media.video_writer import VideoWriter
from affetto.provenance.manifests import Origin, can_sign, sidecar_path, sign_file
from affetto.provenance.recipes import note_recipe, recipe_of
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


def seal(path: Path, origin: Origin) -> Path:
    """Seal a finished file in its place, see `sealed`; for small files whose writers write several at once."""
    with sealed(path, origin) as temporary:
        shutil.copyfile(path, temporary)
    return path


@contextlib.contextmanager
def sealed(path: str | Path, origin: Origin, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield where to write `path`; given its recipe and signed when the block ends, and then moved into its place.

    Signed is with `always`, which raises when that is impossible so that no file appears, and with `auto` where the package
    that signs is installed; the first signature makes this user's identity. Formats that hold no manifest get one beside them; one that lies there from before goes.
    """
    path = Path(path)
    settings = marking_settings()
    own = {**origin.recipe, "marking": settings.words}
    recipe = recipe_of(origin.generator, own) if settings.recipe else own
    with atomic_path(path, overwrite=overwrite) as temporary:
        yield temporary
        if settings.recipe:
            note_recipe(temporary, recipe)
        sidecar_path(path).unlink(missing_ok=True)
        if settings.sign == "always" or (settings.sign == "auto" and can_sign()):
            sign_file(temporary, replace(origin, recipe=recipe), shown_as=path)
