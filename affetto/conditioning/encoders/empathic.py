"""Voices and faces -> forty emotions with LAION's Empathic Insight, weights pulled by the user (regressors CC BY 4.0)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers import WhisperFeatureExtractor

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading
from affetto.conditioning.encoders.empathic_network import (
    AXES,
    FORMATS,
    TAXONOMY,
    EmpathicNetwork,
    EncoderSizes,
    Medium,
)
from affetto.conditioning.encoders.hub import (
    RATE,
    in_pieces,
    load_strict,
    open_checkpoint,
    scored_reading,
    spoken,
)
from affetto.conditioning.taxonomies import get_taxonomy
from affetto.media.audio import Audio
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, UsageError

VOICE_ID, FACE_ID = "empathic-insight-voice", "empathic-insight-face"
_MOST = {"voice": 4.0, "face": 7.0}  # the strongest score that the labels were given
_SMALLEST = 16  # pixels of a face


class _Empathic:
    """What both share: the network, where it runs, and how scores become a reading."""

    medium: Medium

    def __init__(self, network: EmpathicNetwork, *, dtype: torch.dtype = torch.float32) -> None:
        if network.medium != self.medium:
            raise UsageError(f"this network judges a {network.medium}, not a {self.medium}")
        self.labels = tuple(label for label in network.labels if label not in AXES)
        known = get_taxonomy(TAXONOMY)
        places = dict(zip(known.labels, known.places, strict=True))
        self.taxonomy = tuple(label for label in self.labels if places[label] is not None)
        if len(self.taxonomy) < 2:
            raise InvalidInputError(
                "Empathic Insight with fewer than two emotions tells none apart: give more regressors"
            )
        self.network = network.eval()
        self.dtype = dtype
        self.device = next(network.parameters()).device

    @property
    def modality(self) -> str:
        """`voice` or `face`."""
        return self.medium

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "fp32",
    ) -> Any:
        """The encoder of the registered weights, or of a .safetensors file that `affetto weights convert` wrote."""
        checkpoint = open_checkpoint(
            {"voice": VOICE_ID, "face": FACE_ID}[cls.medium] if name is None else name
        )
        if checkpoint.config is None or checkpoint.format != FORMATS[cls.medium]:
            raise InvalidInputError(
                f"{checkpoint.path}: holds no {FORMATS[cls.medium]} weights: pull or convert them with affetto weights"
            )
        heads = {label: tuple(widths) for label, widths in checkpoint.config["heads"].items()}
        network = EmpathicNetwork(cls.medium, EncoderSizes(**checkpoint.config["sizes"]), heads)
        network.heads.half()
        load_strict(network, checkpoint.tensors, source=checkpoint.path)
        place = resolve_device(device)
        return cls(network.to(place), dtype=resolve_dtype(dtype, place))

    def _scored(self, scores: Float[np.ndarray, "label"]) -> Reading:
        """The reading of scores by label (0 nothing .. the strongest).

        The regressors lean together, so what stands out of their mean is the mixture; the strongest score of all says how
        much of anything there is. Where the axes of a voice were scored too, they are its VAD.
        """
        by_label = dict(zip(self.network.labels, (float(score) for score in scores), strict=True))
        felt = np.array([by_label[label] for label in self.taxonomy])
        strength = float(np.clip(felt.max() / _MOST[self.medium], 0.0, 1.0))
        beyond = np.maximum(felt - felt.mean(), 0.0)
        shares = beyond / beyond.sum() if beyond.sum() > 0 else np.full(len(felt), 1 / len(felt))
        named = scored_reading(
            self.medium,
            TAXONOMY,
            dict(zip(self.taxonomy, shares.tolist(), strict=True)),
            confidence=float(shares.max()),
        )
        vad = strength * named.vad
        if all(axis in by_label for axis in AXES):
            valence, arousal, dominance = (by_label[axis] for axis in AXES)
            vad = np.clip([valence / 3.0, (arousal - 2.0) / 2.0, dominance / 3.0], -1.0, 1.0)
        mixture = {name: strength * share for name, share in named.mixture.items()}
        return Reading(
            modality=self.medium,
            vad=vad,
            variance=named.variance,
            mixture=mixture | {"neutral": 1.0 - strength},
            confidence=named.confidence,
        )


class EmpathicVoiceEncoder(_Empathic):
    """Reads how much of each of forty emotions a voice has; valence, arousal and dominance too where they were pulled."""

    medium = "voice"

    def overall(self, audio: Audio) -> Emotion:
        """The emotion of the whole recording."""
        return self.read(audio).emotion

    def read(self, source: Audio) -> Reading:
        """The emotions of the whole recording; more than 30 s are heard in equal pieces."""
        sizes = self.network.sizes
        chunk = 2 * sizes.places * 160  # samples: two mel frames of 10 ms for each state
        extractor = WhisperFeatureExtractor(feature_size=sizes.given, chunk_length=chunk // RATE)
        pieces, share = in_pieces(spoken(source), chunk / RATE)
        scores = []
        for piece in pieces:
            mels = extractor(piece, sampling_rate=RATE, return_tensors="pt").input_features
            scores.append(self._scores(mels))
        return self._scored(share @ np.stack(scores))

    @torch.inference_mode()
    def _scores(self, mels: Float[Tensor, "1 band frame"]) -> Float[np.ndarray, "label"]:
        with autocast(self.device, self.dtype):
            return self.network(mels.to(self.device))[0].double().cpu().numpy()


class EmpathicFaceEncoder(_Empathic):
    """Reads how much of each of forty emotions the picture of a face shows; the picture is cropped to the face.

    What a face shows is not what its owner feels; use it with consent. The embedding goes to the regressors as SigLIP
    gives it, not brought to unit length.
    """

    medium = "face"

    def __call__(self, picture: UInt8[np.ndarray, "row column 3"]) -> Emotion:
        """The emotion the face expresses."""
        return self.read(picture).emotion

    @torch.inference_mode()
    def read(self, source: UInt8[np.ndarray, "row column 3"]) -> Reading:
        """The emotions of an RGB face crop."""
        if min(source.shape[:2]) < _SMALLEST:
            raise InvalidInputError(
                f"a face of {source.shape[1]} x {source.shape[0]} pixels is too small: use {_SMALLEST} or more"
            )
        side = self.network.sizes.picture
        pixels = torch.from_numpy(np.ascontiguousarray(source)).float().to(self.device)
        pixels = rearrange(pixels / 127.5 - 1.0, "row column rgb -> 1 rgb row column")
        pixels = F.interpolate(
            pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False
        )
        with autocast(self.device, self.dtype):
            scores = self.network(pixels)[0].double().cpu().numpy()
        return self._scored(scores)
