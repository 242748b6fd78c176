"""Pictures of faces that nobody has, with their 68 points: what the landmark network learns from.

A `Person` is an identity, a painted skin and a shape of hair; a `Shot` is one picture of a person with a random expression,
pose, camera and light. Two-dimensional layers (hair in front, glasses, hats, hands) are drawn over it, see
`synthetic_layers`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from affetto.generators.portrait import synthetic_layers as layers
from affetto.generators.portrait import synthetic_photo as photo
from affetto.generators.portrait.synthetic_skin import SkinPainter
from affetto.head import kernels
from affetto.head.landmarks68 import VERTICES_68
from affetto.head.model import HeadModel
from affetto.head.prepare import display_table, prepare_surface
from affetto.head.rotation import euler_matrix, rotation_vector
from affetto.head.stage import Camera
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.media.mesh import vertex_normals

MAX_YAW, MAX_PITCH, MAX_ROLL = np.radians((42.0, 24.0, 30.0))

_POSES: tuple[tuple[str, ...], ...] = (
    ("mouthSmileLeft", "mouthSmileRight"),
    ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight"),
    ("mouthFrownLeft", "mouthFrownRight"),
    ("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "eyeWideLeft", "eyeWideRight"),
    ("browDownLeft", "browDownRight"),
    ("eyeSquintLeft", "eyeSquintRight"),
    ("noseSneerLeft", "noseSneerRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
    ("mouthStretchLeft", "mouthStretchRight"),
    ("mouthPressLeft", "mouthPressRight"),
    ("mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
    ("mouthFunnel",),
    ("mouthPucker",),
    ("mouthRollLower", "mouthRollUpper"),
    ("mouthShrugLower", "mouthShrugUpper"),
    ("mouthDimpleLeft", "mouthDimpleRight"),
)


_LIDS = [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]
_LOWEST = np.zeros(52, np.float32)
_LOWEST[_LIDS] = -0.3  # eyes may be wider open than the head's at rest


@dataclass(frozen=True, kw_only=True)
class Person:
    """Someone invented: a head with its own shape, a look, and what its hair and hat are like."""

    head: HeadModel
    offsets: Float32[np.ndarray, "vertex 3"]
    atlas: Float32[np.ndarray, "row column 3"]
    style: layers.Style
    brow_lift: float  # metres


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A picture with the 68 points in its pixels, which of them are seen, and the head's (yaw, pitch, roll)."""

    picture: UInt8[np.ndarray, "row column 3"]
    points: Float32[np.ndarray, "68 2"]
    visible: Bool[np.ndarray, "68"]
    pose: Float32[np.ndarray, "3"]


