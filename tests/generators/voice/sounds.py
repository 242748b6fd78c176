"""A made-up talker for the tests of the voice."""

import numpy as np
import scipy.signal

FORMANTS = ((600.0, 80.0), (1300.0, 100.0), (2600.0, 150.0), (3600.0, 200.0))


def talker(
    rate: int = 16_000,
    seconds: float = 2.0,
    hertz: float = 120.0,
    glide: float = 1.3,
    breath: float = 0.03,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Voice with hiss and silence between, peak 0.5, and the Hz of each sample (0: no voice)."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(rate * seconds)) / rate
    pitch = hertz * glide ** np.sin(2 * np.pi * times / 1.3)
    phase = np.cumsum(pitch) / rate
    pulses = (np.diff(np.floor(phase), prepend=0.0) > 0).astype(float)
    place = times % 1.0
    talking = np.clip(np.minimum(place - 0.1, 0.6 - place) / 0.03, 0.0, 1.0)
    hissing = np.clip(np.minimum(place - 0.7, 0.85 - place) / 0.01, 0.0, 1.0)
    sound = (pulses * np.sqrt(rate / pitch) + breath * rng.standard_normal(len(times))) * talking
    for centre, width in FORMANTS:
        radius = np.exp(-np.pi * width / rate)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * centre / rate), radius**2]
        sound = scipy.signal.lfilter([sum(poles)], poles, sound)
    sound = sound / np.abs(sound).max() + 0.1 * hissing * rng.standard_normal(len(times))
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32), np.where(talking > 0.5, pitch, 0.0)
