"""The reference face basis that the head is fitted to, made symmetric and brought to our rest pose.

Only the recipe reads this file; nothing of it is shipped. Lengths here are the basis's own units (about one centimetre).
"""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from affetto.media.animation.curves import ARKIT_52
from affetto.runtime.errors import InvalidInputError

SKIN = 14_062  # vertices below this index are skin, mouth cavity and eye sockets, one connected surface
FACE, NECK, CAVITY = 9_409, 11_248, 13_294
GUMS, TEETH, EYES = 14_062, 17_039, 21_451
EYE_CENTRE = np.array([3.1359, 3.6073, 8.0181])
EYE_RADIUS = 1.498
IPD = 2 * EYE_CENTRE[0]
REST_POSE = {
    **dict.fromkeys(("mouthSmileLeft", "mouthSmileRight"), 0.42),
    **dict.fromkeys(("cheekSquintLeft", "cheekSquintRight"), 0.10),
    **dict.fromkeys(("eyeBlinkLeft", "eyeBlinkRight"), 0.06),
}
CALMED = {
    **dict.fromkeys(
        ("eyeLookDownLeft", "eyeLookDownRight"), 0.62
    ),  # lids that follow an eyeball turned by 27 degrees
    **dict.fromkeys(("eyeBlinkLeft", "eyeBlinkRight"), 0.94),  # the rest pose has the other 0.06
    **dict.fromkeys(("mouthSmileLeft", "mouthSmileRight"), 0.85),
}


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Vertices, triangles, planar chart of the face and the symmetrised displacement fields."""

    vertices: Float[np.ndarray, "n 3"]
    triangles: Int[np.ndarray, "t 3"]
    face: Int[np.ndarray, "f 3"]
    neck: Int[np.ndarray, "g 3"]
    cavity: Int[np.ndarray, "c 3"]
    chart: Float[np.ndarray, "n 2"]
    expressions: Mapping[str, Float[np.ndarray, "n 3"]]
    identities: Float[np.ndarray, "i n 3"]
    landmarks: Float[np.ndarray, "68 3"]
    lips: tuple[float, float]  # height of the closed lips' contact, and its depth, at the midline


def load_reference(path: Path) -> Reference:
    """Read `ict_face_basis.npz` and return it symmetric, with lips closed and a faint smile at rest."""
    try:
        arrays = dict(np.load(path, allow_pickle=False))
        vertices = arrays["vertices"].astype(np.float64)
        triangles = arrays["triangles"].astype(np.int64)
        names = [str(name) for name in arrays["expression_names"]]
        raw = arrays["expression_deltas"].astype(np.float64)
        identities = arrays["identity_deltas"].astype(np.float32)
        uv, uv_triangles = arrays["uv"].astype(np.float64), arrays["uv_triangles"]
        landmarks = arrays["index_idx_to_landmark_verts"]
    except (OSError, KeyError, ValueError) as error:
        raise InvalidInputError(
            f"{path}: not the face basis ({error}): see the model card for its source"
        ) from error
    mirror = _mirror_map(vertices)
    vertices = _symmetric(vertices[None], mirror)[0]
    identities = _symmetric(identities, mirror)
    expressions = _arkit_fields(dict(zip(names, raw, strict=True)), mirror)
    centre = uv[uv_triangles].mean(axis=1)
    top, bottom = triangles.max(axis=1), triangles.min(axis=1)
    skin, is_face = top < SKIN, centre[:, 0] < 1
    cavity = skin & ~is_face & (top >= NECK) & (top < CAVITY)
    neck = skin & ~is_face & ~cavity & (top < CAVITY)
    chart = np.full((len(vertices), 2), np.nan)
    chosen = skin & is_face
    chart[triangles[chosen].ravel()] = uv[uv_triangles[chosen].ravel()]
    assert bottom.min() == 0
    vertices, expressions, lips = _rest(vertices, expressions)
    return Reference(
        vertices=vertices,
        triangles=triangles,
        face=triangles[chosen],
        neck=triangles[neck],
        cavity=triangles[cavity],
        chart=chart,
        expressions=expressions,
        identities=identities,
        landmarks=vertices[landmarks],
        lips=lips,
    )


def _mirror_map(vertices: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "n"]:
    parts = (0, SKIN, TEETH, EYES, 24_591, len(vertices))
    mirror = np.empty(len(vertices), np.int64)
    for start, stop in itertools.pairwise(parts):
        part = vertices[start:stop]
        mirror[start:stop] = start + KDTree(part).query(part * [-1, 1, 1])[1]
    return mirror


def _symmetric(fields: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    flip = np.array([-1, 1, 1], fields.dtype)
    return (fields + fields[:, mirror] * flip) / 2


def _arkit_fields(raw: Mapping[str, np.ndarray], mirror: np.ndarray) -> dict[str, np.ndarray]:
    """The 51 fields with a counterpart in the basis, under ARKit's names; left and right are exact mirror images."""
    fields: dict[str, np.ndarray] = {}
    flip = np.array([-1.0, 1.0, 1.0])
    for name in ARKIT_52:
        if name == "tongueOut" or name.endswith("Right"):
            continue
        if name in ("browInnerUp", "cheekPuff"):
            both = raw[f"{name}_L"] + raw[f"{name}_R"]
            fields[name] = _symmetric(both[None], mirror)[0]
        elif name in raw and not name.endswith("Left"):
            fields[name] = _symmetric(raw[name][None], mirror)[0]
        else:
            stem = name.removesuffix("Left")
            plain = stem in ("jaw", "mouth")
            left = raw[f"{stem}Left" if plain else f"{stem}_L"]
            right = raw[f"{stem}Right" if plain else f"{stem}_R"]
            fields[name] = (left + right[mirror] * flip) / 2
            fields[f"{stem}Right"] = (right + left[mirror] * flip) / 2
    return {name: fields[name] for name in ARKIT_52 if name in fields}


