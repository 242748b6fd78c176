"""The recipe of the embedded voice embedding, and what it is measured against."""

import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES
from affetto.conditioning.encoders.voice_embedding import (
    WIDTH,
    VoiceNetwork,
    VoiceNetworkConfig,
    network_metadata,
)
from affetto.conditioning.train import concordance
from affetto.conditioning.voice_embedding_data import (
    BURST_TERMS,
    Voices,
    as_tensor,
    load_bursts,
    load_speech,
)
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError, TryAgainError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.weights.store import save_tensors

TEST_SPEAKERS = ("12", "16")
VALIDATION_SPEAKERS = ("03", "14")
HELD_OUT = (*TEST_SPEAKERS, *VALIDATION_SPEAKERS)
TEST_PERSONS = tuple(f"{person:06d}" for person in range(1, 9))
"""EmoGator's people that training does not hear."""


@dataclass(frozen=True, kw_only=True)
class VoiceEmbeddingRecipe:
    """Settings of the training; the defaults made the shipped weights."""

    network: VoiceNetworkConfig = field(default_factory=VoiceNetworkConfig)
    steps: int = 1500
    speech: int = 24  # clips of speech in a batch
    bursts: int = 12
    rate: float = 1.5e-3
    decay: float = 0.05
    smoothing: float = 0.1
    speech_variations: int = 5
    burst_variations: int = 1
    vad_weight: float = 1.0
    burst_weight: float = 0.3
    adversary: float = 0.5  # how strongly the speaker is trained out; 0 leaves it in


class _Heads(nn.Module):
    """What only training asks of an embedding: the bursts' thirty categories, and who speaks (a stack of its own)."""

    def __init__(self, speakers: int, persons: int) -> None:
        super().__init__()
        self.categories = nn.Linear(WIDTH, len(BURST_TERMS))
        self.speaker = nn.Sequential(nn.Linear(WIDTH, 128), nn.GELU(), nn.Linear(128, speakers))
        self.person = nn.Sequential(nn.Linear(WIDTH, 128), nn.GELU(), nn.Linear(128, max(persons, 1)))


@dataclass
class _Run:
    """The state of one training."""

    network: VoiceNetwork
    heads: _Heads
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]
    step: int = 0


