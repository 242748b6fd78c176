"""Shards of synthetic faces on disk, and batches cut from them in ever new ways."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from affetto.generators.portrait.synthetic_shots import Photographer
from affetto.head.landmarks68 import MIRROR_68
from affetto.head.model import HeadModel
from affetto.runtime.files import atomic_path

SHOTS_PER_PERSON = 6
NEGATIVES = 0.08
SHARD = 128


def write_shard(path: Path, photographer: Photographer, *, count: int, seed: int) -> None:
    """Write `count` pictures and their labels as one .npy of bytes; the same seed gives the same pictures."""
    rng = np.random.default_rng(seed)
    size = photographer.size
    rows = np.zeros(count, dtype=row_type(size))
    person = photographer.person(rng)
    for index in range(count):
        if index % SHOTS_PER_PERSON == 0:
            person = photographer.person(rng)
        if rng.random() < NEGATIVES:
            rows[index]["picture"] = photographer.nothing(person, rng)
            continue
        shot = photographer.shot(person, rng)
        rows[index] = (shot.picture, shot.points, shot.visible, shot.pose, True)
    with atomic_path(path) as temporary:
        np.save(temporary, rows)


def row_type(size: int) -> np.dtype:
    """The record of one picture."""
    return np.dtype(
        [
            ("picture", np.uint8, (size, size, 3)),
            ("points", np.float32, (68, 2)),
            ("visible", np.bool_, (68,)),
            ("pose", np.float32, (3,)),
            ("face", np.bool_),
        ]
    )


def make_shards(
    folder: Path, *, shards: int, seed: int, size: int = 144, first: int = 0, stride: int = 1
) -> list[Path]:
    """The shards of a folder, missing ones rendered first; of `stride` painters each begins at another `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {index: folder / f"shard-{index:03d}.npy" for index in range(first, shards, stride)}
    photographer: Photographer | None = None
    for index, path in paths.items():
        if not path.exists():
            photographer = photographer or Photographer(HeadModel.load(), size=size)
            write_shard(path, photographer, count=SHARD, seed=seed * 100_003 + index)
    return list(paths.values())


class ShardStore:
    """Random rows of the shards that lie in a folder by now; new ones are noticed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[Path, np.ndarray] = {}

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._open.values())

    def notice(self) -> int:
        """Open shards that appeared; returns how many there are."""
        for path in sorted(self._folder.glob("shard-*.npy")):
            if path not in self._open:
                self._open[path] = np.load(path, mmap_mode="r")
        return len(self._open)

    def rows(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`count` random records."""
        shards = list(self._open.values())
        return np.stack(
            [
                shard[rng.integers(len(shard))]
                for shard in (shards[k] for k in rng.integers(len(shards), size=count))
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures -1..1 with their labels; points are 0..1 across the picture."""

    pictures: Float[Tensor, "batch 3 side side"]
    points: Float[Tensor, "batch 68 2"]
    visible: Float[Tensor, "batch 68"]
    pose: Float[Tensor, "batch 3"]
    face: Float[Tensor, "batch"]


def as_batch(rows: np.ndarray, side: int, rng: np.random.Generator | None, device: torch.device) -> Batch:
    """Records cut to squares of `side` about the face: at random when `rng` is given, exactly centred without."""
    pictures = rearrange(
        torch.from_numpy(np.ascontiguousarray(rows["picture"])).to(device), "b h w c -> b c h w"
    )
    points = torch.from_numpy(np.ascontiguousarray(rows["points"])).to(device)
    face = torch.from_numpy(np.ascontiguousarray(rows["face"])).to(device).float()
    pose = torch.from_numpy(np.ascontiguousarray(rows["pose"])).to(device)
    visible = torch.from_numpy(np.ascontiguousarray(rows["visible"])).to(device).float()
    size = pictures.shape[-1]
    turn, scale, shift, flip = _cuts(rows, size, rng)
    if rng is not None:  # cuts that show no face, or only a small part of one
        missed = torch.from_numpy((rng.random(len(rows)) < 0.03).astype(np.float32)).to(device)
        face = face * (1 - missed)
        scale = np.where(missed.cpu().numpy() > 0, rng.uniform(0.15, 0.35, len(rows)) * size, scale)
    matrix = _cut_matrix(turn, scale, shift, flip).to(device)  # picture 0..1 -> source pixels
    grid = _grid(matrix, side, size)
    cut = F.grid_sample(pictures.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    inverse = torch.linalg.inv(matrix[:, :, :2])
    moved = torch.einsum("bij,bpj->bpi", inverse, points - matrix[:, None, :, 2])
    flipped = torch.from_numpy(flip).to(device)
    mirror = torch.from_numpy(MIRROR_68).to(device)
    moved = torch.where(flipped[:, None, None], moved[:, mirror], moved)
    visible = torch.where(flipped[:, None], visible[:, mirror], visible)
    sign = torch.where(flipped, -1.0, 1.0)
    turned = torch.from_numpy(turn).to(device).float()
    pose = torch.stack([pose[:, 0] * sign, pose[:, 1], (pose[:, 2] + turned) * sign], dim=1)
    values = cut / 127.5 - 1.0
    if rng is not None:
        values = _developed(values, rng)
    return Batch(pictures=values, points=moved, visible=visible, pose=pose, face=face)


def _cuts(
    rows: np.ndarray, size: int, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Turn (radians), side and centre (source pixels) and mirroring of each cut."""
    count = len(rows)
    low, high = rows["points"].min(axis=1), rows["points"].max(axis=1)
    face = rows["face"]
    centre = np.where(face[:, None], (low + high) / 2, size / 2)
    extent = np.where(face, (high - low).max(axis=1), size / 1.6)
    if rng is None:
        return np.zeros(count), extent * CUT, centre, np.zeros(count, bool)
    turn = np.clip(rng.normal(0, 0.12, count), -0.35, 0.35)
    scale = extent * np.exp(rng.normal(np.log(1.42), 0.11, count))
    shift = centre + rng.normal(0, 0.05, (count, 2)) * extent[:, None]
    return turn, scale, shift, rng.random(count) < 0.5


CUT = 1.4
"""Side of a picture for the network, in sides of the box about the 68 points."""


def _cut_matrix(
    turn: np.ndarray, scale: np.ndarray, shift: np.ndarray, flip: np.ndarray
) -> Float[Tensor, "batch 2 3"]:
    """Maps places 0..1 in the cut to source pixels; a positive turn shows heads tilted to the subject's left, as roll."""
    cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
    sign = np.where(flip, -1.0, 1.0)
    linear = np.stack([np.stack([sign * cosine, -sine], -1), np.stack([sign * sine, cosine], -1)], axis=1)
    start = shift - linear.sum(axis=2) / 2
    return torch.from_numpy(np.concatenate([linear, start[..., None]], axis=2).astype(np.float32))


def _grid(matrix: Float[Tensor, "batch 2 3"], side: int, size: int) -> Float[Tensor, "batch side side 2"]:
    axis = (torch.arange(side, device=matrix.device) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    place = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    return torch.einsum("bij,hwj->bhwi", matrix, place) * (2.0 / size) - 1.0


def _developed(
    values: Float[Tensor, "batch 3 side side"], rng: np.random.Generator
) -> Float[Tensor, "batch 3 side side"]:
    """New tones, casts, grain and patches in the way."""
    count, _, side, _ = values.shape

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32)).to(values.device)

    values = values * drawn(0.7, 1.25, count, 1, 1, 1) * drawn(0.9, 1.1, count, 3, 1, 1) + drawn(
        -0.2, 0.2, count, 1, 1, 1
    )
    grain = torch.Generator(values.device).manual_seed(int(rng.integers(1 << 31)))
    noise = torch.randn((count, 1, side, side), generator=grain, device=values.device)
    values = values + noise * drawn(0.0, 0.06, count, 1, 1, 1)
    for index in np.flatnonzero(rng.random(count) < 0.15):
        wide, high = rng.integers(side // 12, side // 3, 2)
        x, y = rng.integers(0, side - wide), rng.integers(0, side - high)
        values[index, :, y : y + high, x : x + wide] = drawn(-1.0, 1.0, 3, 1, 1)
    return values.clamp(-1.2, 1.2)
