"""The recipe behind `affetto train face-emote`: FLINT, the readers, then EMOTE in its two stages.

Runs on one device as it is, and on several under `accelerate launch`.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affetto.generators.face.full.audio import renamed_weight_norm
from affetto.generators.face.full.emote import Emote, EmoteConfig
from affetto.generators.face.full.emote_animator import open_flame
from affetto.generators.face.full.emote_data import EmoteData, derangement, read_index
from affetto.generators.face.full.emote_weights import fill, save_emote
from affetto.generators.face.full.flame_layer import FlameLayer
from affetto.generators.face.full.flint import Flint
from affetto.generators.face.full.objectives import (
    ExchangeObjective,
    LossWeights,
    PriorObjective,
    ReadersObjective,
    TalkObjective,
)
from affetto.generators.face.full.readers import EmotionReader, LipReader, SpeechMatch
from affetto.head.model import HeadModel
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.runtime.stages import StagedTraining, StageOptions
from affetto.weights.registry import REGISTRY
from affetto.weights.store import weight_path
from affetto.weights.tensors import read_checkpoint

RECIPE_FILE = "emote.json"
STAGES = ("prior", "readers", "talk", "exchange")
SPEECH_ID = "wav2vec2-base-960h"


@dataclass(frozen=True, kw_only=True)
class EmoteRecipe:
    """What may be changed; `emote.json` beside the data holds any of these as JSON.

    The defaults are the published settings where they are known. `speech` is the id or file of the wav2vec 2.0 to begin
    with (empty: random), `flame` a file or id, `shares` each stage's part of the time, `steps` a limit for each stage.
    """

    network: EmoteConfig = field(default_factory=EmoteConfig)
    speech: str = SPEECH_ID
    flame: str = ""
    frames: int = 64
    batch: int = 4
    accumulate: int = 1
    rate: float = 1e-4
    clip: float = 1.0
    weights: LossWeights = field(default_factory=LossWeights)
    shares: tuple[float, float, float, float] = (0.2, 0.1, 0.3, 0.4)
    steps: int = 0
    precision: str = "auto"
    checkpointing: bool = False  # of wav2vec 2.0's gradients: less memory, more time

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise UsageError(f"batch {self.batch}: emotions are exchanged between clips: use 2 or more")
        factor = self.network.flint.factor
        if self.frames % factor or self.frames < factor:
            raise UsageError(f"frames {self.frames} must be a multiple of {factor}")
        if len(self.shares) != len(STAGES) or min(self.shares) < 0 or sum(self.shares) <= 0:
            raise UsageError(f"shares need {len(STAGES)} numbers, one for each of {', '.join(STAGES)}")

    @classmethod
    def beside(cls, data: str | Path) -> "EmoteRecipe":
        """The recipe in the data's folder, or the defaults; raises InvalidInputError for unknown or wrong entries."""
        path = Path(data) / RECIPE_FILE
        if not path.is_file():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if "network" in values:
                values["network"] = EmoteConfig.from_json(json.dumps(values["network"]))
            if "weights" in values:
                values["weights"] = LossWeights(**values["weights"])
            if "shares" in values:
                values["shares"] = tuple(float(each) for each in values["shares"])
            return cls(**values)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"{path}: is no recipe ({error}): see docs/face-full.md") from error


