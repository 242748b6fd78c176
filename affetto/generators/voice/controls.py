"""What is steered in a voice: its controls at 100 Hz, and the residual by which an edit moves them."""

from dataclasses import dataclass, fields

import numpy as np
from einops import rearrange
from jaxtyping import Float, Float32

CONTROL_FPS = 100.0
"""Frames per second of all controls; frame n speaks of time n / 100 s."""

BANDS = 24
WIDTH = 6 + BANDS
"""Columns of a stack, of controls and of residuals alike."""

_LOWEST_BAND, _HIGHEST_BAND = 80.0, 7500.0


def band_centres() -> Float[np.ndarray, "band"]:
    """Hz of the middle of each envelope band, evenly spaced on the mel scale from 80 to 7500 Hz."""
    low, high = 2595.0 * np.log10(1.0 + np.array([_LOWEST_BAND, _HIGHEST_BAND]) / 700.0)
    return 700.0 * (10.0 ** (np.linspace(low, high, BANDS) / 2595.0) - 1.0)


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

    def scaled(self, gain: float | Float[np.ndarray, "frame"]) -> "ControlResidual":
        """The residual times one number, or times one number per frame."""
        return ControlResidual.from_stack(self.stack() * np.asarray(gain, np.float32)[..., None])

    def __add__(self, other: "ControlResidual") -> "ControlResidual":
        return ControlResidual.from_stack(self.stack() + other.stack())


def _stack(parts: VoiceControls | ControlResidual) -> Float32[np.ndarray, "frame 30"]:
    columns = [getattr(parts, entry.name) for entry in fields(parts)]
    return np.concatenate([c if c.ndim == 2 else rearrange(c, "t -> t 1") for c in columns], axis=1)


def _column(stack: np.ndarray) -> Float32[np.ndarray, "frame"]:
    return np.ascontiguousarray(rearrange(stack, "t 1 -> t"), np.float32)
