"""How high a voice is: normalised cross-correlation and the cheapest path through its peaks.

Candidates after RAPT (1995, "A robust algorithm for pitch tracking"); the costs of the path after Boersma (1993),
"Accurate short-term analysis of the fundamental frequency". Every candidate is found from its own few milliseconds
of sound, so that a recording analysed in pieces gives the frames of the whole.
"""

from typing import no_type_check

import numpy as np
import scipy.ndimage
from jaxtyping import Float32
from numba import njit

from affetto.generators.voice.spectra import band_of

RATE = 8_000
"""Samples per second of the sound in which the pitch is looked for."""
FLOOR_HZ, CEILING_HZ = 60.0, 800.0
REACH = 240
"""Samples of `RATE` on either side of a frame on which its candidates depend."""

CANDIDATES = 6
_WINDOW = 176  # samples: 22 ms, more than the longest period
_HIGH_PASS_HZ, _LOW_PASS_HZ = 50.0, 1500.0
_NOISE = 1e-9  # power per sample that counts as silence
_OCTAVE_COST = 0.018  # correlation that one octave upward is worth
_JUMP_COST = 1.2  # per octave between neighbouring frames
_VOICING_COST = 0.3  # for a change between voiced and unvoiced
_VOICING_THRESHOLD = 0.42
_USUAL_FRAMES, _USUAL_OCTAVES = (
    601,
    0.5,
)  # voiced frames that tell where a voice is, and how far it moves freely
_RANGE_COST = 0.35  # per octave beyond
_QUIET = 0.02  # amplitude below which, relative to the loud parts, a frame is likely no voice

Array = np.ndarray


@njit(cache=True, nogil=True, fastmath=True)
@no_type_check
def _find_candidates(sound: Array, centres: Array, low: int, high: int, lags: Array, peaks: Array) -> None:
    """Write the lags (in samples) and correlations of the best peaks of each frame; unused places stay 0."""
    scores = np.zeros(high + 2, np.float32)
    for frame in range(len(centres)):
        for lag in range(low - 1, high + 2):
            first = centres[frame] - (lag + _WINDOW) // 2
            cross = power = later = np.float32(0.0)
            for i in range(first, first + _WINDOW):
                a, b = sound[i], sound[i + lag]
                cross += a * b
                power += a * a
                later += b * b
            scores[lag] = cross / np.sqrt((power + _WINDOW * _NOISE) * (later + _WINDOW * _NOISE))
        for lag in range(low, high + 1):
            left, middle, right = scores[lag - 1], scores[lag], scores[lag + 1]
            if middle < 0.2 or middle < left or middle <= right:
                continue
            curve = left - 2.0 * middle + right
            shift = 0.5 * (left - right) / curve
            height = min(middle - 0.25 * (left - right) * shift, np.float32(1.0))
            value = height - _OCTAVE_COST * np.log2((lag + shift) / low)
            worst, lowest = 0, np.float32(1e9)
            for k in range(CANDIDATES):
                held = -1.0
                if peaks[frame, k] > 0:
                    held = peaks[frame, k] - _OCTAVE_COST * np.log2(lags[frame, k] / low)
                if held < lowest:
                    worst, lowest = k, held
            if value > lowest:
                lags[frame, worst], peaks[frame, worst] = lag + shift, height


@njit(cache=True, nogil=True)
@no_type_check
def _cheapest_path(cost: Array, octave: Array, jump: np.float32, switch: np.float32, chosen: Array) -> None:
    """Write the state of each frame on the cheapest path; state 0 is unvoiced, the others lie at `octave`."""
    frames, states = cost.shape
    back = np.zeros((frames, states), np.int8)
    total = cost[0].copy()
    for frame in range(1, frames):
        fresh = np.empty(states, np.float32)
        for state in range(states):
            best, source = np.float32(1e30), 0
            for past in range(states):
                change = np.float32(0.0)
                if (past == 0) != (state == 0):
                    change = switch
                elif state > 0:
                    change = jump * abs(octave[frame - 1, past] - octave[frame, state])
                if total[past] + change < best:
                    best, source = total[past] + change, past
            fresh[state] = best + cost[frame, state]
            back[frame, state] = source
        total = fresh - fresh.min()
    state = np.argmin(total)
    for frame in range(frames - 1, -1, -1):
        chosen[frame] = state
        state = back[frame, state]


