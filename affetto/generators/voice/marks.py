"""Where each period of a voice begins: pitch marks on the waveform."""

from typing import no_type_check

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Float32, Int64
from numba import njit

from affetto.generators.voice.controls import CONTROL_FPS
from affetto.generators.voice.spectra import band_of

_BAND_HZ = (60.0, 1200.0)  # in which the peaks of the periods are looked for
_PULSE_S = 0.001  # over which a period's energy is gathered
_UNEVEN = 9.0  # cost of a squared log ratio of interval and period; a full peak is worth 1
_NEAREST, _FARTHEST = 0.55, 1.75  # intervals allowed, in periods

Array = np.ndarray


@njit(cache=True, nogil=True)
@no_type_check
def _choose_peaks(places: Array, heights: Array, periods: Array, chosen: Array) -> int:
    """Write the indices of the evenly spaced chain of high peaks that fits best; return how many there are."""
    count = len(places)
    total = np.empty(count)
    back = np.full(count, -1, np.int64)
    for j in range(count):
        best = np.inf
        early = places[j] - places[0] < periods[j]
        if early:
            best = 0.0
        i = j - 1
        while i >= 0:
            interval = (places[j] - places[i]) / (0.5 * (periods[i] + periods[j]))
            if interval > _FARTHEST and best < np.inf:
                break
            if interval >= _NEAREST:
                uneven = np.log(interval)
                cost = total[i] + _UNEVEN * uneven * uneven
                if cost < best:
                    best, back[j] = cost, i
            i -= 1
        total[j] = best - heights[j] if best < np.inf else -heights[j]
    last = count - 1
    for j in range(count - 1, -1, -1):
        if places[count - 1] - places[j] >= periods[j]:
            break
        if total[j] < total[last]:
            last = j
    length = 0
    while last >= 0:
        chosen[length] = last
        length += 1
        last = back[last]
    return length


def voiced_runs(voiced: Float32[np.ndarray, "frame"]) -> Int64[np.ndarray, "run 2"]:
    """First frame of each stretch with voice, and the frame after its last."""
    edges = np.diff(np.concatenate([[False], voiced > 0.5, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)], axis=1)


def pitch_marks(
    sound: Float32[np.ndarray, "sample"],
    rate: int,
    log_f0: Float32[np.ndarray, "frame"],
    runs: Int64[np.ndarray, "run 2"],
) -> list[Float[np.ndarray, "_mark"]]:
    """For each run, where its periods lie: the peaks of one polarity that best keep the pitch, in parts of a sample."""
    smooth = band_of(sound, rate, *_BAND_HZ) if len(sound) else sound
    times = np.arange(len(log_f0)) * (rate / CONTROL_FPS)
    found = []
    for start, stop in runs:
        first = max(0, int((start - 0.5) * rate / CONTROL_FPS))
        last = min(len(sound), int((stop - 0.5) * rate / CONTROL_FPS) + 1)
        part = smooth[first:last]
        part = part if np.sum(part**3) >= 0 else -part
        marks = _run_marks(part, np.interp(first + np.arange(len(part)), times, log_f0), rate)
        found.append(first + marks + _to_pulses(sound[first:last], marks, rate))
    return found


def _to_pulses(part: np.ndarray, marks: np.ndarray, rate: int) -> float:
    """Samples by which all marks of a run are moved so that they lie where each period's energy is."""
    if len(marks) < 3:
        return 0.0
    energy = scipy.ndimage.uniform_filter1d(np.square(np.gradient(part)), max(1, round(_PULSE_S * rate)))
    half = int(0.5 * np.median(np.diff(marks)))
    moves = np.arange(-half, half)
    inside = marks[(marks >= half) & (marks < len(part) - half)].astype(np.int64)
    if not len(inside) or not half:
        return 0.0
    around = energy[inside[:, None] + moves]
    share = around / (around.sum(1, keepdims=True) + 1e-12)
    return float(moves[np.argmax(share.mean(0))])


def _run_marks(part: np.ndarray, log_f0: np.ndarray, rate: int) -> np.ndarray:
    peaks = 1 + np.flatnonzero((part[1:-1] > part[:-2]) & (part[1:-1] >= part[2:]) & (part[1:-1] > 0))
    if len(peaks) < 2:
        return np.zeros(0)
    periods = rate / np.exp(log_f0[peaks])
    heights = part[peaks] / _loudest_near(part, int(periods.max()))[peaks]
    chosen = np.zeros(len(peaks), np.int64)
    count = _choose_peaks(peaks.astype(np.float64), heights, periods, chosen)
    kept = peaks[chosen[:count][::-1]]
    left, middle, right = part[kept - 1], part[kept], part[kept + 1]
    return kept + 0.5 * (left - right) / np.minimum(left - 2 * middle + right, -1e-12)


def _loudest_near(part: np.ndarray, reach: int) -> np.ndarray:
    return np.maximum(scipy.ndimage.maximum_filter1d(part, 2 * reach + 1, mode="nearest"), 1e-9)
