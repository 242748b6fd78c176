"""What the judges of converted voices hear: level-free log-mels, and statistics of pitch, energy and spectrum.

A front end of its own: no generator or encoder uses these features, so that no converter can learn to please them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyworld
import torch
from jaxtyping import Float, Float32
from scipy.fft import dct

from affetto.media.audio import Audio
from affetto.media.mel import MelSpec, log_mel

SPEC = MelSpec(window=512, hop=200, fft=1024, bands=48, low_hz=80.0, high_hz=7_000.0, floor=1e-12)
RANGE = 4.5 * np.log(10.0)  # natural log of power: 45 dB below the speech everything is floor
WINDOW = 160  # frames at 80 per second: two seconds
HOP = 40
_FRAME_MS = 1000.0 * SPEC.hop / SPEC.rate
_LEVEL_DB = -20.0
_PITCH_RANGE = (60.0, 600.0)
_RATES = ((1.0, 3.0), (3.0, 6.0), (6.0, 12.0), (12.0, 24.0))  # Hz of the energy's modulation


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A clip as the judges hear it, at 80 frames per second."""

    mels: Float32[np.ndarray, "frame 48"]  # natural log of power, 0 = the mean level while speaking
    pitch: Float32[np.ndarray, "frame"]  # semitones above 100 Hz, NaN where unvoiced
    level_db: float  # of the speaking frames, below full scale

    def __len__(self) -> int:
        return len(self.mels)

    @property
    def energy(self) -> Float32[np.ndarray, "frame"]:
        """Natural log of each frame's power against the mean level while speaking."""
        return np.log(np.exp(self.mels).mean(axis=1))


def listen(audio: Audio) -> Heard:
    """The features of a clip."""
    loud = level_db(audio)
    # At one level for all, so that the floor of the spectrogram lies equally deep below every voice.
    samples = audio.resampled(SPEC.rate).mono() * np.float32(10.0 ** ((_LEVEL_DB - max(loud, -80.0)) / 20.0))
    mels = log_mel(torch.from_numpy(samples), SPEC).numpy().T
    power = np.exp(mels).mean(axis=1)
    speaking = power > 1e-3 * power.max()
    level = float(np.log(power[speaking].mean()))
    return Heard(
        mels=np.maximum(mels - level, -RANGE).astype(np.float32),
        pitch=pitch_track(samples, len(mels)),
        level_db=loud,
    )


def pitch_track(samples: Float32[np.ndarray, "sample"], frames: int) -> Float32[np.ndarray, "frame"]:
    """Semitones above 100 Hz at each frame by WORLD's DIO, octave errors folded towards the median; NaN where unvoiced."""
    sound = samples.astype(np.float64)
    low, high = _PITCH_RANGE
    found, times = pyworld.dio(sound, SPEC.rate, f0_floor=low, f0_ceil=high, frame_period=_FRAME_MS)  # pyright: ignore[reportAttributeAccessIssue]
    found = pyworld.stonemask(sound, found, times, SPEC.rate)  # pyright: ignore[reportAttributeAccessIssue]
    voiced = found > 0
    pitch = np.full(frames, np.nan, np.float32)
    count = min(frames, len(found))
    tones = 12.0 * np.log2(np.where(voiced, found, 100.0) / 100.0)
    if voiced.any():
        off = tones - np.median(tones[voiced])
        tones = np.where(np.abs(off) > 10.0, tones - 12.0 * np.round(off / 12.0), tones)
    pitch[:count] = np.where(voiced, tones, np.nan)[:count]
    return pitch


