"""A mark in pictures: a keyed tile of fine grain in the luma, stronger where the picture is busy; found over many frames.

Spread spectrum with a perceptual mask (after Cox et al. 1997), tiled so that any part of the picture carries it. It
survives re-encoding, moderate scaling and cropping; not rotation, nor someone who holds the key.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Complex, Float, Float32, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from affetto.provenance.audio_mark import MarkFound

TILE = 128
THRESHOLD = 7.0
"""Score from which on a picture counts as marked: of 128 x 128 places at 15 scales, one of an unmarked picture gets there
in 3e-7 of all files. benchmarks/marks.py checks the law that this rests on (a place scores as a standard normal variable).
"""

SCALES = (0.5, 0.5625, 0.625, 2 / 3, 0.75, 0.8, 0.9, 1.0, 10 / 9, 1.25, 4 / 3, 1.5, 1.6, 16 / 9, 2.0)
_BAND = (0.04, 0.18)  # cycles a pixel
_STRENGTH = 1.2
_REACH = 4  # the mask looks at 9 x 9 pixels
_FEWEST = 64


def mark_frame(
    frame: UInt8[np.ndarray, "row column channel"], *, key: int, strength: float = _STRENGTH
) -> UInt8[np.ndarray, "row column channel"]:
    """The picture (RGB or RGBA) with the mark of `key`; the same amount is added to red, green and blue."""
    marked = np.empty_like(frame)
    _mark(np.ascontiguousarray(frame), _tile(key), np.float32(strength), marked)
    return marked


def find_picture_mark(
    frames: Iterable[UInt8[np.ndarray, "row column 3"]], *, key: int, scales: Iterable[float] = SCALES
) -> MarkFound:
    """Look for the mark of `key` in one picture or, much more surely, in many frames of one size; `scales` undo resizing."""
    total, count = None, 0
    for frame in frames:
        grain = _grain(frame)
        total = grain if total is None else total + grain
        count += 1
    if total is None or min(total.shape) < _FEWEST:
        return MarkFound(score=0.0, marked=False, tag=None)
    grain = total / count
    score = max(float(_matches(_phases(grain, scale), key).max()) for scale in scales)
    return MarkFound(score=round(score, 2), marked=score >= THRESHOLD, tag=None)


def _band() -> Float32[np.ndarray, "128 128"]:
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE)))
    return ((frequency > _BAND[0]) & (frequency < _BAND[1])).astype(np.float32)


@lru_cache(maxsize=8)
def _tile(key: int) -> Float32[np.ndarray, "128 128"]:
    """One repetition of the pattern: band-passed noise of unit variance."""
    noise = np.random.default_rng([key, 2]).standard_normal((TILE, TILE))
    pattern = np.fft.ifft2(np.fft.fft2(noise) * _band()).real
    return (pattern / pattern.std()).astype(np.float32)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _mark(frame: np.ndarray, tile: np.ndarray, strength: float, marked: np.ndarray) -> None:
    """Add the tile, scaled by how much the luma varies within 9 x 9 pixels."""
    rows, columns, channels = frame.shape
    size = 2 * _REACH + 1
    luma = np.empty((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            luma[row, column] = (
                0.299 * frame[row, column, 0] + 0.587 * frame[row, column, 1] + 0.114 * frame[row, column, 2]
            )
    sums = np.zeros((2, columns), np.float32)  # of the rows in reach: values, squares
    for row in range(-_REACH, _REACH + 1):
        source = min(max(row, 0), rows - 1)
        for column in range(columns):
            value = luma[source, column]
            sums[0, column] += value
            sums[1, column] += value * value
    for row in range(rows):
        first = np.float32(0.0)
        second = np.float32(0.0)
        for column in range(-_REACH, _REACH + 1):
            source = min(max(column, 0), columns - 1)
            first += sums[0, source]
            second += sums[1, source]
        for column in range(columns):
            mean = first / (size * size)
            spread = np.sqrt(max(second / (size * size) - mean * mean, 0.0))
            mask = min(max(0.6 + spread / 12.0, 0.6), 2.5)
            change = strength * mask * tile[row % TILE, column % TILE]
            for channel in range(channels):
                value = frame[row, column, channel] + (change if channel < 3 else 0.0)
                marked[row, column, channel] = np.uint8(min(max(np.rint(value), 0.0), 255.0))
            leaving, coming = max(column - _REACH, 0), min(column + _REACH + 1, columns - 1)
            first += sums[0, coming] - sums[0, leaving]
            second += sums[1, coming] - sums[1, leaving]
        leaving, coming = max(row - _REACH, 0), min(row + _REACH + 1, rows - 1)
        for column in range(columns):
            old, new = luma[leaving, column], luma[coming, column]
            sums[0, column] += new - old
            sums[1, column] += new * new - old * old


def _grain(frame: UInt8[np.ndarray, "row column 3"]) -> Float32[np.ndarray, "row column"]:
    """The fine structure of a picture at equal strength everywhere."""
    luma = frame[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    fine = luma - gaussian_filter(luma, 4.0)
    spread = np.sqrt(np.maximum(uniform_filter(fine**2, 17), 0.0)) + 1.0
    return np.clip(fine / spread, -2.0, 2.0)


def _phases(grain: Float32[np.ndarray, "row column"], scale: float) -> Complex[np.ndarray, "128 128"]:
    """The spectrum of a picture at this scale, folded to one tile, all frequencies of the band equally strong."""
    if scale != 1.0:
        rows, columns = grain.shape
        size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
        grain = np.asarray(Image.fromarray(grain).resize(size, Image.Resampling.BICUBIC))
    rows, columns = grain.shape
    padded = np.pad(grain, ((0, -rows % TILE), (0, -columns % TILE)))
    folded = padded.reshape(padded.shape[0] // TILE, TILE, padded.shape[1] // TILE, TILE).sum(axis=(0, 2))
    spectrum = np.fft.fft2(folded)
    return spectrum / (np.abs(spectrum) + 1e-6) * _band()


def _matches(phases: Complex[np.ndarray, "128 128"], key: int) -> Float[np.ndarray, "128 128"]:
    """How well the tile fits at each place, in standard deviations of all places."""
    match = np.fft.ifft2(phases * np.conj(np.fft.fft2(_tile(key)))).real
    return (match - match.mean()) / match.std()
