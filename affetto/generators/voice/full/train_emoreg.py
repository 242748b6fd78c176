"""The recipe behind `affetto train voice-emoreg`: average-voice encoder, embedding head, score decoder, directions.

Runs on one device as it is, and on several under `accelerate launch`.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.conditioning.directions import DirectionalLatents, principal_axes
from affetto.generators.voice.bank_data import NEUTRAL, read_corpus
from affetto.generators.voice.full.diffvc import DiffVC, DiffVCConfig, Reference
from affetto.generators.voice.full.embedding import (
    EMBEDDED,
    NetworkEmbedding,
    open_embedding,
    train_head,
)
from affetto.generators.voice.full.emoreg_data import Crops, Utterance, crops, read_utterances
from affetto.generators.voice.full.emoreg_weights import EmoRegWeights
from affetto.generators.voice.full.norms import frame_mask
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.weights.registry import REGISTRY
from affetto.weights.store import weight_path
from affetto.weights.tensors import check_layout, read_checkpoint

KEEP = 0.95
"""Share of the embeddings' variance in whose principal axes directions are kept; EmoReg does not tell its own."""

RECIPE_FILE = "emoreg.json"
_STAGES = ("encoder", "decoder")
_SAVE_EVERY_S = 300.0
_PRECISIONS = ("auto", "no", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class EmoRegRecipe:
    """What may be changed; `emoreg.json` beside the data holds any of these as JSON (`network` an object of sizes).

    `embedding` is `voice-embedding` or the folder of a speech network, `start` the id or file of DiffVC weights to begin
    with, `share` the encoder's part of the time, `max_steps` a limit for each stage (0: none).
    """

    network: DiffVCConfig = dataclasses.field(default_factory=DiffVCConfig)
    embedding: str = EMBEDDED
    start: str = ""
    units: int = 200
    frames: int = 128
    batch: int = 32
    accumulate: int = 1
    encoder_rate: float = 5e-4
    decoder_rate: float = 1e-4
    clip: float = 1.0
    precision: str = "auto"
    share: float = 0.25
    parts: int = 2  # Gaussians for each emotion
    max_steps: int = 0

    @classmethod
    def beside(cls, data: str | Path) -> "EmoRegRecipe":
        """The recipe in the data's folder, or the defaults; raises InvalidInputError for unknown or wrong entries."""
        path = Path(str(data).partition(":")[2] or data) / RECIPE_FILE
        if not path.is_file():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["network"] = DiffVCConfig(**values.get("network", {}))
            return cls(**values)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"{path}: is no recipe ({error}): see docs/voice-full.md") from error


class EncoderObjective(nn.Module):
    """The average-voice encoder with its loss, so that distributed training wraps one forward."""

    def __init__(self, network: DiffVC) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(
        self,
        mel: Float[Tensor, "batch band frame"],
        lengths: Int[Tensor, "batch"],
        target: Float[Tensor, "batch band frame"],
    ) -> Float[Tensor, ""]:
        """The squared error within the clips, averaged over bands and frames."""
        inside = frame_mask(lengths, mel.shape[-1])[:, None].float()
        error = (self.encoder(mel, lengths).float() - target).square() * inside
        return error.sum() / (inside.sum() * mel.shape[1])


class DecoderObjective(nn.Module):
    """The score network with its loss; the encoder stands still."""

    def __init__(self, network: DiffVC) -> None:
        super().__init__()
        self.decoder = network.decoder
        self._network = [network]  # in a list: its encoder is no part of what is trained

    def forward(
        self,
        mel: Float[Tensor, "batch band frame"],
        lengths: Int[Tensor, "batch"],
        reference: Float[Tensor, "batch band frame"],
        reference_lengths: Int[Tensor, "batch"],
        embedding: Float[Tensor, "batch width"],
        moment: Float[Tensor, "batch"],
        noise: Float[Tensor, "batch band frame"],
    ) -> Float[Tensor, ""]:
        """DiffVC's weighted score-matching loss, told the embedding of the utterance itself."""
        network = self._network[0]
        with torch.no_grad():
            heard = network.encoder(reference, reference_lengths).float()
        return network.score_loss(
            mel, lengths, Reference(mel=reference, mean=heard, lengths=reference_lengths), embedding, time=moment,
            noise=noise,
        )  # fmt: skip


@dataclass
class Progress:
    """Steps and seconds spent in each stage; saved with the checkpoints."""

    encoder_steps: int = 0
    decoder_steps: int = 0
    encoder_s: float = 0.0
    decoder_s: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """For accelerate."""
        return dataclasses.asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """For accelerate."""
        for key, value in state.items():
            setattr(self, key, value)


