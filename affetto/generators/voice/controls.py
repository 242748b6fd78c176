"""What is steered in a voice: its controls at 100 Hz, and the residual by which an edit moves them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import scipy.ndimage
import soxr
from einops import rearrange
from jaxtyping import Float, Float32

from affetto.generators.voice import envelope, pitch
from affetto.generators.voice.envelope import BANDS, band_centres

__all__ = [
    "BANDS",
    "CONTROL_FPS",
    "WIDTH",
    "ControlResidual",
    "VoiceControls",
    "analyse",
    "analyse_pieces",
    "band_centres",
    "frame_count",
]

CONTROL_FPS = 100.0
"""Frames per second of all controls; frame n speaks of time n / 100 s."""

WIDTH = 6 + BANDS
"""Columns of a stack, of controls and of residuals alike."""

PIECE_SECONDS, MARGIN_SECONDS = 16, 1
"""How much sound is analysed at a time, and how much more of it is read on either side; whole seconds."""
_NO_VOICE_HZ = 150.0
_MEDIAN = 3  # frames; smooths the shares of noise, which are measured on two periods


def frame_count(samples: int, rate: int) -> int:
    """How many frames speak of a recording: those whose time lies within it, the end included."""
    return int(samples * CONTROL_FPS / rate) + 1


@dataclass(frozen=True, kw_only=True)
class VoiceControls:
    """A voice at 100 Hz: melody, loudness, colour and breath of each frame."""

    log_f0: Float32[np.ndarray, "frame"]  # natural log of Hz, interpolated through unvoiced frames
    voiced: Float32[np.ndarray, "frame"]  # 0..1
    energy: Float32[np.ndarray, "frame"]  # dB below full scale
    envelope: Float32[np.ndarray, "frame 24"]  # dB; its mean over the bands is 0, the level lives in `energy`
    aperiodicity: Float32[np.ndarray, "frame 3"]  # 0..1, share of noise in 0-1.5, 1.5-4 and 4-8 kHz

    def __len__(self) -> int:
        return len(self.log_f0)

    @property
    def seconds(self) -> float:
        """The time of the last frame."""
        return (len(self) - 1) / CONTROL_FPS

    def stack(self) -> Float32[np.ndarray, "frame 30"]:
        """Columns log-F0, voicing, energy, 24 envelope bands, 3 aperiodicities."""
        return _stack(self)

    @classmethod
    def from_stack(cls, stack: Float[np.ndarray, "frame 30"]) -> "VoiceControls":
        """The controls that `stack` was made of."""
        log_f0, voiced, energy, envelope, aperiodicity = np.split(stack, [1, 2, 3, 3 + BANDS], axis=1)
        return cls(
            log_f0=_column(log_f0),
            voiced=_column(voiced),
            energy=_column(energy),
            envelope=np.ascontiguousarray(envelope, np.float32),
            aperiodicity=np.ascontiguousarray(aperiodicity, np.float32),
        )


@dataclass(frozen=True, kw_only=True)
class ControlResidual:
    """What an edit adds to the controls of each frame; all zeros change nothing."""

    pitch: Float32[np.ndarray, "frame"]  # semitones
    energy: Float32[np.ndarray, "frame"]  # dB
    envelope: Float32[
        np.ndarray, "frame 24"
    ]  # dB; a mean over the bands is level and is left out when rendered
    aperiodicity: Float32[np.ndarray, "frame 3"]  # added to the share of noise
    log_rate: Float32[np.ndarray, "frame"]  # ln(local output duration / source duration)

    def __len__(self) -> int:
        return len(self.pitch)

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing at all."""
        return not any(np.any(getattr(self, entry.name)) for entry in fields(self))

    @classmethod
    def zeros(cls, frames: int) -> "ControlResidual":
        """The residual that changes nothing."""
        return cls.from_stack(np.zeros((frames, WIDTH), np.float32))

    def stack(self) -> Float32[np.ndarray, "frame 30"]:
        """Columns pitch, energy, 24 envelope bands, 3 aperiodicities, log-rate."""
        return _stack(self)

    @classmethod
    def from_stack(cls, stack: Float[np.ndarray, "frame 30"]) -> "ControlResidual":
        """The residual that `stack` was made of."""
        pitch, energy, envelope, aperiodicity, log_rate = np.split(
            stack, [1, 2, 2 + BANDS, 5 + BANDS], axis=1
        )
        return cls(
            pitch=_column(pitch),
            energy=_column(energy),
            envelope=np.ascontiguousarray(envelope, np.float32),
            aperiodicity=np.ascontiguousarray(aperiodicity, np.float32),
            log_rate=_column(log_rate),
        )

    def scaled(self, gain: float | int | Float[np.ndarray, "frame"]) -> "ControlResidual":
        """The residual times one number, or times one number per frame."""
        return ControlResidual.from_stack(self.stack() * np.asarray(gain, np.float32)[..., None])

    def __add__(self, other: "ControlResidual") -> "ControlResidual":
        return ControlResidual.from_stack(self.stack() + other.stack())


