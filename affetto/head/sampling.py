"""Our own points on the reference's surface, and our own triangles between them.

Points are carried as sparse rows of barycentric weights over the reference's vertices, so that one product moves the
neutral face, every expression and every identity onto our topology. Only the left half (x >= 0) is laid out.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.path import Path as MplPath
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.spatial import Delaunay, KDTree

from affetto.head.reference import Reference, boundary_loops


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Half of a surface patch laid out in the plane: its reference triangles and where their vertices lie."""

    triangles: Int[np.ndarray, "t 3"]
    plane: Float[np.ndarray, "n 2"]  # per reference vertex; NaN outside the patch
    vertices: Float[np.ndarray, "n 3"]

    def locate(self, points: Float[np.ndarray, "k 2"]) -> tuple[np.ndarray, np.ndarray]:
        """The triangle and barycentric weights of planar points (clamped to the nearest triangle), and how far outside."""
        corners = self.plane[self.triangles]
        tree = KDTree(corners.mean(axis=1))
        near = np.asarray(tree.query(points, k=24)[1])
        a, b, c = (corners[near, i] for i in range(3))
        area = _cross(b - a, c - a)
        target = points[:, None]
        weights = np.stack(
            [_cross(b - target, c - target), _cross(c - target, a - target), _cross(a - target, b - target)],
            axis=-1,
        )
        weights /= area[..., None]
        best = weights.min(axis=-1).argmax(axis=1)
        rows = np.arange(len(points))
        return near[rows, best], weights[rows, best]

    def carriers(self, points: Float[np.ndarray, "k 2"]) -> sparse.csr_matrix:
        """Rows of barycentric weights (k, n) over the reference's vertices."""
        triangle, weights = self.locate(points)
        weights = np.clip(weights, 0, None)
        weights /= weights.sum(axis=1, keepdims=True)
        rows = np.repeat(np.arange(len(points)), 3)
        return sparse.csr_matrix(
            (weights.ravel(), (rows, self.triangles[triangle].ravel())), shape=(len(points), len(self.plane))
        )

    def contains(self, points: Float[np.ndarray, "k 2"]) -> np.ndarray:
        """Whether planar points lie inside the patch."""
        return self.locate(points)[1].min(axis=1) > -1e-3


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def left_half(
    triangles: Int[np.ndarray, "t 3"], vertices: Float[np.ndarray, "n 3"]
) -> Int[np.ndarray, "h 3"]:
    """The triangles on the subject's left."""
    return triangles[vertices[triangles, 0].mean(axis=1) > 0]


def split_boundary(loop: Int[np.ndarray, "k"], on_midline: np.ndarray) -> list[Int[np.ndarray, "m"]]:
    """Cut a closed boundary of a half patch into chains that lie on the midline or off it, end points shared."""
    middle = on_midline[loop]
    along = middle & np.roll(middle, -1)
    starts = np.flatnonzero(along != np.roll(along, 1))
    loop = np.roll(loop, -starts[0])
    along = np.roll(along, -starts[0])
    cuts = [*np.flatnonzero(along != np.roll(along, 1)), len(loop)]
    return [np.append(loop[a:b], loop[b % len(loop)]) for a, b in itertools.pairwise(cuts)]


def resample(chain: Int[np.ndarray, "m"], vertices: np.ndarray, spacing: np.ndarray) -> sparse.csr_matrix:
    """Points along a chain of edges whose distances follow `spacing` at the chain's vertices; both ends included."""
    length = np.linalg.norm(np.diff(vertices[chain], axis=0), axis=1)
    step = length / ((spacing[:-1] + spacing[1:]) / 2)
    measure = np.concatenate([[0], np.cumsum(step)])
    count = max(2, round(measure[-1]) + 1)
    at = np.linspace(0, measure[-1], count)
    segment = np.clip(np.searchsorted(measure, at, side="right") - 1, 0, len(chain) - 2)
    part = np.clip((at - measure[segment]) / step[segment], 0, 1)
    rows = np.arange(count)
    return sparse.csr_matrix(
        (
            np.concatenate([1 - part, part]),
            (np.concatenate([rows, rows]), np.concatenate([chain[segment], chain[segment + 1]])),
        ),
        shape=(count, len(vertices)),
    )


