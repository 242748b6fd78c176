"""The sum of decaying sinusoids: what strings, bars, plates and drum heads sound like after they were struck."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32
from numba import njit

_CHUNK = 1024
_INAUDIBLE = 3e-5
"""A mode is over 90 dB below the strongest one's beginning."""

Array = np.ndarray


@njit(cache=True, nogil=True)
@no_type_check
def _ring(hertz: Array, damping: Array, amplitude: Array, phase: Array, rate: float, out: Array) -> None:
    """Add the modes to `out`; a mode's chunks share one table of sines, so that the inner loop is a plain sum."""
    real = np.empty(_CHUNK, np.float32)
    imaginary = np.empty(_CHUNK, np.float32)
    floor = _INAUDIBLE * np.abs(amplitude).max()
    for mode in range(len(hertz)):
        angle = 2.0 * np.pi * hertz[mode] / rate
        shrink = np.exp(-damping[mode] / rate)
        step_re, step_im = shrink * np.cos(angle), shrink * np.sin(angle)
        re, im = 1.0, 0.0
        for i in range(_CHUNK):
            real[i], imaginary[i] = re, im
            re, im = re * step_re - im * step_im, re * step_im + im * step_re
        now_re, now_im = amplitude[mode] * np.cos(phase[mode]), amplitude[mode] * np.sin(phase[mode])
        start = 0
        while start < len(out) and now_re * now_re + now_im * now_im > floor * floor:
            a, b = np.float32(now_im), np.float32(now_re)
            part = out[start : start + _CHUNK]
            for i in range(len(part)):
                part[i] += a * real[i] + b * imaginary[i]
            now_re, now_im = now_re * re - now_im * im, now_re * im + now_im * re
            start += _CHUNK


def ring(
    hertz: Float[np.ndarray, "mode"],
    damping: Float[np.ndarray, "mode"],
    amplitude: Float[np.ndarray, "mode"],
    phase: Float[np.ndarray, "mode"],
    *,
    count: int,
    rate: int,
) -> Float32[np.ndarray, "sample"]:
    """`count` samples of sum_m amplitude exp(-damping t) sin(2 pi hertz t + phase); damping in nepers per second.

    Modes above 0.46 of the rate are left out, so nothing aliases. More samples begin with the same samples.
    """
    kept = (hertz < 0.46 * rate) & (amplitude != 0.0)
    out = np.zeros(count, np.float32)
    if kept.any():
        f, d, a, p = (np.asarray(values[kept], np.float64) for values in (hertz, damping, amplitude, phase))
        _ring(f, d, a, p, float(rate), out)
    return out


def fade_in(sound: Float32[np.ndarray, "sample"], seconds: float, rate: int) -> None:
    """Let the sound rise over its first `seconds` along half a cosine, in place: a blow takes time."""
    count = min(max(round(seconds * rate), 1), len(sound))
    sound[:count] *= (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count)).astype(np.float32)
