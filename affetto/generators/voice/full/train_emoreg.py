"""The recipe behind `affetto train voice-emoreg`: average-voice encoder, embedding head, score decoder, directions.

Runs on one device as it is, and on several under `accelerate launch`.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from affetto.generators.voice.full.emoreg_data import Utterance, crops, read_utterances
from affetto.generators.voice.full.emoreg_weights import EmoRegWeights
from affetto.generators.voice.full.norms import frame_mask
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.runtime.stages import StagedTraining, StageOptions
from affetto.weights.registry import REGISTRY
from affetto.weights.store import weight_path
from affetto.weights.tensors import check_layout, read_checkpoint

KEEP = 0.95
"""Share of the embeddings' variance in whose principal axes directions are kept; EmoReg does not tell its own."""

RECIPE_FILE = "emoreg.json"


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
    clips = read_corpus(data)
    work = Path(output).with_name(f"{Path(output).stem}-work")
    work.mkdir(parents=True, exist_ok=True)
    training = StagedTraining(
        work, seed=seed, device=device, precision=recipe.precision, accumulate=recipe.accumulate,
        progress=progress, cancel=cancel,
    )  # fmt: skip
    trainer = EmoRegTrainer(recipe, training)
    with training.accelerator.main_process_first():
        utterances, head = _utterances(clips, recipe, training)
    if not resume:
        shutil.rmtree(work / "state", ignore_errors=True)
    report = trainer.run(utterances, seconds)
    if training.is_main:
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
    clips: Sequence[Any], recipe: EmoRegRecipe, training: StagedTraining
) -> tuple[list[Utterance], nn.Linear | None]:
    """The corpus as training data, and the head trained on it when the embedding is a user's network."""
    reader = open_embedding(recipe.embedding, None, device=training.device, dtype=torch.float32)
    network = reader if isinstance(reader, NetworkEmbedding) else None

    def embed(sound: np.ndarray) -> Tensor:
        return reader([sound])[0] if network is None else network.state(sound).cpu()

    utterances = read_utterances(
        clips,
        embed,
        training.work / "readings",
        tag=recipe.embedding,
        units=recipe.units,
        seed=training.seed,
        progress=training.progress,
    )
    if network is None:
        return utterances, None
    states = torch.from_numpy(np.stack([each.embedding for each in utterances]))
    head = train_head(states, [each.emotion for each in utterances], seed=training.seed)
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
    """Trains the encoder, then the decoder, each for its share of the time."""

    def __init__(self, recipe: EmoRegRecipe, training: StagedTraining) -> None:
        self.recipe, self.training = recipe, training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.network = DiffVC(recipe.network).to(training.device)
        if recipe.start:
            _start_from(self.network, recipe.start)

    def run(self, utterances: Sequence[Utterance], seconds: float) -> dict[str, Any]:
        """Both stages; the mean losses of the first and the last steps of each, and the steps made."""
        recipe, network = self.recipe, self.network

        def heard(rng: np.random.Generator) -> Sequence[Tensor]:
            batch = crops(utterances, size=recipe.batch, frames=recipe.frames, rng=rng)
            return batch.mel, batch.lengths, batch.target

        def spoken(rng: np.random.Generator) -> Sequence[Tensor]:
            batch = crops(utterances, size=recipe.batch, frames=recipe.frames, rng=rng)
            moment = torch.rand(len(batch.mel)).clamp(1e-5, 1.0 - 1e-5)
            noise = torch.randn(batch.mel.shape)
            return (
                batch.mel, batch.lengths, batch.reference, batch.reference_lengths, batch.embedding, moment, noise
            )  # fmt: skip

        def options(rate: float, share: float) -> StageOptions:
            return StageOptions(rate=rate, seconds=share * seconds, steps=recipe.max_steps, clip=recipe.clip)

        network.requires_grad_(False)
        network.encoder.requires_grad_(True)
        report = self.training.stage(
            "encoder", EncoderObjective(network), heard, options(recipe.encoder_rate, recipe.share)
        )
        network.requires_grad_(False)
        network.eval()
        network.decoder.requires_grad_(True)
        return report | self.training.stage(
            "decoder", DecoderObjective(network), spoken, options(recipe.decoder_rate, 1.0 - recipe.share)
        )


def _start_from(network: DiffVC, start: str) -> None:
    """Fill the network with DiffVC weights of the store or of a file."""
    tensors = read_checkpoint(weight_path(start) if start in REGISTRY else Path(start))
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_layout(
        {key: tuple(value.shape) for key, value in tensors.items()}, expected, "DiffVC at these sizes"
    )
    network.load_state_dict({key: value.float() for key, value in tensors.items()})
