"""The fitted head and a sheet that carries the rest of the picture, ready to be moved frame by frame."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32
from scipy import ndimage

from affetto.generators.portrait import kernels as k
from affetto.generators.portrait.depth import SourceView, brought_nearer, continued, flattened, front_depth
from affetto.generators.portrait.fit import FaceFit
from affetto.generators.portrait.glasses import Glasses
from affetto.generators.portrait.light import samples_at
from affetto.head.landmarks68 import VERTICES_68
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_52
from affetto.media.mesh import vertex_normals

PARTS = (
    ("skin", k.SKIN),
    ("eyes", k.EYE),
    ("mouth", k.HOLLOW),
    ("gums", k.GUM),
    ("teeth", k.TOOTH),
    ("tongue", k.TONGUE),
)
_SINK = {
    k.EYE: 0.0025,
    k.TOOTH: 0.0015,
    k.GUM: 0.002,
    k.TONGUE: 0.0015,
}  # metres that parts hide behind the skin
_OFFSET_REACH = 0.014  # metres
_FADE = 0.035  # metres outside the face over which its expressions die away
_BEYOND = 0.05  # metres of sheet past the picture's edges, from where content moves in


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Displacement fields (52 shapes, then correctives) on some vertices, without their many zeros."""

    starts: Int32[np.ndarray, "bound"]
    index: Int32[np.ndarray, "entry"]
    values: Float32[np.ndarray, "entry 3"]

    @classmethod
    def packed(cls, fields: Float[np.ndarray, "field vertex 3"], least: float = 2e-5) -> "Fields":
        """The fields without displacements under `least` metres."""
        moved = np.abs(fields).max(axis=-1) > least
        counts = moved.sum(axis=1)
        index = np.nonzero(moved)[1]
        return cls(
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            index=index.astype(np.int32),
            values=np.ascontiguousarray(fields[moved], dtype=np.float32),
        )


@dataclass(frozen=True, kw_only=True)
class FaceRig:
    """The parts of the head that are drawn: rest shape in the head's frame (metres), what moves it, where it was seen.

    `vertices` are the head's own numbers. `uv` are pixels in which each vertex is seen in the photograph. `trust` is 1
    where the photograph shows the skin well and 0 where the sheet should take over.
    """

    vertices: Int[np.ndarray, "vertex"]
    rest: Float32[np.ndarray, "vertex 3"]
    deltas: Float32[np.ndarray, "field vertex 3"]
    triangles: Int32[np.ndarray, "triangle 3"]
    kinds: Int32[np.ndarray, "triangle"]
    kind: Int32[np.ndarray, "vertex"]
    source: Float32[np.ndarray, "vertex 3"]  # as in the photograph, in the head's frame
    uv: Float32[np.ndarray, "vertex 2"]
    trust: Float32[np.ndarray, "vertex"]
    sink: Float32[np.ndarray, "vertex"]
    share: Float32[np.ndarray, "vertex"]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A grid over the photograph with depth: `rest` in the head's frame, so that it shows the photograph unmoved."""

    home: Float32[np.ndarray, "corner 2"]
    cells: Int32[np.ndarray, "cell 3"]
    rest: Float32[np.ndarray, "corner 3"]
    deltas: Float32[np.ndarray, "field corner 3"]
    share: Float32[np.ndarray, "corner"]


def amounts_of(head: HeadModel, weights: Float[np.ndarray, "52"]) -> Float32[np.ndarray, "field"]:
    """How much of every field (shapes, then correctives) the weights ask for."""
    rows = head.effective(weights[None])[0]
    first, second = head.corrective_pairs.T
    both = np.clip(rows[first], 0, None) * np.clip(rows[second], 0, None)
    return np.concatenate([rows, both]).astype(np.float32)


