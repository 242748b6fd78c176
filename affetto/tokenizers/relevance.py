"""Which axes of a latent space matter (ARD-VAE, Saha et al. 2025): a prior variance per axis, and how far each moves the output."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class AxisPrior(nn.Module):
    """A Gaussian prior around 0 whose variance on each axis is learned: axes without information fall to none.

    `divergence` trains it with the encoder; `refresh` sets it to its best value for given latents, once in each epoch.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(dim))

    def divergence(
        self, mean: Float[Tensor, "*shape dim"], log_variance: Float[Tensor, "*shape dim"]
    ) -> Float[Tensor, "*shape"]:
        """The Kullback-Leibler divergence of N(mean, exp(log_variance)) from the prior, summed over axes, nats."""
        mean, log_variance = mean.float(), log_variance.float()
        share = (mean**2 + log_variance.exp()) * torch.exp(-self.log_variance)
        return 0.5 * (share - 1 + self.log_variance - log_variance).sum(dim=-1)

    @torch.no_grad()
    def refresh(self, samples: Float[Tensor, "sample dim"]) -> None:
        """Set the variances to the mean squares of samples (not means) of the encoder."""
        self.log_variance.copy_((samples.float() ** 2).mean(dim=0).clamp_min(1e-8).log())


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """How much each latent axis moves the output."""

    weights: Float[Tensor, "axis"]  # squared change of the output for one deviation along the axis
    order: Int64[Tensor, "axis"]  # axes, the strongest first

    def kept(self, share: float = 0.99) -> Int64[Tensor, "kept"]:
        """The fewest axes that hold more than `share` of the total weight, the strongest first."""
        total = torch.cumsum(self.weights[self.order].double(), 0)
        inside = int((total <= share * total[-1]).sum()) + 1
        return self.order[: min(inside, len(self.order))]


def axis_relevance(
    decode: Callable[[Tensor], Tensor],
    latents: Float[Tensor, "sample axis"],
    variance: Float[Tensor, "axis"] | None = None,
) -> Relevance:
    """The relevance of each axis at `latents`: variance x sum over outputs of (mean absolute derivative) squared.

    `variance` is that of the prior; None takes the mean squares of the latents. One forward-mode pass per axis.
    """
    variance = (latents**2).mean(dim=0) if variance is None else variance
    weights = []
    for axis in range(latents.shape[1]):
        along = torch.zeros_like(latents)
        along[:, axis] = 1.0
        slope = torch.func.jvp(decode, (latents,), (along,))[1]
        weights.append(variance[axis] * (slope.abs().mean(dim=0) ** 2).sum())
    found = torch.stack(weights).detach()
    return Relevance(weights=found, order=torch.argsort(found, descending=True))
