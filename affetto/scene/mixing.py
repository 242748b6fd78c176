"""One sound of many: stems on the timeline, music that steps back for speech, loudness to a target without clipping.

Everything as long as the timeline lies on a shelf and is walked along a second at a time.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32
from numba import njit

from affetto.media.audio import Audio
from affetto.media.loudness import integrated_loudness, limited, true_peak_db
from affetto.media.shelf import Shelf, in_blocks, put_away

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
    return in_blocks(samples, _BLOCK)


def stem(parts: Sequence[tuple[float, Audio]], seconds: float) -> Audio:
    """Mono sound of `seconds` at 48 kHz with each part from its second on; parts that overlap add up."""
    total = round(seconds * RATE)
    samples = Shelf().empty(1, total)
    for start, audio in parts:
        sound = audio.resampled(RATE).mono()
        first = round(start * RATE)
        count = min(len(sound), total - first)
        if count > 0:
            samples[0, first : first + count] += sound[:count]
            put_away(samples[:, first : first + count])
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
        for spoken, played in zip(blocks(speech), blocks(bed), strict=True):
            played += spoken
        whole = bed
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
    speech = Shelf().empty(2, max(audio.samples.shape[1] for audio in voices.values()))
    for name, audio in voices.items():
        volume, pan = volumes.get(name, (0.0, 0.0))
        factor = factor_to(audio, DIALOGUE_LUFS + volume)
        angle = (pan + 1.0) * np.pi / 4.0
        gains = np.array([np.cos(angle), np.sin(angle)]).astype(np.float32)
        length = audio.samples.shape[1]
        for block, place in zip(blocks(audio.samples), blocks(speech[:, :length]), strict=True):
            place += gains[:, None] * (factor * block[:1])
    return speech


def _bed(music: Audio, factor: np.float32, length: int) -> Float32[np.ndarray, "2 sample"]:
    """Music times `factor` as two channels of the timeline's length, faded where it is cut."""
    bed = Shelf().empty(2, length)
    count = min(length, music.samples.shape[1])
    for block, place in zip(blocks(music.samples[:, :count]), blocks(bed[:, :count]), strict=True):
        place += factor * (block if len(block) == 2 else block.mean(axis=0, dtype=np.float32))
    if music.samples.shape[1] > length:
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
    power: list[np.ndarray] = []
    for part in blocks(speech):
        square = np.square(part).mean(axis=0)
        padded = np.pad(square, (0, -len(square) % size))
        power.append(padded.reshape(-1, size).mean(axis=1))
    level = 10.0 * np.log10(np.concatenate(power) + 1e-12) if power else np.zeros(0)
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
    start = 0
    for block in blocks(bed):
        at = np.arange(start, start + block.shape[1])
        block *= np.interp(at, marks, factor).astype(np.float32)
        start += block.shape[1]
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
    out = Shelf().empty(*samples.shape)
    for _ in range(4):
        factor = np.float32(10.0 ** (gain_db / 20.0))
        _fill(out, limited((block * factor for block in blocks(samples)), RATE, ceiling_db=CEILING_DB))
        missing = lufs - integrated_loudness(blocks(out), RATE)
        if abs(missing) < 0.05:
            break
        gain_db += missing
    return out, max(true_peak_db(part) for part in blocks(out))


def _fill(out: Float32[np.ndarray, "channel sample"], parts: Iterable[np.ndarray]) -> None:
    """Lay parts one after the other into `out`, and away."""
    done = 0
    for part in parts:
        place = out[:, done : done + part.shape[1]]
        place[:] = part
        put_away(place)
        done += part.shape[1]


def gathered(pieces: Iterable[Audio], seconds: float) -> Audio:
    """Pieces of sound (of one rate, as many channels, `seconds` at most in all) as one, on a shelf."""
    rest = iter(pieces)
    first = next(rest)
    samples = Shelf().empty(len(first.samples), round(seconds * first.rate))
    done = 0
    for piece in itertools.chain([first], rest):
        place = samples[:, done : done + piece.samples.shape[1]]
        place[:] = piece.samples[:, : place.shape[1]]
        put_away(place)
        done += place.shape[1]
    return Audio(samples=samples[:, :done], rate=first.rate)