def voice_band(sound: Float32[np.ndarray, "sample"]) -> Float32[np.ndarray, "sample"]:
    """The part of a sound at `RATE` in which the pitch is looked for, without delay."""
    return band_of(sound, RATE, _HIGH_PASS_HZ, _LOW_PASS_HZ)


def pitch_candidates(
    sound: Float32[np.ndarray, "sample"], frames: int, fps: float
) -> tuple[Float32[np.ndarray, "frame 6"], Float32[np.ndarray, "frame 6"], Float32[np.ndarray, "frame"]]:
    """Hz (0: none) and correlation of each frame's candidates, and its amplitude, from a sound at `RATE`."""
    centres = np.round(np.arange(frames) * (RATE / fps)).astype(np.int64) + REACH
    missing = max(0, int(centres[-1]) - len(sound))
    band = np.pad(voice_band(sound), (REACH, REACH + missing))
    lags = np.zeros((frames, CANDIDATES), np.float32)
    peaks = np.zeros((frames, CANDIDATES), np.float32)
    _find_candidates(band, centres, int(RATE / CEILING_HZ), int(np.ceil(RATE / FLOOR_HZ)), lags, peaks)
    hertz = np.divide(RATE, lags, out=np.zeros_like(lags), where=lags > 0)
    power = np.concatenate([[0.0], np.cumsum(band.astype(np.float64) ** 2)])
    loud = power[np.minimum(centres + _WINDOW // 2, len(band))] - power[centres - _WINDOW // 2]
    return hertz, peaks, np.sqrt(np.maximum(loud, 0.0) / _WINDOW).astype(np.float32)


def pitch_path(
    hertz: Float32[np.ndarray, "frame 6"],
    peaks: Float32[np.ndarray, "frame 6"],
    amplitude: Float32[np.ndarray, "frame"],
) -> Float32[np.ndarray, "frame"]:
    """Hz of each frame, 0 where there is no voice: the cheapest path through the candidates of a whole recording.

    The path is found twice, the second time at a cost for leaving the range in which the voice mostly is: irregular
    periods otherwise read as an octave below, and hissing as a very high voice.
    """
    if not len(hertz):
        return np.zeros(0, np.float32)
    octave = np.log2(np.maximum(hertz, 1.0) / FLOOR_HZ).astype(np.float32)
    loud = float(np.percentile(amplitude, 95))
    quiet = np.maximum(0.0, 1.0 - amplitude / max(_QUIET * loud, 1e-7))
    unvoiced = (_VOICING_THRESHOLD + quiet)[:, None]
    voiced = np.where(hertz > 0, peaks + _OCTAVE_COST * octave, -1e3)
    states = np.pad(octave, ((0, 0), (1, 0)))
    padded = np.pad(hertz, ((0, 0), (1, 0)))
    chosen = np.zeros(len(hertz), np.int64)
    melody = np.zeros(len(hertz), np.float32)
    for _ in range(2):
        cost = -np.concatenate([unvoiced, voiced], axis=1, dtype=np.float32)
        _cheapest_path(cost, states, np.float32(_JUMP_COST), np.float32(_VOICING_COST), chosen)
        melody = padded[np.arange(len(hertz)), chosen]
        middle = _usual_octave(melody)
        far = np.abs(octave - middle[:, None]) - _USUAL_OCTAVES
        voiced = voiced - _RANGE_COST * np.maximum(far, 0.0)
    return melody


def _usual_octave(melody: Float32[np.ndarray, "frame"]) -> Float32[np.ndarray, "frame"]:
    """Octaves above the floor around which the voice moves: the median of the seconds of voice nearest by."""
    rows = np.flatnonzero(melody > 0)
    if not len(rows):
        return np.ones(len(melody), np.float32)
    octaves = np.log2(melody[rows] / FLOOR_HZ)
    usual = scipy.ndimage.median_filter(octaves, min(_USUAL_FRAMES, 2 * (len(rows) // 2) + 1), mode="reflect")
    return np.interp(np.arange(len(melody)), rows, usual).astype(np.float32)
