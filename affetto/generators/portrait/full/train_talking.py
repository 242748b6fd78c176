"""The recipes behind `affetto train portrait-dice` and `portrait-synchro`, on videos that `prepare-videos` has made ready.

Runs on one device as it is, and on several under `accelerate launch`.
"""

import functools
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from affetto.generators.portrait.full.denoiser import TalkingDenoiser, WindowTransformer
from affetto.generators.portrait.full.pipeline import DiceTalkPipeline
from affetto.generators.portrait.full.synchro_denoiser import SynchroDenoiser
from affetto.generators.portrait.full.synchro_emotion import EmotionFusion
from affetto.generators.portrait.full.synchro_judge import LatentJudge
from affetto.generators.portrait.full.synchro_pipeline import SceneText, reference_for
from affetto.generators.portrait.full.synchro_weights import SynchroWeights
from affetto.generators.portrait.full.talking_data import draw_batch, read_prepared, seen_clips
from affetto.generators.portrait.full.talking_objectives import (
    JudgeObjective,
    TalkingDropout,
    TalkingObjective,
    TalkingWeights,
)
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.runtime.stages import StagedTraining, StageOptions

RECIPE_FILE = "talking.json"
_ADAPTER = ".processor."


@dataclass(frozen=True, kw_only=True)
class TalkingRecipe:
    """What may be changed; `talking.json` beside the clips holds any of these as JSON.

    `start` is `dice-talk` (pulled) or a folder of `save_pretrained`, `text_encoder` the folder of a CLIP text model for
    the scenes' descriptions (empty: none are used), `shares` the judge's and the denoiser's part of the time, `steps` a
    limit for each stage (0: none).
    """

    start: str = "dice-talk"
    text_encoder: str = ""
    frames: int = 14
    batch: int = 1
    accumulate: int = 8
    rate: float = 1e-5
    judge_rate: float = 1e-4
    clip: float = 1.0
    judge_width: int = 128
    weights: TalkingWeights = field(default_factory=TalkingWeights)
    dropout: TalkingDropout = field(default_factory=TalkingDropout)
    shares: tuple[float, float] = (0.1, 0.9)
    steps: int = 0
    precision: str = "auto"
    checkpointing: bool = True

    def __post_init__(self) -> None:
        if self.frames < 2 or self.batch < 1:
            raise UsageError(f"frames {self.frames} and batch {self.batch}: use at least 2 frames and 1 clip")
        if len(self.shares) != 2 or min(self.shares) < 0 or self.shares[1] <= 0:
            raise UsageError("shares need two numbers: the judge's and the denoiser's part of the time")

    @classmethod
    def beside(cls, data: str | Path) -> "TalkingRecipe":
        """The recipe in the data's folder, or the defaults; raises InvalidInputError for unknown or wrong entries."""
        path = Path(data) / RECIPE_FILE
        if not path.is_file():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            for name, kind in (("weights", TalkingWeights), ("dropout", TalkingDropout)):
                if name in values:
                    values[name] = kind(**values[name])
            if "shares" in values:
                values["shares"] = tuple(float(each) for each in values["shares"])
            return cls(**values)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"{path}: is no recipe ({error}): see docs/portrait-full.md") from error


