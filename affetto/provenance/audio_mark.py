"""A mark in sound: cells of the spectrogram a little louder or softer, by a keyed pattern that repeats every 2.7 seconds.

Spread-spectrum marking of magnitudes (after Kirovski and Malvar 2003): no weights, and shaped like the signal itself. It
survives MP3, AAC and Opus at speech rates, noise, cutting and resampling; it does not survive pitch shifting, speeds
off by more than the search covers, nor someone who holds the key. The public key makes a detector that is free for all,
and a mark that a determined person can remove: it informs, it does not protect.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import soxr
from jaxtyping import Float, Float32
from scipy.ndimage import uniform_filter1d

from affetto.media.audio import Audio
from affetto.media.shelf import Shelf, put_away
from affetto.provenance.payload import BITS, from_bits, to_bits
from affetto.runtime.errors import UsageError

RATE = 24_000
WINDOW, HOP = 1024, 512
THRESHOLD = 6.25
"""Score from which on sound counts as marked: of 2560 places, one of unmarked sound gets there in 5e-7 of all files.

benchmarks/marks.py checks the law that this rests on (a place scores as a standard normal variable).
"""

_LOW, _HIGH = 400, 6000  # Hz
_CELL_BINS, _CELL_FRAMES = 2, 2
_PERIOD = 64  # cells of time
_FIRST = _LOW * WINDOW // RATE
_CELLS = (_HIGH - _LOW) * WINDOW // RATE // _CELL_BINS
_LAST = _FIRST + _CELLS * _CELL_BINS
_STRENGTH_DB = 1.0
_BLOCK = 2048  # frames embedded at once: 44 s
_QUIET = 1e-5
_PART_S = 44.0  # marked at once, with a period or more on either side


@dataclass(frozen=True, kw_only=True)
class MarkFound:
    """What a detector found: its score (in standard deviations of no mark), whether that is a mark, and the tag if legible."""

    score: float
    marked: bool
    tag: int | None


def mark_audio(audio: Audio, *, key: int, tag: int = 0, strength_db: float = _STRENGTH_DB) -> Audio:
    """The sound with the mark of `key`, carrying `tag` (0..4095); same rate, channels and length.

    Cells between 0.4 and 6 kHz change by `strength_db`. Sound below 8 kHz of bandwidth carries less of it.
    """
    if audio.rate < 8000:
        raise UsageError(f"sound at {audio.rate} Hz cannot be marked: use 8000 Hz or more")
    gains = _gains(key, tag, strength_db)
    count, beside = audio.samples.shape[1], _steady(audio.rate)
    part = beside * max(round(_PART_S * audio.rate / beside), 1)
    if count <= 2 * part:
        return replace(audio, samples=_marked(audio.samples, audio.rate, gains))
    marked = Shelf().empty(*audio.samples.shape)
    for start in range(0, count, part):
        stop = min(start + part, count)
        first, last = max(start - beside, 0), min(stop + beside, count)
        done = _marked(audio.samples[:, first:last], audio.rate, gains)
        marked[:, start:stop] = done[:, start - first : stop - first]
        put_away(marked[:, start:stop])
        put_away(audio.samples[:, first:last])
    return replace(audio, samples=marked)


def _steady(rate: int) -> int:
    """Samples after which the pattern is the same again, at this rate and at the mark's."""
    period = _PERIOD * _CELL_FRAMES * HOP * rate
    return period // math.gcd(period, RATE)


def _marked(
    sound: Float32[np.ndarray, "channel sample"], rate: int, gains: Float32[np.ndarray, "time bin"]
) -> Float32[np.ndarray, "channel sample"]:
    """The sound with the mark; its first sample begins a period."""
    marked = np.empty(sound.shape, np.float32)
    for channel, samples in enumerate(np.asarray(sound)):
        low = samples if rate == RATE else soxr.resample(samples, rate, RATE, quality="HQ")
        change = _change(low, gains)
        if rate != RATE:
            change = soxr.resample(change, RATE, rate, quality="HQ")
        change = np.pad(change[: len(samples)], (0, max(len(samples) - len(change), 0)))
        marked[channel] = samples + change
    return marked


def find_audio_mark(audio: Audio, *, key: int, speeds: tuple[float, ...] = (1.0,)) -> MarkFound:
    """Look for the mark of `key` at any offset and at these `speeds` (1.02: the sound was sped up by 2 %)."""
    best = MarkFound(score=0.0, marked=False, tag=None)
    mono = audio.mono()
    for speed in speeds:
        low = soxr.resample(mono, audio.rate, RATE * speed, quality="HQ").astype(np.float32)
        if len(low) < 2 * WINDOW:
            continue
        found = _found(low, key)
        best = found if found.score > best.score else best
    return best


