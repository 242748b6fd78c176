"""The recipe behind `affetto train music-muser`: MusER, the codes it uses, and the prior that draws them.

Runs on one device as it is, and on several under `accelerate launch`.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float, Int64
from torch import Tensor, nn

from affetto.generators.music.full.muser import ELEMENTS, VARIANTS, Muser, MuserConfig, MuserPrior
from affetto.generators.music.full.muser_data import MuserClips, read_clips
from affetto.generators.music.full.muser_weights import MuserIds, MuserWeights
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

RECIPE_FILE = "muser.json"
ORDERS = ("numeric", "lexicographic")
_PRECISIONS = ("auto", "no", "bf16", "fp16")
_SAVE_EVERY_S = 300.0
_NOT_FINITE = 20  # losses in a row; fp16 steps over single ones


@dataclass(frozen=True, kw_only=True)
class MuserRecipe:
    """What may be changed; `muser.json` beside the data holds any of these as JSON (`network` an object of sizes).

    The defaults are the published settings. `order` `lexicographic` sorts the words' ids as text, as published, which
    makes the regularisation order tempo 101 below tempo 32; `numeric` orders them as music does. `share` is the network's part of the time.
    """

    variant: str = "MusER_TRANS_CA_GE"
    network: MuserConfig | None = None  # in place of the variant's
    order: str = "numeric"
    batch: int = 16
    accumulate: int = 1
    rate: float = 1e-4
    clip: float = 3.0
    weight: float = 0.1  # of the regularisation
    epochs: int = 300
    prior_epochs: int = 1300
    prior_width: int = MuserPrior.WIDTH
    prior_layers: int = MuserPrior.LAYERS
    prior_heads: int = MuserPrior.HEADS
    precision: str = "auto"
    share: float = 0.6

    def __post_init__(self) -> None:
        for name, value, known in (
            ("variant", self.variant, tuple(VARIANTS)),
            ("order", self.order, ORDERS),
            ("precision", self.precision, _PRECISIONS),
        ):
            if value not in known:
                raise UsageError(f"unknown {name} {value!r}: use {', '.join(known)}")

    @property
    def config(self) -> MuserConfig:
        """The network's configuration."""
        return self.network or VARIANTS[self.variant]

    @classmethod
    def beside(cls, data: Path) -> "MuserRecipe":
        """The recipe in the data's folder, or the published one; raises InvalidInputError for unknown or wrong entries."""
        path = data / RECIPE_FILE
        if not path.is_file():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if "network" in values:
                base = json.loads(VARIANTS[values.get("variant", cls.variant)].to_json())
                values["network"] = MuserConfig.from_json(json.dumps({**base, **values["network"]}))
            return cls(**values)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InvalidInputError(f"{path}: is no recipe ({error}): see docs/music-full.md") from error


class NetworkObjective(nn.Module):
    """MusER with its loss, so that distributed training wraps one forward."""

    def __init__(self, network: Muser, weight: float) -> None:
        super().__init__()
        self.network, self.weight = network, weight

    def forward(
        self,
        words: Int64[Tensor, "batch word 8"],
        target: Int64[Tensor, "batch word 8"],
        lengths: Int64[Tensor, "batch"],
        noise: Float[Tensor, "batch latent"],
    ) -> Float[Tensor, ""]:
        """The mean over clips and elements of the loss within the clip, the latents' loss, and the regularisation."""
        output = self.network(words, target, noise)
        inside = (torch.arange(words.shape[1], device=words.device) < lengths[:, None]).float()
        share = inside / lengths[:, None] / len(words) / len(ELEMENTS)
        total = output.latent_loss + self.weight * output.regularisation
        for column, logits in enumerate(output.logits):
            error = F.cross_entropy(logits.float().transpose(1, 2), target[..., column], reduction="none")
            total = total + (error * share).sum()
        return total


