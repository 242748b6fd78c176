"""Named points of a FLAME head, found from its own geometry and skinning weights; no file of landmarks is needed.

Eyes come from the eyeballs' joints, the mouth from where the jaw's weight jumps between points that touch, the rest from
the profile; each profile point is where our own head's normal at that landmark touches the curve.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy.spatial import KDTree

from affetto.head.flame import FlameModel
from affetto.head.model import HeadModel
from affetto.head.transfer import transfer_expressions
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.media.mesh import AnimatedMesh, vertex_normals
from affetto.runtime.errors import InvalidInputError

IPD = 0.063  # of our own head, metres; distances below are for a head of this size
_JAW = 2
_NEAR = 0.006  # lips at rest are nearer than this
_JUMP = 0.1  # of jaw weight between lips, at least
_STEEP = 70.0  # of jaw weight for each metre, more than skin has


@dataclass(frozen=True, kw_only=True)
class _Face:
    """What the finder needs to know of a head, levelled: eyes at the origin and as far apart as our own."""

    points: Float[np.ndarray, "vertex 3"]
    triangles: Int[np.ndarray, "triangle 3"]  # of skin
    jaw: Float[np.ndarray, "vertex"]  # how far each vertex goes with the jaw, 0..1
    balls: tuple[Int[np.ndarray, "left 3"], Int[np.ndarray, "right 3"]]  # triangles of the eyeballs
    eyes: Float[np.ndarray, "2 3"]  # centres, left and right
    origin: Float[np.ndarray, "3"]
    scale: float

    @classmethod
    def of(
        cls,
        points: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        jaw: Float[np.ndarray, "vertex"],
        balls: tuple[Bool[np.ndarray, "vertex"], Bool[np.ndarray, "vertex"]],
    ) -> "_Face":
        """The face of a head in any size and place, upright, +X to its left and +Z forward."""
        if not all(ball.sum() >= 8 for ball in balls):
            raise InvalidInputError("this FLAME has no eyeballs: its face cannot be found")
        eyes = np.stack([_sphere_centre(points[ball].astype(np.float64)) for ball in balls])
        origin, scale = eyes.mean(axis=0), IPD / float(np.linalg.norm(eyes[0] - eyes[1]))
        skin = ~(balls[0] | balls[1])
        return cls(
            points=(points - origin) * scale,
            triangles=triangles[skin[triangles].all(axis=1)],
            jaw=jaw,
            balls=(triangles[balls[0][triangles].all(axis=1)], triangles[balls[1][triangles].all(axis=1)]),
            eyes=(eyes - origin) * scale,
            origin=origin,
            scale=scale,
        )

    def found(self, normals: Mapping[str, Float[np.ndarray, "3"]]) -> dict[str, Float[np.ndarray, "3"]]:
        """The points by name, in the head's own size and place."""
        found = dict(zip(("eye_left", "eye_right"), self.eyes, strict=True))
        found |= _mouth(self)
        profile = _profile(self)
        seam = found["inner_upper_lip"][1]
        spans = {"nose_tip": (seam + 0.018, seam + 0.06), "upper_lip": (seam + 0.002, seam + 0.014),
                 "lower_lip": (seam - 0.016, seam - 0.002)}  # fmt: skip
        for name, (low, high) in spans.items():
            found[name] = _touching(profile, normals[name], low, high)
        found["chin"] = _touching(profile, normals["chin"], seam - 0.07, found["lower_lip"][1] - 0.012)
        found["nose_base"] = _deepest(profile, found["upper_lip"], found["nose_tip"])
        for index, side in enumerate(("left", "right")):
            found |= _lid_corners(self, index, side)
        return {name: point / self.scale + self.origin for name, point in found.items()}


@dataclass(frozen=True, kw_only=True)
class LandmarkedMesh:
    """Our head as `transfer_expressions` takes it, with the points that the finder gives on it."""

    mesh: AnimatedMesh
    landmarks: Mapping[str, Float32[np.ndarray, "3"]]


def flame_points(model: FlameModel, head: HeadModel) -> dict[str, Float[np.ndarray, "3"]]:
    """Points of the mean face by the names `HeadModel.landmarks` has, and `eye_left`, `eye_right`, in FLAME's units.

    Raises InvalidInputError when the model has no eyeballs or no lips that the jaw parts.
    """
    balls = (model.weights[:, 3] > 0.5, model.weights[:, 4] > 0.5)
    face = _Face.of(model.v_template, model.f, model.weights[:, _JAW], balls)
    return face.found(_landmark_normals(head))


