"""The light of a photograph, read off the face, and what it does to skin that turns or folds."""

import numpy as np
from jaxtyping import Float, Float32


def face_light(
    level: Float[np.ndarray, "vertex"],
    normals: Float[np.ndarray, "vertex 3"],
    weight: Float[np.ndarray, "vertex"],
) -> Float32[np.ndarray, "4"]:
    """Direction towards the light (camera frame) and the share of ambient light, from skin brightness by normals.

    Least squares on L = a + b.n with outliers (brows, shadows, glints) damped; drawings without shading give mostly
    ambient light.
    """
    basis = np.concatenate([np.ones((len(normals), 1)), normals], axis=1)
    level = level / max(float(np.median(level)), 1.0)
    trust = weight.copy()
    solution = np.zeros(4)
    ridge = np.diag([0.0, 1.0, 1.0, 1.0]) * 0.02 * weight.sum()
    for _ in range(5):
        system = (basis * trust[:, None]).T @ basis + ridge
        solution = np.linalg.solve(system, basis.T @ (trust * level))
        error = basis @ solution - level
        trust = weight / (1.0 + (error / 0.12) ** 2)
    direction = solution[1:]
    strength = float(np.linalg.norm(direction))
    direction = direction / strength if strength > 1e-3 else np.array([0.0, 0.5, 0.87])
    ambient = float(np.clip(solution[0] / max(solution[0] + strength, 1e-6), 0.35, 0.95))
    return np.array([*direction, ambient], np.float32)


def shading(
    now: Float32[np.ndarray, "vertex 3"],
    before: Float32[np.ndarray, "vertex 3"],
    light: Float32[np.ndarray, "4"],
    strength: float,
) -> Float32[np.ndarray, "vertex"]:
    """How much brighter (over 1) or darker skin gets whose normals change from `before` to `now`."""
    ambient, direct = light[3], 1 - light[3]
    was = ambient + direct * np.maximum(before @ light[:3], 0)
    is_ = ambient + direct * np.maximum(now @ light[:3], 0)
    ratio = (is_ / np.maximum(was, 0.2)) ** strength
    return np.clip(ratio, 0.72, 1.18).astype(np.float32)


def samples_at(
    picture: Float[np.ndarray, "row column"], uv: Float[np.ndarray, "vertex 2"]
) -> Float[np.ndarray, "vertex"]:
    """The picture at the pixels nearest to `uv`."""
    rows, columns = picture.shape
    return picture[np.clip(uv[:, 1].astype(int), 0, rows - 1), np.clip(uv[:, 0].astype(int), 0, columns - 1)]
