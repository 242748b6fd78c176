"""One frame's geometry: weights, head and gaze become vertices and what each vertex shows."""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from affetto.generators.portrait import kernels as k
from affetto.generators.portrait.fit import PASSING, FaceFit
from affetto.generators.portrait.layers import Layers
from affetto.generators.portrait.light import shading
from affetto.generators.portrait.mouth import Lips, edge_graph, enclosed
from affetto.generators.portrait.rig import LID_SHAPES, FaceRig, Fields, Sheet, amounts_of, smooth
from affetto.head import kernels as head_kernels
from affetto.head.model import HeadModel
from affetto.head.rotation import euler_matrix, rotation_vector
from affetto.media.animation.curves import ARKIT_INDEX

_GAP = 0.0025  # metres between the lips at which the inside of the mouth is fully drawn
_SLACK = 0.0001  # metres that do not count as a change
_SEAM = 0.0007  # metres by which parted lips leave the dark line between them behind
_OVERLAP = 0.0003  # metres by which closed lips press into each other
_JAW = ARKIT_INDEX["jawOpen"]
_SHADING = 0.9  # of the physical change in light
_PRESSED = 0.0024  # metres beside the lids' rims that touch when the eye is shut
_SLIT = 0.75  # how dark the eyeball gets between lids that are all but shut


_EYE_SHAPES = tuple(
    [ARKIT_INDEX[f"eye{part}{side}"] for part in ("Blink", "Squint", "Wide")] for side in ("Left", "Right")
)


@dataclass(frozen=True, kw_only=True)
class _Lid:
    """What closes an eye: its blink, the vertices of the `upper` lid and of both rims, where they lie when shut.

    `mask` is 1 but for the corners' outside, `edge` the upper rim, `line` how much of the lashes' line lies on a vertex.
    """

    shape: int
    index: Int[np.ndarray, "vertex"]
    upper: Bool[np.ndarray, "vertex"]
    mask: Float32[np.ndarray, "vertex"]
    shut: Float32[np.ndarray, "vertex 2"]
    edge: Int[np.ndarray, "edge"]
    nearest: Int[np.ndarray, "vertex"]
    line: Float32[np.ndarray, "vertex"]


