"""The recipe of the embedded speech encoder, and what it is measured against."""

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from affetto.conditioning.encoders.speech import CLASS_VAD, SpeechEnsemble, ensemble_metadata
from affetto.conditioning.encoders.speech_network import (
    SPEECH_CLASSES,
    LinearReader,
    SpeechNetwork,
    SpeechNetworkConfig,
)
from affetto.conditioning.train_data import SpeechClips, SpeechFeatures, clip_features, disturbed, load_clips
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError, TryAgainError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.weights.store import save_tensors

TEST_SPEAKERS = ("12", "16")
"""Never heard in training or when choosing settings."""

VALIDATION_SPEAKERS = ("03", "14")
"""Held out while the settings were chosen; the shipped weights hear them."""


@dataclass(frozen=True, kw_only=True)
class SpeechRecipe:
    """Settings of the training; the defaults made the shipped weights."""

    network: SpeechNetworkConfig = field(
        default_factory=lambda: SpeechNetworkConfig(width=64, embedding=64, dropout=0.4)
    )
    members: int = 2
    epochs: int = 80
    batch: int = 32
    rate: float = 2e-3
    decay: float = 0.05
    smoothing: float = 0.1
    variations: int = 6
    vad_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SpeechScores:
    """How well emotions are recognised: unweighted average recall, and concordance of V, A and D."""

    uar: float
    recall: Mapping[str, float]
    ccc: tuple[float, float, float]
    clips: int


def train_speech_emotion(
    data: Path,
    output: Path,
    *,
    seconds: float = 1200.0,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "cpu",
    recipe: SpeechRecipe | None = None,
    held_out: Sequence[str] = TEST_SPEAKERS,
    on_progress: ProgressCallback | None = None,
) -> dict[str, SpeechScores]:
    """Train on all speakers but `held_out`, write safetensors to `output`, return the scores on the held-out ones.

    The result holds `shipped` (networks and linear model together), and beside it `networks`, `linear` (logistic and
    ridge regression on the same statistics) and `majority`. After `seconds` the state goes to a checkpoint beside `output`; `resume` goes on from it, and a resumed
    run ends in the same weights as an uninterrupted one.
    """
    recipe = recipe or SpeechRecipe()
    started = time.monotonic()
    place = resolve_device(device)
    clips = load_clips(Path(data), recipe.network.spec)
    heard, unheard = clips.rows(held_out, others=True), clips.rows(held_out)
    if not len(heard) or not len(unheard):
        raise InvalidInputError(
            f"{data}: needs speakers to train on and to test on (held out: {', '.join(held_out)})"
        )
    features = clip_features(clips, recipe.network.spec, variations=recipe.variations, seed=seed)
    checkpoint = Path(output).with_suffix(".checkpoint")
    state = _load_checkpoint(checkpoint, recipe, seed) if resume else {"member": 0, "epoch": 0, "done": []}

    def within_budget() -> bool:
        return time.monotonic() - started < seconds

    members: list[SpeechNetwork] = []
    for member in range(recipe.members):
        network = _fresh(recipe, features, heard, [seed, member]).to(place)
        if member < len(state["done"]):
            network.load_state_dict(state["done"][member])
        else:
            begun = state if state["member"] == member and state["epoch"] else None
            finished = _train_member(
                network, features, clips, heard, recipe, [seed, member], begun, within_budget, on_progress
            )
            if finished is not None:
                finished |= {"member": member, "done": [m.state_dict() for m in members], "seed": seed}
                _save_checkpoint(checkpoint, finished, recipe)
                raise TryAgainError(
                    f"{checkpoint}: the time is up at epoch {finished['epoch']} of member {member + 1}: "
                    "run again with resume"
                )
        members.append(network.eval())
    ensemble = SpeechEnsemble(recipe.network, recipe.members)
    ensemble.members = torch.nn.ModuleList(members)
    ensemble.linear = fit_linear(features, clips, heard, recipe.network)
    ensemble.to("cpu").eval()
    scores = evaluate(ensemble, features, clips, heard, unheard)
    summary = {
        name: {"uar": round(s.uar, 4), "ccc": [round(c, 4) for c in s.ccc]} for name, s in scores.items()
    }
    metadata = ensemble_metadata(
        ensemble, held_out=json.dumps(list(held_out)), scores=json.dumps(summary), seed=str(seed)
    )
    save_tensors(output, ensemble.state_dict(), metadata)
    checkpoint.unlink(missing_ok=True)
    return scores


