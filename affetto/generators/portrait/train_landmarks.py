"""Trains the landmark network on faces that nobody has: `affetto train portrait-landmarks`.

Half the cores draw the pictures into shards, another process learns from those that are there by then. Targets are the head's own
vertices, so no hand marked them; the loss is the negative log-likelihood of a Laplace distribution whose scale the network
gives (Kumar et al. 2020, LUVLi, use a Gaussian or Laplacian in the same way).
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from affetto.generators.portrait.landmark_data import Batch, ShardStore, as_batch, make_shards, write_shard
from affetto.generators.portrait.landmark_net import LandmarkConfig, LandmarkNet, LandmarkOutput
from affetto.generators.portrait.synthetic_shots import Photographer
from affetto.head.model import HeadModel
from affetto.runtime.device import autocast, resolve_device
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.weights.store import read_arrays, save_tensors

HELD_SEED = 7_777_777
HELD = 384


@dataclass(frozen=True, kw_only=True)
class LandmarkRecipe:
    """What the training run does; the seconds it may take are asked for separately."""

    seconds: float = 4_200.0
    shards: int = 160
    first_shards: int = 4  # wait for so many before learning begins
    batch: int = 32
    gpu_batch: int = 64
    sides: tuple[tuple[float, int], ...] = (
        (0.0, 64),
        (0.45, 96),
        (0.8, 112),
    )  # pictures grow at these shares of the time
    peak_rate: float = 2e-3
    decay: float = 0.01
    hidden_weight: float = 0.35  # of points that the head itself hides
    pose_weight: float = 0.5
    presence_weight: float = 0.1
    map_weight: float = 0.3
    map_sigma: float = 1.0  # cells of the map
    average: float = 0.995
    config: LandmarkConfig = field(default_factory=LandmarkConfig)


def landmark_loss(
    output: LandmarkOutput, batch: Batch, recipe: LandmarkRecipe
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """The loss and its parts: Laplace likelihood of the points, pose, presence; absent faces count for presence only."""
    error = (output.points - batch.points).abs()
    likelihood = reduce(
        error / output.log_scale.exp() + output.log_scale + 20.0 * error, "b p xy -> b p", "mean"
    )
    likelihood = likelihood + recipe.map_weight * _map_loss(output, batch, recipe.map_sigma)
    weight = batch.visible + (1.0 - batch.visible) * recipe.hidden_weight
    per_face = (likelihood * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)
    faces = batch.face.sum().clamp_min(1.0)
    points = (per_face * batch.face).sum() / faces
    pose = ((output.pose - batch.pose).abs().sum(dim=1) * batch.face).sum() / faces
    presence = F.binary_cross_entropy_with_logits(output.presence, batch.face)
    total = points + recipe.pose_weight * pose + recipe.presence_weight * presence
    parts = {"nme %": 100.0 * _mean_error(output, batch), "pose": pose.item(), "presence": presence.item()}
    return total, parts


def _map_loss(output: LandmarkOutput, batch: Batch, sigma: float) -> Float[Tensor, "batch 68"]:
    """The cross-entropy of each map with a Gaussian about the true place: it teaches far faster than the mean alone."""
    height, width = output.maps.shape[2:]

    def shares(places: Tensor, cells: int) -> Tensor:
        at = torch.arange(cells, device=places.device) + 0.5
        bell = (-0.5 * ((at - (places * cells).clamp(0.0, cells)[..., None]) / sigma) ** 2).exp()
        return bell / bell.sum(dim=-1, keepdim=True)

    log_share = output.maps.flatten(2).log_softmax(dim=-1).unflatten(2, (height, width))
    across, down = shares(batch.points[..., 0], width), shares(batch.points[..., 1], height)
    return -torch.einsum("bphw,bph,bpw->bp", log_share, down, across)


def _mean_error(output: LandmarkOutput, batch: Batch) -> float:
    """Mean distance between points found and true, in distances between the eyes' outer corners; faces only."""
    with torch.no_grad():
        eyes = (batch.points[:, 36] - batch.points[:, 45]).norm(dim=1).clamp_min(0.05)
        far = (output.points - batch.points).norm(dim=2).mean(dim=1) / eyes
        return float((far * batch.face).sum() / batch.face.sum().clamp_min(1.0))


