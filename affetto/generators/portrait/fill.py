"""Filling what a picture does not show from what surrounds it, coarse to fine (Gortler et al. 1996, pull and push)."""

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage, sparse
from scipy.signal import oaconvolve
from scipy.sparse.linalg import splu


def filled(
    picture: Float[np.ndarray, "row column channel"], known: Float[np.ndarray, "row column"]
) -> Float32[np.ndarray, "row column channel"]:
    """The picture with its unknown parts (`known` 0) continued smoothly; where `known` is 1 it stays as it is."""
    weight = np.clip(known, 0, 1).astype(np.float32)[..., None]
    levels = [(picture.astype(np.float32) * weight, weight)]
    while min(levels[-1][0].shape[:2]) > 2:
        colour, amount = (_halved(part) for part in levels[-1])
        # A pixel that is partly known counts as known: its colour is the mean of what is known in it.
        grown = np.minimum(1.0, 4.0 * amount)
        levels.append((colour * (grown / np.maximum(amount, 1e-6)), grown))
    colour, amount = levels[-1]
    mean = colour.sum(axis=(0, 1)) / max(float(amount.sum()), 1e-6)
    result = colour + (1 - amount) * mean
    for colour, amount in reversed(levels[:-1]):
        result = colour + (1 - amount) * _doubled(result, colour.shape[:2])
    return result.astype(np.float32)


def membrane(
    picture: Float[np.ndarray, "row column channel"],
    hole: Bool[np.ndarray, "row column"],
    known: Bool[np.ndarray, "row column"],
    sigma: float,
) -> Float32[np.ndarray, "row column channel"]:
    """The picture with a `hole` spanned by a soap film (Laplace's equation) that hangs on the `known` pixels around it.

    The rim is smoothed over `sigma` pixels first, so that it leaves no streaks. Rims that are not known pull nowhere.
    """
    result = picture.astype(np.float32).copy()
    if not hole.any():
        return result
    known = known & ~hole
    weight = ndimage.gaussian_filter(known.astype(np.float64), sigma)
    rim = (
        ndimage.gaussian_filter(picture * known[..., None], (sigma, sigma, 0))
        / np.maximum(weight, 1e-6)[..., None]
    )
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(hole.sum())
    y, x = np.nonzero(hole)
    centre = number[hole]
    # A trace of the smooth continuation keeps parts solvable that touch nothing known.
    trace = 1e-5
    degree = np.full(len(centre), trace)
    target = trace * filled(picture, known.astype(np.float32))[hole].astype(np.float64)
    rows, columns = [], []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        ny, nx = y + dy, x + dx
        inside = (ny >= 0) & (ny < hole.shape[0]) & (nx >= 0) & (nx < hole.shape[1])
        ny, nx = np.where(inside, ny, y), np.where(inside, nx, x)
        free, fixed = inside & hole[ny, nx], inside & known[ny, nx]
        degree += free + fixed * 1.0
        target += fixed[:, None] * rim[ny, nx]
        rows.append(centre[free])
        columns.append(number[ny, nx][free])
    off = sparse.coo_array(
        (np.full(sum(map(len, rows)), -1.0), (np.concatenate(rows), np.concatenate(columns))),
        shape=(len(centre), len(centre)),
    )
    system = (off + sparse.diags_array(degree)).tocsc()
    result[hole] = splu(system).solve(target)
    return result


def grain_like(
    sample: Float[np.ndarray, "row column channel"], where: Bool[np.ndarray, "row2 column2"]
) -> Float32[np.ndarray, "row2 column2 channel"]:
    """Fine texture with the spectrum and colours of a sample's, about zero, where asked for and 0 elsewhere.

    White noise convolved with the sample less its smooth part (random phase texture; Galerne, Gousseau and Morel 2011).
    The same shapes give the same grain.
    """
    rows, columns = sample.shape[:2]
    smooth = ndimage.gaussian_filter(sample, (0.06 * rows, 0.06 * columns, 0), mode="reflect")
    fine = sample - smooth
    # Blemishes are no texture: what stands far out of the rest is held back.
    limit = 2.5 * np.median(np.abs(fine)) / 0.6745 + 1e-6
    fine = (
        np.clip(fine, -limit, limit)
        * np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1])[..., None]
    )
    fine -= fine.mean(axis=(0, 1))
    noise = np.random.default_rng(0).standard_normal(where.shape)
    strength = np.sqrt(
        1 / max((np.hanning(rows + 2) ** 2).sum() * (np.hanning(columns + 2) ** 2).sum(), 1e-6)
    )
    result = np.zeros((*where.shape, sample.shape[2]), np.float32)
    box = ndimage.find_objects(where.astype(np.int32))
    if not box:
        return result
    part = box[0]
    for channel in range(sample.shape[2]):
        result[(*part, channel)] = strength * oaconvolve(noise[part], fine[..., channel], mode="same")
    return result * where[..., None]


def outside_distance(mask: Bool[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Pixels from each pixel to the nearest one in the mask; 0 inside."""
    return np.asarray(ndimage.distance_transform_edt(~mask))


def _halved(picture: np.ndarray) -> np.ndarray:
    rows, columns = picture.shape[:2]
    padded = np.pad(picture, ((1, 2 + rows % 2), (1, 2 + columns % 2), (0, 0)), mode="edge")
    rows, columns = rows + rows % 2, columns + columns % 2
    down = (
        padded[0:rows:2]
        + 3 * (padded[1 : rows + 1 : 2] + padded[2 : rows + 2 : 2])
        + padded[3 : rows + 3 : 2]
    ) / 8
    return (
        down[:, 0:columns:2]
        + 3 * (down[:, 1 : columns + 1 : 2] + down[:, 2 : columns + 2 : 2])
        + down[:, 3 : columns + 3 : 2]
    ) / 8


def _doubled(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    for axis in (0, 1):
        before = np.concatenate(
            [picture.take([0], axis), picture.take(range(picture.shape[axis] - 1), axis)], axis
        )
        after = np.concatenate(
            [picture.take(range(1, picture.shape[axis]), axis), picture.take([-1], axis)], axis
        )
        pairs = np.stack([0.75 * picture + 0.25 * before, 0.75 * picture + 0.25 * after], axis=axis + 1)
        merged = list(picture.shape)
        merged[axis] *= 2
        picture = pairs.reshape(merged)
    return picture[: shape[0], : shape[1]]
