"""Eyes, lashes, teeth, gums and tongue: our own geometry, sized and carried by the reference's parts."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial import KDTree

from affetto.head.reference import EYE_CENTRE, EYES, GUMS, TEETH, Reference
from affetto.head.rings import FISSURE
from affetto.head.sparse import stack_rows
from affetto.head.topology import HalfSkin

EYE_POLAR_DEGREES = (0, 3, 6, 9.5, 13, 16.5, 19.5, 21.5, 23.5, 26, 30, 36, 44, 54, 68, 88, 115, 145)
EYE_SEGMENTS = 24
EYE_BALL, CORNEA_BULGE, IRIS_DEGREES = 1.482, 0.075, 22.0
EYE_MAP_DEGREES = 72.0  # the eye texture's edge
TONGUE_SECTIONS, TONGUE_POINTS = 11, 12


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of geometry: rest positions in reference units, and rows that carry the reference's motion to it."""

    name: str
    positions: Float[np.ndarray, "k 3"]
    triangles: Int[np.ndarray, "t 3"]
    uv: Float[np.ndarray, "k 2"]  # 0..1 within the part's own tile
    gloss: Float[np.ndarray, "k"]
    carriers: sparse.csr_matrix
    mirrored: sparse.csr_matrix | None = (
        None  # rows for the mirror image's expressions are those of the left side
    )

    def mirror(self) -> "Part":
        """The same part on the subject's right (its carriers still name the left side)."""
        return replace(self, positions=self.positions * [-1, 1, 1], triangles=self.triangles[:, ::-1])


def eyeball(reference: Reference) -> Part:
    """The left eyeball: a polar grid, finest at the iris, with a corneal bulge; it follows identities, not expressions."""
    polar = np.radians(EYE_POLAR_DEGREES)
    azimuth = np.linspace(0, 2 * np.pi, EYE_SEGMENTS, endpoint=False)
    bulge = CORNEA_BULGE * np.clip(1 - (np.degrees(polar) / (IRIS_DEGREES + 4)) ** 2, 0, None) ** 1.3
    radius = EYE_BALL + bulge
    directions = np.stack(
        [
            np.sin(polar[1:, None]) * np.cos(azimuth),
            np.sin(polar[1:, None]) * np.sin(azimuth),
            np.cos(polar[1:, None]) + 0 * azimuth,
        ],
        axis=-1,
    )
    ring = directions * radius[1:, None, None]
    points = np.concatenate([[[0, 0, radius[0]]], ring.reshape(-1, 3)])
    reach = np.degrees(polar) / EYE_MAP_DEGREES
    reach = np.clip(np.concatenate([[reach[0]], np.repeat(reach[1:], EYE_SEGMENTS)]), 0, 1)
    turn = np.concatenate([[0], np.tile(azimuth, len(polar) - 1)])
    uv = 0.5 + 0.49 * reach[:, None] * np.stack([np.cos(turn), -np.sin(turn)], axis=1)
    triangles = _polar_triangles(len(polar) - 1, EYE_SEGMENTS)
    ball = np.arange(EYES, EYES + 1_570)
    return Part(
        name="eye",
        positions=points + EYE_CENTRE,
        triangles=triangles,
        uv=uv,
        gloss=np.full(len(points), 0.95),
        carriers=_rows(
            np.tile(ball, (len(points), 1)), np.full((len(points), len(ball)), 1 / len(ball)), reference
        ),
    )


def _polar_triangles(rings: int, segments: int) -> np.ndarray:
    step = np.arange(segments)
    after = (step + 1) % segments
    triangles = [np.stack([0 * step, 1 + step, 1 + after], axis=1)]
    for ring in range(rings - 1):
        a, b = 1 + ring * segments, 1 + (ring + 1) * segments
        triangles.append(np.stack([a + step, b + step, b + after], axis=1))
        triangles.append(np.stack([a + step, b + after, a + after], axis=1))
    return np.concatenate(triangles)


def _rows(index: np.ndarray, weights: np.ndarray, reference: Reference) -> sparse.csr_matrix:
    rows = np.repeat(np.arange(len(index)), index.shape[1])
    total = len(reference.vertices)
    return sparse.csr_matrix((weights.ravel(), (rows, index.ravel())), shape=(len(index), total))


