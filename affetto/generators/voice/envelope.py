"""How a voice is coloured: spectral envelope, energy and share of noise of each frame."""

import itertools

import numpy as np
from jaxtyping import Float, Float32

from affetto.generators.voice.spectra import band_of, to_samples, to_spectrum

BANDS = 24
RATE = 16_000
"""Samples per second of the sound that is measured."""
FFT = 1024
REACH = FFT // 2
"""Samples of `RATE` on either side of a frame on which its envelope and its noise depend."""

_LOWEST_HZ = 60.0
NOISE_EDGES_HZ = (0.0, 1500.0, 4000.0, 8000.0)
_LOWEST_BAND, _HIGHEST_BAND = 80.0, 7500.0
_UNVOICED_HZ = 240.0  # window and smoothing of frames without a pitch: 12.5 ms
_FLOOR = 1e-10  # power per sample that counts as silence: -100 dB
_DEPTH, _SILENCE = 1e-7, 1e-12  # power below which, against a frame's own or at all, a band is empty
_PERIODS = 3.0  # in a window
_SLACK = 0.06  # how far from its pitch a period is looked for, as a share


def band_centres() -> Float[np.ndarray, "band"]:
    """Hz of the middle of each envelope band, evenly spaced on the mel scale from 80 to 7500 Hz."""
    low, high = 2595.0 * np.log10(1.0 + np.array([_LOWEST_BAND, _HIGHEST_BAND]) / 700.0)
    return 700.0 * (10.0 ** (np.linspace(low, high, BANDS) / 2595.0) - 1.0)


def frame_spectra(
    sound: Float32[np.ndarray, "sample"],
    centres: Float[np.ndarray, "frame"],
    hertz: Float[np.ndarray, "frame"],
) -> tuple[Float32[np.ndarray, "frame 24"], Float32[np.ndarray, "frame"]]:
    """Level of each band in dB, smooth across harmonics, and energy in dB, around each centre (samples of `RATE`).

    Windows span three periods and the power spectrum is averaged over two thirds of the pitch, then liftered, so that
    neither the harmonics nor the phase of the periods shows (CheapTrick: Morise 2015).
    """
    pitch = np.where(hertz > 0, hertz, _UNVOICED_HZ).astype(np.float32)
    offsets = np.arange(-REACH, REACH)
    start = np.floor(centres).astype(np.int64)
    padded = np.pad(sound, (REACH, REACH + max(1, int(start[-1]) + 1 - len(sound))))
    frames = padded[start[:, None] + REACH + offsets]
    place = (offsets - (centres - start)[:, None]).astype(np.float32) * (pitch[:, None] / np.float32(RATE))
    window = np.where(np.abs(place) < _PERIODS / 2, 0.5 + 0.5 * np.cos(2 * np.pi / _PERIODS * place), 0.0)
    window = window.astype(np.float32)
    weight = np.square(window).sum(1)
    frames = (frames - (frames * window).sum(1, keepdims=True) / window.sum(1, keepdims=True)) * window
    mean = np.square(frames).sum(1) / weight
    energy = 10.0 * np.log10(mean + _FLOOR)
    power = np.square(np.abs(to_spectrum(frames))) / weight[:, None]
    power += (_DEPTH * mean + _SILENCE)[:, None].astype(np.float32)
    smooth = _lifter(np.log(_averaged(power, pitch)), pitch)
    bands = smooth @ (_band_weights() * np.float32(10.0 / np.log(10.0)))
    return bands.astype(np.float32), energy.astype(np.float32)


