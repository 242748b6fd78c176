"""Turning the angles of `FaceCurves` into matrices and quaternions."""

import numpy as np
from jaxtyping import Float


def rotation_matrices(angles: Float[np.ndarray, "*frame axis"]) -> Float[np.ndarray, "*frame 3 3"]:
    """Ry(yaw) Rx(pitch) Rz(roll) for angles (yaw, pitch[, roll]) in radians, as column-vector matrices."""
    yaw, pitch = angles[..., 0], angles[..., 1]
    roll = angles[..., 2] if angles.shape[-1] > 2 else np.zeros_like(yaw)
    cy, sy, cx, sx, cz, sz = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    rows = [
        [cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx],
        [cx * sz, cx * cz, -sx],
        [cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternions(angles: Float[np.ndarray, "frame axis"]) -> Float[np.ndarray, "frame 4"]:
    """The same rotations as unit quaternions (x, y, z, w), each in the half-space of the one before."""
    half = angles.astype(np.float64) / 2
    yaw, pitch = half[:, 0], half[:, 1]
    roll = half[:, 2] if half.shape[1] > 2 else np.zeros(len(half))
    cy, sy, cx, sx, cz, sz = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    # the product (0,sy,0,cy)(sx,0,0,cx)(0,0,sz,cz)
    x = cy * sx * cz + sy * cx * sz
    y = sy * cx * cz - cy * sx * sz
    z = cy * cx * sz - sy * sx * cz
    w = cy * cx * cz + sy * sx * sz
    result = np.stack([x, y, z, w], axis=1)
    flips = np.where((result[1:] * result[:-1]).sum(axis=1) < 0, -1.0, 1.0)
    result[1:] *= np.cumprod(flips)[:, None]
    return result / np.linalg.norm(result, axis=1, keepdims=True)
