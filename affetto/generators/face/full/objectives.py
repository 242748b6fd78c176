"""The losses of EMOTE's stages: prior, readers, talking, and the exchange of content and emotion.

Danecek et al. 2023, sections 3.1 to 3.3. Vertices are in millimetres, so that the published weights of the perceptual terms
(2.5e-5 and 1.5e-6 beside a mean square in square metres) become 25 and 1.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.generators.face.full.emote import Emote
from affetto.generators.face.full.flame_layer import FlameLayer
from affetto.generators.face.full.flint import Flint
from affetto.generators.face.full.readers import EmotionReader, LipReader, SpeechMatch
from affetto.generators.face.full.style import EMOTIONS, LEVELS

Motion = Float[Tensor, "clip frame channel"]


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each term counts beside the mean squared error of the vertices (mm)."""

    divergence: float = 0.001
    lips: float = 25.0
    emotion: float = 1.5
    exchanged_lips: float = 25.0
    exchanged_emotion: float = 1.5


class PriorObjective(nn.Module):
    """FLINT: vertices as they were, and latents near N(0, 1)."""

    def __init__(self, flint: Flint, flame: FlameLayer, weights: LossWeights) -> None:
        super().__init__()
        self.flint, self.flame, self.weights = flint, flame, weights

    def forward(self, motion: Motion) -> Float[Tensor, ""]:
        """The loss of one batch."""
        made, divergence = self.flint(motion)
        return vertex_loss(self.flame, made, motion) + self.weights.divergence * divergence


class ReadersObjective(nn.Module):
    """Both readers at once, on recorded motions."""

    def __init__(
        self,
        speech: nn.Module,
        flame: FlameLayer,
        lips: LipReader,
        match: SpeechMatch,
        emotions: EmotionReader,
    ) -> None:
        super().__init__()
        self.flame, self.lips, self.match, self.emotions = flame, lips, match, emotions
        self._speech = [speech]  # in a list: it is no part of what is trained

    def forward(
        self, samples: Float[Tensor, "clip sample"], motion: Motion, labels: Int[Tensor, "clip 2"]
    ) -> Float[Tensor, ""]:
        """The loss of one batch."""
        with torch.no_grad():
            states = self._speech[0](samples, motion.shape[1])
            seen = self.flame.mouth(self.flame(motion))
        felt = self.emotions(motion, labels[:, 0], labels[:, 1])
        return self.match(states, self.lips(seen)) + felt


class TalkObjective(nn.Module):
    """EMOTE's first stage: the vertices of what was recorded."""

    def __init__(self, network: Emote, flame: FlameLayer) -> None:
        super().__init__()
        self.network, self.flame = network, flame

    def forward(
        self, samples: Float[Tensor, "clip sample"], style: Float[Tensor, "clip frame styles"], motion: Motion
    ) -> Float[Tensor, ""]:
        """The loss of one batch."""
        return vertex_loss(self.flame, self.network(samples, style), motion)


class ExchangeObjective(nn.Module):
    """EMOTE's second stage: every clip is made twice, with its own emotion and with another clip's.

    The copy must say what its own sound says and feel as the donor feels; nobody's way of speaking is exchanged.
    """

    def __init__(
        self,
        network: Emote,
        flame: FlameLayer,
        lips: LipReader,
        emotions: EmotionReader,
        weights: LossWeights,
    ) -> None:
        super().__init__()
        self.network, self.flame, self.weights = network, flame, weights
        self._readers = (lips, emotions)  # in a tuple: they are no part of what is trained

    def forward(
        self,
        samples: Float[Tensor, "clip sample"],
        style: Float[Tensor, "clip frame styles"],
        motion: Motion,
        donor: Int[Tensor, "clip"],
    ) -> Float[Tensor, ""]:
        """The loss of one batch; clip i takes the emotion of clip `donor[i]`, which is never itself."""
        terms = self.terms(samples, style, motion, donor)
        weights = self.weights
        return (
            terms["vertices"] + weights.lips * terms["lips"] + weights.emotion * terms["emotion"]
            + weights.exchanged_lips * terms["exchanged_lips"]
            + weights.exchanged_emotion * terms["exchanged_emotion"]
        )  # fmt: skip

    def terms(
        self,
        samples: Float[Tensor, "clip sample"],
        style: Float[Tensor, "clip frame styles"],
        motion: Motion,
        donor: Int[Tensor, "clip"],
    ) -> Mapping[str, Float[Tensor, ""]]:
        """Every term of the loss, unweighted."""
        lips, emotions = self._readers
        clips = len(samples)
        heard = self.network.sequence_encoder(self.network.audio_model(samples, motion.shape[1]))
        both = torch.cat([style, exchanged(style, donor)])
        made = self.network.sequence_decoder(torch.cat([heard, heard]), both)
        vertices, recorded = self.flame(made), self.flame(motion)
        with torch.no_grad():
            said, felt = lips(self.flame.mouth(recorded)), emotions.feature(motion)
        read = lips(self.flame.mouth(vertices))
        feeling = emotions.feature(made)
        return {
            "vertices": (vertices[:clips] - recorded).square().mean(),
            "lips": 1.0 - (read[:clips] * said).sum(-1).mean(),
            "emotion": (feeling[:clips] - felt).square().sum(-1).mean(),
            "exchanged_lips": 1.0 - (read[clips:] * said).sum(-1).mean(),
            "exchanged_emotion": (feeling[clips:] - felt[donor]).square().sum(-1).mean(),
        }


def exchanged(
    style: Float[Tensor, "clip frame styles"], donor: Int[Tensor, "clip"]
) -> Float[Tensor, "clip frame styles"]:
    """Each clip's style with the donor's emotion and level and its own person."""
    emotional = len(EMOTIONS) + len(LEVELS)
    return torch.cat([style[donor][..., :emotional], style[..., emotional:]], dim=-1)


def vertex_loss(flame: FlameLayer, made: Motion, recorded: Motion) -> Float[Tensor, ""]:
    """The mean squared distance of the vertices along each axis, square millimetres."""
    return (flame(made) - flame(recorded)).square().mean()
