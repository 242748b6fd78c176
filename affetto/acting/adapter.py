"""How an emotion track reaches the face: paced like a face moves, breathing, as one tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import convolve1d
from torch import Tensor

from affetto.acting.expression import breathing, hann, paced
from affetto.conditioning.adapter import TensorSpec
from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.batch import EmotionBatch
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.runtime.errors import UsageError

WIDTH = len(ANCHORS_8) + 3 + 1
_MEANING = "[" + ", ".join((*ANCHORS_8, "V", "A", "D", "strength")) + "]"
MARGIN_S = 0.8  # frames farther apart than this do not influence each other


@dataclass(frozen=True, kw_only=True)
class FaceEmotion:
    """An emotion frame by frame, as rules and networks take it; all zero but `anchors[:, 0]` where there is none."""

    anchors: Float[np.ndarray, "frame 8"]  # over ANCHORS_8; the emotions may sum to 2 when overdriven
    vad: Float[np.ndarray, "frame 3"]  # effective

    @property
    def strength(self) -> Float[np.ndarray, "frame"]:
        """How much emotion there is, 0..2."""
        return self.anchors[:, 1:].sum(axis=1)

    def removed(self) -> "FaceEmotion":
        """As many frames without emotion."""
        anchors = np.zeros_like(self.anchors)
        anchors[:, 0] = 1.0
        return FaceEmotion(anchors=anchors, vad=np.zeros_like(self.vad))

    def features(self) -> Float[np.ndarray, "frame 12"]:
        """Anchors, VAD and strength side by side, float32."""
        rows = np.concatenate([self.anchors, self.vad, self.strength[:, None]], axis=1)
        return (rows + 0.0).astype(np.float32)  # + 0.0 turns -0.0 into 0.0


def face_emotion(
    batch: EmotionBatch, fps: float, *, seed: int = 0, breath: float = 0.1, start_s: float = 0.0
) -> FaceEmotion:
    """The emotion of a sampled track with onsets, offsets and slow swell; zero intensity gives exactly no emotion."""
    anchors = np.asarray(batch.anchors(), np.float64)
    vad = np.asarray(batch.effective_vad, np.float64)
    gain = breathing(len(anchors), fps, seed=seed, amount=breath, start_s=start_s)[:, None] if breath else 1.0
    if len(anchors):
        vad = convolve1d(vad, hann(0.4, fps), axis=0, mode="nearest")
    emotions = paced(anchors, fps)[:, 1:] * gain
    neutral = np.maximum(1.0 - emotions.sum(axis=1, keepdims=True), 0.0)
    return FaceEmotion(
        anchors=np.concatenate([neutral, emotions], axis=1), vad=np.clip(vad * gain, -1.0, 1.0)
    )


@dataclass(frozen=True, kw_only=True)
class FaceAdapter:
    """Gives `emotion` (1, frame, 12): eight anchor weights, effective V, A, D, and the strength.

    At intensity 0 every frame is the null row, bit for bit: one-hot neutral and zeros.
    """

    name: str = "emotion"
    seed: int = 0
    breath: float = 0.1  # how much a held emotion swells, as a share of its strength

    @property
    def width(self) -> int:
        """The size of the last axis."""
        return WIDTH

    @property
    def schema(self) -> Mapping[str, TensorSpec]:
        """One tensor (batch, frame, 12)."""
        spec = TensorSpec(axes=("batch", "frame", "width"), sizes=(None, None, WIDTH), meaning=_MEANING)
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
        batch = as_track(track).sample(np.arange(length, dtype=np.float64) / fps)
        return self.of_batch(batch, fps=fps, device=device, dtype=dtype)

    def of_batch(
        self,
        batch: EmotionBatch,
        *,
        fps: float,
        start_s: float = 0.0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The features of a track already sampled, its first frame at `start_s`."""
        emotion = face_emotion(batch, fps, seed=self.seed, breath=self.breath, start_s=start_s)
        return {self.name: torch.from_numpy(emotion.features())[None].to(device=device, dtype=dtype)}

    def null(
        self,
        batch: int = 1,
        *,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The features of no emotion for `batch` clips of `length` frames."""
        features = torch.zeros(batch, length, WIDTH, device=device, dtype=dtype)
        features[..., 0] = 1.0
        return {self.name: features}
