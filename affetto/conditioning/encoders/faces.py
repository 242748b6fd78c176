"""Face picture -> emotion with HSEmotion's or CAGE's network, weights pulled by the user."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import EfficientNetConfig, EfficientNetModel

from affetto.conditioning.charts import complete_dominance
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading, to_lexical
from affetto.conditioning.encoders.hub import load_strict, open_checkpoint, scored_reading
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, MissingResourceError

HSEMOTION_8: tuple[str, ...] = (
    "Anger",
    "Contempt",
    "Disgust",
    "Fear",
    "Happiness",
    "Neutral",
    "Sadness",
    "Surprise",
)
AFFECTNET_8: tuple[str, ...] = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
_AFFECTNET_NAME: dict[str, str] = dict(
    zip(
        HSEMOTION_8,
        ("Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"),
        strict=True,
    )
)
SIZE = 224  # pixels, both networks
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# blocks of EfficientNet-B0 by stage: how timm, whose names the published weights have, groups what others number through
_STAGES = (1, 2, 2, 3, 3, 4, 1)


def timm_to_transformers() -> dict[str, str]:
    """Prefixes of timm's EfficientNet-B0 modules and the transformers modules that compute the same."""
    names = {"conv_stem": "embeddings.convolution", "bn1": "embeddings.batchnorm"}
    number = 0
    for stage, count in enumerate(_STAGES):
        for block in range(count):
            theirs, ours = f"blocks.{stage}.{block}.", f"encoder.blocks.{number}."
            parts = {
                "conv_dw": "depthwise_conv.depthwise_conv",
                "se.conv_reduce": "squeeze_excite.reduce",
                "se.conv_expand": "squeeze_excite.expand",
            }
            if stage == 0:  # no expansion: depthwise first
                parts |= {"bn1": "depthwise_conv.depthwise_norm"}
                parts |= {"conv_pw": "projection.project_conv", "bn2": "projection.project_bn"}
            else:
                parts |= {"conv_pw": "expansion.expand_conv", "bn1": "expansion.expand_bn"}
                parts |= {"bn2": "depthwise_conv.depthwise_norm"}
                parts |= {"conv_pwl": "projection.project_conv", "bn3": "projection.project_bn"}
            names |= {theirs + key: ours + value for key, value in parts.items()}
            number += 1
    return names | {"conv_head": "encoder.top_conv", "bn2": "encoder.top_bn"}


def b0_config() -> EfficientNetConfig:
    """EfficientNet-B0 as transformers describes it."""
    return EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, image_size=SIZE, dropout_rate=0.0,
        drop_connect_rate=0.0, batch_norm_eps=1e-3, hidden_act="swish",
    )  # fmt: skip


class HSEmotionNetwork(nn.Module):
    """EfficientNet-B0 with ten outputs: eight expressions, valence, arousal (enet_b0_8_va_mtl)."""

    labels = HSEMOTION_8

    def __init__(self, config: EfficientNetConfig | None = None) -> None:
        super().__init__()
        self.backbone = EfficientNetModel(config or b0_config())
        self.classifier = nn.Linear(1280, 10)

    def forward(self, picture: Float[Tensor, "clip 3 row column"]) -> Float[Tensor, "clip 10"]:
        """Eight logits, valence, arousal."""
        hidden = self.backbone(picture).last_hidden_state
        return self.classifier(hidden.mean((2, 3)))

    def load_published(self, tensors: Mapping[str, Tensor], source: Path) -> None:
        """Fill the network from tensors under timm's names, strictly."""
        names = timm_to_transformers()
        renamed: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            module, _, leaf = key.rpartition(".")
            if module in ("classifier", "classifier.0"):
                renamed[f"classifier.{leaf}"] = tensor
            else:
                renamed[f"backbone.{names[module]}.{leaf}" if module in names else key] = tensor
        load_strict(self, renamed, source=source)


