"""What is known about a face in a picture: 68 points with their uncertainty, coarse pose, box and confidence."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from affetto.head.landmarks68 import eye_distance
from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class FaceLandmarks:
    """A face found in a picture.

    `points` are the 68 points of `affetto.head.landmarks68` in pixels (x right, y down; the first pixel's centre lies
    at 0.5). `variance` is in square pixels. `pose` is a coarse (yaw, pitch, roll) in radians as in `FaceCurves`: +yaw
    turns to the subject's left, +pitch down. `box` is (left, top, right, bottom) of the points. `confidence` is 0..1.
    """

    points: Float32[np.ndarray, "68 2"]
    variance: Float32[np.ndarray, "68 2"]
    pose: tuple[float, float, float]
    confidence: float

    def __post_init__(self) -> None:
        if self.points.shape != (68, 2) or self.variance.shape != (68, 2):
            raise UsageError(f"a face has 68 points with x and y, got {self.points.shape}")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of all points, in pixels."""
        (left, top), (right, bottom) = self.points.min(axis=0), self.points.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    @property
    def size(self) -> float:
        """The longer side of the box, in pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)

    @property
    def eye_distance(self) -> float:
        """Pixels between the eyes' outer corners."""
        return eye_distance(self.points)
