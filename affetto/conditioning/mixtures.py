"""Gaussian mixtures with diagonal covariance, fitted by expectation and maximisation."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """Parts with a weight, a mean and a variance along each axis."""

    weight: Float[Tensor, "part"]
    mean: Float[Tensor, "part width"]
    variance: Float[Tensor, "part width"]

    def log_joint(self, points: Float[Tensor, "*item width"]) -> Float[Tensor, "*item part"]:
        """Log (weight x density) of each part at each point, up to one constant."""
        mean, variance = self.mean.to(points), self.variance.to(points)
        distance = ((points[..., None, :] - mean).square() / variance + variance.log()).sum(-1)
        return self.weight.to(points).log() - 0.5 * distance

    def responsibilities(self, points: Float[Tensor, "*item width"]) -> Float[Tensor, "*item part"]:
        """How much each part accounts for each point; sums to 1."""
        return self.log_joint(points).softmax(-1)


def fit_mixture(
    points: Float[Tensor, "item width"], parts: int, *, seed: int = 0, rounds: int = 50, restarts: int = 4
) -> GaussianMixture:
    """The likeliest of a few mixtures of at most `parts` Gaussians, in float64, the same for one seed.

    Each start takes distant points (k-means++); every variance stays above 1 % of the overall one. Fewer points than
    `parts` give as many parts as points.
    """
    if parts < 1 or len(points) < 1:
        raise UsageError(f"a mixture needs points and at least one part, got {len(points)} and {parts}")
    x = points.detach().cpu().double()
    generator = torch.Generator().manual_seed(seed)
    fits = [_fit_once(x, min(parts, len(x)), rounds, generator) for _ in range(restarts)]
    return max(fits, key=lambda fit: float(fit.log_joint(x).logsumexp(-1).mean()))


def _fit_once(
    x: Float[Tensor, "item width"], parts: int, rounds: int, generator: torch.Generator
) -> GaussianMixture:
    overall = x.var(0, unbiased=False).clamp_min(1e-8)
    means = _spread_out(x, parts, generator)
    share = torch.empty(0)
    for _ in range(
        10
    ):  # k-means first: EM from wide Gaussians lets noisy axes outvote the one that separates
        share = one_hot(torch.cdist(x, means).argmin(-1), parts).to(x.dtype)
        means = torch.where(
            share.sum(0)[:, None] > 0, share.T @ x / share.sum(0).clamp_min(1.0)[:, None], means
        )
    mixture = _maximised(x, share, overall)
    for _ in range(rounds):
        mixture = _maximised(x, mixture.responsibilities(x), overall)
    return mixture


def _maximised(
    x: Float[Tensor, "item width"], share: Float[Tensor, "item part"], overall: Float[Tensor, "width"]
) -> GaussianMixture:
    mass = share.sum(0).clamp_min(1e-9)
    mean = share.T @ x / mass[:, None]
    variance = (share.T @ x.square() / mass[:, None] - mean.square()).clamp_min(0.0) + 0.01 * overall
    return GaussianMixture(weight=mass / mass.sum(), mean=mean, variance=variance)


def _spread_out(
    x: Float[Tensor, "item width"], parts: int, generator: torch.Generator
) -> Float[Tensor, "part width"]:
    chosen = [int(torch.randint(len(x), (1,), generator=generator))]
    for _ in range(parts - 1):
        distance = torch.cdist(x, x[chosen]).amin(-1).square() + 1e-12
        chosen.append(int(torch.multinomial(distance, 1, generator=generator)))
    return x[chosen]