def train_voice_embedding(
    data: Path,
    output: Path,
    *,
    seconds: float = 1800.0,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "cpu",
    recipe: VoiceEmbeddingRecipe | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Train on `data` (a folder with emodb/ and emogator/, or EMO-DB's own), write safetensors, return the figures.

    After `seconds` the state goes to a checkpoint beside `output`; `resume` goes on from it and ends in the weights
    that an uninterrupted run gives. Weights are stored in float16.
    """
    recipe = recipe or VoiceEmbeddingRecipe()
    started = time.monotonic()
    place = resolve_device(device)
    spec = recipe.network.spec
    speech = load_speech(Path(data), spec, variations=recipe.speech_variations, seed=seed)
    bursts = load_bursts(Path(data), spec, variations=recipe.burst_variations, seed=seed)
    if not len(speech.rows(HELD_OUT, others=True)) or not len(speech.rows(HELD_OUT)):
        raise InvalidInputError(
            f"{data}: needs speakers to train on and to test on ({', '.join(HELD_OUT)} are held out)"
        )
    run = _fresh(recipe, speech, bursts, seed, place)
    checkpoint = Path(output).with_suffix(".checkpoint")
    if resume:
        _restore(run, checkpoint, recipe, seed)
    while run.step < recipe.steps:
        if time.monotonic() - started >= seconds:
            _store(run, checkpoint, recipe, seed)
            raise TryAgainError(f"{checkpoint}: the time is up at step {run.step}: run again with resume")
        _train_step(run, recipe, speech, bursts, seed)
        if progress is not None and run.step % 20 == 0:
            progress(ProgressEvent(stage="voice-embedding", done=run.step, total=recipe.steps))
    run.network.load_state_dict(run.average)
    network = run.network.to("cpu").eval()
    standardise(network, embed(network, speech)[speech.rows(HELD_OUT, others=True)])
    figures = evaluate(network, speech, bursts)
    metadata = network_metadata(
        network, held_out=json.dumps(HELD_OUT), figures=json.dumps(figures, sort_keys=True), seed=str(seed)
    )
    save_tensors(output, {key: value.half() for key, value in network.state_dict().items()}, metadata)
    checkpoint.unlink(missing_ok=True)
    return figures


def _fresh(
    recipe: VoiceEmbeddingRecipe, speech: Voices, bursts: Voices | None, seed: int, place: torch.device
) -> _Run:
    rows = speech.rows(HELD_OUT, others=True)
    persons = len(set(bursts.speakers)) if bursts else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VoiceNetwork(recipe.network)
        heads = _Heads(len(set(speech.speakers)), persons)
    features = speech.features
    weight = features.active[:, rows, None].float()
    frames = features.frames[:, rows].float()
    mean = (frames * weight).sum((0, 1, 3)) / weight.sum()
    spread = ((frames - mean[:, None]).square() * weight).sum((0, 1, 3)) / weight.sum()
    statistics = features.statistics[:, rows].flatten(0, 1)
    network.frame_mean.copy_(mean)
    network.frame_scale.copy_(spread.clamp_min(1e-6).sqrt())
    network.statistic_mean.copy_(statistics.mean(0))
    network.statistic_scale.copy_(statistics.std(0) + 1e-3)
    network, heads = network.to(place), heads.to(place)
    parameters = [*network.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=recipe.decay)
    return _Run(
        network=network, heads=heads, optimiser=optimiser, average=copy.deepcopy(network.state_dict())
    )


def _train_step(
    run: _Run, recipe: VoiceEmbeddingRecipe, speech: Voices, bursts: Voices | None, seed: int
) -> None:
    # a stream for each step, so that a resumed run draws what an uninterrupted one would
    rng = np.random.default_rng([seed, run.step])
    part = run.step / recipe.steps
    rate = recipe.rate * min(1.0, run.step / 50) * 0.5 * (1 + np.cos(np.pi * part))
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    device = next(run.network.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(rng.integers(2**31)))
        loss = _loss(run, recipe, speech, bursts, rng, part)
        run.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
        run.optimiser.step()
    keep = min(0.998, (1 + run.step) / (10 + run.step))
    for key, value in run.network.state_dict().items():
        run.average[key].lerp_(value, 1 - keep)
    run.step += 1


def _loss(
    run: _Run, recipe: VoiceEmbeddingRecipe, speech: Voices, bursts: Voices | None,
    rng: np.random.Generator, part: float,
) -> Float[Tensor, ""]:  # fmt: skip
    """Classes and VAD of speech and bursts; the speaker's own loss comes back into the embedding reversed."""
    network, heads = run.network.train(), run.heads
    device = next(network.parameters()).device
    force = recipe.adversary * float(2 / (1 + np.exp(-6 * part)) - 1)
    total = torch.zeros((), device=device)
    for voices, count, held in ((speech, recipe.speech, HELD_OUT), (bursts, recipe.bursts, TEST_PERSONS)):
        if voices is None:
            continue
        chosen = _balanced(voices, voices.rows(held, others=True), count, rng)
        frames, active, statistics = voices.batch(chosen, recipe.network.spec, rng)
        noise = torch.from_numpy(rng.standard_normal(statistics.shape)).float()
        statistics = statistics + 0.3 * network.statistic_scale.cpu() * noise
        embedding = network(frames.to(device), active.to(device), statistics.to(device))
        logits, vad = network.judge(network.dropout(embedding))
        classes = as_tensor(voices.classes[chosen]).to(device)
        naming = F.cross_entropy(
            logits, classes, ignore_index=-1, label_smoothing=recipe.smoothing, reduction="sum"
        ) / max(int((voices.classes[chosen] >= 0).sum()), 1)
        placing = (vad - as_tensor(voices.vad[chosen]).to(device)).square().sum(-1).mean()
        loss = naming + recipe.vad_weight * placing
        spoken = voices is speech
        if not spoken:
            categories = as_tensor(voices.categories[chosen]).to(device)
            loss = recipe.burst_weight * (loss + F.cross_entropy(heads.categories(embedding), categories))
        names = sorted(set(voices.speakers))
        speakers = as_tensor(np.array([names.index(voices.speakers[row]) for row in chosen])).to(device)
        # the value of the embedding with its gradient turned round and scaled (Ganin & Lempitsky 2015)
        reversed_ = (1 + force) * embedding.detach() - force * embedding
        guess = (heads.speaker if spoken else heads.person)(F.layer_norm(reversed_, (WIDTH,)))
        total = total + loss + F.cross_entropy(guess, speakers)
    return total


def _balanced(
    voices: Voices, rows: Int[np.ndarray, "row"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "chosen"]:
    sizes = np.bincount(voices.categories[rows]).clip(1)
    weight = sizes[voices.categories[rows]] ** -0.7
    return rng.choice(rows, count, p=weight / weight.sum())


@torch.inference_mode()
def embed(network: VoiceNetwork, voices: Voices) -> Float[Tensor, "clip 256"]:
    """Embeddings of the unaltered clips."""
    features = voices.features
    rows = [
        network(features.frames[0, i : i + 64].float(), features.active[0, i : i + 64], features.statistics[0, i : i + 64])
        for i in range(0, len(voices.speakers), 64)
    ]  # fmt: skip
    return torch.cat(rows)


def standardise(network: VoiceNetwork, embeddings: Float[Tensor, "clip 256"]) -> None:
    """Change the network in place so that these embeddings have mean 0 and deviation 1; the heads answer as before."""
    mean, scale = embeddings.mean(0), embeddings.std(0).clamp_min(1e-4)
    with torch.no_grad():
        for head in (network.classes, network.vad):
            head.bias.add_(head.weight @ mean)
            head.weight.mul_(scale)
        network.join.bias.sub_(mean).div_(scale)
        network.join.weight.div_(scale[:, None])


def evaluate(network: VoiceNetwork, speech: Voices, bursts: Voices | None) -> dict[str, Any]:
    """Recall on unheard speakers beside a linear model and the majority, and how far the speaker can be told."""
    embeddings = embed(network, speech)
    heard = speech.rows(HELD_OUT, others=True)
    with torch.inference_mode():
        logits, vad = network.judge(embeddings)
    figures: dict[str, Any] = {
        "clips": {},
        "uar": {},
        "ccc": {},
        "majority uar": round(1 / len(SPEECH_CLASSES), 4),
    }
    statistics = speech.features.statistics[0]
    named = {
        "network": logits.argmax(-1).detach(),
        "linear on the embedding": _linear_probe(embeddings, speech.classes, heard),
        "linear on the statistics": _linear_probe(statistics, speech.classes, heard),
    }
    for part, held in (("test", TEST_SPEAKERS), ("validation", VALIDATION_SPEAKERS)):
        rows = speech.rows(held)
        figures["clips"][part] = len(rows)
        figures["uar"][part] = {
            name: round(recall_of(guess.numpy()[rows], speech.classes[rows]), 4)
            for name, guess in named.items()
        }
        place = vad.detach().double().numpy()[rows]
        figures["ccc"][part] = [round(concordance(place[:, k], speech.vad[rows][:, k]), 4) for k in range(3)]
    figures["speaker"] = {
        "embedding": speaker_leakage(embeddings, speech),
        "statistics": speaker_leakage(statistics, speech),
        "chance": round(1 / len(set(speech.speakers)), 4),
    }
    if bursts is not None:
        rows = bursts.rows(TEST_PERSONS)
        with torch.inference_mode():
            _, place = network.judge(embed(network, bursts)[rows])
        figures["bursts"] = {
            "clips": len(rows),
            "ccc": [
                round(concordance(place.double().numpy()[:, k], bursts.vad[rows][:, k]), 4) for k in range(3)
            ],
        }
    return figures


def recall_of(predicted: Int[np.ndarray, "clip"], classes: Int[np.ndarray, "clip"]) -> float:
    """The unweighted average recall over the classes that occur."""
    return float(np.mean([(predicted[classes == k] == k).mean() for k in np.unique(classes)]))


def speaker_leakage(embeddings: Float[Tensor, "clip width"], speech: Voices) -> dict[str, float]:
    """How often a linear probe names the speaker among all of EMO-DB's: two-fold over each speaker's clips in turn.

    `all` over every clip; `unheard` among the held-out speakers only, whom no training heard.
    """
    names = sorted(set(speech.speakers))
    speakers = np.array([names.index(speaker) for speaker in speech.speakers])
    result = {}
    for part, rows in (("all", np.arange(len(speakers))), ("unheard", speech.rows(HELD_OUT))):
        folds = np.arange(len(rows)) // 4 % 2  # takes of one sentence stay mostly together
        right = 0
        for fold in range(2):
            guess = _linear_probe(embeddings, speakers, rows[folds != fold]).numpy()
            right += int((guess[rows[folds == fold]] == speakers[rows[folds == fold]]).sum())
        result[part] = round(right / len(rows), 4)
    return result


def _linear_probe(
    x: Float[Tensor, "clip width"], labels: Int[np.ndarray, "clip"], heard: Int[np.ndarray, "row"],
    *, penalty: float = 3e-3,
) -> Int[Tensor, "clip"]:  # fmt: skip
    """What a class-balanced logistic regression, fitted to the `heard` clips, answers for every clip."""
    train = x[heard].detach().double()
    mean, scale = train.mean(0), train.std(0, correction=min(1, len(train) - 1)) + 1e-6
    scaled = (x.detach().double() - mean) / scale
    target = as_tensor(labels[heard])
    count = int(labels.max()) + 1
    balance = torch.bincount(target, minlength=count).clamp_min(1).double().reciprocal()
    weight = balance[target] / balance[target].mean()
    theta = torch.zeros(x.shape[1] + 1, count, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        guess = scaled[heard] @ theta[:-1] + theta[-1]
        loss = (weight * F.cross_entropy(guess, target, reduction="none")).mean()
        loss = loss + penalty * theta[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return (scaled @ theta[:-1] + theta[-1]).argmax(-1).detach()


def _store(run: _Run, path: Path, recipe: VoiceEmbeddingRecipe, seed: int) -> None:
    state: Mapping[str, Any] = {
        "network": run.network.state_dict(), "heads": run.heads.state_dict(), "average": run.average,
        "optimiser": run.optimiser.state_dict(), "step": run.step, "recipe": repr(recipe), "seed": seed,
    }  # fmt: skip
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def _restore(run: _Run, path: Path, recipe: VoiceEmbeddingRecipe, seed: int) -> None:
    if not path.is_file():
        raise InvalidInputError(f"{path}: no checkpoint to resume from: run without resume")
    state = torch.load(path, weights_only=True)
    if state.get("recipe") != repr(recipe) or state.get("seed") != seed:
        raise InvalidInputError(f"{path}: belongs to other settings or another seed: run without resume")
    run.network.load_state_dict(state["network"])
    run.heads.load_state_dict(state["heads"])
    run.optimiser.load_state_dict(state["optimiser"])
    run.average, run.step = state["average"], state["step"]
