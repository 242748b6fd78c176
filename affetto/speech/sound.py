"""Sound on its way to the content reader: whether it can hold speech, and its blocks."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError
from affetto.speech.content import RATE

MIN_SECONDS = 0.2


def check_speech(audio: Audio) -> None:
    """Raise InvalidInputError for sound that is too short to say something, or silent."""
    where = str(audio.path or "the sound")
    check_length(audio.seconds, where)
    if audio.is_silent:
        raise InvalidInputError(f"{where}: is silent (below -80 dB throughout): check the recording")


def check_length(seconds: float, where: str) -> None:
    """Raise InvalidInputError, naming `where` the sound is from, when it is too short to say something."""
    if seconds < MIN_SECONDS:
        raise InvalidInputError(f"{where}: lasts {seconds:.3f} s: give at least {MIN_SECONDS} s of speech")


def blocks_of(audio: Audio, seconds: float) -> Iterator[Float[np.ndarray, "sample"]]:
    """The sound as 16 kHz mono blocks of `seconds`, the last one shorter."""
    samples = audio.resampled(RATE).mono()
    size = round(seconds * RATE)
    for start in range(0, len(samples), size):
        yield samples[start : start + size]
