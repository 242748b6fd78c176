"""Trains the content network: `affetto train face-content`.

The recipe: EMO-DB's hand-made labels and two synthesisers teach a first network; it aligns two more recorded corpora
to their texts; the network that ships is trained on all of them.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from affetto.runtime.device import resolve_device
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.speech.content_data import (
    COVER,
    IGNORED,
    WORST_SCORE,
    ClipStore,
    aligned,
    babble_of,
    corpus_texts,
    espeak_clips,
    flite_clips,
    noise_clips,
    sentence_clips,
    versions,
    write_shard,
)
from affetto.speech.content_net import ContentConfig, ContentEncoder
from affetto.speech.corpus import read_emodb
from affetto.speech.phones import PHONE_INDEX, PHONES, SILENCE
from affetto.speech.reader import ContentReader
from affetto.speech.texts import SENTENCES
from affetto.weights.store import read_arrays, save_tensors


@dataclass(frozen=True, kw_only=True)
class ContentRecipe:
    """What the training run does; the seconds it may take are asked for separately."""

    seconds: float = 5_400.0
    crop_s: tuple[float, ...] = (2.0, 2.8, 4.0)
    batch_s: float = 48.0  # seconds of sound in a step
    peak_rate: float = 1e-3
    warmup_share: float = 0.04
    smoothing: float = 0.05
    closure_weight: float = 4.0
    closure_positive: float = 2.0
    aligner_share: float = 0.2  # of the time, for the network that aligns the corpora without phone labels
    copies: Mapping[str, int] = field(
        default_factory=lambda: {
            "emodb": 4,
            "english_kathleen": 3,
            "german_kerstin": 3,
            "flite": 1,
            "espeak": 1,
        }
    )
    share: Mapping[str, float] = field(
        default_factory=lambda: {"emodb": 0.8, "english_kathleen": 2.5, "german_kerstin": 2.5, "flite": 1.3}
    )


def content_loss(
    outputs: tuple[Tensor, Tensor, Tensor, Tensor], batch: dict[str, Tensor], recipe: ContentRecipe
) -> tuple[Tensor, dict[str, float]]:
    """The training loss and its parts; padding and uncertain frames do not count."""
    _, phone_logits, closure_logits, speaking_logits = outputs
    phones, closed = batch["phones"], batch["closed"]
    naming = F.cross_entropy(
        rearrange(phone_logits.float(), "b t p -> (b t) p"),
        rearrange(phones, "b t -> (b t)"),
        ignore_index=IGNORED,
        label_smoothing=recipe.smoothing,
    )
    known = closed != IGNORED
    target = closed.clamp(max=COVER).float() / COVER
    weight = known * (1.0 + (recipe.closure_positive - 1.0) * target)
    shutting = F.binary_cross_entropy_with_logits(closure_logits.float(), target, reduction="none")
    shutting = (shutting * weight).sum() / weight.sum().clamp_min(1.0)
    named = phones != IGNORED
    talking = (phones != PHONE_INDEX[SILENCE]).float()
    speaking = F.binary_cross_entropy_with_logits(speaking_logits.float(), talking, reduction="none")
    speaking = (speaking * named).sum() / named.sum().clamp_min(1)
    total = naming + recipe.closure_weight * shutting + 0.3 * speaking
    return total, {"phone": naming.item(), "closure": shutting.item(), "speaking": speaking.item()}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training run stands."""

    step: int
    fraction: float
    losses: dict[str, float]


def rate_at(fraction: float, recipe: ContentRecipe) -> float:
    """The learning rate after this fraction 0..1 of the time: a short rise, then half a cosine down to a hundredth."""
    if fraction < recipe.warmup_share:
        return recipe.peak_rate * max(fraction / recipe.warmup_share, 0.02)
    along = (min(fraction, 1.0) - recipe.warmup_share) / (1.0 - recipe.warmup_share)
    return recipe.peak_rate * (0.01 + 0.99 * 0.5 * (1.0 + float(np.cos(np.pi * along))))


