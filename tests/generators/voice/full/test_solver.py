"""The noise schedule and the three solvers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affetto.generators.voice.full.diffvc_solver import NoiseSchedule, clip_noise, sample, step_weights
from affetto.runtime.errors import UsageError

SCHEDULE = NoiseSchedule()
times = st.floats(0.01, 1.0)


@given(times, times)
def test_the_parts_of_a_bridge_add_up(a, b):
    """mu and nu weigh the ends of a bridge so that its middle has the forward mean; sigma gives it its variance."""
    s, t = sorted((a, b))
    if t - s < 1e-3:
        return
    mu, nu, gamma = SCHEDULE.mu(s, t), SCHEDULE.nu(s, t), SCHEDULE.gamma
    assert mu * gamma(0.0, t) + nu == pytest.approx(gamma(0.0, s), rel=1e-9)
    assert mu**2 * SCHEDULE.variance(0.0, t) + SCHEDULE.sigma(s, t) ** 2 == pytest.approx(
        SCHEDULE.variance(0.0, s), rel=1e-6
    )


@given(times, times, times)
def test_gamma_multiplies_over_neighbouring_times(a, b, c):
    r, s, t = sorted((a, b, c))
    assert SCHEDULE.gamma(r, s) * SCHEDULE.gamma(s, t) == pytest.approx(SCHEDULE.gamma(r, t), rel=1e-9)
    assert SCHEDULE.gamma(0.0, t) ** 2 + SCHEDULE.variance(0.0, t) == pytest.approx(1.0)


@given(st.integers(1, 40), st.data())
def test_the_maximum_likelihood_step_is_the_published_formula(steps, data):
    h = 1.0 / steps
    t = 1.0 - h * data.draw(st.integers(0, steps - 1))
    s = max(t - h, 0.0)
    b0, b1 = 0.05, 20.0

    def gamma(u, v, p=1.0):
        return math.exp(-0.5 * p * (b0 + 0.5 * (b1 - b0) * (u + v)) * (v - u))

    beta = b0 + (b1 - b0) * t
    mu = gamma(s, t) * (1 - gamma(0, s, 2)) / (1 - gamma(0, t, 2))
    nu = gamma(0, s) * (1 - gamma(s, t, 2)) / (1 - gamma(0, t, 2))
    kappa = gamma(0, s) * (1 - gamma(s, t, 2)) / (gamma(0, t) * beta * h) - 1
    omega = nu / gamma(0, t) + mu - (0.5 * beta * h + 1)
    sigma = math.sqrt((1 - gamma(0, s, 2)) * (1 - gamma(s, t, 2)) / (1 - gamma(0, t, 2)))
    weights = step_weights(SCHEDULE, t, h, "ml")
    assert weights.mean_pull == pytest.approx(0.5 * beta * h + omega, rel=1e-6, abs=1e-9)
    assert weights.score_pull == pytest.approx((1 + kappa) * beta * h, rel=1e-6)
    assert weights.noise == pytest.approx(sigma, rel=1e-6, abs=1e-6)


def _toward(point, mean):
    """The exact score when the data are one point."""

    def score(now, t):
        left = SCHEDULE.gamma(0.0, t)
        return -(now - mean - left * (point - mean)) / SCHEDULE.variance(0.0, t)

    return score


@pytest.mark.parametrize(
    ("solver", "steps", "error"), [("ml", 1, 1e-4), ("ml", 6, 1e-4), ("pf", 400, 0.1), ("em", 400, 0.2)]
)
def test_solvers_find_a_point(solver, steps, error):
    generator = torch.Generator().manual_seed(1)
    point, mean = torch.full((1, 4, 8), 0.7), torch.full((1, 4, 8), -0.4)
    made = sample(
        _toward(point, mean), torch.randn(1, 4, 8, generator=generator), mean, torch.ones(1, 1, 8), steps=steps,
        solver=solver, noise=lambda: torch.randn(1, 4, 8, generator=generator),
    )  # fmt: skip
    assert float((made - point).abs().mean()) < error


def test_every_step_is_reported_and_the_mask_holds():
    seen = []
    mask = torch.tensor([[[1.0, 1.0, 0.0]]])
    made = sample(
        lambda now, _t: now, torch.ones(1, 2, 3), torch.zeros(1, 2, 3), mask, steps=3, solver="em",
        noise=lambda: torch.ones(1, 2, 3), on_step=seen.append,
    )  # fmt: skip
    assert seen == [1, 2, 3]
    assert not made[..., 2].any()


def test_noise_depends_on_the_clip_alone():
    def draw(seeds, lengths, frames):
        return clip_noise([torch.Generator().manual_seed(seed) for seed in seeds], lengths, 3, frames)

    both, alone = draw([1, 2], [5, 3], 6), draw([2], [3], 4)
    assert torch.equal(both[1, :, :3], alone[0, :, :3])
    assert not both[1, :, 3:].any()


def test_unknown_solvers_and_no_steps_are_refused():
    with pytest.raises(UsageError, match="use pf, em or ml"):
        step_weights(SCHEDULE, 1.0, 0.1, "euler")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="at least one step"):
        sample(lambda now, _t: now, torch.ones(1, 1, 1), torch.ones(1, 1, 1), torch.ones(1, 1, 1), steps=0, noise=lambda: torch.ones(1, 1, 1))  # fmt: skip