def train_voice_emoreg(
    data: str | Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    recipe: EmoRegRecipe | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Train on a corpus of acted speech (`KIND:FOLDER` or a folder) for `seconds`, write `output`, return losses.

    What is read from the recordings, and checkpoints from which `resume` goes on, lie in `<output stem>-work`.
    """
    if seconds <= 0:
        raise UsageError(f"training needs a positive time budget, got {seconds:g} s")
    recipe = recipe or EmoRegRecipe.beside(data)
    if recipe.precision not in _PRECISIONS:
        raise UsageError(f"unknown precision {recipe.precision!r}: use {', '.join(_PRECISIONS)}")
    clips = read_corpus(data)
    work = Path(output).with_name(f"{Path(output).stem}-work")
    work.mkdir(parents=True, exist_ok=True)
    trainer = EmoRegTrainer(recipe, work, seed=seed, device=device, progress=progress, cancel=cancel)
    with trainer.accelerator.main_process_first():
        utterances, head = _utterances(clips, recipe, work, trainer, seed)
    if not resume:
        shutil.rmtree(work / "state", ignore_errors=True)
    report = trainer.run(utterances, seconds)
    if trainer.accelerator.is_main_process:
        weights = _finished(trainer.network, utterances, recipe, head, seed)
        notes = {
            "data": f"{len(utterances)} recordings",
            "seed": str(seed),
            **{k: str(v) for k, v in report.items()},
        }
        with atomic_path(output) as temporary:
            weights.with_about(**notes).save(temporary)
    return report


def _utterances(
    clips: Sequence[Any], recipe: EmoRegRecipe, work: Path, trainer: "EmoRegTrainer", seed: int
) -> tuple[list[Utterance], nn.Linear | None]:
    """The corpus as training data, and the head trained on it when the embedding is a user's network."""
    where = trainer.accelerator.device
    reader = open_embedding(recipe.embedding, None, device=where, dtype=torch.float32)
    network = reader if isinstance(reader, NetworkEmbedding) else None

    def embed(sound: np.ndarray) -> Tensor:
        return reader([sound])[0] if network is None else network.state(sound).cpu()

    utterances = read_utterances(
        clips,
        embed,
        work / "readings",
        tag=recipe.embedding,
        units=recipe.units,
        seed=seed,
        progress=trainer.progress,
    )
    if network is None:
        return utterances, None
    states = torch.from_numpy(np.stack([each.embedding for each in utterances]))
    head = train_head(states, [each.emotion for each in utterances], seed=seed)
    with torch.no_grad():
        vectors = head(states).numpy()
    return [
        dataclasses.replace(each, embedding=vector) for each, vector in zip(utterances, vectors, strict=True)
    ], head


def _finished(
    network: DiffVC, utterances: Sequence[Utterance], recipe: EmoRegRecipe, head: nn.Linear | None, seed: int
) -> EmoRegWeights:
    """The trained network with the directions and axes of its embeddings."""
    latents = torch.from_numpy(np.stack([each.embedding for each in utterances]))
    labels = [each.emotion for each in utterances]
    directions = DirectionalLatents.from_local_means(
        latents, labels, neutral=NEUTRAL, parts=recipe.parts, seed=seed, keep=KEEP
    )
    return EmoRegWeights(
        network=network.cpu().eval(), directions=directions, axes=principal_axes(latents, KEEP).float(),
        embedding=recipe.embedding, head=head,
    )  # fmt: skip


class EmoRegTrainer:
    """Trains the encoder, then the decoder, each for its share of the time; goes on from the last checkpoint."""

    def __init__(
        self,
        recipe: EmoRegRecipe,
        work: Path,
        *,
        seed: int = 0,
        device: str = "auto",
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        self.recipe, self.work, self.seed = recipe, work, seed
        self.progress, self.cancel = progress, cancel
        cpu = resolve_device(device).type == "cpu"
        precision = recipe.precision if recipe.precision != "auto" else ("no" if cpu else "bf16")
        self.accelerator = Accelerator(
            mixed_precision=precision, gradient_accumulation_steps=recipe.accumulate, cpu=cpu
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = DiffVC(recipe.network).to(self.accelerator.device)
        if recipe.start:
            _start_from(self.network, recipe.start)
        self.spent = Progress()

    def run(self, utterances: Sequence[Utterance], seconds: float) -> dict[str, Any]:
        """Both stages; the mean losses of the first and the last steps of each, and the steps made."""
        report: dict[str, Any] = {}
        shares = {"encoder": self.recipe.share, "decoder": 1.0 - self.recipe.share}
        rates = {"encoder": self.recipe.encoder_rate, "decoder": self.recipe.decoder_rate}
        for number, stage in enumerate(_STAGES):
            objective: nn.Module = (
                EncoderObjective(self.network) if stage == "encoder" else DecoderObjective(self.network)
            )
            losses = self._stage(stage, number, objective, utterances, shares[stage] * seconds, rates[stage])
            ends = max(1, len(losses) // 5)
            report[f"{stage}_steps"] = getattr(self.spent, f"{stage}_steps")
            if losses:
                report[f"{stage}_first"] = round(float(np.mean(losses[:ends])), 5)
                report[f"{stage}_last"] = round(float(np.mean(losses[-ends:])), 5)
        return report

    def _stage(
        self,
        stage: str,
        number: int,
        objective: nn.Module,
        utterances: Sequence[Utterance],
        seconds: float,
        rate: float,
    ) -> list[float]:
        trained = self.network.encoder if stage == "encoder" else self.network.decoder
        parameters = list(trained.parameters())
        self.network.requires_grad_(False)
        trained.requires_grad_(True)
        self.network.eval()
        if stage == "encoder":
            self.network.encoder.train()
        prepared, optimiser = self.accelerator.prepare(objective, torch.optim.Adam(parameters, lr=rate))
        folder = self.work / "state" / stage
        saved = folder / "spent.json"
        if saved.is_file():
            self.spent.load_state_dict(json.loads(saved.read_text(encoding="utf-8")))
            self.accelerator.load_state(str(folder))
        losses: list[float] = []
        with torch.random.fork_rng(devices=[]):
            steps = self._steps(stage, number, prepared, optimiser, parameters, utterances, seconds, losses)
            since = time.monotonic()
            for _ in steps:
                if time.monotonic() - since > _SAVE_EVERY_S:
                    self._save(folder)
                    since = time.monotonic()
        if losses or not saved.is_file():
            self._save(folder)
        self.accelerator.free_memory()
        return losses

    def _steps(
        self,
        stage: str,
        number: int,
        objective: nn.Module,
        optimiser: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        utterances: Sequence[Utterance],
        seconds: float,
        losses: list[float],
    ) -> Iterator[None]:
        """Make one optimisation step after another until the stage's time or steps are used up."""
        recipe, count = self.recipe, f"{stage}_steps"
        done = getattr(self.spent, count)
        rank = self.accelerator.process_index
        source = crops(
            utterances, size=recipe.batch, frames=recipe.frames, seed=self.seed, stage=number, rank=rank,
            start=done * recipe.accumulate,
        )  # fmt: skip
        before, began = getattr(self.spent, f"{stage}_s"), time.monotonic()
        while (elapsed := before + time.monotonic() - began) < seconds:
            if recipe.max_steps and done >= recipe.max_steps:
                break
            torch.manual_seed(
                int(np.random.SeedSequence([self.seed, number, rank, done]).generate_state(1)[0])
            )
            total = 0.0
            for _ in range(recipe.accumulate):
                with self.accelerator.accumulate(objective):
                    loss = objective(*self._inputs(stage, next(source)))
                    self.accelerator.backward(loss)
                    if self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(parameters, recipe.clip)
                    optimiser.step()
                    optimiser.zero_grad()
                total += float(loss.detach()) / recipe.accumulate
            if not math.isfinite(total) and recipe.precision != "fp16":
                raise InvalidInputError(
                    f"the {stage}'s loss is not finite at step {done}: lower its rate in {RECIPE_FILE}"
                )
            losses.append(total)
            done += 1
            setattr(self.spent, count, done)
            setattr(self.spent, f"{stage}_s", elapsed)
            self._tell(stage, elapsed / seconds, done, total)
            yield

    def _inputs(self, stage: str, batch: Crops) -> tuple[Tensor, ...]:
        where = self.accelerator.device
        if stage == "encoder":
            given: tuple[Tensor, ...] = (batch.mel, batch.lengths, batch.target)
        else:
            moment = torch.rand(len(batch.mel)).clamp(1e-5, 1.0 - 1e-5)
            noise = torch.randn(batch.mel.shape)
            given = (
                batch.mel, batch.lengths, batch.reference, batch.reference_lengths, batch.embedding, moment, noise
            )  # fmt: skip
        return tuple(each.to(where, non_blocking=True) for each in given)

    def _save(self, folder: Path) -> None:
        self.accelerator.save_state(str(folder))
        if self.accelerator.is_main_process:
            with atomic_path(folder / "spent.json") as temporary:
                temporary.write_text(json.dumps(self.spent.state_dict()), encoding="utf-8")

    def _tell(self, stage: str, share: float, step: int, loss: float) -> None:
        if self.cancel is not None:
            self.cancel.check()
        if self.progress is not None and self.accelerator.is_main_process and step % 10 == 0:
            message = f"step {step} loss {loss:.4f}"
            self.progress(ProgressEvent(stage=stage, done=round(1000 * share), total=1000, message=message))


def _start_from(network: DiffVC, start: str) -> None:
    """Fill the network with DiffVC weights of the store or of a file."""
    tensors = read_checkpoint(weight_path(start) if start in REGISTRY else Path(start))
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_layout(
        {key: tuple(value.shape) for key, value in tensors.items()}, expected, "DiffVC at these sizes"
    )
    network.load_state_dict({key: value.float() for key, value in tensors.items()})
