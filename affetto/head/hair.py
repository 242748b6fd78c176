"""Hair and a knitted top: volumes raised from the skin, with locks that flow from the crown."""

import numpy as np
from jaxtyping import Int
from scipy import sparse

from affetto.head.hairline import clothed, scalp
from affetto.head.parts import Part
from affetto.head.reference import Reference
from affetto.head.sparse import as_csr, row_count, stack_rows
from affetto.head.topology import HalfSkin
from affetto.media.mesh import vertex_normals

CROWN = np.array([0.0, 14.2, -3.2])


def hair(skin: HalfSkin, reference: Reference) -> Part:
    """The left half of the hair: the scalp's triangles split in four and raised along their normals."""
    points = skin.carriers @ reference.vertices
    normals = _normals(skin, points)
    inside = (scalp(points) > -0.7) & (points[:, 1] > -4) & (np.abs(points[:, 0]) < 8.7) & (skin.patch < 2)
    triangles = skin.triangles[inside[skin.triangles].all(axis=1)]
    rows, chart_rows, triangles = _split(triangles, len(points))
    carriers = as_csr(rows @ skin.carriers)
    at, normal = rows @ points, rows @ normals
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    depth = scalp(at)
    rise = np.clip((depth + 0.15) / 2.2, 0, 1)
    rise = rise * (2 - rise)
    top = np.clip((at[:, 1] - 6) / 6, 0, 1)
    fringe = np.exp(-(((at[:, 2] - 6.0) / 3.2) ** 2)) * top
    thick = 0.34 + 0.55 * top + 0.85 * fringe
    flow = np.arctan2(np.abs(at[:, 0]), at[:, 2] - CROWN[2])
    away = np.linalg.norm(at - CROWN, axis=1)
    bend = 0.55 * np.sin(0.55 * away)  # locks sweep sideways on their way from the crown
    locks = np.sin(15 * (flow + 0.12 * bend) + 1.2 * np.sin(0.5 * away)) + 0.5 * np.sin(
        37 * flow + 1.1 * away
    )
    lift = (
        np.where(depth > -0.15, rise * thick * (1 + 0.13 * locks), 0)
        - 0.10 * np.clip(-depth, 0, 1)
        - 0.03 * (rise <= 0)
    )
    raised = at + normal * lift[:, None]
    raised[:, 2] += 0.30 * fringe * rise
    raised[:, 1] += 0.25 * fringe * rise
    raised[np.abs(at[:, 0]) < 1e-6, 0] = 0
    assert row_count(chart_rows) == len(raised)
    uv = np.stack([0.02 + 0.96 * np.clip(flow / np.pi, 0, 1), np.clip(away / 19, 0.03, 0.97)], axis=1)
    return Part(
        name="hair",
        positions=raised,
        triangles=triangles,
        uv=uv,
        gloss=np.full(len(raised), 0.22),
        carriers=carriers,
    )


def clothes(skin: HalfSkin, reference: Reference) -> Part:
    """The left half of a knitted top with a round neck, raised a little from the shoulders."""
    points = skin.carriers @ reference.vertices
    normals = _normals(skin, points)
    inside = (clothed(points) > -0.9) & (skin.patch < 2)
    triangles = skin.triangles[inside[skin.triangles].all(axis=1)]
    rows, _, triangles = _split(triangles, len(points))
    at, normal = rows @ points, rows @ normals
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    depth = clothed(at)
    hem = np.clip((depth + 0.12) / 0.3, 0, 1)
    roll = np.exp(-(((depth - 0.35) / 0.25) ** 2))
    raised = at + normal * (hem * 0.32 + 0.14 * roll - 0.14 * (depth < -0.12))[:, None]
    raised[np.abs(at[:, 0]) < 1e-6, 0] = 0
    turn = np.arctan2(np.abs(at[:, 0]), at[:, 2] + 3)
    uv = np.stack([0.03 + 0.94 * np.clip(turn / np.pi, 0, 1), np.clip(depth / 9, 0.02, 0.97)], axis=1)
    return Part(
        name="clothes",
        positions=raised,
        triangles=triangles,
        uv=uv,
        gloss=np.full(len(raised), 0.08),
        carriers=as_csr(rows @ skin.carriers),
    )


def _normals(skin: HalfSkin, points: np.ndarray) -> np.ndarray:
    both = np.concatenate([points, points * [-1, 1, 1]])
    triangles = np.concatenate([skin.triangles, skin.triangles[:, ::-1] + len(points)])
    normals = vertex_normals(both, triangles).astype(np.float64)[: len(points)]
    normals[skin.midline, 0] = 0
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _split(
    triangles: Int[np.ndarray, "t 3"], total: int
) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Each triangle in four; rows give every new point as a mean of old ones."""
    used, local = np.unique(triangles, return_inverse=True)
    local = local.reshape(triangles.shape)
    edges = np.sort(np.concatenate([local[:, [0, 1]], local[:, [1, 2]], local[:, [2, 0]]]), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = inverse.reshape(3, -1) + len(used)
    a, b, c = local.T
    split = np.concatenate(
        [np.stack(t, axis=1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    )
    corner = sparse.csr_matrix((np.ones(len(used)), (np.arange(len(used)), used)), shape=(len(used), total))
    rows = np.repeat(np.arange(len(unique)), 2)
    middle = sparse.csr_matrix(
        (np.full(2 * len(unique), 0.5), (rows, used[unique].ravel())), shape=(len(unique), total)
    )
    both = stack_rows([corner, middle])
    return both, both, split
