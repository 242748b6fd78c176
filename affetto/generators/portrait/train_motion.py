"""The recipe behind `affetto train portrait-motion`: a flow over windows of motion with a disentangled emotion embedding."""

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from affetto.acting.expression import LOWER_FACE
from affetto.acting.lip_gap import LinearGap
from affetto.generators.portrait.motion_data import MotionBatch, MotionData, build_sessions
from affetto.generators.portrait.motion_losses import FlowLosses, Losses, VaeLosses
from affetto.generators.portrait.motion_net import MotionConfig, MotionNet
from affetto.generators.portrait.motion_sampling import FlowSampler, Guidance, WindowSampler
from affetto.generators.portrait.motion_space import CHANNELS, HEAD, SHAPES
from affetto.generators.portrait.motion_vae import FlowVae, VaeConfig, VaeSampler, load_vae, save_vae
from affetto.generators.portrait.motion_weights import load_net, save_net
from affetto.head.model import HeadModel
from affetto.runtime.device import autocast, resolve_device
from affetto.runtime.errors import UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.speech.clips import read_clips
from affetto.speech.readings import readings_of

_WINDOWS = 24
_GPU_WINDOWS = 192
_WORKERS = max(2, (os.cpu_count() or 2) // 2)  # processes that draw batches for a GPU
_RENDITIONS = 4
_SAVE_EVERY_S = 60.0
_LIVE = 1e-3  # standard deviation below which a channel does not move


Network = MotionNet | FlowVae


@dataclass(frozen=True, kw_only=True)
class PriorScores:
    """Errors on validation speech, drawn with guidance 1 and no constraints; targets are the rules themselves."""

    gap_mae: float  # of the lip opening, in % of the inter-pupil distance
    mean_face_gap_mae: float
    lip_l1: float  # of mouth and jaw shapes
    closure_recall: float  # share of bilabial frames with the lips shut, before they are made to shut
    target_closure_recall: float
    head_speed: float  # of the head, against the targets' (1: as lively)
    roughness: float  # second differences of all channels, against the targets' (1: as smooth)
    head_spread: float  # between two draws, against that between two targets (1: as varied)


def train_motion(
    data: Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "auto",
    config: MotionConfig | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> PriorScores:
    """Train the flow for `seconds` of processor time (by the clock on a GPU), write `output`, return validation scores.

    `data` is a folder of readings of speech, or that of the corpora (it holds `speech/emodb`), whose readings are then made
    once in `<output stem>-work/readings` beside `output`; making them does not count. `resume` goes on from `output`.
    Raises InvalidInputError when `data` holds neither.
    """
    return _train(
        lambda: MotionNet(config), data, output,
        seconds=seconds, seed=seed, resume=resume, device=device, progress=progress, cancel=cancel,
    )  # fmt: skip


def train_motion_vae(
    data: Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "auto",
    config: VaeConfig | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> PriorScores:
    """Train the flow-VAE, the other prior, on the same data; see `train_motion`."""
    return _train(
        lambda: FlowVae(config), data, output,
        seconds=seconds, seed=seed, resume=resume, device=device, progress=progress, cancel=cancel,
    )  # fmt: skip


def _train(
    fresh: Callable[[], Network],
    data: Path,
    output: Path,
    *,
    seconds: float,
    seed: int,
    resume: bool,
    device: str | torch.device,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> PriorScores:
    if seconds <= 0:
        raise UsageError(f"training needs a positive time budget, got {seconds:g} s")
    where = resolve_device(device)
    clips = read_clips(readings_of(data, output, synthetic=False, progress=progress, cancel=cancel))
    students = [clip for clip in clips if clip.split == "train"]
    others = [clip for clip in clips if clip.split == "validation"]
    gap = LinearGap.of(HeadModel.load())
    trainer = trainer_of(
        fresh, MotionData(build_sessions(students, renditions=_RENDITIONS, seed=seed), seed=seed),
        gap, seed=seed, device=where, windows=_GPU_WINDOWS if where.type == "cuda" else _WINDOWS,
    )  # fmt: skip
    if resume and output.exists():
        net, metadata = (load_net if isinstance(trainer.net, MotionNet) else load_vae)(output)
        trainer.resume(net.state_dict(), int(metadata.get("step", 0)))
    trainer.train(seconds, checkpoint=output, progress=progress, cancel=cancel)
    held_out = MotionData(build_sessions(others, renditions=1, seed=seed + 1), seed=seed + 1, emotions=64)
    scores = validate(sampler_of(trainer.average, gap, where), held_out, gap, seed=seed)
    trainer.save(output, {"scores": json.dumps(dataclasses.asdict(scores), sort_keys=True)})
    return scores


def trainer_of(
    fresh: Callable[[], Network],
    data: MotionData,
    gap: LinearGap,
    *,
    seed: int,
    device: torch.device,
    windows: int = _WINDOWS,
) -> "MotionTrainer":
    """A trainer of the flow or the flow-VAE, its weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = fresh()
    losses = FlowLosses(gap, device) if isinstance(net, MotionNet) else VaeLosses(gap, device)
    return MotionTrainer(net, losses, data, seed=seed, device=device, windows=windows)


def sampler_of(net: Network, gap: LinearGap, device: torch.device) -> WindowSampler:
    """What draws windows with `net`."""
    if isinstance(net, MotionNet):
        return FlowSampler.of(net, gap, device=device)
    return VaeSampler(net, device)


class MotionTrainer:
    """Holds a network and the moving average of its weights, and trains for a share of time."""

    def __init__(
        self,
        net: Network,
        losses: Callable[[Any, MotionBatch, torch.Generator], Losses],
        data: MotionData,
        *,
        seed: int,
        device: torch.device,
        windows: int = _WINDOWS,
    ) -> None:
        self.net, self.losses, self.data = net, losses, data
        self.seed, self.device, self.windows = seed, device, windows
        fit_scales(net, data, seed=seed)
        net.to(device)
        self.average = deepcopy(net).eval()
        self.step = 0

    def resume(self, state: Mapping[str, Tensor], step: int) -> None:
        """Go on from the weights of an earlier run."""
        self.net.load_state_dict(state)
        self.average.load_state_dict(state)
        self.step = step

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the averaged network."""
        save = save_vae if isinstance(self.average, FlowVae) else save_net
        save(path, self.average, {"seed": str(self.seed), "step": str(self.step), **metadata})  # pyright: ignore[reportArgumentType]

    def train(
        self,
        seconds: float,
        *,
        checkpoint: Path | None = None,
        rate: float = 1e-3,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> dict[str, float]:
        """Run for `seconds` of processor time, or by the clock on a GPU; returns the smoothed losses at the end."""
        on_gpu = self.device.type == "cuda"
        clock = time.monotonic if on_gpu else time.process_time
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
        chance = torch.Generator().manual_seed(1000 * self.seed + self.step)
        batches = self.data.batches(self.windows, start=self.step, workers=_WORKERS if on_gpu else 0)
        recent: dict[str, float] = {}
        began, saved = clock(), 0.0
        warm = self.step + 30
        while (elapsed := clock() - began) < seconds:
            done = elapsed / seconds
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, 1.0 - (warm - self.step) / 31) * (0.02 + 0.98 * _cosine(done))
            with autocast(self.device, torch.bfloat16 if done < 0.9 else torch.float32):
                losses = self.losses(self.net, next(batches).to(self.device), chance)
            optimiser.zero_grad(set_to_none=True)
            parts = torch.stack(list(losses.values()))
            parts.sum().backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimiser.step()
            self.step += 1
            self._follow(min(0.998, self.step / (self.step + 20)))
            for name, value in zip(losses, map(float, parts.detach().cpu()), strict=True):
                recent[name] = 0.98 * recent.get(name, value) + 0.02 * value
            if cancel is not None:
                cancel.check()
            if checkpoint is not None and elapsed > saved + _SAVE_EVERY_S:
                saved = elapsed
                self.save(checkpoint, {"state": "training"})
            if progress is not None and self.step % 20 == 0:
                shown = " ".join(f"{name} {value:.4f}" for name, value in recent.items())
                progress(
                    ProgressEvent(
                        stage="train",
                        done=round(done * 1000),
                        total=1000,
                        message=f"step {self.step} {shown}",
                    )
                )
        return recent

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        for mean, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
            mean.lerp_(now, 1.0 - decay)


def fit_scales(net: Network, data: MotionData, *, seed: int) -> None:
    """Set the network's mean and scale to those of the data; channels that hardly move are marked dead."""
    motion = data.batch(256, np.random.default_rng([seed, 6])).motion.flatten(0, 1)
    spread = motion.std(dim=0)
    net.mean.copy_(torch.where(spread > _LIVE, motion.mean(dim=0), torch.zeros(CHANNELS)))
    net.scale.copy_(spread.clamp_min(0.02))
    net.live.copy_((spread > _LIVE).float())


@torch.inference_mode()
def validate(
    sampler: WindowSampler, data: MotionData, gap: LinearGap, *, seed: int, rounds: int = 2, windows: int = 32
) -> PriorScores:
    """Scores over fixed random windows of held-out speech."""
    rows: list[Mapping[str, float]] = []
    for index in range(rounds):
        batch = data.batch(windows, np.random.default_rng([seed, 9, index]))
        rows.append(_scores(sampler, batch.to(gap.gain.device), gap, seed=seed + index))
    return PriorScores(**{name: float(np.mean([row[name] for row in rows])) for name in rows[0]})


def _scores(sampler: WindowSampler, batch: MotionBatch, gap: LinearGap, *, seed: int) -> Mapping[str, float]:
    chance = torch.Generator().manual_seed(seed)
    draws = [
        sampler(
            batch.content, batch.features, batch.style, batch.motion, batch.is_known,
            torch.randn(batch.motion.shape, generator=chance).to(gap.gain.device),
            Guidance(audio=1.0, emotion=1.0), lambda motion: motion,
        )
        for _ in range(2)
    ]  # fmt: skip
    made, target = draws[0], batch.motion
    fresh = ~batch.is_known
    opening, wanted = gap(made[..., SHAPES]), gap(target[..., SHAPES])
    lips = torch.from_numpy(LOWER_FACE).to(made.device)
    shut = (batch.closure > 0.5) & fresh
    rolled = target.roll(1, dims=0)
    return {
        "gap_mae": 100 * float((opening - wanted).abs()[fresh].mean()),
        "mean_face_gap_mae": 100 * float((wanted - wanted.mean()).abs()[fresh].mean()),
        "lip_l1": float((made - target)[..., SHAPES][..., lips].abs()[fresh].mean()),
        "closure_recall": float((opening[shut] < 0.015).float().mean()),
        "target_closure_recall": float((wanted[shut] < 0.015).float().mean()),
        "head_speed": _speed(made[..., HEAD]) / _speed(target[..., HEAD]),
        "roughness": _roughness(made) / _roughness(target),
        "head_spread": float((made - draws[1])[..., HEAD].abs()[fresh].mean())
        / float((target - rolled)[..., HEAD].abs().mean()),
    }


def _speed(angles: Float[Tensor, "window 64 3"]) -> float:
    return float(torch.diff(angles, dim=1).abs().mean())


def _roughness(motion: Float[Tensor, "window 64 58"]) -> float:
    return float(torch.diff(motion, n=2, dim=1).abs().mean())


def _cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
