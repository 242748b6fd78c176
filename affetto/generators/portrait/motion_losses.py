"""What the portrait's motion models are trained to: the flow's error, lips that part as far, emotions that can be told.

The terms follow DICE-Talk (arXiv 2504.18087) where its code tells them; their weights are ours.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from affetto.acting.expression import LOWER_FACE
from affetto.acting.lip_gap import LinearGap
from affetto.generators.portrait.motion_data import MotionBatch
from affetto.generators.portrait.motion_net import MotionNet
from affetto.generators.portrait.motion_space import CHANNELS, SHAPES, SHIFT
from affetto.generators.portrait.motion_vae import FlowVae, divergence

_CLOSED = 0.008  # of the inter-pupil distance

Losses = dict[str, Float[Tensor, ""]]


def channel_weight() -> Float[Tensor, "58"]:
    """How much each channel counts: mouth and jaw more."""
    weight = np.ones(CHANNELS)
    weight[SHAPES] = np.where(LOWER_FACE, 1.6, 1.0)
    return torch.from_numpy((weight / weight.mean()).astype(np.float32))


class FlowLosses:
    """The flow's error and the losses that shape its emotion embedding, weighted to be summed."""

    def __init__(self, gap: LinearGap, device: torch.device) -> None:
        self.gap = gap.to(device)
        self.weight = channel_weight().to(device)

    def __call__(self, net: MotionNet, batch: MotionBatch, chance: torch.Generator) -> Losses:
        """The losses of a batch."""
        windows = len(batch.motion)
        clean = net.normalised(batch.motion)

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=chance).to(clean.device)

        noise = net.noise(torch.randn(clean.shape, generator=chance).to(clean.device))
        drawn = torch.randn(windows, generator=chance).to(clean.device)
        sigma = torch.sigmoid(1.2 * drawn + math.log(SHIFT))
        embedding, shaping = _embed(net, clean, batch, chance)
        kept = draw(windows)
        speech_kept, emotion_kept = kept >= 0.1, kept >= 0.2
        conditions = net.conditions(
            batch.content, batch.features, embedding, batch.style,
            speech_kept=speech_kept, emotion_kept=emotion_kept, style_kept=draw(windows) >= 0.1,
        )  # fmt: skip
        # the frames that will be known were generated themselves: they are never quite those of the data
        slip = (
            0.1 * draw(windows)[:, None, None] * torch.randn(clean.shape, generator=chance).to(clean.device)
        )
        level = sigma[:, None, None]
        noisy = (1.0 - level) * clean + level * noise
        velocity, logits = net(noisy, sigma, conditions, clean + slip * net.live, batch.is_known)
        velocity = velocity.float()
        fresh = (~batch.is_known)[..., None].float()
        error = (velocity - (noise - clean)).square() * self.weight * fresh
        guess = noisy - level * velocity
        return {
            "flow": error.mean() / fresh.mean(),
            **self.shapes(net.restored(guess), guess, clean, batch, (1.0 - sigma) * speech_kept),
            "emotion": 0.1 * _discernment(logits.float(), batch.features[..., :8].mean(dim=1), emotion_kept),
            **shaping,
        }

    def shapes(
        self,
        motion: Float[Tensor, "window 64 58"],
        guess: Float[Tensor, "window 64 58"],
        clean: Float[Tensor, "window 64 58"],
        batch: MotionBatch,
        sure: Float[Tensor, "window"],
    ) -> Losses:
        """How the guessed motion moves and how far its lips part, where the noise lets one tell (`sure`)."""
        pace = (torch.diff(guess, dim=1) - torch.diff(clean, dim=1)).square() * self.weight
        gap = self.gap(motion[..., SHAPES])
        wanted = self.gap(batch.motion[..., SHAPES])
        off = (gap - wanted).abs() + 2.0 * torch.relu(gap - _CLOSED) * batch.closure
        return {
            "pace": 0.5 * (pace.mean(dim=(1, 2)) * sure.square()).mean(),
            "gap": 4.0 * (off.mean(dim=1) * sure).mean(),
        }