def _fresh(
    recipe: SpeechRecipe, features: SpeechFeatures, rows: Int[np.ndarray, "row"], seed: list[int]
) -> SpeechNetwork:
    """An untrained network, its input scaled by what the training clips hold."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**31)))
        network = SpeechNetwork(recipe.network)
    count, total, square = (
        0.0,
        torch.zeros(recipe.network.spec.channels),
        torch.zeros(recipe.network.spec.channels),
    )
    for variation in range(len(features.frames)):
        frames, weight = (
            features.frames[variation, rows].float(),
            features.active[variation, rows, None].float(),
        )
        count += float(weight.sum())
        total += (frames * weight).sum((0, 2))
        square += (frames.square() * weight).sum((0, 2))
    network.frame_mean.copy_(total / count)
    network.frame_scale.copy_((square / count - (total / count).square()).clamp_min(1e-6).sqrt())
    statistics = features.statistics[:, rows].flatten(0, 1)
    network.statistic_mean.copy_(statistics.mean(0))
    network.statistic_scale.copy_(statistics.std(0) + 1e-3)
    return network


def _train_member(
    network: SpeechNetwork,
    features: SpeechFeatures,
    clips: SpeechClips,
    rows: Int[np.ndarray, "row"],
    recipe: SpeechRecipe,
    seed: list[int],
    begun: dict | None,
    within_budget: Callable[[], bool],
    on_progress: ProgressCallback | None,
) -> dict | None:
    """Train one network in place to its averaged weights; what to resume from when the budget ends before."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    average = copy.deepcopy(network.state_dict())
    start = 0
    if begun is not None:
        network.load_state_dict(begun["weights"])
        optimiser.load_state_dict(begun["optimiser"])
        average, start = begun["average"], begun["epoch"]
    steps = max(1, len(rows) // recipe.batch)
    device = next(network.parameters()).device
    for epoch in range(start, recipe.epochs):
        if not within_budget():
            return {
                "epoch": epoch, "weights": network.state_dict(), "average": average,
                "optimiser": optimiser.state_dict(),
            }  # fmt: skip
        # a stream for each epoch, so that a resumed run draws what an uninterrupted one would
        rng = np.random.default_rng([*seed, epoch])
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**31)))
            for step in range(steps):
                done = epoch * steps + step
                warm = min(1.0, done / 50)
                for group in optimiser.param_groups:
                    group["lr"] = (
                        recipe.rate * warm * 0.5 * (1 + np.cos(np.pi * done / (recipe.epochs * steps)))
                    )
                loss = _loss(network.train(), features, clips, rows, recipe, rng)
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimiser.step()
                keep = min(0.998, (1 + done) / (10 + done))
                for key, value in network.state_dict().items():
                    average[key].lerp_(value, 1 - keep)
        if on_progress is not None:
            stage = f"speech-emotion {seed[-1] + 1}/{recipe.members}"
            on_progress(ProgressEvent(stage=stage, done=epoch + 1, total=recipe.epochs))
    network.load_state_dict(average)
    return None


