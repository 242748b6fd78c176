"""A light drum kit by General MIDI key: skins that sink in pitch, dense metal, short wood, shaken noise."""

import numpy as np
import scipy.signal
from jaxtyping import Float32

from affetto.generators.music.synth.modes import fade_in, ring

_KICKS, _STICKS, _SNARES = (35, 36), (37,), (38, 40)
_CLOSED, _OPEN = (42, 44), (46,)
_CRASHES, _RIDES = (49, 52, 55, 57), (51, 53, 59)
_TOMS = (41, 43, 45, 47, 48, 50)
_SHAKEN = (39, 54, 58, 69, 70, 73, 74, 82)

LONGEST_S = 2.6


def drum(pitch: int, force: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    """`count` samples of the drum on a key of the General MIDI kit; keys without a drum of ours sound as wood blocks."""
    if pitch in _KICKS:
        sound = _skin(48.0, 110.0, 0.028, 0.16, count, rate) + 0.35 * _thud(force, count, rate)
    elif pitch in _SNARES:
        sound = _snare(force, count, rate)
    elif pitch in _STICKS:
        sound = _wood((470.0, 1_650.0, 2_480.0, 3_900.0), 0.018, count, rate)
    elif pitch in _CLOSED:
        sound = 0.5 * _metal(4_500.0, 15_000.0, 0.05, 70, pitch, count, rate)
    elif pitch in _OPEN:
        sound = 0.4 * _metal(4_000.0, 15_000.0, 0.4, 70, 42, count, rate)
    elif pitch in _RIDES:
        ping = _wood((2_950.0, 4_420.0), 0.12, count, rate)
        sound = 0.27 * _metal(2_200.0, 13_000.0, 0.9, 90, 51, count, rate) + 0.22 * ping
    elif pitch in _CRASHES:
        sound = 0.35 * _metal(500.0, 15_000.0, 1.5, 140, pitch, count, rate)
    elif pitch in _TOMS:
        tone = 82.0 * 2.0 ** (_TOMS.index(pitch) / 6.0)
        sound = _skin(tone, 0.7 * tone, 0.05, 0.24, count, rate) + 0.12 * _thud(force, count, rate)
    elif pitch in _SHAKEN:
        sound = 0.5 * _noise(3_500.0, 13_000.0, 0.055, count, rate, pitch)
    else:
        base = 520.0 * 2.0 ** ((pitch % 24) / 24.0)
        sound = _wood((base, 2.3 * base, 4.1 * base), 0.035, count, rate)
    fade_in(sound, 0.0005 if pitch not in _KICKS else 0.0015, rate)
    return sound


def _skin(
    low_hz: float, above_hz: float, fall_s: float, ring_s: float, count: int, rate: int
) -> Float32[np.ndarray, "sample"]:
    """A membrane: its pitch sinks while its tension relaxes."""
    t = np.arange(min(count, round(8.0 * ring_s * rate))) / rate
    turns = low_hz * t + above_hz * fall_s * (1.0 - np.exp(-t / fall_s))
    sound = np.zeros(count, np.float32)
    sound[: len(t)] = np.sin(2.0 * np.pi * turns) * np.exp(-t / ring_s)
    return sound


def _thud(force: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    """The beater on the skin."""
    return _noise(250.0, 1_500.0 + 2_500.0 * force, 0.008, count, rate, 3)


def _snare(force: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    hertz = np.array([186.0, 278.0, 331.0, 442.0])
    head = ring(
        hertz,
        np.array([16.0, 24.0, 26.0, 34.0]),
        np.array([0.5, 0.2, 0.3, 0.12]),
        np.zeros(4),
        count=count,
        rate=rate,
    )
    return head + (0.35 + 0.25 * force) * _noise(1_300.0, 9_000.0, 0.075, count, rate, 5)


def _wood(hertz: tuple[float, ...], ring_s: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    tones = np.array(hertz)
    damping = (1.0 + np.arange(len(hertz)) * 0.5) / ring_s
    return ring(
        tones, damping, 0.8 ** np.arange(len(hertz)) * 0.6, np.zeros(len(hertz)), count=count, rate=rate
    )


def _metal(
    low_hz: float, high_hz: float, ring_s: float, modes: int, seed: int, count: int, rate: int
) -> Float32[np.ndarray, "sample"]:
    """Cymbals: so many modes that no pitch is left; the high ones fade first, and a wash of noise binds them."""
    rng = np.random.default_rng(seed)
    hertz = np.sort(rng.uniform(low_hz, min(high_hz, 0.44 * rate), modes))
    damping = (0.6 + 0.8 * hertz / high_hz) / ring_s
    amplitude = rng.uniform(0.3, 1.0, modes) * 0.9 / np.sqrt(modes)
    tone = ring(hertz, damping, amplitude, rng.uniform(0.0, 6.28, modes), count=count, rate=rate)
    return tone + 0.5 * _noise(low_hz, high_hz, 0.6 * ring_s, count, rate, seed)


def _noise(
    low_hz: float, high_hz: float, ring_s: float, count: int, rate: int, seed: int
) -> Float32[np.ndarray, "sample"]:
    length = min(count, round(9.0 * ring_s * rate))
    noise = np.random.default_rng(seed).standard_normal(length, dtype=np.float32)
    edges = np.clip([low_hz, high_hz], 20.0, 0.44 * rate)
    sos = scipy.signal.butter(2, edges, "bandpass", fs=rate, output="sos")
    sound = np.zeros(count, np.float32)
    sound[:length] = scipy.signal.sosfilt(sos, noise) * np.exp(-np.arange(length) / (ring_s * rate))
    return sound