def _near(points: np.ndarray, candidates: np.ndarray, reference: Reference, k: int = 6) -> sparse.csr_matrix:
    distance, index = KDTree(reference.vertices[candidates]).query(points, k=k)
    weights = 1 / (distance + 0.05) ** 2
    return _rows(candidates[index], weights / weights.sum(axis=1, keepdims=True), reference)


def teeth(reference: Reference) -> Part:
    """The left half of both dental arcs: each tooth a small polar grid cast onto the reference tooth (7 a side)."""
    index = np.arange(TEETH, EYES)
    local = reference.triangles[
        (reference.triangles.min(axis=1) >= TEETH) & (reference.triangles.max(axis=1) < EYES)
    ]
    joined = sparse.coo_matrix(
        (np.ones(len(local)), (local[:, 0] - TEETH, local[:, 1] - TEETH)), shape=(len(index), len(index))
    )
    joined = joined + sparse.coo_matrix(
        (np.ones(len(local)), (local[:, 1] - TEETH, local[:, 2] - TEETH)), joined.shape
    )
    _, label = sparse.csgraph.connected_components(joined, directed=False)
    parts = []
    for tooth in np.unique(label):
        triangles = local[label[local[:, 0] - TEETH] == tooth]
        middle = reference.vertices[triangles].mean(axis=(0, 1))
        if middle[0] > 0 and middle[2] > 5.9:  # no wisdom teeth
            parts.append(_tooth(triangles, reference))
    positions = np.concatenate([part[0] for part in parts])
    count = len(parts[0][0])
    triangles = np.concatenate([_polar_triangles(TOOTH_RINGS, 8) + i * count for i in range(len(parts))])
    closing = np.concatenate([_cap(i * count) for i in range(len(parts))])
    uv = np.concatenate([part[2] for part in parts])
    return Part(
        name="teeth",
        positions=positions,
        triangles=np.concatenate([triangles, closing]),
        uv=uv,
        gloss=np.full(len(positions), 0.7),
        carriers=stack_rows([part[1] for part in parts]),
    )


TOOTH_POLAR = (18, 38, 47, 62, 88, 118, 148)  # degrees from the biting edge
TOOTH_RINGS = len(TOOTH_POLAR)
TOOTH_VERTICES = 2 + 8 * TOOTH_RINGS


def _cap(start: int) -> np.ndarray:
    last = start + 1 + (TOOTH_RINGS - 1) * 8
    step = np.arange(8)
    return np.stack([last + (step + 1) % 8, last + step, np.full(8, start + 1 + TOOTH_RINGS * 8)], axis=1)


def _tooth(triangles: np.ndarray, reference: Reference) -> tuple[np.ndarray, sparse.csr_matrix, np.ndarray]:
    corners = reference.vertices[triangles]
    used = reference.vertices[np.unique(triangles)]
    centre = (used.min(axis=0) + used.max(axis=0)) / 2
    half = (used.max(axis=0) - used.min(axis=0)) / 2
    biting = -1.0 if centre[1] > -3.2 else 1.0  # upper teeth bite downwards
    polar = np.radians(TOOTH_POLAR)
    azimuth = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ring = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(azimuth),
            biting * np.cos(polar)[:, None] + 0 * azimuth,
            -biting * np.sin(polar)[:, None] * np.sin(azimuth),
        ],
        axis=-1,
    )
    directions = np.concatenate([[[0, biting, 0]], ring.reshape(-1, 3), [[0, -biting, 0]]]) * half
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hit, weights = _cast(centre, directions, corners)
    carriers = _rows(triangles[hit], weights, reference)
    height = np.concatenate([[0], np.repeat(np.linspace(0.08, 0.9, TOOTH_RINGS), 8), [1]])
    side = np.concatenate([[0.5], np.tile(azimuth / (2 * np.pi), TOOTH_RINGS), [0.5]])
    points = carriers @ reference.vertices
    # Neighbours overlap: no gaps show between them.
    points[:, 0] = centre[0] + 1.22 * (points[:, 0] - centre[0])
    if biting > 0:  # the lower arch hides behind its lip unless the jaw opens wide
        points *= (0.95, 1.0, 1.0)
        points[:, 1] -= 0.42
    return points, carriers, np.stack([0.1 + 0.8 * side, 0.05 + 0.9 * height], axis=1)