def _loss(
    network: SpeechNetwork,
    features: SpeechFeatures,
    clips: SpeechClips,
    rows: Int[np.ndarray, "row"],
    recipe: SpeechRecipe,
    rng: np.random.Generator,
) -> Float[Tensor, ""]:
    """Smoothed and class-balanced cross-entropy plus the squared error of VAD, on a random batch."""
    device = next(network.parameters()).device
    chosen = rng.choice(rows, recipe.batch)
    variation = rng.integers(0, len(features.frames), recipe.batch)
    active = features.active[variation, chosen]
    frames = disturbed(features.frames[variation, chosen].float(), active, recipe.network.spec, rng)
    statistics = features.statistics[variation, chosen].to(device)
    jitter = torch.from_numpy(rng.standard_normal(statistics.shape)).float().to(device)
    statistics = statistics + 0.3 * network.statistic_scale * jitter
    logits, vad = network(frames.to(device), active.to(device), statistics)
    labels = torch.from_numpy(clips.labels[chosen]).to(device)
    counts = np.bincount(clips.labels[rows], minlength=len(SPEECH_CLASSES)).clip(1)
    balance = torch.from_numpy((counts.mean() / counts) ** 0.7).float().to(device)
    target = torch.from_numpy(CLASS_VAD[clips.labels[chosen]]).float().to(device)
    weight = balance[labels]
    naming = F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing, reduction="none")
    placing = (vad - target).square().sum(-1)
    return (weight * (naming + recipe.vad_weight * placing)).mean()


def cross_validate(
    data: Path, folds: Sequence[Sequence[str]], *, seed: int = 0, recipe: SpeechRecipe | None = None
) -> dict[str, SpeechScores]:
    """Scores over all folds together, each fold's speakers unheard by the network and the linear model of that fold."""
    recipe = recipe or SpeechRecipe()
    clips = load_clips(Path(data), recipe.network.spec)
    features = clip_features(clips, recipe.network.spec, variations=recipe.variations, seed=seed)
    answers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    labels = []
    for speakers in folds:
        heard, unheard = clips.rows(speakers, others=True), clips.rows(speakers)
        ensemble = SpeechEnsemble(recipe.network, recipe.members)
        for member in range(recipe.members):
            network = _fresh(recipe, features, heard, [seed, member])
            _train_member(network, features, clips, heard, recipe, [seed, member], None, lambda: True, None)
            ensemble.members[member] = network
        ensemble.linear = fit_linear(features, clips, heard, recipe.network)
        for name, answer in _answers(ensemble.eval(), features, clips, heard, unheard).items():
            answers.setdefault(name, []).append(answer)
        labels.append(clips.labels[unheard])
    joined = np.concatenate(labels)
    return {
        name: score(np.concatenate([k for k, _ in parts]), np.concatenate([v for _, v in parts]), joined)
        for name, parts in answers.items()
    }


def evaluate(
    ensemble: SpeechEnsemble,
    features: SpeechFeatures,
    clips: SpeechClips,
    heard: Int[np.ndarray, "row"],
    unheard: Int[np.ndarray, "other"],
) -> dict[str, SpeechScores]:
    """Scores on the `unheard` clips, unaltered: all together, the networks, the linear model, the majority class."""
    answers = _answers(ensemble, features, clips, heard, unheard)
    return {name: score(classes, vad, clips.labels[unheard]) for name, (classes, vad) in answers.items()}


def _answers(
    ensemble: SpeechEnsemble,
    features: SpeechFeatures,
    clips: SpeechClips,
    heard: Int[np.ndarray, "row"],
    unheard: Int[np.ndarray, "other"],
) -> dict[str, tuple[Int[np.ndarray, "other"], Float[np.ndarray, "other 3"]]]:
    """Classes and VAD of the `unheard` clips by each contender."""
    inputs = (
        features.frames[0, unheard].float(),
        features.active[0, unheard],
        features.statistics[0, unheard],
    )
    with torch.inference_mode():
        outputs = [member(*inputs) for member in ensemble.members]
        networks = torch.stack([logits.softmax(-1) for logits, _ in outputs]).mean(0).argmax(-1).numpy()
        place = torch.stack([vad for _, vad in outputs]).mean(0).numpy()
        linear, linear_place = ensemble.linear(inputs[2])
        shipped, shipped_place = ensemble.judge(*inputs)
    common = int(np.bincount(clips.labels[heard]).argmax())
    constant = np.repeat(CLASS_VAD[clips.labels[heard]].mean(0)[None], len(unheard), axis=0)
    return {
        "shipped": (shipped.argmax(-1).numpy(), shipped_place.numpy()),
        "networks": (networks, place),
        "linear": (linear.argmax(-1).numpy(), linear_place.numpy()),
        "majority": (np.full(len(unheard), common), constant),
    }


