"""`PortraitRenderer`: a photograph that moves as weights, head and gaze say."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from affetto.generators.portrait import kernels as k
from affetto.generators.portrait.depth import source_view
from affetto.generators.portrait.fit import PASSING, FaceFit
from affetto.generators.portrait.glasses import find_glasses
from affetto.generators.portrait.layers import take_apart
from affetto.generators.portrait.matte import person_mask
from affetto.generators.portrait.mouth import find_lips
from affetto.generators.portrait.performer import Performer
from affetto.generators.portrait.rig import face_rig, hemmed, sheet
from affetto.generators.portrait.silhouette import silhouette_of
from affetto.head import kernels as head_kernels
from affetto.head.model import HeadModel
from affetto.runtime.errors import UsageError

MIN_SIDE, MAX_SIDE = 64, 2160
BAND_ROWS = 16
_OVERDRIVE = 1.3  # weights beyond this are cut
_BESIDE, _ABOVE, _BELOW = 0.10, 0.14, 0.02  # metres around the head model that hair and hats may fill


class PortraitRenderer:
    """Frames of one photograph, whole and without seams: outside the reach of head and face it stays as it is.

    `size` is the frames' short side in pixels (None: the photograph's own). `neutralise` (0..1) is how much of the
    expression in the photograph is taken off before weights are added. With `alpha` frames are RGBA, the person cut
    from the background.
    """

    def __init__(
        self,
        image: UInt8[np.ndarray, "row column 3"],
        fit: FaceFit,
        head: HeadModel,
        *,
        size: int | None = None,
        alpha: bool = False,
        neutralise: float = 1.0,
    ) -> None:
        if not 0.0 <= neutralise <= 1.0:
            raise UsageError(f"neutralise is {neutralise}: use 0 to 1")
        self._photo, factor = resized(image, size)
        fit = fit.scaled(factor)
        self.size: tuple[int, int] = (self._photo.shape[1], self._photo.shape[0])
        self._alpha = alpha
        self._kept = fit.weights * (1.0 - neutralise * PASSING)
        vertices = head.deform(fit.weights, identity=fit.identity)[0]
        mask = person_mask(self._photo.astype(np.float64), silhouette_of(head, fit, vertices, self.size))
        self._cover = np.round(255.0 * mask).astype(np.uint8)
        self._region = region = reach_of(head, fit, vertices, self.size)
        left, top, right, bottom = region
        fit, part = fit.shifted(left, top), np.ascontiguousarray(self._photo[top:bottom, left:right])
        rows, columns = part.shape[:2]
        view = source_view(head, fit, vertices, (columns, rows))
        self.glasses = find_glasses(part.astype(np.float32), fit.points, fit.pixels_per_metre)
        rig = face_rig(head, fit, view, self.glasses)
        cloth = sheet(fit, rig, view, (columns, rows), max(3.0, 0.0055 * fit.pixels_per_metre))
        cloth = hemmed(cloth, region, self.size, 0.03 * fit.pixels_per_metre)
        layers = take_apart(part, mask[top:bottom, left:right], fit, rig, view, self.glasses)
        self._layers = layers
        self._performer = Performer(head, fit, rig, cloth, layers, find_lips(head), neutralise=neutralise)
        self._sheet, self._triangles = cloth, rig.triangles
        self._flow = np.empty((rows, columns, 2), np.float32)
        self._depth = np.empty((rows, columns), np.float32)
        self._nearest = np.empty((rows, columns, head_kernels.SAMPLES), np.float32)
        self._owner = np.empty((rows, columns, head_kernels.SAMPLES), np.int32)
        self._starts = np.zeros(-(-rows // BAND_ROWS) + 1, np.int32)
        self._bins = np.empty(2 * len(rig.triangles) + 1, np.int32)
        self._one_at_a_time = threading.Lock()
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(min(2, threads), thread_name_prefix="affetto-portrait")

    def frame(
        self,
        weights: Float[np.ndarray, "52"],
        head: Float[np.ndarray, "3"] | None = None,
        eyes: Float[np.ndarray, "2 2"] | None = None,
    ) -> UInt8[np.ndarray, "row column channel"]:
        """The photograph with these blend shape weights, the head turned by (yaw, pitch, roll) and gaze by `eyes`.

        Angles are radians as in `FaceCurves`, relative to the photograph. The same arguments give the same pixels.
        """
        asked = np.asarray(weights, np.float32)
        if asked.shape != (52,):
            raise UsageError(f"weights need 52 values, got {asked.shape}")
        turn = np.zeros(3) if head is None else np.asarray(head, np.float64)
        gaze = np.zeros((2, 2)) if eyes is None else np.asarray(eyes, np.float64)
        rows, columns = self._depth.shape
        out = np.empty((rows, columns, 3), np.uint8)
        cover = np.empty((rows, columns), np.uint8)
        with self._one_at_a_time:
            lips = self._performer.move(np.clip(self._kept + asked, 0, _OVERDRIVE), turn, gaze)
            self._bins = head_kernels.bin_triangles(
                self._performer.projected,
                self._triangles,
                columns,
                rows,
                BAND_ROWS,
                True,
                self._starts,
                self._bins,
            )
            for _ in self._pool.map(
                lambda band: self._band(band, lips, out, cover), range(len(self._starts) - 1)
            ):
                pass
        left, top, right, bottom = self._region
        frame = np.dstack([self._photo, self._cover]) if self._alpha else self._photo.copy()
        frame[top:bottom, left:right, :3] = out
        if self._alpha:
            frame[top:bottom, left:right, 3] = cover
        return frame

    def _band(self, band: int, lips: np.ndarray, out: np.ndarray, cover: np.ndarray) -> None:
        performer, layers = self._performer, self._layers
        top, bottom = band * BAND_ROWS, min((band + 1) * BAND_ROWS, len(out))
        k.cloth(
            performer.projected[performer.count :],
            self._sheet.home,
            self._sheet.cells,
            top,
            bottom,
            self._depth,
            self._flow,
        )
        head_kernels.cover_band(
            performer.projected, self._triangles, self._bins, self._starts[band], self._starts[band + 1], top, bottom,
            self._nearest, self._owner,
        )  # fmt: skip
        k.paint(
            top, bottom, performer.projected, self._triangles, performer.kinds, performer.attributes, self._owner,
            self._flow, layers.person, layers.plate, layers.eyes.lidless, layers.eyes.white, layers.eyes.iris,
            layers.mouth.ivory, lips, self._alpha, out, cover,
        )  # fmt: skip

    def close(self) -> None:
        """End the painting threads."""
        self._pool.shutdown()


def reach_of(
    head: HeadModel, fit: FaceFit, vertices: Float[np.ndarray, "vertex 3"], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what the head can change in a picture of `size`: itself with hat, hair and neck."""
    turning = fit.project(vertices[head.head_weights > 0.01])
    low = turning.min(axis=0) - np.array([_BESIDE, _ABOVE]) * fit.pixels_per_metre
    high = turning.max(axis=0) + np.array([_BESIDE, _BELOW]) * fit.pixels_per_metre
    left, top = np.clip(np.floor(low), 0, [side - 8 for side in size]).astype(int)
    right, bottom = np.clip(np.ceil(high), [left + 8, top + 8], size).astype(int)
    return int(left), int(top), int(right), int(bottom)


def resized(
    image: UInt8[np.ndarray, "row column 3"], short_side: int | None
) -> tuple[UInt8[np.ndarray, "row2 column2 3"], float]:
    """The image with its short side `short_side` pixels long and even sides, and the factor."""
    rows, columns = image.shape[:2]
    if short_side is None:
        return np.ascontiguousarray(image), 1.0
    if not MIN_SIDE <= short_side <= MAX_SIDE:
        raise UsageError(f"size is {short_side}: use {MIN_SIDE} to {MAX_SIDE} pixels")
    factor = short_side / min(rows, columns)
    if factor == 1.0:
        return np.ascontiguousarray(image), 1.0
    size = (max(2, round(columns * factor)), max(2, round(rows * factor)))
    box = (0.0, 0.0, min(columns, size[0] / factor), min(rows, size[1] / factor))
    scaled = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, box=box)
    return np.ascontiguousarray(np.asarray(scaled)), factor
