"""One sound of many: stems on the timeline, music that steps back for speech, loudness to a target without clipping."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32
from numba import njit

from affetto.media.audio import Audio
from affetto.media.loudness import integrated_loudness, limited, true_peak_db

RATE = 48_000
CEILING_DB = -1.0
DIALOGUE_LUFS = -19.0
"""What each voice is brought to before the mix, so that speakers match."""

_BLOCK = RATE
_FRAMES = 100  # values a second of the ducking gain
_PRESENT_DB = -38.0  # against the loudest moments: above, someone speaks
_ATTACK_S, _RELEASE_S, _AHEAD_S = 0.12, 0.55, 0.15


@dataclass(frozen=True, kw_only=True)
class MixReport:
    """What the mix measures."""

    loudness_lufs: float
    true_peak_db: float
    speech_lufs: float
    music_lufs: float | None
    ducking_db: float  # how much softer the music is while someone speaks, mean


def blocks(samples: Float32[np.ndarray, "channel sample"]) -> Iterator[np.ndarray]:
    """The sound a second at a time."""
    for start in range(0, samples.shape[1], _BLOCK):
        yield samples[:, start : start + _BLOCK]


def stem(parts: Sequence[tuple[float, Audio]], seconds: float) -> Audio:
    """Mono sound of `seconds` at 48 kHz with each part from its second on; parts that overlap add up."""
    total = round(seconds * RATE)
    samples = np.zeros((1, total), np.float32)
    for start, audio in parts:
        sound = audio.resampled(RATE).mono()
        first = round(start * RATE)
        count = min(len(sound), total - first)
        if count > 0:
            samples[0, first : first + count] += sound[:count]
    return Audio(samples=samples, rate=RATE)


def factor_to(audio: Audio, lufs: float | int) -> np.float32:
    """What brings a sound to a loudness; 1 for silence."""
    found = integrated_loudness(blocks(audio.samples), audio.rate)
    return np.float32(10.0 ** ((lufs - found) / 20.0)) if np.isfinite(found) else np.float32(1.0)


def mix(
    voices: Mapping[str, Audio],
    music: Audio | None,
    *,
    volumes: Mapping[str, tuple[float, float]],
    music_db: float | int,
    ducking_db: float | int,
    lufs: float | int,
) -> tuple[Audio, MixReport]:
    """Stereo at 48 kHz of voices (mono stems as long as the timeline) and music, at `lufs`, true peaks under -1 dBTP.

    `volumes` gives dB and pan (-1..1) of each voice. The music lies `music_db` against the voices where nobody speaks
    and `ducking_db` lower where someone does; its own loudness is levelled first.
    """
    speech = _panned(voices, volumes)
    speech_lufs = integrated_loudness(blocks(speech), RATE)
    whole, music_lufs, ducked = speech, None, 0.0
    if music is not None:
        reference = speech_lufs if np.isfinite(speech_lufs) else DIALOGUE_LUFS
        music = music.resampled(RATE)
        bed = _bed(music, factor_to(music, reference + music_db), speech.shape[1])
        gain = ducking_gain(speech, ducking_db)
        ducked = _apply(bed, gain)
        music_lufs = integrated_loudness(blocks(bed), RATE)
        whole = np.add(speech, bed, out=bed)
    del speech  # a minute of stereo is 22 MiB
    mixed, peak = mastered(whole, lufs)
    report = MixReport(
        loudness_lufs=integrated_loudness(blocks(mixed), RATE),
        true_peak_db=peak,
        speech_lufs=speech_lufs,
        music_lufs=music_lufs,
        ducking_db=ducked,
    )
    return Audio(samples=mixed, rate=RATE), report


def _panned(
    voices: Mapping[str, Audio], volumes: Mapping[str, tuple[float, float]]
) -> Float32[np.ndarray, "2 sample"]:
    """The voices at one loudness, each at its volume and in its place."""
    speech = np.zeros((2, max(audio.samples.shape[1] for audio in voices.values())), np.float32)
    for name, audio in voices.items():
        volume, pan = volumes.get(name, (0.0, 0.0))
        even = audio.samples[0] * factor_to(audio, DIALOGUE_LUFS + volume)
        angle = (pan + 1.0) * np.pi / 4.0
        gains = np.sqrt(2.0) * np.array([np.cos(angle), np.sin(angle)]) / np.sqrt(2.0)
        for channel in range(2):
            speech[channel, : len(even)] += np.float32(gains[channel]) * even
    return speech


def _bed(music: Audio, factor: np.float32, length: int) -> Float32[np.ndarray, "2 sample"]:
    """Music times `factor` as two channels of the timeline's length, faded where it is cut."""
    samples = music.samples if len(music.samples) == 2 else music.mono()[None]
    bed = np.zeros((2, length), np.float32)
    count = min(length, samples.shape[1])
    np.multiply(samples[:, :count], factor, out=bed[:, :count])
    if samples.shape[1] > length:
        fade = min(round(0.4 * RATE), length)
        bed[:, length - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32) ** 2
    return bed