def relax(
    fixed: Float[np.ndarray, "f 3"],
    candidates: Float[np.ndarray, "c 3"],
    spacing: Float[np.ndarray, "c"],
    area: float,
    rng: np.random.Generator,
    rounds: int = 25,
) -> Int[np.ndarray, "k"]:
    """Indices of candidates that cover the surface at the wanted spacing around the fixed points (weighted Lloyd).

    Candidates are uniform on the surface; each stands for area / c. A hexagonal packing at distance h has one point per
    0.866 h^2.
    """
    count = int(area / len(candidates) * np.sum(1 / (0.866 * spacing**2)))
    weight = 1 / spacing**4
    distance = KDTree(fixed).query(candidates)[0]
    free = np.flatnonzero(distance > 0.6 * spacing)
    density = 1 / spacing[free] ** 2
    count = max(1, int(count * density.sum() / np.sum(1 / spacing**2)))
    chosen = free[rng.choice(len(free), size=count, replace=False, p=density / density.sum())]
    for _ in range(rounds):
        sites = np.concatenate([fixed, candidates[chosen]])
        owner = np.asarray(KDTree(sites).query(candidates)[1]) - len(fixed)
        mine = owner >= 0
        mass = np.bincount(owner[mine], weight[mine], minlength=count)
        centre = np.stack(
            [
                np.bincount(owner[mine], weight[mine] * candidates[mine, axis], minlength=count)
                for axis in range(3)
            ],
            1,
        )
        keep = mass > 0
        tree = KDTree(candidates)
        chosen = np.unique(tree.query(centre[keep] / mass[keep, None])[1])
        count = len(chosen)
    return chosen


def triangulate(
    points: Float[np.ndarray, "k 2"], borders: list[np.ndarray], positions: Float[np.ndarray, "k 3"]
) -> np.ndarray:
    """Triangles between planar points inside the first closed border and outside the others, Delaunay in space.

    Every border is a loop of point indices whose edges are kept by `clear_of_borders`.
    """
    triangles = Delaunay(points).simplices.astype(np.int64)
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area = _cross(b - a, c - a)
    triangles[area < 0] = triangles[area < 0][:, ::-1]
    centre = (a + b + c) / 3
    inside = MplPath(points[borders[0]]).contains_points(centre) & (np.abs(area) > 1e-12)
    for hole in borders[1:]:
        inside &= ~MplPath(points[hole]).contains_points(centre)
    return flip_edges(triangles[inside], positions, points)


def clear_of_borders(
    points: Float[np.ndarray, "k 2"], plane: np.ndarray, borders: list[np.ndarray]
) -> np.ndarray:
    """Which free points stay outside the circle over every border edge, so that Delaunay keeps those edges."""
    starts = np.concatenate([plane[loop] for loop in borders])
    stops = np.concatenate([plane[np.roll(loop, -1)] for loop in borders])
    centre, radius = (starts + stops) / 2, np.linalg.norm(stops - starts, axis=1) / 2
    clear = np.ones(len(points), bool)
    for middle, reach in zip(centre, radius, strict=True):
        clear &= np.linalg.norm(points - middle, axis=1) > 1.02 * reach
    return clear


