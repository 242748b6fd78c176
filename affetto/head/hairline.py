"""Where hair grows and where clothes begin."""

import numpy as np
from jaxtyping import Float


def scalp(points: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k"]:
    """Signed distance inside the hairline, roughly in centimetres (negative on bare skin)."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    front = np.interp(x, [0, 1.5, 3.0, 4.4, 5.4, 6.2, 7.0], [9.6, 9.65, 9.55, 9.15, 8.5, 7.6, 6.4])
    side = np.interp(
        z,
        [-7.5, -5.5, -2.2, -0.6, 0.4, 1.8, 2.9, 3.7, 4.5, 5.4, 6.4],
        [-3.4, -3, -1.6, 0, 1.5, 2, 2.2, 3.2, 5.2, 7.4, 8.6],
    )
    blend = np.clip((z - 4.2) / 2.0, 0, 1)
    height = side + blend * blend * (3 - 2 * blend) * (front - side)
    height = height + 0.10 * np.sin(2.6 * x + 1.5 * z)  # nobody's is a ruled line
    round_ear = 2.3 * (np.hypot((y - 2.3) / 2.75, (z - 0.35) / 1.95) - 1)
    inside = (y - height) * 0.8
    inside = np.where(x > 5.5, np.minimum(inside, round_ear), inside)
    return np.where(y < 2.6, np.minimum(inside, 2 * (7.45 - x)), inside)


def clothed(points: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k"]:
    """Signed distance below the neckline, roughly in centimetres (negative above it)."""
    x, y, z = points.T
    collar = np.interp(z, [-7, -3, 1.0, 4.0, 5.5], [-9.6, -10.4, -12.2, -14.0, -14.6]) - 0.010 * x**2
    return collar - y
