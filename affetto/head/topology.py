"""Our skin: a left half sampled from the reference with explicit loops at lips and lids, mirrored to a whole."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial import KDTree

from affetto.head.hairline import clothed, scalp
from affetto.head.reference import EYE_CENTRE, Reference
from affetto.head.rings import eye_rings, mouth_rings
from affetto.head.sampling import (
    Patch,
    clear_of_borders,
    half_boundaries,
    harmonic_layout,
    left_half,
    rectangle_layout,
    relax,
    resample,
    sample_surface,
    split_boundary,
    triangulate,
)
from affetto.head.sparse import row_count, stack_rows

RING = 0.07  # width of the band round the face chart that the back of head, neck and shoulders fill, in chart units


@dataclass(frozen=True, kw_only=True)
class HalfSkin:
    """Points on the reference's left half (sparse barycentric rows), triangles and where each lies in the skin chart.

    `patch` is 0 for the face, 1 for back of head, neck and shoulders, 2 for the mouth's inside; `chart` spans the unit
    square plus `RING` on every side, v up.
    """

    carriers: sparse.csr_matrix
    triangles: Int[np.ndarray, "t 3"]
    chart: Float[np.ndarray, "k 2"]
    patch: Int[np.ndarray, "k"]
    midline: np.ndarray
    lid_edge: Int[np.ndarray, "e"]  # a closed loop along the left lids
    lip_edge: Int[
        np.ndarray, "l"
    ]  # where the lips touch: upper lip from the middle to the corner, then the lower back

    def trimmed(self, hidden: np.ndarray) -> "HalfSkin":
        """The skin without the triangles whose corners are all hidden under hair or clothes."""
        triangles = self.triangles[~hidden[self.triangles].all(axis=1)]
        used = np.unique(triangles)
        number = np.full(len(self.chart), -1)
        number[used] = np.arange(len(used))
        return HalfSkin(
            carriers=self.carriers[used],
            triangles=number[triangles],
            chart=self.chart[used],
            patch=self.patch[used],
            midline=self.midline[used],
            lid_edge=number[self.lid_edge],
            lip_edge=number[self.lip_edge],
        )


def build_half_skin(reference: Reference, rng: np.random.Generator, scale: float = 1.0) -> HalfSkin:
    """Lay out and sample the left half of the skin; `scale` multiplies every distance between points."""
    return _HalfBuilder(reference, rng, scale).build()


class _HalfBuilder:
    def __init__(self, reference: Reference, rng: np.random.Generator, scale: float) -> None:
        self.reference = reference
        self.vertices = reference.vertices
        self.rng, self.scale = rng, scale
        self.midline = np.abs(self.vertices[:, 0]) < 1e-6
        self.blocks: list[sparse.csr_matrix] = []

    def build(self) -> HalfSkin:
        face_chains, lids = self._face_chains()
        lip, low, seam, high = face_chains
        lid = self._loop(lids)
        lip_points, seam_points = self._chain(lip, 0.115), self._chain(seam)
        face = Patch(
            triangles=left_half(self.reference.face, self.vertices),
            plane=self.reference.chart,
            vertices=self.vertices,
        )
        around_eye, lid_edge = eye_rings(face, lid)
        around_mouth, lip_edge = mouth_rings(face, lip_points)
        rings = [*around_eye, *around_mouth]
        face_borders = [[lip_points, self._chain(low), seam_points, self._chain(high)], [lid]]
        front, rim, back, _ = self._neck_chains()
        neck_plane = rectangle_layout(
            self.reference,
            left_half(self.reference.neck, self.vertices),
            (front, rim, back, self._seam_of_neck),
        )
        neck = Patch(
            triangles=left_half(self.reference.neck, self.vertices), plane=neck_plane, vertices=self.vertices
        )
        neck_borders = [[self._chain(front), self._chain(rim), self._chain(back), seam_points[::-1]]]
        cavity, cavity_midline = self._cavity()
        cavity_borders = [[lip_points[::-1], self._chain(cavity_midline, 0.4)]]
        parts = [
            self._fill(face, face_borders, rings, 0),
            self._fill(neck, neck_borders, [], 1),
            self._fill(cavity, cavity_borders, [], 2),
        ]
        return self._merge(parts, lid_edge, lip_edge)

    def spacing(self, points: np.ndarray) -> np.ndarray:
        """The wanted distance between points, finest at lips, lids and nostrils."""
        x = np.abs(points[:, 0])
        folded = np.column_stack([x, points[:, 1:]])
        cranial = np.clip((3.5 - points[:, 2]) / 6, 0, 1)
        size = 0.60 + 0.35 * cranial + 0.25 * np.clip((-7 - points[:, 1]) / 6, 0, 1)
        front = points[:, 2] > 6.5
        marks = (
            (
                np.array([[0, -3.4, 11.2], [0.8, -3.4, 11.1], [1.6, -3.4, 10.8], [2.3, -3.5, 10.2]]),
                0.15,
                0.26,
                0.2,
            ),
            (
                np.array([[0, -2.2, 11.6], [1.0, -2.5, 11.3], [0, -4.4, 11.4], [1.0, -4.3, 11.2]]),
                0.17,
                0.26,
                0.3,
            ),
            (
                EYE_CENTRE + np.array([[0, 0.5, 1.5], [0.9, 0.3, 1.2], [-0.9, 0.2, 1.3], [0, -0.6, 1.5]]),
                0.14,
                0.22,
                0.5,
            ),
            (
                np.array([[0.7, -0.9, 11.6], [1.35, -0.4, 10.9], [0, 0.3, 13.0], [0.5, 0.0, 12.7]]),
                0.17,
                0.22,
                0.35,
            ),
            (np.array([[1.5, 6.1, 10.7], [3.2, 6.3, 10.1], [4.8, 6.0, 9.0]]), 0.27, 0.25, 0.4),
        )
        for at, least, slope, radius in marks:
            distance = KDTree(at).query(folded)[0]
            size = np.where(
                front, np.minimum(size, least + slope * np.clip(distance - radius, 0, None)), size
            )
        ear = KDTree(np.array([[7.9, 3.2, 1.2], [7.6, 1.2, 1.6], [8.2, 2.5, 0.2], [7.9, 0.3, 0.3]])).query(
            folded
        )[0]
        size = np.minimum(size, 0.30 + 0.28 * np.clip(ear - 1.6, 0, None))
        size = np.where((x > 7.9) & (points[:, 1] < 6), np.minimum(size, 0.22), size)  # the ear's rim
        hidden = np.maximum(scalp(points), clothed(points))
        size = np.where(hidden > 0.9, np.maximum(size, 2.0), size)  # under hair and clothes
        size = np.where(
            np.abs(hidden) < 0.5, np.minimum(size, np.where(points[:, 2] > 2, 0.6, 0.75)), size
        )  # smooth edges there
        return size * self.scale

    def _chain(self, chain: np.ndarray, spacing: float | None = None) -> sparse.csr_matrix:
        points = self.vertices[chain]
        size = self.spacing(points) if spacing is None else np.full(len(chain), spacing * self.scale)
        return resample(chain, self.vertices, size)

    def _loop(self, loop: np.ndarray) -> sparse.csr_matrix:
        closed = np.append(loop, loop[0])
        return self._chain(closed, 0.115)[:-1]

    def _face_chains(self) -> tuple[list[np.ndarray], np.ndarray]:
        loops = half_boundaries(self.reference.face, self.vertices)
        outer = max(loops, key=len)
        lids = min(loops, key=len)
        chains = split_boundary(outer, self.midline)
        lip = min((c for c in chains if not self._middle(c)), key=len)
        seam = max((c for c in chains if not self._middle(c)), key=len)
        middle = [c for c in chains if self._middle(c)]
        low = min(middle, key=lambda c: self.vertices[c, 1].mean())
        high = max(middle, key=lambda c: self.vertices[c, 1].mean())
        return [lip, low, seam, high], lids

    def _middle(self, chain: np.ndarray) -> bool:
        return bool(self.midline[chain].all())

    def _neck_chains(self) -> tuple[np.ndarray, ...]:
        (loop,) = half_boundaries(self.reference.neck, self.vertices)
        chains = split_boundary(loop, self.midline)
        start = next(i for i, c in enumerate(chains) if self._middle(c) and self.vertices[c, 1].max() < -15)
        front, rim, back, seam = chains[start:] + chains[:start]
        self._seam_of_neck = seam
        return front, rim, back, seam

    def _cavity(self) -> tuple[Patch, np.ndarray]:
        triangles = left_half(self.reference.cavity, self.vertices)
        (loop,) = half_boundaries(self.reference.cavity, self.vertices)
        chains = split_boundary(loop, self.midline)
        middle = next(c for c in chains if self._middle(c))
        lip = next(c for c in chains if not self._middle(c))
        fixed = {}
        for chain, start, stop in ((middle, 0.0, 0.0), (lip, -np.pi / 2, np.pi / 2)):
            t = np.linspace(0, 1, len(chain))
            for vertex, value in zip(chain.tolist(), t, strict=True):
                if chain is middle:
                    fixed[vertex] = np.array([0.0, 1 - 2 * value])
                else:
                    angle = start + (stop - start) * value
                    fixed[vertex] = np.array([np.cos(angle), np.sin(angle)])
        plane = harmonic_layout(triangles, fixed, len(self.vertices))
        return Patch(triangles=triangles, plane=plane, vertices=self.vertices), middle

    def _fill(
        self, patch: Patch, borders: list[list[sparse.csr_matrix]], rings: list[sparse.csr_matrix], label: int
    ) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray, int]:
        """Add free points to a patch's borders and rings, and triangulate."""
        given, loops = self._borders(borders)
        flat = np.nan_to_num(patch.plane)
        if rings:
            extra = stack_rows(rings)
            extra = extra[_unique(extra @ self.vertices)]
            given = stack_rows([given, extra[clear_of_borders(extra @ flat, given @ flat, loops)]])
        count = 40_000
        triangle, weights, area = sample_surface(patch.triangles, self.vertices, count, self.rng)
        rows = np.repeat(np.arange(count), 3)
        candidates = sparse.csr_matrix(
            (weights.ravel(), (rows, patch.triangles[triangle].ravel())), shape=(count, len(self.vertices))
        )
        space = candidates @ self.vertices
        size = self.spacing(space)
        if label == 2:
            size = np.clip(0.28 + 0.2 * (10.6 - space[:, 2]), 0.28, 0.62)
            corner = np.linalg.norm(space - [2.5, -3.08, 9.6], axis=1)
            size = np.minimum(size, 0.13 + 0.2 * np.clip(corner - 0.25, 0, None)) * self.scale
        chosen = candidates[relax(given @ self.vertices, space, size, area, self.rng)]
        chosen = chosen[clear_of_borders(chosen @ flat, given @ flat, loops)]
        carriers = stack_rows([given, chosen])
        plane = carriers @ flat
        triangles = triangulate(plane, loops, carriers @ self.vertices)
        return carriers, triangles, plane, label

    def _borders(self, borders: list[list[sparse.csr_matrix]]) -> tuple[sparse.csr_matrix, list[np.ndarray]]:
        blocks, loops, start = [], [], 0
        for chains in borders:
            closed = len(chains) == 1
            parts = chains if closed else [chain[:-1] for chain in chains]
            loop = stack_rows(parts)
            blocks.append(loop)
            loops.append(np.arange(start, start + row_count(loop)))
            start += row_count(loop)
        return stack_rows(blocks), loops

    def _merge(self, parts: list, lid_edge: sparse.csr_matrix, lip_edge: sparse.csr_matrix) -> HalfSkin:
        carriers = stack_rows([part[0] for part in parts])
        patch = np.concatenate([np.full(row_count(part[0]), part[3]) for part in parts])
        chart = np.concatenate([parts[0][2], self._ring_chart(parts[1][2]), self._cavity_chart(parts[2][2])])
        offset, triangles = 0, []
        for part in parts:
            triangles.append(part[1] + offset)
            offset += row_count(part[0])
        points = carriers @ self.vertices
        first = _first_of(points)
        joined = first[np.concatenate(triangles)]
        used = np.unique(joined)
        renumber = np.full(len(points), -1)
        renumber[used] = np.arange(len(used))
        at = points[used]
        tree = KDTree(at)
        lids, lips = (np.asarray(tree.query(edge @ self.vertices)[1]) for edge in (lid_edge, lip_edge))
        return HalfSkin(
            carriers=carriers[used],
            triangles=renumber[joined],
            chart=chart[used],
            patch=patch[used],
            midline=np.abs(at[:, 0]) < 1e-6,
            lid_edge=lids,
            lip_edge=lips,
        )

    def _ring_chart(self, plane: np.ndarray) -> np.ndarray:
        """Back of head, neck and shoulders as a band round the face chart, continuous with it at the seam."""
        seam = self._seam_of_neck
        steps = np.linalg.norm(np.diff(self.vertices[seam], axis=0), axis=1)
        t = 1 - np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
        inner_at = self.reference.chart[seam]
        order = np.argsort(t)
        inner = np.stack(
            [np.interp(plane[:, 1], t[order], inner_at[order, axis]) for axis in range(2)], axis=1
        )
        away = inner - 0.5
        outer = 0.5 + away / np.abs(away).max(axis=1, keepdims=True) * (0.5 + RING)
        return inner + (outer - inner) * plane[:, :1]

    def _cavity_chart(self, plane: np.ndarray) -> np.ndarray:
        """The mouth's inside shrunk into the slit between the lips: it only needs a gradient of dark red."""
        radius = np.linalg.norm(plane, axis=1, keepdims=True)
        angle = np.arctan2(plane[:, 1], plane[:, 0])
        lip = self.reference.chart[self._lip_chain()]
        at = np.stack(
            [np.interp(angle, np.linspace(-np.pi / 2, np.pi / 2, len(lip)), lip[:, i]) for i in range(2)], 1
        )
        centre = np.array([0.5, lip[:, 1].mean()])
        return centre + (at - centre) * radius

    def _lip_chain(self) -> np.ndarray:
        (loop,) = half_boundaries(self.reference.cavity, self.vertices)
        return next(c for c in split_boundary(loop, self.midline) if not self._middle(c))


def _unique(points: np.ndarray) -> np.ndarray:
    return np.unique(_first_of(points))


def _first_of(points: np.ndarray) -> np.ndarray:
    """For every point the index of the first point at the same place."""
    first = np.arange(len(points))
    for a, b in sorted(KDTree(points).query_pairs(1e-5)):
        first[b] = min(first[b], first[a])
    return first
