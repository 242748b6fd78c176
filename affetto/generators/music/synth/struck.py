"""Plucked strings and struck bars, bells and kalimbas: modes with a body around them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from affetto.generators.music.synth.modes import fade_in, ring


@dataclass(frozen=True, kw_only=True)
class Plucked:
    """A string that is plucked at a part of its length; losses in nepers a second at middle C."""

    place: float = 0.2  # of the length
    edge_hz: float = 2_600.0  # how bright a middling pluck is
    loss: float = 0.9
    bending_loss: float = 0.02  # of partial n, times n^2
    stiffness: float = 6e-5
    body: tuple[tuple[float, float], ...] = ()  # hertz and dB of resonances
    noise: float = 0.05  # of the finger or plectrum
    contact_s: float = 0.0012


def pluck(string: Plucked, pitch: int, force: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    """`count` samples of the string left to itself; more samples begin with the same samples."""
    f0 = 440.0 * 2.0 ** ((pitch - 69) / 12.0)
    number = np.arange(1.0, min(60, int(0.45 * rate / f0)) + 1.0)
    hertz = number * f0 * np.sqrt((1.0 + string.stiffness * number**2) / (1.0 + string.stiffness))
    amplitude = np.abs(np.sin(np.pi * number * string.place)) / number
    amplitude *= np.exp(-hertz / (string.edge_hz * (0.45 + 1.1 * force) + 1.2 * f0))
    decibels = np.zeros(len(hertz))
    for centre, gain in string.body:
        decibels += gain * np.exp(-((np.log2(hertz / centre) / 0.22) ** 2))
    amplitude *= 10.0 ** (decibels / 20.0)
    amplitude /= np.sqrt(np.sum(amplitude**2))
    register = np.exp(0.045 * (pitch - 60))
    rng = np.random.default_rng(2_000 + pitch)
    damping = string.loss * register + string.bending_loss * register**2 * number**2
    damping = np.minimum(damping, 60.0) * rng.uniform(0.85, 1.15, len(hertz))
    phase = rng.uniform(-0.4, 0.4, len(hertz))
    late = np.full(len(hertz), 0.25)
    sound = ring(
        np.concatenate([hertz, hertz * 1.0004]),
        np.concatenate([1.4 * damping, 0.5 * damping]),
        np.concatenate([(1.0 - late) * amplitude, late * amplitude]),
        np.concatenate([phase, phase + 1.0]),
        count=count,
        rate=rate,
    )
    if string.noise:
        sound += _scratch(string, force, count, rate)
    fade_in(sound, string.contact_s, rate)
    return sound


def _scratch(string: Plucked, force: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    """The finger on the string and the wood that answers: short modes, the same for every note."""
    rng = np.random.default_rng(41)
    hertz = 130.0 * 2.0 ** (5.2 * rng.uniform(size=40))
    amplitude = rng.standard_normal(40) * np.exp(-hertz / (1_500.0 + 2_500.0 * force)) * string.noise * 0.6
    return ring(hertz, 35.0 + hertz / 9.0, amplitude, rng.uniform(0.0, 6.28, 40), count=count, rate=rate)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A struck bar, tine or bell: partials as ratios of the note, with amplitude and decay time (s) at middle C."""

    partials: tuple[tuple[float, float, float], ...]
    hardness: float = 1.0  # how little a soft blow hides the upper partials
    shortening: float = 0.035  # nepers a semitone by which higher notes are shorter
    knock: float = 0.05
    shimmer_cents: float = 1.0  # between the twins of each partial
    tremolo_hz: float = 0.0
    contact_s: float = 0.0006


def strike(bar: Bar, pitch: int, force: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    """`count` samples of the bar left to itself; more samples begin with the same samples."""
    f0 = 440.0 * 2.0 ** ((pitch - 69) / 12.0)
    ratio, amplitude, seconds = (np.array(column) for column in zip(*bar.partials, strict=True))
    hertz = ratio * f0
    mallet = (2_200.0 + 9_000.0 * force) * bar.hardness + f0
    amplitude = amplitude * np.exp(-(hertz - f0) / mallet)
    amplitude /= np.sqrt(np.sum(amplitude**2))
    damping = 6.9 / seconds * np.exp(bar.shortening * (pitch - 60))
    twin = 2.0 ** (bar.shimmer_cents / 1200.0)
    sound = ring(
        np.concatenate([hertz, twin * hertz]),
        np.tile(damping, 2),
        np.concatenate([0.7 * amplitude, 0.3 * amplitude]),
        np.zeros(2 * len(hertz)),
        count=count,
        rate=rate,
    )
    if bar.knock:
        rng = np.random.default_rng(43)
        tick = rng.uniform(900.0, 7_000.0, 24)
        sound += ring(
            tick,
            90.0 + tick / 12.0,
            rng.standard_normal(24) * bar.knock * (0.3 + force) * 0.3,
            rng.uniform(0.0, 6.28, 24),
            count=count,
            rate=rate,
        )
    if bar.tremolo_hz:
        beat = 2.0 * np.pi * bar.tremolo_hz * np.arange(count) / rate
        sound *= (0.85 + 0.15 * np.cos(beat)).astype(np.float32)
    fade_in(sound, bar.contact_s, rate)
    return sound