class Performer:
    """Moves the rig and the sheet. Its arrays belong to one frame at a time."""

    def __init__(
        self,
        head: HeadModel,
        fit: FaceFit,
        rig: FaceRig,
        sheet: Sheet,
        layers: Layers,
        lips: Lips,
        *,
        neutralise: float,
    ) -> None:
        self._head, self._fit, self._rig, self._layers = head, fit, rig, layers
        self.camera = fit.camera
        count = len(rig.vertices)
        self._rest = np.concatenate([rig.rest, sheet.rest]).astype(np.float32)
        self._source = amounts_of(head, fit.weights)
        closed = amounts_of(head, fit.weights * ~PASSING)
        seal = np.concatenate([_seal(rig, lips, closed), np.zeros_like(sheet.rest)])
        fields = np.concatenate([np.concatenate([rig.deltas, sheet.deltas], axis=1), seal[None]])
        self._sealed = np.float32(neutralise)
        # The sheet lies still at the photograph's own expression.
        self._rest[count:] -= np.tensordot(self._source, sheet.deltas, 1).astype(np.float32)
        self._fields = Fields.packed(fields)
        self._share = np.concatenate([rig.share, sheet.share]).astype(np.float32)
        self._pivot = np.asarray(head.head_pivot, np.float32) + _pivot_shift(head, fit)
        self._target = (-(fit.rotation.T @ fit.translation)).astype(np.float32)
        total = len(self._rest)
        self._moved, self._points = np.empty((total, 3), np.float32), np.empty((total, 3), np.float32)
        self._sink = np.concatenate([rig.sink, np.zeros(total - count, np.float32)])
        self.projected = np.empty((total, 3), np.float32)
        self.count = count
        self.attributes = np.zeros((count, k.ATTRIBUTES), np.float32)
        self._fans = _fans(rig.triangles, count)
        self._faces = np.empty((len(rig.triangles), 3), np.float32)
        self._normals = np.empty((count, 3), np.float32)
        self.kinds = rig.kinds.copy()
        self._prepare_surfaces(lips)
        self._prepare_eyes()
        self._prepare_lid_backs()
        self._prepare_lids()

    def _prepare_surfaces(self, lips: Lips) -> None:
        rig, colours = self._rig, self._layers.mouth
        local = np.full(int(rig.vertices.max()) + 1, -1)
        local[rig.vertices] = np.arange(self.count)
        drawn = np.isin(lips.inside, rig.vertices)
        self._inside, self._hinge = local[lips.inside[drawn]], local[lips.nearest[drawn]]
        self._upper, self._lower = local[lips.upper], local[lips.lower]
        inner = np.zeros(self.count, bool)
        inner[self._inside] = True
        self.kinds[inner[rig.triangles].any(axis=1) & (self.kinds == k.SKIN)] = k.HOLLOW
        self._sink[self._inside] = np.minimum(0.03, 0.8 * lips.depth[drawn])
        self._skin = np.flatnonzero((rig.kind == k.SKIN) & ~inner)
        depth = lips.depth[drawn].astype(np.float32)
        self._hollow = (np.exp(-depth / 0.006), smooth(depth, 0.0015, 0.0075).astype(np.float32), depth)
        self._base = np.zeros((self.count, 4), np.float32)
        for kind, colour, reach in (
            (k.TOOTH, colours.tooth, 0.6),
            (k.GUM, colours.gum, 0.6),
            (k.TONGUE, colours.tongue, 1.3),
        ):
            self._base[rig.kind == kind] = (*colour, reach)
        low = (rig.kind == k.TOOTH) & (np.abs(rig.deltas[_JAW]).max(axis=1) > 1e-3)  # what moves with the jaw
        self._base[low, :3] *= 0.95
        self._first = int(
            np.flatnonzero(np.isin(rig.kind, (k.TOOTH, k.GUM, k.TONGUE))).min(initial=self.count)
        )
        front = self._upper_teeth = np.flatnonzero((rig.kind == k.TOOTH) & ~low)
        if len(front):
            front = front[rig.source[front, 2] > rig.source[front, 2].max() - 0.006]
        facing = np.maximum(self._layers.normals[front] @ self._layers.light[:3], 0)
        self._gain = np.float32(1.0 / (0.6 + 0.4 * float(facing.mean()))) if len(front) else np.float32(1.0)
        self.attributes[:, k.TRUST] = rig.trust
        self.attributes[:, k.SHADE] = 1.0
        self.attributes[:, k.U : k.V + 1] = self.attributes[:, k.U2 : k.V2 + 1] = rig.uv
        self.attributes[:, k.RED : k.BLUE + 1] = colours.cavity
        if colours.teeth_seen:
            self._align_teeth(colours.ivory[..., 3])
        self._prepare_seam()

    def _align_teeth(self, seen: np.ndarray) -> None:
        """Lift where the upper teeth's edges are looked up to where the photograph's own teeth end."""
        uv = self._rig.uv[self._upper_teeth]
        rows, columns = np.nonzero(seen > 0.5)
        middle = np.abs(columns - np.median(columns)) <= max(2.0, 0.25 * np.ptp(columns))
        lowest = [rows[middle & (columns == column)].max() for column in np.unique(columns[middle])]
        front = np.abs(uv[:, 0] - np.median(columns)) <= max(2.0, 0.25 * np.ptp(columns))
        if front.any():
            lift = min(0.0, float(np.median(lowest)) - float(uv[front, 1].max()))
            self.attributes[self._upper_teeth, k.V] += np.float32(lift)

    def _prepare_seam(self) -> None:
        """For each vertex near the lips' line: where it slides to in the photograph when the lips part."""
        rig, fit = self._rig, self._fit
        up = fit.project(rig.source[self._upper] + [0, 0.01, 0]) - rig.uv[self._upper]
        self._up = (up / np.linalg.norm(up, axis=1, keepdims=True)).mean(axis=0)
        gap = rig.source[self._upper, 1] - _across(rig.source, self._upper, self._lower)
        self._source_gap = np.maximum(gap, 0)
        line = np.concatenate([self._upper, self._lower])
        self._line = line
        place = rig.rest
        near = self._skin[np.linalg.norm(place[self._skin] - place[line].mean(axis=0), axis=1) < 0.05]
        distance = np.linalg.norm(place[near, None] - place[line][None], axis=-1)
        best = distance.argmin(axis=1)
        close = distance[np.arange(len(near)), best] < 0.005
        self._rim, self._rim_line = near[close], best[close]
        side = np.where(self._rim_line < len(self._upper), 1.0, -1.0)
        fade = np.exp(-((distance[np.arange(len(near)), best][close] / 0.0018) ** 2))
        thick = self._thickness()
        shift = np.minimum(max(_SEAM * fit.pixels_per_metre, 1.0), 0.35 * thick)
        self._rim_slide = (side * fade * shift[self._rim_line])[:, None].astype(np.float32) * self._up[None]
        # What lies behind the lips' line is seen as the lip in front of it, mirrored.
        hinge = np.searchsorted(np.sort(line), self._hinge)
        self._hinge_line = np.argsort(line)[np.minimum(hinge, len(line) - 1)]
        depth = np.minimum(self._hollow[2] * 0.8 * fit.pixels_per_metre, 0.65 * thick[self._hinge_line])
        outward = np.where(self._hinge_line < len(self._upper), 1.0, -1.0)
        self._mirror = (outward * (depth + shift[self._hinge_line]))[:, None].astype(np.float32) * self._up[
            None
        ]

    def _thickness(self) -> Float[np.ndarray, "line"]:
        """Pixels from each vertex of the lips' line to the outer edge of its lip in the photograph."""
        points = self._fit.points
        edges = (points[48:55], np.concatenate([points[54:60], points[48:49]]))
        result = []
        for line, edge in zip((self._upper, self._lower), edges, strict=True):
            curve = np.concatenate([np.linspace(a, b, 12) for a, b in itertools.pairwise(edge)])
            apart = np.linalg.norm(self._rig.uv[line][:, None] - curve[None], axis=-1)
            result.append(apart.min(axis=1))
        return np.concatenate(result)

    def _prepare_eyes(self) -> None:
        rig, mesh = self._rig, self._head.mesh
        self._eyes = []
        for centre, vertices in zip(mesh.eye_centres, mesh.eye_vertices, strict=True):
            index = np.searchsorted(rig.vertices, vertices)
            moved = (rig.rest[index] - mesh.surface.positions[vertices]).mean(axis=0)
            middle = (centre + moved).astype(np.float32)
            self._eyes.append((index, middle, (rig.rest[index] - middle).astype(np.float32)))
            self.attributes[index, k.U2 : k.V2 + 1] = rig.uv[index]

    def _prepare_lid_backs(self) -> None:
        """The inner side of the lids' edges, hidden in the photograph."""
        rig, mesh = self._rig, self._head.mesh
        self._lid_backs = [np.zeros(0, np.int64), np.zeros(0, np.int64)]
        skin = rig.triangles[rig.kinds == k.SKIN]
        graph = edge_graph(skin, rig.source)
        corners = np.sort(np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]]), axis=1)
        edges, uses = np.unique(corners, axis=0, return_counts=True)
        border = np.unique(edges[uses == 1])
        for side, centre in enumerate(mesh.eye_centres):
            loop = np.searchsorted(rig.vertices, self._head.lid_edges[side])
            place = mesh.surface.positions[rig.vertices[border]]
            seeds = np.setdiff1d(border[np.linalg.norm(place - centre, axis=1) < 0.0225], loop)
            if len(seeds) == 0:
                continue
            inner = enclosed(graph, loop, seeds)
            if len(inner) <= 6 * len(loop):  # else the edge does not close: nothing is known to lie behind it
                self._lid_backs[side] = inner

    def _prepare_lids(self) -> None:
        rig, fit = self._rig, self._fit
        self._lids = []
        place = self._head.mesh.surface.positions[rig.vertices]
        for side, shape in enumerate(LID_SHAPES):
            motion = rig.deltas[shape]
            rim = np.searchsorted(rig.vertices, self._head.lid_edges[side])
            ends = _canthi(place[rim])
            near = np.linalg.norm(place - self._head.mesh.eye_centres[side], axis=1) < 0.028
            above = place[:, 1] > np.interp(place[:, 0], *ends) + 0.0004
            back = self._lid_backs[side]
            index = np.flatnonzero(near & (rig.kind == k.SKIN))
            gap = np.linalg.norm(place[index, None] - place[rim][None], axis=-1)
            pressed = (gap.min(axis=1) < _PRESSED) | np.isin(index, back)
            index, gap, pressed = (part[above[index] | pressed] for part in (index, gap, pressed))
            upper = above[index] & ~np.isin(index, back)
            span = ends[0][1] - ends[0][0]
            outside = np.maximum(ends[0][0] - place[index, 0], place[index, 0] - ends[0][1]) / span
            mask = 1 - smooth(outside, 0.05, 0.3)
            meets = np.where(
                np.isin(index, back), rim[gap.argmin(axis=1)], index
            )  # backs look as the rim does
            shut = fit.project(rig.source[meets] + (1 - fit.weights[shape]) * motion[meets])
            edge = rim[place[rim, 1] > np.interp(place[rim, 0], *ends)]
            edge = edge[np.argsort(place[edge, 0])]
            apart = np.linalg.norm(place[index, None] - place[edge][None], axis=-1)
            width = max(0.0014, 1.6 / fit.pixels_per_metre)
            line = np.exp(
                -((np.where(upper, apart.min(axis=1), gap.min(axis=1) * ~np.isin(index, back)) / width) ** 2)
            )
            self._lids.append(
                _Lid(
                    shape=shape,
                    index=index,
                    upper=upper,
                    mask=mask.astype(np.float32),
                    shut=shut,
                    edge=edge,
                    nearest=edge[apart.argmin(axis=1)],
                    line=line.astype(np.float32),
                )
            )

    def move(
        self, weights: Float[np.ndarray, "52"], head: Float[np.ndarray, "3"], eyes: Float[np.ndarray, "2 2"]
    ) -> Float32[np.ndarray, "column 3"]:
        """Everything for one frame into `projected` and `attributes`; returns the lips' edges for each pixel column."""
        amounts = np.append(amounts_of(self._head, weights), self._sealed)
        k.deform(
            self._rest, amounts, self._fields.starts, self._fields.index, self._fields.values, self._moved
        )
        vector = np.asarray(rotation_vector(euler_matrix(np.asarray(head, np.float64))), np.float32)
        head_kernels.pose(
            self._moved,
            self._share,
            vector,
            self._pivot,
            self._fit.rotation,
            self._target,
            np.float32(0),
            self._points,
        )
        cx, cy = self.camera.centre
        k.project(
            self._points,
            np.float32(self.camera.focal),
            np.float32(cx),
            np.float32(cy),
            self._sink,
            self.projected,
        )
        face = self._points[: self.count]
        head_kernels.smooth_normals(face, self._rig.triangles, *self._fans, self._faces, self._normals)
        self._shade(weights)
        self._look(weights, eyes)
        return self._open_mouth(face)

    def _shade(self, weights: np.ndarray) -> None:
        skin, attributes = self._skin, self.attributes
        ratio = shading(self._normals[skin], self._layers.normals[skin], self._layers.light, _SHADING)
        attributes[skin, k.SHADE] = ratio
        for side, lid in enumerate(self._lids):
            self._draw_lid(lid, self._eyes[side][0], weights)

    def _draw_lid(self, lid: "_Lid", ball: np.ndarray, weights: np.ndarray) -> None:
        """Skin for a lid that closes, or that opens wider than in the photograph, where lashes would be smeared."""
        attributes, index = self.attributes, lid.index
        was = self._fit.weights[lid.shape]
        closing = float(np.clip((weights[lid.shape] - was) / max(1.0 - was, 0.2), 0, 1))
        # The lower rim keeps its look until the upper one is about to touch it.
        early, late = (float(smooth(np.array([closing]), *span)[0]) for span in ((0.05, 0.5), (0.6, 1.0)))
        shut = np.where(lid.upper, early, late)
        height = self._moved[index, 1] - self._moved[lid.nearest, 1]
        unfolded = smooth(
            height - (self._rig.source[index, 1] - self._rig.source[lid.nearest, 1]), 0.0002, 0.0014
        )
        mix = lid.mask * np.maximum(shut, unfolded * lid.upper * (1 - lid.line))
        attributes[index, k.MIX] = mix
        attributes[index, k.U2 : k.V2 + 1] = self._rig.uv[index] + shut[:, None] * (
            lid.shut - self._rig.uv[index]
        )
        attributes[index, k.SHADE] *= 1 - (1 - self._layers.eyes.lash) * lid.line * shut
        attributes[index, k.SHADE] = 1 + (attributes[index, k.SHADE] - 1) * (1 - 0.4 * mix * (1 - lid.line))
        # The eyeball hides behind closed lids, and lies in the upper one's shadow.
        self._sink[ball] = 0.0025 + 0.004 * closing
        edge = self._moved[lid.edge]
        below = np.interp(self._moved[ball, 0], edge[:, 0], edge[:, 1]) - self._moved[ball, 1]
        slit = 1 - _SLIT * float(smooth(np.array([closing]), 0.75, 1.0)[0])  # too narrow for light to enter
        attributes[ball, k.SHADE] = slit * (0.70 + 0.30 * smooth(below, 0.0, 0.0026))

    def _look(self, weights: np.ndarray, eyes: np.ndarray) -> None:
        moved = np.abs(weights - self._fit.weights)
        for side, ((index, middle, away), (yaw, pitch)) in enumerate(zip(self._eyes, eyes, strict=True)):
            lids = moved[_EYE_SHAPES[side]].sum()
            self.attributes[index, k.TRUST] = np.clip(
                8.0 * (abs(yaw) + abs(pitch)) + 5.0 * (lids - 0.02), 0, 1
            )
            if yaw == 0 and pitch == 0:
                self.attributes[index, k.U2 : k.V2 + 1] = self._rig.uv[index]
                continue
            turn = euler_matrix(np.array([yaw, pitch, 0.0])).astype(np.float32)
            self.attributes[index, k.U2 : k.V2 + 1] = self._fit.project(away @ turn + middle)

    def _open_mouth(self, face: np.ndarray) -> Float32[np.ndarray, "column 3"]:
        attributes, rig = self.attributes, self._rig
        gap = np.maximum(self._moved[self._upper, 1] - _across(self._moved, self._upper, self._lower), 0)
        change = np.clip((np.abs(gap - self._source_gap) - _SLACK) / _GAP, 0, 1)
        opened = np.interp(np.linspace(0, 1, len(self._lower)), np.linspace(0, 1, len(self._upper)), change)
        along = np.concatenate([change, opened]).astype(np.float32)
        attributes[self._rim, k.U : k.V + 1] = (
            rig.uv[self._rim] + along[self._rim_line, None] * self._rim_slide
        )
        local = along[self._hinge_line]
        bright, far, _ = self._hollow
        own, mirrored = rig.uv[self._inside], rig.uv[self._hinge] + self._mirror
        attributes[self._inside, k.U : k.V + 1] = own + local[:, None] * (mirrored - own)
        attributes[self._inside, k.TRUST] = local
        attributes[self._inside, k.SHADE] = 1 + local * (bright - 1)
        attributes[self._inside, k.MIX] = local * far
        whole = float(change.max(initial=0.0))
        attributes[self._first :, k.TRUST] = whole
        attributes[self._upper_teeth, k.MIX] = 1.0
        width = float(gap.max(initial=0.0))
        front = np.float32(face[self._upper_teeth, 2].max(initial=face[self._line, 2].mean()))
        k.light_inside(
            face,
            self._normals,
            self._base,
            self._layers.light,
            front,
            np.float32(0.026 + 0.9 * width),
            self._gain,
            self._first,
            attributes,
        )
        return self._edges()

    def _edges(self) -> Float32[np.ndarray, "column 3"]:
        columns = np.arange(self._layers.plate.shape[1]) + 0.5
        edges = np.empty((len(columns), 3), np.float32)
        for slot, line in enumerate((self._upper, self._lower)):
            x, y = self.projected[line, 0], self.projected[line, 1]
            order = np.argsort(x)
            edges[:, slot] = np.interp(columns, x[order], y[order])
        edges[:, 2] = 1.0 / (0.0035 * self._fit.pixels_per_metre)
        return edges


