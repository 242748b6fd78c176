"""The eyes of a photograph taken apart: white, iris, and the face as it would be without eyes, for lids to close over."""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage
from skimage.draw import polygon2mask

from affetto.generators.portrait.fill import filled
from affetto.generators.portrait.lids import EYES, closed_lids

IRIS_METRES = 0.0059


@dataclass(frozen=True, kw_only=True)
class EyeLayers:
    """Pictures in the photograph's frame. White without iris; iris premultiplied with its cover; skin without eyes.

    `white_colour` is the brightest usual colour of the eyes' white. `lash` is how dark the line of the lashes is
    (0 black to 1 not visible), `irises` their centres and radius in pixels.
    """

    white: Float32[np.ndarray, "row column 3"]
    iris: Float32[np.ndarray, "row column 4"]
    lidless: Float32[np.ndarray, "row column 3"]
    white_colour: Float[np.ndarray, "3"]
    lash: float
    irises: Float[np.ndarray, "2 3"]


def eye_layers(
    picture: Float32[np.ndarray, "row column 3"],
    points: Float[np.ndarray, "68 2"],
    metre: float,
    opening: Bool[np.ndarray, "row column"],
    rims: Float32[np.ndarray, "row column"] | None = None,
) -> EyeLayers:
    """Takes both eyes apart. `metre` is pixels a metre at the face, `opening` where the fitted eyeballs are seen.

    `rims` (0..1) mark glasses, which are no lashes.
    """
    radius = IRIS_METRES * metre
    rows, columns = picture.shape[:2]
    y, x = np.mgrid[:rows, :columns] + 0.5
    level = picture.mean(axis=-1)
    cover = np.zeros((rows, columns), np.float32)
    irises, whites = [], []
    known_white, inside_iris = np.zeros((rows, columns), bool), np.zeros((rows, columns), np.float32)
    for eye in EYES:
        outline = points[eye]
        opened = opening | polygon2mask((rows, columns), outline[:, ::-1] - 0.5)
        opened &= np.hypot(x - outline[:, 0].mean(), y - outline[:, 1].mean()) < 2.6 * radius
        centre = _iris_centre(level, outline, opened, radius)
        irises.append((*centre, radius))
        distance = np.hypot(x - centre[0], y - centre[1])
        soft = max(0.8, 0.14 * radius)
        cover = np.maximum(cover, np.clip((1.06 * radius + soft - distance) / (2 * soft), 0, 1))
        firm = ndimage.binary_erosion(opened, iterations=max(1, round(0.12 * radius)))
        firm = firm if firm.sum() > 8 else opened
        pale = firm & (distance > 1.06 * radius + soft)
        if pale.any():
            known_white |= pale & (level >= np.percentile(level[pale], 25))
            whites.append(picture[pale][level[pale] >= np.percentile(level[pale], 60)])
        inside_iris = np.maximum(inside_iris, (firm & (distance < 1.06 * radius + soft)).astype(np.float32))
    colour = (
        np.median(np.concatenate(whites), axis=0)
        if whites
        else np.percentile(picture.reshape(-1, 3), 90, axis=0)
    )
    white = _whites(picture, points, known_white, opening, colour, cover)
    iris = _iris(picture, white, cover, inside_iris, np.array(irises))
    lidless, lash = closed_lids(picture, points, radius, rims)
    return EyeLayers(
        white=white, iris=iris, lidless=lidless, white_colour=colour, lash=lash, irises=np.array(irises)
    )


