"""Other rooms, microphones, throats and tempos for a clip of speech, with the phone times that go with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import soxr
from jaxtyping import Float

from affetto.speech.phones import TimedPhone

RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How strongly clips are changed; chances are 0..1."""

    speed: float = 0.14  # largest relative change of tempo, pitch and formants together
    colour_db: float = 9.0  # standard deviation of the channel's colour
    noise_chance: float = 0.7
    noise_db: tuple[float, float] = (5.0, 35.0)
    room_chance: float = 0.4
    band_chance: float = 0.3


def stretched(phones: Sequence[TimedPhone], factor: float) -> tuple[TimedPhone, ...]:
    """The same phones with every time multiplied by `factor`."""
    return tuple(
        replace(
            phone,
            start=phone.start * factor,
            end=phone.end * factor,
            release=None if phone.release is None else phone.release * factor,
        )
        for phone in phones
    )


def augment(
    samples: Float[np.ndarray, "sample"],
    phones: Sequence[TimedPhone],
    rng: np.random.Generator,
    babble: Sequence[Float[np.ndarray, "noise"]],
    amount: Augmentation,
) -> tuple[Float[np.ndarray, "other"], tuple[TimedPhone, ...]]:
    """One random version of a clip and its phone times; `babble` are clips of other people to mix in as noise."""
    factor = float(np.exp(rng.uniform(-amount.speed, amount.speed)))
    changed = np.asarray(soxr.resample(samples, RATE, RATE * factor, quality="LQ"), np.float32)
    timed = stretched(phones, len(changed) / max(len(samples), 1))
    response = channel_response(len(changed) + RATE // 2, rng, amount)
    spectrum = np.fft.rfft(changed, len(changed) + RATE // 2)
    changed = np.fft.irfft(spectrum * response)[: len(changed)].astype(np.float32)
    if rng.random() < amount.noise_chance:
        changed = changed + noise(len(changed), rng, babble) * _rms(changed) * 10 ** (
            -rng.uniform(*amount.noise_db) / 20
        )
    return changed.astype(np.float32), timed


def channel_response(length: int, rng: np.random.Generator, amount: Augmentation) -> np.ndarray:
    """The complex frequency response of a random room and microphone for real signals of `length` samples."""
    frequency = np.fft.rfftfreq(length, 1.0 / RATE)
    knots = np.linspace(0.0, 1.0, 8)
    colour = np.interp((frequency / (RATE / 2)) ** 0.6, knots, rng.normal(0.0, amount.colour_db / 2, 8))
    response = (10.0 ** (colour / 20.0)).astype(np.complex128)
    if rng.random() < amount.band_chance:
        top, bottom = rng.uniform(3_000.0, 7_500.0), rng.uniform(20.0, 300.0)
        response /= 1.0 + (frequency / top) ** 12
        response /= 1.0 + (bottom / np.maximum(frequency, 1.0)) ** 4
    if rng.random() < amount.room_chance:
        response = response * np.fft.rfft(room(rng), length)
    return response


def room(rng: np.random.Generator) -> Float[np.ndarray, "tap"]:
    """A random room's impulse response: the direct sound at sample 0, then decaying noise."""
    seconds = float(rng.uniform(0.1, 0.45))
    times = np.arange(int(min(seconds, 0.45) * RATE)) / RATE
    tail = rng.normal(size=len(times)) * np.exp(-6.9 * times / seconds) * (times > 0.002)
    response = tail / np.sqrt(np.sum(tail**2) + 1e-9) * float(rng.uniform(0.1, 0.7))
    response[0] = 1.0
    return response


def noise(length: int, rng: np.random.Generator, babble: Sequence[Float[np.ndarray, "noise"]]) -> np.ndarray:
    """Noise of unit RMS: coloured hiss, several voices at once, or slowly changing chords."""
    kind = rng.random()
    if kind < 0.5 or (kind < 0.75 and not babble):
        spectrum = np.fft.rfft(rng.normal(size=length))
        slope = float(rng.uniform(0.0, 1.2))
        made = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 8.0) ** slope, length)
    elif kind < 0.75:
        made = np.zeros(length)
        for _ in range(int(rng.integers(3, 7))):
            voice = babble[int(rng.integers(len(babble)))]
            made += np.resize(np.roll(voice, int(rng.integers(max(len(voice), 1)))), length) / (
                _rms(voice) + 1e-6
            )
    else:
        times = np.arange(length) / RATE
        made = np.zeros(length)
        for _ in range(int(rng.integers(3, 9))):
            pitch = 55.0 * 2.0 ** (rng.integers(0, 48) / 12.0)
            beat = np.sin(np.pi * rng.uniform(0.5, 3.0) * times + rng.uniform(0.0, 6.3)) ** 2
            for harmonic in range(1, 5):
                made += np.sin(2 * np.pi * pitch * harmonic * times) * beat / harmonic
    return made / (_rms(made) + 1e-9)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))
