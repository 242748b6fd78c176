"""DiffVC's diffusion: how noise is added towards the average voice, and three ways to go back.

Popov et al. (ICLR 2022), section 3: dx = beta(t)/2 (mean - x) dt + sqrt(beta(t)) dw, beta linear in t from 0 to 1.
Everything here is a pure function of its arguments.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from affetto.runtime.errors import UsageError

Mel = Float[Tensor, "batch band frame"]
Score = Callable[[Mel, float], Mel]


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """beta(t) = first + (last - first) t and the factors that follow from it, for times 0 <= s <= t <= 1."""

    first: float = 0.05
    last: float = 20.0

    def beta(self, t: float) -> float:
        """The rate at which noise is added at time t."""
        return self.first + (self.last - self.first) * t

    def integral(self, s: float, t: float) -> float:
        """The integral of beta from s to t."""
        return (t - s) * (self.first + 0.5 * (self.last - self.first) * (s + t))

    def gamma(self, s: float, t: float) -> float:
        """The share of x(s) that is left in the mean of x(t): exp(-integral / 2)."""
        return math.exp(-0.5 * self.integral(s, t))

    def gammas(self, t: Float[Tensor, "batch"]) -> Float[Tensor, "batch 1 1"]:
        """gamma(0, t) for each clip of a batch, ready to multiply mels."""
        return torch.exp(-0.5 * t * (self.first + 0.5 * (self.last - self.first) * t))[:, None, None]

    def variance(self, s: float, t: float) -> float:
        """The variance of the noise that comes in from s to t: 1 - gamma(s, t)^2."""
        return -math.expm1(-self.integral(s, t))

    def mu(self, s: float, t: float) -> float:
        """The weight of x(t) in the mean of x(s) given x(t) and x(0), both seen from the average voice."""
        return self.gamma(s, t) * self.variance(0.0, s) / self.variance(0.0, t)

    def nu(self, s: float, t: float) -> float:
        """The weight of x(0) in that mean."""
        return self.gamma(0.0, s) * self.variance(s, t) / self.variance(0.0, t)

    def sigma(self, s: float, t: float) -> float:
        """The standard deviation of x(s) given x(t) and x(0)."""
        return math.sqrt(self.variance(0.0, s) * self.variance(s, t) / self.variance(0.0, t))


@dataclass(frozen=True, kw_only=True)
class StepWeights:
    """One step back in time: x <- x - [mean_pull (mean - x) - score_pull * score + noise * z]."""

    mean_pull: float
    score_pull: float
    noise: float


def step_weights(schedule: NoiseSchedule, t: float, h: float, solver: str) -> StepWeights:
    """The weights of a step from t to t - h.

    `pf` is an Euler step of the probability-flow equation, `em` Euler-Maruyama, `ml` the maximum-likelihood step of the
    paper's theorem 1, exact for data that are one point.
    """
    drift = schedule.beta(t) * h
    if solver == "pf":
        return StepWeights(mean_pull=0.5 * drift, score_pull=0.5 * drift, noise=0.0)
    if solver == "em":
        return StepWeights(mean_pull=0.5 * drift, score_pull=drift, noise=math.sqrt(drift))
    if solver != "ml":
        raise UsageError(f"unknown solver {solver!r}: use pf, em or ml")
    s = t - h if t - h > 1e-9 else 0.0  # the last step ends at the data exactly
    left = schedule.gamma(0.0, t)
    kappa = schedule.gamma(0.0, s) * schedule.variance(s, t) / (left * drift) - 1.0
    omega = schedule.nu(s, t) / left + schedule.mu(s, t) - 0.5 * drift - 1.0
    return StepWeights(
        mean_pull=0.5 * drift + omega, score_pull=(1.0 + kappa) * drift, noise=schedule.sigma(s, t)
    )


def clip_noise(
    generators: Sequence[torch.Generator], lengths: Sequence[int], bands: int, frames: int
) -> Float[Tensor, "batch {bands} {frames}"]:
    """Standard normal noise, each clip's drawn from its own CPU generator in its own length, zero after it.

    So a clip meets the same noise alone and in any batch.
    """
    noise = torch.zeros(len(generators), bands, frames)
    for row, (generator, length) in enumerate(zip(generators, lengths, strict=True)):
        noise[row, :, :length] = torch.randn(length, bands, generator=generator).T
    return noise


def sample(
    score: Score,
    start: Mel,
    mean: Mel,
    mask: Float[Tensor, "batch 1 frame"],
    *,
    steps: int,
    solver: str = "ml",
    schedule: NoiseSchedule | None = None,
    noise: Callable[[], Mel],
    on_step: Callable[[int], None] | None = None,
) -> Mel:
    """The mels at time 0 that `score` leads to from `start` at time 1, in `steps` equal steps.

    `score(x, t)` estimates the gradient of the log-density; `noise()` gives fresh noise for a step that needs it.
    """
    if steps < 1:
        raise UsageError(f"a diffusion needs at least one step, got {steps}")
    schedule = schedule or NoiseSchedule()
    h = 1.0 / steps
    now = start * mask
    for index in range(steps):
        t = 1.0 - index * h
        weights = step_weights(schedule, t, h, solver)
        change = weights.mean_pull * (mean - now) - weights.score_pull * score(now, t)
        if weights.noise > 0.0:
            change = change + weights.noise * noise()
        now = (now - change) * mask
        if on_step is not None:
            on_step(index + 1)
    return now