def train_face_emote(
    data: str | Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    recipe: EmoteRecipe | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Train on recordings with FLAME curves for `seconds` at most, write `output`, return losses.

    Checkpoints from which `resume` goes on lie in `<output stem>-work`.
    """
    if seconds <= 0:
        raise UsageError(f"training needs a positive time budget, got {seconds:g} s")
    recipe = recipe or EmoteRecipe.beside(data)
    clips = read_index(data)
    people = sorted({clip.person for clip in clips})
    recipe = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, people=tuple(people)))
    work = Path(output).with_name(f"{Path(output).stem}-work")
    training = StagedTraining(
        work, seed=seed, device=device, precision=recipe.precision, accumulate=recipe.accumulate,
        progress=progress, cancel=cancel,
    )  # fmt: skip
    if not resume and training.is_main:
        shutil.rmtree(work / "state", ignore_errors=True)
    training.accelerator.wait_for_everyone()
    pieces = EmoteData(clips, people, frames=recipe.frames, expressions=recipe.network.flint.expressions)
    trainer = EmoteTrainer(recipe, training, pieces)
    report = trainer.run(seconds)
    if training.is_main:
        save_emote(
            output, trainer.network.cpu().eval(), about=json.dumps({"seed": seed, **report}, sort_keys=True)
        )
    return report


class EmoteTrainer:
    """Trains the prior, the readers, talking and the exchange, one after the other."""

    def __init__(self, recipe: EmoteRecipe, training: StagedTraining, data: EmoteData) -> None:
        self.recipe, self.training, self.data = recipe, training, data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.network = Emote(recipe.network)
            self.flint = Flint(recipe.network.flint)
            self._build_readers(recipe)
        if recipe.speech:
            start_speech(self.network.audio_model.model, recipe.speech)
        if recipe.checkpointing:
            self.network.audio_model.model.gradient_checkpointing_enable()
        for module in (self.network, self.flint, self.flame, self.lips, self.match, self.emotions):
            module.to(training.device)

    def _build_readers(self, recipe: EmoteRecipe) -> None:
        flint = recipe.network.flint
        self.flame = FlameLayer(open_flame(recipe.flame or None), HeadModel.load(), flint.expressions)
        self.lips = LipReader(len(self.flame.get_buffer("lips")))
        self.match = SpeechMatch(self.network.audio_model.width)
        self.emotions = EmotionReader(flint.channels)

    def run(self, seconds: float) -> dict[str, Any]:
        """All stages; the steps and losses of each."""
        report: dict[str, Any] = {"clips": len(self.data.clips), "people": len(self.data.people)}
        total = sum(self.recipe.shares)
        for stage, share in zip(STAGES, self.recipe.shares, strict=True):
            if share > 0:
                report |= getattr(self, f"_{stage}")(seconds * share / total)
        return report

    def _prior(self, seconds: float) -> dict[str, Any]:
        objective = PriorObjective(self.flint, self.flame, self.recipe.weights)
        report = self._train("prior", objective, [self.flint], seconds, lambda rng: self._batch(rng)[1:2])
        decoder = self.network.sequence_decoder.motion_prior.motion_decoder
        decoder.load_state_dict(self.flint.motion_decoder.state_dict())
        return report

    def _readers_inputs(self, rng: np.random.Generator) -> Sequence[Tensor]:
        samples, motion, _, labels = self._batch(rng)
        return samples, motion, labels

    def _readers(self, seconds: float) -> dict[str, Any]:
        self.network.audio_model.eval()
        objective = ReadersObjective(
            self.network.audio_model, self.flame, self.lips, self.match, self.emotions
        )
        trained = [self.lips, self.match, self.emotions]
        return self._train("readers", objective, trained, seconds, self._readers_inputs)

    def _talk(self, seconds: float) -> dict[str, Any]:
        def inputs(rng: np.random.Generator) -> Sequence[Tensor]:
            samples, motion, style, _ = self._batch(rng)
            return samples, style, motion

        trained = [self.network.audio_model, self.network.sequence_encoder, *self._own_decoder()]
        return self._train("talk", TalkObjective(self.network, self.flame), trained, seconds, inputs)

    def _exchange(self, seconds: float) -> dict[str, Any]:
        def inputs(rng: np.random.Generator) -> Sequence[Tensor]:
            samples, motion, style, _ = self._batch(rng)
            return samples, style, motion, derangement(len(samples), rng)

        for reader in (self.lips, self.emotions):
            reader.requires_grad_(False).eval()
        objective = ExchangeObjective(self.network, self.flame, self.lips, self.emotions, self.recipe.weights)
        trained = [self.network.sequence_encoder, *self._own_decoder()]
        return self._train("exchange", objective, trained, seconds, inputs)

    def _own_decoder(self) -> list[nn.Module]:
        """What of the decoder is EMOTE's: all but the prior, which stays as it was trained."""
        decoder = self.network.sequence_decoder
        return [decoder.obj_vector, decoder.bert_decoder, decoder.decoder, decoder.squasher_2]

    def _train(
        self, stage: str, objective: nn.Module, trained: Sequence[nn.Module], seconds: float, draw: Any
    ) -> dict[str, Any]:
        for module in (self.network, self.flint, self.lips, self.match, self.emotions):
            module.requires_grad_(False)
        for module in trained:
            module.requires_grad_(True)
        self.network.audio_model.freeze_front()
        options = StageOptions(
            rate=self.recipe.rate, seconds=seconds, steps=self.recipe.steps, clip=self.recipe.clip
        )
        kept = _Still(objective, self.network.sequence_decoder.motion_prior if stage != "prior" else None)
        report = self.training.stage(stage, kept, draw, options)
        objective.eval()
        return report

    def _batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.data.batch(self.recipe.batch, rng)


class _Still(nn.Module):
    """An objective within which one part stays in evaluation, because its batch norms must not learn."""

    def __init__(self, objective: nn.Module, part: nn.Module | None) -> None:
        super().__init__()
        self.objective = objective
        self._part = [part]

    def train(self, mode: bool = True) -> "_Still":
        """Training mode for all but the part."""
        super().train(mode)
        if self._part[0] is not None:
            self._part[0].eval()
        return self

    def forward(self, *inputs: Tensor) -> Tensor:
        """The objective's loss."""
        return self.objective(*inputs)


def start_speech(model: nn.Module, name: str) -> None:
    """Begin with a published wav2vec 2.0: the registered one, a .safetensors file, or a checkpoint."""
    if name in REGISTRY:
        path = weight_path(name)
    elif Path(name).is_file():
        path = Path(name)
    else:
        raise MissingResourceError(f"no wav2vec 2.0 at {name}: run affetto weights pull {SPEECH_ID}")
    tensors: Mapping[str, Tensor] = read_checkpoint(path)
    state = renamed_weight_norm(
        {
            key.removeprefix("wav2vec2."): value.float()
            for key, value in tensors.items()
            if not key.startswith("lm_head.")
        }
    )
    own = model.state_dict()
    if "masked_spec_embed" in own:
        state.setdefault("masked_spec_embed", own["masked_spec_embed"])
    fill(model, state, f"{path}: wav2vec 2.0 at these sizes")