def face_rig(head: HeadModel, fit: FaceFit, view: SourceView, glasses: Glasses) -> FaceRig:
    """The drawable head with the fit's identity and offsets laid into its rest shape; skin under rims keeps still."""
    surface = head.mesh.surface
    spans = [(surface.groups[name], kind) for name, kind in PARTS]
    triangles = np.concatenate([surface.triangles[start:stop] for (start, stop), _ in spans])
    kinds = np.concatenate([np.full(stop - start, kind) for (start, stop), kind in spans])
    rest = head.identified(fit.identity) + _offsets(head, fit)
    fields = np.concatenate([head.mesh.deltas, head.correctives])
    amounts = amounts_of(head, fit.weights)
    source = (rest + np.tensordot(amounts, fields, 1)).astype(np.float32)
    trust = _trust(head, fit, source, view)
    nearer = brought_nearer(fit, source)
    rest, source = rest + (nearer - source), nearer
    kept = (kinds != k.SKIN) | (trust[triangles].max(axis=1) > 0)
    triangles, kinds = triangles[kept], kinds[kept]
    # Skin first, so that a vertex which skin and mouth share counts as skin.
    vertices, first, flat = np.unique(triangles.ravel(), return_index=True, return_inverse=True)
    kind = kinds[first // 3]
    sink = np.zeros(len(vertices), np.float32)
    for part, metres in _SINK.items():
        sink[kind == part] = metres
    uv = fit.project(source[vertices])
    free = np.ones((2, len(vertices)), np.float32)  # to move with the lids, and with all else
    if glasses.rims is not None and glasses.stiff is not None:
        skin = kind == k.SKIN
        free[0, skin] -= samples_at(glasses.rims, uv[skin])
        free[1, skin] -= samples_at(glasses.stiff, uv[skin])
    fields = fields * _brow_room(head, source)[:, None, None]
    lids = np.array([name.startswith("eye") for name in ARKIT_52] + [False] * len(head.correctives))
    deltas = (fields[:, vertices] * np.where(lids[:, None], free[0], free[1])[..., None]).astype(np.float32)
    return FaceRig(
        vertices=vertices,
        rest=(source[vertices] - np.tensordot(amounts, deltas, 1)).astype(np.float32),
        deltas=np.ascontiguousarray(deltas),
        triangles=flat.reshape(-1, 3).astype(np.int32),
        kinds=kinds.astype(np.int32),
        kind=kind.astype(np.int32),
        source=source[vertices],
        uv=uv,
        trust=np.where(kind == k.SKIN, trust[vertices], 1.0).astype(np.float32),
        sink=sink,
        share=head.head_weights[vertices].astype(np.float32),
    )


def _brow_room(head: HeadModel, source: Float32[np.ndarray, "vertex 3"]) -> Float32[np.ndarray, "field"]:
    """How much of every field the face has room for: brows that sit low cannot come down far."""
    rest = head.mesh.surface.positions[VERTICES_68]
    ours = float(rest[17:27, 1].mean() - rest[[37, 38, 43, 44], 1].mean())
    here = source[VERTICES_68]
    room = float(here[17:27, 1].mean() - here[[37, 38, 43, 44], 1].mean())
    gains = np.ones(len(head.mesh.deltas) + len(head.correctives), np.float32)
    gains[[ARKIT_52.index(f"browDown{side}") for side in ("Left", "Right")]] = np.clip(
        (room - 0.004) / (ours - 0.004), 0.25, 1
    )
    return gains


def _offsets(head: HeadModel, fit: FaceFit) -> Float[np.ndarray, "vertex 3"]:
    """The landmarks' offsets spread over the skin by radial functions; eyeballs and teeth move as wholes."""
    posed = head.deform(fit.weights, identity=fit.identity)[0].astype(np.float64)
    marks = posed[VERTICES_68]

    def kernel(points: np.ndarray) -> np.ndarray:
        square = ((points[:, None] - marks[None]) ** 2).sum(axis=-1)
        return np.exp(-0.5 * square / _OFFSET_REACH**2)

    spread = np.linalg.solve(kernel(marks) + 0.12 * np.eye(68), fit.offsets.astype(np.float64))
    result = np.zeros_like(posed)
    start, stop = head.mesh.surface.groups["skin"]
    skin = np.unique(head.mesh.surface.triangles[start:stop])
    result[skin] = kernel(posed[skin]) @ spread
    for side, eye in enumerate(head.mesh.eye_vertices):
        result[eye] = fit.offsets[
            (42, 43, 44, 45, 46, 47) if side == 0 else (36, 37, 38, 39, 40, 41), :
        ].mean(axis=0)
    for name in ("mouth", "teeth", "gums", "tongue"):
        start, stop = head.mesh.surface.groups[name]
        own = np.setdiff1d(np.unique(head.mesh.surface.triangles[start:stop]), skin)
        result[own] = fit.offsets[48:68].mean(axis=0)
    return result


def _trust(head: HeadModel, fit: FaceFit, source: np.ndarray, view: SourceView) -> np.ndarray:
    """How well the photograph shows each vertex of the skin: frontal, not hidden, on the front of the head."""
    surface = head.mesh.surface
    start, stop = surface.groups["skin"]
    normals = vertex_normals(source, surface.triangles[start:stop]) @ fit.rotation.T
    before = fit.before_camera(source)
    ray = -before / np.linalg.norm(before, axis=1, keepdims=True)
    facing = smooth((normals * ray).sum(axis=1), 0.2, 0.5)
    place = surface.positions
    front = (
        smooth(place[:, 2], -0.058, -0.026)
        * smooth(head.head_weights, 0.9, 1.0)
        * smooth(place[:, 1], -0.128, -0.112)
    )
    # Folds of lids and lips hide behind themselves; they are the face's moving parts all the same.
    eyes = np.linalg.norm(place[:, None] - head.mesh.eye_centres[None], axis=-1).min(axis=1) < 0.026
    mouth = np.linalg.norm((place - place[VERTICES_68[62]]) * [0.75, 1.0, 0.6], axis=1) < 0.022
    folds = eyes | mouth
    flat = fit.camera.project(before) / view.step
    x = np.clip(flat[:, 0].astype(int), 0, view.depth.shape[1] - 1)
    y = np.clip(flat[:, 1].astype(int), 0, view.depth.shape[0] - 1)
    hidden = view.covered[y, x] & (-before[:, 2] > view.depth[y, x] + 0.006)
    nostril = np.linalg.norm(place - place[VERTICES_68[33]], axis=1) < 0.02
    trust = np.where(folds, front, facing * front * ~(hidden & ~nostril))
    return trust.astype(np.float32)


def smooth(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high`, smoothly between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def sheet(fit: FaceFit, rig: FaceRig, view: SourceView, size: tuple[int, int], spacing: float) -> Sheet:
    """The sheet over a picture of `size` with corners `spacing` pixels apart, and a margin around it."""
    beyond = int(np.ceil(_BEYOND * fit.pixels_per_metre / spacing))
    columns, rows = (int(np.ceil(side / spacing)) + 1 + 2 * beyond for side in size)
    x, y = np.meshgrid((np.arange(columns) - beyond) * spacing, (np.arange(rows) - beyond) * spacing)
    home = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    depth, share = _terrain(view, home, fit)
    before = fit.camera.unproject(home, depth)
    rest = ((before - fit.translation) @ fit.rotation).astype(np.float32)
    deltas = _carried(rig, fit, home)
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    cells = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return Sheet(home=home, cells=cells.astype(np.int32), rest=rest, deltas=deltas, share=share)


def hemmed(sheet: Sheet, region: tuple[int, int, int, int], size: tuple[int, int], hem: float) -> Sheet:
    """The sheet of a region (left, top, right, bottom) held still along those edges that lie inside the picture.

    `hem` is the pixels over which it gains its freedom.
    """
    left, top, right, bottom = region
    x, y = sheet.home.T
    free = np.ones(len(sheet.home), np.float32)
    for inside, distance in (
        (left > 0, x),
        (top > 0, y),
        (right < size[0], right - left - x),
        (bottom < size[1], bottom - top - y),
    ):
        if inside:
            free *= smooth(distance, 0.0, hem).astype(np.float32)
    return dataclasses.replace(sheet, share=sheet.share * free, deltas=sheet.deltas * free[None, :, None])


def _terrain(view: SourceView, home: np.ndarray, fit: FaceFit) -> tuple[np.ndarray, np.ndarray]:
    """Depth and share of the head's turning at each corner, continued and smoothed beyond the head's outline."""
    metre = fit.pixels_per_metre / view.step
    depth = continued(flattened(view.depth, front_depth(fit)), view.covered, 0.007 * metre)
    share = continued(view.share, view.covered, 0.008 * metre)
    y = np.clip(home[:, 1] / view.step, 0, depth.shape[0] - 1)
    x = np.clip(home[:, 0] / view.step, 0, depth.shape[1] - 1)
    at = np.stack([y, x])
    return (
        ndimage.map_coordinates(depth, at, order=1, mode="nearest"),
        np.clip(ndimage.map_coordinates(share, at, order=1, mode="nearest"), 0, 1).astype(np.float32),
    )


def _carried(rig: FaceRig, fit: FaceFit, home: np.ndarray) -> Float32[np.ndarray, "field corner 3"]:
    """Expressions at the sheet's corners: those of the skin seen there, dying away outside the face."""
    chosen = np.flatnonzero((rig.kind == k.SKIN) & (rig.trust > 0.05))
    seen, weight = rig.uv[chosen] / fit.pixels_per_metre, rig.trust[chosen]  # metres in the picture's plane
    corners = home / fit.pixels_per_metre
    result = np.zeros((len(rig.deltas), len(home), 3), np.float32)
    near = np.flatnonzero(_within(corners, seen, 0.09))
    for part in np.array_split(near, max(1, len(near) // 400)):
        square = ((corners[part, None] - seen[None]) ** 2).sum(axis=-1)
        nearest = np.sqrt(square.min(axis=1))
        reach = np.maximum(0.0035, 0.45 * nearest)[:, None]
        kernel = weight * np.exp(-0.5 * (square - square.min(axis=1, keepdims=True)) / reach**2)
        kernel /= kernel.sum(axis=1, keepdims=True) + 1e-9
        fade = 1.0 - smooth(nearest, 0.0, _FADE)
        result[:, part] = np.einsum(
            "cv,fvx->fcx", kernel * fade[:, None], rig.deltas[:, chosen], optimize=True
        )
    return result


def _within(corners: np.ndarray, seen: np.ndarray, reach: float) -> Bool[np.ndarray, "corner"]:
    low, high = seen.min(axis=0) - reach, seen.max(axis=0) + reach
    return ((corners > low) & (corners < high)).all(axis=1)


LID_SHAPES = tuple(ARKIT_52.index(f"eyeBlink{side}") for side in ("Left", "Right"))