@lru_cache(maxsize=8)
def _pattern(key: int) -> tuple[Float32[np.ndarray, "time cell"], np.ndarray]:
    """Signs of the cells, and to which bit (1..16) each belongs; 0 are those that synchronise."""
    chance = np.random.default_rng([key, 1])
    signs = chance.choice(np.array([-1.0, 1.0], np.float32), size=(_PERIOD, _CELLS))
    owners = np.where(chance.random(signs.shape) < 0.5, 0, chance.integers(1, BITS + 1, size=signs.shape))
    return signs, owners


def _gains(key: int, tag: int, strength_db: float) -> Float32[np.ndarray, "time bin"]:
    """What every bin is multiplied by, less one, over one period of cells."""
    signs, owners = _pattern(key)
    bits = np.concatenate([[1], to_bits(tag)])
    cells = signs * bits[owners]
    return (10.0 ** (strength_db / 20.0 * np.repeat(cells, _CELL_BINS, axis=1)) - 1.0).astype(np.float32)


def _change(samples: Float[np.ndarray, "sample"], gains: Float32[np.ndarray, "time bin"]) -> np.ndarray:
    """What the mark adds, block by block; frame f begins at sample (f - 1) * HOP."""
    frames = len(samples) // HOP + 2
    padded = np.pad(samples.astype(np.float32), (HOP, (frames + 1) * HOP - len(samples)))
    change = np.zeros(len(padded), np.float32)
    window = np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW).astype(np.float32)
    for start in range(0, frames, _BLOCK):
        index = np.arange(start, min(start + _BLOCK, frames))
        pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[index * HOP] * window
        spectra = np.fft.rfft(pieces)
        edit = np.zeros_like(spectra)
        edit[:, _FIRST:_LAST] = spectra[:, _FIRST:_LAST] * gains[index // _CELL_FRAMES % _PERIOD]
        waves = (np.fft.irfft(edit) * window).astype(np.float32)
        for half in (0, 1):  # frames overlap by half: even and odd ones lie end to end
            part = waves[half::2]
            at = (start + half) * HOP
            change[at : at + part.size] += part.reshape(-1)
    return change[HOP : HOP + len(samples)]


def _found(samples: Float32[np.ndarray, "sample"], key: int) -> MarkFound:
    signs, owners = _pattern(key)
    best, score = None, 0.0
    for cells in _foldings(samples):
        match = _matches(cells, key)
        if match.max() > score:
            best, score = np.roll(cells, -int(match.argmax()), axis=0), float(match.max())
    if best is None:
        return MarkFound(score=0.0, marked=False, tag=None)
    bits = np.array(
        [1 if (best * signs)[owners == bit].sum() > 0 else -1 for bit in range(1, BITS + 1)], np.int8
    )
    marked = score >= THRESHOLD
    return MarkFound(score=round(score, 2), marked=marked, tag=from_bits(bits) if marked else None)


def _foldings(samples: Float32[np.ndarray, "sample"]) -> Iterator[Float32[np.ndarray, "time cell"]]:
    """The folded cells at each place where a cell may begin."""
    for offset in range(0, HOP * _CELL_FRAMES, HOP // 4):
        cells = _folded(samples[offset:])
        if cells is None:
            return
        yield cells


def _matches(cells: Float32[np.ndarray, "time cell"], key: int) -> Float[np.ndarray, "time"]:
    """How well the synchronising cells fit at each time of the period, in standard deviations of no mark."""
    signs, owners = _pattern(key)
    sync = owners == 0
    reference = np.conj(np.fft.fft(signs * sync, axis=0))
    match = np.fft.ifft((np.fft.fft(cells, axis=0) * reference).sum(axis=1)).real
    return match / (np.sqrt((cells**2).mean() * sync.sum()) + 1e-9)


def _folded(samples: Float32[np.ndarray, "sample"]) -> Float32[np.ndarray, "time cell"] | None:
    """Whitened log magnitudes, averaged over cells and over repetitions of the period."""
    count = (len(samples) - WINDOW) // HOP + 1
    if count < _CELL_FRAMES * 8:
        return None
    window = np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW).astype(np.float32)
    total = np.zeros((_PERIOD, _CELLS), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    for start in range(0, count, _BLOCK):
        spectra = np.fft.rfft(views[start : start + _BLOCK + 9] * window)[:, _FIRST:_LAST]
        levels = np.log(np.abs(spectra) + _QUIET).astype(np.float32)
        levels -= uniform_filter1d(levels, 9, axis=0, mode="nearest")
        levels -= uniform_filter1d(levels, 9, axis=1, mode="nearest")
        levels = np.clip(levels[:_BLOCK], -1.5, 1.5)
        rows = len(levels) // _CELL_FRAMES
        cells = (
            levels[: rows * _CELL_FRAMES].reshape(rows, _CELL_FRAMES, _CELLS, _CELL_BINS).mean(axis=(1, 3))
        )
        np.add.at(total, (start // _CELL_FRAMES + np.arange(rows)) % _PERIOD, cells)
    return total