class Photographer:
    """Invents people and takes pictures of them, `size` pixels a side with the face `framing` times smaller."""

    def __init__(self, head: HeadModel, *, size: int = 144, framing: float = 1.7) -> None:
        self.head, self.size, self.framing = head, size, framing
        surface = head.mesh.surface
        self._painter = SkinPainter(head)
        self._prepared = prepare_surface(surface, Camera(), size)
        self._table = display_table()
        self._normals_at_rest = vertex_normals(surface.positions, surface.triangles)
        self._hair = _vertices_of(head, "hair")
        count, rows = len(surface.positions), (size, size, kernels.SAMPLES)
        self._points, self._normals = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
        self._faces = np.empty((len(surface.triangles), 3), np.float32)
        self._projected = np.empty((count, 3), np.float32)
        self._starts = np.zeros(-(-size // 8) + 1, np.int32)
        self._bins = np.empty(2 * len(surface.triangles) + 1, np.int32)
        self._nearest, self._owner = np.empty(rows, np.float32), np.empty(rows, np.int32)

    def person(self, rng: np.random.Generator) -> Person:
        """Somebody new."""
        spread = rng.uniform(0.4, 1.0)
        head = self.head.with_identity(
            (spread * rng.standard_normal(len(self.head.identity))).astype(np.float32)
        )
        look = self._painter.paint(rng)
        style = layers.Style.random(rng, look)
        rest = head.mesh.surface.positions
        offsets = _bent(rest, rng)
        grown = self._normals_at_rest[self._hair]
        place = rest[self._hair] * 60.0
        lumps = np.sin(place @ rng.normal(0, 1.0, 3) * rng.uniform(0.5, 2.5) + rng.uniform(0, 6))
        above = np.clip((rest[self._hair, 1] - 0.03) / 0.06, 0, 1)
        amount = style.volume * above * (1 + 0.35 * lumps)
        offsets[self._hair] += grown * amount[:, None].astype(np.float32)
        if style.bald:  # the scalp itself shows, so the hair lies flat on it and is painted like skin
            offsets[self._hair] -= grown * (0.0055 * above[:, None]).astype(np.float32)
        return Person(
            head=head,
            offsets=offsets,
            atlas=style.dressed(look.atlas, rng),
            style=style,
            brow_lift=look.brow_lift / 1000.0,
        )

    def shot(self, person: Person, rng: np.random.Generator) -> Shot:
        """A picture of a person as anything may find them."""
        weights, gaze = random_expression(rng)
        angles = _random_pose(rng)
        distance = np.float32(np.exp(rng.uniform(np.log(0.4), np.log(3.0))))
        pivot = self.head.head_pivot.astype(np.float32)
        scene = self._posed(person, weights, gaze, angles, distance, pivot, rng)
        points = self._marks(person, scene, angles)
        background = photo.backdrop(self.size, rng)
        layers.hair_behind(background, scene, person.style, rng)
        picture = self._painted(person, background, scene, rng)
        visible = self._seen(points, self._projected[VERTICES_68, 2])
        picture = layers.in_front(picture, scene, person.style, self._nearest.max(axis=2), rng)
        picture = photo.developed(picture, rng)
        return Shot(picture=picture, points=points, visible=visible, pose=angles.astype(np.float32))

    def _marks(self, person: Person, scene: layers.Scene, angles: np.ndarray) -> Float32[np.ndarray, "68 2"]:
        """Where the 68 points are seen; those of the brows lie on the brows as painted."""
        points = self._projected[VERTICES_68, :2].copy()
        brows = self._points[VERTICES_68[17:27]] + euler_matrix(angles)[:, 1] * person.brow_lift
        points[17:27] = scene.shift + scene.focal * brows[:, :2] * [1, -1] / -brows[:, 2:]
        return points

    def _posed(
        self,
        person: Person,
        weights: Float32[np.ndarray, "52"],
        gaze: Float32[np.ndarray, "1 2 2"] | None,
        angles: Float[np.ndarray, "3"],
        distance: np.float32,
        pivot: Float32[np.ndarray, "3"],
        rng: np.random.Generator,
    ) -> layers.Scene:
        """Move the person's head into the picture: fills points, normals and pixels."""
        vertices = person.head.deform(weights, eyes=gaze)[0] + person.offsets
        vector = rotation_vector(euler_matrix(angles)).astype(np.float32)
        body = np.eye(3, dtype=np.float32)
        kernels.pose(
            np.ascontiguousarray(vertices), person.head.head_weights, vector, pivot, body,
            np.zeros(3, np.float32), distance, self._points,
        )  # fmt: skip
        prepared = self._prepared
        kernels.smooth_normals(
            self._points, prepared.triangles, prepared.fan_start, prepared.fan, self._faces, self._normals
        )
        return self._framed(angles, pivot, distance, rng)

    def nothing(self, person: Person, rng: np.random.Generator) -> UInt8[np.ndarray, "row column 3"]:
        """A picture without a face: a background, or the back of somebody's head."""
        background = photo.backdrop(self.size, rng)
        if rng.random() < 0.5:
            picture = background.astype(np.uint8)
        else:
            angles = np.array([np.pi + rng.normal(0, 0.4), rng.normal(0, 0.15), rng.normal(0, 0.15)])
            pivot = self.head.head_pivot.astype(np.float32)
            scene = self._posed(person, np.zeros(52, np.float32), None, angles, np.float32(1.0), pivot, rng)
            picture = self._painted(person, background, scene, rng)
        if rng.random() < 0.6:
            picture = layers.obstructed(picture, person.style, rng)
        return photo.developed(picture, rng)

    def _framed(
        self, angles: np.ndarray, pivot: np.ndarray, distance: np.float32, rng: np.random.Generator
    ) -> layers.Scene:
        """Choose focal length and shift so that the face fills its share of the picture; fill `_projected`."""
        near = np.float32(0.05)
        kernels.project(self._points, np.float32(1.0), 0, 0, near, self._projected)
        face = self._projected[VERTICES_68, :2]
        low, high = face.min(axis=0), face.max(axis=0)
        size = self.size
        focal = np.float32(size / self.framing / (high - low).max() * rng.uniform(0.93, 1.07))
        shift = size / 2 - focal * (low + high) / 2 + rng.uniform(-0.04, 0.04, 2) * size
        self._projected[:, :2] = self._projected[:, :2] * focal + shift.astype(np.float32)
        return layers.Scene(
            rotation=euler_matrix(angles),
            pivot=pivot,
            distance=float(distance),
            focal=float(focal),
            shift=shift,
        )

    def _painted(
        self, person: Person, background: np.ndarray, scene: layers.Scene, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "row column 3"]:
        size, prepared = self.size, self._prepared
        self._bins = kernels.bin_triangles(
            self._projected, prepared.triangles, size, size, 8, True, self._starts, self._bins
        )
        toward, lights = _random_light(rng)
        eye = np.array([*scene.shift, scene.focal], np.float32)
        picture = np.empty((size, size, 3), np.uint8)
        kernels.paint(
            self._projected, prepared.triangles, prepared.group, self._normals, prepared.attributes,
            person.atlas, self._starts, self._bins, 8, eye, lights, toward, self._table, background,
            0, 1, self._nearest, self._owner, picture,
        )  # fmt: skip
        return picture

    def _seen(
        self, points: Float32[np.ndarray, "68 2"], inverse: Float32[np.ndarray, "68"]
    ) -> Bool[np.ndarray, "68"]:
        """Whether each point is the nearest surface in its pixel, with 1.5 % slack in depth."""
        place = np.clip(points.astype(np.int64), 0, self.size - 1)
        return inverse > self._nearest.max(axis=2)[place[:, 1], place[:, 0]] * 0.985


def random_expression(
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "52"], Float32[np.ndarray, "1 2 2"]]:
    """Weights that mix a few poses of the face, a jaw, lids and stray shapes; and where the eyes look."""
    weights = np.zeros(52, np.float32)
    kind = rng.random()
    for _ in range(int(rng.integers(0, 4)) if kind > 0.15 else 0):
        amount = rng.random() ** 1.3
        for name in _POSES[int(rng.integers(len(_POSES)))]:
            weights[ARKIT_INDEX[name]] += amount * rng.uniform(0.75, 1.0)
    if rng.random() < 0.25:  # the smile of photographs
        smile = rng.uniform(0.4, 1.0)
        for name in ("mouthSmileLeft", "mouthSmileRight"):
            weights[ARKIT_INDEX[name]] = smile * rng.uniform(0.85, 1)
        for name in ("mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight"):
            weights[ARKIT_INDEX[name]] = rng.uniform(0, 0.6) * smile
        weights[ARKIT_INDEX["jawOpen"]] = rng.uniform(0, 0.15)
    elif rng.random() < 0.45:
        weights[ARKIT_INDEX["jawOpen"]] = rng.random() ** 1.5 * 0.85
    if rng.random() < 0.3:
        for name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            weights[ARKIT_INDEX[name]] = rng.uniform(0, 0.5) * (rng.random() < 0.4)
    lids = rng.random()
    blink = rng.uniform(-0.25, 0.2) if lids < 0.75 else rng.random()
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        weights[ARKIT_INDEX[name]] = blink if rng.random() < 0.95 else rng.random()
    extra = rng.integers(0, 52, 3)
    weights[extra] = np.maximum(weights[extra], rng.uniform(0, 0.4, 3) * (rng.random(3) < 0.5))
    weights[ARKIT_INDEX["tongueOut"]] = 0.0
    look = rng.normal(0, 0.2, 2) * (rng.random() < 0.8)
    gaze = np.tile(np.clip(look, -0.5, 0.5), (1, 2, 1)).astype(np.float32)
    return np.clip(weights, _LOWEST, 1), gaze


def _random_pose(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    wide = rng.random() < 0.5
    yaw = rng.uniform(-MAX_YAW, MAX_YAW) if wide else rng.normal(0, 0.15)
    pitch = np.clip(rng.normal(0, 0.14), -MAX_PITCH, MAX_PITCH)
    roll = np.clip(rng.normal(0, 0.14), -MAX_ROLL, MAX_ROLL)
    return np.array([np.clip(yaw, -MAX_YAW, MAX_YAW), pitch, roll])


def _random_light(
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "light 3"], Float32[np.ndarray, "row 3"]]:
    count = int(rng.integers(1, 4))
    toward = rng.standard_normal((count, 3))
    toward[:, 2] = np.abs(toward[:, 2]) * rng.uniform(0.2, 2.0)
    toward[0, 2] += 0.4
    toward[:, 1] += rng.uniform(0, 0.8)
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    ambient = rng.uniform(0.2, 0.8)
    warmth = rng.uniform(-0.12, 0.12, (count + 2, 1)) * np.array([1.0, 0.0, -1.0])
    strength = rng.dirichlet(np.ones(count)) * (1.15 - ambient)
    levels = np.concatenate([strength, [ambient * 0.9, ambient * rng.uniform(0.3, 0.9)]])[:, None]
    colours = np.clip(levels * (1 + warmth), 0, None) * rng.uniform(0.8, 1.7)
    rows = np.concatenate([colours, [[rng.uniform(0.05, 0.45), rng.uniform(0, 0.4), 0.0]]])
    return toward.astype(np.float32), rows.astype(np.float32)


def _bent(
    positions: Float32[np.ndarray, "vertex 3"], rng: np.random.Generator
) -> Float32[np.ndarray, "vertex 3"]:
    """A smooth displacement of everything, for shapes of face that the identity modes do not span."""
    scale = rng.normal(0, 0.035, 3)
    waves = rng.normal(0, 1.0, (3, 3)) * 18.0
    phase = rng.uniform(0, 2 * np.pi, 3)
    size = rng.normal(0, 0.0013, (3, 3))
    mirror = np.abs(positions[:, :1]) * [1, 0, 0] + positions * [0, 1, 1]  # mostly symmetric
    bends = np.sin(mirror @ waves + phase) @ size
    bends[:, 0] *= np.clip(positions[:, 0] / 0.02, -1, 1)
    crooked = np.sin(positions @ (rng.normal(0, 1.0, (3, 3)) * 12.0) + phase) @ (size * 0.4)
    return (positions * scale + bends + crooked).astype(np.float32)


def _vertices_of(head: HeadModel, group: str) -> np.ndarray:
    start, stop = head.mesh.surface.groups[group]
    return np.unique(head.mesh.surface.triangles[start:stop])
