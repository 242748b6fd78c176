"""Our expressions on somebody else's mesh: warped into place by landmarks, then carried over point by point."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from einops import einsum
from jaxtyping import Bool, Float, Float32, Int
from scipy import sparse
from scipy.interpolate import RBFInterpolator
from scipy.sparse import csgraph
from scipy.spatial import KDTree

from affetto.head.prepare import seam_classes
from affetto.media.mesh import AnimatedMesh, Surface, vertex_normals
from affetto.runtime.errors import InvalidInputError, UsageError

LEAST_LANDMARKS = 8
NEIGHBOURS = 8
STILL_GROUPS = ("hair", "top")  # of our head: no expression is taken from them
MAX_LANDMARK_BYTES = 1 << 20


@runtime_checkable
class LandmarkedHead(Protocol):
    """A head with named points; `HeadModel` is one."""

    @property
    def mesh(self) -> AnimatedMesh:
        """The surface with its expressions."""
        ...

    @property
    def landmarks(self) -> Mapping[str, Float32[np.ndarray, "3"]]:
        """Named points of the face at rest."""
        ...


def load_landmarks(path: str | Path) -> dict[str, Float[np.ndarray, "3"]]:
    """Named points from a JSON object such as {"nose_tip": [x, y, z], ...}, in the units of the mesh they belong to."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_LANDMARK_BYTES:
            raise InvalidInputError(f"{path}: larger than 1 MiB, which no list of landmarks is")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read ({error.strerror}): name a JSON file of landmarks"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f'{path}: not JSON: write {{"nose_tip": [x, y, z], ...}}') from error
    if not isinstance(content, dict) or not content:
        raise InvalidInputError(f'{path}: no landmarks: write {{"nose_tip": [x, y, z], ...}}')
    points = {}
    for name, value in content.items():
        numbers = (
            isinstance(value, list) and len(value) == 3 and all(type(part) in (int, float) for part in value)
        )
        if not numbers or not np.isfinite(np.array(value, float)).all():
            raise InvalidInputError(f"{path}: landmark {name!r} is not three finite numbers")
        points[name] = np.array(value, float)
    return points


def transfer_expressions(
    surface: Surface,
    landmarks: Mapping[str, Float[np.ndarray, "3"]],
    head: LandmarkedHead,
    *,
    smoothing: int = 3,
) -> AnimatedMesh:
    """The user's `surface` with our head's expressions.

    `landmarks` name points of the surface as `head.landmarks` does (at least 8 of those names). Our head is warped
    onto them by a thin-plate spline; every vertex then takes the displacement of the nearest warped skin that faces
    the same way, turned and scaled by the warp's local frame, faded out where the meshes part, smoothed along the
    mesh, and made symmetric where the mesh is. Raises `UsageError` when the landmarks do not suffice.
    """
    names = sorted(set(landmarks) & set(head.landmarks))
    if len(names) < LEAST_LANDMARKS:
        wanted = ", ".join(sorted(set(head.landmarks) - set(landmarks)))
        raise UsageError(f"{len(names)} known landmarks, {LEAST_LANDMARKS} are needed: add some of {wanted}")
    source = np.array([head.landmarks[name] for name in names], float)
    target = np.array([landmarks[name] for name in names], float)
    warp = Warp.between(source, target)
    carrier = _carrier(surface, head.mesh, warp, reach=_spread(target))
    frames = warp.frames(head.mesh.surface.positions.astype(float)).astype(np.float32)
    deltas = np.empty((len(head.mesh.names), len(surface.positions), 3), np.float32)
    smoother = _smoother(surface)
    for index, delta in enumerate(head.mesh.deltas):
        moved = carrier @ einsum(frames, delta, "v row column, v column -> v row")
        for _ in range(smoothing):
            moved = smoother @ moved
        deltas[index] = moved
    eye_centres = warp(head.mesh.eye_centres.astype(float))
    return AnimatedMesh(
        surface=surface,
        names=head.mesh.names,
        deltas=_made_symmetric(surface, warp, head.mesh.names, deltas, reach=_spread(target)),
        eye_centres=eye_centres,
        eye_vertices=_eyes(surface, head.mesh, warp, eye_centres),
        head_pivot=warp.similar(head.mesh.head_pivot[None].astype(float))[0],
    )


