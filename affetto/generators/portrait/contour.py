"""The jaw's outline: where the edge of a face is seen, which slides over the skin as the head turns."""

import numpy as np
from jaxtyping import Float, Int

from affetto.head.landmarks68 import VERTICES_68
from affetto.head.model import HeadModel

JAW = slice(0, 17)
CURVES = (JAW, slice(17, 22), slice(22, 27))
"""Points whose place along the curve is arbitrary: the jaw's outline and both brows."""

_REACH, _WIDTH = 0.045, 0.004  # metres: how far the outline slides, and how wide its path is
_NEAREST = 14  # candidates a point


class JawContour:
    """For each of the 17 jaw points, vertices further forward that may be the outline when the head is turned away."""

    def __init__(self, head: HeadModel) -> None:
        rest = head.mesh.surface.positions.astype(np.float64)
        start, stop = head.mesh.surface.groups["skin"]
        skin = np.unique(head.mesh.surface.triangles[start:stop])
        jaw = rest[VERTICES_68[JAW]]
        along = np.gradient(jaw, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        lists = []
        for point, tangent in zip(jaw, along, strict=True):
            away = rest[skin] - point
            near = (np.abs(away @ tangent) < _WIDTH) & (np.linalg.norm(away, axis=1) < _REACH)
            near &= (away[:, 2] > -0.012) & (away[:, 1] > -0.008) & (point[0] * rest[skin, 0] >= 0)
            found = skin[near][np.argsort(np.linalg.norm(away[near], axis=1))]
            lists.append(found[np.linspace(0, len(found) - 1, _NEAREST).round().astype(int)])
        self.candidates = np.concatenate(lists)

    def choose(
        self, seen: Float[np.ndarray, "point 2"], points: Float[np.ndarray, "68 2"]
    ) -> Int[np.ndarray, "68"]:
        """Which of the 68 + candidate points (pixels: `seen`) each observed point is compared with.

        Both a marked outline and a jaw point that is known to lie behind it are understood: the better one counts.
        """
        chosen = np.arange(68)
        normals = _outward(points[JAW])
        options = seen[68:].reshape(17, _NEAREST, 2)
        far = np.einsum("pcx,px->pc", options, normals)
        outermost = far.argmax(axis=1)
        rows = np.arange(17)
        sliding = options[rows, outermost]
        fixed = seen[JAW]
        beyond = far[rows, outermost] > np.einsum("px,px->p", fixed, normals) + 1e-6
        nearer = np.abs(((sliding - points[JAW]) * normals).sum(1)) < np.abs(
            ((fixed - points[JAW]) * normals).sum(1)
        )
        slides = beyond & nearer
        chosen[JAW] = np.where(slides, 68 + rows * _NEAREST + outermost, rows)
        return chosen


def tangents(curve: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
    """Unit directions along a curve of points."""
    along = np.gradient(curve, axis=0)
    return along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)


def across(
    error: Float[np.ndarray, "point 2"], curve: Float[np.ndarray, "point 2"]
) -> Float[np.ndarray, "point 2"]:
    """The part of errors that crosses the curve of points."""
    along = tangents(curve)
    return error - (error * along).sum(axis=1, keepdims=True) * along


def _outward(jaw: Float[np.ndarray, "17 2"]) -> Float[np.ndarray, "17 2"]:
    along = tangents(jaw)
    normals = np.stack([-along[:, 1], along[:, 0]], axis=1)
    away = jaw - jaw.mean(axis=0)
    return np.where(((normals * away).sum(axis=1) < 0)[:, None], -normals, normals)
