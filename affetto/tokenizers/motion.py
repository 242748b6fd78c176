"""Face performances as tokens: four frames become one code for the mouth and one for the rest of the face.

Two small convolutional autoencoders around finite scalar quantisation, one for each half, so that a token of one never
changes the other; the temporal factor and the levels follow the motion priors of talking faces (CodeTalker, EMOTE's FLINT).
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.tokenizers.quantizers import FSQuantizer, QuantOut
from affetto.weights.store import read_arrays, save_tensors

CHANNELS = 59  # 52 weights, yaw, pitch and roll of the head, yaw and pitch of each eye
STEP = 4  # frames in a token
MOUTH = np.array(
    [name.startswith(("mouth", "jaw", "cheekPuff", "tongue")) for name in ARKIT_52] + [False] * 7
)
_SPAN, _CONTEXT = 2048, 64  # frames coded at once, and those heard on either side
_ANGLE_SCALE = 0.2  # radians that count as much as a whole blend shape


@dataclass(frozen=True, kw_only=True)
class MotionTokenizerConfig:
    """Sizes of the networks."""

    width: int = 96
    levels: tuple[int, ...] = (8, 5, 5, 5)
    fps: float = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionTokens:
    """Codes (token, 2): mouth and rest; they spell `frames` frames at `fps`."""

    codes: Int64[np.ndarray, "token 2"]
    frames: int
    fps: float


class _Half(nn.Module):
    """The autoencoder of some channels."""

    def __init__(self, channels: int, config: MotionTokenizerConfig) -> None:
        super().__init__()
        width = config.width
        self.quantizer = FSQuantizer(config.levels)
        self.encoder = nn.Sequential(
            nn.Conv1d(channels, width, 5, padding=2), nn.GELU(),
            nn.Conv1d(width, width, 4, stride=2, padding=1), nn.GELU(),
            nn.Conv1d(width, width, 4, stride=2, padding=1), nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1), nn.GELU(),
            nn.Conv1d(width, len(config.levels), 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv1d(len(config.levels), width, 3, padding=1), nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1), nn.GELU(),
            nn.ConvTranspose1d(width, width, 4, stride=2, padding=1), nn.GELU(),
            nn.ConvTranspose1d(width, width, 4, stride=2, padding=1), nn.GELU(),
            nn.Conv1d(width, channels, 5, padding=2),
        )  # fmt: skip

    def codes(self, curves: Float[Tensor, "clip frame channel"]) -> QuantOut:
        latents = self.encoder(rearrange(curves, "b t c -> b c t"))
        return self.quantizer(rearrange(latents, "b d n -> b n d"))

    def curves(self, z: Float[Tensor, "clip token axis"]) -> Float[Tensor, "clip frame channel"]:
        return rearrange(self.decoder(rearrange(z, "b n d -> b d n")), "b c t -> b t c")


class MotionAutoencoder(nn.Module):
    """Curves (clip, frame, 59), frames a multiple of four, through tokens and back. Angles count in fifths of a radian."""

    mouth_channels: Tensor
    rest_channels: Tensor

    def __init__(self, config: MotionTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mouth_channels", torch.from_numpy(np.flatnonzero(MOUTH)), persistent=False)
        self.register_buffer("rest_channels", torch.from_numpy(np.flatnonzero(~MOUTH)), persistent=False)
        self.mouth = _Half(int(MOUTH.sum()), config)
        self.rest = _Half(CHANNELS - int(MOUTH.sum()), config)

    @property
    def codes(self) -> int:
        """How many codes each half has."""
        return self.mouth.quantizer.codes

    def forward(
        self, curves: Float[Tensor, "clip frame 59"]
    ) -> tuple[Float[Tensor, "clip frame 59"], Int64[Tensor, "clip token 2"]]:
        """The curves after coding, and their codes."""
        mouth = self.mouth.codes(curves[..., self.mouth_channels])
        rest = self.rest.codes(curves[..., self.rest_channels])
        return self._joined(mouth.z, rest.z), torch.cat([mouth.indices, rest.indices], dim=-1)

    def decode(self, codes: Int64[Tensor, "clip token 2"]) -> Float[Tensor, "clip frame 59"]:
        """The curves that codes spell."""
        mouth = self.mouth.quantizer.decode(codes[..., :1])
        rest = self.rest.quantizer.decode(codes[..., 1:])
        return self._joined(mouth, rest)

    def _joined(self, mouth: Tensor, rest: Tensor) -> Tensor:
        low, high = self.mouth.curves(mouth), self.rest.curves(rest)
        whole = low.new_zeros((*low.shape[:2], CHANNELS))
        whole[..., self.mouth_channels] = low
        whole[..., self.rest_channels] = high.to(low.dtype)
        return whole


class MotionTokenizer:
    """Face performances as tokens and back: `tokens = tokenizer.encode(curves)`, `tokenizer.decode(tokens)`."""

    def __init__(self, network: MotionAutoencoder) -> None:
        self.network = network.eval()

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str | torch.device = "auto") -> "MotionTokenizer":
        """The tokenizer in a file of `affetto train motion-tokenizer`."""
        arrays, metadata = read_arrays(path)
        if metadata.get("kind") != "motion-tokenizer":
            raise InvalidInputError(
                f"{path}: no motion tokenizer: name a file of `affetto train motion-tokenizer`"
            )
        config = json.loads(metadata["config"])
        network = MotionAutoencoder(MotionTokenizerConfig(**{**config, "levels": tuple(config["levels"])}))
        network.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
        return cls(network.to(resolve_device(device)))

    def save(self, path: str | Path, **metadata: str) -> Path:
        """Write the networks as safetensors."""
        config = json.dumps(dataclasses.asdict(self.network.config))
        return save_tensors(
            path, self.network.state_dict(), {"kind": "motion-tokenizer", "config": config, **metadata}
        )

    @torch.inference_mode()
    def encode(self, curves: FaceCurves) -> MotionTokens:
        """Tokens at a quarter of the tokenizer's frame rate; other rates are resampled first.

        The last frame is held until four make a token. Memory does not grow with the length.
        """
        if len(curves) == 0:
            raise InvalidInputError("a performance without frames has no tokens: give a longer one")
        fps = self.network.config.fps
        values = resampled(curves, fps)
        padded = np.pad(values, ((0, -len(values) % STEP), (0, 0)), mode="edge")
        found = []
        for begin in range(0, len(padded), _SPAN):
            first, last = max(begin - _CONTEXT, 0), min(begin + _SPAN + _CONTEXT, len(padded))
            codes = self.network(self._tensor(padded[first:last]))[1][0].cpu().numpy()
            found.append(codes[(begin - first) // STEP :][: _SPAN // STEP])
        return MotionTokens(codes=np.concatenate(found), frames=len(values), fps=fps)

    @torch.inference_mode()
    def decode(self, tokens: MotionTokens) -> FaceCurves:
        """The performance that tokens spell; weights stay in 0..1."""
        count = -(-tokens.frames // STEP)
        if tokens.frames < 1 or len(tokens.codes) != count:
            raise UsageError(f"{tokens.frames} frames take {count} tokens, got {len(tokens.codes)}")
        span, context, found = _SPAN // STEP, _CONTEXT // STEP, []
        place = next(self.network.parameters()).device
        for begin in range(0, count, span):
            first, last = max(begin - context, 0), min(begin + span + context, count)
            codes = torch.from_numpy(tokens.codes[first:last]).to(place)
            values = self.network.decode(codes[None])[0].float().cpu().numpy()
            found.append(values[(begin - first) * STEP :][:_SPAN])
        return as_curves(np.concatenate(found)[: tokens.frames], tokens.fps)

    def _tensor(self, values: Float32[np.ndarray, "frame 59"]) -> Tensor:
        return torch.from_numpy(values)[None].to(next(self.network.parameters()).device)


def channels(curves: FaceCurves) -> Float32[np.ndarray, "frame 59"]:
    """Weights, head and eyes side by side, angles in fifths of a radian."""
    angles = np.concatenate([curves.head, curves.eyes.reshape(len(curves), 4)], axis=1) / _ANGLE_SCALE
    return np.concatenate([curves.weights, angles], axis=1).astype(np.float32)


def as_curves(values: Float32[np.ndarray, "frame 59"], fps: float) -> FaceCurves:
    """The performance of `channels`."""
    angles = values[:, 52:] * np.float32(_ANGLE_SCALE)
    return FaceCurves(
        fps=fps,
        weights=np.clip(values[:, :52], 0.0, 1.0),
        head=angles[:, :3],
        eyes=angles[:, 3:].reshape(-1, 2, 2),
    )


def resampled(curves: FaceCurves, fps: float) -> Float32[np.ndarray, "frame 59"]:
    """The channels of a performance at another frame rate, by straight lines between frames."""
    values = channels(curves)
    if abs(curves.fps - fps) < 1e-6 or len(values) == 1:
        return values
    count = max(round(len(values) * fps / curves.fps), 1)
    at = np.arange(count) / fps * curves.fps
    low = np.minimum(at.astype(np.int64), len(values) - 1)
    high = np.minimum(low + 1, len(values) - 1)
    share = np.clip(at - low, 0.0, 1.0)[:, None].astype(np.float32)
    return values[low] * (1 - share) + values[high] * share
