"""Pitch and timing of a waveform: its periods laid out anew (time-domain PSOLA: Moulines and Charpentier 1990)."""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32
from numba import njit

TAPS, PHASES = 24, 128
"""Length of the interpolation filter, and in how many parts of a sample it is tabulated."""

COPY, PERIOD, JOINT = 0, 1, 2
"""How an interval is filled: with the source as it is; from a period to the next; or cross-faded noise."""

_FLAT = 0.1  # share of a fade at either end over which nothing changes: pulses stay whole

Array = np.ndarray


def _interpolators() -> Float32[np.ndarray, "129 24"]:
    place = np.arange(TAPS) - (TAPS // 2 - 1)
    distance = place[None] - np.arange(PHASES + 1)[:, None] / PHASES
    window = np.cos(np.pi * np.clip(distance / TAPS, -0.5, 0.5)) ** 2
    taps = np.sinc(distance) * window
    return (taps / taps.sum(1, keepdims=True)).astype(np.float32)


_TABLE = _interpolators()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is heard when: grain k shows the source around `source` at `output`, and `kind` says how it meets k + 1.

    Places are samples, with parts; `before` and `after` are how far the source's own period reaches on either side.
    """

    output: Float[np.ndarray, "grain"]
    source: Float[np.ndarray, "grain"]
    before: Float[np.ndarray, "grain"]
    after: Float[np.ndarray, "grain"]
    kind: np.ndarray  # (grain,) int8


@njit(cache=True, nogil=True, fastmath=True)
@no_type_check
def _lay_out(
    sound: Array,
    output: Array,
    source: Array,
    before: Array,
    after: Array,
    kind: Array,
    table: Array,
    out: Array,
) -> None:
    """Write the samples of `out`, which starts at output place 0; the source is silent beyond its ends."""
    channels, length = sound.shape
    middle = TAPS // 2 - 1
    one = np.float32(1.0)
    for k in range(len(output) - 1):
        start = max(0, int(np.ceil(output[k] - 1e-9)))
        stop = min(out.shape[1], int(np.ceil(output[k + 1] - 1e-9)))
        if kind[k] == COPY:
            shift = int(np.round(source[k] - output[k]))
            for c in range(channels):
                for t in range(max(start, -shift), min(stop, length - shift)):
                    out[c, t] = sound[c, t + shift]
            continue
        span = output[k + 1] - output[k]
        fall, rise = min(after[k], span), min(before[k + 1], span)
        level = one
        if kind[k] == PERIOD and fall + rise < span:  # nothing may fall silent between two periods
            fall, rise = fall * span / (fall + rise), rise * span / (fall + rise)
        if kind[k] == JOINT:
            cross = first = second = np.float32(1e-12)
            one_shift = int(np.round(source[k] - output[k]))
            two_shift = int(np.round(source[k + 1] - output[k + 1]))
            for c in range(channels):
                for t in range(start, stop):
                    p, q = t + one_shift, t + two_shift
                    if p >= 0 and q >= 0 and p < length and q < length:
                        cross += sound[c, p] * sound[c, q]
                        first += sound[c, p] * sound[c, p]
                        second += sound[c, q] * sound[c, q]
            level = max(np.float32(0.0), cross / np.sqrt(first * second))
        for side in range(2):
            grain = k + side
            shift = source[grain] - output[grain]
            whole = int(np.floor(shift + 0.5 / PHASES))
            phase = int(np.round((shift - whole) * PHASES))
            if kind[k] == JOINT:
                whole, phase = int(np.round(shift)), 0
            for t in range(start, stop):
                if side == 0:
                    share = (t - output[k]) / max(fall, 1e-9)
                else:
                    share = (output[k + 1] - t) / max(rise, 1e-9)
                if share >= 1.0:
                    continue
                slope = min(max((share - _FLAT) / (1.0 - 2.0 * _FLAT), 0.0), 1.0)
                weight = np.float32(0.5 + 0.5 * np.cos(np.pi * slope))
                if kind[k] == JOINT:
                    other = one - weight
                    weight /= np.sqrt(weight * weight + other * other + 2 * level * weight * other)
                place = t + whole
                if place < TAPS or place >= length - TAPS:
                    if place >= 0 and place < length:
                        for c in range(channels):
                            out[c, t] += weight * sound[c, place]
                    continue
                for c in range(channels):
                    value = np.float32(0.0)
                    if phase == 0:
                        value = sound[c, place]
                    else:
                        for i in range(TAPS):
                            value += table[phase, i] * sound[c, place - middle + i]
                    out[c, t] += weight * value


def laid_out(
    sound: Float32[np.ndarray, "channel sample"], layout: Layout, length: int
) -> Float32[np.ndarray, "channel out"]:
    """The first `length` samples of what the layout says, every channel alike."""
    out = np.zeros((len(sound), length), np.float32)
    _lay_out(
        np.ascontiguousarray(sound),
        layout.output,
        layout.source,
        layout.before,
        layout.after,
        layout.kind,
        _TABLE,
        out,
    )
    return out
