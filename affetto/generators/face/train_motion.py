"""The recipe behind `affetto train face-motion`: critics, motion prior, then the decoder with emotion exchange."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from affetto.acting.expression import LOWER_FACE
from affetto.acting.lip_gap import LinearGap
from affetto.generators.face.motion import load_net, save_net
from affetto.generators.face.motion_critics import (
    EmotionReader,
    VisemeReader,
    disagreement,
    emotion_loss,
    viseme_loss,
)
from affetto.generators.face.motion_data import (
    MotionBatch,
    Timeline,
    batches,
    build_timeline,
    one_batch,
)
from affetto.generators.face.motion_net import MotionConfig, MotionNet
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.runtime.device import autocast, resolve_device
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.speech.clips import read_clips
from affetto.speech.readings import readings_of

_SHARES = {"critics": 0.07, "prior": 0.23, "decoder": 0.70}
_CLIPS, _FRAMES = 6, 256
_SAVE_EVERY_S = 60.0  # of processor time
_READINGS = 6


@dataclass(frozen=True, kw_only=True)
class MotionScores:
    """Errors on validation speech, in blend shape units unless said otherwise; targets are the rules themselves."""

    lip_l1: float
    upper_l1: float
    lip_vertex_error: (
        float  # largest error of a lip vertex in each frame, averaged, in % of the inter-pupil distance
    )
    gap_mae: float  # of the lip opening, in % of the inter-pupil distance
    closure_recall: (
        float  # share of target closures whose lip opening stays under 1.5 % at some frame, before solving
    )
    viseme_accuracy: float
    exchange_agreement: float  # share of frames that read as the same viseme under two emotions
    emotion_accuracy: float  # by a reader trained from another seed, on single emotions
    target_viseme_accuracy: float
    target_exchange_agreement: float
    target_emotion_accuracy: float
    mean_face_lip_l1: float
    mean_face_lip_vertex_error: float
    mean_face_gap_mae: float


def train_motion(
    data: Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> MotionScores:
    """Train on readings of speech for `seconds` of processor time, write `output`, return validation scores.

    `data` is a folder of readings, or that of the corpora (it holds `speech/emodb`), whose readings are then made once
    in `<output stem>-work/readings` beside `output`; making them does not count towards `seconds`. `resume` goes on
    from `output`: the prior is kept and only the decoder trained further. Raises InvalidInputError when `data` holds
    neither.
    """
    if seconds <= 0:
        raise UsageError(f"training needs a positive time budget, got {seconds:g} s")
    where = resolve_device(device)
    clips = read_clips(readings_of(data, output, progress=progress, cancel=cancel))
    train = build_timeline([clip for clip in clips if clip.split == "train"], readings=_READINGS, seed=seed)
    held_out = build_timeline(
        [clip for clip in clips if clip.split == "validation"], readings=2, seed=seed + 1
    )
    head = HeadModel.load()
    trainer = MotionTrainer(
        train, gap=LinearGap.of(head), seed=seed, device=where, progress=progress, cancel=cancel
    )
    trainer.checkpoint = lambda: _write(output, trainer.net, {"seed": str(seed), "state": "training"})
    shares = dict(_SHARES)
    if resume and output.exists():
        trainer.net.load_state_dict(load_net(output).state_dict())
        shares = {"critics": 0.05, "decoder": 0.95}
    trainer.train_critics(seconds * shares["critics"])
    if "prior" in shares:
        trainer.train_prior(seconds * shares["prior"])
    trainer.train_decoder(seconds * shares["decoder"], rate=1e-3 if resume else 1.5e-3)
    scores = trainer.validate(held_out, lips=lip_fields(head))
    metadata = {"seed": str(seed), "scores": json.dumps(dataclasses.asdict(scores), sort_keys=True)}
    _write(output, trainer.net, metadata)
    return scores


def _write(output: Path, net: MotionNet, metadata: Mapping[str, str]) -> None:
    with atomic_path(output) as path:
        save_net(path, net, metadata)


def lip_fields(head: HeadModel) -> Float[Tensor, "52 vertex 3"]:
    """What weight 1 of each shape does to the lips, in shares of the inter-pupil distance.

    Lip vertices are those that mouthFunnel moves by at least a third of its largest displacement.
    """
    reach = np.linalg.norm(head.mesh.deltas[ARKIT_INDEX["mouthFunnel"]], axis=-1)
    return torch.from_numpy(head.mesh.deltas[:, reach > reach.max() / 3] / np.float32(head.ipd))


class MotionTrainer:
    """Holds the networks and runs one stage at a time, each for a share of processor time."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        gap: LinearGap,
        seed: int,
        device: torch.device,
        config: MotionConfig | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        self.timeline, self.seed, self.device = timeline, seed, device
        self.progress, self.cancel = progress, cancel
        self.checkpoint: Callable[[], None] = lambda: None  # called now and then while the decoder learns
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = MotionNet(config).to(device)
            self.visemes = VisemeReader().to(device)
            self.emotions = EmotionReader().to(device)
            torch.manual_seed(seed + 1)
            self.judge = EmotionReader().to(device)  # never trained against
            self.second_reader = VisemeReader().to(device)
        self.gap = gap.to(device)
        lips = torch.from_numpy(np.where(LOWER_FACE, 3.0, 1.0).astype(np.float32))
        self.channel_weight = (lips / lips.mean()).to(device)

    def train_critics(self, seconds: float) -> None:
        """Teach the readers on targets; the judge and the second viseme reader see other batches from other starts."""
        critics = [self.visemes, self.emotions, self.judge, self.second_reader]
        parameters = [parameter for critic in critics for parameter in critic.parameters()]

        def step(batch: MotionBatch, _: float) -> Tensor:
            half = len(batch.target) // 2
            faces = batch.target + 0.02 * torch.randn(batch.target.shape, generator=noise).to(self.device)
            loss = viseme_loss(self.visemes(faces[:half]), batch.visemes[:half])
            loss = loss + viseme_loss(self.second_reader(faces[half:]), batch.visemes[half:])
            loss = loss + emotion_loss(self.emotions(faces[:half]), batch.emotion[:half])
            return loss + emotion_loss(self.judge(faces[half:]), batch.emotion[half:])

        noise = torch.Generator().manual_seed(self.seed)
        self._stage("critics", seconds, parameters, step, rate=4e-3, stream=1, exchange=False)
        for parameter in parameters:
            parameter.requires_grad_(False)

    def train_prior(self, seconds: float) -> None:
        """Learn the temporal VAE on target curves alone."""
        prior = self.net.prior
        noise = torch.Generator().manual_seed(self.seed)

        def step(batch: MotionBatch, _: float) -> Tensor:
            mean, log_variance = prior.encode(batch.target)
            drawn = torch.randn(mean.shape, generator=noise).to(self.device)
            curves = prior.decode(mean + drawn * (0.5 * log_variance).exp()).float()
            kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
            return self._curve_loss(curves, batch) + 5e-4 * kl

        self._stage("prior", seconds, list(prior.parameters()), step, rate=2e-3, stream=2, exchange=False)

    def train_decoder(self, seconds: float, *, rate: float) -> None:
        """Learn latents from speech and emotion, every stretch with two emotions; the prior's decoder follows slowly."""
        prior, decoder = self.net.prior, self.net.decoder

        def step(batch: MotionBatch, done: float) -> Tensor:
            with torch.no_grad():
                known, _ = prior.encode(batch.target)
            latents = decoder(batch.content, batch.emotion)
            curves = prior.decode(latents).float()
            loss = self._curve_loss(curves, batch) + 0.03 * (latents.float() - known.float()).abs().mean()
            if done > 0.15:
                logits = self.visemes(curves)
                loss = loss + 0.01 * disagreement(logits) + 0.01 * viseme_loss(logits, batch.visemes)
                loss = loss + 0.01 * emotion_loss(self.emotions(curves), batch.emotion)
            return loss

        groups = (
            [*decoder.parameters()],
            [
                parameter
                for name, parameter in prior.named_parameters()
                if not name.startswith(("encode", "gaussian"))
            ],
        )
        self._stage("decoder", seconds, groups[0], step, rate=rate, stream=3, slow=groups[1])

    def _curve_loss(self, curves: Float[Tensor, "clip frame 52"], batch: MotionBatch) -> Float[Tensor, ""]:
        target = batch.target
        loss = ((curves - target).abs() * self.channel_weight).mean()
        motion = torch.diff(curves, dim=1) - torch.diff(target, dim=1)
        loss = loss + 2.0 * (motion.abs() * self.channel_weight).mean()
        gap = self.gap(curves)
        loss = loss + 0.5 * (gap - self.gap(target)).abs().mean()
        return loss + 2.0 * (torch.relu(gap - 0.008) * batch.closure).mean()

    def _stage(
        self,
        name: str,
        seconds: float,
        parameters: list[nn.Parameter],
        step: Callable[[MotionBatch, float], Tensor],
        *,
        rate: float,
        stream: int,
        exchange: bool = True,
        slow: list[nn.Parameter] | None = None,
    ) -> None:
        groups = [{"params": parameters, "share": 1.0}] + ([{"params": slow, "share": 0.2}] if slow else [])
        optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        began, count, recent, saved = time.process_time(), 0, math.nan, 0.0
        stretches = self._batches(stream, exchange=exchange)
        while (done := (time.process_time() - began) / max(seconds, 1e-6)) < 1.0:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"] * min(1.0, (count + 1) / 40) * _cosine(done)
            with autocast(self.device, torch.bfloat16 if done < 0.85 else torch.float32):
                loss = step(next(stretches).to(self.device), done)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
            optimiser.step()
            value = float(loss.detach())
            recent = value if math.isnan(recent) else 0.95 * recent + 0.05 * value
            count += 1
            if self.cancel is not None:
                self.cancel.check()
            if slow and (elapsed := done * seconds) > saved + _SAVE_EVERY_S:
                saved = elapsed
                self.checkpoint()
            if self.progress is not None and count % 20 == 0:
                self.progress(
                    ProgressEvent(
                        stage=name,
                        done=round(done * 1000),
                        total=1000,
                        message=f"step {count} loss {recent:.4f}",
                    )
                )

    def _batches(self, stream: int, *, exchange: bool) -> Iterator[MotionBatch]:
        clips = _CLIPS if exchange else 2 * _CLIPS
        return batches(
            self.timeline, clips=clips, frames=_FRAMES, seed=1000 * self.seed + stream, exchange=exchange
        )

    @torch.inference_mode()
    def validate(
        self, timeline: Timeline, *, lips: Float[Tensor, "52 vertex 3"] | None = None, rounds: int = 12
    ) -> MotionScores:
        """Scores over fixed random stretches of held-out speech, each said with two emotions.

        Without `lips` (see `lip_fields`) the vertex errors are not a number.
        """
        lips = None if lips is None else lips.to(self.device)
        self.net.eval()
        totals: dict[str, list[float]] = {}
        mean_face = torch.from_numpy(self.timeline.speech.mean(axis=0)).float().to(self.device)
        for index in range(rounds):
            rng = np.random.default_rng([self.seed, 9, index])
            batch = one_batch(timeline, clips=_CLIPS, frames=_FRAMES, rng=rng).to(self.device)
            curves = self.net(batch.content, batch.emotion).clamp(0.0, 1.0)
            for key, value in self._scores(curves, batch, mean_face, lips).items():
                totals.setdefault(key, []).append(value)
        self.net.train()
        return MotionScores(**{key: _mean(values) for key, values in totals.items()})

    def _scores(
        self,
        curves: Float[Tensor, "clip frame 52"],
        batch: MotionBatch,
        mean_face: Float[Tensor, "52"],
        lips: Float[Tensor, "52 vertex 3"] | None,
    ) -> Mapping[str, float]:
        target = batch.target
        lower = torch.from_numpy(LOWER_FACE).to(self.device)
        error = (curves - target).abs()
        flat = mean_face.expand_as(target)
        gap, wanted = self.gap(curves), self.gap(target)
        shown, meant = (self.second_reader(faces).argmax(dim=-1) for faces in (curves, target))
        dominant = batch.emotion[..., :8].mean(dim=1)
        single = dominant.max(dim=1).values > 0.7
        label = dominant.argmax(dim=1)
        felt, intended = (self.judge(faces).argmax(dim=-1) for faces in (curves, target))

        def share(right: Tensor) -> float:
            return float(right.float().mean()) if right.numel() else math.nan

        def agreement(visemes: Tensor) -> float:
            first, second = visemes.chunk(2)
            return share(first == second)

        return {
            "lip_l1": float(error[..., lower].mean()),
            "upper_l1": float(error[..., ~lower].mean()),
            "lip_vertex_error": _vertex_error(curves - target, lips),
            "gap_mae": 100.0 * float((gap - wanted).abs().mean()),
            "closure_recall": _recall(gap, batch.closure),
            "viseme_accuracy": share(shown == batch.visemes),
            "exchange_agreement": agreement(shown),
            "emotion_accuracy": share(felt[single] == label[single]),
            "target_viseme_accuracy": share(meant == batch.visemes),
            "target_exchange_agreement": agreement(meant),
            "target_emotion_accuracy": share(intended[single] == label[single]),
            "mean_face_lip_l1": float((flat - target).abs()[..., lower].mean()),
            "mean_face_lip_vertex_error": _vertex_error(flat - target, lips),
            "mean_face_gap_mae": 100.0 * float((self.gap(flat) - wanted).abs().mean()),
        }


def _vertex_error(error: Float[Tensor, "clip frame 52"], lips: Float[Tensor, "52 vertex 3"] | None) -> float:
    if lips is None:
        return math.nan
    moved = torch.einsum("btk,kvc->btvc", error, lips.float())
    return 100.0 * float(moved.norm(dim=-1).amax(dim=-1).mean())


def _recall(gap: Float[Tensor, "clip frame"], closure: Float[Tensor, "clip frame"]) -> float:
    """The share of closures during which the lips come within 1.5 % at least once, one frame early or late allowed."""
    reached = []
    for opening, shut in zip(gap.cpu().numpy(), closure.cpu().numpy(), strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0.0], shut, [0.0]])))
        reached += [
            bool((opening[max(0, start - 2) : stop + 2] < 0.015).any())
            for start, stop in zip(edges[::2], edges[1::2], strict=True)
        ]
    return float(np.mean(reached)) if reached else math.nan


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _cosine(done: float) -> float:
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