def score(
    predicted: Int[np.ndarray, "clip"], vad: Float[np.ndarray, "clip 3"], labels: Int[np.ndarray, "clip"]
) -> SpeechScores:
    """Recall of each class, their mean, and the concordance of the VAD with the classes' places."""
    recall = {SPEECH_CLASSES[k]: float((predicted[labels == k] == k).mean()) for k in np.unique(labels)}
    truth = CLASS_VAD[labels]
    valence, arousal, dominance = (concordance(vad[:, axis], truth[:, axis]) for axis in range(3))
    ccc = (valence, arousal, dominance)
    return SpeechScores(uar=float(np.mean(list(recall.values()))), recall=recall, ccc=ccc, clips=len(labels))


def concordance(x: Float[np.ndarray, "item"], y: Float[np.ndarray, "item"]) -> float:
    """Lin's concordance 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), in [-1, 1]; 0 when one is constant."""
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / spread) if spread > 0 else 0.0


def fit_linear(
    features: SpeechFeatures,
    clips: SpeechClips,
    heard: Int[np.ndarray, "row"],
    config: SpeechNetworkConfig,
    *,
    penalty: float = 3e-3,
) -> LinearReader:
    """Multinomial logistic regression of the classes and ridge regression of VAD on the statistics.

    It hears the same altered copies as the networks, classes balanced.
    """
    x = features.statistics[:, heard].flatten(0, 1).double()
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / scale
    labels = torch.from_numpy(np.tile(clips.labels[heard], len(features.statistics)))
    balance = torch.bincount(labels, minlength=len(SPEECH_CLASSES)).clamp_min(1).double().reciprocal()
    weight = balance[labels] / balance[labels].mean()
    theta = torch.zeros(x.shape[1] + 1, len(SPEECH_CLASSES), dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (weight * F.cross_entropy(x @ theta[:-1] + theta[-1], labels, reduction="none")).mean()
        loss = loss + penalty * theta[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    target = torch.from_numpy(CLASS_VAD)[labels]
    ridge = 0.1 * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    slopes = torch.linalg.solve(x.T @ x + ridge, x.T @ (target - target.mean(0)))
    reader = LinearReader(config)
    with torch.no_grad():
        reader.statistic_mean.copy_(mean)
        reader.statistic_scale.copy_(scale)
        reader.logits.weight.copy_(theta[:-1].T)
        reader.logits.bias.copy_(theta[-1])
        reader.vad.weight.copy_(slopes.T)
        reader.vad.bias.copy_(target.mean(0))
    return reader.eval()


def _save_checkpoint(path: Path, state: dict, recipe: SpeechRecipe) -> None:
    with atomic_path(path) as temporary:
        torch.save(state | {"recipe": repr(recipe)}, temporary)


def _load_checkpoint(path: Path, recipe: SpeechRecipe, seed: int) -> dict:
    if not path.is_file():
        raise InvalidInputError(f"{path}: no checkpoint to resume from: run without resume")
    state = torch.load(path, weights_only=True)
    if state.get("recipe") != repr(recipe) or state.get("seed") != seed:
        raise InvalidInputError(f"{path}: belongs to other settings or another seed: run without resume")
    return state
