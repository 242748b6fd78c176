"""What a camera adds to a face: backgrounds, tones, casts, blur, grain, JPEG; and what a pen makes of it."""

import io

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter, uniform_filter

Colour = tuple[int, int, int]


def as_colour(values: Float[np.ndarray, "3"]) -> Colour:
    """SRGB values 0..255 as whole numbers, clipped."""
    red, green, blue = np.clip(values, 0, 255).astype(int).tolist()
    return red, green, blue


def backdrop(size: int, rng: np.random.Generator) -> Float32[np.ndarray, "row column 3"]:
    """A wall, a gradient, blurred clutter or noise, sRGB 0..255."""
    kind = rng.random()
    base = _muted(rng)
    if kind < 0.2:
        picture = np.tile(base, (size, size, 1))
    elif kind < 0.45:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:size, :size] / size - 0.5
        share = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]
        picture = base * (1 - share) + _muted(rng) * share
    else:
        picture = _clutter(size, rng)
    if rng.random() < 0.5:
        coarse = rng.standard_normal(
            (max(size // int(rng.integers(3, 40)), 3),) * 2 + (1 if rng.random() < 0.6 else 3,)
        )
        coarse = np.broadcast_to(coarse, (*coarse.shape[:2], 3))
        field = np.asarray(
            Image.fromarray(np.clip(128 + 40 * coarse, 0, 255).astype(np.uint8)).resize(
                (size, size), Image.Resampling.BICUBIC
            )
        )
        picture = picture + (field.astype(np.float32) - 128) * rng.uniform(0, 1.2)
    return np.clip(picture, 0, 255).astype(np.float32)


def _muted(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A colour, mostly a dull one."""
    colour = rng.uniform(0, 255, 3)
    return colour.mean() + (colour - colour.mean()) * rng.random() ** 1.5


def _clutter(size: int, rng: np.random.Generator) -> Float[np.ndarray, "row column 3"]:
    canvas = Image.new("RGB", (size, size), as_colour(_muted(rng)))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(4, 40))):
        colour = as_colour(_muted(rng))
        x, y = rng.uniform(-0.2, 1.2, 2) * size
        reach = rng.uniform(0.02, 0.5, 2) * size
        kind = rng.integers(4)
        if kind == 0:
            pen.rectangle([x, y, x + reach[0], y + reach[1]], fill=colour)
        elif kind == 1:
            pen.ellipse([x, y, x + reach[0], y + reach[1]], fill=colour)
        elif kind == 2:
            corners = (np.array([x, y]) + rng.uniform(-1, 1, (4, 2)) * reach).ravel().tolist()
            pen.polygon(corners, fill=colour)
        else:
            pen.line([x, y, *(rng.uniform(0, 1, 2) * size)], fill=colour, width=int(rng.integers(1, 12)))
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0, 6))), np.float32)


def developed(
    picture: UInt8[np.ndarray, "row column 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "row column 3"]:
    """The picture as cameras, prints and pens give it: tones, casts, grey, drawing, blur, grain, JPEG."""
    values = picture.astype(np.float32)
    kind = rng.random()
    if kind < 0.07:
        values = _drawn(values, rng)
    if rng.random() < 0.15:
        values = np.repeat(values @ np.array([0.3, 0.59, 0.11], np.float32)[:, None], 3, axis=2)
        values *= 1 + rng.uniform(-0.1, 0.1, 3) * (rng.random() < 0.4)
    elif rng.random() < 0.5:
        grey = values.mean(axis=2, keepdims=True)
        values = grey + (values - grey) * rng.uniform(0.4, 1.4)
        values *= rng.uniform(0.82, 1.18, 3)
    if rng.random() < 0.6:
        values = 255 * np.clip(values / 255, 0, 1) ** rng.uniform(0.6, 1.6)
        values = (values - 128) * rng.uniform(0.6, 1.3) + 128 + rng.uniform(-25, 25)
    if rng.random() < 0.45:
        sigma = rng.uniform(0.2, 1.6)
        values = gaussian_filter(values, (sigma, sigma * rng.uniform(0.6, 1.4), 0))
    if rng.random() < 0.6:
        grain = rng.standard_normal(
            values.shape if rng.random() < 0.5 else (*values.shape[:2], 1), np.float32
        )
        values = values + grain * (rng.random() ** 2 * 18)
    result = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        Image.fromarray(result).save(buffer, format="JPEG", quality=int(rng.integers(20, 95)))
        result = np.asarray(Image.open(buffer).convert("RGB"))
    return result


def _drawn(values: Float32[np.ndarray, "row column 3"], rng: np.random.Generator) -> np.ndarray:
    """A drawing: flat areas in a few tones, and lines where tone changes."""
    smooth = gaussian_filter(values, (1.2, 1.2, 0))
    grey = smooth.mean(axis=2)
    edge = np.hypot(np.gradient(grey, axis=0), np.gradient(grey, axis=1))
    line = np.clip(edge / rng.uniform(6, 20), 0, 1)[..., None]
    if rng.random() < 0.5:
        paper = rng.uniform(190, 255, 3)
        shade = np.clip((grey - uniform_filter(grey, 25)) / 60, -1, 0.3)[..., None]
        flat = paper * (1 + 0.35 * shade * rng.random())
    else:
        levels = int(rng.integers(3, 7))
        flat = np.round(smooth / 255 * levels) / levels * 255
    ink = rng.uniform(0, 80, 3)
    return (flat + line * rng.uniform(0.5, 1.0) * (ink - flat)).astype(np.float32)