def own_points(head: HeadModel) -> dict[str, Float[np.ndarray, "3"]]:
    """The same points of our own head, found the same way, so that what the finder always misses by cancels out."""
    surface = head.mesh.surface
    count = len(surface.positions)
    opening = np.linalg.norm(head.mesh.deltas[ARKIT_INDEX["jawOpen"]], axis=1)
    triangles = np.concatenate([surface.triangles[slice(*surface.groups[name])] for name in ("skin", "eyes")])
    balls = tuple(np.isin(np.arange(count), own) for own in head.mesh.eye_vertices)
    used = np.isin(np.arange(count), triangles)
    jaw = np.where(used, np.clip(opening / (0.6 * opening.max()), 0.0, 1.0), 0.0)
    face = _Face.of(surface.positions, triangles, jaw, (balls[0] & used, balls[1] & used))
    return face.found(_landmark_normals(head))


def flame_expressions(model: FlameModel, head: HeadModel) -> AnimatedMesh:
    """FLAME's mean head with our 52 expressions carried onto it (a second or two of work)."""
    own = {name: point.astype(np.float32) for name, point in own_points(head).items()}
    return transfer_expressions(
        model.surface(), flame_points(model, head), LandmarkedMesh(mesh=head.mesh, landmarks=own)
    )


def _sphere_centre(points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "3"]:
    """The centre of the sphere nearest to the points, which may be the front of a ball only (least squares)."""
    middle = points.mean(axis=0)
    rows = points - middle
    system = np.concatenate([2.0 * rows, np.ones((len(rows), 1))], axis=1)
    solution, *_ = np.linalg.lstsq(system, (rows**2).sum(axis=1), rcond=None)
    return middle + solution[:3]


def _mouth(face: _Face) -> dict[str, Float[np.ndarray, "3"]]:
    """Where the lips meet in the middle, and the two corners: there the jaw's weight changes more steeply than on skin."""
    points, jaw = face.points, face.jaw
    near = np.isin(np.arange(len(points)), face.triangles) & (np.abs(points[:, 0]) < 0.045)
    near &= (points[:, 1] < -0.035) & (points[:, 1] > -0.11) & (points[:, 2] > 0.0)
    chosen = np.flatnonzero(near)
    pairs = np.empty((0, 2), int)
    if len(chosen):
        pairs = chosen[KDTree(points[chosen]).query_pairs(_NEAR, output_type="ndarray")].reshape(-1, 2)
    jump = np.abs(jaw[pairs[:, 0]] - jaw[pairs[:, 1]])
    gap = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    pairs = pairs[jump > np.maximum(_JUMP, _STEEP * gap)]
    if len(pairs) < 4:
        raise InvalidInputError("this FLAME has no lips that its jaw parts: its face cannot be found")
    seam = points[pairs].mean(axis=1)
    middle = seam[np.abs(seam[:, 0]) < 0.006]
    middle = middle if len(middle) else seam
    lips = np.array([0.0, np.median(middle[:, 1]), np.quantile(middle[:, 2], 0.75)])
    left, right = seam[np.argmax(seam[:, 0])], seam[np.argmin(seam[:, 0])]
    return {"inner_upper_lip": lips, "inner_lower_lip": lips.copy(),
            "mouth_corner_left": left, "mouth_corner_right": right}  # fmt: skip


def _landmark_normals(head: HeadModel) -> dict[str, Float[np.ndarray, "3"]]:
    """Our head's outward normals at the landmarks that lie on its profile."""
    surface = head.mesh.surface
    normals = vertex_normals(surface.positions, surface.triangles)
    start, stop = surface.groups["skin"]
    skin = np.unique(surface.triangles[start:stop])
    names = ("nose_tip", "upper_lip", "lower_lip", "chin")
    _, nearest = KDTree(surface.positions[skin]).query(np.stack([head.landmarks[name] for name in names]))
    flat = normals[skin[nearest]] * np.array([0.0, 1.0, 1.0])
    return {name: row / np.linalg.norm(row) for name, row in zip(names, flat, strict=True)}