def _rest(
    vertices: np.ndarray, expressions: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[float, float]]:
    """Close the lips at rest and under mouthClose + jawOpen, and lift the mouth corners a little."""
    smiling = vertices + sum(weight * expressions[name] for name, weight in REST_POSE.items())
    closed = smiling + _closing(smiling, expressions["jawOpen"], vertices)
    expressions = dict(expressions)
    for name, factor in CALMED.items():
        expressions[name] = factor * expressions[name]
    sealed = expressions["jawOpen"] + expressions["mouthClose"]
    expressions["mouthClose"] = expressions["mouthClose"] + _sealing(sealed, expressions["jawOpen"], vertices)
    upper, lower = lip_contact(vertices)
    lips = (
        float((closed[upper, 1] + closed[lower, 1]) / 2),
        float((closed[upper, 2] + closed[lower, 2]) / 2),
    )
    return closed, expressions, lips


def lip_contact(neutral: np.ndarray) -> tuple[int, int]:
    """The lowest vertex of the upper lip and the highest of the lower lip, on the midline of the basis's neutral face."""
    skin = neutral[:FACE]
    near = (np.abs(skin[:, 0]) < 0.01) & (skin[:, 2] > 10.75) & (skin[:, 1] > -3.7) & (skin[:, 1] < -3.0)
    index = np.flatnonzero(near)
    gap = -3.36
    upper = index[skin[index, 1] > gap]
    lower = index[skin[index, 1] <= gap]
    return int(upper[np.argmin(skin[upper, 1])]), int(lower[np.argmax(skin[lower, 1])])


