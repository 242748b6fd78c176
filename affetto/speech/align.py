"""Which phone sounds when, for a recording whose words are known: monotone alignment by Viterbi's algorithm."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.speech.g2p import Script, merge_silences, script
from affetto.speech.phones import BILABIALS, PHONE_INDEX, PLOSIVES, SILENCE, TimedPhone

if TYPE_CHECKING:
    from affetto.speech.reader import ContentReader

RATE = 16_000
_HOP = 40  # samples between envelope values: 2.5 ms


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Timed phones, silences included, and the mean log posterior of the spoken ones (0 is perfect)."""

    phones: tuple[TimedPhone, ...]
    score: float
    confidence: tuple[float, ...]  # mean log posterior of each phone


def viterbi(
    log_probs: Float[np.ndarray, "frame state"], optional: Sequence[bool]
) -> Int[np.ndarray, "frame"]:
    """The best left-to-right path through the states: each takes one frame or more, optional ones may be left out.

    Raises when there are fewer frames than states that must be visited.
    """
    frames, states = log_probs.shape
    if frames < sum(not skip for skip in optional):
        raise InvalidInputError(
            f"{states} phones do not fit into {frames} frames: is the text that of the recording?"
        )
    may_skip = np.zeros(states, bool)  # whether state s may be entered from s - 2
    may_skip[2:] = np.asarray(optional[1:-1], bool)
    score = np.full(states, -np.inf)
    score[0] = log_probs[0, 0]
    if optional[0] and states > 1:
        score[1] = log_probs[0, 1]
    steps = np.zeros((frames, states), np.uint8)
    choices = np.full((3, states), -np.inf)
    for frame in range(1, frames):
        choices[0] = score
        choices[1, 1:] = score[:-1]
        choices[2, 2:] = np.where(may_skip[2:], score[:-2], -np.inf)
        steps[frame] = choices.argmax(axis=0)
        score = choices.max(axis=0) + log_probs[frame]
    last = states - 1
    if optional[-1] and states > 1 and score[-2] > score[-1]:
        last = states - 2
    path = np.zeros(frames, np.int64)
    path[-1] = last
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = path[frame] - steps[frame, path[frame]]
    return path


def align_script(
    log_posteriors: Float[np.ndarray, "frame phone"],
    wanted: Script,
    *,
    fps: float = 50.0,
    pause_cost: float = 1.0,
) -> Alignment:
    """Times for the phones of a script, each at the frames whose posteriors fit it best; frame t spans t ± half.

    `pause_cost` (nats) is paid for entering a pause, so that closures are not taken for pauses.
    """
    if not wanted.phones:
        raise UsageError("the script has no phones: give the words of the recording")
    names: list[str] = []
    origin: list[int] = []
    for index, (phone, pause) in enumerate(zip(wanted.phones, wanted.breaks, strict=True)):
        if pause or index == 0:
            names.append(SILENCE)
            origin.append(-1)
        names.append(phone)
        origin.append(index)
    names.append(SILENCE)
    origin.append(-1)
    optional = [at < 0 for at in origin]
    table = np.clip(log_posteriors[:, [PHONE_INDEX[name] for name in names]], -9.0, 0.0).astype(np.float64)
    table = table - np.where(np.asarray(optional), pause_cost / 5.0, 0.0)
    path = viterbi(table, optional)
    phones: list[TimedPhone] = []
    confidence: list[float] = []
    for state in np.unique(path):
        at = np.flatnonzero(path == state)
        start, end = max((at[0] - 0.5) / fps, 0.0), (at[-1] + 0.5) / fps
        stress = wanted.stress[origin[state]] if origin[state] >= 0 else 0.0
        phones.append(TimedPhone(names[state], float(start), float(end), stress))
        confidence.append(float(table[at, state].mean()))
    spoken = [value for value, phone in zip(confidence, phones, strict=True) if phone.phone != SILENCE]
    return Alignment(phones=tuple(phones), score=float(np.mean(spoken)), confidence=tuple(confidence))