def train_portrait_synchro(
    data: str | Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    recipe: TalkingRecipe | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Train SynchroRaMa on top of DICE-Talk: also the fusion, the scene's slot and the ReferenceNet; see below."""
    return _train(
        data, output, whole=True, seconds=seconds, seed=seed, resume=resume, device=device, recipe=recipe,
        progress=progress, cancel=cancel,
    )  # fmt: skip


def train_portrait_dice(
    data: str | Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    recipe: TalkingRecipe | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Train DICE-Talk's adapters, projections and bank on prepared videos for `seconds` at most; losses come back.

    What the frozen networks see of the clips, and checkpoints from which `resume` goes on, lie in `<output stem>-work`.
    """
    return _train(
        data, output, whole=False, seconds=seconds, seed=seed, resume=resume, device=device, recipe=recipe,
        progress=progress, cancel=cancel,
    )  # fmt: skip


def _train(
    data: str | Path,
    output: Path,
    *,
    whole: bool,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    recipe: TalkingRecipe | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    if seconds <= 0:
        raise UsageError(f"training needs a positive time budget, got {seconds:g} s")
    recipe = recipe or TalkingRecipe.beside(data)
    clips = read_prepared(data)
    work = Path(output).with_name(f"{Path(output).stem}-work")
    training = StagedTraining(
        work, seed=seed, device=device, precision=recipe.precision, accumulate=recipe.accumulate, progress=progress,
        cancel=cancel,
    )  # fmt: skip
    if not resume and training.is_main:
        shutil.rmtree(work / "state", ignore_errors=True)
    pipe = DiceTalkPipeline.from_pretrained(recipe.start, device=training.device, dtype="fp32")
    with training.accelerator.main_process_first():
        seen = seen_clips(clips, pipe, work / "seen", progress=progress, cancel=cancel)
    scenes = _scenes([clip.scene for clip in clips], recipe, pipe, training.device)
    trainer = TalkingTrainer(recipe, training, pipe, whole=whole)
    draw = functools.partial(_draw, clips, seen, scenes, recipe)
    report: dict[str, Any] = {"clips": len(clips)} | trainer.run(draw, seconds)
    if training.is_main:
        notes = {"seed": str(seed), **{key: str(value) for key, value in report.items()}}
        trainer.weights(notes).save(output)
    return report


def _draw(
    clips: Any, seen: Any, scenes: Any, recipe: TalkingRecipe, rng: np.random.Generator
) -> Sequence[Tensor]:
    return draw_batch(clips, seen, scenes, size=recipe.batch, frames=recipe.frames, rng=rng).tensors()


def _scenes(
    descriptions: Sequence[str], recipe: TalkingRecipe, pipe: DiceTalkPipeline, device: torch.device
) -> list[Tensor]:
    """The tokens of each description; one token of zeros without an encoder."""
    width = int(pipe.unet.config["cross_attention_dim"])
    if not recipe.text_encoder:
        return [torch.zeros(1, width) for _ in descriptions]
    encoder = SceneText(recipe.text_encoder, device=device)
    if encoder.width != width:
        raise UsageError(
            f"{recipe.text_encoder}: its tokens are {encoder.width} wide, the denoiser takes {width}"
        )
    return [encoder(text).cpu() for text in descriptions]


class TalkingTrainer:
    """Trains the judge, then what there is to train of the denoiser and about it."""

    def __init__(
        self, recipe: TalkingRecipe, training: StagedTraining, pipe: DiceTalkPipeline, *, whole: bool
    ) -> None:
        self.recipe, self.training, self.pipe = recipe, training, pipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.denoiser: TalkingDenoiser = SynchroDenoiser.from_dice(pipe.unet) if whole else pipe.unet
            inputs = int(pipe.emotion_model.bank.config.inputs)
            self.fusion = EmotionFusion(outputs=inputs) if whole else None
            self.reference = (
                reference_for(self.denoiser) if isinstance(self.denoiser, SynchroDenoiser) else None
            )
            speech = pipe.speech.encoder.config
            self.judge = LatentJudge(
                width=recipe.judge_width,
                states=int(speech.d_model) * (int(speech.encoder_layers) + 1),
                embedding=int(pipe.image_encoder.config.projection_dim),
            )
        for module in (self.denoiser, self.fusion, self.reference, self.judge):
            if module is not None:
                cast(nn.Module, module).to(training.device)
        if recipe.checkpointing:
            save_activations(self.denoiser)
            if self.reference is not None:
                self.reference.unet.enable_gradient_checkpointing()

    def run(self, draw: Any, seconds: float) -> dict[str, Any]:
        """Both stages; the steps and losses of each."""
        recipe, total = self.recipe, sum(self.recipe.shares)
        scaling = float(self.pipe.vae.config.scaling_factor)
        report: dict[str, Any] = {}
        for module in self._everything():
            module.requires_grad_(False)
        judged = recipe.shares[0] > 0
        if judged:
            self.judge.requires_grad_(True)
            options = StageOptions(
                rate=recipe.judge_rate,
                seconds=seconds * recipe.shares[0] / total,
                steps=recipe.steps,
                clip=recipe.clip,
            )
            report |= self.training.stage("judge", JudgeObjective(self.judge, scaling), draw, options)
            self.judge.requires_grad_(False).eval()
        for module in (self.pipe.audio_linear, self.pipe.emotion_model, self.fusion, self.reference):
            if module is not None:
                module.requires_grad_(True)
        for name, value in self.denoiser.named_parameters():
            value.requires_grad_(_ADAPTER in name)
        objective = TalkingObjective(
            self.denoiser, self.pipe.audio_linear, self.pipe.emotion_model, self.pipe.pose_guider, fusion=self.fusion,
            reference=self.reference, judge=self.judge if judged else None, scaling=scaling, weights=recipe.weights,
            dropout=recipe.dropout,
        )  # fmt: skip
        options = StageOptions(
            rate=recipe.rate, seconds=seconds * recipe.shares[1] / total, steps=recipe.steps, clip=recipe.clip
        )
        return report | self.training.stage("talk", objective, draw, options)

    def weights(self, notes: dict[str, str]) -> SynchroWeights:
        """What was trained."""
        return SynchroWeights.of(
            self.denoiser,
            self.pipe.audio_linear,
            self.pipe.emotion_model,
            self.fusion,
            self.reference,
            **notes,
        )

    def _everything(self) -> list[nn.Module]:
        networks = [each for each in self.pipe.components.values() if isinstance(each, nn.Module)]
        own = [self.denoiser, self.fusion, self.reference, self.judge]
        return networks + [each for each in own if each is not None]


def save_activations(denoiser: TalkingDenoiser) -> None:
    """Keep no activations inside the transformers while training: they are computed again when gradients come by."""
    for module in denoiser.modules():
        if isinstance(module, WindowTransformer):
            plain = module.forward

            def forward(*given: Any, _plain: Any = plain, **named: Any) -> Any:
                if not torch.is_grad_enabled():
                    return _plain(*given, **named)
                return checkpoint(_plain, *given, use_reentrant=False, **named)

            cast(Any, module).forward = forward
