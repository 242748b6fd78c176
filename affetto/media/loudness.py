"""Loudness after ITU-R BS.1770-4 (K-weighting, gating), true peak, and a limiter; all in blocks, in constant memory."""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import no_type_check

import numpy as np
import scipy.ndimage
import scipy.signal
from jaxtyping import Float, Float32
from numba import njit

_SHELF_HZ, _SHELF_DB, _SHELF_Q = 1_681.974450955533, 3.999843853973347, 0.7071752369554196
_PASS_HZ, _PASS_Q = 38.13547087602444, 0.5003270373238773
_OFFSET_DB, _ABSOLUTE, _RELATIVE_DB = -0.691, -70.0, 10.0
_OVERSAMPLING = 4
_EDGE = 32  # samples that the interpolation filter needs on either side
_STRETCH, _NEAR = 1024, 0.65  # true peaks are looked for where samples pass this share of the ceiling


def k_weighting(rate: int) -> Float[np.ndarray, "2 6"]:
    """The standard's two filters as second-order sections for any rate, from their analogue prototypes.

    The standard prints coefficients for 48 kHz only; there these agree with them to six digits.
    """
    turn = math.tan(math.pi * _SHELF_HZ / rate)
    high = 10.0 ** (_SHELF_DB / 20.0)
    middle = high**0.4996667741545416
    scale = 1.0 + turn / _SHELF_Q + turn * turn
    shelf = [
        (high + middle * turn / _SHELF_Q + turn * turn) / scale,
        2.0 * (turn * turn - high) / scale,
        (high - middle * turn / _SHELF_Q + turn * turn) / scale,
        1.0,
        2.0 * (turn * turn - 1.0) / scale,
        (1.0 - turn / _SHELF_Q + turn * turn) / scale,
    ]
    turn = math.tan(math.pi * _PASS_HZ / rate)
    scale = 1.0 + turn / _PASS_Q + turn * turn
    high_pass = [1.0, -2.0, 1.0, 1.0, 2.0 * (turn * turn - 1.0) / scale]
    return np.array([shelf, [*high_pass, (1.0 - turn / _PASS_Q + turn * turn) / scale]])


def integrated_loudness(blocks: Iterable[np.ndarray], rate: int) -> float:
    """Programme loudness in LUFS of one or two channels, in blocks (channel, sample); -inf where nothing passes the gate.

    Gating blocks last 400 ms and overlap by three quarters; shorter sound counts as one block.
    """
    sections = k_weighting(rate)
    hop = round(0.1 * rate)
    state: np.ndarray | None = None
    waiting, power, total, count = np.zeros(0), [], 0.0, 0
    for block in blocks:
        if state is None:
            state = np.zeros((2, len(block), 2))
        weighted, state = scipy.signal.sosfilt(sections, block.astype(np.float64), axis=1, zi=state)
        waiting = np.concatenate([waiting, np.square(weighted).sum(axis=0)])
        whole = len(waiting) // hop
        power.append(waiting[: whole * hop].reshape(whole, hop).mean(axis=1))
        total, count = total + float(waiting[: whole * hop].sum()), count + whole * hop
        waiting = waiting[whole * hop :]
    tenths = np.concatenate(power) if power else np.zeros(0)
    if len(tenths) >= 4:
        return _gated(np.lib.stride_tricks.sliding_window_view(tenths, 4).mean(axis=1))
    count += len(waiting)
    return _gated(np.array([(total + float(waiting.sum())) / count])) if count else -math.inf


def _gated(power: Float[np.ndarray, "block"]) -> float:
    """The mean over the blocks above -70 LUFS that are not 10 LU below the mean of those."""
    power = power[power > 10.0 ** ((_ABSOLUTE - _OFFSET_DB) / 10.0)]
    if not len(power):
        return -math.inf
    loud = power[power > power.mean() * 10.0 ** (-_RELATIVE_DB / 10.0)]
    return _OFFSET_DB + 10.0 * math.log10(float(loud.mean()))


