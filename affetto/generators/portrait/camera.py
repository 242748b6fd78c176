"""The camera that a portrait is taken to have been made with."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole at the origin that looks along -Z, +X right, +Y up; `focal` and `centre` (x, y) in pixels."""

    focal: float
    centre: tuple[float, float]

    def scaled(self, factor: float) -> "Camera":
        """The camera of the picture resized by `factor`."""
        return Camera(focal=self.focal * factor, centre=(self.centre[0] * factor, self.centre[1] * factor))

    def shifted(self, left: int, top: int) -> "Camera":
        """The camera of the part of the picture that begins `left` and `top` pixels in."""
        return Camera(focal=self.focal, centre=(self.centre[0] - left, self.centre[1] - top))

    def project(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels (x right, y down) of points before the camera."""
        scale = self.focal / -points[..., 2]
        x = self.centre[0] + scale * points[..., 0]
        y = self.centre[1] - scale * points[..., 1]
        return np.stack([x, y], axis=-1).astype(points.dtype)

    def slope(self, points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 2 3"]:
        """The derivative of `project` by each coordinate."""
        depth = -points[:, 2]
        scale = self.focal / depth
        slope = np.zeros((len(points), 2, 3))
        slope[:, 0, 0], slope[:, 1, 1] = scale, -scale
        slope[:, 0, 2] = scale * points[:, 0] / depth
        slope[:, 1, 2] = -scale * points[:, 1] / depth
        return slope

    def unproject(
        self, pixels: Float[np.ndarray, "*batch 2"], depth: Float[np.ndarray, "*batch"]
    ) -> Float[np.ndarray, "*batch 3"]:
        """Points at `depth` metres from the camera's plane that are seen at `pixels`."""
        x = (pixels[..., 0] - self.centre[0]) * depth / self.focal
        y = (self.centre[1] - pixels[..., 1]) * depth / self.focal
        return np.stack([x, y, -depth], axis=-1)
