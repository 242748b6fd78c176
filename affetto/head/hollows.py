"""How open each point of a surface is to the light around it, found once from depth maps of many directions."""

import numpy as np
from jaxtyping import Float, Float32, Int32

from affetto.head import kernels

DIRECTIONS = 48  # an even number: they come in mirrored pairs, so that a symmetric face stays symmetric
SIDE = 160  # pixels of a depth map


def openness(
    positions: Float32[np.ndarray, "vertex 3"],
    normals: Float32[np.ndarray, "vertex 3"],
    triangles: Int32[np.ndarray, "triangle 3"],
) -> Float32[np.ndarray, "vertex"]:
    """The cosine-weighted share of directions from which each vertex is seen, 0 (buried) to 1 (free)."""
    centre = (positions.min(axis=0) + positions.max(axis=0)) / 2.0
    reach = max(float(np.linalg.norm(positions - centre, axis=1).max()), 1e-9)
    points = ((positions - centre) / reach).astype(np.float32)
    probes = points + (3.0 / SIDE) * normals  # lifted a little, so that a surface does not shade itself
    seen, total = np.zeros(len(points)), np.zeros(len(points))
    for direction in _directions():
        cosine = np.maximum(normals @ direction, 0.0)
        seen += cosine * _visible(points, probes, triangles, direction)
        total += cosine
    return (seen / np.maximum(total, 1e-9)).astype(np.float32)


def _directions() -> Float32[np.ndarray, "direction 3"]:
    """Unit vectors spread evenly over the sphere, in pairs mirrored at x = 0."""
    index = np.arange(DIRECTIONS // 2) + 0.5
    height = 1.0 - 2.0 * index / (DIRECTIONS // 2)
    turn = np.pi * ((index * (np.sqrt(5.0) - 1.0) / 2.0) % 1.0) - np.pi / 2.0
    radius = np.sqrt(1.0 - height**2)
    half = np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], axis=1)
    return np.concatenate([half, half * [-1.0, 1.0, 1.0]]).astype(np.float32)


def _visible(
    points: Float32[np.ndarray, "vertex 3"],
    probes: Float32[np.ndarray, "vertex 3"],
    triangles: Int32[np.ndarray, "triangle 3"],
    direction: Float32[np.ndarray, "3"],
) -> Float[np.ndarray, "vertex"]:
    """The share (of four samples) of each probe that nothing hides from a far eye in `direction`."""
    helper = np.array([0.0, 0.0, 1.0]) if abs(direction[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(direction, right), direction]).astype(np.float32)
    projected, looked = _in_map(points @ axes.T), _in_map(probes @ axes.T)
    starts, bins = np.zeros(2, np.int32), np.empty(len(triangles) + 1, np.int32)
    bins = kernels.bin_triangles(projected, triangles, SIDE, SIDE, SIDE, False, starts, bins)
    nearest = np.empty((SIDE, SIDE, kernels.SAMPLES), np.float32)
    owner = np.empty((SIDE, SIDE, kernels.SAMPLES), np.int32)
    kernels.cover_band(projected, triangles, bins, starts[0], starts[1], 0, SIDE, nearest, owner)
    column, row = (np.clip(looked[:, axis].astype(int), 0, SIDE - 1) for axis in range(2))
    return (nearest[row, column] <= looked[:, 2:]).mean(axis=1)


def _in_map(points: Float32[np.ndarray, "vertex 3"]) -> Float32[np.ndarray, "vertex 3"]:
    """Map coordinates, and nearness (which grows towards the eye and is positive) in place of 1/depth."""
    scale = 0.49 * SIDE
    flat = np.stack(
        [0.5 * SIDE + scale * points[:, 0], 0.5 * SIDE - scale * points[:, 1], 3.0 + points[:, 2]], axis=1
    )
    return np.ascontiguousarray(flat, dtype=np.float32)
