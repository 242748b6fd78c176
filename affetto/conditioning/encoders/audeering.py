"""Speech -> VAD with audEERING's wav2vec2 (arXiv 2203.07378), weights pulled by the user (CC BY-NC-SA 4.0)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from affetto.conditioning.anchors import ANCHORS_8, anchor_weights
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading
from affetto.conditioning.encoders.hub import in_pieces, load_strict, open_checkpoint, spoken
from affetto.media.audio import Audio
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import UsageError

WEIGHTS_ID = "audeering-vad"
_LONGEST_S = 20.0  # read at once; longer sound is read in pieces

ROBUST_12 = {
    "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16, "intermediate_size": 4096,
    "conv_bias": True, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "num_labels": 3,
}  # fmt: skip
"""The published model: wav2vec2-large-robust with its upper twelve layers taken off."""

_RENAMES = (  # files older than torch's parametrizations
    (r"pos_conv_embed\.conv\.weight_g$", "pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"pos_conv_embed\.conv\.weight_v$", "pos_conv_embed.conv.parametrizations.weight.original1"),
)


class _Head(nn.Module):
    """tanh layer and a linear one: arousal, dominance, valence."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, outputs)

    def forward(self, pooled: Float[Tensor, "clip width"]) -> Float[Tensor, "clip 3"]:
        return self.out_proj(torch.tanh(self.dense(pooled)))


class AudeeringNetwork(nn.Module):
    """wav2vec2 and a regression head over its mean state, under the published keys `wav2vec2.*`, `classifier.*`.

    A plain module on purpose: the class on the model card calls `init_weights` in its constructor, which transformers 5
    no longer allows.
    """

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.wav2vec2 = Wav2Vec2Model(config)
        self.classifier = _Head(config.hidden_size, 3)

    def forward(
        self, waveform: Float[Tensor, "clip sample"]
    ) -> tuple[Float[Tensor, "clip 3"], Float[Tensor, "clip width"]]:
        """Arousal, dominance, valence (about 0..1) and the pooled state."""
        pooled = self.wav2vec2(waveform).last_hidden_state.mean(1)
        return self.classifier(pooled), pooled


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Mean and deviation of the network's outputs (arousal, dominance, valence) over clips that stand for a voice.

    The raw outputs hug the middle of 0..1: `vad = clip((output - mean) / (3 deviation))` spreads them.
    """

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    deviation: tuple[float, float, float] = (1 / 6, 1 / 6, 1 / 6)  # with the means: 2 x - 1


class AudeeringEncoder:
    """Reads valence, arousal and dominance of a voice with the published wav2vec2 model."""

    modality = "voice"
    taxonomy = ANCHORS_8

    def __init__(
        self,
        network: AudeeringNetwork,
        *,
        dtype: torch.dtype = torch.float32,
        reference: Reference | None = None,
    ) -> None:
        self.network = network.eval()
        self.dtype = dtype
        self.device = next(network.parameters()).device
        self.reference = reference or Reference()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = WEIGHTS_ID,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "fp32",
    ) -> "AudeeringEncoder":
        """The encoder of the registered weights, of a .safetensors file or of a model's folder (with config.json)."""
        checkpoint = open_checkpoint(name)
        network = AudeeringNetwork(Wav2Vec2Config(**(checkpoint.config or ROBUST_12)))
        load_strict(
            network, checkpoint.tensors, source=checkpoint.path, renames=_RENAMES, dropped=(r"masked_spec_embed$",)
            if not hasattr(network.wav2vec2, "masked_spec_embed") else (),
        )  # fmt: skip
        place = resolve_device(device)
        return cls(network.to(place), dtype=resolve_dtype(dtype, place))

    def calibrated(self, clips: Sequence[Audio]) -> "AudeeringEncoder":
        """The same encoder with the mean and deviation of these clips as reference; take neutral and acted ones."""
        if len(clips) < 2:
            raise UsageError(f"calibration needs two clips or more, got {len(clips)}")
        outputs = np.stack([self._outputs(clip)[0] for clip in clips])
        mean, deviation = outputs.mean(0), np.maximum(outputs.std(0), 1e-3)
        reference = Reference(mean=_triple(mean), deviation=_triple(deviation))
        return AudeeringEncoder(self.network, dtype=self.dtype, reference=reference)

    def overall(self, audio: Audio) -> Emotion:
        """The emotion of the whole recording."""
        return self.read(audio).emotion

    def read(self, source: Audio) -> Reading:
        """The VAD of the whole recording, with the pooled state as embedding; anchors follow from the VAD."""
        outputs, pooled = self._outputs(source)
        scaled = np.clip((outputs - self.reference.mean) / (3 * np.array(self.reference.deviation)), -1, 1)
        vad = scaled[[2, 0, 1]]  # arousal, dominance, valence -> valence, arousal, dominance
        shares: dict[str, float] = dict(zip(ANCHORS_8, anchor_weights(vad).tolist(), strict=True))
        return Reading(
            modality=self.modality,
            vad=vad,
            variance=np.array([0.12, 0.06, 0.08]),
            mixture=shares,
            confidence=0.7,
            embedding=pooled,
        )

    @torch.inference_mode()
    def _outputs(self, audio: Audio) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "width"]]:
        pieces, share = in_pieces(spoken(audio), _LONGEST_S)
        answers = []
        for piece in pieces:
            normal = (piece - piece.mean()) / np.sqrt(piece.var() + 1e-7)
            waveform = torch.from_numpy(normal.astype(np.float32))[None].to(self.device)
            with autocast(self.device, self.dtype):
                output, pooled = self.network(waveform)
            answers.append((output[0].double().cpu().numpy(), pooled[0].double().cpu().numpy()))
        return share @ np.stack([a for a, _ in answers]), share @ np.stack([p for _, p in answers])


def _triple(values: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