def _averaged(power: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """The mean of a power spectrum over a width of two thirds of the pitch, at every bin."""
    bins = power.shape[1]
    folded = np.concatenate([power[:, 120:0:-1], power, power[:, -2:-122:-1]], axis=1, dtype=np.float64)
    total = np.pad(np.cumsum(folded, axis=1), ((0, 0), (1, 0)))
    half = pitch[:, None] * (FFT / RATE / 3.0)

    def upto(edge: np.ndarray) -> np.ndarray:
        edge = np.clip(edge, 0.0, total.shape[1] - 1.001)
        whole = edge.astype(np.int64)
        low = np.take_along_axis(total, whole, axis=1)
        return low + (edge - whole) * (np.take_along_axis(total, whole + 1, axis=1) - low)

    middle = np.arange(bins) + 120.5
    return ((upto(middle + half) - upto(middle - half)) / (2 * half)).astype(np.float32)


def _lifter(spectrum: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """A log spectrum without its ripple at the pitch, and what the averaging flattened restored."""
    cepstrum = to_samples(spectrum)[:, : FFT // 2 + 1]
    turns = np.arange(FFT // 2 + 1, dtype=np.float32) * (pitch[:, None] / np.float32(RATE))
    lifter = (np.sinc(turns) * (1.18 - 2 * 0.09 * np.cos(2 * np.pi * turns))).astype(np.float32)
    cepstrum = np.concatenate([cepstrum * lifter, (cepstrum * lifter)[:, -2:0:-1]], axis=1)
    return np.real(to_spectrum(cepstrum.astype(np.float32)))


def _band_weights() -> np.ndarray:
    """(bin, band): triangles between the centres of neighbouring bands, each of sum 1."""
    centres = band_centres()
    low, high = 2 * centres[0] - centres[1], 2 * centres[-1] - centres[-2]
    corners = np.concatenate([[low], centres, [high]])
    bins = np.arange(FFT // 2 + 1)[:, None] * (RATE / FFT)
    rising = (bins - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - bins) / np.diff(corners)[1:]
    weights = np.maximum(np.minimum(rising, falling), 0.0)
    assert weights.shape[1] == BANDS
    return (weights / weights.sum(0)).astype(np.float32)


def noise_shares(
    sound: Float32[np.ndarray, "sample"],
    centres: Float[np.ndarray, "frame"],
    hertz: Float[np.ndarray, "frame"],
) -> Float32[np.ndarray, "frame 3"]:
    """0..1: how little each band repeats after one period; 1 in frames without a pitch."""
    shares = np.ones((len(hertz), len(NOISE_EDGES_HZ) - 1), np.float32)
    voiced = np.flatnonzero(hertz > 0)
    if not len(voiced):
        return shares
    for band, (low, high) in enumerate(itertools.pairwise(NOISE_EDGES_HZ)):
        part = np.pad(band_of(sound, RATE, max(low, _LOWEST_HZ), high, order=4), REACH + 256)
        for rows in np.array_split(voiced, 1 + len(voiced) // 500):
            likeness = _repetition(part, centres[rows] + REACH + 256, hertz[rows].astype(np.float64))
            shares[rows, band] = 1.0 - np.maximum(likeness, 0.0)
    return np.clip(shares, 0.0, 1.0)


def _repetition(part: np.ndarray, centres: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """The best correlation of two periods with those one period on, the period searched near the given pitch."""
    period = RATE / hertz
    longest = int(max(period.max(), 60.0)) + 1
    span = np.arange(-longest, longest)
    first = np.round(centres - period / 2).astype(np.int64)
    inside = (np.abs(span) <= np.maximum(period, 60.0)[:, None]).astype(np.float32)
    here = part[first[:, None] + span] * inside
    best = np.full(len(hertz), -1.0)
    for step in np.linspace(-_SLACK, _SLACK, 9):
        lag = period * (1.0 + step)
        whole = np.floor(lag).astype(np.int64)
        share = (lag - whole).astype(np.float32)[:, None]
        at = (first + whole)[:, None] + span
        there = (part[at] * (1 - share) + part[at + 1] * share) * inside
        scale = np.sqrt(np.square(here).sum(1) * np.square(there).sum(1)) + 1e-9
        best = np.maximum(best, (here * there).sum(1) / scale)
    return best
