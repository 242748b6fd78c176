"""The recipe behind `affetto train voice-residual`: a flow over control residuals, learnt on takes of the same sentence."""

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder
from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.bank_data import read_corpus
from affetto.generators.voice.pairs import GROUPS, Take
from affetto.generators.voice.residual_data import (
    PairExample,
    ResidualBatch,
    build_examples,
    draw_batch,
    example_batch,
)
from affetto.generators.voice.residual_flow import load_net, noise_kernel, save_net
from affetto.generators.voice.residual_net import ResidualConfig, ResidualNet, sound_features
from affetto.generators.voice.train_bank import read_take
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

_BATCH, _FRAMES = 12, 256
_CHECK_EVERY_S = 45.0  # of processor time
_GROUP_WEIGHT = (6.0, 2.0, 1.0, 1.0, 4.0)  # of a column of each group
_UNIT_FRAMES, _UNIT_ROUNDS = 20_000, 25
_GROUP_NAMES = ("pitch", "energy", "envelope", "noise", "rate")


CONTENT_UNITS = 96
"""Kinds of sound that the recipe's network is told."""

VALIDATION, TEST = ("03", "14"), ("12", "16")
"""EMO-DB's speakers that training does not hear."""


@dataclass(frozen=True, kw_only=True)
class ResidualScores:
    """On pairs of the validation speakers, from neutral to each emotion, with the bank's directions.

    `explained` is how much of what the prior mean (the linear bank) leaves over is explained, by group; 0 is the bank.
    """

    flow_loss: float
    explained: Mapping[str, float]
    steps: int
    best_step: int