def fit(
    store: ClipStore,
    config: ContentConfig,
    recipe: ContentRecipe,
    *,
    seconds: float,
    seed: int,
    checkpoint: Path,
    resume: bool,
    device: torch.device,
) -> Iterator[tuple[Progress, ContentEncoder]]:
    """Train for `seconds`, yielding the averaged network about every two minutes and at the end.

    `checkpoint` (safetensors, with the averages and the clock) is rewritten as often; `resume` continues from it with
    a fresh optimiser state.
    """
    rng = np.random.default_rng(seed)
    torch_rng_state = torch.random.get_rng_state()
    torch.manual_seed(seed)  # initial weights and dropout; put back below
    network = ContentEncoder(config).to(device)
    spent, step = 0.0, 0
    if resume and checkpoint.exists():
        spent, step = load_checkpoint(checkpoint, network)
    begun = step
    average = ContentEncoder(config).to(device)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.peak_rate, betas=(0.9, 0.98), weight_decay=0.02
    )
    network.train()
    saved, tick, losses = spent, time.monotonic(), {}
    while spent < seconds:
        for group in optimiser.param_groups:
            group["lr"] = rate_at(spent / seconds, recipe) * min(1.0, (step - begun + 1) / 50.0)
        crop_s = float(rng.choice(recipe.crop_s))
        drawn = store.batch(rng, round(recipe.batch_s / crop_s), crop_s)
        batch = {name: tensor.to(device) for name, tensor in drawn.items()}
        with torch.autocast(device.type, dtype=torch.bfloat16):
            outputs = network(batch["mels"], batch["present"])
        loss, parts = content_loss(outputs, batch, recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            decay = min(0.997, (1.0 + step) / (10.0 + step))
            for mean, newest in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(newest, 1.0 - decay)
        losses = {name: 0.98 * losses.get(name, value) + 0.02 * value for name, value in parts.items()}
        now = time.monotonic()
        spent, tick = spent + now - tick, now
        if spent - saved > 120.0 or spent >= seconds:
            saved = spent
            save_checkpoint(checkpoint, average, spent, step)
            average.eval()
            yield Progress(step=step, fraction=spent / seconds, losses=losses), average
            tick = time.monotonic()
    torch.random.set_rng_state(torch_rng_state)


def save_checkpoint(path: Path, network: ContentEncoder, spent: float, step: int) -> None:
    """Write the network in half precision with its sizes, the seconds spent and the steps done in the header."""
    tensors = {
        name: tensor.detach().to("cpu", torch.float16) for name, tensor in network.state_dict().items()
    }
    clock = {"spent": f"{spent:.0f}", "step": str(step)}
    save_tensors(path, tensors, {**network.config.to_metadata(), "phone_names": " ".join(PHONES), **clock})


def load_checkpoint(path: Path, network: ContentEncoder) -> tuple[float, int]:
    """Fill `network` from a checkpoint; returns the seconds spent and the steps done."""
    arrays, metadata = read_arrays(path)
    network.load_state_dict({name: torch.from_numpy(values).float() for name, values in arrays.items()})
    return float(metadata.get("spent", 0.0)), int(metadata.get("step", 0))


def train_content(
    data: Path,
    output: Path,
    *,
    seconds: float | None = None,
    seed: int = 0,
    resume: Path | bool | None = None,
    device: str | torch.device = "auto",
    callback: ProgressCallback | None = None,
) -> dict[str, float]:
    """Train the content network on the corpora in `data` and write its weights to `output`; returns the last losses.

    Shards and checkpoints stay in the folder `<output stem>-work` beside it; `resume` goes on from those. Needs flite
    on the path and espeak-ng (`pip install affetto[tts]`).
    """
    recipe, config, where = ContentRecipe(), ContentConfig(), resolve_device(device)
    seconds = seconds or recipe.seconds
    work = output.parent / f"{output.stem}-work"
    work.mkdir(exist_ok=True)
    first = spoken_shards(data, work, recipe, seed=seed)
    aligner, final = work / "aligner.safetensors", work / "final.safetensors"
    aligner_s = seconds * recipe.aligner_share
    run = partial(fit, config=config, recipe=recipe, device=where)
    steps = run(
        ClipStore(first, recipe.share), seconds=aligner_s, seed=seed, checkpoint=aligner, resume=bool(resume)
    )
    _follow(steps, "aligner", callback)
    if not (resume and final.exists()):
        shutil.copyfile(aligner, final)  # the final network goes on where the aligner stopped, clock included
    shards = [*first, *read_shards(data, work, recipe, seed)]
    steps = run(
        ClipStore(shards, recipe.share), seconds=seconds, seed=seed + 1, checkpoint=final, resume=True
    )
    losses = _follow(steps, "final", callback)
    arrays, metadata = read_arrays(final)
    save_tensors(output, arrays, {name: value for name, value in metadata.items() if name != "spent"})
    return losses


def _follow(
    steps: Iterable[tuple[Progress, ContentEncoder]], stage: str, callback: ProgressCallback | None
) -> dict[str, float]:
    losses: dict[str, float] = {}
    for progress, _ in steps:
        losses = progress.losses
        parts = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        if callback is not None:
            done = round(100 * progress.fraction)
            callback(
                ProgressEvent(stage=stage, done=done, total=100, message=f"step {progress.step}: {parts}")
            )
    return losses


def spoken_shards(data: Path, work: Path, recipe: ContentRecipe, *, seed: int) -> list[Path]:
    """The shards whose phone times are known from the start; only missing ones are made."""
    babble = babble_of(data)
    lines = corpus_texts(data)
    makers = {
        "emodb": lambda: read_emodb(data / "speech" / "emodb"),
        "flite": lambda: flite_clips([*lines["en-us"], *SENTENCES["en-us"]], 500, seed=seed),
        "espeak": lambda: espeak_clips(lines, 2800, seed=seed),
        "noise": lambda: noise_clips(60, seed=seed),
    }
    paths = []
    for name, make in makers.items():
        path = work / f"{name}.npz"
        if not path.exists():
            write_shard(path, versions(make(), recipe.copies, seed=seed, babble=babble))
        paths.append(path)
    return paths


def read_shards(data: Path, work: Path, recipe: ContentRecipe, seed: int) -> list[Path]:
    """The shard of the recorded sentences, aligned to their texts by the first network; made when missing."""
    path = work / "aligned.npz"
    if not path.exists():
        reader = ContentReader.from_pretrained(work / "aligner.safetensors", device="auto")
        clips = [clip for clip, score in aligned(sentence_clips(data), reader) if score > WORST_SCORE]
        write_shard(path, versions(clips, recipe.copies, seed=seed, babble=babble_of(data)))
    return [path]
