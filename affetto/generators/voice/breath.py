"""Breath in a voice: noise that follows the colour and the periods of the voice it joins, and periods made alike."""

import numpy as np
import scipy.ndimage
from jaxtyping import Float32, Int64

from affetto.generators.voice.controls import BANDS, band_centres
from affetto.generators.voice.filters import add_frames, cut_frames, fft_size, frame_windows, noise_basis
from affetto.generators.voice.spectra import band_of, to_samples, to_spectrum

_BLOCK = 1 << 14  # samples of noise made from one seed
_PULSE_S, _MEAN_S = 0.0006, 0.008  # smoothing of the noise's own loudness, within and across periods
_PULSING_HZ = 1200.0  # above which a voice is loud just after each closure
_MOST = 0.95


def white_noise(start: int, length: int) -> Float32[np.ndarray, "sample"]:
    """Gaussian noise of unit power that depends on the place in the recording alone."""
    blocks = range(start // _BLOCK, (start + length - 1) // _BLOCK + 1)
    seeds = [[0xB4EA7, block & 0xFFFFFFFF] for block in blocks]
    noise = np.concatenate(
        [np.random.default_rng(seed).standard_normal(_BLOCK, np.float32) for seed in seeds]
    )
    first = start - blocks[0] * _BLOCK
    return noise[first : first + length]


def with_breath(
    sound: Float32[np.ndarray, "channel sample"],
    rate: int,
    offset: int,
    frames: Int64[np.ndarray, "frame"],
    share: Float32[np.ndarray, "frame 3"],
) -> Float32[np.ndarray, "channel sample"]:
    """The sound with `share` 0..1 of its power in each band of noise replaced by breath, in the given frames.

    `offset` is the place of the first sample in the recording whose frames are numbered.
    """
    result = sound.copy()
    size = fft_size(rate)
    noise = white_noise(offset, sound.shape[1]) * _pulsing(sound.mean(0), rate)
    for rows in np.array_split(np.arange(len(frames)), 1 + len(frames) // 256):
        first, weights = frame_windows(frames[rows], rate)
        old = to_spectrum(cut_frames(sound, first - offset, weights), size)
        breath = to_spectrum(cut_frames(noise[None], first - offset, weights), size)
        colour = np.sqrt(_smooth_power(np.square(np.abs(old)), rate) / np.square(weights).sum(1)[:, None])
        part = np.clip(share[rows], 0.0, _MOST) @ noise_basis(rate, size)
        change = (np.sqrt(1.0 - part) - 1.0) * old + np.sqrt(part) * colour * breath
        added = to_samples(change, size)
        tail = size - weights.shape[1]
        early = np.fft.fftshift(added, axes=2)[:, :, size // 2 - tail // 4 : size // 2]
        both = np.concatenate([early, added[:, :, : weights.shape[1] + tail // 4]], axis=2)
        add_frames(result, first - offset - tail // 4, both)
    return result


def _pulsing(sound: np.ndarray, rate: int) -> np.ndarray:
    """How loud the upper part of a sound is against its own mean over some periods: high just after each closure."""
    power = np.square(band_of(sound, rate, _PULSING_HZ, rate / 2), dtype=np.float64)
    now, mean = (_running_mean(power, round(seconds * rate)) for seconds in (_PULSE_S, _MEAN_S))
    return np.sqrt(np.clip((now + 1e-12) / (mean + 1e-12), 0.1, 4.0)).astype(np.float32)


def _running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean over `reach` samples on either side, twice."""
    for _ in range(2):
        values = np.maximum(scipy.ndimage.uniform_filter1d(values, 2 * reach + 1), 0.0)
    return values


def _smooth_power(power: np.ndarray, rate: int) -> np.ndarray:
    """A power spectrum without harmonics: means over the bands, straight lines between them in dB."""
    size = 2 * (power.shape[-1] - 1)
    hertz = np.arange(power.shape[-1]) * (rate / size)
    centres = band_centres()
    edges = np.concatenate([[0.0], 0.5 * (centres[1:] + centres[:-1]), [centres[-1] + 500.0]])
    counts = np.searchsorted(hertz, edges)
    total = np.concatenate([np.zeros_like(power[..., :1]), np.cumsum(power, axis=-1)], axis=-1)
    width = np.maximum(np.diff(counts), 1).astype(np.float32)
    level = np.log((total[..., counts[1:]] - total[..., counts[:-1]]) / width + 1e-14)
    place = np.interp(hertz, centres, np.arange(BANDS))
    low = np.minimum(place.astype(np.int64), BANDS - 2)
    part = (place - low).astype(np.float32)
    return np.exp(level[..., low] * (1 - part) + level[..., low + 1] * part)