def flip_edges(
    triangles: np.ndarray, positions: np.ndarray, plane: np.ndarray, rounds: int = 12
) -> np.ndarray:
    """Swap diagonals whose opposite angles in space exceed 180 degrees, as long as the plane stays unfolded."""
    triangles = triangles.copy()
    for _ in range(rounds):
        owners: dict[tuple[int, int], int] = {}
        for index, (a, b, c) in enumerate(triangles.tolist()):
            for edge in ((a, b), (b, c), (c, a)):
                owners[edge] = index
        touched: set[int] = set()
        flips = 0
        for (a, b), first in list(owners.items()):
            second = owners.get((b, a))
            if second is None or a > b or first in touched or second in touched:
                continue
            c = int(triangles[first].sum()) - a - b
            d = int(triangles[second].sum()) - a - b
            if _angle(positions, c, a, b) + _angle(positions, d, a, b) <= np.pi + 1e-3:
                continue
            if _area(plane, a, d, c) <= 1e-12 or _area(plane, d, b, c) <= 1e-12:
                continue
            triangles[first], triangles[second] = (a, d, c), (d, b, c)
            touched.update((first, second))
            flips += 1
        if not flips:
            break
    return triangles


def _angle(positions: np.ndarray, apex: int, a: int, b: int) -> float:
    u, v = positions[a] - positions[apex], positions[b] - positions[apex]
    return float(np.arccos(np.clip(u @ v / (np.linalg.norm(u) * np.linalg.norm(v) + 1e-12), -1, 1)))


def _area(plane: np.ndarray, a: int, b: int, c: int) -> float:
    return float(_cross(plane[b] - plane[a], plane[c] - plane[a]))


def rectangle_layout(
    reference: Reference, triangles: Int[np.ndarray, "t 3"], chains: tuple[np.ndarray, ...]
) -> Float[np.ndarray, "n 2"]:
    """A fold-free layout of a half patch bounded by four chains, onto the unit square (Tutte 1963, uniform weights).

    Chains run round the boundary: bottom (v=0, u up), right (u=1), top (v=1, u down), left (u=0).
    """
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], float)
    fixed: dict[int, np.ndarray] = {}
    for side, chain in enumerate(chains):
        steps = np.linalg.norm(np.diff(reference.vertices[chain], axis=0), axis=1)
        t = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
        for vertex, value in zip(chain.tolist(), t, strict=True):
            fixed[vertex] = corners[side] * (1 - value) + corners[side + 1] * value
    return harmonic_layout(triangles, fixed, len(reference.vertices))


def harmonic_layout(triangles: np.ndarray, fixed: dict[int, np.ndarray], total: int) -> np.ndarray:
    """Planar positions where every free vertex is the mean of its neighbours; NaN where the patch has no vertex."""
    ids = np.unique(triangles)
    local = np.full(total, -1)
    local[ids] = np.arange(len(ids))
    a, b = np.concatenate(
        [local[triangles[:, [0, 1]]], local[triangles[:, [1, 2]]], local[triangles[:, [2, 0]]]]
    ).T
    joined = sparse.coo_matrix((np.ones(len(a)), (a, b)), shape=(len(ids), len(ids))).tocsr()
    joined = ((joined + joined.T) > 0).astype(float)
    laplacian = (sparse.diags(np.asarray(joined.sum(axis=1)).ravel()) - joined).tocsr()
    known = local[np.array(list(fixed))]
    plane = np.zeros((len(ids), 2))
    plane[known] = np.array(list(fixed.values()))
    free = np.setdiff1d(np.arange(len(ids)), known)
    plane[free] = np.asarray(
        spsolve(laplacian[free][:, free].tocsc(), -(laplacian[free][:, known] @ plane[known]))
    )
    layout = np.full((total, 2), np.nan)
    layout[ids] = plane
    return layout


def sample_surface(
    triangles: Int[np.ndarray, "t 3"], vertices: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Uniform random points on triangles: their triangle index, barycentric weights, and the total area."""
    corners = vertices[triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    chosen = rng.choice(len(triangles), size=count, p=areas / areas.sum())
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    return chosen, np.stack([1 - u, u * (1 - v), u * v], axis=1), float(areas.sum())


def half_boundaries(triangles: np.ndarray, vertices: np.ndarray) -> list[np.ndarray]:
    """The boundary loops of a half patch."""
    return boundary_loops(left_half(triangles, vertices))
