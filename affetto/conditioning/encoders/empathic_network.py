"""LAION's Empathic Insight (arXiv 2505.20033, 2506.09827): an encoder that is not theirs, and one small regressor a label.

Voices go through a Whisper whose states of 30 s are laid end to end; faces through SigLIP 2's picture tower. Every label has a
file and a chain of linear layers of its own; sizes are told by the shapes in the files.
"""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from affetto.conditioning.taxonomies import get_taxonomy
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.weights.tensors import check_layout

FORMATS: Mapping[str, str] = {"voice": "empathic-voice-1", "face": "empathic-face-1"}
TAXONOMY = "emonet-voice40"  # the faces' forty are the same
AXES = ("Valence", "Arousal", "Submissive_vs._Dominant")
"""Attributes of voices that have regressors too: -3..3, 0..4, -3..3."""

Medium = Literal["voice", "face"]
Parts = Mapping[str, Mapping[str, Tensor]]
_FILE = re.compile(r"model_(.+)_best\.pth")
_LAYER = re.compile(r"(?:proj|(?:mlp|layers)\.(\d+))\.(weight|bias)")
_WHISPER_HEAD = 64  # numbers that each of Whisper's attention heads sees, whatever its size
_SIGLIP_HEADS = 16  # of So400m; no shape tells


@dataclass(frozen=True, kw_only=True)
class EncoderSizes:
    """What no head depends on: sizes of the encoder, Whisper's (`places` states of 20 ms) or SigLIP's (`places` patches)."""

    width: int
    layers: int
    heads: int
    hidden: int
    places: int
    given: int  # mel bands, or pixels along a patch

    def to_json(self) -> str:
        """The sizes as text for a file's metadata."""
        return json.dumps(dataclasses.asdict(self))

    def build(self, medium: Medium) -> nn.Module:
        """The encoder, with its published names inside."""
        if medium == "voice":
            return WhisperEncoder(
                WhisperConfig(
                    d_model=self.width, encoder_layers=self.layers, encoder_attention_heads=self.heads,
                    encoder_ffn_dim=self.hidden, num_mel_bins=self.given, max_source_positions=self.places,
                )
            )  # fmt: skip
        return SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=self.width, num_hidden_layers=self.layers, num_attention_heads=self.heads,
                intermediate_size=self.hidden, patch_size=self.given, image_size=self.picture,
            )
        )  # fmt: skip

    @property
    def picture(self) -> int:
        """Pixels along a picture, for faces."""
        return math.isqrt(self.places) * self.given


class _Linear(nn.Linear):
    """A linear layer whose weights, kept in half precision, are cast to what they are given."""

    def forward(self, input: Float[Tensor, "*clip given"]) -> Float[Tensor, "*clip width"]:  # noqa: A002  # as torch calls it
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class Regressor(nn.Module):
    """Linear layers with ReLU between them: an embedding to one number."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        # not drawn at random: the first layer of a voice's has 74 million numbers, and all come from a file
        self.layers = nn.ModuleList(nn.utils.skip_init(_Linear, a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Float[Tensor, "clip width"]) -> Float[Tensor, "clip"]:
        """One number for each embedding."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)[:, 0]


