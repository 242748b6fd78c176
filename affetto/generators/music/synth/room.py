"""Rooms and bodies as impulse responses that are made here, and convolution of sound that comes in blocks."""

import numpy as np
import scipy.signal
from jaxtyping import Float32

from affetto.generators.music.synth.modes import ring
from affetto.generators.music.synth.piano import damping, partials

Stereo = Float32[np.ndarray, "2 sample"]

_REFLECTIONS_MS = ((7.3, 11.9, 17.1, 21.7, 29.3, 38.9), (8.9, 12.7, 15.3, 24.1, 31.7, 36.1))
_BANDS_HZ = (90.0, 180.0, 360.0, 720.0, 1_440.0, 2_880.0, 5_760.0, 11_520.0)
_SECONDS = (0.95, 1.05, 1.0, 0.95, 0.9, 0.75, 0.55, 0.35)  # until -60 dB, per band


def room_response(rate: int) -> Stereo:
    """A small hall of 1 s as both ears hear it, without the direct sound, of unit energy per ear.

    Six early reflections, then diffuse noise whose high bands fade first; the low end is kept clear.
    """
    rng = np.random.default_rng(1_881)
    count = round(1.15 * rate)
    t = np.arange(count) / rate
    late = np.zeros((2, count))
    for centre, seconds in zip(_BANDS_HZ, _SECONDS, strict=True):
        if centre * 1.41 > 0.45 * rate:
            break
        band = scipy.signal.butter(1, (centre / 1.41, centre * 1.41), "bandpass", fs=rate, output="sos")
        late += scipy.signal.sosfilt(band, rng.standard_normal((2, count)), axis=1) * np.exp(
            -6.9 * t / seconds
        )
    late *= np.clip((t - 0.012) / 0.03, 0.0, 1.0) ** 1.5 * np.clip((count / rate - t) / 0.1, 0.0, 1.0)
    late /= np.sqrt(np.square(late).sum(axis=1, keepdims=True))
    early = np.zeros((2, count))
    for ear, delays in enumerate(_REFLECTIONS_MS):
        for turn, delay in enumerate(delays):
            early[ear, round(delay * rate / 1000.0)] = (-1.0) ** turn * 0.8**turn
    soften = scipy.signal.butter(1, 6_000.0, fs=rate, output="sos")
    early = scipy.signal.sosfilt(soften, early, axis=1)
    early /= np.sqrt(np.square(early).sum(axis=1, keepdims=True))
    clear = scipy.signal.butter(1, 130.0, "highpass", fs=rate, output="sos")
    return np.asarray(scipy.signal.sosfilt(clear, 0.8 * late + 0.6 * early, axis=1), np.float32)


def body_response(rate: int) -> Stereo:
    """What a soundboard or a section of players adds: 90 ms of noise, different to both ears, of unit energy."""
    rng = np.random.default_rng(1_709)
    count = round(0.09 * rate)
    t = np.arange(count) / rate
    noise = rng.standard_normal((2, count)) * np.exp(-t / 0.018) * np.clip(t / 0.002, 0.0, 1.0)
    band = scipy.signal.butter(1, (180.0, min(5_500.0, 0.4 * rate)), "bandpass", fs=rate, output="sos")
    shaped = scipy.signal.sosfilt(band, noise, axis=1)
    return (shaped / np.sqrt(np.square(shaped).sum(axis=1, keepdims=True))).astype(np.float32)


def string_response(rate: int) -> Stereo:
    """How all undamped piano strings answer a blow on the bridge: their lower partials, of unit energy."""
    rng = np.random.default_rng(1_821)
    count = round(2.4 * rate)
    ears = []
    hertz, fade, strength = [], [], []
    for pitch in range(24, 90):
        found = partials(pitch, rate)[:8]
        hertz.append(found)
        fade.append(1.3 * damping(pitch, len(found)))
        strength.append(1.0 / np.arange(1.0, len(found) + 1.0) ** 0.7)
    tones, fades, strengths = (np.concatenate(column) for column in (hertz, fade, strength))
    closing = np.clip((count - np.arange(count)) / (0.8 * rate), 0.0, 1.0).astype(np.float32)
    for _ in range(2):
        phase = rng.uniform(0.0, 2.0 * np.pi, len(tones))
        sound = ring(tones, fades, strengths, phase, count=count, rate=rate) * closing
        ears.append(sound / np.sqrt(np.square(sound).sum()))
    return np.stack(ears).astype(np.float32)


class Convolver:
    """Convolves stereo sound that comes in blocks; what rings on is added to the next block."""

    def __init__(self, response: Stereo, *, crossing: float = 0.0) -> None:
        self._response = response
        self._crossing = crossing  # share of the other channel that each ear hears
        self._rest = np.zeros((2, 0), np.float32)

    def __call__(self, block: Stereo) -> Stereo:
        """The answer to a block, as long as the block."""
        heard = block + np.float32(self._crossing) * block[::-1] if self._crossing else block
        count = block.shape[1]
        out = np.zeros((2, max(count + self._response.shape[1] - 1, self._rest.shape[1])), np.float32)
        out[:, : self._rest.shape[1]] = self._rest
        if heard.any():
            out[:, : count + self._response.shape[1] - 1] += scipy.signal.oaconvolve(
                heard, self._response, axes=1
            )
        self._rest = out[:, count:]
        return out[:, :count]