def _stack(parts: VoiceControls | ControlResidual) -> Float32[np.ndarray, "frame 30"]:
    columns = [getattr(parts, entry.name) for entry in fields(parts)]
    return np.concatenate([c if c.ndim == 2 else rearrange(c, "t -> t 1") for c in columns], axis=1)


def _column(stack: np.ndarray) -> Float32[np.ndarray, "frame"]:
    return np.ascontiguousarray(rearrange(stack, "t 1 -> t"), np.float32)


Piece = Float32[np.ndarray, "sample"]
"""Mono sound at 16 kHz: a margin, `PIECE_SECONDS` and another margin; shorter where the recording has ended."""


def analyse(samples: Float32[np.ndarray, "sample"], rate: int) -> VoiceControls:
    """The controls of a mono recording at any rate from 8 kHz; working memory does not grow with its length."""
    seconds = PIECE_SECONDS + 2 * MARGIN_SECONDS

    def pieces() -> Iterator[Piece]:
        for start in range(0, max(len(samples), 1), PIECE_SECONDS * rate):
            first = start - MARGIN_SECONDS * rate
            piece = samples[max(first, 0) : first + seconds * rate]
            piece = np.pad(piece, (max(-first, 0), 0))
            yield soxr.resample(piece, rate, envelope.RATE, quality="HQ") if rate != envelope.RATE else piece

    return analyse_pieces(pieces, frame_count(len(samples), rate))


def analyse_pieces(pieces: Callable[[], Iterator[Piece]], frames: int) -> VoiceControls:
    """The controls of sound that comes in pieces, each `PIECE_SECONDS` after the one before; read twice, in order."""
    skip, length = (round(seconds * CONTROL_FPS) for seconds in (MARGIN_SECONDS, PIECE_SECONDS))
    found = []
    for start, piece in zip(range(0, frames, length), pieces(), strict=False):
        slow = soxr.resample(piece, envelope.RATE, pitch.RATE, quality="HQ")
        parts = pitch.pitch_candidates(slow, skip + min(length, frames - start), CONTROL_FPS)
        found.append([part[skip:] for part in parts])
    hertz, peaks, amplitude = (np.concatenate(parts) for parts in zip(*found, strict=True))
    melody = pitch.pitch_path(hertz, peaks, amplitude)
    spectra, energy, noise = [], [], []
    for start, piece in zip(range(0, frames, length), pieces(), strict=False):
        part = melody[start : start + length]
        centres = (skip + np.arange(len(part))) * (envelope.RATE / CONTROL_FPS)
        bands, level = envelope.frame_spectra(piece, centres, part)
        spectra.append(bands)
        energy.append(level)
        noise.append(envelope.noise_shares(piece, centres, part))
    shape = np.concatenate(spectra)
    return VoiceControls(
        log_f0=_through_unvoiced(melody),
        voiced=(melody > 0).astype(np.float32),
        energy=np.concatenate(energy),
        envelope=(shape - shape.mean(1, keepdims=True)).astype(np.float32),
        aperiodicity=scipy.ndimage.median_filter(np.concatenate(noise), (_MEDIAN, 1), mode="nearest"),
    )


def _through_unvoiced(melody: Float32[np.ndarray, "frame"]) -> Float32[np.ndarray, "frame"]:
    """Natural log of the pitch, straight lines where there is none; that of a middling voice when all is unvoiced."""
    voiced = np.flatnonzero(melody > 0)
    if not len(voiced):
        return np.full(len(melody), np.log(_NO_VOICE_HZ), np.float32)
    return np.interp(np.arange(len(melody)), voiced, np.log(melody[voiced])).astype(np.float32)
