"""How far the displaced head lies from the displaced reference, vertex by vertex of the reference."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial import KDTree

from affetto.head.assemble import Assembly, hidden
from affetto.head.reference import IPD, Reference
from affetto.head.shapes import lid_seal, mirrored_name
from affetto.media.animation.curves import ARKIT_52
from affetto.media.mesh import vertex_normals


@dataclass(frozen=True, kw_only=True)
class FitError:
    """Distances between the reference's displaced vertices and our displaced surface, in % of inter-pupil distance."""

    mean: float
    p95: float
    max: float


def measure_fit(
    assembly: Assembly, reference: Reference, fields: Mapping[str, Float[np.ndarray, "v 3"]]
) -> dict[str, FitError]:
    """The error at rest and of each expression over the reference's face, head, neck and mouth cavity.

    Every reference vertex is tied once to the nearest point of our surface at rest that faces the same way; then both
    move. Vertices under hair and clothes, where our head has no skin, do not count. The left half of a shape and of its
    mirror image together cover both halves, since both models are symmetric. tongueOut has no reference.
    """
    triangles = np.concatenate([reference.face, reference.neck, reference.cavity])
    points = reference.vertices
    index = np.unique(triangles)
    index = index[(points[index, 0] >= 0) & ~hidden(points[index])]
    normals = vertex_normals(points, triangles)[index]
    spans = [assembly.groups[name] for name in ("skin", "mouth")]
    ours = np.concatenate([assembly.triangles[start:stop] for start, stop in spans])
    telling = ("jawOpen", "mouthRollUpper", "mouthRollLower", "mouthClose")
    motion = (
        np.concatenate([reference.expressions[name][index] for name in telling], axis=1),
        np.concatenate([fields[name] for name in telling], axis=1),
    )
    rows = nearest_rows(points[index], normals.astype(np.float64), assembly.positions, ours, motion)
    targets = dict(reference.expressions)
    blink = targets["eyeBlinkLeft"]
    seal = lid_seal(assembly, assembly.carry(blink, targets["eyeBlinkRight"]))
    targets["eyeBlinkLeft"] = blink + seal.field(
        points, points + blink
    )  # closed on purpose further than the reference
    errors = {}
    for name in ("neutral", *(name for name in ARKIT_52 if name != "tongueOut")):
        distances = []
        for side in {name, mirrored_name(name)}:
            target, moved = points, assembly.positions
            if side != "neutral":
                target, moved = target + targets[side], moved + fields[side]
            distances.append(np.linalg.norm(target[index] - rows @ moved, axis=1))
        percent = 100 * np.concatenate(distances) / IPD
        errors[name] = FitError(
            mean=float(percent.mean()),
            p95=float(np.percentile(percent, 95)),
            max=float(percent.max()),
        )
    return errors


def nearest_rows(
    points: Float[np.ndarray, "k 3"],
    normals: Float[np.ndarray, "k 3"],
    positions: Float[np.ndarray, "v 3"],
    triangles: Int[np.ndarray, "t 3"],
    motion: tuple[Float[np.ndarray, "k m"], Float[np.ndarray, "v m"]],
    near: int = 48,
) -> sparse.csr_matrix:
    """Barycentric rows (k, v) of the nearest surface points whose side agrees with each point's normal.

    `motion` (of the points, of the vertices, some expressions side by side) tells apart surfaces that touch at rest: a point of the lower lip belongs
    to a surface that moves with the jaw.
    """
    corners = positions[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces /= np.maximum(np.linalg.norm(faces, axis=1, keepdims=True), 1e-12)
    candidates = np.asarray(KDTree(corners.mean(axis=1)).query(points, k=near)[1])
    weights = _nearest_on_triangles(points[:, None], corners[candidates])
    feet = np.einsum("knc,kncx->knx", weights, corners[candidates])
    distance = np.linalg.norm(feet - points[:, None], axis=-1)
    carried = np.einsum("knc,kncm->knm", weights, motion[1][triangles][candidates])
    distance = distance + 0.2 * np.linalg.norm(carried - motion[0][:, None], axis=-1)
    agrees = np.einsum("knx,kx->kn", faces[candidates], normals) > 0.2
    best = np.where(agrees, distance, distance + 10).argmin(axis=1)
    rows = np.arange(len(points))
    chosen = triangles[candidates[rows, best]]
    values = weights[rows, best]
    return sparse.csr_matrix(
        (values.ravel(), (np.repeat(rows, 3), chosen.ravel())), shape=(len(points), len(positions))
    )


def _nearest_on_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentric weights of the points of triangles nearest to `points`: inside, else on the nearest edge."""
    a, b, c = (corners[..., i, :] for i in range(3))
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    scale = np.maximum(uu * vv - uv * uv, 1e-18)
    s, t = (vv * wu - uv * wv) / scale, (uu * wv - uv * wu) / scale
    weights = np.stack([1 - s - t, s, t], axis=-1)
    outside = weights.min(axis=-1) < 0
    best, edges = np.full(outside.shape, np.inf), np.zeros_like(weights)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, along = corners[..., i, :], corners[..., j, :] - corners[..., i, :]
        part = np.clip(((points - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-18), 0, 1)
        distance = np.linalg.norm(start + part[..., None] * along - points, axis=-1)
        on_edge = np.zeros_like(weights)
        on_edge[..., i], on_edge[..., j] = 1 - part, part
        better = distance < best
        best = np.where(better, distance, best)
        edges = np.where(better[..., None], on_edge, edges)
    return np.where(outside[..., None], edges, weights)
