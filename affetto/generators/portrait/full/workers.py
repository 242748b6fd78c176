"""Denoisers on one or several devices, and how the passes of one step are shared among them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from accelerate.utils import reduce
from jaxtyping import Float
from torch import Tensor

from affetto.generators.portrait.full.accounting import empty_like
from affetto.generators.portrait.full.clip import ClipConditions
from affetto.generators.portrait.full.denoiser import Denoised, TalkingDenoiser
from affetto.generators.portrait.full.guidance import Branch
from affetto.runtime.device import autocast

Noisy = Float[Tensor, "frame 4 row column"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One pass of the denoiser: a window's frames, under one branch (its number among the guidance's)."""

    frames: tuple[int, ...]
    branch: int


Batch = tuple[Job, ...]
Run = Callable[["Worker", Batch], Denoised]


class Worker:
    """A denoiser on its device, with the clip's conditions there.

    With `keep_keys`, keys and values of every frame's tokens are projected at once and kept for all steps.
    """

    def __init__(
        self, denoiser: TalkingDenoiser, clip: ClipConditions, *, keep_keys: bool, dtype: torch.dtype
    ) -> None:
        self.denoiser, self.device, self.dtype = denoiser, denoiser.device, dtype
        self.clip = clip.moved(self.device, dtype)
        with torch.inference_mode(), autocast(self.device, dtype):
            self.known = denoiser.known(self.clip.everything()) if keep_keys else None

    @torch.inference_mode()
    def __call__(
        self,
        noisy: Noisy,
        level: float,
        batch: Batch,
        branches: Sequence[Branch],
        *,
        deep: Float[Tensor, "branch frame wide row column"] | None = None,
    ) -> Denoised:
        """The predictions of a batch; `noisy` is already scaled for the noise `level`, `deep` holds all frames."""
        frames = torch.tensor([job.frames for job in batch])
        told = [branches[job.branch] for job in batch]
        window = noisy[frames.to(noisy.device)].to(self.device, self.dtype)
        seen = torch.tensor([branch.image for branch in told], device=self.device, dtype=self.dtype)
        latents = self.clip.latents[None, None] * seen[:, None, None, None, None]
        sample = torch.cat([window, latents.expand(-1, window.shape[1], -1, -1, -1)], 2)
        conditioning = self.clip.conditioning(frames.to(self.device), told)
        if deep is not None:
            place = torch.tensor([job.branch for job in batch])[:, None]
            deep = deep[place.to(deep.device), frames.to(deep.device)].to(self.device, self.dtype)
        with autocast(self.device, self.dtype):
            return self.denoiser(
                sample,
                level,
                replace(conditioning, known=self.known),
                self.clip.time_ids.expand(len(batch), 3),
                self.clip.spatial[None, None],
                deep=deep,
            )


def replica(denoiser: TalkingDenoiser, device: torch.device) -> TalkingDenoiser:
    """The same denoiser on another device, copied there directly, so that its own device needs no room for two."""
    copied = empty_like(denoiser, denoiser.dtype)
    assert isinstance(copied, TalkingDenoiser)
    copied.load_state_dict(
        {key: value.to(device) for key, value in denoiser.state_dict().items()}, assign=True
    )
    return copied.requires_grad_(False)


@runtime_checkable
class Pool(Protocol):
    """Runs the batches of a step on the workers there are."""

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers of this process; results are gathered where the first one is."""
        ...

    def run(self, batches: Sequence[Batch], run: Run) -> Iterator[tuple[Batch, Denoised]]:
        """The batches that fall to this process with their results, in order."""
        ...

    def total(self, part: Tensor) -> Tensor:
        """The sum of `part` over all processes."""
        ...


class DevicePool:
    """The devices of one process, a thread for each; batches go around them."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = tuple(workers)

    def run(self, batches: Sequence[Batch], run: Run) -> Iterator[tuple[Batch, Denoised]]:
        """All batches with their results, in order; each device works through its own, one after the other."""
        if len(self.workers) == 1:
            yield from ((batch, run(self.workers[0], batch)) for batch in batches)
            return
        count = len(self.workers)
        shares = [list(range(first, len(batches), count)) for first in range(count)]

        def work(worker: Worker, share: Sequence[int]) -> list[Denoised]:
            return [run(worker, batches[number]) for number in share]

        with ThreadPoolExecutor(count) as threads:
            done = list(threads.map(work, self.workers, shares))
        for number, batch in enumerate(batches):
            yield batch, done[number % count][number // count]

    def total(self, part: Tensor) -> Tensor:
        """`part` itself: one process did everything."""
        return part


class ProcessPool:
    """One device in each of the processes that `accelerate launch` started; every process ends a step with all of it."""

    def __init__(self, worker: Worker, *, rank: int, processes: int) -> None:
        self.workers = (worker,)
        self.rank, self.processes = rank, processes

    def run(self, batches: Sequence[Batch], run: Run) -> Iterator[tuple[Batch, Denoised]]:
        """Every n-th batch of this process, in order."""
        for batch in batches[self.rank :: self.processes]:
            yield batch, run(self.workers[0], batch)

    def total(self, part: Tensor) -> Tensor:
        """The sum over all processes."""
        summed = reduce(part, "sum")
        assert isinstance(summed, Tensor)
        return summed