def _profile(face: _Face) -> Float[np.ndarray, "point 3"]:
    """The foremost points where the skin meets the plane between the eyes, every half millimetre from top to bottom."""
    points, own = face.points, face.triangles
    edges = np.concatenate([own[:, [0, 1]], own[:, [1, 2]], own[:, [2, 0]]])
    a, b = points[edges[:, 0]], points[edges[:, 1]]
    crosses = (a[:, 0] * b[:, 0] < 0) | (np.abs(a[:, 0]) < 1e-6)
    a, b = a[crosses], b[crosses]
    gap = b[:, 0] - a[:, 0]
    share = np.divide(-a[:, 0], gap, out=np.zeros_like(gap), where=np.abs(gap) > 1e-9)
    met = a + np.clip(share, 0.0, 1.0)[:, None] * (b - a)
    heights = np.arange(0.03, -0.14, -0.0005)
    rows = []
    for height in heights:
        close = np.abs(met[:, 1] - height) < 0.0025
        if close.any():
            rows.append((0.0, height, met[close, 2].max()))
    if len(rows) < 40:
        raise InvalidInputError("this FLAME has no profile between its eyes: give landmarks")
    profile = np.array(rows)
    profile[:, 2] = np.convolve(np.pad(profile[:, 2], 2, mode="edge"), np.ones(5) / 5, mode="valid")
    return profile


def _touching(
    profile: Float[np.ndarray, "point 3"], normal: Float[np.ndarray, "3"], low: float, high: float
) -> Float[np.ndarray, "3"]:
    """The point of the profile between two heights that lies farthest along `normal`."""
    inside = profile[(profile[:, 1] >= low) & (profile[:, 1] <= high)]
    if not len(inside):
        raise InvalidInputError("this FLAME's profile has gaps: give landmarks")
    return inside[np.argmax(inside @ normal)]


def _deepest(
    profile: Float[np.ndarray, "point 3"], low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """The point between two others that lies farthest behind the line through them."""
    inside = profile[(profile[:, 1] > low[1]) & (profile[:, 1] < high[1])]
    if not len(inside):
        raise InvalidInputError("this FLAME's profile has gaps: give landmarks")
    along = (high - low) / np.linalg.norm(high - low)
    ahead = np.array([0.0, -along[2], along[1]])
    return inside[np.argmin((inside - low) @ ahead)]


def _lid_corners(face: _Face, index: int, side: str) -> dict[str, Float[np.ndarray, "3"]]:
    """The inner and the outer end of what shows of an eyeball from in front; nothing where it does not show."""
    centre = face.eyes[index]
    axis = np.linspace(-0.02, 0.02, 81)
    grid = np.stack(np.meshgrid(centre[0] + axis, centre[1] + axis[::2], indexing="ij"), -1).reshape(-1, 2)
    eye = _depth(face.points, face.balls[index], grid)
    shown = grid[eye > _depth(face.points, face.triangles, grid)]
    if len(shown) < 20:
        return {}
    away = np.abs(shown[:, 0])
    corners = {}
    for name, end in (("inner", shown[np.argmin(away)]), ("outer", shown[np.argmax(away)])):
        depth = _depth(face.points, face.triangles, _beside(end, centre))
        if np.isfinite(depth).any():
            corners[f"eye_{name}_{side}"] = np.array([*end, float(np.max(depth))])
    return corners


def _beside(end: Float[np.ndarray, "2"], centre: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 2"]:
    """Places just outside an end of the opening, where skin is."""
    away = np.sign(end[0] - centre[0])
    return end + np.array([[0.001, 0.0], [0.002, 0.0], [0.003, 0.0]]) * away


def _depth(
    points: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    places: Float[np.ndarray, "place 2"],
) -> Float[np.ndarray, "place"]:
    """The foremost z of the triangles at each place seen from in front; minus infinity where there is none."""
    corners = points[triangles]
    low, high = places.min(axis=0), places.max(axis=0)
    hit = (corners[..., :2].max(axis=1) >= low).all(1) & (corners[..., :2].min(axis=1) <= high).all(1)
    best = np.full(len(places), -np.inf)
    for a, b, c in corners[hit]:
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if abs(area) < 1e-14:
            continue
        u = ((places[:, 0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (places[:, 1] - a[1])) / area
        v = ((b[0] - a[0]) * (places[:, 1] - a[1]) - (places[:, 0] - a[0]) * (b[1] - a[1])) / area
        inside = (u >= 0) & (v >= 0) & (u + v <= 1)
        z = a[2] + u * (b[2] - a[2]) + v * (c[2] - a[2])
        best = np.where(inside & (z > best), z, best)
    return best
