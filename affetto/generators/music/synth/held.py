"""Bowed and blown tones: harmonics of a phase that wavers, a spectrum that opens as the tone speaks, and breath."""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import scipy.signal
from jaxtyping import Float, Float32
from numba import njit

_DRIFT_POINTS = 256
_DRIFT_S = 0.11
_MOST_HARMONICS = 40
_RUN = 256  # samples that are worked on together
_HIGHEST_HZ = 13_000.0  # above, breath and bow noise are all there is

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Held:
    """How a family of sustained instruments sounds. Spectra fall in dB an octave above a knee, odd harmonics favoured."""

    attack_s: float
    opening_s: float  # until the bright spectrum is reached
    knee_hz: float  # harmonics up to here are about equally strong
    slope_db: float  # an octave above the knee, fully open
    soft_db: float = 6.0  # how much steeper a beginning or a gentle tone is
    even: float = 1.0  # strength of even harmonics
    formants: tuple[tuple[float, float, float], ...] = ()  # hertz, dB, octaves wide
    vibrato_cents: float = 0.0
    vibrato_hz: float = 5.3
    vibrato_after_s: float = 0.35
    drift_cents: float = 2.0
    breath: float = 0.0  # level of noise beside the tone
    voices: int = 1  # players in unison
    spread_cents: float = 6.0


@njit(cache=True, nogil=True)
@no_type_check
def _sing(
    step: float,
    vibrato: Array,
    drift: Array,
    drift_every: float,
    attack: float,
    opening: float,
    dark: Array,
    bright: Array,
    phase: float,
    out: Array,
) -> None:
    """Add one voice; `vibrato` is depth, radians a sample, first phase, samples until it has begun."""
    depth, turn, begin, wait = vibrato[0], vibrato[1], vibrato[2], vibrato[3]
    swell = shade = 0.0
    before, now, twice, low, high = np.empty((5, _RUN))
    loud, open_ = np.empty((2, _RUN))
    for start in range(0, len(out), _RUN):
        part = out[start : start + _RUN]
        for i in range(len(part)):
            place = (start + i) / drift_every
            k = int(place) % (len(drift) - 1)
            weight = place - int(place)
            off = drift[k] * (1.0 - weight) + drift[k + 1] * weight
            grown = min((start + i) / wait, 1.0)
            off += depth * grown * grown * np.sin(turn * (start + i) + begin)
            phase += step * (1.0 + off)
            if phase > 2.0 * np.pi:
                phase -= 2.0 * np.pi
            before[i], now[i], twice[i] = 0.0, np.sin(phase), 2.0 * np.cos(phase)
            low[i] = high[i] = 0.0
            swell += (1.0 - swell) * attack
            shade += (swell - shade) * opening
            loud[i], open_[i] = swell * (1.0 + 6.0 * off), shade
        for harmonic in range(len(dark)):  # sin(k x) from its two predecessors
            for i in range(len(part)):
                low[i] += dark[harmonic] * now[i]
                high[i] += bright[harmonic] * now[i]
                after = twice[i] * now[i] - before[i]
                before[i] = now[i]
                now[i] = after
        for i in range(len(part)):
            part[i] += loud[i] * (low[i] + open_[i] * (high[i] - low[i]))


def _strengths(held: Held, hertz: Float[np.ndarray, "k"], extra_db: float) -> Float[np.ndarray, "k"]:
    octaves = np.maximum(np.log2(hertz / held.knee_hz), 0.0)
    decibels = -(held.slope_db + extra_db) * octaves
    for centre, gain, width in held.formants:
        decibels += gain * np.exp(-((np.log2(hertz / centre) / width) ** 2))
    strengths = 10.0 ** (decibels / 20.0)
    strengths[1::2] *= held.even
    return strengths


def sing(held: Held, pitch: int, force: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    """`count` samples of a tone that goes on; more samples begin with the same samples."""
    f0 = 440.0 * 2.0 ** ((pitch - 69) / 12.0)
    harmonics = int(np.clip(min(0.42 * rate, _HIGHEST_HZ) / f0, 1, _MOST_HARMONICS))
    hertz = f0 * np.arange(1.0, harmonics + 1.0)
    gentle = held.soft_db * (1.0 - force)
    bright = _strengths(held, hertz, gentle)
    dark = _strengths(held, hertz, gentle + held.soft_db)
    level = 1.0 / (np.sqrt(np.sum(bright**2)) * held.voices**0.6)
    sound = np.zeros(count, np.float32)
    rng = np.random.default_rng(1_000 + pitch)
    for voice in range(held.voices):
        cents = held.spread_cents * (voice - (held.voices - 1) / 2.0) / max(held.voices - 1, 1) * 2.0
        drift = np.cumsum(rng.standard_normal(_DRIFT_POINTS))
        drift -= np.linspace(drift[0], drift[-1], _DRIFT_POINTS)  # it repeats without a leap
        drift *= held.drift_cents / 1731.2 / max(float(np.std(drift)), 1e-9)
        shiver = held.vibrato_hz * rng.uniform(0.92, 1.08)
        wait = held.vibrato_after_s * rng.uniform(0.8, 1.2) * rate + 1.0
        vibrato = np.array(
            [held.vibrato_cents / 1731.2, 2.0 * np.pi * shiver / rate, rng.uniform(0.0, 6.28), wait]
        )
        _sing(
            2.0 * np.pi * f0 * 2.0 ** (cents / 1200.0) / rate,
            vibrato,
            drift,
            _DRIFT_S * rate,
            1.0 / (held.attack_s * rate),
            1.0 / (held.opening_s * rate),
            dark * level,
            bright * level,
            0.0 if held.voices == 1 else float(rng.uniform(0.0, 6.28)),
            sound,
        )
    if held.breath:
        sound += held.breath * _breath(f0, count, rate, pitch) * _rise(count, 0.6 * held.attack_s, rate)
    return sound


def _rise(count: int, seconds: float, rate: int) -> Float32[np.ndarray, "sample"]:
    return (1.0 - np.exp(-np.arange(count) / (seconds * rate))).astype(np.float32)


def _breath(f0: float, count: int, rate: int, seed: int) -> Float32[np.ndarray, "sample"]:
    """Noise around and above the tone, as lips, reeds and bows make it."""
    noise = np.random.default_rng(seed).standard_normal(count, dtype=np.float32)
    edges = np.clip([1.2 * f0, 5.0 * f0 + 2_500.0], 200.0, 0.42 * rate)
    band = scipy.signal.butter(1, edges, "bandpass", fs=rate, output="sos")
    return np.asarray(scipy.signal.sosfilt(band, noise), np.float32)
