"""Lids for eyes to close with: the skin of a photograph where its eyes are, as it would look were they shut."""

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage
from skimage.draw import polygon2mask

from affetto.generators.portrait.fill import grain_like, membrane
from affetto.generators.portrait.light import samples_at

EYES = (slice(42, 48), slice(36, 42))  # of the 68 points: the subject's left, right
_CREASE = 0.08  # how much darker the fold above a lid is
_WARMTH = np.array([0.7, 1.1, 1.2])  # light that skin loses in folds is rather blue than red
_GRAIN = 0.8  # of the cheek's texture: lids are finer
_ROOTS = 0.22  # how much darker lids are where lashes grow
_BULGE = 0.06  # how much brighter a lid is where the eyeball lifts it


def closed_lids(
    picture: Float32[np.ndarray, "row column 3"],
    points: Float[np.ndarray, "68 2"],
    radius: float,
    rims: Float32[np.ndarray, "row column"] | None,
) -> tuple[Float32[np.ndarray, "row column 3"], float]:
    """The face with closed lids in place of the eyes, and how dark the line of the lashes is against them (0 to 1).

    `radius` is the iris' in pixels. `rims` (0..1) mark glasses, which stay, and are neither lashes nor skin.
    """
    level = picture.mean(axis=-1)
    cheek = _cheek(points, level.shape)
    skin = np.median(picture[cheek], axis=(0, 1))
    frame = np.zeros(level.shape, bool)
    if rims is not None:  # their mask takes in wrinkles beside them, which differ less from skin
        frame = (rims > 0.5) & (np.abs(picture - skin).max(axis=-1) > 0.5 * skin.mean())
    # Lashes are thin and dark; shadows and paint about an eye are broad, and stay.
    size = 2 * max(1, round(0.5 * radius)) + 1
    thin = (ndimage.grey_closing(level, (size, size)) - level) / float(skin.mean())
    hole = _eyes_and_lashes(points, radius, thin, frame)
    # Glints on lenses and lids, and single lashes, are no skin to go by.
    bright = level > 1.45 * skin.mean()
    glints = np.asarray(ndimage.binary_dilation(bright, iterations=max(1, round(0.2 * radius))), bool)
    smooth = membrane(picture, hole, ~frame & ~glints & (thin < 0.3), max(0.7, 0.15 * radius))
    lids = smooth * _relief(points, radius, level.shape)[..., None] ** _WARMTH
    lids += _GRAIN * grain_like(picture[cheek], hole)
    # The hole's margin is skin, where the film blends in.
    inside = np.asarray(ndimage.distance_transform_edt(hole | frame | glints))
    soft = np.clip(inside / max(2.0, 0.25 * radius), 0, 1)[..., None] * hole[..., None]
    lidless = picture * (1 - soft) + np.clip(lids, 0, 255) * soft
    roots = np.concatenate([points[eye][1:3] for eye in EYES]) - [0, 0.1 * radius]
    dark = (
        samples_at(level, roots).mean() / max(float(smooth.mean(axis=-1)[hole].mean()), 1.0)
        if hole.any()
        else 1.0
    )
    return lidless.astype(np.float32), float(np.clip(0.85 * dark, 0.3, 0.6))


def _eyes_and_lashes(
    points: np.ndarray, radius: float, thin: np.ndarray, frame: np.ndarray
) -> Bool[np.ndarray, "row column"]:
    """Where eyes are, with a margin, and the lashes above them: what is `thin` and dark (parts of the skin's brightness)."""
    hole = np.zeros(thin.shape, bool)
    heights = np.arange(len(thin))[:, None]
    for eye in EYES:
        outline = points[eye]
        around = polygon2mask(thin.shape, _grown(outline, 1.15, 1.5 * radius)[:, ::-1] - 0.5)
        core = polygon2mask(thin.shape, _grown(outline, 1.08, 0.18 * radius)[:, ::-1] - 0.5)
        above = heights < outline[[0, 3], 1].mean() + 0.5 * radius  # not the bags below
        lashes = around & above & ~frame & (thin > 0.06)
        hole |= ndimage.binary_propagation(core, np.ones((3, 3)), mask=core | lashes)
    hole = ndimage.binary_dilation(hole, iterations=max(2, round(0.22 * radius)))
    hole = ndimage.binary_closing(hole, iterations=max(2, round(0.6 * radius))) & ~frame
    return np.asarray(ndimage.binary_opening(hole, iterations=2), bool)


def _grown(outline: np.ndarray, factor: float, margin: float) -> np.ndarray:
    """An outline made larger about its middle, by a factor and a margin that is smaller at the corners."""
    away = outline - outline.mean(axis=0)
    return outline.mean(axis=0) + factor * away + np.sign(away) * margin * np.array([0.4, 1.0])


def _relief(points: np.ndarray, radius: float, shape: tuple[int, int]) -> Float[np.ndarray, "row column"]:
    """Light on closed lids: brighter where the eyeball lifts them, darker along the fold above and where they meet."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    relief = np.ones(shape)
    for eye in EYES:
        outline = points[eye]
        low, high = outline[:, 0].min(), outline[:, 0].max()
        t = (x - (low + high) / 2) / max((high - low) / 2, 1.0)  # -1..1 from corner to corner
        top = outline[np.argsort(outline[:, 1])[:2], 1].mean()
        corners = (outline[0, 1] + outline[3, 1]) / 2
        fold = corners + (top - 0.45 * radius - corners) * (1 - t**2)
        within = np.clip(1.15 - np.abs(t), 0, 0.4) / 0.4
        relief -= _CREASE * within * np.exp(-0.5 * ((y - fold) / (0.16 * radius)) ** 2)
        meeting = corners + (outline[:, 1].max() - corners) * (1 - t**2)
        relief -= _ROOTS * within * np.exp(-0.5 * ((y - meeting) / (0.28 * radius)) ** 2)
        middle = (fold + meeting) / 2
        relief += _BULGE * np.exp(-2.0 * t**2 - 0.5 * ((y - middle) / (0.7 * radius)) ** 2)
    return relief


def _cheek(points: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """A square of the skin between nose, mouth and jaw, where it faces the camera more."""
    corners = max(((31, 2, 3, 48), (35, 54, 13, 14)), key=lambda four: np.ptp(points[list(four), 0]))
    middle = points[list(corners)].mean(axis=0)
    half = 0.3 * np.ptp(points[list(corners), 0])
    spans = []
    for centre, limit in zip(middle[::-1], shape, strict=True):
        start = int(np.clip(centre - half, 0, limit - 2))
        spans.append(slice(start, int(np.clip(centre + half, start + 2, limit))))
    return spans[0], spans[1]
