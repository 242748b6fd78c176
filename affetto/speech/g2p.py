"""Text to timed phones through espeak-ng, the optional text front end (`pip install affetto[tts]`).

What espeak-ng reports as it speaks becomes phones with closures, bursts and stress.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affetto.media.espeak import Spoken, espeak
from affetto.runtime.errors import UsageError
from affetto.speech.phones import (
    BILABIALS,
    PLOSIVES,
    SILENCE,
    VOICELESS_STOPS,
    VOWELS,
    TimedPhone,
    from_ipa,
)

# Measured on espeak-ng 1.51 envelopes: the event of a voiceless stop marks its burst, with this much closure before it.
CLOSURE_S, BURST_S, VOICED_LEAD_S = 0.048, 0.005, 0.010


@dataclass(frozen=True, kw_only=True)
class Script:
    """What a text asks to be said: phones without silences, their stress 0..1, and where a pause may come before."""

    phones: tuple[str, ...]
    stress: tuple[float, ...]
    breaks: tuple[bool, ...]


def script_of(spoken: Spoken) -> Script:
    """The script that espeak-ng followed, with a possible pause at every word."""
    phones = espeak_phones(spoken)
    kept = [index for index, phone in enumerate(phones) if phone.phone != SILENCE]
    breaks = []
    for index in kept:
        before = phones[index - 1].start if index else -1.0
        paused = index == 0 or phones[index - 1].phone == SILENCE
        # A word event comes up to 50 ms before its first phone.
        word = any(before + 0.012 < at <= phones[index].start + 0.012 for at in spoken.words)
        breaks.append(paused or word)
    return Script(
        phones=tuple(phones[index].phone for index in kept),
        stress=tuple(phones[index].stress for index in kept),
        breaks=tuple(breaks),
    )


def script(text: str, language: str = "en-us") -> Script:
    """The phones that a text asks for in a language (espeak-ng's name of it, such as en-us, de, nl, fr)."""
    if not text.strip():
        raise UsageError("the text to speak is empty: give the words of the recording")
    return script_of(espeak().say(text, language))


def phonemes(text: str, language: str = "en-us") -> list[TimedPhone]:
    """The phones of a text as espeak-ng would say it, silences included; its own timing, to be aligned to a speaker."""
    if not text.strip():
        raise UsageError("the text to speak is empty: give the words of the recording")
    return espeak_phones(espeak().say(text, language))


def espeak_phones(spoken: Spoken) -> list[TimedPhone]:
    """Timed phones of a spoken text: closures set before the bursts, diphthongs split 55 : 45, pauses as silence."""
    marks: list[tuple[float, list[str], float]] = []
    for at, name in spoken.events:
        stress = 1.0 if "ˈ" in name else 0.5 if "ˌ" in name else 0.0
        marks.append((at, from_ipa(name) or ([SILENCE] if not name.strip("ˈˌː_ ") else []), stress))
    marks = [mark for mark in marks if mark[1]]
    starts = [_onset(at, phones[0]) for at, phones, _ in marks]
    starts = list(np.maximum.accumulate(np.maximum(starts or [0.0], 0.0)))
    timed: list[TimedPhone] = []
    for index, (at, phones, stress) in enumerate(marks):
        start = float(starts[index])
        end = max(float(starts[index + 1]) if index + 1 < len(marks) else spoken.seconds, start)
        timed.extend(_split(phones, start, end, at, stress))
    return merge_silences([TimedPhone(SILENCE, 0.0, float(starts[0])), *timed] if timed else [])


def merge_silences(phones: Sequence[TimedPhone]) -> list[TimedPhone]:
    """The same phones without empty ones and with one silence for each run of silences."""
    merged: list[TimedPhone] = []
    for phone in phones:
        if phone.end <= phone.start:
            continue
        if merged and phone.phone == SILENCE == merged[-1].phone:
            merged[-1] = TimedPhone(SILENCE, merged[-1].start, phone.end)
        else:
            merged.append(phone)
    return merged


def _onset(at: float, phone: str) -> float:
    if phone in VOICELESS_STOPS:
        return at - CLOSURE_S
    return at - VOICED_LEAD_S if phone in BILABIALS or phone in PLOSIVES else at


def _split(phones: Sequence[str], start: float, end: float, at: float, stress: float) -> list[TimedPhone]:
    shares = np.array([0.55, 0.45]) if len(phones) == 2 else np.full(len(phones), 1.0 / len(phones))
    bounds = start + (end - start) * np.concatenate([[0.0], np.cumsum(shares)])
    bounds[-1] = end
    if len(phones) == 2 and phones[0] in VOICELESS_STOPS:  # [ts], [pf]: the second begins at the burst
        bounds[1] = min(max(at + BURST_S, start), end)
    out = []
    for phone, first, last in zip(phones, bounds[:-1], bounds[1:], strict=True):
        release = None
        if phone in PLOSIVES:
            release = float(min(max(at + BURST_S, first), last)) if phone in VOICELESS_STOPS else float(last)
        out.append(TimedPhone(phone, float(first), float(last), stress if phone in VOWELS else 0.0, release))
    return out
