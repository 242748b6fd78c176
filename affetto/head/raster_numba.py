"""The renderer that runs everywhere: multisampled rasterisation on the processor, compiled by numba."""

import dataclasses
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, UInt8

from affetto.head import kernels
from affetto.head.posing import Poser
from affetto.head.prepare import PreparedSurface, display_table
from affetto.head.stage import Background, Camera, Lighting

BAND_ROWS = 8
JOBS_PER_THREAD = 4  # so that a thread that meets the busy parts of the face leaves the rest to others


def light_rows(lighting: Lighting) -> Float[np.ndarray, "row 3"]:
    """Light colours, then sky, ground, and (wrap, rim, 0): what the shading kernel reads."""
    return np.array(
        [*lighting.colours(), lighting.sky, lighting.ground, (lighting.wrap, lighting.rim, 0.0)], np.float32
    )


class NumbaRenderer:
    """Pictures of one surface by a compiled software rasteriser; see `affetto.head.render.open_renderer`."""

    backend = "numba"

    def __init__(
        self,
        prepared: PreparedSurface,
        poser: Poser,
        *,
        size: tuple[int, int],
        camera: Camera,
        lighting: Lighting,
        background: Background,
        cull: bool,
    ) -> None:
        width, height = size
        self.size = size
        self._prepared = prepared
        self._poser = poser
        self._focal = np.float32(camera.focal(height))
        self._near = np.float32(0.05 * camera.distance)
        self._cull = cull
        self._eye = np.array([0.5 * width, 0.5 * height, self._focal], np.float32)
        self._lights, self._toward = light_rows(lighting), lighting.directions()
        self._table = display_table()
        self._background = background.picture(size)
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._jobs = JOBS_PER_THREAD * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="affetto-render")
        self._one_at_a_time = threading.Lock()  # the buffers below belong to one frame
        self._projected = np.empty_like(prepared.positions)
        self._starts = np.zeros(-(-height // BAND_ROWS) + 1, np.int32)
        self._bins = np.empty(2 * len(prepared.triangles) + 1, np.int32)
        self._nearest = np.empty((height, width, kernels.SAMPLES), np.float32)
        self._owner = np.empty((height, width, kernels.SAMPLES), np.int32)

    def frame(
        self,
        vertices: Float[np.ndarray, "vertex 3"],
        rotation: Float[np.ndarray, "3 3"] | None = None,
        pivot: Float[np.ndarray, "3"] | None = None,
        follow: Float[np.ndarray, "share"] | None = None,
    ) -> UInt8[np.ndarray, "row column 3"]:
        """One picture (sRGB) of the surface with its vertices at `vertices`; see `affetto.head.render.Renderer`."""
        width, height = self.size
        prepared = self._prepared
        picture = np.empty((height, width, 3), np.uint8)
        with self._one_at_a_time:
            points, normals = self._poser.pose(vertices, rotation, pivot, follow)
            kernels.project(points, self._focal, width, height, self._near, self._projected)
            self._bins = kernels.bin_triangles(
                self._projected,
                prepared.triangles,
                width,
                height,
                BAND_ROWS,
                self._cull,
                self._starts,
                self._bins,
            )

            def paint(job: int) -> None:
                kernels.paint(
                    self._projected, prepared.triangles, prepared.group, normals, prepared.attributes,
                    prepared.texture, self._starts, self._bins, BAND_ROWS, self._eye, self._lights, self._toward,
                    self._table, self._background, job, self._jobs, self._nearest, self._owner, picture,
                )  # fmt: skip

            for _ in self._pool.map(paint, range(self._jobs)):
                pass
        return picture

    def close(self) -> None:
        """End the painting threads."""
        self._pool.shutdown()


def sees_back_faces(prepared: PreparedSurface, camera: Camera, *, tolerance: float = 0.002) -> bool:
    """Whether the inside of the surface shows from the front or from 45 degrees to either side.

    If it does (open shells, triangles wound the wrong way) back faces must be drawn, and are lit from behind.
    """
    side = 128
    focal, near = np.float32(camera.focal(side)), np.float32(0.05 * camera.distance)
    starts, bins = np.zeros(2, np.int32), np.empty(len(prepared.triangles) + 1, np.int32)
    projected = np.empty_like(prepared.positions)
    nearest = np.empty((side, side, kernels.SAMPLES), np.float32)
    owner = np.empty((side, side, kernels.SAMPLES), np.int32)
    for yaw in (-45.0, 0.0, 45.0):
        view = dataclasses.replace(camera, yaw=camera.yaw + yaw)
        points, _ = Poser(prepared, view).pose(prepared.positions, None, None, None)
        kernels.project(points, focal, side, side, near, projected)
        bins = kernels.bin_triangles(projected, prepared.triangles, side, side, side, False, starts, bins)
        kernels.cover_band(projected, prepared.triangles, bins, starts[0], starts[1], 0, side, nearest, owner)
        corners = projected[prepared.triangles[owner[owner >= 0]]]
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        behind = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] > 0.0
        if behind.size and behind.mean() > tolerance:
            return True
    return False