def _closing(pose: np.ndarray, jaw: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """A displacement that brings the lips of `pose` into contact along their whole width, fading out in each lip."""
    index = _lip_zone(neutral)
    points = neutral[index]
    share = _lip_share(index, jaw, neutral)
    is_upper = share > 0
    shift = np.zeros((len(neutral), 3))
    columns = np.linspace(0, 2.45, 25)
    gaps = []
    for x in columns:
        near = np.abs(np.abs(points[:, 0]) - x) < 0.11
        front = near & (points[:, 2] > points[near, 2].max() - 1.3)
        low = pose[index[front & is_upper], 1].min()
        high = pose[index[front & ~is_upper], 1].max()
        gaps.append(low - high + 0.06 + 0.06 * np.clip((x - 1.1) / 0.7, 0, 1))
    gaps = np.convolve(np.pad(gaps, 2, mode="edge"), np.ones(5) / 5, "valid")
    gap = np.interp(np.abs(points[:, 0]), columns, gaps)
    depth = np.exp(-((np.abs(points[:, 1] - _contact_height(points[:, 0])) / 0.55) ** 2))
    side = np.clip((2.75 - np.abs(points[:, 0])) / 0.3, 0, 1)
    shift[index, 1] = -share * gap * depth * side
    return shift


def _sealing(shift: np.ndarray, jaw: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """What makes both lips move alike under `shift`, so that lips that touch keep touching; fades out in each lip."""
    index = _lip_zone(neutral)
    points = neutral[index]
    height = points[:, 1] - _contact_height(points[:, 0])
    columns = np.linspace(0, 2.3, 13)
    apart = []
    for x in columns:
        near = np.exp(-(((np.abs(points[:, 0]) - x) / 0.25) ** 2)) * np.exp(-((height / 0.14) ** 2))
        near *= points[:, 2] > np.interp(x, [0, 1, 1.8, 2.3], [10.85, 10.6, 10.1, 9.6])
        up, low = near * (height > 0), near * (height <= 0)
        motion = shift[index] * np.sign(points[:, :1]) ** [1, 0, 0]
        apart.append(low @ motion / low.sum() - up @ motion / up.sum())
    gap = np.stack(
        [np.interp(np.abs(points[:, 0]), columns, [a[axis] for a in apart]) for axis in range(3)], axis=1
    )
    gap[:, 0] *= np.sign(points[:, 0])
    depth = np.exp(-((np.abs(height) / 0.75) ** 2)) * np.clip((2.6 - np.abs(points[:, 0])) / 0.4, 0, 1)
    field = np.zeros((len(neutral), 3))
    share = _lip_share(index, jaw, neutral)
    field[index] = share[:, None] * gap * depth[:, None]
    return field


def _lip_share(index: np.ndarray, jaw: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """From 0.5 on the upper lip to -0.5 on the lower, told apart by how far each point drops with the jaw."""
    points = neutral[index]
    height = points[:, 1] - _contact_height(points[:, 0])
    columns = np.linspace(0, 2.3, 13)
    drops = []
    for x in columns:
        near = np.exp(-(((np.abs(points[:, 0]) - x) / 0.25) ** 2)) * np.exp(-((height / 0.14) ** 2))
        near *= points[:, 2] > np.interp(x, [0, 1, 1.8, 2.3], [10.85, 10.6, 10.1, 9.6])
        drops.append([lip @ jaw[index, 1] / lip.sum() for lip in (near * (height > 0), near * (height <= 0))])
    top, bottom = (np.interp(np.abs(points[:, 0]), columns, [drop[i] for drop in drops]) for i in range(2))
    return np.clip((jaw[index, 1] - bottom) / np.maximum(top - bottom, 0.05), 0, 1) - 0.5


def _lip_zone(neutral: np.ndarray) -> np.ndarray:
    skin = np.zeros(len(neutral), bool)
    skin[:CAVITY] = True
    zone = skin & (np.abs(neutral[:, 0]) < 2.7) & (neutral[:, 2] > 9.0)
    return np.flatnonzero(zone & (neutral[:, 1] < -1.8) & (neutral[:, 1] > -5.2))


def _contact_height(x: np.ndarray) -> np.ndarray:
    return np.interp(np.abs(x), [0, 1.0, 1.7, 2.2, 2.6], [-3.36, -3.34, -3.36, -3.48, -3.56])


def boundary_loops(triangles: Int[np.ndarray, "t 3"]) -> list[Int[np.ndarray, "k"]]:
    """The closed boundaries of a triangulated patch, each as vertex indices in the order of the triangles' edges."""
    edges = Counter()
    for a, b, c in triangles.tolist():
        edges.update(((a, b), (b, c), (c, a)))
    following = {a: b for a, b in edges if (b, a) not in edges}
    loops = []
    while following:
        start = next(iter(following))
        loop, vertex = [start], following.pop(start)
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(np.array(loop))
    return loops