def true_peaks(samples: Float32[np.ndarray, "channel sample"]) -> Float32[np.ndarray, "sample"]:
    """The largest magnitude of any channel around each sample, between samples too (four times the rate)."""
    fine = scipy.signal.resample_poly(samples, _OVERSAMPLING, 1, axis=1, window=("kaiser", 6.0))
    between = np.abs(fine).max(axis=0).reshape(-1, _OVERSAMPLING).max(axis=1)
    return np.maximum(between, np.roll(between, 1)).astype(np.float32)


def true_peak_db(samples: Float32[np.ndarray, "channel sample"]) -> float:
    """The true peak in dB of full scale (dBTP); -inf for silence."""
    peak = float(true_peaks(samples).max(initial=0.0)) if samples.shape[1] else 0.0
    return 20.0 * math.log10(peak) if peak > 0.0 else -math.inf


def limited(
    blocks: Iterable[np.ndarray],
    rate: int,
    *,
    ceiling_db: float = -1.0,
    ahead_s: float = 0.004,
    release_s: float = 0.12,
) -> Iterator[np.ndarray]:
    """The same sound in blocks (channel, sample), as long and in step, turned down around true peaks above the ceiling; blocks differ in size.

    The gain falls before a peak along a smooth curve and recovers after it, so that no wave is cut off.
    """
    ahead = 2 * max(round(ahead_s * rate / 2.0), 1)
    ceiling = np.float32(10.0 ** ((ceiling_db - 0.05) / 20.0))  # the curve moves a little between samples
    context = 2 * ahead + _EDGE
    back = math.exp(-1.0 / (release_s * rate))
    gain = np.ones(2 * ahead)  # of the last samples, before it is smoothed
    first = 2 * ahead  # silence before the sound that is not given out
    held: np.ndarray | None = None
    for block in itertools.chain(blocks, [None]):
        if held is None:
            if block is None:
                return
            held = np.zeros((len(block), context + first), np.float32)
        more = np.zeros((len(held), context), np.float32) if block is None else block
        held = np.concatenate([held, more], axis=1)
        count = held.shape[1] - 2 * context
        if count <= 0:
            continue
        needed = np.minimum(ceiling / np.maximum(_peaks(held, ceiling), ceiling), 1.0)
        lowest = scipy.ndimage.minimum_filter1d(needed, 2 * ahead + 1)[context + ahead :][:count]
        gain = np.concatenate([gain, _recover(lowest.astype(np.float64), float(gain[-1]), back)])
        out = held[:, context : context + count]
        if float(gain.min()) < 1.0:
            out = out * _smoothed(gain, ahead)
        held, gain = held[:, count:], gain[count:]
        skipped, first = min(first, count), max(first - count, 0)
        if out.shape[1] > skipped:
            yield out[:, skipped:]


def _smoothed(gain: Float[np.ndarray, "padded"], ahead: int) -> Float32[np.ndarray, "sample"]:
    """A mean under a triangle over `ahead` samples on either side, which have to be there."""
    for _ in range(2):
        gain = scipy.ndimage.uniform_filter1d(gain, ahead + 1)
    return np.minimum(gain[ahead:-ahead], 1.0).astype(np.float32)


def _peaks(
    samples: Float32[np.ndarray, "channel sample"], ceiling: float | np.floating
) -> Float32[np.ndarray, "sample"]:
    """True peaks, worked out only where the samples come near the ceiling."""
    plain = np.abs(samples).max(axis=0)
    for start in range(0, len(plain), _STRETCH):
        if float(plain[start : start + _STRETCH].max()) > _NEAR * ceiling:
            first = max(start - _EDGE, 0)
            fine = true_peaks(samples[:, first : start + _STRETCH + _EDGE])
            part = plain[start : start + _STRETCH]
            part[:] = fine[start - first :][: len(part)]
    return plain


@njit(cache=True, nogil=True)
@no_type_check
def _recover(lowest: np.ndarray, before: float, back: float) -> np.ndarray:
    """The gain that falls at once and comes back slowly."""
    gain = np.empty_like(lowest)
    for i in range(len(lowest)):
        before = min(lowest[i], 1.0 - (1.0 - before) * back)
        gain[i] = before
    return gain
