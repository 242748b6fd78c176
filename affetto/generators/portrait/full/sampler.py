"""Denoising a clip of any length: windows that move, guided branches, features kept between steps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from affetto.generators.portrait.full.clip import WindowPlan
from affetto.generators.portrait.full.denoiser import Denoised
from affetto.generators.portrait.full.guidance import Guidance
from affetto.generators.portrait.full.workers import Batch, Job, Noisy, Pool, Worker
from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a clip is denoised. `reuse_every` 1 computes every step in full; n keeps the deep features for n - 1 steps."""

    steps: int = 25
    windows: WindowPlan = field(default_factory=WindowPlan)
    guidance: Guidance = field(default_factory=Guidance)
    reuse_every: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise UsageError(f"denoising takes 1..1000 steps, got {self.steps}")
        if not 1 <= self.reuse_every <= self.steps:
            raise UsageError(f"features are kept for 1..{self.steps} steps, got {self.reuse_every}")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How many passes of a step run as one batch; only rounding depends on it."""

    windows: int = 1
    branches_together: bool = True

    def batches(self, windows: Sequence[Sequence[int]], branches: int) -> list[Batch]:
        """All passes of a step, the branches of a window beside each other or one kind after the other."""
        if self.branches_together:
            groups = [[(window, branch) for window in windows for branch in range(branches)]]
            size = self.windows * branches
        else:
            groups = [[(window, branch) for window in windows] for branch in range(branches)]
            size = self.windows
        jobs = [[Job(frames=tuple(window), branch=branch) for window, branch in group] for group in groups]
        return [tuple(group[at : at + size]) for group in jobs for at in range(0, len(group), size)]


class Denoising:
    """The steps of one clip. `step` may be repeated after a failure: nothing changes until it has ended."""

    def __init__(self, schedule: Schedule, scheduler: EulerDiscreteScheduler, latents: Noisy) -> None:
        self.schedule = schedule
        self.scheduler: Any = EulerDiscreteScheduler.from_config(scheduler.config)
        self.scheduler.set_timesteps(schedule.steps, device=latents.device)
        self.latents = latents.float()
        self.features_on_device = True
        self._deep: Tensor | None = None

    @classmethod
    def from_noise(
        cls,
        schedule: Schedule,
        scheduler: EulerDiscreteScheduler,
        picture: Float[Tensor, "4 row column"],
        noise: Noisy,
    ) -> "Denoising":
        """Starts at the picture's latents (scaled) in every frame, under all the noise there is."""
        begun = cls(schedule, scheduler, noise)
        start = picture.to(begun.latents)[None].expand_as(begun.latents)
        begun.latents = begun.scheduler.add_noise(start, begun.latents, begun.scheduler.timesteps[:1])
        return begun

    def step(self, number: int, pool: Pool, cut: Cut) -> Noisy:
        """The latents after step `number` (they are kept, too)."""
        # A scheduler counts its steps; one that is repeated must find its place again.
        self.scheduler.set_timesteps(self.schedule.steps, device=self.latents.device)
        time = self.scheduler.timesteps[number]
        noisy = self.scheduler.scale_model_input(self.latents, time)
        fresh = number % self.schedule.reuse_every == 0
        predictions, deep = self._predicted(noisy, float(time), number, pool, cut, fresh=fresh)
        guided = self.schedule.guidance.combine(predictions)
        self.latents = self.scheduler.step(guided, time, self.latents, return_dict=False)[0].float()
        self._deep = deep
        return self.latents

    def _predicted(
        self, noisy: Noisy, level: float, number: int, pool: Pool, cut: Cut, *, fresh: bool
    ) -> tuple[Float[Tensor, "branch frame 4 row column"], Tensor | None]:
        """Every branch's prediction for every frame, windows that overlap averaged; and the deep features.

        Steps that reuse features keep the windows of the step that made them: the features know those neighbours.
        """
        keeps = self.schedule.reuse_every > 1
        branches = self.schedule.guidance.branches
        window_step = number // self.schedule.reuse_every
        windows = self.schedule.windows.windows(len(noisy), window_step)
        given = None if fresh else self._deep

        def run(worker: Worker, batch: Batch) -> Denoised:
            return worker(noisy, level, batch, branches, deep=given)

        if self._deep is not None and not self.features_on_device:
            self._deep = self._deep.cpu()
        total = torch.zeros(len(branches), *noisy.shape, device=noisy.device)
        deep = self._deep if keeps else None
        for batch, result in pool.run(cut.batches(windows, len(branches)), run):
            if fresh and keeps:
                deep = self._room(deep, len(branches), len(noisy), result.deep)
            for job, sample, inner in zip(batch, result.sample, result.deep, strict=True):
                place = torch.tensor(job.frames, device=noisy.device)
                total[job.branch].index_add_(0, place, sample.to(noisy.device).float())
                if fresh and deep is not None:
                    deep[job.branch, place.to(deep.device)] = inner.to(deep)
        total = pool.total(total)
        counts = torch.bincount(torch.tensor(windows).flatten(), minlength=len(noisy)).to(total)
        return total / counts[None, :, None, None, None], deep

    def _room(self, deep: Tensor | None, branches: int, frames: int, like: Tensor) -> Tensor:
        """Memory for the deep features of all frames, as precise as the first results are."""
        if deep is not None:
            return deep
        device = like.device if self.features_on_device else torch.device("cpu")
        return torch.empty(branches, frames, *like.shape[2:], device=device, dtype=like.dtype)
