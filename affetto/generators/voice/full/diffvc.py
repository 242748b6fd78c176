"""DiffVC whole: average-voice encoder, score network and sampling, as published (346 tensors at the default width).

Popov et al., ICLR 2022, arXiv 2109.13821. EmoReg (arXiv 2412.20359) is this network with an emotion embedding in the
seat of the speaker's.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.generators.voice.full.diffvc_encoder import MelEncoder, PostNet
from affetto.generators.voice.full.diffvc_score import GradLogPEstimator
from affetto.generators.voice.full.diffvc_solver import NoiseSchedule, clip_noise, sample
from affetto.generators.voice.full.norms import Mask, frame_mask
from affetto.runtime.errors import InvalidInputError
from affetto.weights.tensors import check_layout

Mel = Float[Tensor, "batch band frame"]
Lengths = Int[Tensor, "batch"]


@dataclass(frozen=True, kw_only=True)
class DiffVCConfig:
    """Sizes; the defaults are the published ones (encoder 8.46 M, decoder 117.79 M parameters)."""

    bands: int = 80
    channels: int = 192
    filters: int = 768
    heads: int = 2
    layers: int = 6
    kernel: int = 3
    dropout: float = 0.1
    window: int = 4  # relative positions that attention tells apart, to either side
    postnet: int = 128
    width: int = 256  # of the score network
    condition: int = 128
    embedding: int = 256  # of the speaker or emotion vector
    beta_first: float = 0.05
    beta_last: float = 20.0

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "DiffVCConfig":
        """What `to_json` wrote; raises InvalidInputError for anything else."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"no DiffVC configuration in these weights ({error}): convert them again"
            ) from error


class AverageVoice(nn.Module):
    """The average-voice encoder: what is said, as an average speaker would sound."""

    def __init__(self, config: DiffVCConfig) -> None:
        super().__init__()
        self.encoder = MelEncoder(
            config.bands, config.channels, config.filters, config.heads, config.layers, config.kernel,
            config.dropout, config.window,
        )  # fmt: skip
        self.postnet = PostNet(config.postnet)

    def forward(self, mel: Mel, lengths: Lengths) -> Mel:
        """Average-voice mels of the same shape, zero after each clip's end."""
        mask = frame_mask(lengths, mel.shape[-1])
        span = None if bool(mask.all()) else mask
        return self.postnet(self.encoder(mel, mask), mask, span) * mask[:, None]


