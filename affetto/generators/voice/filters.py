"""Filters that change from frame to frame: the colour, the breath and the loudness of a voice."""

from functools import lru_cache

import numpy as np
import scipy.interpolate
from jaxtyping import Float32, Int64

from affetto.generators.voice.controls import BANDS, CONTROL_FPS, ControlResidual, band_centres
from affetto.generators.voice.envelope import NOISE_EDGES_HZ
from affetto.generators.voice.spectra import to_samples, to_spectrum

_FLAT_TO_HZ = 12_000.0  # up to here the highest band's gain holds; it fades to half of it at 24 kHz
_LONGEST_S = 0.016  # of an impulse response
_SMOOTHEST_S = 0.005  # quefrency above which a gain has no detail
_LARGEST_DB = 30.0  # to which the gain of a band is held
_SILENCE = 1e-9
_DB = np.log(10.0) / 20.0


@lru_cache(maxsize=8)
def _gain_basis(rate: int, size: int) -> Float32[np.ndarray, "band bin"]:
    """What each band's gain means at the bins of a spectrum of `size` samples: a smooth curve over mel."""
    hertz = np.arange(size // 2 + 1) * (rate / size)
    centres = np.log1p(band_centres() / 700.0)
    place = np.clip(np.log1p(hertz / 700.0), centres[0], centres[-1])
    curve = scipy.interpolate.PchipInterpolator(centres, np.eye(BANDS), axis=0)(place)
    fade = 1.0 - 0.5 * np.clip((hertz - _FLAT_TO_HZ) / _FLAT_TO_HZ, 0.0, 1.0)
    return (curve * fade[:, None]).T.astype(np.float32)


def fft_size(rate: int) -> int:
    """Samples of a spectrum that holds a frame of two hops and its filter's response without wrapping."""
    needed = int(np.ceil(rate * (2.2 / CONTROL_FPS + 2 * _LONGEST_S)))
    power = 1 << (needed - 1).bit_length()
    return 3 * power // 4 if 3 * power // 4 >= needed else power


def minimum_phase(gain_db: Float32[np.ndarray, "frame 24"], rate: int) -> np.ndarray:
    """(frame, bin) complex: filters with these gains whose response comes at once and is over within 16 ms."""
    size = fft_size(rate)
    log_gain = (gain_db * np.float32(_DB)) @ _gain_basis(rate, size)
    cepstrum = to_samples(log_gain, size)
    quefrency = np.arange(size) / rate
    lifter = np.exp(-0.5 * (quefrency / _SMOOTHEST_S) ** 4)
    fold = np.where(np.arange(size) == 0, 1.0, np.where(np.arange(size) < size / 2, 2.0, 0.0)) * lifter
    response = to_samples(np.exp(to_spectrum(cepstrum * fold.astype(np.float32))), size)
    taper = np.clip(2.0 * (1.0 - quefrency / _LONGEST_S), 0.0, 1.0)
    return to_spectrum(response * taper.astype(np.float32))


def frame_windows(
    frames: Int64[np.ndarray, "frame"], rate: int
) -> tuple[Int64[np.ndarray, "frame"], Float32[np.ndarray, "frame place"]]:
    """First sample and weights of each frame: weights of neighbours sum to one."""
    hop = rate / CONTROL_FPS
    centre = np.round(frames * hop).astype(np.int64)
    left = (centre - np.round((frames - 1) * hop)).astype(np.int64)
    right = (np.round((frames + 1) * hop) - centre).astype(np.int64)
    reach = int(np.ceil(hop)) + 1
    offset = np.arange(-reach, reach + 1)
    length = np.where(offset < 0, left[:, None], right[:, None])
    ratio = np.minimum(np.abs(offset) / length, 1.0)
    return centre - reach, (0.5 + 0.5 * np.cos(np.pi * ratio)).astype(np.float32)


def cut_frames(
    sound: Float32[np.ndarray, "channel sample"],
    first: Int64[np.ndarray, "frame"],
    weights: Float32[np.ndarray, "frame place"],
) -> Float32[np.ndarray, "channel frame place"]:
    """The weighted samples of each frame; zeros beyond the ends."""
    place = first[:, None] + np.arange(weights.shape[1])
    inside = (place >= 0) & (place < sound.shape[1])
    return sound[:, np.clip(place, 0, sound.shape[1] - 1)] * (weights * inside)


def add_frames(
    sound: Float32[np.ndarray, "channel sample"],
    first: Int64[np.ndarray, "frame"],
    parts: Float32[np.ndarray, "channel frame place"],
) -> None:
    """Add parts to a sound in place, each from its first sample on; what lies beyond the ends is lost."""
    for row, start in enumerate(first):
        low, high = max(0, -start), min(parts.shape[2], sound.shape[1] - start)
        if high > low:
            sound[:, start + low : start + high] += parts[:, row, low:high]


@lru_cache(maxsize=8)
def noise_basis(rate: int, size: int) -> Float32[np.ndarray, "band bin"]:
    """What the three shares of noise mean at the bins of a spectrum: straight lines between the bands' middles."""
    middles = 0.5 * np.add(NOISE_EDGES_HZ[1:], NOISE_EDGES_HZ[:-1])
    hertz = np.arange(size // 2 + 1) * (rate / size)
    return np.stack([np.interp(hertz, middles, row) for row in np.eye(len(middles))]).astype(np.float32)


def filtered(
    sound: Float32[np.ndarray, "channel sample"],
    rate: int,
    offset: int,
    frames: Int64[np.ndarray, "frame"],
    residual: ControlResidual,
    smoother: Float32[np.ndarray, "channel sample"] | None = None,
    smoothing: Float32[np.ndarray, "frame 3"] | None = None,
) -> Float32[np.ndarray, "channel sample"]:
    """The sound with colour and loudness changed in the given frames, all else untouched bit for bit.

    `offset` is the place of the first sample in the recording whose frames are numbered; `residual` has one row per
    frame given. The colour leaves the loudness of each frame as it is, the energy alone moves that. `smoothing` 0..1
    says how much of `smoother` replaces the sound in the three bands of noise.
    """
    result = sound.copy()
    size = fft_size(rate)
    for rows in np.array_split(np.arange(len(frames)), 1 + len(frames) // 256):
        first, weights = frame_windows(frames[rows], rate)
        old = to_spectrum(cut_frames(sound, first - offset, weights), size)
        new = old
        if smoother is not None and smoothing is not None:
            other = to_spectrum(cut_frames(smoother, first - offset, weights), size)
            new = old + (other - old) * (smoothing[rows] @ noise_basis(rate, size))
        envelope = np.clip(residual.envelope[rows], -_LARGEST_DB, _LARGEST_DB)
        new = new * minimum_phase(envelope, rate)
        before, after = (np.square(np.abs(spectrum)).sum((0, 2)) for spectrum in (old, new))
        gain = np.sqrt((before + _SILENCE) / (after + _SILENCE)) * np.exp(_DB * residual.energy[rows])
        parts = to_samples(new * gain[:, None].astype(np.float32) - old, size)
        add_frames(result, first - offset, parts[:, :, : weights.shape[1] + int(_LONGEST_S * rate) + 1])
    return result