class PriorObjective(nn.Module):
    """The prior with its loss over the codes of whole clips."""

    def __init__(self, prior: MuserPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(
        self, given: Int64[Tensor, "batch word"], codes: Int64[Tensor, "batch word"]
    ) -> Float[Tensor, ""]:
        """The mean loss of `codes` after what comes before them."""
        return F.cross_entropy(self.prior(given).float().transpose(1, 2), codes)


@dataclass
class Spent:
    """How far a stage has come; `codebook_steps` is what its moving averages need to go on."""

    steps: int = 0
    seconds: float = 0.0
    codebook_steps: int = 0


def train_music_muser(
    data: str | Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 13,
    resume: bool = False,
    device: str = "auto",
    recipe: MuserRecipe | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Train on labelled MIDI for `seconds` at most, write `output` and its prior beside it, return losses.

    The clips as words, and checkpoints from which `resume` goes on, lie in `<output stem>-work`.
    """
    if seconds <= 0:
        raise UsageError(f"training needs a positive time budget, got {seconds:g} s")
    data, output = Path(data), Path(output)
    recipe = recipe or MuserRecipe.beside(data)
    work = output.with_name(f"{output.stem}-work")
    trainer = MuserTrainer(recipe, work, seed=seed, device=device, progress=progress, cancel=cancel)
    ids = MuserIds.of_order(recipe.order)
    with trainer.accelerator.main_process_first():
        clips = read_clips(data, work / "clips.npz", ids=ids, length=recipe.config.length, progress=progress)
    if not resume:
        shutil.rmtree(work / "state", ignore_errors=True)
    report: dict[str, Any] = {"clips": len(clips)}
    report |= trainer.train_network(clips, seconds * recipe.share)
    prior, compact = None, None
    if "network_last" in report:  # another network speaks other codes
        shutil.rmtree(work / "state" / "prior", ignore_errors=True)
    if recipe.config.latent == "codes":
        codes = trainer.codes(clips)
        compact, codes = np.unique(codes, return_inverse=True)
        codes = codes.reshape(len(clips), -1)
        report["codes_used"] = len(compact)
        prior, losses = trainer.train_prior(clips, codes, len(compact), seconds * (1.0 - recipe.share))
        report |= losses
    if trainer.accelerator.is_main_process:
        about = {"seed": str(seed), "variant": recipe.variant, **{k: str(v) for k, v in report.items()}}
        MuserWeights(network=trainer.network, ids=ids, prior=prior, compact=compact, about=about).save(output)
    return report


class MuserTrainer:
    """Trains the network, then the prior, each until its epochs or its share of the time are used up."""

    def __init__(
        self,
        recipe: MuserRecipe,
        work: Path,
        *,
        seed: int,
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
            self.network = Muser(recipe.config).to(self.accelerator.device)

    def train_network(self, clips: MuserClips, seconds: float) -> dict[str, Any]:
        """Train MusER itself; steps, and the mean losses of the first and the last fifth of them."""
        config = self.recipe.config

        def batch(rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
            noise = rng.standard_normal((len(rows), config.latent_width)).astype(np.float32)
            return clips.words[rows], clips.target[rows], clips.lengths[rows], noise

        objective = NetworkObjective(self.network, self.recipe.weight)
        return self._stage("network", objective, len(clips), self.recipe.epochs, seconds, batch)

    @torch.inference_mode()
    def codes(self, clips: MuserClips) -> Int64[np.ndarray, "clip word"]:
        """The codes of every clip; the last words of short clips are padding, and drawn like the rest."""
        self.network.eval()
        found = []
        for first in range(0, len(clips), self.recipe.batch):
            rows = slice(first, first + self.recipe.batch)
            given = clips.words if self.recipe.config.encodes == "input" else clips.target
            target = torch.from_numpy(given[rows]).to(self.accelerator.device)
            found.append(self.network.quantise(target).indices.cpu().numpy())
        return np.concatenate(found)

    def train_prior(
        self, clips: MuserClips, codes: Int64[np.ndarray, "clip word"], count: int, seconds: float
    ) -> tuple[MuserPrior, dict[str, Any]]:
        """A prior over codes 0..count-1 and its losses."""
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            prior = MuserPrior(
                count, width=recipe.prior_width, layers=recipe.prior_layers, heads=recipe.prior_heads,
                dropout=recipe.config.dropout,
            ).to(self.accelerator.device)  # fmt: skip
        starts = np.array([prior.start_of(int(each)) for each in clips.quadrants], np.int64)
        given = np.concatenate([starts[:, None], codes[:, :-1]], axis=1)

        def batch(rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
            return given[rows], codes[rows]

        report = self._stage("prior", PriorObjective(prior), len(clips), recipe.prior_epochs, seconds, batch)
        return prior.cpu().eval(), report

    def _stage(
        self, stage: str, objective: nn.Module, clips: int, epochs: int, seconds: float, batch: Any
    ) -> dict[str, Any]:
        objective.train()
        optimiser = torch.optim.Adam(objective.parameters(), lr=self.recipe.rate)
        prepared, optimiser = self.accelerator.prepare(objective, optimiser)
        folder = self.work / "state" / stage
        spent = self._resumed(folder)
        per_epoch = max(clips // (self.recipe.batch * self.accelerator.num_processes), 1)
        losses: list[float] = []
        with torch.random.fork_rng(devices=[]):
            saved = time.monotonic()
            for loss in self._steps(
                stage, prepared, optimiser, spent, clips, epochs * per_epoch, seconds, batch
            ):
                losses.append(loss)
                if time.monotonic() - saved > _SAVE_EVERY_S:
                    self._save(folder, spent)
                    saved = time.monotonic()
        if losses or not (folder / "spent.json").is_file():
            self._save(folder, spent)
        self.accelerator.free_memory()
        report: dict[str, Any] = {f"{stage}_steps": spent.steps}
        if losses:
            ends = max(1, len(losses) // 5)
            report[f"{stage}_first"] = round(float(np.mean(losses[:ends])), 5)
            report[f"{stage}_last"] = round(float(np.mean(losses[-ends:])), 5)
        return report

    def _steps(
        self,
        stage: str,
        objective: nn.Module,
        optimiser: torch.optim.Optimizer,
        spent: Spent,
        clips: int,
        most: int,
        seconds: float,
        batch: Any,
    ) -> Iterator[float]:
        """Make one optimisation step after another; its loss."""
        recipe, rank = self.recipe, self.accelerator.process_index
        before, began, broken = spent.seconds, time.monotonic(), 0
        while spent.steps < most and (elapsed := before + time.monotonic() - began) < seconds:
            stream = np.random.SeedSequence([self.seed, rank, stage == "prior", spent.steps])
            torch.manual_seed(int(stream.generate_state(1)[0]))
            rng = np.random.default_rng(stream)
            total = 0.0
            for part in range(recipe.accumulate):
                rows = self._rows(clips, spent.steps * recipe.accumulate + part)
                given = (torch.from_numpy(each).to(self.accelerator.device) for each in batch(rows, rng))
                with self.accelerator.accumulate(objective):
                    loss = objective(*given)
                    self.accelerator.backward(loss)
                    if self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(objective.parameters(), recipe.clip)
                    optimiser.step()
                    optimiser.zero_grad()
                total += float(loss.detach()) / recipe.accumulate
            broken = 0 if math.isfinite(total) else broken + 1
            if broken and (recipe.precision != "fp16" or broken > _NOT_FINITE):
                raise InvalidInputError(
                    f"the {stage}'s loss is not finite at step {spent.steps}: lower the rate in {RECIPE_FILE}"
                )
            spent.steps, spent.seconds = spent.steps + 1, elapsed
            self._tell(stage, max(elapsed / seconds, spent.steps / most), spent.steps, total)
            yield total

    def _rows(self, clips: int, step: int) -> Int64[np.ndarray, "batch"]:
        """The clips of one step of this process: every epoch in another order, incomplete batches left out."""
        size, ranks = self.recipe.batch, self.accelerator.num_processes
        per_epoch = max(clips // (size * ranks), 1)
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, 17, epoch]).permutation(clips)
        first = (place * ranks + self.accelerator.process_index) * size
        return np.resize(order, max(clips, size * ranks))[first : first + size]

    def _resumed(self, folder: Path) -> Spent:
        saved = folder / "spent.json"
        if not saved.is_file():
            return Spent()
        spent = Spent(**json.loads(saved.read_text(encoding="utf-8")))
        self.accelerator.load_state(str(folder))
        if self.recipe.config.latent == "codes":
            self.network.VQ.get_buffer("steps").fill_(spent.codebook_steps)
        return spent

    def _save(self, folder: Path, spent: Spent) -> None:
        if self.recipe.config.latent == "codes":
            spent.codebook_steps = int(self.network.VQ.get_buffer("steps"))
        self.accelerator.save_state(str(folder))
        if self.accelerator.is_main_process:
            with atomic_path(folder / "spent.json") as temporary:
                temporary.write_text(json.dumps(dataclasses.asdict(spent)), encoding="utf-8")

    def _tell(self, stage: str, share: float, step: int, loss: float) -> None:
        if self.cancel is not None:
            self.cancel.check()
        if self.progress is not None and self.accelerator.is_main_process and step % 10 == 0:
            message = f"step {step} loss {loss:.4f}"
            done = round(1000 * min(share, 1.0))
            self.progress(ProgressEvent(stage=stage, done=done, total=1000, message=message))
