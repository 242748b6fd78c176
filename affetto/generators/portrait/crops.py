"""Turned, scaled squares cut from a picture, and the way back from places in them to its pixels."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A square of a picture: its centre and side in pixels, turned by `turn` radians (positive is clockwise)."""

    centre: tuple[float, float]
    side: float
    turn: float = 0.0
    mirrored: bool = False

    @property
    def matrix(self) -> Float[np.ndarray, "2 3"]:
        """Takes places 0..1 in the square to pixels of the picture."""
        cosine, sine = np.cos(self.turn) * self.side, np.sin(self.turn) * self.side
        sign = -1.0 if self.mirrored else 1.0
        linear = np.array([[sign * cosine, -sine], [sign * sine, cosine]])
        start = np.array(self.centre) - linear.sum(axis=1) / 2
        return np.column_stack([linear, start])

    def to_picture(self, places: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Pixels of places 0..1 in the square."""
        matrix = self.matrix
        return places @ matrix[:, :2].T + matrix[:, 2]

    def mirror(self) -> "Crop":
        """The same square seen in a mirror."""
        return dataclasses.replace(self, mirrored=not self.mirrored)


class Pyramid:
    """A picture from which squares of any size are cut without aliasing."""

    def __init__(self, image: UInt8[np.ndarray, "row column 3"]) -> None:
        self._levels = {1: Image.fromarray(image)}

    def cut(self, crop: Crop, side: int) -> Float32[np.ndarray, "3 side side"]:
        """The square resampled to `side` pixels, values -1..1; grey outside the picture's edges is their own colour."""
        factor = 1
        while crop.side / side / factor > 1.8 and factor < 64:
            factor *= 2
        if factor not in self._levels:
            self._levels[factor] = self._levels[1].reduce(factor)
        source = self._levels[factor]
        matrix = crop.matrix.copy()
        matrix /= factor
        matrix[:, :2] /= side
        padded, offset = _padded(source, crop, factor)
        matrix[:, 2] += offset
        data = (*matrix[0], *matrix[1])
        square = padded.transform((side, side), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        return (np.asarray(square, np.float32) / 127.5 - 1.0).transpose(2, 0, 1)


def _padded(source: Image.Image, crop: Crop, factor: int) -> tuple[Image.Image, Float[np.ndarray, "2"]]:
    """The part of the picture about the square, its edge pixels repeated outwards, and what its places are shifted by."""
    reach = crop.side / factor * 0.75 + 2
    x, y = crop.centre[0] / factor, crop.centre[1] / factor
    left, top, right, bottom = (
        int(np.floor(v)) for v in (x - reach, y - reach, x + reach + 1, y + reach + 1)
    )
    inside = (max(left, 0), max(top, 0), min(right, source.width), min(bottom, source.height))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return Image.new("RGB", (right - left, bottom - top), (128, 128, 128)), np.array([-left, -top], float)
    part = source.crop(inside)
    margins = ((inside[1] - top, bottom - inside[3]), (inside[0] - left, right - inside[2]), (0, 0))
    if any(value for pair in margins for value in pair):
        part = Image.fromarray(np.pad(np.asarray(part), margins, mode="edge"))
    return part, np.array([-left, -top], float)