class VaeLosses:
    """Reconstruction, divergence from the flow prior, and the shapes that the flow is held to as well."""

    def __init__(self, gap: LinearGap, device: torch.device) -> None:
        self.shared = FlowLosses(gap, device)

    def __call__(self, net: FlowVae, batch: MotionBatch, chance: torch.Generator) -> Losses:
        """The losses of a batch."""
        clean = net.normalised(batch.motion)
        slip = 0.1 * torch.randn(clean.shape, generator=chance).to(clean.device) * net.live
        told = net.told(batch.content, batch.features, batch.style, clean + slip, batch.is_known)
        mean, log_variance = net.encode(clean, told)
        drawn = mean + torch.randn(mean.shape, generator=chance).to(mean.device) * (0.5 * log_variance).exp()
        noise = net.to_noise(drawn, told)
        guess = net.decode(drawn, told).float()
        fresh = (~batch.is_known)[..., None].float()
        error = (guess - clean).abs() * self.shared.weight * fresh
        sure = torch.ones(len(clean), device=clean.device)
        return {
            "error": error.mean() / fresh.mean(),
            "divergence": 0.02 * divergence(mean.float(), log_variance.float(), drawn.float(), noise.float()),
            **self.shared.shapes(net.restored(guess), guess, clean, batch, sure),
        }


def _embed(
    net: MotionNet, clean: Float[Tensor, "window 64 58"], batch: MotionBatch, chance: torch.Generator
) -> tuple[Float[Tensor, "window 64 embedding"], Losses]:
    """The emotion of each frame, for some windows as read off the motion itself, and the losses of the embedding."""
    emotion = net.emotion
    prior = emotion.prior(batch.features)
    centre = prior.mean(dim=1)
    mean, log_variance = emotion.embed(clean)
    kl = 0.5 * ((mean - centre).square() + log_variance.exp() - 1.0 - log_variance).mean(dim=-1)
    drawn = torch.randn(mean.shape, generator=chance).to(clean.device)
    read = mean + drawn * (0.5 * log_variance).exp()
    told = torch.rand(len(mean), generator=chance).to(clean.device) < 0.35
    shift = torch.where((told & batch.is_held)[:, None], read - centre, 0.0)
    embedding = prior + shift[:, None]
    item = embedding.reshape(-1, embedding.shape[-1])[:: embedding.shape[1] // 2]
    held = batch.is_held.float()
    return embedding, {
        "kl": 0.01 * (kl * held).sum() / held.sum().clamp_min(1.0),
        "contrast": 0.05 * supervised_contrast(mean.float(), batch.features, batch.is_held),
        "bank": 0.02 * net.bank(item).loss,
    }


def supervised_contrast(
    embedding: Float[Tensor, "window embedding"],
    features: Float[Tensor, "window 64 12"],
    is_held: Tensor,
    *,
    temperature: float = 0.15,
) -> Float[Tensor, ""]:
    """Khosla et al. 2020: windows of the same held emotion attract each other whoever performs, others repel.

    The emotion of a window is its strongest anchor; windows whose emotion changes take no part.
    """
    label = features[..., :8].mean(dim=1).argmax(dim=-1)
    unit = F.normalize(embedding, dim=-1)
    alike = (label[:, None] == label[None, :]) & is_held[:, None] & is_held[None, :]
    alike = alike & ~torch.eye(len(label), dtype=torch.bool, device=label.device)
    barred = torch.eye(len(label), dtype=torch.bool, device=label.device) | ~is_held[None, :]
    scores = (unit @ unit.T / temperature).masked_fill(barred, -1e4)
    chance = scores - scores.logsumexp(dim=1, keepdim=True)
    pairs = alike.float()
    return -(chance * pairs).sum() / pairs.sum().clamp_min(1.0)


def _discernment(
    logits: Float[Tensor, "window 8"], anchors: Float[Tensor, "window 8"], kept: Tensor
) -> Float[Tensor, ""]:
    shares = anchors / anchors.sum(dim=-1, keepdim=True).clamp_min(1e-6)
    loss = -(shares * F.log_softmax(logits, dim=-1)).sum(dim=-1)
    return (loss * kept).sum() / kept.sum().clamp_min(1)