def _cast(origin: np.ndarray, directions: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The farthest triangle each ray leaves through, and the barycentric weights there (Moeller and Trumbore 1997)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    u_edge, v_edge = b - a, c - a
    p = np.cross(directions[:, None], v_edge[None])
    determinant = np.einsum("rtk,tk->rt", p, u_edge)
    determinant = np.where(np.abs(determinant) < 1e-12, 1e-12, determinant)
    away = origin - a
    u = np.einsum("rtk,tk->rt", p, away) / determinant
    q = np.cross(away, u_edge)
    v = np.einsum("rk,tk->rt", directions, q) / determinant
    distance = np.einsum("tk,tk->t", q, v_edge)[None] / determinant
    slack = np.minimum(np.minimum(u, v), 1 - u - v)
    score = np.where((slack > -1e-6) & (distance > 0), distance, -1e9 + 1e3 * slack)
    hit = score.argmax(axis=1)
    rows = np.arange(len(directions))
    weights = np.stack([1 - u[rows, hit] - v[rows, hit], u[rows, hit], v[rows, hit]], axis=1)
    weights = np.clip(weights, 0, 1)
    return hit, weights / weights.sum(axis=1, keepdims=True)


def gums(reference: Reference) -> Part:
    """The left half of both gums: a tube swept along each dental arch, over the roots."""
    arcs = {
        "upper": (
            np.array(
                [
                    [0, -1.75, 10.05],
                    [1.05, -1.75, 9.85],
                    [1.75, -1.8, 9.25],
                    [2.2, -1.9, 8.2],
                    [2.6, -2.0, 6.4],
                    [2.8, -2.0, 4.6],
                ]
            ),
            0.93,
        ),
        "lower": (
            np.array(
                [
                    [0, -5.05, 9.95],
                    [0.95, -5.05, 9.7],
                    [1.55, -5.0, 9.1],
                    [2.0, -4.8, 8.1],
                    [2.35, -4.55, 6.4],
                    [2.6, -4.4, 4.6],
                ]
            ),
            0.85,
        ),
    }
    around = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    positions, triangles = [], []
    for curve, height in arcs.values():
        t = np.linspace(0, len(curve) - 1, 11)
        path = np.stack([np.interp(t, np.arange(len(curve)), curve[:, i]) for i in range(3)], axis=1)
        along = np.gradient(path, axis=0)
        along[0] = [1, 0, 0]
        outward = np.stack([along[:, 2] * -1, 0 * t, along[:, 0]], axis=1)
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        section = path[:, None] + outward[:, None] * (0.40 * np.cos(around))[None, :, None]
        section = section + np.array([0, 1, 0]) * (height * np.sin(around))[None, :, None]
        start = sum(len(p) for p in positions)
        positions.append(section.reshape(-1, 3))
        triangles.append(start + _tube(len(t), len(around))[:, ::-1])
    points = np.concatenate(positions)
    candidates = np.arange(TEETH, EYES)
    upper = reference.vertices[candidates, 1] > -3.3
    half = len(positions[0])
    carriers = stack_rows(
        [
            _near(points[:half], candidates[upper], reference),
            _near(points[half:], candidates[~upper], reference),
        ]
    )
    phase = np.tile(around / (2 * np.pi), len(points) // len(around))
    uv = np.stack([0.1 + 0.8 * phase, np.full(len(points), 0.5)], axis=1)
    return Part(
        name="gums",
        positions=points,
        triangles=np.concatenate(triangles),
        uv=uv,
        gloss=np.full(len(points), 0.6),
        carriers=carriers,
    )


def _tube(sections: int, points: int) -> np.ndarray:
    step = np.arange(points)
    after = (step + 1) % points
    triangles = []
    for section in range(sections - 1):
        a, b = section * points, (section + 1) * points
        triangles.append(np.stack([a + step, b + after, b + step], axis=1))
        triangles.append(np.stack([a + step, a + after, b + after], axis=1))
    return np.concatenate(triangles)


def tongue(reference: Reference) -> tuple[Part, Float[np.ndarray, "k"]]:
    """The whole tongue, swept from root to tip with a groove, and how far along (0 root, 1 tip) each vertex lies."""
    z = np.array([3.2, 4.2, 5.2, 6.2, 7.1, 7.9, 8.6, 9.15, 9.5, 9.72, 9.82])
    top = np.array([-4.3, -3.75, -3.4, -3.22, -3.2, -3.28, -3.45, -3.66, -3.85, -4.0, -4.13])
    bottom = np.array([-5.1, -5.0, -4.95, -4.9, -4.85, -4.75, -4.65, -4.55, -4.45, -4.36, -4.25])
    width = np.array([1.55, 1.6, 1.6, 1.58, 1.52, 1.42, 1.25, 1.0, 0.78, 0.52, 0.2])
    around = np.linspace(0, 2 * np.pi, TONGUE_POINTS, endpoint=False) + np.pi / 2
    cos, sin = np.cos(around), np.sin(around)
    x = width[:, None] * np.sign(cos) * np.abs(cos) ** 0.8
    middle, half = (top + bottom) / 2, (top - bottom) / 2
    y = middle[:, None] + half[:, None] * np.sign(sin) * np.abs(sin) ** 0.8
    y -= 0.12 * np.exp(-((x / 0.35) ** 2)) * (sin > 0.5) * np.linspace(1, 0.2, len(z))[:, None]
    points = np.stack([x, y, z[:, None] + 0 * x], axis=-1).reshape(-1, 3)
    tip = np.array([[0, (top[-1] + bottom[-1]) / 2, 9.88]])
    points = np.concatenate([points, tip])
    ring = _tube(len(z), TONGUE_POINTS)
    last = (len(z) - 1) * TONGUE_POINTS
    step = np.arange(TONGUE_POINTS)
    fan = np.stack(
        [last + step, last + (step + 1) % TONGUE_POINTS, np.full(TONGUE_POINTS, len(points) - 1)], axis=1
    )
    along = np.clip((points[:, 2] - z[0]) / (tip[0, 2] - z[0]), 0, 1)
    index = np.arange(GUMS, TEETH)
    jaw = np.linalg.norm(reference.expressions["jawOpen"][index], axis=1) > 1.0
    part = Part(
        name="tongue",
        positions=points,
        triangles=np.concatenate([ring, fan]),
        uv=np.stack([0.5 + 0.28 * points[:, 0], 0.05 + 0.9 * along], axis=1),
        gloss=np.full(len(points), 0.55),
        carriers=_near(points, index[jaw], reference, k=12),
    )
    return part, along


def lashes(skin: HalfSkin, reference: Reference) -> Part:
    """The left eye's upper lashes: a curved band rooted in the lid's edge, longest towards the outside."""
    points = skin.carriers @ reference.vertices
    edge = points[skin.lid_edge]
    angle = np.degrees(np.arctan2((edge[:, 1] - FISSURE[1]) / 0.6, (edge[:, 0] - FISSURE[0]) / 1.25)) % 360
    upper = np.flatnonzero((angle > 4) & (angle < 166))
    chosen = skin.lid_edge[upper[np.argsort(-angle[upper])]]  # from the inner corner to the outer
    root = _evened(points[chosen])
    t = np.linspace(0, 1, len(root))
    length = 0.04 + 0.19 * np.clip(t * 1.4, 0, 1) ** 1.1 * np.clip((1.02 - t) / 0.22, 0.1, 1)
    out = root - EYE_CENTRE
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    aim = out + np.stack([0.5 * (t - 0.35), 0.15 + 0 * t, 0 * t], axis=1)
    curl = out * 0.45 + np.stack([0.7 * (t - 0.35), 0.75 + 0 * t, 0 * t], axis=1)
    rows = [
        root + 0.015 * out,
        root + 0.5 * length[:, None] * aim,
        root + length[:, None] * (0.6 * aim + 0.45 * curl),
    ]
    rows[0][:, 1] += 0.02
    count = len(root)
    a = np.arange(count - 1)
    triangles = []
    for row in range(2):
        b = row * count + a
        triangles += [
            np.stack([b, b + 1, b + count + 1], axis=1),
            np.stack([b, b + count + 1, b + count], axis=1),
        ]
    return Part(
        name="lashes",
        positions=np.concatenate(rows),
        triangles=np.concatenate(triangles),
        uv=np.full((3 * count, 2), 0.5),
        gloss=np.full(3 * count, 0.1),
        carriers=stack_rows([skin.carriers[chosen]] * 3),
    )


def _evened(curve: np.ndarray, rounds: int = 2) -> np.ndarray:
    for _ in range(rounds):
        middle = (curve[:-2] + 2 * curve[1:-1] + curve[2:]) / 4
        curve = np.concatenate([curve[:1], middle, curve[-1:]])
    return curve