class EmpathicNetwork(nn.Module):
    """An encoder and regressors by label, in the order of `labels`."""

    def __init__(self, medium: Medium, sizes: EncoderSizes, heads: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.medium = medium
        self.sizes = sizes
        self.labels = tuple(heads)
        self.encoder = sizes.build(medium)
        self.heads = nn.ModuleList(Regressor(widths) for widths in heads.values())

    def forward(self, given: Float[Tensor, "clip channel *place"]) -> Float[Tensor, "clip label"]:
        """Scores of mel spectrograms (clip, band, 2 places) or of pictures (clip, 3, row, column) in -1..1."""
        if self.medium == "voice":
            embedding = self.encoder(given).last_hidden_state.flatten(1)
        else:
            embedding = self.encoder(pixel_values=given).pooler_output
        return torch.stack([head(embedding) for head in self.heads], dim=1)


def convert_empathic_voice(parts: Parts) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Regressors `model_<Label>_best.pth` and the Whisper they were trained on (a .safetensors file) as one file of ours."""
    return _converted("voice", parts)


def convert_empathic_face(parts: Parts) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Regressors `model_<label>_best.pth` (Small or Large) and SigLIP 2 So400m patch16-384 as one file of ours."""
    return _converted("face", parts)


def _converted(medium: Medium, parts: Parts) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Encoder in single precision, regressors in half; raises InvalidInputError for what does not fit."""
    encoders = {name: tensors for name, tensors in parts.items() if not _FILE.fullmatch(Path(name).name)}
    if len(encoders) != 1:
        raise InvalidInputError(
            f"{len(encoders)} files could be the encoder, not one: give the regressors and one .safetensors file"
        )
    encoder = _encoder_of(medium, next(iter(encoders.values())))
    sizes = _sizes(medium, encoder)
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in sizes.build(medium).state_dict().items()}
    check_layout(
        {key: tuple(value.shape) for key, value in encoder.items()}, expected, f"the {medium} encoder"
    )
    found = {f"encoder.{key}": value.detach().float().contiguous() for key, value in encoder.items()}
    width = sizes.width * sizes.places if medium == "voice" else sizes.width
    labels = {}
    for name, tensors in parts.items():
        if match := _FILE.fullmatch(Path(name).name):
            labels[label_of(match[1], medium)] = _layers(tensors, name, width)
    for index, label in enumerate(sorted(labels)):
        for key, value in labels[label].items():
            found[f"heads.{index}.{key}"] = value.detach().half().contiguous()
    config = {
        "sizes": dataclasses.asdict(sizes),
        "heads": {label: _widths(labels[label]) for label in sorted(labels)},
    }
    return found, {"format": FORMATS[medium], "config": json.dumps(config)}


def label_of(stem: str, medium: Medium) -> str:
    """The label of the forty, or an axis, that a file's stem names (`jealousy_&_envy` is `Jealousy_and_Envy`)."""
    plain = stem.replace("&", "and")
    if medium == "voice" and plain in AXES:
        return plain
    known = {label.casefold(): label for label in get_taxonomy(TAXONOMY).labels}
    if plain.casefold() not in known:
        raise UsageError(f"model_{stem}_best.pth: {stem!r} is none of the forty emotions of EmoNet")
    return known[plain.casefold()]


def _encoder_of(medium: Medium, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is heard or seen with: Whisper's encoder, or SigLIP's picture tower, without the text beside it."""
    start = re.compile(r"(?:model\.)?encoder\." if medium == "voice" else r"(?:model\.)?vision_model\.")
    own = {start.sub("", key, count=1): value for key, value in tensors.items() if start.match(key)}
    if not own:
        what = "Whisper's encoder" if medium == "voice" else "SigLIP's picture tower"
        raise InvalidInputError(f"holds no {what}: these are other weights")
    return {key: value for key, value in own.items() if not key.endswith("position_ids")}


def _sizes(medium: Medium, encoder: Mapping[str, Tensor]) -> EncoderSizes:
    first, place, hidden = (
        ("conv1.weight", "embed_positions.weight", "layers.0.fc1.weight")
        if medium == "voice"
        else (
            "embeddings.patch_embedding.weight",
            "embeddings.position_embedding.weight",
            "encoder.layers.0.mlp.fc1.weight",
        )
    )
    if missing := [key for key in (first, place, hidden) if key not in encoder]:
        raise InvalidInputError(
            f"the {medium} encoder: key {missing[0]!r} is missing: these are other weights"
        )
    width = encoder[first].shape[0]
    number = 1 if medium == "voice" else 2
    layers = {key.split(".")[number] for key in encoder if re.match(r"(encoder\.)?layers\.", key)}
    return EncoderSizes(
        width=width,
        layers=len(layers),
        heads=max(width // _WHISPER_HEAD, 1) if medium == "voice" else _SIGLIP_HEADS,
        hidden=encoder[hidden].shape[0],
        places=encoder[place].shape[0],
        given=encoder[first].shape[1] if medium == "voice" else encoder[first].shape[2],
    )


def _layers(tensors: Mapping[str, Tensor], name: str, width: int) -> dict[str, Tensor]:
    """A regressor's tensors under our names; raises InvalidInputError unless they are one chain from `width` to 1."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        match = _LAYER.fullmatch(
            key.removeprefix("_orig_mod.")
        )  # what compiled training leaves before each name
        if match is None:
            raise InvalidInputError(
                f"{name}: key {key!r} is unknown: this is no regressor of Empathic Insight"
            )
        found.setdefault(-1 if match[1] is None else int(match[1]), {})[match[2]] = value
    layers = [found[number] for number in sorted(found)]
    ours = {f"layers.{i}.{part}": value for i, layer in enumerate(layers) for part, value in layer.items()}
    widths = _widths(ours)
    with torch.device("meta"):
        expected = {
            key: tuple(value.shape) for key, value in Regressor((width, *widths[1:])).state_dict().items()
        }
    check_layout({key: tuple(value.shape) for key, value in ours.items()}, expected, f"a regressor ({name})")
    return ours


def _widths(layers: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The numbers a chain of layers goes through."""
    weights = [layers[f"layers.{i}.weight"] for i in range(sum(key.endswith("weight") for key in layers))]
    return (int(weights[0].shape[1]), *(int(weight.shape[0]) for weight in weights))
