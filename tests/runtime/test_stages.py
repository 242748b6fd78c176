"""Training in stages: it learns, goes on where it stopped, and keeps only what learns."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from affetto.runtime.errors import CancelledError, InvalidInputError, UsageError
from affetto.runtime.progress import CancelToken
from affetto.runtime.stages import StagedTraining, StageOptions


class Line(nn.Module):
    """y = w x + b with a large part that stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.frozen = nn.Linear(300, 300).requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return (self.line(x) - x.sum(-1, keepdim=True)).square().mean()


def draw(rng: np.random.Generator) -> list[torch.Tensor]:
    return [torch.from_numpy(rng.standard_normal((8, 3)).astype(np.float32))]


def trained(folder, steps, seed=0, model=None, **more):
    torch.manual_seed(5)
    model = model or Line()
    training = StagedTraining(folder, seed=seed, device="cpu", precision="no", **more)
    report = training.stage("line", model, draw, StageOptions(rate=0.05, seconds=600.0, steps=steps))
    return model, report


def test_a_stage_learns_and_tells_its_losses(tmp_path):
    _, report = trained(tmp_path, 40)
    assert report["line_steps"] == 40
    assert report["line_last"] < 0.3 * report["line_first"]


def test_a_run_in_two_parts_ends_where_one_run_does(tmp_path):
    whole, _ = trained(tmp_path / "a", 12)
    trained(tmp_path / "b", 5)
    parts, report = trained(tmp_path / "b", 12)
    assert report["line_steps"] == 12
    assert torch.allclose(whole.line.weight, parts.line.weight, atol=1e-6)
    assert float(parts.seen) == 12


def test_a_finished_stage_is_not_trained_again(tmp_path):
    first, _ = trained(tmp_path, 5)
    second, report = trained(tmp_path, 5)
    assert report == {"line_steps": 5}
    assert torch.equal(first.line.weight, second.line.weight)


def test_what_does_not_learn_is_left_out_of_checkpoints(tmp_path):
    trained(tmp_path, 2)
    sizes = [path.stat().st_size for path in (tmp_path / "state" / "line").iterdir()]
    assert sum(sizes) < 100_000  # the frozen part alone takes 360,000
    assert json.loads((tmp_path / "state" / "line" / "spent.json").read_text())["steps"] == 2


def test_accumulated_steps_draw_as_many_batches(tmp_path):
    drawn = []

    def watched(rng: np.random.Generator) -> list[torch.Tensor]:
        drawn.append(1)
        return draw(rng)

    training = StagedTraining(tmp_path, device="cpu", precision="no", accumulate=3)
    training.stage("line", Line(), watched, StageOptions(rate=0.01, seconds=600.0, steps=2))
    assert len(drawn) == 6


def test_a_loss_that_is_not_finite_ends_the_stage_with_advice(tmp_path):
    training = StagedTraining(tmp_path, device="cpu", precision="no")
    with pytest.raises(InvalidInputError, match="stage 'line' is not finite at step 0: lower its rate"):
        training.stage(
            "line", Line(), lambda _: [torch.full((2, 3), torch.nan)], StageOptions(rate=1.0, seconds=60.0)
        )


def test_it_stops_when_asked_to_and_refuses_what_makes_no_sense(tmp_path):
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        trained(tmp_path, 5, cancel=token)
    with pytest.raises(UsageError, match="unknown precision 'fp8'"):
        StagedTraining(tmp_path, precision="fp8", device="cpu")
    with pytest.raises(UsageError, match="nothing to train"):
        StagedTraining(tmp_path, device="cpu", precision="no").stage(
            "line", Line().requires_grad_(False), draw, StageOptions(rate=1.0, seconds=1.0)
        )