def envelopes(
    samples: Float[np.ndarray, "sample"],
) -> tuple[Float[np.ndarray, "time"], Float[np.ndarray, "time"]]:
    """Power in dB every 2.5 ms, centred 10 ms windows: of everything, and of 500 Hz and above, where lips show."""
    frames = max(len(samples) // _HOP, 1)
    width = 4 * _HOP
    padded = np.pad(samples.astype(np.float64), (width // 2, width + _HOP))
    index = np.arange(frames)[:, None] * _HOP + np.arange(width)[None, :]
    power = np.abs(np.fft.rfft(padded[index] * np.hanning(width), axis=1)) ** 2
    whole, upper = power.sum(axis=1), power[:, 5:].sum(axis=1)
    return 10.0 * np.log10(whole + 1e-7), 10.0 * np.log10(upper + 1e-7)


def snap_closures(
    phones: Sequence[TimedPhone], samples: Float[np.ndarray, "sample"], *, reach_s: float = 0.04
) -> list[TimedPhone]:
    """The same phones with the closures of bilabials moved to where the upper spectrum dips, by `reach_s` at most.

    A plosive's `release` is set to the end of its dip; its neighbours give way.
    """
    _, upper = envelopes(samples)
    out = list(phones)
    for index, phone in enumerate(out):
        if phone.phone in BILABIALS:
            start, end = _dip(upper, phone.start, phone.end, reach_s)
            before, after = (
                (out[index - 1] if index else None),
                (out[index + 1] if index + 1 < len(out) else None),
            )
            start = max(start, before.start + 0.01) if before else start
            stop = phone.end if phone.phone in PLOSIVES else end
            stop = min(max(stop, end), after.end - 0.01) if after else stop
            if stop <= start:
                continue
            release = min(end, stop) if phone.phone in PLOSIVES else None
            out[index] = replace(phone, start=start, end=stop, release=release)
            if before:
                out[index - 1] = replace(before, end=start, release=_within(before, before.start, start))
            if after:
                out[index + 1] = replace(after, start=stop)
        elif phone.phone in PLOSIVES and phone.release is None:
            _, opened = _dip(upper, phone.start, phone.end, 0.0)
            out[index] = replace(phone, release=min(max(opened, phone.start), phone.end))
    return out


def _within(phone: TimedPhone, start: float, end: float) -> float | None:
    return None if phone.release is None else min(max(phone.release, start), end)


def _dip(upper: Float[np.ndarray, "time"], start: float, end: float, reach_s: float) -> tuple[float, float]:
    """Where the envelope stays below midway between its bottom within the phone and its surroundings."""
    step = _HOP / RATE
    first, stop = int(start / step), max(int(end / step), int(start / step) + 1)
    low, high = max(first - int(reach_s / step), 0), min(stop + int(reach_s / step), len(upper))
    inside = upper[first:stop]
    if len(inside) == 0 or high - low < 3:
        return start, end
    bottom = first + int(np.argmin(inside))
    left = upper[max(low - 16, 0) : bottom + 1].max()
    right = upper[bottom : min(high + 16, len(upper))].max()
    floor = upper[bottom]
    at = bottom
    while at > low and upper[at - 1] < (floor + left) / 2:
        at -= 1
    to = bottom
    while to < high - 1 and upper[to + 1] < (floor + right) / 2:
        to += 1
    return at * step, (to + 1) * step


def align_text(
    samples: Float[np.ndarray, "sample"], text: str, language: str, reader: "ContentReader"
) -> list[TimedPhone]:
    """Timed phones of a 16 kHz recording of a known text: `reader` hears it, espeak-ng spells it (text-known mode).

    Raises `MissingResourceError` without espeak-ng (`pip install affetto[tts]`).
    """
    wanted = script(text, language)
    content = reader(samples)
    alignment = align_script(np.log(content.phones + 1e-8), wanted, fps=content.fps)
    seconds = len(samples) / RATE
    phones = [
        replace(phone, end=min(phone.end, seconds)) for phone in alignment.phones if phone.start < seconds
    ]
    return merge_silences(snap_closures(phones, samples))
