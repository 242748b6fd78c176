"""Fourier transforms that keep single precision, and filters without delay."""

import numpy as np
import scipy.fft
import scipy.signal
from jaxtyping import Float32


def to_spectrum(samples: np.ndarray, size: int | None = None) -> np.ndarray:
    """The half spectrum along the last axis, of `size` samples, zeros added or the rest left out."""
    return np.asarray(scipy.fft.rfft(samples, size, axis=-1))


def to_samples(spectrum: np.ndarray, size: int | None = None) -> np.ndarray:
    """The samples along the last axis whose half spectrum this is."""
    return np.asarray(scipy.fft.irfft(spectrum, size, axis=-1))


def band_of(
    sound: Float32[np.ndarray, "*channel sample"], rate: int, low: float, high: float, *, order: int = 2
) -> Float32[np.ndarray, "*channel sample"]:
    """What lies between two frequencies in Hz, without delay; no lower or no upper end for 0 or the Nyquist frequency."""
    if high >= rate / 2:
        sections = scipy.signal.butter(order, low, "highpass", fs=rate, output="sos")
    else:
        sections = scipy.signal.butter(order, [low, high], "bandpass", fs=rate, output="sos")
    return np.asarray(scipy.signal.sosfiltfilt(sections, sound, padlen=0), np.float32)
