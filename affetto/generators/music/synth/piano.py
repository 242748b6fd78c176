"""A grand piano by modal synthesis: stiff strings, felt hammers, two-stage decay, and a soundboard that knocks.

Inharmonicity follows Rigaud, David and Daudet, "A parametric model of piano tuning" (DAFx 2011); losses along the string
Bensa et al., "The simulation of piano string vibration" (JASA 2003); two-stage decay Weinreich, "Coupled piano strings"
(JASA 1977). What these leave open (hammer spectra, the soundboard's knock) is our choice, held against how fast spectra
fall and how long notes last in each register of real instruments.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32

from affetto.generators.music.synth.modes import fade_in, ring

LOWEST, HIGHEST = 21, 108
FIRST_UNDAMPED = 90  # MIDI; shorter strings have no dampers
_MOST_PARTIALS = 90
_KNOCK_MODES = 110
_STRETCH = (-14.0, -7.0, -3.0, -1.0, 0.0, 2.5, 8.0, 28.0)  # cents


def inharmonicity(pitch: int) -> float:
    """B of a key: its partial n lies at n f0 sqrt(1 + B n^2); lowest around the second octave."""
    return float(np.exp(0.0926 * pitch - 13.64) + np.exp(-0.0847 * pitch - 5.82))


def fundamental(pitch: int) -> float:
    """f0 in Hz of a key of a stretched tuning: partials are sharp, so tuners widen octaves (Railsback, JASA 1938)."""
    cents = np.interp(pitch, (21.0, 33.0, 45.0, 57.0, 69.0, 81.0, 93.0, 108.0), _STRETCH)
    first = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0 + cents / 1200.0)
    return float(first / np.sqrt(1.0 + inharmonicity(pitch)))


def partials(pitch: int, rate: int) -> Float[np.ndarray, "partial"]:
    """The frequencies in Hz of a key's partials below 16 kHz and 0.46 of the rate."""
    f0, stiff = fundamental(pitch), inharmonicity(pitch)
    number = np.arange(1.0, _MOST_PARTIALS + 1.0)
    hertz = number * f0 * np.sqrt(1.0 + stiff * number**2)
    return hertz[hertz < min(16_000.0, 0.46 * rate)]


def damping(pitch: int, count: int) -> Float[np.ndarray, "partial"]:
    """How fast partials 1..count fade in nepers per second, taken over both stages."""
    number = np.arange(1.0, count + 1.0)
    air = 0.13 + 0.95 * np.exp(0.05 * (pitch - 60.0))
    bending = np.minimum(0.0075 * np.exp(0.13 * (pitch - 60.0)) * number**2, 4.0 * air + 0.35 * number)
    return air + bending


def spectrum(pitch: int, force: float, hertz: Float[np.ndarray, "partial"]) -> Float[np.ndarray, "partial"]:
    """Amplitudes of the partials for a blow of 0..1: harder felt is shorter on the string and makes it brighter."""
    number = np.arange(1.0, len(hertz) + 1.0)
    strike = 1.0 / np.interp(pitch, (21.0, 60.0, 90.0, 108.0), (8.0, 8.6, 11.0, 16.0))
    comb = np.abs(np.sin(np.pi * number * strike)) / strike / np.pi
    comb = 0.9 * np.minimum(comb, number) + 0.1 * np.minimum(number, 2.0)
    edge = (620.0 + 0.6 * hertz[0]) * (0.4 + 1.75 * force**1.3)
    felt = np.exp(-hertz / edge) + (0.004 + 0.03 * force**2) * np.exp(-hertz / (3.2 * edge))
    low = (hertz / 95.0) ** 2
    slope = np.interp(pitch, (21.0, 48.0, 72.0), (0.35, 0.5, 0.65))
    return comb / number**slope * felt * low / (1.0 + low) * _colour(hertz)


def _colour(hertz: Float[np.ndarray, "partial"]) -> Float[np.ndarray, "partial"]:
    """The soundboard's uneven radiation: within 5 dB, the same for every key that has a partial there."""
    rng = np.random.default_rng(88)
    octave = np.log2(np.maximum(hertz, 20.0) / 20.0)
    decibels = np.zeros(len(hertz))
    for ripples, depth in ((1.3, 1.2), (4.1, 1.5), (11.0, 1.6), (27.0, 1.2)):
        decibels += depth * np.sin(2.0 * np.pi * (ripples * octave + rng.uniform()))
    return 10.0 ** (decibels / 20.0)


