"""Speech -> emotion: how a voice sounds, whatever it says."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affetto.conditioning.charts import CHARTS
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading, to_lexical
from affetto.conditioning.encoders.speech_features import frame_features, functionals
from affetto.conditioning.encoders.speech_network import (
    SPEECH_CLASSES,
    LinearReader,
    SpeechNetwork,
    SpeechNetworkConfig,
)
from affetto.conditioning.track import EmotionTrack, Keyframe
from affetto.media.audio import Audio
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.weights.store import read_arrays, weight_path

WEIGHTS_ID = "speech-emotion"
TERMS: Mapping[str, str] = {
    "anger": "angry", "boredom": "bored", "disgust": "disgusted", "fear": "fear", "happiness": "happy",
    "neutral": "neutral", "sadness": "sad",
}  # fmt: skip
"""The lexicon term of each class of the network."""

CLASS_VAD: Float[np.ndarray, "klass 3"] = np.array(
    [CHARTS["voice"].mean[CHARTS["voice"].names.index(TERMS[name])] for name in SPEECH_CLASSES]
)
"""Where each class lies on the voice chart: the VAD that training aims at."""

_BATCH = 32  # windows computed together


class SpeechEnsemble(nn.Module):
    """Several networks and a linear model on the same statistics; networks together count as much as the linear one."""

    def __init__(self, config: SpeechNetworkConfig, members: int) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList([SpeechNetwork(config) for _ in range(members)])
        self.linear = LinearReader(config)

    def forward(
        self, waveform: Float[Tensor, "clip sample"]
    ) -> tuple[Float[Tensor, "clip label"], Float[Tensor, "clip 3"], Float[Tensor, "clip"]]:
        """Probabilities over `SPEECH_CLASSES`, VAD on the voice chart, and the seconds of each clip that are speech."""
        features, active = frame_features(waveform, self.config.spec)
        statistics = functionals(features, active, self.config.spec)
        probability, vad = self.judge(features, active, statistics)
        voiced = active & (features[:, self.config.spec.mel.bands + 1] > 0.5)
        return probability, vad, voiced.float().sum(-1) / self.config.spec.mel.fps

    def judge(
        self,
        features: Float[Tensor, "clip channel frame"],
        active: Bool[Tensor, "clip frame"],
        statistics: Float[Tensor, "clip statistic"],
    ) -> tuple[Float[Tensor, "clip label"], Float[Tensor, "clip 3"]]:
        """Probabilities and VAD from features."""
        answers = [member(features, active, statistics) for member in self.members]
        logits, place = self.linear(statistics)
        probability = torch.stack([logits.softmax(-1) for logits, _ in answers]).mean(0)
        vad = torch.stack([vad for _, vad in answers]).mean(0)
        return 0.5 * (probability + logits.softmax(-1)), 0.5 * (vad + place)


class SpeechEncoder:
    """Reads the emotion a voice expresses, over time or as a whole, from windows of two seconds.

    The network was trained on acted German speech (EMO-DB): its card gives the accuracy on speakers it never heard.
    What it reads is the sound of a voice, not what a person feels; use it with the speaker's consent.
    """

    modality = "voice"

    def __init__(self, network: SpeechEnsemble, *, dtype: torch.dtype = torch.float32) -> None:
        self.network = network.eval()
        self.dtype = dtype
        self.device = next(network.parameters()).device
        self._spec = network.config.spec

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "fp32",
    ) -> "SpeechEncoder":
        """The encoder with the embedded weights, or those of a safetensors file that the recipe wrote."""
        path = weight_path(WEIGHTS_ID) if str(name) == "embedded" else Path(name)
        if not path.is_file():
            raise UsageError(f"no speech encoder at {name}: use embedded or the path of a .safetensors file")
        place = resolve_device(device)
        arrays, metadata = read_arrays(path)
        tensors = {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
        network = build_ensemble(metadata, path)
        try:
            network.load_state_dict(tensors, strict=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InvalidInputError(
                f"{path}: is no speech encoder ({reason}): train or install it again"
            ) from error
        return cls(network.to(place), dtype=resolve_dtype(dtype, place))

    @property
    def taxonomy(self) -> tuple[str, ...]:
        """The seven terms it tells apart."""
        return tuple(TERMS[name] for name in SPEECH_CLASSES)

    def __call__(self, audio: Audio, *, hop: float = 0.5) -> EmotionTrack:
        """The emotion over time, a keyframe in the middle of each window, `hop` seconds apart.

        Windows with hardly any voice are neutral with confidence 0. Raises InvalidInputError for empty sound.
        """
        if not 0.05 <= hop <= 60:
            raise UsageError(f"the hop must lie in 0.05..60 s, got {hop:g}")
        centres, probability, vad, voiced = self._windows(audio, hop)
        keyframes = []
        for row, centre in enumerate(centres):
            reading = self._reading(probability[row], vad[row], float(voiced[row]))
            keyframes.append(Keyframe(time=float(centre), emotion=reading.emotion))
        return EmotionTrack(keyframes=tuple(keyframes))

    def overall(self, audio: Audio) -> Emotion:
        """The emotion of the whole recording."""
        return self.read(audio).emotion

    def read(self, source: Audio) -> Reading:
        """The emotion of the whole recording with its uncertainty: windows averaged by how much voice they hold."""
        _, probability, vad, voiced = self._windows(source, 1.0)
        weight = voiced + 1e-6
        share = weight / weight.sum()
        pooled = np.exp(share @ np.log(probability + 1e-6))
        return self._reading(pooled / pooled.sum(), share @ vad, float(voiced.max()))

    def _reading(
        self, probability: Float[np.ndarray, "klass"], vad: Float[np.ndarray, "3"], voiced: float
    ) -> Reading:
        presence = float(
            np.clip(voiced / 0.3, 0.0, 1.0)
        )  # seconds of voice below which the reading fades to neutral
        shares = {
            TERMS[name]: presence * float(p) for name, p in zip(SPEECH_CLASSES, probability, strict=True)
        }
        shares["neutral"] += 1.0 - presence
        spread = (probability[:, None] * np.square(CLASS_VAD - vad)).sum(0)
        surprise = -(probability * np.log(probability + 1e-9)).sum() / np.log(len(probability))
        return Reading(
            modality=self.modality,
            vad=presence * to_lexical(vad, "voice"),
            variance=spread + 0.05 + 0.3 * (1 - presence),
            mixture=shares,
            confidence=presence * float(np.clip(1.0 - surprise, 0.0, 1.0)),
        )

    @torch.inference_mode()
    def _windows(self, audio: Audio, hop: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Window centres in seconds, and for each window probabilities, voice-chart VAD and seconds of voice."""
        spec = self._spec
        if audio.samples.shape[1] == 0:
            raise InvalidInputError(f"{audio.path or 'the sound'}: holds no samples: record it again")
        mono = audio.resampled(spec.mel.rate).mono()
        if not np.isfinite(mono).all():
            raise InvalidInputError(
                f"{audio.path or 'the sound'}: holds NaN or infinite samples: export it again"
            )
        step = max(1, round(hop * spec.mel.rate))
        starts = np.arange(0, max(len(mono) - spec.samples, 0) + 1, step)
        if len(mono) > spec.samples + starts[-1]:  # the end is heard too
            starts = np.append(starts, len(mono) - spec.samples)
        rows = []
        for first in range(0, len(starts), _BATCH):
            block = np.zeros((len(starts[first : first + _BATCH]), spec.samples), np.float32)
            for row, start in enumerate(starts[first : first + _BATCH]):
                piece = mono[start : start + spec.samples]
                block[row, : len(piece)] = piece
            with autocast(self.device, self.dtype):
                answers = self.network(torch.from_numpy(block).to(self.device))
            rows.append([answer.double().cpu().numpy() for answer in answers])
        probability, vad, voiced = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        centres = (starts + min(spec.samples, len(mono)) / 2) / spec.mel.rate
        return centres, probability, vad, voiced


def build_ensemble(metadata: Mapping[str, str], path: Path) -> SpeechEnsemble:
    """The untrained ensemble that a file's metadata describes; raises InvalidInputError when it describes none."""
    try:
        settings = json.loads(metadata["config"])
        members = int(settings.pop("members"))
        if tuple(json.loads(metadata["classes"])) != SPEECH_CLASSES or not 1 <= members <= 64:
            raise ValueError("other classes")
        return SpeechEnsemble(SpeechNetworkConfig(**settings), members)
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidInputError(
            f"{path}: is no speech encoder ({error}): train or install it again"
        ) from error


def ensemble_metadata(network: SpeechEnsemble, **extra: str) -> dict[str, str]:
    """The safetensors metadata from which `build_ensemble` makes the same network."""
    config = network.config
    settings = {
        "width": config.width, "blocks": config.blocks, "statistics": config.statistics,
        "embedding": config.embedding, "dropout": config.dropout, "classes": config.classes,
        "members": len(network.members),
    }  # fmt: skip
    return {"config": json.dumps(settings, sort_keys=True), "classes": json.dumps(SPEECH_CLASSES), **extra}
