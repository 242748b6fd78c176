"""Filling what a picture does not show from what surrounds it, coarse to fine (Gortler et al. 1996, pull and push)."""

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage


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
