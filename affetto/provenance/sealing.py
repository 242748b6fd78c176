"""What generators do when they save: mark the sound or the frames, write beside, sign, then show the file."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from affetto.media.audio import Audio
from affetto.provenance.manifests import Origin, can_sign, sign_file
from affetto.provenance.settings import marking_settings
from affetto.runtime.files import atomic_path


def marked_audio(audio: Audio) -> Audio:
    """The sound as it is to be saved: with the mark, unless marks are off. Sound that affetto did not make is not for this."""
    settings = marking_settings()
    if not settings.watermark:
        return audio
    from affetto.provenance.audio_mark import mark_audio

    return mark_audio(audio, key=settings.key, tag=settings.tag)


def marked_frame(frame: UInt8[np.ndarray, "row column channel"]) -> UInt8[np.ndarray, "row column channel"]:
    """The picture as it is to be saved: with the mark, unless marks are off."""
    settings = marking_settings()
    if not settings.watermark:
        return frame
    from affetto.provenance.picture_mark import mark_frame  # compiles on first use

    return mark_frame(frame, key=settings.key)


@contextlib.contextmanager
def sealed(path: str | Path, origin: Origin, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield where to write `path`; signed when the block ends, and then moved into its place.

    When signing is asked for (`always`) and impossible, this raises and no file appears; with `auto` the file goes
    unsigned where the package is missing.
    """
    settings = marking_settings()
    told = replace(origin, recipe={**origin.recipe, "marking": settings.words})
    with atomic_path(path, overwrite=overwrite) as temporary:
        yield temporary
        if settings.sign == "always" or (settings.sign == "auto" and can_sign()):
            sign_file(temporary, told, shown_as=Path(path))