@dataclass(frozen=True, kw_only=True)
class Warp:
    """A similarity (scale, turn, shift) followed by the thin-plate spline that brings landmarks onto landmarks."""

    scale: float
    turn: Float[np.ndarray, "3 3"]
    source_centre: Float[np.ndarray, "3"]
    target_centre: Float[np.ndarray, "3"]
    spline: RBFInterpolator

    @classmethod
    def between(cls, source: Float[np.ndarray, "point 3"], target: Float[np.ndarray, "point 3"]) -> "Warp":
        """The warp of `source` points onto `target` points (least squares after Umeyama 1991, then the spline)."""
        source_centre, target_centre = source.mean(axis=0), target.mean(axis=0)
        a, b = source - source_centre, target - target_centre
        if (
            min(
                np.linalg.svd(points, compute_uv=False)[-1] / max(_spread(points), 1e-12) for points in (a, b)
            )
            < 1e-3
        ):
            raise UsageError(
                "the landmarks lie in one plane: add some at another depth, such as nose_tip and jaw_left"
            )
        left, stretch, right = np.linalg.svd(b.T @ a)
        flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
        turn = left @ flip @ right
        scale = float((stretch * np.diag(flip)).sum() / (a**2).sum())
        aligned = scale * a @ turn.T + target_centre
        # A little smoothing (in squared landmark spreads) keeps one misplaced point from folding the face.
        spline = RBFInterpolator(
            aligned, target - aligned, kernel="thin_plate_spline", degree=1, smoothing=1e-6
        )
        return cls(
            scale=scale, turn=turn, source_centre=source_centre, target_centre=target_centre, spline=spline
        )

    def similar(self, points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """The points scaled, turned and shifted only: safe far from all landmarks."""
        return self.scale * (points - self.source_centre) @ self.turn.T + self.target_centre

    def __call__(self, points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """The points on the other mesh."""
        aligned = self.similar(points)
        return aligned + self.spline(aligned)

    def frames(self, points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3 3"]:
        """How the warp turns and scales small displacements at each point (its Jacobian, by central differences)."""
        step = 1e-3 * _spread(points)
        columns = [
            (self(points + step * axis) - self(points - step * axis)) / (2.0 * step) for axis in np.eye(3)
        ]
        return np.stack(columns, axis=-1)


def _spread(points: Float[np.ndarray, "point 3"]) -> float:
    """The root mean square distance from the points' centre."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _moving(mesh: AnimatedMesh) -> Bool[np.ndarray, "vertex"]:
    """The vertices that expressions are taken from: all of the face, without hair and clothes."""
    used = np.zeros(len(mesh.surface.positions), bool)
    used[mesh.surface.triangles.ravel()] = True
    for name in STILL_GROUPS:
        start, stop = mesh.surface.groups.get(name, (0, 0))
        used[mesh.surface.triangles[start:stop].ravel()] = False
    return used


def _carrier(surface: Surface, mesh: AnimatedMesh, warp: Warp, *, reach: float) -> sparse.csr_matrix:
    """Weights that give each vertex of `surface` a mean of the nearest warped vertices that face the same way.

    Each separate piece of `surface`, such as a row of teeth, takes from one piece of our head alone: lips must not drag
    the teeth behind them.
    """
    ours, points = warp(mesh.surface.positions.astype(float)), surface.positions.astype(float)
    our_normals, normals = vertex_normals(ours, mesh.surface.triangles), surface.normals()
    our_pieces, pieces = _pieces(mesh.surface), _pieces(surface)
    moving = np.flatnonzero(_moving(mesh))
    chosen = _matched_pieces(points, pieces, ours[moving], our_pieces[moving], reach=reach)[pieces]
    parts = []
    for piece in np.unique(chosen):
        targets, sources = np.flatnonzero(chosen == piece), moving[our_pieces[moving] == piece]
        near = min(NEIGHBOURS, len(sources))
        found = KDTree(ours[sources]).query(points[targets], k=near)
        distance, index = (np.reshape(part, (len(targets), near)) for part in found)
        nearest = sources[index]
        agreement = einsum(our_normals[nearest], normals[targets], "v near xyz, v xyz -> v near")
        weight = (np.maximum(agreement, 0.0) ** 2 + 1e-4) / (distance + 1e-3 * reach) ** 4
        apart = np.clip((distance[:, :1] / reach - 0.25) / 0.5, 0.0, 1.0)
        weight *= (1.0 - apart * apart * (3.0 - 2.0 * apart)) / weight.sum(axis=1, keepdims=True)
        rows = np.repeat(targets, weight.shape[1])
        parts.append((weight.ravel().astype(np.float32), rows, nearest.ravel()))
    weight, rows, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
    return sparse.csr_matrix((weight, (rows, columns)), shape=(len(points), len(ours)))


def _matched_pieces(
    points: Float[np.ndarray, "vertex 3"],
    pieces: Int[np.ndarray, "vertex"],
    ours: Float[np.ndarray, "source 3"],
    our_pieces: Int[np.ndarray, "source"],
    *,
    reach: float,
) -> Int[np.ndarray, "piece"]:
    """For each piece of the user's mesh, the piece of ours that lies nearest to it on average.

    Small pieces prefer our small ones (teeth, tongue, eyeballs, lashes) to the skin around them, which is never far.
    """
    count = int(pieces.max()) + 1
    sizes = np.bincount(pieces, minlength=count)
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, pieces, points)
    np.maximum.at(high, pieces, points)
    handicap = np.where(np.linalg.norm(high - low, axis=1) < 1.2 * reach, 0.1 * reach, 0.0)
    skin = int(np.bincount(our_pieces).argmax())
    best, chosen = np.full(count, np.inf), np.full(count, skin)
    for piece in np.unique(our_pieces):
        distance, _ = KDTree(ours[our_pieces == piece]).query(points)
        mean = np.bincount(pieces, weights=np.asarray(distance), minlength=count) / np.maximum(sizes, 1)
        mean = mean + (handicap if piece == skin else 0.0)
        chosen[mean < best] = piece
        best = np.minimum(best, mean)
    return chosen


def _pieces(surface: Surface) -> Int[np.ndarray, "vertex"]:
    """Which connected piece of the surface each vertex belongs to, seams closed."""
    edges, classes = _adjacency(surface)
    _, labels = csgraph.connected_components(edges, directed=False, return_labels=True)
    return np.array(labels, ndmin=1)[classes]


def _adjacency(surface: Surface) -> tuple[sparse.csr_matrix, Int[np.ndarray, "vertex"]]:
    """Which seam classes share an edge, and the class of each vertex."""
    classes = seam_classes(surface)
    corners = classes[surface.triangles]
    rows = corners[:, [0, 1, 2, 1, 2, 0]].ravel()
    columns = corners[:, [1, 2, 0, 0, 1, 2]].ravel()
    count = int(classes.max()) + 1
    edges = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(count, count))
    edges.data[:] = 1.0
    return edges, classes


def _smoother(surface: Surface) -> sparse.csr_matrix:
    """One round of smoothing along the mesh, seams closed, that keeps broad shapes whole (Taubin 1995).

    It moves each vertex half-way to the mean of its neighbours, then pushes back by slightly more.
    """
    edges, classes = _adjacency(surface)
    vertices, count = len(classes), int(classes.max()) + 1
    degree = np.asarray(edges.sum(axis=1)).ravel()
    share = np.where(degree > 0.0, 0.5, 0.0)  # a vertex without neighbours stays as it is
    half = sparse.diags(1.0 - share) + sparse.diags(share / np.maximum(degree, 1.0)) @ edges
    spread = sparse.csr_matrix((np.ones(vertices), (np.arange(vertices), classes)), shape=(vertices, count))
    gather = sparse.diags(1.0 / np.bincount(classes, minlength=count)) @ spread.T
    back = 2.06 * sparse.identity(count) - 1.06 * half
    return sparse.csr_matrix(spread @ back @ half @ gather, dtype=np.float32)


def _mirrored_name(name: str) -> str:
    """The blend shape of the other side."""
    if name.endswith("Left"):
        return name[:-4] + "Right"
    return name[:-5] + "Left" if name.endswith("Right") else name


def _made_symmetric(
    surface: Surface,
    warp: Warp,
    names: tuple[str, ...],
    deltas: Float32[np.ndarray, "shape vertex 3"],
    *,
    reach: float,
) -> Float32[np.ndarray, "shape vertex 3"]:
    """The mean of each displacement and its mirror image, at vertices that have a mirrored partner."""
    across = warp.turn @ np.array([1.0, 0.0, 0.0])
    middle = warp.similar(np.zeros((1, 3)))[0]
    positions = surface.positions.astype(float)
    mirrored = positions - 2.0 * ((positions - middle) @ across)[:, None] * across
    distance, partner = (np.asarray(found) for found in KDTree(positions).query(mirrored))
    paired = (distance < 0.01 * reach) & (partner[partner] == np.arange(len(partner)))
    if paired.mean() < 0.5:
        return deltas
    reflect = np.eye(3) - 2.0 * np.outer(across, across)
    other = [names.index(_mirrored_name(name)) if _mirrored_name(name) in names else None for name in names]
    result = deltas.copy()
    for index, twin in enumerate(other):
        if twin is not None:
            image = deltas[twin][partner] @ reflect.T
            result[index, paired] = 0.5 * (deltas[index, paired] + image[paired])
    return result


def _eyes(
    surface: Surface, mesh: AnimatedMesh, warp: Warp, centres: Float[np.ndarray, "2 3"]
) -> tuple[Int[np.ndarray, "left"], Int[np.ndarray, "right"]]:
    """The vertices of the pieces of `surface` that lie wholly within an eyeball's reach of each eye's centre."""
    pieces = _pieces(surface)
    found = []
    for side, centre in enumerate(centres):
        ours = warp(mesh.surface.positions[mesh.eye_vertices[side]].astype(float))
        radius = float(np.linalg.norm(ours - ours.mean(axis=0), axis=1).max()) if len(ours) else 0.0
        away = np.linalg.norm(surface.positions - centre, axis=1)
        furthest = np.zeros(int(pieces.max()) + 1)
        np.maximum.at(furthest, pieces, away)
        found.append(np.flatnonzero(furthest[pieces] <= 1.5 * radius))
    return found[0], found[1]
