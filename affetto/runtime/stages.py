"""Training in stages under accelerate: mixed precision, several processes, checkpoints from which a later run goes on."""

import dataclasses
import json
import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

PRECISIONS = ("auto", "no", "bf16", "fp16")
_SAVE_EVERY_S = 300.0
_NOT_FINITE = 20  # losses in a row; fp16 steps over single ones

Draw = Callable[[np.random.Generator], Sequence[Tensor]]
"""Gives the inputs of one forward pass; what it draws decides which data they are."""


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """How a stage is trained; it ends with its `seconds` or, when `steps` is not 0, with its steps."""

    rate: float
    seconds: float
    steps: int = 0
    clip: float = 1.0


@dataclass
class Spent:
    """How far a stage has come."""

    steps: int = 0
    seconds: float = 0.0


class StagedTraining:
    """Trains one objective after another. An objective is a module whose forward gives its loss.

    The random numbers of a step depend on seed, process, stage and step alone, so that a run that was stopped goes on
    as if it had not been. Under `accelerate launch` every process draws its own batches.
    """

    def __init__(
        self,
        work: Path,
        *,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        accumulate: int = 1,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r}: use {', '.join(PRECISIONS)}")
        self.work, self.seed = work, seed
        self.progress, self.cancel = progress, cancel
        cpu = resolve_device(device).type == "cpu"
        self.precision = precision if precision != "auto" else ("no" if cpu else "bf16")
        self.accelerator = Accelerator(
            mixed_precision=self.precision,
            gradient_accumulation_steps=accumulate,
            cpu=cpu,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self._accumulate = accumulate
        self.accelerator.register_save_state_pre_hook(_without_frozen)

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.accelerator.is_main_process

    def stage(self, name: str, objective: nn.Module, draw: Draw, options: StageOptions) -> dict[str, Any]:
        """Train what in `objective` requires gradients; steps, and the mean losses of the first and last fifth."""
        parameters = [each for each in objective.parameters() if each.requires_grad]
        if not parameters:
            raise UsageError(f"stage {name!r} has nothing to train")
        objective.train()
        prepared, optimiser = self.accelerator.prepare(
            objective, torch.optim.AdamW(parameters, lr=options.rate, weight_decay=0.0)
        )
        folder = self.work / "state" / name
        spent = self._resumed(folder)
        losses: list[float] = []
        with torch.random.fork_rng(devices=[]):
            saved = time.monotonic()
            for loss in self._steps(name, prepared, optimiser, parameters, draw, options, spent):
                losses.append(loss)
                if time.monotonic() - saved > _SAVE_EVERY_S:
                    self._save(folder, spent)
                    saved = time.monotonic()
        if losses or not (folder / "spent.json").is_file():
            self._save(folder, spent)
        self.accelerator.free_memory()
        report: dict[str, Any] = {f"{name}_steps": spent.steps}
        if losses:
            ends = max(1, len(losses) // 5)
            report[f"{name}_first"] = round(float(np.mean(losses[:ends])), 5)
            report[f"{name}_last"] = round(float(np.mean(losses[-ends:])), 5)
        return report

    def _steps(
        self,
        name: str,
        objective: nn.Module,
        optimiser: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        draw: Draw,
        options: StageOptions,
        spent: Spent,
    ) -> Iterator[float]:
        """Make one optimisation step after another; its loss."""
        before, began, broken = spent.seconds, time.monotonic(), 0
        while (elapsed := before + time.monotonic() - began) < options.seconds:
            if options.steps and spent.steps >= options.steps:
                return
            if self.cancel is not None:
                self.cancel.check()
            stream = np.random.SeedSequence(
                [self.seed, self.accelerator.process_index, zlib.crc32(name.encode()), spent.steps]
            )
            torch.manual_seed(int(stream.generate_state(1)[0]))
            rng, total = np.random.default_rng(stream), 0.0
            for _ in range(self._accumulate):
                inputs = [each.to(self.device) for each in draw(rng)]
                with self.accelerator.accumulate(objective):
                    loss = objective(*inputs)
                    self.accelerator.backward(loss)
                    if self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(parameters, options.clip)
                    optimiser.step()
                    optimiser.zero_grad()
                total += float(loss.detach()) / self._accumulate
            broken = 0 if math.isfinite(total) else broken + 1
            if broken and (self.precision != "fp16" or broken > _NOT_FINITE):
                raise InvalidInputError(
                    f"the loss of stage {name!r} is not finite at step {spent.steps}: lower its rate"
                )
            spent.steps, spent.seconds = spent.steps + 1, elapsed
            self._tell(name, elapsed / options.seconds, options.steps, spent.steps, total)
            yield total

    def _tell(self, name: str, share: float, steps: int, done: int, loss: float) -> None:
        if self.progress is None or not self.is_main or done % 10:
            return
        share = max(share, done / steps) if steps else share
        event = ProgressEvent(
            stage=name, done=round(1000 * min(share, 1.0)), total=1000, message=f"step {done} loss {loss:.4f}"
        )
        self.progress(event)

    def _resumed(self, folder: Path) -> Spent:
        saved = folder / "spent.json"
        if not saved.is_file():
            return Spent()
        self.accelerator.load_state(str(folder), strict=False)
        return Spent(**json.loads(saved.read_text(encoding="utf-8")))

    def _save(self, folder: Path, spent: Spent) -> None:
        self.accelerator.save_state(str(folder))
        if self.is_main:
            with atomic_path(folder / "spent.json") as temporary:
                temporary.write_text(json.dumps(dataclasses.asdict(spent)), encoding="utf-8")


def _without_frozen(models: list[nn.Module], weights: list[dict[str, Tensor]], _folder: str) -> None:
    """Leave out of a checkpoint what does not learn: it may be a thousand times as large as what does."""
    for model, state in zip(models, weights, strict=True):
        for name, value in model.named_parameters():
            if not value.requires_grad:
                state.pop(name, None)
