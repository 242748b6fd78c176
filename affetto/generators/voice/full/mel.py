"""The mel-spectrograms that DiffVC, HiFi-GAN and Vocos were published with, and the clean-up before the vocoder."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import median_filter
from torch import Tensor

from affetto.runtime.errors import InvalidInputError

_BREAK_HZ, _BREAK_MEL, _STEP_HZ = (
    1000.0,
    15.0,
    200.0 / 3.0,
)  # Slaney's scale is linear below, logarithmic above
_LOG_STEP = float(np.log(6.4) / 27.0)


@dataclass(frozen=True, kw_only=True)
class VocoderMel:
    """How sound becomes log-mels for a vocoder; the defaults are those of HiFi-GAN universal and DiffVC.

    `scale` slaney also gives each filter unit area; htk leaves their tops at one. `padding` says what surrounds the
    sound: `same` gives samples / hop frames, `center` one more.
    """

    rate: int = 22_050  # samples per second
    fft: int = 1024
    hop: int = 256
    bands: int = 80
    high_hz: float = 8_000.0
    scale: str = "slaney"
    padding: str = "same"
    floor: float = 1e-5  # of the mel magnitude
    guard: float = 1e-9  # added to the power, so that the root has a slope at zero

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.rate / self.hop


HIFIGAN_MEL = VocoderMel()
VOCOS_MEL = VocoderMel(
    rate=24_000, bands=100, high_hz=12_000.0, scale="htk", padding="center", floor=1e-7, guard=0.0
)


def hz_to_mel(hertz: Float[np.ndarray, "*n"], scale: str) -> Float[np.ndarray, "*n"]:
    """Mels of frequencies in Hz, on the `slaney` or the `htk` scale."""
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    above = _BREAK_MEL + np.log(np.maximum(hertz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hertz < _BREAK_HZ, hertz / _STEP_HZ, above)


def mel_to_hz(mels: Float[np.ndarray, "*n"], scale: str) -> Float[np.ndarray, "*n"]:
    """Frequencies in Hz of mels; the inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    above = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mels, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _STEP_HZ, above)


@lru_cache(maxsize=4)
def vocoder_filters(spec: VocoderMel) -> Float[Tensor, "band bin"]:
    """Triangular mel filters from 0 Hz to `high_hz`."""
    ends = hz_to_mel(np.array([0.0, spec.high_hz]), spec.scale)
    corners = mel_to_hz(np.linspace(ends[0], ends[1], spec.bands + 2), spec.scale)
    bins = np.linspace(0.0, spec.rate / 2, spec.fft // 2 + 1)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    filters = np.maximum(np.minimum(rising, falling), 0.0)
    if spec.scale == "slaney":
        filters *= 2.0 / (corners[2:] - corners[:-2])[:, None]
    return torch.from_numpy(filters.astype(np.float32))


def vocoder_mel(
    samples: Float[Tensor, "*clip sample"], spec: VocoderMel = HIFIGAN_MEL
) -> Float[Tensor, "*clip band frame"]:
    """Natural log of mel magnitudes; samples // hop frames for padding `same`, one more for `center`.

    What is left over after a multiple of the hop is cut, as in the published front end. Raises InvalidInputError for
    sound too short to be reflected at its ends.
    """
    side = spec.fft // 2 if spec.padding == "center" else (spec.fft - spec.hop) // 2
    whole = samples.shape[-1] // spec.hop * spec.hop
    if whole <= side:
        least = (side // spec.hop + 1) * spec.hop / spec.rate
        raise InvalidInputError(f"sound of {samples.shape[-1]} samples is too short: give {least:.3f} s")
    with torch.autocast(samples.device.type, enabled=False):
        flat = samples[..., :whole].float().reshape(-1, whole)
        padded = F.pad(flat[:, None], (side, side), mode="reflect")[:, 0]
        window = torch.hann_window(spec.fft, device=flat.device)
        spectrum = torch.stft(padded, spec.fft, spec.hop, spec.fft, window, center=False, return_complex=True)
        magnitude = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + spec.guard)
        mels = vocoder_filters(spec).to(flat.device) @ magnitude
        return mels.clamp_min(spec.floor).log().reshape(*samples.shape[:-1], spec.bands, -1)


def subtract_noise(
    mel: Float[np.ndarray, "band frame"],
    source: Float[np.ndarray, "band frame"],
    *,
    floor: float = 0.02,
    window: int = 5,
    smoothing: int = 5,
) -> Float[np.ndarray, "band frame"]:
    """Log-mels without the steady noise that a diffusion decoder leaves (spectral subtraction, as DiffVC's demo does).

    The noise is what `mel` holds where `source` is quietest for `window` frames, smoothed over `smoothing` bands to
    either side; at least `floor` of its energy stays. Both log-mels must show the same frames.
    """
    if mel.shape[1] <= window:
        return mel
    energy = np.exp(2.0 * source.astype(np.float64)).sum(axis=0)
    sums = np.concatenate([[0.0], np.cumsum(energy)])
    quietest = int(np.argmin(sums[window:] - sums[:-window]))
    power = np.exp(2.0 * mel.astype(np.float64))
    noise = power[:, quietest : quietest + window].min(axis=1)
    noise = np.minimum(noise, median_filter(noise, size=2 * smoothing + 1, mode="nearest"))[:, None]
    return (0.5 * np.log(np.maximum(power - noise, floor * noise))).astype(np.float32)
