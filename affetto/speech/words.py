"""When each word of a recording is said, where the text is known: the words of `affetto.speech.align`'s phones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from affetto.speech.align import align_text
from affetto.speech.g2p import script
from affetto.speech.phones import SILENCE

if TYPE_CHECKING:
    from affetto.speech.reader import ContentReader

_NEAR = 3  # phones by which a word said alone may differ from the word in its sentence


@dataclass(frozen=True, kw_only=True)
class TimedWord:
    """A word as it is written, and from when to when it is heard, in seconds."""

    word: str
    start: float
    end: float


def timed_words(
    samples: Float[np.ndarray, "sample"], text: str, language: str, reader: "ContentReader"
) -> list[TimedWord]:
    """The words of `text` in a 16 kHz recording of it, in order.

    Raises `MissingResourceError` without espeak-ng (`pip install affetto[tts]`), `InvalidInputError` for another text.
    """
    written = [word for word in text.split() if any(letter.isalnum() for letter in word)]
    spoken = [p for p in align_text(samples, text, language, reader) if p.phone != SILENCE]
    counts = [max(len(script(word, language).phones), 1) for word in written]
    marks = word_starts(script(text, language).breaks, counts)
    marks = [min(mark, len(spoken) - 1) for mark in marks]
    ends = [*marks[1:], len(spoken)]
    return [
        TimedWord(word=word, start=spoken[at].start, end=spoken[max(stop - 1, at)].end)
        for word, at, stop in zip(written, marks, ends, strict=True)
    ]


def word_starts(breaks: tuple[bool, ...], counts: list[int]) -> list[int]:
    """The phone at which each word begins, from where pauses may come and how many phones each word has when said alone.

    As many breaks as words are taken as they are; else each word takes the break next to where its count puts it.
    """
    possible = [index for index, pause in enumerate(breaks) if pause]
    if len(possible) == len(counts):
        return possible
    total = len(breaks)
    expected = np.cumsum([0, *counts[:-1]]) * (total / max(sum(counts), 1))
    starts: list[int] = []
    for at in expected:
        low = starts[-1] + 1 if starts else 0
        near = [index for index in possible if index >= low and abs(index - at) <= _NEAR]
        chosen = min(near, key=lambda index: abs(index - at)) if near else max(round(float(at)), low)
        starts.append(min(chosen, total - 1))
    return starts
