"""Glasses in the photograph: found by the bridge between the eyes, and kept stiff, so that brows do not bend them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage

from affetto.generators.portrait.fill import outside_distance

_BRIDGE_SHARE = 0.72  # of the columns between the eyes that must show an edge
_EDGE = 0.16  # of the skin's brightness
_RIM = 0.0045  # metres: about how thick rims are
_FALLOFF = 0.014  # metres over which skin beside a rim regains its freedom
_REACH = (0.036, 0.030)  # metres from the middle of an eye to the outermost rim, across and up


@dataclass(frozen=True, kw_only=True)
class Glasses:
    """What was found: `share` of the columns between the eyes is crossed by an edge.

    `rims` (0..1) mark the frame, `stiff` (0..1) falls off around it, so that skin does not fold over it.
    """

    share: float
    rims: Float32[np.ndarray, "row column"] | None = None
    stiff: Float32[np.ndarray, "row column"] | None = None

    @property
    def found(self) -> bool:
        """Whether the person wears glasses with rims."""
        return self.rims is not None


def find_glasses(
    picture: Float32[np.ndarray, "row column 3"], points: Float[np.ndarray, "68 2"], metre: float
) -> Glasses:
    """Looks for glasses in an sRGB picture (0..255); `metre` is pixels a metre at the face."""
    level = ndimage.gaussian_filter(picture.mean(axis=-1), max(0.5, 0.0006 * metre))
    share = _bridge(level, points)
    if share < _BRIDGE_SHARE:
        return Glasses(share=share)
    rims = _rims(picture, points, metre).astype(np.float32)
    narrow = np.clip(2.2 * ndimage.gaussian_filter(rims, 0.0015 * metre), 0, 1)
    away = outside_distance(narrow >= 0.5) / metre
    return Glasses(share=share, rims=narrow, stiff=np.clip(1.0 - away / _FALLOFF, 0, 1).astype(np.float32))


def _bridge(level: np.ndarray, points: np.ndarray) -> float:
    """The share of columns between the eyes' inner corners in which brightness jumps, beneath the brows."""
    left, right = points[39], points[42]
    span = right[0] - left[0]
    top = min(points[21, 1], points[22, 1]) + 0.1 * span
    bottom = points[28, 1]
    x = np.arange(int(left[0] + 0.2 * span), int(right[0] - 0.2 * span) + 1)
    y = np.arange(int(top), int(bottom) + 1)
    if len(x) < 2 or len(y) < 4 or x[0] < 0 or y[0] < 0 or x[-1] >= level.shape[1] or y[-1] >= level.shape[0]:
        return 0.0
    patch = level[np.ix_(y, x)]
    reach = max(1, len(y) // 7)
    jump = np.abs(patch[reach:] - patch[:-reach]).max(axis=0) / max(float(np.median(patch)), 1.0)
    return float((jump > _EDGE).mean())


def _rims(picture: np.ndarray, points: np.ndarray, metre: float) -> np.ndarray:
    """Thin structures around the eyes and between them, lids and irises left out."""
    rows, columns = picture.shape[:2]
    y, x = np.mgrid[:rows, :columns] + 0.5
    zone, keep_out = np.zeros((rows, columns), bool), np.zeros((rows, columns), bool)
    for eye in (slice(36, 42), slice(42, 48)):
        middle = points[eye].mean(axis=0)
        width = np.ptp(points[eye][:, 0])
        across, up = _REACH[0] * metre, _REACH[1] * metre
        zone |= ((x - middle[0]) / across) ** 2 + ((y - middle[1]) / up) ** 2 < 1
        keep_out |= ((x - middle[0]) / (0.66 * width)) ** 2 + ((y - middle[1]) / (0.42 * width)) ** 2 < 1
    box = tuple(slice(part.min(), part.max() + 1) for part in np.nonzero(zone))
    size = max(3, 2 * round(_RIM * metre) + 1)
    thin = np.zeros((rows, columns))
    for channel in range(3):
        patch = picture[(*box, channel)]
        closed = ndimage.grey_closing(patch, (size, size)) - patch
        opened = patch - ndimage.grey_opening(patch, (size, size))
        thin[box] = np.maximum(thin[box], np.maximum(closed, 0.6 * opened))
    skin = max(float(np.median(picture[zone])), 1.0)
    label, count = _components((thin > 0.28 * skin) & zone & ~keep_out)
    extent = ndimage.sum(np.ones_like(label), label, range(1, count + 1))
    return np.isin(label, 1 + np.flatnonzero(extent > (0.006 * metre) ** 2))


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected parts of a mask, numbered from 1, and how many there are."""
    label = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3)), output=label)
    return label, int(label.max())
