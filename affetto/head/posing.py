"""Vertices as the camera sees them, turned with the head; shared by all renderers so that they agree."""

import numpy as np
from jaxtyping import Float, Float32

from affetto.head import kernels
from affetto.head.prepare import PreparedSurface, default_follow
from affetto.head.rotation import rotation_vector
from affetto.head.stage import Camera
from affetto.runtime.errors import UsageError


class Poser:
    """Turns the head over planted shoulders, moves all into the camera's frame, and recomputes smooth normals."""

    def __init__(self, prepared: PreparedSurface, camera: Camera) -> None:
        count = len(prepared.positions)
        self._prepared = prepared
        self._pivot: np.ndarray | None = None  # the one that `_shares` was made for
        self._shares = np.ones(count, np.float32)
        self._orientation = camera.orientation()
        self._target = np.array(camera.target, np.float32)
        self._distance = np.float32(camera.distance)
        self._points = np.empty((count, 3), np.float32)
        self._normals = np.empty((count, 3), np.float32)
        self._faces = np.empty((len(prepared.triangles), 3), np.float32)

    def pose(
        self,
        vertices: Float[np.ndarray, "vertex 3"],
        rotation: Float[np.ndarray, "3 3"] | None,
        pivot: Float[np.ndarray, "3"] | None,
        follow: Float[np.ndarray, "share"] | None,
    ) -> tuple[Float32[np.ndarray, "vertex 3"], Float32[np.ndarray, "vertex 3"]]:
        """Camera-space vertices and unit normals; both arrays are overwritten by the next call."""
        prepared = self._prepared
        if vertices.shape != prepared.positions.shape:
            raise UsageError(f"vertices have shape {vertices.shape}, the surface {prepared.positions.shape}")
        if follow is not None and len(follow) != len(vertices):
            raise UsageError(f"follow has {len(follow)} values, but the surface has {len(vertices)} vertices")
        vector = np.zeros(3) if rotation is None else rotation_vector(rotation)
        centre = np.zeros(3, np.float32) if pivot is None else np.asarray(pivot, np.float32)
        kernels.pose(
            np.ascontiguousarray(vertices, dtype=np.float32),
            self._shares_about(pivot) if follow is None else np.ascontiguousarray(follow, dtype=np.float32),
            np.asarray(vector, np.float32),
            centre,
            self._orientation,
            self._target,
            self._distance,
            self._points,
        )
        kernels.smooth_normals(
            self._points, prepared.triangles, prepared.fan_start, prepared.fan, self._faces, self._normals
        )
        return self._points, self._normals

    def _shares_about(self, pivot: Float[np.ndarray, "3"] | None) -> Float32[np.ndarray, "vertex"]:
        if pivot is None:
            return np.ones(len(self._points), np.float32)
        if self._pivot is None or not np.array_equal(self._pivot, pivot):
            self._pivot, self._shares = np.array(pivot), default_follow(self._prepared.positions, pivot)
        return self._shares
