"""How one emotion track becomes the tensors a generator takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """What one conditioning tensor looks like: named axes with fixed sizes (None: varies), dtype and meaning."""

    axes: tuple[str, ...]
    sizes: tuple[int | None, ...]
    dtype: torch.dtype = torch.float32
    meaning: str = ""

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.sizes):
            raise UsageError(f"a tensor needs one size for each axis, got {self.axes} and {self.sizes}")

    def accepts(self, tensor: Tensor) -> bool:
        """Whether `tensor` has the axes, the fixed sizes and the kind (float or integer) this spec declares."""
        if tensor.ndim != len(self.sizes) or tensor.is_floating_point() != self.dtype.is_floating_point:
            return False
        return all(size in (None, actual) for size, actual in zip(self.sizes, tensor.shape, strict=True))


@runtime_checkable
class ConditioningAdapter(Protocol):
    """Turns an emotion track into named tensors; at intensity 0 they equal `null` bit for bit."""

    @property
    def schema(self) -> Mapping[str, TensorSpec]:
        """The tensors `__call__` and `null` give, by name."""
        ...

    def __call__(
        self,
        track: str | Emotion | EmotionTrack | None,
        *,
        length: int,
        fps: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The tensors for `length` frames at `fps`, frame t at t / fps seconds."""
        ...

    def null(
        self,
        batch: int = 1,
        *,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The tensors of no emotion, for classifier-free guidance and as the neutral reference."""
        ...


OCTANTS: tuple[str, ...] = (
    "exuberant",  # +V +A +D
    "dependent",  # +V +A -D
    "relaxed",  # +V -A +D
    "docile",  # +V -A -D
    "hostile",  # -V +A +D
    "anxious",  # -V +A -D
    "disdainful",  # -V -A +D
    "bored",  # -V -A -D
)
"""Mehrabian's names (1996) for the eight octants of the VAD cube, valence slowest, plus before minus."""

_OCTANT_SIGNS = np.array([[v, a, d] for v in (1, -1) for a in (1, -1) for d in (1, -1)], np.float32)
_OCTANT_SLOPE = 4.0  # |v| = .5 already lies 88 % in its half


def octant_weights(vad: Float[np.ndarray, "frame 3"]) -> Float[np.ndarray, "frame 8"]:
    """Soft membership of each point in the octants of `OCTANTS`; sums to 1, and is 1/8 everywhere at the origin."""
    scores = _OCTANT_SLOPE * vad.astype(np.float32)[:, None, :] * _OCTANT_SIGNS
    return np.prod(1.0 / (1.0 + np.exp(-scores)), axis=-1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class EmbeddedAdapter:
    """Gives `emotion` (1, frame, 20): effective V, A, D, the intensity, 8 anchor weights and 8 octant weights.

    Anchors carry what was named, octants what was drawn on the VAD cube, so that a track of either kind reaches the
    network. Everything is scaled by intensity: at 0 each frame is (0, 0, 0, 0), one-hot neutral, 1/8 for each octant.
    """

    name: str = "emotion"

    @property
    def width(self) -> int:
        """The size of the last axis."""
        return 4 + len(ANCHORS_8) + len(OCTANTS)

    @property
    def schema(self) -> Mapping[str, TensorSpec]:
        """One tensor (batch, frame, 20)."""
        meaning = "[V, A, D, intensity, " + ", ".join((*ANCHORS_8, *OCTANTS)) + "]"
        spec = TensorSpec(axes=("batch", "frame", "width"), sizes=(None, None, self.width), meaning=meaning)
        return MappingProxyType({self.name: spec})

    def __call__(
        self,
        track: str | Emotion | EmotionTrack | None,
        *,
        length: int,
        fps: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The features of `track` for `length` frames at `fps`; raises UsageError for an impossible rate or length."""
        if length < 0 or fps <= 0:
            raise UsageError(f"conditioning needs length >= 0 and fps > 0, got {length} frames at {fps}")
        times = np.arange(length, dtype=np.float64) / fps
        batch = as_track(track).sample(times)
        parts = (batch.effective_vad, batch.intensity, batch.anchors(), octant_weights(batch.effective_vad))
        features = np.concatenate([np.asarray(part, np.float32) for part in parts], axis=-1)
        return {self.name: torch.from_numpy(features)[None].to(device=device, dtype=dtype)}

    def null(
        self,
        batch: int = 1,
        *,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The features of no emotion for `batch` clips of `length` frames."""
        row = np.zeros(self.width, np.float32)
        row[4 + ANCHORS_8.index("neutral")] = 1.0
        row[4 + len(ANCHORS_8) :] = octant_weights(np.zeros((1, 3), np.float32))[0]
        features = torch.from_numpy(row).to(device=device, dtype=dtype)
        return {self.name: features.expand(batch, length, self.width).clone()}