def piano(pitch: int, force: float, count: int, rate: int) -> Float32[np.ndarray, "sample"]:
    """`count` samples of a key struck with a force of 0..1 and never damped, about 1 at its loudest."""
    pitch = int(np.clip(pitch, LOWEST, HIGHEST))
    hertz = partials(pitch, rate)
    amplitude = spectrum(pitch, force, hertz)
    amplitude /= np.sqrt(np.sum(amplitude**2))
    rng = np.random.default_rng(pitch)
    fade = damping(pitch, len(hertz)) * rng.uniform(0.85, 1.18, len(hertz))
    phase = rng.uniform(
        -np.pi, np.pi, len(hertz)
    )  # the soundboard scatters the pulse that runs along the string
    apart = float(np.interp(pitch, (21.0, 45.0, 108.0), (0.2, 0.45, 0.8))) * rng.uniform(0.8, 1.2)
    tuned = apart * rng.uniform(0.4, 1.6, len(hertz))  # the bridge moves with each partial differently
    late = rng.uniform(0.15, 0.38, len(hertz))
    # Strings that move alike lose their energy to the bridge quickly; what is left moves against each other and stays.
    modes = (
        (np.zeros(len(hertz)), 1.0 - late, 1.5),
        (-tuned, 0.62 * late, 0.62),
        (0.8 * tuned[::-1], 0.45 * late, 0.48),
    )
    strings = len(modes) if pitch >= 33 else 2  # the lowest keys have one string, which moves in two planes
    columns = [
        (hertz * 2.0 ** (cents / 1200.0), fade * faster, amplitude * share, phase + turn)
        for turn, (cents, share, faster) in enumerate(modes[:strings])
    ]
    sound = ring(*(np.concatenate(column) for column in zip(*columns, strict=True)), count=count, rate=rate)
    sound *= np.float32(np.interp(pitch, (21.0, 60.0, 108.0), (0.75, 1.0, 1.15)))
    contact = np.interp(pitch, (21.0, 60.0, 108.0), (0.0042, 0.0022, 0.0006)) * (1.35 - 0.6 * force)
    fade_in(sound, float(contact), rate)
    knock = _knock(pitch, round(force, 3), rate)[:count]
    sound[: len(knock)] += knock
    return sound


@lru_cache(maxsize=256)
def _knock(pitch: int, force: float, rate: int) -> Float32[np.ndarray, "sample"]:
    """The hammer's blow through the soundboard, and the key that meets its bed: short, low modes of the whole instrument."""
    rng = np.random.default_rng(7)
    hertz = np.sort(70.0 * 2.0 ** (6.3 * rng.uniform(0.0, 1.0, _KNOCK_MODES)))
    amplitude = rng.standard_normal(_KNOCK_MODES)
    where = np.interp(pitch, (21.0, 108.0), (250.0, 900.0))
    bright = 500.0 + 1_900.0 * force**1.3
    amplitude *= np.exp(-hertz / bright) / (1.0 + (where / hertz) ** 2)
    level = np.interp(pitch, (21.0, 60.0, 84.0, 96.0, 108.0), (0.05, 0.07, 0.14, 0.22, 0.36)) * (
        0.45 + 1.1 * force
    )
    amplitude *= level / np.sqrt(np.sum(amplitude**2))
    fade = 14.0 + hertz / 11.0
    sound = ring(
        hertz,
        fade,
        amplitude,
        rng.uniform(0.0, 2.0 * np.pi, _KNOCK_MODES),
        count=round(0.35 * rate),
        rate=rate,
    )
    fade_in(sound, 0.0012, rate)
    return sound


def piano_release(pitch: int) -> float:
    """The time constant in seconds with which the damper silences a key; endless where there is no damper."""
    if pitch >= FIRST_UNDAMPED:
        return float("inf")
    return float(np.interp(pitch, (21.0, 40.0, 60.0, 89.0), (0.16, 0.1, 0.06, 0.04)))
