"""What the fitted head and shoulders tell about where the person is, before colours are looked at."""

import numpy as np
from jaxtyping import Float32

from affetto.generators.portrait.depth import GROUPS, source_view
from affetto.generators.portrait.fill import outside_distance
from affetto.generators.portrait.fit import FaceFit
from affetto.generators.portrait.matte import Silhouette
from affetto.head.model import HeadModel

_HEAD = 0.16  # metres across
_STEPS = 200.0  # grid steps along the longer side


def silhouette_of(
    head: HeadModel, fit: FaceFit, vertices: Float32[np.ndarray, "vertex 3"], size: tuple[int, int]
) -> Silhouette:
    """The outline of the head's `vertices`, with the body below continued to the picture's lower edge."""
    step = max(1.0, max(size) / _STEPS)
    view = source_view(head, fit, vertices, size, step=step)
    metre = fit.pixels_per_metre / step
    skin = np.isin(view.group, [GROUPS.index(name) for name in ("skin", "eyes", "mouth")])
    hair, clothes = view.group == GROUPS.index("hair"), view.group == GROUPS.index("clothes")
    solid = (
        _shrunk(skin, 0.003 * metre)
        | _shrunk(hair | skin, 0.010 * metre)
        | _shrunk(clothes | skin, 0.025 * metre)
    )
    body, trunk = _body(view.covered, clothes, metre)
    outside = outside_distance(view.covered | body)
    inside = outside_distance(~(view.covered | body))
    rows = np.minimum((np.arange(size[1]) / step).astype(int), view.covered.shape[0] - 1)
    columns = np.minimum((np.arange(size[0]) / step).astype(int), view.covered.shape[1] - 1)
    full = np.ix_(rows, columns)
    return Silhouette(
        solid=(solid | trunk)[full],
        away=(step * (outside - inside))[full],
        unit=_HEAD * fit.pixels_per_metre,
    )


def _shrunk(mask: np.ndarray, steps: float) -> np.ndarray:
    """The mask without a border; the picture's edge is none."""
    padded = np.pad(mask, 1, mode="edge")
    return (outside_distance(~padded) > steps)[1:-1, 1:-1] if mask.any() else mask


def _body(covered: np.ndarray, clothes: np.ndarray, metre: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the body probably and surely goes on below the model's chest."""
    body, trunk = np.zeros_like(covered), np.zeros_like(covered)
    if not clothes.any():
        return body, trunk
    rows = np.flatnonzero(clothes.any(axis=1))
    columns = np.flatnonzero(clothes.any(axis=0))
    middle, half = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 2
    y, x = np.mgrid[: covered.shape[0], : covered.shape[1]]
    start = rows[0] + 0.5 * (rows[-1] - rows[0])
    below = y > start
    body[:] = below & (np.abs(x - middle) < half + 0.8 * (y - start))
    trunk[:] = (y > rows[-1]) & (np.abs(x - middle) < np.maximum(0.25 * half, 0.03 * metre))
    return body, trunk