def _seal(rig: FaceRig, lips: Lips, closed: np.ndarray) -> Float32[np.ndarray, "vertex 3"]:
    """What closes the lips of a face whose mouth was open in the photograph: the fit's error between its lips."""
    upper, lower = np.searchsorted(rig.vertices, lips.upper), np.searchsorted(rig.vertices, lips.lower)
    shut = rig.rest + np.tensordot(closed, rig.deltas, 1)
    gap = np.maximum(shut[upper, 1] - _across(shut, upper, lower) + _OVERLAP, 0)
    gap[gap < 2 * _OVERLAP] = 0
    order = np.argsort(shut[upper, 0])
    moved = np.interp(shut[:, 0], shut[upper[order], 0], gap[order], left=0, right=0)
    field = np.zeros_like(rig.rest)
    for line, sign in ((upper, -0.5), (lower, 0.5)):
        chosen = np.flatnonzero(np.isin(rig.kind, (k.SKIN, k.HOLLOW)))
        near = np.linalg.norm(shut[chosen, None] - shut[line][None], axis=-1).min(axis=1)
        other = upper if line is lower else lower
        nearer = near <= np.linalg.norm(shut[chosen, None] - shut[other][None], axis=-1).min(axis=1)
        fade = np.exp(-((near / 0.006) ** 2)) * nearer
        field[chosen, 1] += sign * fade * moved[chosen]
    return field.astype(np.float32)


def _pivot_shift(head: HeadModel, fit: FaceFit) -> Float32[np.ndarray, "3"]:
    """How far the place where the head turns moves with the person's shape: as the back of the jaw does."""
    around = np.linalg.norm(head.mesh.surface.positions - head.head_pivot, axis=1)
    near = np.argsort(around)[:40]
    return (
        (head.identified(fit.identity)[near] - head.mesh.surface.positions[near])
        .mean(axis=0)
        .astype(np.float32)
    )


def _across(points: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The height of the lower lip's line under each vertex of the upper one."""
    order = np.argsort(points[lower, 0])
    return np.interp(points[upper, 0], points[lower[order], 0], points[lower[order], 1])


def _canthi(edge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ends = edge[[edge[:, 0].argmin(), edge[:, 0].argmax()]]
    return ends[:, 0], ends[:, 1]


def _fans(triangles: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(triangles.ravel(), kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(triangles.ravel(), minlength=count))])
    return start.astype(np.int32), (order // 3).astype(np.int32)
