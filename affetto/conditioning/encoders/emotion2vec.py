"""Speech -> one of nine emotions with emotion2vec+ (arXiv 2312.15185), weights pulled by the user."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading
from affetto.conditioning.encoders.emotion2vec_network import FORMAT, Emotion2vecConfig, Emotion2vecNetwork
from affetto.conditioning.encoders.hub import in_pieces, load_strict, open_checkpoint, scored_reading, spoken
from affetto.conditioning.taxonomies import get_taxonomy
from affetto.media.audio import Audio
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError

VARIANTS = ("emotion2vec-base", "emotion2vec-large")
"""Registered weights: `plus_base` (about 90 million numbers) and `plus_large` (300 million)."""

_LONGEST_S = 20.0  # read at once; longer sound is read in pieces


class Emotion2vecEncoder:
    """Reads which of nine emotions a voice has; `other` and `unknown` are no emotions and make the reading less sure."""

    modality = "voice"

    def __init__(self, network: Emotion2vecNetwork, *, dtype: torch.dtype = torch.float32) -> None:
        labels = get_taxonomy("emotion2vec9")
        if network.config.classes != len(labels.labels):
            raise InvalidInputError(
                f"emotion2vec with {network.config.classes} classes: {len(labels.labels)} are known, take plus_base or plus_large"
            )
        self.network = network.eval()
        self.dtype = dtype
        self.device = next(network.parameters()).device
        self.labels = labels.labels
        self.taxonomy = tuple(label for label, at in zip(labels.labels, labels.places, strict=True) if at)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = VARIANTS[0],
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "fp32",
    ) -> "Emotion2vecEncoder":
        """The encoder of registered weights or of a .safetensors file that `affetto weights convert` wrote."""
        checkpoint = open_checkpoint(name)
        if checkpoint.config is None or checkpoint.format != FORMAT:
            raise InvalidInputError(
                f"{checkpoint.path}: holds no {FORMAT} weights: pull or convert them with affetto weights"
            )
        network = Emotion2vecNetwork(Emotion2vecConfig.of(checkpoint.config))
        load_strict(network, checkpoint.tensors, source=checkpoint.path)
        place = resolve_device(device)
        return cls(network.to(place), dtype=resolve_dtype(dtype, place))

    def overall(self, audio: Audio) -> Emotion:
        """The emotion of the whole recording."""
        return self.read(audio).emotion

    def read(self, source: Audio) -> Reading:
        """Probabilities of the emotions over the whole recording; VAD follows from them. The mean state is the embedding."""
        shares, pooled = self._outputs(source)
        scores = {label: float(share) for label, share in zip(self.labels, shares, strict=True)}
        placed = {label: scores[label] for label in self.taxonomy}
        reading = scored_reading(
            self.modality, "emotion2vec9", placed, confidence=float(max(placed.values()))
        )
        return Reading(
            modality=self.modality,
            vad=reading.vad,
            variance=reading.variance,
            mixture=reading.mixture,
            confidence=reading.confidence,
            embedding=pooled,
        )

    @torch.inference_mode()
    def _outputs(self, audio: Audio) -> tuple[Float[np.ndarray, "class"], Float[np.ndarray, "width"]]:
        """Mean probabilities and the mean state of the pieces, longer ones counting for more."""
        pieces, share = in_pieces(spoken(audio), _LONGEST_S)
        answers = []
        for piece in pieces:
            waveform = torch.from_numpy(piece)[None].to(self.device)
            waveform = torch.nn.functional.layer_norm(waveform, waveform.shape)
            with autocast(self.device, self.dtype):
                logits, frames = self.network(waveform)
            shares = logits[0].double().softmax(-1).cpu().numpy()
            answers.append((shares, frames[0].double().mean(0).cpu().numpy()))
        return share @ np.stack([a for a, _ in answers]), share @ np.stack([p for _, p in answers])
