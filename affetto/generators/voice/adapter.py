"""How an emotion track reaches the voice: as weights over the bank's emotions, frame by frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt, gaussian_filter1d
from torch import Tensor

from affetto.conditioning.adapter import TensorSpec
from affetto.conditioning.emotion import MAX_INTENSITY, Emotion
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.controls import CONTROL_FPS
from affetto.runtime.errors import UsageError

_BLEND = 4.0  # frames: a voice does not leap from one emotion into another


@dataclass(frozen=True, kw_only=True)
class VoiceCourse:
    """What a voice shall feel in each frame: `shares` over the bank's names (rows sum to 1), `strength` 0..2."""

    shares: Float[np.ndarray, "frame name"]
    strength: Float[np.ndarray, "frame"]
    clipped: bool = False  # whether more than the largest strength was asked for

    @property
    def weights(self) -> Float[np.ndarray, "frame name"]:
        """Shares times strength."""
        return self.shares * self.strength[:, None]

    @property
    def idle(self) -> bool:
        """Whether nothing at all is asked for."""
        return not np.any(self.strength)

    @property
    def overdriven(self) -> bool:
        """Whether more than full strength is asked for anywhere."""
        return self.clipped or bool(np.any(self.strength > 1.0 + 1e-6))

    def part(self, start: int, stop: int) -> "VoiceCourse":
        """The frames from `start` to `stop`."""
        return VoiceCourse(
            shares=self.shares[start:stop], strength=self.strength[start:stop], clipped=self.clipped
        )


def voice_course(
    track: EmotionTrack, bank: VoiceBank, *, strength: float = 1.0, start: int = 0, frames: int
) -> VoiceCourse:
    """The course of frames `start` .. at 100 Hz; sudden changes are blended over a few hundredths of a second.

    Where nothing is asked the shares are held from the nearest frame with an emotion.
    """
    reach = int(4 * _BLEND)
    times = np.maximum(np.arange(start - reach, start + frames + reach) / CONTROL_FPS, 0.0)
    batch = track.for_modality("voice").sample(times)
    weights = strength * np.asarray(bank.weights(batch), np.float64)
    weights = gaussian_filter1d(weights, _BLEND, axis=0, truncate=4.0, mode="nearest")[reach : reach + frames]
    total = weights.sum(axis=1)
    total = np.where(total < 1e-4, 0.0, total)
    if not np.any(total):
        return VoiceCourse(shares=np.zeros_like(weights), strength=total)
    nearest = np.asarray(distance_transform_edt(total == 0, return_distances=False, return_indices=True))[0]
    shares = (weights / np.maximum(total, 1e-12)[:, None])[nearest]
    return VoiceCourse(
        shares=shares,
        strength=np.minimum(total, MAX_INTENSITY),
        clipped=bool(np.any(total > MAX_INTENSITY + 1e-6)),
    )


@dataclass(frozen=True, kw_only=True)
class VoiceAdapter:
    """Gives `emotion` (1, frame, name): how strongly each emotion of the bank is asked for; zeros where none is."""

    bank: VoiceBank
    name: str = "emotion"

    @property
    def width(self) -> int:
        """The size of the last axis."""
        return len(self.bank.names)

    @property
    def schema(self) -> Mapping[str, TensorSpec]:
        """One tensor (batch, frame, name)."""
        meaning = "[" + ", ".join(self.bank.names) + "]"
        spec = TensorSpec(axes=("batch", "frame", "width"), sizes=(None, None, self.width), meaning=meaning)
        return MappingProxyType({self.name: spec})

    def __call__(
        self,
        track: str | Emotion | EmotionTrack | None,
        *,
        length: int,
        fps: float = CONTROL_FPS,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The weights of `track` for `length` frames at `fps`, which must be 100."""
        if length < 0 or fps != CONTROL_FPS:
            raise UsageError(
                f"a voice takes length >= 0 at {CONTROL_FPS:g} frames a second, got {length} at {fps:g}"
            )
        weights = voice_course(as_track(track), self.bank, frames=length).weights
        return {self.name: torch.from_numpy(weights)[None].to(device=device, dtype=dtype)}

    def null(
        self,
        batch: int = 1,
        *,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The weights of no emotion."""
        return {self.name: torch.zeros(batch, length, self.width, device=device, dtype=dtype)}
