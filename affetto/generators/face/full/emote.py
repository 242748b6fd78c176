"""EMOTE's network: what is heard and how it is felt to FLAME expression and jaw.

Danecek et al. 2023 (arXiv 2306.08990), section 3.2. Names are those of the published checkpoints.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Wav2Vec2Config

from affetto.generators.face.full.audio import SpeechNetwork
from affetto.generators.face.full.flint import FlintConfig, FlintDecoder
from affetto.generators.face.full.layers import AlibiEncoder
from affetto.generators.face.full.style import EMOTIONS, LEVELS, PEOPLE
from affetto.runtime.errors import InvalidInputError

FPS = 25.0


@dataclass(frozen=True, kw_only=True)
class EmoteConfig:
    """Sizes; the defaults are the published ones. `speech` holds what differs from wav2vec2-base."""

    width: int = 128
    heads: int = 8
    hidden: int = 256
    layers: int = 1
    period: int = 30
    dropout: float = 0.25
    people: tuple[str, ...] = PEOPLE
    flint: FlintConfig = field(default_factory=FlintConfig)
    speech: dict[str, Any] = field(default_factory=dict)

    @property
    def styles(self) -> int:
        """Numbers of the style condition."""
        return len(EMOTIONS) + len(LEVELS) + len(self.people)

    def to_json(self) -> str:
        """The sizes as JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "EmoteConfig":
        """What `to_json` wrote."""
        try:
            values = json.loads(text)
            flint = FlintConfig(**values.pop("flint", {}))
            people = tuple(values.pop("people", PEOPLE))
            return cls(flint=flint, people=people, **values)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"these are no sizes of an EMOTE network ({error})") from error


class _Named(nn.Module):
    """A linear layer under another name, as the checkpoints have it."""

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, nn.Linear(inputs, outputs))

    def forward(self, hidden: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        return self.get_submodule(self.name)(hidden)


class _Prior(nn.Module):
    """What remains of FLINT in a finished EMOTE."""

    def __init__(self, config: FlintConfig) -> None:
        super().__init__()
        self.motion_decoder = FlintDecoder(config)


class EmoteDecoder(nn.Module):
    """`sequence_decoder` of the checkpoints: style, transformer, squasher and FLINT's decoder."""

    def __init__(self, config: EmoteConfig) -> None:
        super().__init__()
        self.factor = config.flint.factor
        width = 2 * config.width
        self.obj_vector = _Named("map", config.styles, config.width)
        self.bert_decoder = AlibiEncoder(
            width, config.heads, config.hidden, layers=config.layers, period=config.period,
            dropout=config.dropout,
        )  # fmt: skip
        self.decoder = nn.Linear(width, config.flint.width)
        self.squasher_2 = _Named("linear", config.flint.width * self.factor, config.flint.width)
        self.motion_prior = _Prior(config.flint)
        nn.init.zeros_(self.decoder.weight)
        nn.init.zeros_(self.decoder.bias)

    def squashed(self, hidden: Float[Tensor, "clip frame width"]) -> Float[Tensor, "clip step width"]:
        """One latent for every eight frames; the last are filled up with zeros."""
        hidden = F.pad(hidden, (0, 0, 0, -hidden.shape[1] % self.factor))
        return self.squasher_2(rearrange(hidden, "b (t n) d -> b t (n d)", n=self.factor))

    def forward(
        self, heard: Float[Tensor, "clip frame width"], style: Float[Tensor, "clip frame styles"]
    ) -> Float[Tensor, "clip frame channel"]:
        """Expression and jaw of each frame."""
        styled = torch.cat([heard, self.obj_vector(style)], dim=-1)
        latents = self.squashed(self.decoder(self.bert_decoder(styled)))
        return self.motion_prior.motion_decoder(latents)[:, : heard.shape[1]]


class Emote(nn.Module):
    """Speech (16 kHz, normalised) and style to FLAME motion: expression, then the jaw's axis-angle in radians."""

    def __init__(self, config: EmoteConfig | None = None) -> None:
        super().__init__()
        self.config = config or EmoteConfig()
        self.audio_model = SpeechNetwork(Wav2Vec2Config(**self.config.speech))
        self.sequence_encoder = _Named("linear", self.audio_model.width, self.config.width)
        self.sequence_decoder = EmoteDecoder(self.config)

    def forward(
        self, samples: Float[Tensor, "clip sample"], style: Float[Tensor, "clip frame styles"]
    ) -> Float[Tensor, "clip frame channel"]:
        """The motion of as many frames as `style` has."""
        heard = self.sequence_encoder(self.audio_model(samples, style.shape[1]))
        return self.sequence_decoder(heard, style)
