"""Speech -> a 256-number place in a space of vocal expression, trained with a speaker adversary.

The embedded stand-in for emotion2vec with a linear layer to 256 (EmoReg, arXiv 2412.20359).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from affetto.conditioning.encoders.speech_features import SpeechSpec, frame_features, functionals
from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES, ConvBlock
from affetto.media.audio import Audio
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.weights.store import read_arrays, weight_path

WEIGHTS_ID = "voice-embedding"
WIDTH = 256
_BATCH = 32  # windows computed together

Sound = Audio | Float32[np.ndarray, "sample"]


@dataclass(frozen=True, kw_only=True)
class VoiceNetworkConfig:
    """Sizes of the embedding network; the defaults are those of the shipped weights."""

    spec: SpeechSpec = field(default_factory=SpeechSpec)
    width: int = 128
    early: int = 1  # blocks at 50 frames a second
    late: int = 4  # blocks at 25 frames a second
    statistics: int = 227  # what `functionals` gives
    dropout: float = 0.3


class VoiceNetwork(nn.Module):
    """A two-second window as an embedding; classes and VAD are linear in it."""

    def __init__(self, config: VoiceNetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, rows = config.width, config.spec.channels
        self.frame_mean: Tensor
        self.frame_scale: Tensor
        self.statistic_mean: Tensor
        self.statistic_scale: Tensor
        self.register_buffer("frame_mean", torch.zeros(rows))
        self.register_buffer("frame_scale", torch.ones(rows))
        self.register_buffer("statistic_mean", torch.zeros(config.statistics))
        self.register_buffer("statistic_scale", torch.ones(config.statistics))
        self.stem = nn.Conv1d(rows + 1, width, 5, stride=2, padding=2)
        self.early = nn.Sequential(*[ConvBlock(width, config.dropout / 2) for _ in range(config.early)])
        self.halve = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.late = nn.Sequential(*[ConvBlock(width, config.dropout / 2) for _ in range(config.late)])
        self.attention = nn.Conv1d(width, 1, 1)
        self.summary = nn.Linear(3 * width, WIDTH)
        self.statistic = nn.Linear(config.statistics, WIDTH)
        self.dropout = nn.Dropout(config.dropout)
        self.join = nn.Linear(2 * WIDTH, WIDTH)
        self.classes = nn.Linear(WIDTH, len(SPEECH_CLASSES))
        self.vad = nn.Linear(WIDTH, 3)

    def forward(
        self,
        features: Float[Tensor, "clip channel frame"],
        active: Bool[Tensor, "clip frame"],
        statistics: Float[Tensor, "clip statistic"],
    ) -> Float[Tensor, "clip 256"]:
        """The embeddings in float32; frames that are not active do not count."""
        mask = active[:, None].to(features.dtype)
        rows = (features - self.frame_mean[:, None]) / self.frame_scale[:, None] * mask
        hidden = self.late(self.halve(self.early(self.stem(torch.cat([rows, mask], dim=1)))))
        shrunk = F.max_pool1d(mask, 4, 4, ceil_mode=True)[..., : hidden.shape[-1]]
        share = shrunk / shrunk.sum(-1, keepdim=True).clamp_min(1.0)
        mean = (hidden * share).sum(-1)
        spread = ((hidden - mean[..., None]).square() * share).sum(-1).clamp_min(1e-6).sqrt()
        scores = self.attention(hidden).float().masked_fill(shrunk < 0.5, -1e4).softmax(-1)
        focus = (hidden * scores.to(hidden.dtype)).sum(-1)
        by_frames = F.gelu(self.summary(self.dropout(torch.cat([mean, spread, focus], dim=-1))))
        scaled = ((statistics - self.statistic_mean) / self.statistic_scale).clamp(-5.0, 5.0)
        by_statistics = F.gelu(self.statistic(self.dropout(scaled)))
        return self.join(self.dropout(torch.cat([by_frames, by_statistics], dim=-1))).float()

    def judge(
        self, embedding: Float[Tensor, "*clip 256"]
    ) -> tuple[Float[Tensor, "*clip klass"], Float[Tensor, "*clip 3"]]:
        """Logits over `SPEECH_CLASSES` and VAD on the voice chart, in [-1, 1]."""
        with torch.autocast(embedding.device.type, enabled=False):
            return self.classes(embedding.float()), torch.tanh(self.vad(embedding.float()))


class VoiceEmbedder:
    """Embeds voices by how they sound, whatever they say; who speaks can still be told (the card says how well).

    Directions in this space are what moves an emotion (`DirectionalLatents`). Every number has mean 0 and deviation 1
    over the training speech. The sound's level does not count.
    """

    def __init__(self, network: VoiceNetwork, *, dtype: torch.dtype = torch.float32) -> None:
        self.network = network.eval()
        self.dtype = dtype
        self.device = next(network.parameters()).device
        self.spec = network.config.spec

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "fp32",
    ) -> "VoiceEmbedder":
        """The embedder with the embedded weights, or those of a safetensors file that the recipe wrote."""
        path = weight_path(WEIGHTS_ID) if str(name) == "embedded" else Path(name)
        if not path.is_file():
            raise UsageError(f"no voice embedder at {name}: use embedded or the path of a .safetensors file")
        place = resolve_device(device)
        arrays, metadata = read_arrays(path)
        network = build_network(metadata, path)
        try:
            state = {key: torch.from_numpy(array.astype(np.float32)) for key, array in arrays.items()}
            network.load_state_dict(state, strict=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InvalidInputError(f"{path}: is no voice embedder ({reason}): train it again") from error
        return cls(network.to(place), dtype=resolve_dtype(dtype, place))

    def __call__(self, sound: Sound | Sequence[Sound]) -> Float32[Tensor, "item 256"]:
        """One embedding for each sound, on the CPU: its windows averaged by how much voice they hold.

        A sound is an `Audio`, or mono samples at 16 kHz. Raises InvalidInputError for an empty one.
        """
        sounds = [sound] if isinstance(sound, (Audio, np.ndarray)) else list(sound)
        rows = []
        for each in sounds:
            _, embedding, voiced = self._windows(each, 1.0)
            weight = torch.from_numpy(voiced + 1e-6)
            rows.append(((weight / weight.sum()).float()[:, None] * embedding).sum(0))
        return torch.stack(rows) if rows else torch.zeros(0, WIDTH)

    def frames(
        self, sound: Sound, *, hop: float = 0.25
    ) -> tuple[Float[np.ndarray, "frame"], Float32[Tensor, "frame 256"], Float[np.ndarray, "frame"]]:
        """Embeddings over time: centre of each window in seconds, embeddings, and seconds of voice in each window.

        Windows last two seconds and follow each other by `hop` seconds.
        """
        if not 0.05 <= hop <= 60:
            raise UsageError(f"the hop must lie in 0.05..60 s, got {hop:g}")
        return self._windows(sound, hop)

    @torch.inference_mode()
    def read(
        self, embedding: Float[Tensor, "*item 256"]
    ) -> tuple[Float[Tensor, "*item klass"], Float[Tensor, "*item 3"]]:
        """Probabilities over `SPEECH_CLASSES` and VAD on the voice chart of embeddings, moved ones too."""
        logits, vad = self.network.judge(embedding.to(self.device))
        return logits.softmax(-1).cpu(), vad.cpu()

    @torch.inference_mode()
    def _windows(
        self, sound: Sound, hop: float
    ) -> tuple[Float[np.ndarray, "frame"], Float32[Tensor, "frame 256"], Float[np.ndarray, "frame"]]:
        spec, name = self.spec, "the sound"
        if isinstance(sound, Audio):
            name = str(sound.path or name)
            sound = sound.resampled(spec.mel.rate).mono()
        if len(sound) == 0:
            raise InvalidInputError(f"{name}: holds no samples: record it again")
        if not np.isfinite(sound).all():
            raise InvalidInputError(f"{name}: holds NaN or infinite samples: export it again")
        starts = window_starts(len(sound), spec, hop)
        rows, voiced = [], []
        for first in range(0, len(starts), _BATCH):
            block = np.zeros((len(starts[first : first + _BATCH]), spec.samples), np.float32)
            for row, start in enumerate(starts[first : first + _BATCH]):
                piece = sound[start : start + spec.samples]
                block[row, : len(piece)] = piece
            features, active = frame_features(torch.from_numpy(block).to(self.device), spec)
            statistics = functionals(features, active, spec)
            with autocast(self.device, self.dtype):
                rows.append(self.network(features, active, statistics).cpu())
            sounding = active & (features[:, spec.mel.bands + 1] > 0.5)
            voiced.append(sounding.double().sum(-1).cpu().numpy() / spec.mel.fps)
        centres = (starts + min(spec.samples, len(sound)) / 2) / spec.mel.rate
        return centres, torch.cat(rows), np.concatenate(voiced)


def window_starts(samples: int, spec: SpeechSpec, hop: float) -> np.ndarray:
    """The first sample of each window, `hop` seconds apart; the last window reaches the end."""
    starts = np.arange(0, max(samples - spec.samples, 0) + 1, max(1, round(hop * spec.mel.rate)))
    if samples > spec.samples + starts[-1]:
        starts = np.append(starts, samples - spec.samples)
    return starts


def build_network(metadata: Mapping[str, str], path: Path) -> VoiceNetwork:
    """The untrained network that a file's metadata describes; raises InvalidInputError when it describes none."""
    try:
        if tuple(json.loads(metadata["classes"])) != SPEECH_CLASSES:
            raise ValueError("other classes")
        return VoiceNetwork(VoiceNetworkConfig(**json.loads(metadata["config"])))
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidInputError(f"{path}: is no voice embedder ({error}): train it again") from error


def network_metadata(network: VoiceNetwork, **extra: str) -> dict[str, str]:
    """The safetensors metadata from which `build_network` makes the same network."""
    config = network.config
    settings = {
        "width": config.width, "early": config.early, "late": config.late, "statistics": config.statistics,
        "dropout": config.dropout,
    }  # fmt: skip
    return {"config": json.dumps(settings, sort_keys=True), "classes": json.dumps(SPEECH_CLASSES), **extra}