def level_db(audio: Audio) -> float:
    """The level of speech in dB of full scale: the RMS of the 20 ms blocks within 30 dB of the loudest."""
    samples = audio.mono().astype(np.float64)
    size = max(1, audio.rate // 50)
    count = max(1, len(samples) // size)
    power = np.square(np.resize(samples, (count, size))).mean(axis=1) if len(samples) else np.zeros(1)
    loudest = max(float(power.max()), 1e-12)
    return float(10.0 * np.log10(max(power[power > 1e-3 * loudest].mean() if power.any() else 0.0, 1e-12)))


def loudness_db(audio: Audio) -> float:
    """How loud a clip sounds: `level_db` after the K-weighting of ITU-R BS.1770 (a high shelf, a high pass)."""
    rate = 16_000
    samples = audio.resampled(rate).mono()
    hertz = np.fft.rfftfreq(len(samples), 1.0 / rate)
    # The standard gives its filters at 48 kHz only: here their magnitudes, from the analogue prototypes.
    shelf = (1.0 + 1.585 * (hertz / 1_682.0) ** 2) / (1.0 + (hertz / 1_682.0) ** 2)
    high_pass = hertz**2 / (hertz**2 + 38.0**2)
    weighted = np.fft.irfft(np.fft.rfft(samples) * shelf * high_pass, len(samples))
    return level_db(Audio(samples=weighted[None].astype(np.float32), rate=rate))


def windows(heard: Heard) -> list[Heard]:
    """The clip in overlapping windows of two seconds; a shorter clip is one window."""
    starts = list(range(0, max(len(heard) - WINDOW, 0) + 1, HOP))
    if len(heard) > starts[-1] + WINDOW:
        starts.append(len(heard) - WINDOW)
    return [
        Heard(mels=heard.mels[at : at + WINDOW], pitch=heard.pitch[at : at + WINDOW], level_db=heard.level_db)
        for at in starts
    ]


def statistics(heard: Heard) -> Float32[np.ndarray, "feature"]:
    """Statistics of a window: pitch and its movement, energy and its rhythm, spectrum and how fast it changes."""
    parts = [_pitch_statistics(heard.pitch), _energy_statistics(heard.energy), _spectrum_statistics(heard)]
    return np.concatenate(parts).astype(np.float32)


def _pitch_statistics(pitch: Float32[np.ndarray, "frame"]) -> Float[np.ndarray, "9"]:
    voiced = pitch[~np.isnan(pitch)]
    if len(voiced) < 5:
        return np.zeros(9)
    steps = np.diff(pitch)
    steps = steps[~np.isnan(steps)]
    low, middle, high = np.quantile(voiced, [0.1, 0.5, 0.9])
    half = len(voiced) // 2
    return np.array(
        [
            voiced.mean(),
            voiced.std(),
            low,
            middle,
            high,
            high - low,
            np.abs(steps).mean() if len(steps) else 0.0,
            voiced[half:].mean() - voiced[:half].mean(),
            len(voiced) / len(pitch),
        ]
    )


def _energy_statistics(energy: Float[np.ndarray, "frame"]) -> Float[np.ndarray, "9"]:
    smooth = np.maximum(energy, -RANGE)
    centred = (smooth - smooth.mean()) * np.hanning(len(smooth))
    spectrum = np.abs(np.fft.rfft(centred, 512)) ** 2
    hertz = np.fft.rfftfreq(512, SPEC.hop / SPEC.rate)
    shares = [spectrum[(hertz >= low) & (hertz < high)].sum() for low, high in _RATES]
    total = max(float(np.sum(shares)), 1e-9)
    pause = float((smooth < -2.5 * np.log(10.0)).mean())
    moves = np.abs(np.diff(smooth)) if len(smooth) > 1 else np.zeros(1)
    rising = float((np.diff(smooth) > 0.3).mean()) if len(smooth) > 1 else 0.0
    return np.array(
        [
            smooth.std(),
            *np.quantile(smooth, [0.25, 0.75]),
            pause,
            moves.mean(),
            rising,
            *np.array(shares[:3]) / total,
        ]
    )


def _spectrum_statistics(heard: Heard) -> Float[np.ndarray, "feature"]:
    active = heard.energy > -2.5 * np.log(10.0)
    mels = heard.mels[active] if active.sum() >= 5 else heard.mels
    pairs = mels.reshape(len(mels), 24, 2).mean(axis=2)
    shape = pairs - pairs.mean(axis=1, keepdims=True)
    flux = np.abs(np.diff(cepstra(heard.mels)[:, 1:13], axis=0)) if len(heard) > 1 else np.zeros((1, 12))
    voiced = ~np.isnan(heard.pitch)
    tilts = [tilt_db(heard.mels[voiced]), tilt_db(heard.mels[active & ~voiced])]
    return np.concatenate([shape.mean(axis=0), shape.std(axis=0), flux.mean(axis=0), tilts])


def cepstra(mels: Float[np.ndarray, "frame band"]) -> Float[np.ndarray, "frame band"]:
    """The cosine transform of log-mels over bands."""
    return np.asarray(dct(mels, type=2, norm="ortho", axis=1))


def tilt_db(mels: Float[np.ndarray, "frame 48"]) -> float:
    """Decibels by which bands above 1.2 kHz exceed those below, averaged over frames; effort raises it."""
    if not len(mels):
        return 0.0
    split = len(_below(1_200.0))
    return float(10.0 / np.log(10.0) * (mels[:, split:].mean() - mels[:, :split].mean()))


def _below(hertz: float) -> Sequence[int]:
    ends = 2595.0 * np.log10(1.0 + np.array([SPEC.low_hz, SPEC.high_hz, hertz]) / 700.0)
    return range(round((SPEC.bands + 1) * float((ends[2] - ends[0]) / (ends[1] - ends[0]))))
