"""Music FaderNets: one latent for each low-level attribute, arousal as the difference between two Gaussians in each.

Tan and Herremans, "Music FaderNets: Controllable Music Generation Based On High-Level Features via Low-Level Feature
Modelling" (ISMIR 2020, arXiv 2007.15474). The first dimension of each latent is the fader of its attribute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float, Int64
from torch import Tensor, nn

from affetto.runtime.errors import UsageError

ATTRIBUTES = ("rhythm", "density")
"""Share of sixteenths with an onset; notes in a sixteenth."""
LOW, HIGH = 0, 1  # the components of each mixture: arousal


@dataclass(frozen=True, kw_only=True)
class FaderConfig:
    """Sizes; the defaults are the published ones."""

    events: int = 342  # the performance vocabulary, 0 being padding
    width: int = 512
    latent: int = 128
    key_width: int = 24
    components: int = 2
    rolls: tuple[int, ...] = (3, 16)  # classes of the attribute's own sequence, one for each attribute
    variance: float = 1.0  # of every component, not learned


@dataclass(frozen=True, kw_only=True, eq=False)
class FaderLatent:
    """The posterior of one attribute's latent and the probability of each component at its sample."""

    mean: Float[Tensor, "batch latent"]
    log_variance: Float[Tensor, "batch latent"]
    z: Float[Tensor, "batch latent"]
    component: Float[Tensor, "batch component"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FaderLoss:
    """The parts of the objective, each a mean over the batch; `total` weighs them."""

    events: Float[Tensor, ""]
    rolls: Float[Tensor, ""]
    divergence: Float[Tensor, ""]
    labels: Float[Tensor, ""]
    order: Float[Tensor, ""]
    total: Float[Tensor, ""]


class FaderNet(nn.Module):
    """A recurrent encoder with one latent for each attribute, their own small decoders, and a decoder of events."""

    def __init__(self, config: FaderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FaderConfig()
        if len(config.rolls) != len(ATTRIBUTES):
            raise UsageError(
                f"FaderNets need a roll for each of {', '.join(ATTRIBUTES)}: give {len(ATTRIBUTES)} sizes"
            )
        wide, latent = config.width, config.latent
        self.embedding = nn.Embedding(config.events, wide)
        self.encoders = nn.ModuleList(
            nn.GRU(wide, wide, batch_first=True, bidirectional=True) for _ in ATTRIBUTES
        )
        self.means = nn.ModuleList(nn.Linear(2 * wide, latent) for _ in ATTRIBUTES)
        self.variances = nn.ModuleList(nn.Linear(2 * wide, latent) for _ in ATTRIBUTES)
        self.centres = nn.Parameter(0.5 * torch.randn(len(ATTRIBUTES), config.components, latent))
        self.roll_starts = nn.ModuleList(nn.Linear(latent, wide) for _ in ATTRIBUTES)
        self.roll_decoders = nn.ModuleList(
            nn.GRU(size + latent, wide, batch_first=True) for size in config.rolls
        )
        self.roll_heads = nn.ModuleList(nn.Linear(wide, size) for size in config.rolls)
        conditions = len(ATTRIBUTES) * latent + config.key_width
        self.start = nn.Linear(conditions, 2 * wide)
        self.decoder = nn.GRU(wide + conditions, wide, num_layers=2, batch_first=True)
        self.head = nn.Linear(wide, config.events)

    def encode(
        self,
        events: Int64[Tensor, "batch event"],
        noise: Float[Tensor, "attribute batch latent"] | None = None,
    ) -> tuple[FaderLatent, ...]:
        """The latent of each attribute; without `noise` its mean."""
        embedded, found = self.embedding(events), []
        for index, encoder in enumerate(self.encoders):
            _, last = encoder(embedded)
            last = torch.cat([last[0], last[1]], dim=-1)
            mean, log_variance = self.means[index](last), self.variances[index](last).clamp(-10.0, 10.0)
            z = mean if noise is None else mean + noise[index] * (0.5 * log_variance).exp()
            found.append(
                FaderLatent(mean=mean, log_variance=log_variance, z=z, component=self.components(z, index))
            )
        return tuple(found)

    def components(
        self, z: Float[Tensor, "batch latent"], attribute: int
    ) -> Float[Tensor, "batch component"]:
        """The probability that each component, equally likely before, gave `z`."""
        distance = (z[:, None] - self.centres[attribute]).square().sum(-1)
        return F.softmax(-0.5 * distance / self.config.variance, dim=-1)

    def decode(
        self,
        z: Sequence[Float[Tensor, "batch latent"]],
        key: Float[Tensor, "batch key"],
        before: Int64[Tensor, "batch event"],
    ) -> Float[Tensor, "batch event id"]:
        """Logits of the events after those in `before`."""
        conditions = torch.cat([*z, key], dim=-1)
        first = torch.tanh(self.start(conditions)).view(len(key), 2, -1).transpose(0, 1).contiguous()
        steps = repeat(conditions, "b c -> b n c", n=before.shape[1])
        hidden, _ = self.decoder(torch.cat([self.embedding(before), steps], dim=-1), first)
        return self.head(hidden)

    def roll(
        self, z: Float[Tensor, "batch latent"], before: Int64[Tensor, "batch step"], attribute: int
    ) -> Float[Tensor, "batch step klass"]:
        """Logits of the attribute's own sequence (rhythm or density, sixteenth by sixteenth) after `before`."""
        known = F.one_hot(before, self.config.rolls[attribute]).to(z.dtype)
        given = torch.cat([known, repeat(z, "b d -> b n d", n=before.shape[1])], dim=-1)
        hidden, _ = self.roll_decoders[attribute](given, torch.tanh(self.roll_starts[attribute](z))[None])
        return self.roll_heads[attribute](hidden)

    def with_arousal(
        self, latents: Sequence[Float[Tensor, "batch latent"]], amount: float
    ) -> tuple[Float[Tensor, "batch latent"], ...]:
        """The latents moved by `amount` of the way from the calm to the excited component (1: all of it, -1: back)."""
        return tuple(
            z + amount * (centre[HIGH] - centre[LOW]) for z, centre in zip(latents, self.centres, strict=True)
        )

    def loss(
        self,
        events: Int64[Tensor, "batch event"],
        rolls: Sequence[Int64[Tensor, "batch step"]],
        key: Float[Tensor, "batch key"],
        attributes: Float[Tensor, "attribute batch"],
        *,
        step: int,
        noise: Float[Tensor, "attribute batch latent"],
        arousal: Int64[Tensor, "batch"] | None = None,
    ) -> FaderLoss:
        """The objective at a training `step`; `arousal` (0 low, 1 high) where the clips are labelled."""
        latents = self.encode(events, noise)
        z = [each.z for each in latents]
        written = self.decode(z, key, _shifted(events))
        found = F.cross_entropy(written.transpose(1, 2), events)
        drawn = torch.stack(
            [
                F.cross_entropy(self.roll(each, _shifted(roll), index).transpose(1, 2), roll)
                for index, (each, roll) in enumerate(zip(z, rolls, strict=True))
            ]
        ).sum()
        divergence = torch.stack(
            [self._divergence(each, index, arousal) for index, each in enumerate(latents)]
        ).sum()
        labels = torch.zeros((), device=events.device)
        if arousal is not None:
            labels = torch.stack(
                [F.nll_loss(each.component.clamp_min(1e-12).log(), arousal) for each in latents]
            ).sum()
        order = torch.stack(
            [fader_order(each, given) for each, given in zip(z, attributes, strict=True)]
        ).sum()
        total = 5.0 * found + drawn + beta(step) * divergence + labels + order
        return FaderLoss(
            events=found, rolls=drawn, divergence=divergence, labels=labels, order=order, total=total
        )

    def _divergence(
        self, latent: FaderLatent, attribute: int, arousal: Int64[Tensor, "batch"] | None
    ) -> Float[Tensor, ""]:
        """How far the posterior is from the mixture; from the labelled component where there is a label."""
        variance, inside = self.config.variance, latent.log_variance.exp()
        apart = (latent.mean[:, None] - self.centres[attribute]).square()
        ratio = (inside[:, None] + apart) / variance - 1.0 - latent.log_variance[:, None]
        each = 0.5 * (ratio + torch.log(torch.tensor(variance))).sum(-1)
        if arousal is not None:
            return each.gather(1, arousal[:, None]).mean()
        share = latent.component
        entropy = (share * (share.clamp_min(1e-12) * self.config.components).log()).sum(-1)
        return ((share * each).sum(-1) + entropy).mean()


def fader_order(z: Float[Tensor, "batch latent"], attribute: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    """How far the first dimension is from the order of the attribute over all pairs (Pati and Lerch 2019)."""
    spread = torch.tanh(z[:, None, 0] - z[None, :, 0])
    return F.mse_loss(spread, (attribute[:, None] - attribute[None]).sign())


def beta(step: int, *, warm: int = 10_000, rise: int = 10_000, most: float = 0.2) -> float:
    """The weight of the divergence: none until `warm`, then rising to `most`. Published, it is negative on the way."""
    return most * min(max((step - warm) / rise, 0.0), 1.0)


def faded(z: Float[Tensor, "batch latent"], value: float) -> Float[Tensor, "batch latent"]:
    """The latent with its fader, the first dimension, at `value`."""
    moved = z.clone()
    moved[:, 0] = value
    return moved


def _shifted(sequence: Tensor) -> Tensor:
    return F.pad(sequence[:, :-1], (1, 0))
