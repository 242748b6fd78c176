"""Face animation as values: 52 ARKit weights, head and eye rotation, frame by frame."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from affetto.runtime.errors import UsageError

_EYE = ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
ARKIT_52: tuple[str, ...] = (
    *(f"eye{part}Left" for part in _EYE),
    *(f"eye{part}Right" for part in _EYE),
    *("jawForward", "jawLeft", "jawRight", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight"),
    *("mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight"),
    *("mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *("mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight"),
    *("mouthUpperUpLeft", "mouthUpperUpRight"),
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut"),
)
"""The 52 blend shapes in the order of Apple's and Unreal's enumerations; Left and Right are the subject's own."""

ARKIT_INDEX: Mapping[str, int] = {name: index for index, name in enumerate(ARKIT_52)}


@dataclass(frozen=True, kw_only=True)
class FaceCurves:
    """A face performance sampled at a fixed rate.

    Weights are nominally 0..1. Angles are radians of right-handed rotations in a frame with +X to the subject's left,
    +Y up, +Z forward: positive yaw turns to the subject's left, positive pitch looks down, positive roll lifts the left
    ear. A head rotates by R = Ry(yaw) Rx(pitch) Rz(roll); each eye by R = Ry(yaw) Rx(pitch), relative to the head.
    """

    fps: float
    weights: Float[np.ndarray, "frame 52"]
    head: Float[np.ndarray, "frame 3"]  # yaw, pitch, roll
    eyes: Float[np.ndarray, "frame 2 2"]  # (left, right) x (yaw, pitch)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frames = len(self.weights)
        if self.fps <= 0:
            raise UsageError(f"fps must be positive, got {self.fps}")
        shapes = (self.weights.shape, self.head.shape, self.eyes.shape)
        if shapes != ((frames, 52), (frames, 3), (frames, 2, 2)):
            raise UsageError(f"curves need shapes (T,52), (T,3) and (T,2,2), got {shapes}")

    @classmethod
    def neutral(cls, frames: int, fps: float) -> "FaceCurves":
        """A face at rest for `frames` frames."""
        zeros = np.zeros((frames, 59), np.float32)
        return cls(
            fps=fps, weights=zeros[:, :52], head=zeros[:, 52:55], eyes=zeros[:, 55:].reshape(frames, 2, 2)
        )

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def seconds(self) -> float:
        """How long the performance lasts."""
        return len(self) / self.fps

    @property
    def times(self) -> Float[np.ndarray, "frame"]:
        """The time of each frame in seconds; frame 0 is at 0."""
        return np.arange(len(self)) / self.fps

    def channel(self, name: str) -> Float[np.ndarray, "frame"]:
        """The curve of one named blend shape."""
        if name not in ARKIT_INDEX:
            raise UsageError(f"no blend shape {name!r}: the names are {', '.join(ARKIT_52)}")
        return self.weights[:, ARKIT_INDEX[name]]

    def sliced(self, start: int, stop: int) -> "FaceCurves":
        """Frames `start` to `stop` as a performance of its own."""
        return dataclasses.replace(
            self, weights=self.weights[start:stop], head=self.head[start:stop], eyes=self.eyes[start:stop]
        )

    def resampled(self, fps: float) -> "FaceCurves":
        """The same performance at another rate, by linear interpolation between frames."""
        if fps == self.fps or len(self) == 0:
            return dataclasses.replace(self, fps=fps)
        times = np.arange(max(1, round(self.seconds * fps))) / fps
        flat = np.concatenate([self.weights, self.head, self.eyes.reshape(len(self), 4)], axis=1)
        resampled = np.stack([np.interp(times, self.times, curve) for curve in flat.T], axis=1).astype(
            np.float32
        )
        return dataclasses.replace(
            self,
            fps=fps,
            weights=resampled[:, :52],
            head=resampled[:, 52:55],
            eyes=resampled[:, 55:].reshape(len(times), 2, 2),
        )
