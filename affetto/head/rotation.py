"""Rotations: angles of a performance to matrices, and matrices to an axis and an angle."""

import numpy as np
from jaxtyping import Float


def euler_matrix(angles: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The matrix Ry(yaw) Rx(pitch) Rz(roll) for angles (yaw, pitch, roll) in radians, as `FaceCurves` defines them."""
    yaw, pitch, roll = (angles[..., axis] for axis in range(3))
    return _about(yaw, 1) @ _about(pitch, 0) @ _about(roll, 2)


def rotation_vector(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """The axis times the angle in radians (0..pi) of one rotation matrix."""
    skew = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine, cosine = np.linalg.norm(skew) / 2.0, (np.trace(matrix) - 1.0) / 2.0
    angle = np.arctan2(sine, cosine)
    if sine > 1e-6:
        return (skew * (angle / (2.0 * sine))).astype(matrix.dtype)
    if cosine > 0.0:
        return (skew / 2.0).astype(matrix.dtype)
    # Half a turn: R + I = 2 a a^T, so its longest column lies along the axis.
    columns = matrix + np.eye(3)
    axis = columns[:, int(np.argmax(np.linalg.norm(columns, axis=0)))]
    return (axis * (angle / np.linalg.norm(axis))).astype(matrix.dtype)


def vector_matrix(vectors: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The matrix that turns about each vector by its length in radians (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    x, y, z = (vectors[..., axis] for axis in range(3))
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    sine = np.sinc(angle / np.pi)
    versine = 0.5 * np.sinc(angle / (2.0 * np.pi)) ** 2
    return (np.eye(3) + sine * cross + versine * (cross @ cross)).astype(vectors.dtype)


def _about(angle: Float[np.ndarray, "*batch"], axis: int) -> Float[np.ndarray, "*batch 3 3"]:
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*angle.shape, 3, 3), dtype=angle.dtype)
    following, last = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1.0
    matrix[..., following, following] = matrix[..., last, last] = cosine
    matrix[..., last, following], matrix[..., following, last] = sine, -sine
    return matrix