def train_voice_residual(
    data: str | Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "auto",
    bank: str | Path = "embedded",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> ResidualScores:
    """Train on a corpus that `affetto train voice-bank` reads, for `seconds` of processor time; write `output`.

    Prior means and directions are those of `bank`. Controls and embeddings of the recordings are kept beside `output`
    and do not count towards `seconds`. `resume` goes on from `output`.
    """
    if seconds <= 0:
        raise UsageError(f"training needs a positive time budget, got {seconds:g} s")
    where = resolve_device(device)
    takes = _takes(data, output.with_name(f"{output.stem}-work"), progress)
    emotions = VoiceBank.from_pretrained(str(bank))
    known = (*emotions.names, "neutral")
    takes = [take for take in takes if take.emotion in known and take.speaker not in TEST]
    train = build_examples([t for t in takes if t.speaker not in VALIDATION], emotions)
    held_out = build_examples([t for t in takes if t.speaker in VALIDATION], emotions, neutral_only=True)
    if not train or not held_out:
        raise InvalidInputError(f"{data}: needs speakers with neutral and emotional takes of one sentence")
    trainer = ResidualTrainer(
        train,
        held_out,
        seed=seed,
        device=where,
        config=ResidualConfig(units=CONTENT_UNITS),
        progress=progress,
        cancel=cancel,
    )
    if resume and output.exists():
        trainer.start_from(load_net(output))
    trainer.checkpoint = lambda: _write(output, trainer.best, {"seed": str(seed), "state": "training"})
    trainer.train(seconds, rate=7e-4 if resume else 1.5e-3)
    scores = trainer.scores()
    metadata = {"seed": str(seed), "scores": json.dumps(dataclasses.asdict(scores), sort_keys=True)}
    _write(output, trainer.best, metadata)
    return scores


def _takes(data: str | Path, folder: Path, progress: ProgressCallback | None) -> list[Take]:
    folder.mkdir(exist_ok=True)
    embedder = VoiceEmbedder.from_pretrained("embedded", device="cpu")
    takes, clips = [], read_corpus(data)
    for index, clip in enumerate(clips):
        takes.append(read_take(clip, embedder, folder / f"{clip.speaker}-{clip.path.stem}.npz"))
        if progress is not None and index % 20 == 0:
            progress(ProgressEvent(stage="takes", done=index, total=len(clips)))
    return takes


def _write(output: Path, net: ResidualNet, metadata: Mapping[str, str]) -> None:
    with atomic_path(output) as path:
        save_net(path, net, metadata)


def group_weights() -> Float[Tensor, "30"]:
    """What an error in each column of a normalised residual counts; the mean is one."""
    weight = torch.zeros(GROUPS[-1].stop)
    for columns, value in zip(GROUPS, _GROUP_WEIGHT, strict=True):
        weight[columns] = value
    return weight / weight.mean()


def flow_loss(
    net: ResidualNet,
    batch: ResidualBatch,
    *,
    sigma: Float[Tensor, "clip"],
    noise: Float[Tensor, "clip frame 30"],
    weight: Float[Tensor, "30"],
) -> Float[Tensor, ""]:
    """The mean square error of the velocity, trusted frames and weighty columns counting more."""
    wanted = (batch.residual - batch.mean) / net.scale
    level = sigma[:, None, None]
    noisy = (1 - level) * wanted + level * noise
    velocity = net(noisy, sigma, **batch.told())
    error = (velocity.float() - (noise - wanted)).square()
    trust = batch.trust * weight
    return (trust * error).sum() / trust.sum().clamp_min(1.0)


class ResidualTrainer:
    """Trains for a share of processor time and keeps the average of weights that served validation best."""

    def __init__(
        self,
        examples: Sequence[PairExample],
        held_out: Sequence[PairExample],
        *,
        seed: int,
        device: torch.device,
        config: ResidualConfig | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        self.examples, self.held_out, self.seed, self.device = examples, held_out, seed, device
        self.progress, self.cancel = progress, cancel
        self.checkpoint: Callable[[], None] = lambda: None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = ResidualNet(config).to(device)
        _set_buffers(self.net, examples)
        if self.net.config.units:
            self.net.unit_centres.copy_(content_units(examples, self.net.config.units, seed=seed))
        self.average = copy.deepcopy(self.net).eval()
        self.best = copy.deepcopy(self.average)
        self.best_loss, self.best_step, self.count = math.inf, 0, 0
        self.weight = group_weights().to(device)

    def start_from(self, net: ResidualNet) -> None:
        """Go on with the weights of `net`; its scale stays that of these examples."""
        kept = ("scale", "embedding_mean", "embedding_scale")
        scale = {name: buffer.clone() for name, buffer in self.net.named_buffers() if name in kept}
        for mine in (self.net, self.average, self.best):
            mine.load_state_dict({**net.state_dict(), **scale})
        self.best_loss = self.validation_loss(self.average)

    def train(self, seconds: float, *, rate: float = 1.5e-3) -> None:
        """Go on for `seconds` of processor time, the learning rate falling to zero at the end."""
        rng = np.random.default_rng([self.seed, 1, self.count])
        draws = torch.Generator().manual_seed(self.seed + 1000 * self.count + 1)
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
        began, checked, recent, first = time.process_time(), 0.0, math.nan, self.count
        self.net.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 7 * self.count)  # dropout
            while (done := (time.process_time() - began) / seconds) < 1.0:
                for group in optimiser.param_groups:
                    warm = min(1.0, (self.count - first + 1) / 50)
                    group["lr"] = rate * warm * (0.02 + 0.98 * math.cos(0.5 * math.pi * done) ** 2)
                batch = draw_batch(self.examples, rng, clips=_BATCH, frames=_FRAMES).to(self.device)
                sigma = torch.sigmoid(torch.randn(len(batch.residual), generator=draws)).to(self.device)
                noise = slow_noise(batch.residual.shape, draws).to(self.device)
                loss = flow_loss(self.net, batch, sigma=sigma, noise=noise, weight=self.weight)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
                optimiser.step()
                self.count += 1
                self._follow()
                value = float(loss.detach())
                recent = value if math.isnan(recent) else 0.98 * recent + 0.02 * value
                if self.cancel is not None:
                    self.cancel.check()
                if done * seconds > checked + _CHECK_EVERY_S:
                    checked = done * seconds
                    self._check(recent, done)
        self._check(recent, 1.0)

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(0.998, (self.count + 1) / (self.count + 10))
        for slow, fast in zip(self.average.parameters(), self.net.parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)

    def _check(self, recent: float, done: float) -> None:
        loss = self.validation_loss(self.average)
        if loss < self.best_loss:
            self.best_loss, self.best_step = loss, self.count
            self.best.load_state_dict(self.average.state_dict())
            self.checkpoint()
        if self.progress is not None:
            message = f"step {self.count} loss {recent:.4f} validation {loss:.4f}"
            self.progress(ProgressEvent(stage="flow", done=round(done * 1000), total=1000, message=message))

    @torch.inference_mode()
    def validation_loss(self, net: ResidualNet) -> float:
        """The flow loss on held-out pairs at fixed noise levels and noises."""
        draws = torch.Generator().manual_seed(17)
        total, count = 0.0, 0
        for part in _parts(self.held_out, 32):
            batch = example_batch(part).to(self.device)
            for level in (0.9, 0.6, 0.3):
                noise = slow_noise(batch.residual.shape, draws).to(self.device)
                sigma = torch.full((len(part),), level, device=self.device)
                loss = flow_loss(net, batch, sigma=sigma, noise=noise, weight=self.weight)
                total, count = total + float(loss) * len(part), count + len(part)
        return total / max(count, 1)

    @torch.inference_mode()
    def scores(self, *, steps: int = 6) -> ResidualScores:
        """How much better than the prior mean the likeliest course of the flow is, on held-out pairs."""
        left, rest = torch.zeros(len(GROUPS)), torch.zeros(len(GROUPS))
        for part in _parts(self.held_out, 32):
            batch = example_batch(part).to(self.device)
            x = torch.zeros_like(batch.residual)
            for step in range(steps):
                sigma = torch.full((len(part),), 1.0 - step / steps, device=self.device)
                x = x - self.best(x, sigma, **batch.told()).float() / steps
            wanted = (batch.residual - batch.mean) / self.best.scale
            for index, columns in enumerate(GROUPS):
                trust = batch.trust[..., columns]
                rest[index] += float((trust * (wanted - x)[..., columns].square()).sum())
                left[index] += float((trust * wanted[..., columns].square()).sum())
        explained = 1.0 - rest / left.clamp_min(1e-9)
        return ResidualScores(
            flow_loss=self.best_loss,
            explained=dict(zip(_GROUP_NAMES, (round(float(v), 4) for v in explained), strict=True)),
            steps=self.count,
            best_step=self.best_step,
        )


def content_units(
    examples: Sequence[PairExample], count: int, *, seed: int = 0
) -> Float[Tensor, "unit feature"]:
    """The kinds of sound that speech is made of: k-means (Lloyd) over the frames of the sources, without any transcript."""
    sources = {id(example.source): example.source for example in examples}.values()
    frames = sound_features(torch.from_numpy(np.concatenate(list(sources))))
    draws = torch.Generator().manual_seed(seed + 5)
    frames = frames[torch.randperm(len(frames), generator=draws)[:_UNIT_FRAMES]]
    centres = frames[:count].clone()
    for _ in range(_UNIT_ROUNDS):
        nearest = torch.cdist(frames, centres).argmin(dim=1)
        for unit in nearest.unique().tolist():
            centres[unit] = frames[nearest == unit].mean(dim=0)
    return centres


def slow_noise(shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "clip frame 30"]:
    """Noise as `frame_noise` draws it, for training."""
    taps = torch.from_numpy(noise_kernel()).float()
    white = torch.randn(shape[0] * shape[2], 1, shape[1] + len(taps) - 1, generator=generator)
    slow = nn.functional.conv1d(white, taps[None, None])
    return rearrange(slow, "(b c) 1 t -> b t c", c=shape[2])


def _parts(examples: Sequence[PairExample], size: int) -> list[Sequence[PairExample]]:
    return [examples[start : start + size] for start in range(0, len(examples), size)]


def _set_buffers(net: ResidualNet, examples: Sequence[PairExample]) -> None:
    """Deviations of the residuals about their prior means, and the spread of the embeddings."""
    total, weight = np.zeros(GROUPS[-1].stop), np.zeros(GROUPS[-1].stop)
    for example in examples:
        trust = example.trust_columns()
        total += (trust * np.square(example.residual - example.mean)).sum(axis=0)
        weight += trust.sum(axis=0)
    net.scale.copy_(torch.from_numpy(np.sqrt(total / np.maximum(weight, 1.0)) + 1e-4))
    places = np.stack([example.place for example in examples])
    net.embedding_mean.copy_(torch.from_numpy(places.mean(axis=0)))
    net.embedding_scale.fill_(float(places.std(axis=0).mean()) + 1e-6)
