"""The recipe behind `affetto train music-muser`: MusER, the codes it uses, and the prior that draws them.

Runs on one device as it is, and on several under `accelerate launch`.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from affetto.generators.music.full.muser import ELEMENTS, VARIANTS, Muser, MuserConfig, MuserPrior
from affetto.generators.music.full.muser_data import MuserClips, read_clips
from affetto.generators.music.full.muser_weights import MuserIds, MuserWeights
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.runtime.stages import PRECISIONS, Draw, StagedTraining, StageOptions

RECIPE_FILE = "muser.json"
ORDERS = ("numeric", "lexicographic")


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
            ("precision", self.precision, PRECISIONS),
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


class CodebookClock:
    """How often the codebook's moving averages moved, for checkpoints: the published layout of weights has no room for it."""

    def __init__(self, network: Muser) -> None:
        self._steps = network.VQ.get_buffer("steps")

    def state_dict(self) -> dict[str, int]:
        """For accelerate."""
        return {"steps": int(self._steps)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """For accelerate."""
        self._steps.fill_(state["steps"])


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
    training = StagedTraining(
        work, seed=seed, device=device, precision=recipe.precision, accumulate=recipe.accumulate,
        progress=progress, cancel=cancel,
    )  # fmt: skip
    trainer = MuserTrainer(recipe, training)
    ids = MuserIds.of_order(recipe.order)
    with training.accelerator.main_process_first():
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
    if training.is_main:
        about = {"seed": str(seed), "variant": recipe.variant, **{k: str(v) for k, v in report.items()}}
        MuserWeights(network=trainer.network, ids=ids, prior=prior, compact=compact, about=about).save(output)
    return report


class MuserTrainer:
    """Trains the network, then the prior, each until its epochs or its share of the time are used up."""

    def __init__(self, recipe: MuserRecipe, training: StagedTraining) -> None:
        self.recipe, self.training = recipe, training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.network = Muser(recipe.config).to(training.device)
        if recipe.config.latent == "codes":
            training.accelerator.register_for_checkpointing(CodebookClock(self.network))

    def train_network(self, clips: MuserClips, seconds: float) -> dict[str, Any]:
        """Train MusER itself; steps, and the mean losses of the first and the last fifth of them."""
        config = self.recipe.config

        def draw(rng: np.random.Generator) -> Sequence[Tensor]:
            rows = self._rows(len(clips), rng)
            noise = rng.standard_normal((len(rows), config.latent_width)).astype(np.float32)
            return _tensors(clips.words[rows], clips.target[rows], clips.lengths[rows], noise)

        objective = NetworkObjective(self.network, self.recipe.weight)
        return self._stage("network", objective, len(clips), self.recipe.epochs, seconds, draw)

    @torch.inference_mode()
    def codes(self, clips: MuserClips) -> Int64[np.ndarray, "clip word"]:
        """The codes of every clip; the last words of short clips are padding, and drawn like the rest."""
        self.network.eval()
        found = []
        for first in range(0, len(clips), self.recipe.batch):
            rows = slice(first, first + self.recipe.batch)
            given = clips.words if self.recipe.config.encodes == "input" else clips.target
            target = torch.from_numpy(given[rows]).to(self.training.device)
            found.append(self.network.quantise(target).indices.cpu().numpy())
        return np.concatenate(found)

    def train_prior(
        self, clips: MuserClips, codes: Int64[np.ndarray, "clip word"], count: int, seconds: float
    ) -> tuple[MuserPrior, dict[str, Any]]:
        """A prior over codes 0..count-1 and its losses."""
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed + 1)
            prior = MuserPrior(
                count, width=recipe.prior_width, layers=recipe.prior_layers, heads=recipe.prior_heads,
                dropout=recipe.config.dropout,
            ).to(self.training.device)  # fmt: skip
        starts = np.array([prior.start_of(int(each)) for each in clips.quadrants], np.int64)
        given = np.concatenate([starts[:, None], codes[:, :-1]], axis=1)

        def draw(rng: np.random.Generator) -> Sequence[Tensor]:
            rows = self._rows(len(clips), rng)
            return _tensors(given[rows], codes[rows])

        report = self._stage("prior", PriorObjective(prior), len(clips), recipe.prior_epochs, seconds, draw)
        return prior.cpu().eval(), report

    def _stage(
        self, stage: str, objective: nn.Module, clips: int, epochs: int, seconds: float, draw: Draw
    ) -> dict[str, Any]:
        """An epoch is as many steps as show as many clips as there are; each step draws its own."""
        recipe = self.recipe
        shown = recipe.batch * recipe.accumulate * self.training.accelerator.num_processes
        options = StageOptions(
            rate=recipe.rate, seconds=seconds, steps=epochs * max(clips // shown, 1), clip=recipe.clip
        )
        return self.training.stage(stage, objective, draw, options)

    def _rows(self, clips: int, rng: np.random.Generator) -> Int64[np.ndarray, "batch"]:
        size = self.recipe.batch
        return rng.choice(clips, size, replace=clips < size)


def _tensors(*arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(each) for each in arrays]