def _iris_centre(
    level: np.ndarray, outline: np.ndarray, opened: np.ndarray, radius: float
) -> tuple[float, float]:
    """Where a disc of an iris' size is darkest against its surroundings within the opened eye."""
    middle = outline.mean(axis=0)
    width = np.ptp(outline[:, 0])
    y, x = np.nonzero(opened)
    if len(x) < 6:
        return float(middle[0]), float(middle[1])
    values = level[y, x]
    best, found = -np.inf, middle
    for dx in np.arange(-0.3, 0.301, 0.025) * width:
        for dy in np.arange(-0.5, 0.501, 0.125) * radius:
            distance = np.hypot(x + 0.5 - middle[0] - dx, y + 0.5 - middle[1] - dy)
            disc, ring = distance < 0.95 * radius, (distance > 1.1 * radius) & (distance < 1.9 * radius)
            if disc.sum() < 4 or ring.sum() < 3:
                continue
            score = (
                values[ring].mean()
                - values[disc].mean()
                - 12.0 * (dx / width) ** 2
                - 4.0 * (dy / radius) ** 2
            )
            score -= 20.0 * (1.0 - min(1.0, disc.sum() / (2.2 * radius**2)))
            if score > best:
                best, found = score, middle + np.array([dx, dy])
    return float(found[0]), float(found[1])


def _whites(
    picture: np.ndarray,
    points: np.ndarray,
    known: np.ndarray,
    opening: np.ndarray,
    colour: np.ndarray,
    cover: np.ndarray,
) -> np.ndarray:
    """The white of both eyes, everywhere: as seen where no iris covers it, continued behind iris and lids."""
    usual = np.broadcast_to(0.92 * colour, picture.shape)
    near = np.asarray(ndimage.binary_dilation(opening, iterations=2), bool)
    source = np.where(known[..., None], picture, usual)
    smooth = filled(source, np.where(near, known.astype(np.float32), 1.0 * ~near))
    # Where it was seen the white keeps its veins and shades.
    keep = ndimage.gaussian_filter((known * (1.0 - np.minimum(1.0, 1.6 * cover))).astype(np.float32), 0.7)[
        ..., None
    ]
    soft = ndimage.gaussian_filter(smooth, (0.8, 0.8, 0))
    return (picture * keep + soft * (1.0 - keep)).astype(np.float32)


def _iris(
    picture: np.ndarray, white: np.ndarray, cover: np.ndarray, seen: np.ndarray, irises: np.ndarray
) -> np.ndarray:
    """Both irises whole, premultiplied: as seen, and behind the lids by rings of like distance from the centre."""
    rows, columns = cover.shape
    y, x = np.mgrid[:rows, :columns] + 0.5
    colour = picture.copy()
    for cx, cy, radius in irises:
        distance = np.hypot(x - cx, y - cy)
        here = distance < 1.7 * radius
        rings = np.linspace(0, 1.25 * radius, 9)
        profile = []
        for low, high in itertools.pairwise(rings):
            ring = here & (seen > 0) & (distance >= low) & (distance < high)
            profile.append(np.median(picture[ring], axis=0) if ring.sum() >= 2 else np.full(3, np.nan))
        profile = _bridged(np.array(profile))
        middle = (rings[:-1] + rings[1:]) / 2
        round_ = np.stack([np.interp(distance, middle, profile[:, k]) for k in range(3)], axis=-1)
        shown = ndimage.gaussian_filter(seen * here, max(0.6, 0.08 * radius))[..., None] * seen[..., None]
        colour = np.where(here[..., None], shown * picture + (1 - shown) * round_, colour)
    exact = picture - (1 - cover[..., None]) * white  # with the white behind it this is the photograph again
    premultiplied = np.where((seen > 0)[..., None], exact, cover[..., None] * colour)
    return np.concatenate([premultiplied, cover[..., None]], axis=2).astype(np.float32)


def _bridged(profile: np.ndarray) -> np.ndarray:
    """Rings that were not seen take the nearest that was."""
    good = np.flatnonzero(~np.isnan(profile[:, 0]))
    if len(good) == 0:
        return np.broadcast_to(np.array([60.0, 45.0, 35.0]), profile.shape)
    return profile[good[np.abs(np.arange(len(profile))[:, None] - good).argmin(axis=1)]]
