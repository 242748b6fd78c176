"""What the recipes of learned tokenizers share: a loop with a budget of time that can be resumed, and a split of files."""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.weights.store import read_arrays, save_tensors

_SAVE_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train, from which seed, and whether to go on from `<output>.checkpoint.safetensors`."""

    output: Path
    seconds: float
    seed: int = 0
    resume: bool = False
    rate: float = 2e-3
    stage: str = "training"

    @property
    def checkpoint(self) -> Path:
        """Where the network and the clock lie while training goes on."""
        return self.output.with_suffix(".checkpoint.safetensors")


def train_for(
    network: nn.Module,
    loss_of: Callable[[np.random.Generator, float], Tensor],
    budget: Budget,
    progress: ProgressCallback | None = None,
) -> int:
    """Train with AdamW and a cosine schedule until the time is spent; the number of steps.

    `loss_of(rng, share)` draws a batch and gives its loss; `share` of the time has passed. At least one step is taken. About
    every minute the network is kept; a resumed run goes on with a fresh optimiser.
    """
    spent, step = 0.0, 0
    if budget.resume and budget.checkpoint.exists():
        arrays, metadata = read_arrays(budget.checkpoint)
        network.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
        spent, step = float(metadata["spent"]), int(metadata["step"])
    rng = np.random.default_rng([budget.seed, step])
    optimiser = torch.optim.AdamW(network.parameters(), lr=budget.rate, weight_decay=0.01)
    network.train()
    begun, saved, tick = step, spent, time.monotonic()
    while spent < budget.seconds or step == begun:
        share = min(spent / budget.seconds, 1.0)
        warm = min(1.0, (step - begun + 1) / 50)
        for group in optimiser.param_groups:
            group["lr"] = budget.rate * warm * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * share))))
        loss = loss_of(rng, share)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step, now = step + 1, time.monotonic()
        spent, tick = spent + now - tick, now
        if spent - saved > _SAVE_EVERY_S or spent >= budget.seconds:
            saved = spent
            clock = {"spent": f"{spent:.2f}", "step": str(step)}
            save_tensors(budget.checkpoint, network.state_dict(), clock)
            if progress is not None:
                done = round(100 * min(spent / budget.seconds, 1.0))
                message = f"step {step}: {loss.item():.4f}"
                progress(ProgressEvent(stage=budget.stage, done=done, total=100, message=message))
    network.eval()
    return step


def held_out(names: Sequence[str], *, share: int = 10) -> np.ndarray:
    """Which names are not to be trained on: about one in `share`, by the hash of the name; one at least of two or more."""
    chosen = np.array([zlib.crc32(name.encode()) % share == 0 for name in names], bool)
    if len(names) > 1 and (chosen.all() or not chosen.any()):
        chosen = np.arange(len(names)) == len(names) - 1
    return chosen
