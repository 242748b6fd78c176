"""The 68 points that face software agrees on (Sagonas et al. 2013, the 300-W mark-up), as vertices of our head."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32, Int

LANDMARK_COUNT = 68

PARTS: Mapping[str, tuple[int, int]] = {
    "jaw": (0, 17),
    "right_brow": (17, 22),
    "left_brow": (22, 27),
    "nose_bridge": (27, 31),
    "nose_base": (31, 36),
    "right_eye": (36, 42),
    "left_eye": (42, 48),
    "outer_lips": (48, 60),
    "inner_lips": (60, 68),
}
"""Ranges (start, stop) of the points; right and left are the subject's own, so the right eye lies left in a picture."""

VERTICES_68: Int[np.ndarray, "68"] = np.array(
    [
        *(6228, 5223, 5320, 5739, 7090, 6287, 6405, 6702, 74, 2627, 2330, 2212, 3015, 1664, 1245, 1148, 2153),
        *(6950, 5754, 6423, 5256, 7203, 3128, 1181, 2348, 1679, 2875),
        *(174, 176, 178, 184, 5981, 6918, 195, 2843, 1906),
        *(4342, 4608, 4540, 5777, 4470, 4514, 1702, 465, 533, 267, 439, 395),
        *(4997, 6840, 6227, 201, 2152, 2765, 922, 2194, 3169, 64, 7244, 6269),
        *(4797, 5190, 206, 1115, 722, 1082, 58, 5157),
    ]
)
"""The vertex of `HeadModel` at each point. They stay on the skin when the head turns: points of the far jaw are where
the jaw is, not where its outline is seen."""

MIRROR_68: Int[np.ndarray, "68"] = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *(27, 28, 29, 30, 35, 34, 33, 32, 31),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
        *(64, 63, 62, 61, 60, 67, 66, 65),
    ]
)
"""The point that each point becomes in a mirrored picture."""


def landmarks_of(
    vertices: Float[np.ndarray, "*frame vertex 3"],
) -> Float[np.ndarray, "*frame 68 3"]:
    """The 68 points of vertices that `HeadModel.deform` gave, in the same unit."""
    return vertices[..., VERTICES_68, :]


def eye_distance(points: Float[np.ndarray, "68 axis"]) -> float:
    """The distance between the eyes' outer corners, the customary unit of landmark errors."""
    return float(np.linalg.norm(points[36] - points[45]))


def mirrored(points: Float32[np.ndarray, "68 2"], width: float) -> Float32[np.ndarray, "68 2"]:
    """The points in the mirror image of a picture `width` pixels wide (pixel centres lie at halves)."""
    turned = points[MIRROR_68].copy()
    turned[:, 0] = width - turned[:, 0]
    return turned
