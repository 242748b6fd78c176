"""A text as a plain recording, so that a script nobody has read yet can be given an emotion too."""

import numpy as np
from einops import rearrange

from affetto.media.audio import Audio
from affetto.media.espeak import espeak
from affetto.runtime.errors import InvalidInputError, UsageError

MAX_CHARACTERS = 20_000
VARIANTS = {"female": "+f3", "male": ""}


def speak_text(text: str, *, language: str = "en-us", voice: str = "female", wpm: int = 160) -> Audio:
    """The words spoken without emotion by espeak-ng: mono sound.

    The first text that a process speaks always sounds the same; of later ones only the timing is repeated exactly.

    `language` is espeak-ng's name of it (en-us, de, nl, fr ...), `voice` female or male, `wpm` words per minute.
    Raises MissingResourceError without `affetto[tts]`, InvalidInputError for a text that holds nothing to say.
    """
    if voice not in VARIANTS:
        raise UsageError(f"unknown voice {voice!r}: use {' or '.join(VARIANTS)}")
    if not 80 <= wpm <= 300:
        raise UsageError(f"words per minute must lie in 80..300, got {wpm}")
    if not text.strip():
        raise InvalidInputError("the text to speak is empty: write what shall be said")
    if len(text) > MAX_CHARACTERS:
        raise InvalidInputError(
            f"the text to speak has {len(text)} characters, more than {MAX_CHARACTERS}: cut it into parts"
        )
    spoken = espeak().say(text, language + VARIANTS[voice], wpm=wpm)
    if not np.any(spoken.samples):
        raise InvalidInputError("the text to speak holds no words: write what shall be said")
    return Audio(samples=rearrange(spoken.samples, "n -> 1 n").astype(np.float32), rate=spoken.rate)