def train_portrait_landmarks(
    data: Path,
    output: Path,
    *,
    seconds: float | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "auto",
    recipe: LandmarkRecipe | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, float]:
    """Train the landmark network and write its weights to `output`; returns its errors on held-out pictures.

    Pictures are drawn into the folder `data` while the network learns, or found there from an earlier run. The network so
    far lies in `<output stem>-part.safetensors`; `resume` goes on from it with a fresh optimiser.
    """
    recipe = recipe or LandmarkRecipe()
    where = resolve_device(device)
    count = max(1, (os.cpu_count() or 2) // 2)
    painters = [
        multiprocessing.get_context("spawn").Process(
            target=make_shards,
            args=(data,),
            kwargs={"shards": recipe.shards, "seed": seed, "first": first, "stride": count},
            daemon=True,
        )
        for first in range(count)
    ]
    for painter in painters:
        painter.start()
    try:
        network = LandmarkNet(recipe.config)
        part = output.with_name(f"{output.stem}-part.safetensors")
        for event, average in fit(
            data, recipe, seconds=seconds or recipe.seconds, seed=seed, part=part, resume=resume, device=where
        ):
            network = average
            if progress is not None:
                progress(event)
    finally:
        for painter in painters:
            painter.terminate()
            painter.join()
    _save(output, network, {})
    part.unlink(missing_ok=True)
    return measure(network, held_out(data), device=where)


def fit(
    data: Path,
    recipe: LandmarkRecipe,
    *,
    seconds: float,
    seed: int,
    part: Path,
    resume: bool,
    device: torch.device,
) -> Iterator[tuple[ProgressEvent, LandmarkNet]]:
    """Learn for `seconds`, yielding the averaged network about every minute and at the end."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = LandmarkNet(recipe.config).to(device)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # a form torch's stubs lack
    average = LandmarkNet(recipe.config).to(device)
    spent, step = _resumed(part, network) if resume and part.exists() else (0.0, 0)
    average.load_state_dict(network.state_dict())
    store = ShardStore(data)
    while store.notice() < recipe.first_shards:
        time.sleep(1.0)
    size = recipe.gpu_batch if device.type == "cuda" else recipe.batch
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.peak_rate, weight_decay=recipe.decay)
    tick, told, losses = time.monotonic(), spent, {}
    begun = step
    network.train()
    while spent < seconds:
        for group in optimiser.param_groups:
            group["lr"] = _rate(spent / seconds, recipe) * min(1.0, (step - begun + 1) / 40)
        batch = as_batch(store.rows(rng, size), _side(spent / seconds, recipe), rng, device)
        with autocast(device, torch.bfloat16):
            found = network(batch.pictures.contiguous(memory_format=torch.channels_last))
        loss, parts = landmark_loss(found, batch, recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            store.notice()
        _follow(average, network, min(recipe.average, (1 + step) / (10 + step)))
        losses = {name: 0.95 * losses.get(name, value) + 0.05 * value for name, value in parts.items()}
        now = time.monotonic()
        spent, tick = spent + now - tick, now
        if spent - told > 60.0 or spent >= seconds:
            told = spent
            _save(part, average, {"spent": f"{spent:.0f}", "step": str(step)})
            text = f"step {step}, {len(store)} pictures: " + ", ".join(
                f"{k} {v:.3f}" for k, v in losses.items()
            )
            yield (
                ProgressEvent(stage="landmarks", done=round(spent), total=round(seconds), message=text),
                average.eval(),
            )
            tick = time.monotonic()


def _side(share: float, recipe: LandmarkRecipe) -> int:
    """How large pictures are by now: small ones teach the coarse places at a third of the cost."""
    return max(side for start, side in recipe.sides if share >= start)


def _follow(average: LandmarkNet, network: LandmarkNet, decay: float) -> None:
    """Move the averaged network towards the newest; statistics of batches are copied."""
    with torch.no_grad():
        for mean, newest in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(newest, 1.0 - decay)
        for mean, newest in zip(average.buffers(), network.buffers(), strict=True):
            mean.copy_(newest if not mean.is_floating_point() else mean + (newest - mean) * (1.0 - decay))


def _rate(share: float, recipe: LandmarkRecipe) -> float:
    """The learning rate: half a cosine from the peak down to a hundredth."""
    return recipe.peak_rate * (0.01 + 0.99 * 0.5 * (1.0 + float(np.cos(np.pi * min(share, 1.0)))))


def _save(path: Path, network: LandmarkNet, more: dict[str, str]) -> None:
    tensors = {
        name: tensor.detach().cpu().to(torch.float16 if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_tensors(path, tensors, {**network.config.to_metadata(), **more})


def _resumed(part: Path, network: LandmarkNet) -> tuple[float, int]:
    arrays, metadata = read_arrays(part)
    network.load_state_dict(
        {name: torch.from_numpy(values).float() for name, values in arrays.items()}, strict=False
    )
    return float(metadata.get("spent", 0.0)), int(metadata.get("step", 0))


def held_out(data: Path) -> np.ndarray:
    """Records of people who are in no shard, drawn once."""
    path = data / "held-out.npy"
    if not path.exists():
        write_shard(path, Photographer(HeadModel.load()), count=HELD, seed=HELD_SEED)
    return np.load(path)


def measure(network: LandmarkNet, rows: np.ndarray, *, device: torch.device) -> dict[str, float]:
    """Errors on records: points in per cent of the eyes' outer distance and in network pixels, pose in degrees, presence."""
    network = network.eval().to(device)
    side = network.config.side
    rng = np.random.default_rng(HELD_SEED)
    errors, seen, poses, presence, scales = [], [], [], [], []
    for start in range(0, len(rows), 64):
        batch = as_batch(rows[start : start + 64], side, rng, device)
        with torch.inference_mode():
            found = network(batch.pictures)
        face = batch.face > 0.5
        errors.append((found.points - batch.points).norm(dim=2)[face] * side)
        scales.append((batch.points[:, 36] - batch.points[:, 45]).norm(dim=1)[face] * side)
        seen.append(batch.visible[face] > 0.5)
        poses.append((found.pose - batch.pose).abs()[face].rad2deg())
        presence.append((found.presence > 0) == face)
    far, eyes = torch.cat(errors), torch.cat(scales)
    relative, visible = 100.0 * far / eyes[:, None], torch.cat(seen)
    return {
        "nme_percent": float(relative.mean()),
        "nme_percent_median": float(relative.mean(dim=1).median()),
        "nme_percent_visible": float(relative[visible].mean()),
        "pixels": float(far.mean()),
        "pose_degrees": float(torch.cat(poses).mean()),
        "presence_accuracy": float(torch.cat(presence).float().mean()),
    }
