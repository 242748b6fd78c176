"""Loops of points round the mouth and the eyes, with one loop exactly on the crest of lip and lid."""

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.ndimage import median_filter, uniform_filter1d

from affetto.head.sampling import Patch

MOUTH_STEPS = (0.22, 0.42, 0.60, 0.76, 0.89, 1.0, 1.11, 1.25, 1.43, 1.66)  # in parts of the way to the crest
EYE_STEPS = (0.35, 0.65, 0.87, 1.0, 1.14, 1.36, 1.75)
FISSURE = np.array([3.25, 3.42])  # the middle of the left eye's opening, from the front
_CREST = {"mouth": 5, "eye": 3}
_PACE, _PACES = 6e-4, 130  # chart units


def mouth_rings(face: Patch, border: sparse.csr_matrix) -> tuple[list[sparse.csr_matrix], sparse.csr_matrix]:
    """Rings outside the left half of the lips' inner border, and the ring where the lips touch."""
    plane, space, arc, path = _march(face, border, closed=False)
    corner = int(space[:, 0].argmax())
    upper = np.arange(len(space)) < corner
    height = np.where(upper[:, None], path[..., 1], -path[..., 1])
    crest = _crest(arc, height, 0.30, 0.85)
    near = np.abs(np.arange(len(space)) - corner) <= 3
    crest[near] = np.interp(np.flatnonzero(near), np.flatnonzero(~near), crest[~near]) * 0.85
    crest = uniform_filter1d(median_filter(crest, 5, mode="nearest"), 3, mode="nearest")
    rings = _at(face, plane, arc, crest, MOUTH_STEPS, closed=False)
    return rings, rings[_CREST["mouth"]]


def eye_rings(face: Patch, border: sparse.csr_matrix) -> tuple[list[sparse.csr_matrix], sparse.csr_matrix]:
    """Rings outside the border of the left eye's hole, and the ring along the lids' edge."""
    plane, _, arc, path = _march(face, border, closed=True)
    opening = np.linalg.norm((path[..., :2] - FISSURE) / [1.25, 0.6], axis=-1)
    crest = _crest(arc, opening, 0.12, 0.62)
    crest = uniform_filter1d(median_filter(crest, 7, mode="wrap"), 5, mode="wrap")
    rings = _at(face, plane, arc, crest, EYE_STEPS, closed=True)
    return rings, rings[_CREST["eye"]]


def _march(
    face: Patch, border: sparse.csr_matrix, *, closed: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Straight paths in the chart away from a hole: their planar points, the border in space, arc length and places."""
    start = border @ np.nan_to_num(face.plane)
    ahead, behind = np.roll(start, -1, axis=0), np.roll(start, 1, axis=0)
    if not closed:  # the right half is the mirror image
        ahead[-1], behind[0] = [1 - start[-2, 0], start[-2, 1]], [1 - start[1, 0], start[1, 1]]
    along = ahead - behind
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    if face.contains(start + 2e-3 * normal).mean() < 0.5:
        normal = -normal
    plane = start[:, None] + _PACE * np.arange(_PACES)[None, :, None] * normal[:, None]
    if not closed:
        plane[[0, -1], :, 0] = 0.5
    places = (face.carriers(plane.reshape(-1, 2)) @ face.vertices).reshape(*plane.shape[:2], 3)
    arc = np.concatenate(
        [np.zeros((len(start), 1)), np.cumsum(np.linalg.norm(np.diff(places, axis=1), axis=2), axis=1)],
        axis=1,
    )
    return plane, border @ face.vertices, arc, places


def _crest(
    arc: Float[np.ndarray, "k s"], height: Float[np.ndarray, "k s"], low: float, high: float
) -> Float[np.ndarray, "k"]:
    """The arc length at which `height` is least along each path, within bounds."""
    allowed = np.where((arc >= low) & (arc <= high), height, np.inf)
    return np.clip(np.take_along_axis(arc, allowed.argmin(axis=1)[:, None], axis=1)[:, 0], low, high)


def _at(
    face: Patch,
    plane: np.ndarray,
    arc: np.ndarray,
    crest: np.ndarray,
    steps: tuple[float, ...],
    *,
    closed: bool,
) -> list[sparse.csr_matrix]:
    rings = []
    for step in steps:
        points = np.stack(
            [
                [np.interp(step * reach, lengths, path[:, axis]) for axis in range(2)]
                for reach, lengths, path in zip(crest, arc, plane, strict=True)
            ]
        )
        if not closed:
            points[[0, -1], 0] = 0.5
        rings.append(face.carriers(points))
    return rings