class CageNetwork(nn.Module):
    """torchvision's MaxViT-T with ten outputs: eight expressions (AffectNet's order), valence, arousal (CAGE).

    Raises MissingResourceError without torchvision, which affetto does not depend on.
    """

    labels = AFFECTNET_8

    def __init__(self) -> None:
        super().__init__()
        if importlib.util.find_spec("torchvision") is None:
            raise MissingResourceError("the CAGE face encoder needs torchvision: pip install torchvision")
        from torchvision.models import maxvit_t  # pyright: ignore[reportMissingImports]

        self.net = maxvit_t(weights=None)
        width = self.net.classifier[3].in_features
        self.net.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh(),
            nn.Linear(width, 10, bias=False),
        )  # fmt: skip

    def forward(self, picture: Float[Tensor, "clip 3 row column"]) -> Float[Tensor, "clip 10"]:
        """Eight logits, valence, arousal."""
        return self.net(picture)

    def load_published(self, tensors: Mapping[str, Tensor], source: Path) -> None:
        """Fill the network from tensors under torchvision's names, strictly."""
        load_strict(self, {f"net.{key}": tensor for key, tensor in tensors.items()}, source=source)


_NETWORKS = {"hsemotion-b0": HSEmotionNetwork, "cage-maxvit": CageNetwork}


class FaceEncoder:
    """Reads the expression of a face picture that is cropped to the face.

    What a face shows is not what its owner feels; use it with consent. Dominance, which these networks do not give, is
    what is usual at their valence and arousal.
    """

    modality = "face"
    taxonomy = AFFECTNET_8

    def __init__(
        self, network: HSEmotionNetwork | CageNetwork, *, dtype: torch.dtype = torch.float32
    ) -> None:
        self.network = network.eval()
        self.dtype = dtype
        self.device = next(network.parameters()).device

    @classmethod
    def from_pretrained(
        cls,
        name: str = "hsemotion-b0",
        path: str | Path | None = None,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "fp32",
    ) -> "FaceEncoder":
        """The encoder called `hsemotion-b0` or `cage-maxvit`, from its registered weights or from `path`."""
        if name not in _NETWORKS:
            raise MissingResourceError(f"unknown face encoder {name!r}: use {' or '.join(_NETWORKS)}")
        checkpoint = open_checkpoint(name if path is None else path)
        network = _NETWORKS[name]()
        network.load_published(checkpoint.tensors, checkpoint.path)
        place = resolve_device(device)
        return cls(network.to(place), dtype=resolve_dtype(dtype, place))

    def __call__(self, picture: UInt8[np.ndarray, "row column 3"]) -> Emotion:
        """The emotion the face expresses."""
        return self.read(picture).emotion

    @torch.inference_mode()
    def read(self, source: UInt8[np.ndarray, "row column 3"]) -> Reading:
        """The expression of an RGB face crop: probabilities of eight expressions, and measured valence and arousal."""
        with autocast(self.device, self.dtype):
            output = self.network(prepared(source).to(self.device))[0].double().cpu()
        probability = output[:8].softmax(-1).numpy()
        scores = {
            _AFFECTNET_NAME.get(label, label): float(p)
            for label, p in zip(self.network.labels, probability, strict=True)
        }
        named = scored_reading(self.modality, "affectnet8", scores, confidence=float(probability.max()))
        valence, arousal = (float(axis) for axis in output[8:].clamp(-1, 1))
        size = min(1.0, 2 * float(np.hypot(valence, arousal)))
        dominance = size * float(complete_dominance(np.array(valence), np.array(arousal)))
        measured = to_lexical(np.array([valence, arousal, dominance]), "face")
        # the published RMSE on AffectNet is about .33 and .31
        return Reading(
            modality=self.modality,
            vad=measured,
            variance=np.array([0.11, 0.09, 0.15]),
            mixture=named.mixture,
            confidence=named.confidence,
        )


def prepared(picture: UInt8[np.ndarray, "row column 3"]) -> Float[Tensor, "1 3 224 224"]:
    """The picture at 224 x 224 with ImageNet's normalisation."""
    if min(picture.shape[:2]) < 16:
        raise InvalidInputError(
            f"a face of {picture.shape[1]} x {picture.shape[0]} pixels is too small: use 16 or more"
        )
    pixels = rearrange(
        torch.from_numpy(np.ascontiguousarray(picture)).float() / 255, "row column rgb -> 1 rgb row column"
    )
    pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (pixels - mean) / deviation