class ScoreDecoder(nn.Module):
    """The score network under the name that the published files give it."""

    def __init__(self, config: DiffVCConfig) -> None:
        super().__init__()
        self.estimator = GradLogPEstimator(config.width, config.condition, config.embedding)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the voice should sound like: log-mels, their average-voice version, and lengths in frames."""

    mel: Float[Tensor, "batch band reference"]
    mean: Float[Tensor, "batch band reference"]
    lengths: Lengths


class DiffVC(nn.Module):
    """Says source mels again with the voice (or, for EmoReg, the emotion) of an embedding."""

    def __init__(self, config: DiffVCConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiffVCConfig()
        self.schedule = NoiseSchedule(first=self.config.beta_first, last=self.config.beta_last)
        self.encoder = AverageVoice(self.config)
        self.decoder = ScoreDecoder(self.config)

    @torch.no_grad()
    def average(self, mel: Mel, lengths: Lengths) -> Mel:
        """The average-voice mels, from which nothing is learned."""
        return self.encoder(mel, lengths)

    def score_loss(
        self,
        mel: Mel,
        lengths: Lengths,
        reference: Reference,
        embedding: Float[Tensor, "batch embedding"],
        *,
        time: Float[Tensor, "batch"],
        noise: Mel,
        mean: Mel | None = None,
    ) -> Float[Tensor, ""]:
        """The weighted score-matching loss |sqrt(variance) score + noise|^2, averaged over bands and frames.

        The encoder learns nothing from it. `mean` is its output for `mel` when that is already known.
        """
        mean = self.average(mel, lengths) if mean is None else mean
        extra = (0, -mel.shape[-1] % self.decoder.estimator.stride)
        mel, mean, noise = F.pad(mel, extra), F.pad(mean, extra), F.pad(noise, extra)
        mask, span = self._masks(lengths, mel.shape[-1])
        inside = mask[:, None].to(mel.dtype)
        left = self.schedule.gammas(time)
        deviation = torch.sqrt(1.0 - left.square())
        noised = (mel * left + mean * (1.0 - left) + noise * deviation) * inside
        heard = reference.mel * left + reference.mean * (1.0 - left)
        heard_mask = frame_mask(reference.lengths, heard.shape[-1])
        score = self.decoder.estimator(
            noised, mask, mean, heard * heard_mask[:, None], heard_mask, embedding, time, span
        )
        error = (score.float() * deviation + noise) * inside
        return error.square().sum() / (inside.sum() * mel.shape[1])

    @torch.inference_mode()
    def convert(
        self,
        mel: Mel,
        lengths: Lengths,
        embedding: Float[Tensor, "batch embedding"] | Float[Tensor, "batch frame embedding"],
        *,
        reference: Reference | None = None,
        steps: int = 30,
        solver: str = "ml",
        seeds: Sequence[int] = (),
        on_step: Callable[[int], None] | None = None,
    ) -> Mel:
        """The source mels with another voice or emotion, zero after each clip's end.

        The reference is the source itself unless given. Clip i draws its noise from `seeds[i]` (0 without), so batches
        change nothing. A frame-wise embedding has as many frames as `mel`.
        """
        frames = mel.shape[-1]
        stride = self.decoder.estimator.stride
        extra = -frames % stride
        mean = self.encoder(mel, lengths).float()
        heard = reference or Reference(mel=mel, mean=mean, lengths=lengths)
        heard_mask = frame_mask(heard.lengths, heard.mel.shape[-1])
        mel, mean = F.pad(mel, (0, extra)), F.pad(mean, (0, extra))
        if embedding.ndim == 3:
            embedding = F.pad(embedding, (0, 0, 0, extra))
        mask, span = self._masks(lengths, frames + extra)
        inside = mask[:, None].to(mel.dtype)
        generators = [torch.Generator().manual_seed(seed) for seed in (seeds or [0] * len(mel))]

        def noise() -> Tensor:
            drawn = clip_noise(generators, lengths.tolist(), mel.shape[1], frames + extra)
            return drawn.to(mel.device)

        def score(noised: Tensor, t: float) -> Tensor:
            left = self.schedule.gamma(0.0, t)
            then = (heard.mel * left + heard.mean * (1.0 - left)) * heard_mask[:, None]
            time = torch.full((len(mel),), t, device=mel.device)
            return self.decoder.estimator(noised, mask, mean, then, heard_mask, embedding, time, span).float()

        left = self.schedule.gamma(0.0, 1.0)
        start = mel * left + mean * (1.0 - left) + noise()
        made = sample(
            score, start, mean, inside, steps=steps, solver=solver, schedule=self.schedule, noise=noise,
            on_step=on_step,
        )  # fmt: skip
        return made[..., :frames]

    def _masks(self, lengths: Lengths, frames: int) -> tuple[Mask, Mask | None]:
        """True within each clip, and within each clip rounded up to the stride (None when that is everywhere)."""
        stride = self.decoder.estimator.stride
        span = frame_mask(-(-lengths // stride) * stride, frames)
        return frame_mask(lengths, frames), None if bool(span.all()) else span


def load_diffvc(tensors: Mapping[str, Tensor], config: DiffVCConfig) -> DiffVC:
    """The network with these weights in evaluation mode; raises InvalidInputError naming a key that does not fit."""
    with torch.device("meta"):
        network = DiffVC(config)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_layout({key: tuple(value.shape) for key, value in tensors.items()}, expected, "DiffVC")
    network.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
    return network.eval()
