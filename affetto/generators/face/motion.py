"""`MotionModel`: the embedded network that turns what is said and felt into 52 curves, for any length of either."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from affetto.acting.adapter import WIDTH, FaceEmotion, face_emotion
from affetto.conditioning.batch import EmotionBatch
from affetto.generators.face.motion_net import CONTENT_WIDTH, FACTOR, MotionConfig, MotionNet
from affetto.media.animation.curves import ARKIT_52
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.memory import together
from affetto.speech.content import CONTENT_FPS, SpeechContent
from affetto.weights.store import read_arrays, save_tensors, weight_path

WEIGHTS = "face-motion"
WINDOW = 1024  # frames: 20.48 s
MARGIN = 128  # frames of context on both sides; the network sees no farther than 112
_BATCH = {"cpu": 2, "cuda": 64}  # windows at once

Feeling = FaceEmotion | EmotionBatch | Mapping[str, Tensor]


class MotionModel:
    """Speech content and emotion -> blend shape weights at 50 Hz, in windows, so that memory does not grow.

    Windows overlap by more than the network can see: results do not depend on where they are cut (within 1e-5 in
    fp32). Emotion of intensity 0 gives exactly what no emotion gives.
    """

    def __init__(self, net: MotionNet, *, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.net = net.to(device).eval()
        self.device = device
        self.dtype = dtype

    @classmethod
    def from_pretrained(
        cls, name: str = "embedded", *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"
    ) -> "MotionModel":
        """Load the `embedded` weights, or a safetensors file that `affetto train face-motion` wrote."""
        if name == "embedded":
            path = weight_path(WEIGHTS)
        elif Path(name).suffix == ".safetensors":
            path = Path(name)
        else:
            raise MissingResourceError(
                f"no motion model {name!r} here: use 'embedded' or a .safetensors file"
            )
        where = resolve_device(device)
        return cls(load_net(path), device=where, dtype=resolve_dtype(dtype, where))

    @overload
    def __call__(self, content: SpeechContent, emotion: Feeling) -> Float[np.ndarray, "frame 52"]: ...
    @overload
    def __call__(
        self, content: Sequence[SpeechContent], emotion: Sequence[Feeling]
    ) -> list[Float[np.ndarray, "_frame 52"]]: ...
    def __call__(
        self, content: SpeechContent | Sequence[SpeechContent], emotion: Feeling | Sequence[Feeling]
    ) -> Float[np.ndarray, "frame 52"] | list[Float[np.ndarray, "_frame 52"]]:
        """Weights 0..1 for every frame of one clip, or of several clips computed together.

        `emotion` is what `FaceAdapter` or `face_emotion` give, or a track sampled at 50 Hz, one row for each frame.
        """
        if isinstance(content, SpeechContent):
            assert not isinstance(emotion, Sequence)
            return self._clips([content], [emotion])[0]
        assert isinstance(emotion, Sequence)
        if len(content) != len(emotion):
            raise UsageError(f"{len(content)} clips need as many emotions, got {len(emotion)}")
        return self._clips(content, emotion)

    def _clips(
        self, contents: Sequence[SpeechContent], emotions: Sequence[Feeling]
    ) -> list[Float[np.ndarray, "_frame 52"]]:
        results = [np.zeros((len(content), len(ARKIT_52)), np.float32) for content in contents]
        waiting: dict[int, list[_Window]] = {}
        limit = together(_BATCH[self.device.type])

        def flush(length: int) -> None:
            group = waiting.pop(length)
            curves = self._run(torch.stack([window.rows for window in group]))
            for window, produced in zip(group, curves, strict=True):
                start, stop = window.keep
                results[window.clip][start:stop] = produced[start - window.first : stop - window.first]

        for clip, (content, emotion) in enumerate(zip(contents, emotions, strict=True)):
            if content.fps != CONTENT_FPS:
                raise UsageError(
                    f"speech content must be at {CONTENT_FPS:g} frames a second, got {content.fps:g}"
                )
            for window in _windows(clip, content, _features(emotion, len(content))):
                waiting.setdefault(len(window.rows), []).append(window)
                if len(waiting[len(window.rows)]) == limit:
                    flush(len(window.rows))
        for length in list(waiting):
            flush(length)
        return results

    @torch.inference_mode()
    def _run(self, rows: Float[Tensor, "clip frame width"]) -> Float[np.ndarray, "clip frame 52"]:
        rows = rows.to(self.device)
        with autocast(self.device, self.dtype):
            curves = self.net(rows[..., :CONTENT_WIDTH], rows[..., CONTENT_WIDTH:])
        return curves.float().clamp(0.0, 1.0).cpu().numpy()


class _Window:
    """A stretch of one clip: its rows, its first frame, and which frames of the clip it decides."""

    def __init__(
        self, clip: int, rows: Float[Tensor, "frame width"], first: int, keep: tuple[int, int]
    ) -> None:
        self.clip, self.rows, self.first, self.keep = clip, rows, first, keep


def _windows(clip: int, content: SpeechContent, features: Float[Tensor, "frame 12"]) -> list[_Window]:
    frames = len(content)
    if frames == 0:
        return []
    sides = np.stack([content.closure, content.loudness, content.speaking], axis=1)
    said = torch.from_numpy(np.concatenate([content.phones, sides], axis=1).astype(np.float32))
    rows = torch.cat([said, features], dim=1)
    windows, kept = [], 0
    while kept < frames:
        first = max(0, kept - MARGIN)
        last = frames if frames - first <= WINDOW else first + WINDOW
        stop = frames if last == frames else last - MARGIN
        piece = rows[first:last]
        missing = -len(piece) % FACTOR
        if missing:  # hold the last frame until the latent is full
            piece = torch.cat([piece, piece[-1:].expand(missing, -1)])
        windows.append(_Window(clip, piece, first, (kept, stop)))
        kept = stop
    return windows


def _features(emotion: Feeling, frames: int) -> Float[Tensor, "frame 12"]:
    if isinstance(emotion, EmotionBatch):
        emotion = face_emotion(emotion, CONTENT_FPS)
    if isinstance(emotion, FaceEmotion):
        features = torch.from_numpy(emotion.features())
    else:
        features = rearrange(emotion["emotion"].float().cpu(), "1 t e -> t e")
    if features.shape != (frames, WIDTH):
        raise UsageError(
            f"emotion needs {frames} rows of {WIDTH}, as the speech has frames, got {tuple(features.shape)}"
        )
    return features


def save_net(path: Path, net: MotionNet, metadata: Mapping[str, str]) -> None:
    """Write the network in half precision, its sizes in the header."""
    tensors = {name: tensor.half() for name, tensor in net.state_dict().items()}
    save_tensors(path, tensors, {**net.config.to_metadata(), **metadata})


def load_net(path: Path) -> MotionNet:
    """The network that `save_net` wrote, in fp32; raises InvalidInputError when the file holds something else."""
    arrays, metadata = read_arrays(path)
    net = MotionNet(MotionConfig.from_metadata(metadata))
    try:
        net.load_state_dict({name: torch.from_numpy(array).float() for name, array in arrays.items()})
    except RuntimeError as error:
        raise InvalidInputError(f"{path}: not the weights of a motion model: train them again") from error
    return net