def ducking_gain(
    speech: Float32[np.ndarray, "channel sample"], amount_db: float | int
) -> Float[np.ndarray, "frame"]:
    """The gain in dB, 100 values a second, that music takes under speech: 0 where nobody speaks, `-amount_db` under it.

    It falls before the words and rises slowly after them, so that it is not heard to move.
    """
    size = RATE // _FRAMES
    count = -(-speech.shape[1] // size)
    padded = np.zeros(count * size, np.float32)
    for start in range(0, speech.shape[1], _BLOCK):
        part = speech[:, start : start + _BLOCK]
        padded[start : start + part.shape[1]] = np.square(part).mean(axis=0)
    level = 10.0 * np.log10(padded.reshape(count, size).mean(axis=1) + 1e-12)
    loudest = float(np.percentile(level, 99)) if count else 0.0
    here = (level > max(loudest + _PRESENT_DB, -65.0)).astype(np.float64)
    ahead = round(_AHEAD_S * _FRAMES)
    here = np.concatenate([here[ahead:], np.zeros(min(ahead, count))])[:count]
    smooth = _follow(
        here, 1.0 - np.exp(-1.0 / (_ATTACK_S * _FRAMES)), 1.0 - np.exp(-1.0 / (_RELEASE_S * _FRAMES))
    )
    return -amount_db * smooth


@njit(cache=True, nogil=True)
@no_type_check
def _follow(values: np.ndarray, rise: float, fall: float) -> np.ndarray:
    out = np.empty_like(values)
    now = 0.0
    for index in range(len(values)):
        now += (rise if values[index] > now else fall) * (values[index] - now)
        out[index] = now
    return out


def _apply(bed: Float32[np.ndarray, "2 sample"], gain_db: Float[np.ndarray, "frame"]) -> float:
    """Turn the bed down in place; returns the mean reduction in dB where there is any."""
    factor = 10.0 ** (gain_db / 20.0)
    size = RATE // _FRAMES
    marks = (np.arange(len(factor)) + 0.5) * size
    for start in range(0, bed.shape[1], _BLOCK):
        stop = min(start + _BLOCK, bed.shape[1])
        bed[:, start:stop] *= np.interp(np.arange(start, stop), marks, factor).astype(np.float32)
    active = gain_db < -0.5
    return float(-gain_db[active].mean()) if active.any() else 0.0


def mastered(
    samples: Float32[np.ndarray, "channel sample"], lufs: float | int
) -> tuple[Float32[np.ndarray, "channel sample"], float]:
    """The sound at `lufs` with true peaks under -1 dBTP, and its true peak; what limiting takes away is made up for."""
    found = integrated_loudness(blocks(samples), RATE)
    if not np.isfinite(found):
        return samples, true_peak_db(samples)
    gain_db = lufs - found
    out = np.empty_like(samples)
    for _ in range(4):
        factor = np.float32(10.0 ** (gain_db / 20.0))
        done = 0
        for part in limited((block * factor for block in blocks(samples)), RATE, ceiling_db=CEILING_DB):
            out[:, done : done + part.shape[1]] = part
            done += part.shape[1]
        missing = lufs - integrated_loudness(blocks(out), RATE)
        if abs(missing) < 0.05:
            break
        gain_db += missing
    return out, max(true_peak_db(part) for part in blocks(out))
