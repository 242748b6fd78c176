"""Skins for faces that nobody has: tone, lips, brows, beard, folds, freckles, eyes, hair and clothes, painted at random.

The head's own atlas gives the fine structure as a ratio to its skin tone; all else is drawn on a plane in front of the
face (`FRONT`) and laid onto the texels that look forward.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

from affetto.head import kernels
from affetto.head.assemble import TILES
from affetto.head.landmarks68 import VERTICES_68
from affetto.head.model import HeadModel
from affetto.head.prepare import srgb_to_linear
from affetto.head.texture import SKIN

ATLAS = 256  # texels a side
FRONT = (200, 220)  # pixels of the plane in front of the face, one a millimetre
Number = int | float
_LEFT_MM, _TOP_MM = -100.0, 90.0
_ARCH = np.array([[8, 18.5], [13, 20.5], [20, 22.4], [32, 24.6], [43, 24.6], [51, 21.4], [57, 17.4]])

_TONES = np.array(
    [
        *((246, 218, 200), (236, 194, 170), (226, 176, 146), (210, 158, 124), (190, 138, 104)),
        *((166, 116, 84), (134, 90, 64), (102, 66, 48), (74, 48, 37), (54, 36, 29)),
    ],
    float,
)
_HAIRS = np.array(
    [
        *((24, 20, 20), (40, 28, 24), (70, 46, 32), (104, 70, 44), (146, 106, 64), (196, 158, 104)),
        *((226, 196, 146), (150, 74, 36), (120, 116, 114), (190, 188, 186), (236, 234, 230)),
    ],
    float,
)
_IRISES = np.array(
    [(52, 32, 22), (84, 54, 32), (120, 86, 48), (104, 110, 70), (92, 120, 122), (104, 136, 168)], float
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a person is painted: the atlas in linear light and the colours that other layers take up (sRGB 0..255)."""

    atlas: Float32[np.ndarray, "row column 3"]
    tone: Float[np.ndarray, "3"]
    hair: Float[np.ndarray, "3"]
    brow_lift: float  # millimetres that the brows grow above where the head's own are


class SkinPainter:
    """Paints atlases for one head; what does not change from person to person is worked out once."""

    def __init__(self, head: HeadModel) -> None:
        surface = head.mesh.surface
        side = surface.texture.shape[0] // ATLAS
        base = surface.texture.astype(np.float32).reshape(ATLAS, side, ATLAS, side, 3).mean(axis=(1, 3))
        self._base = base
        place = _position_map(head)
        self._skin: Bool[np.ndarray, "row column"] = np.isfinite(place[..., 0])
        x, y, z = (np.nan_to_num(place[..., axis]) * 1000.0 for axis in range(3))
        columns = np.clip(x - _LEFT_MM, 0, FRONT[0] - 1).astype(np.int64)
        rows = np.clip(_TOP_MM - y, 0, FRONT[1] - 1).astype(np.int64)
        self._front = (rows * FRONT[0] + columns)[self._skin]
        self._forward = np.clip((z[self._skin] + 45.0) / 25.0, 0.0, 1.0).astype(np.float32)[:, None]
        ratio = base / SKIN.astype(np.float32)
        brow = np.abs(y - np.interp(np.abs(x), *_ARCH.T)) < 8.0
        brow &= (np.abs(x) > 3.0) & (np.abs(x) < 64.0) & (z > -12.0) & self._skin
        share = gaussian_filter(brow.astype(np.float32), 0.8)[..., None]
        self._ratio = (ratio * (1 - share) + share)[self._skin]
        self._points = surface.positions[VERTICES_68].astype(np.float64) * 1000.0
        rng = np.random.default_rng(0)
        self._grain = [
            gaussian_filter(rng.standard_normal((ATLAS, ATLAS)), s, mode="wrap") for s in (0.6, 1.3, 7.0)
        ]
        self._grain = [(field / field.std()).astype(np.float32) for field in self._grain]
        self._tables = _linear_table()

    def paint(self, rng: np.random.Generator) -> Look:
        """A random person's look."""
        tone = _between(_TONES, rng) * rng.uniform(0.94, 1.06, 3)
        hair = _between(_HAIRS, rng) if rng.random() < 0.8 else np.clip(tone * rng.uniform(0.2, 0.5), 10, 255)
        lift = float(rng.uniform(-5.5, 3.0))
        atlas = self._base.copy()
        atlas[self._skin] = self._skin_colours(tone, hair, lift, rng)
        self._tint("hair", atlas, hair, rng)
        self._tint("clothes", atlas, rng.uniform(15, 245, 3), rng)
        self._eyes(atlas, rng)
        self._mouth(atlas, rng)
        index = np.clip(atlas, 0, 255).astype(np.uint8)
        return Look(atlas=self._tables[index], tone=tone, hair=hair, brow_lift=lift)

    def _skin_colours(
        self,
        tone: Float[np.ndarray, "3"],
        hair: Float[np.ndarray, "3"],
        lift: float,
        rng: np.random.Generator,
    ) -> Float32[np.ndarray, "texel 3"]:
        colour = self._ratio ** np.float32(rng.uniform(0.55, 1.15)) * tone.astype(np.float32)
        for field, most in zip(self._grain, (0.045, 0.05, 0.04), strict=True):
            shift = rng.integers(0, ATLAS, 2)
            rolled = np.roll(field, tuple(shift), (0, 1))[self._skin][:, None]
            per_channel = rng.uniform(0.6, 1.4, 3).astype(np.float32)
            colour *= 1 + rolled * per_channel * np.float32(most * rng.random() ** 1.5)
        plane = self._face_plane(lift, rng)
        laid = plane.reshape(-1, 8)[self._front]
        laid *= self._forward
        shade, lip, hairy = laid[:, :1], laid[:, 1:2], laid[:, 2:3]
        colour *= 1 - shade
        lip_colour = np.clip(tone * [1.0, 0.62, 0.62] * rng.uniform(0.75, 1.1), 0, 255)
        if rng.random() < 0.3:
            lip_colour = np.array([rng.uniform(110, 220), rng.uniform(20, 110), rng.uniform(30, 120)])
        colour += lip * (lip_colour.astype(np.float32) - colour)
        colour += laid[:, 3:4] * (laid[:, 4:7] - colour * (laid[:, 3:4] > 0))
        beard = np.clip(hair * rng.uniform(0.6, 1.1), 0, 255).astype(np.float32)
        return colour + hairy * (beard - colour)

    def _face_plane(self, lift: float, rng: np.random.Generator) -> Float32[np.ndarray, "row column 8"]:
        """On the plane: shade, lip colour, hair, then make-up as amount and colour (and one spare channel)."""
        plane = np.zeros((FRONT[1], FRONT[0], 8), np.float32)
        plane[..., 0] = self._folds(rng)
        plane[..., 1] = _soft(_polygon(self._points[48:60]), 1.0) * rng.uniform(0.0, 0.75)
        plane[..., 2] = np.maximum(self._brows(lift, rng), self._beard(rng))
        if rng.random() < 0.3:  # eye shadow
            amount = rng.uniform(0.1, 0.6)
            for eye in (self._points[36:42], self._points[42:48]):
                middle = eye.mean(axis=0)
                lifted = middle + (eye - middle) * rng.uniform(1.3, 2.0) + [0, 2.0, 0]
                plane[..., 3] += _soft(_polygon(lifted), 2.0) * amount
            plane[..., 4:7] = rng.uniform(20, 200, 3) * plane[..., 3:4]
        return plane

    def _brows(self, lift: float, rng: np.random.Generator) -> Float32[np.ndarray, "row column"]:
        canvas = Image.new("L", FRONT)
        pen = ImageDraw.Draw(canvas)
        thick, bend = rng.uniform(0.6, 7.0), rng.normal(0, 1.0)
        start, stop = rng.uniform(7.0, 13.0), rng.uniform(50.0, 60.0)
        strength = rng.uniform(0.15, 1.0) ** 0.7
        count = int(rng.integers(25, 120))
        for side in (-1, 1):
            along = np.sort(rng.uniform(start, stop, count))
            for x in along:
                y = np.interp(x, *_ARCH.T) + lift + bend * np.sin((x - start) / (stop - start) * np.pi)
                share = np.clip((stop - x) / 18.0, 0.15, 1.0) * np.clip((x - start) / 4.0 + 0.4, 0, 1)
                y += rng.uniform(-0.5, 0.5) * thick * share
                slant = np.interp(x, [10, 30, 50], [0.6, 2.0, 3.0])
                level = int(255 * strength * rng.uniform(0.5, 1.0))
                first, last = _pixel(side * x, y - 0.5), _pixel(side * (x + slant), y + rng.uniform(0.2, 2.0))
                pen.line([*first, *last], fill=level, width=int(rng.integers(1, 4)))
        return _soft(canvas, rng.uniform(0.3, 1.1))

    def _beard(self, rng: np.random.Generator) -> Float32[np.ndarray, "row column"]:
        if rng.random() > 0.33:
            return np.zeros((FRONT[1], FRONT[0]), np.float32)
        canvas = Image.new("L", FRONT)
        pen = ImageDraw.Draw(canvas)
        jaw, lips = self._points[:17], self._points[48:60]
        full, moustache, goatee = rng.random(3) < (0.5, 0.7, 0.3)
        if full:
            high = rng.uniform(-62, -20)
            cheek = [(jaw[1, 0], jaw[1, 1]), (-45, high + rng.uniform(-5, 5)), (-24, -60)]
            under = [(jaw[k, 0] * 1.1, jaw[k, 1] - 22) for k in range(1, 16)]
            mirrored = [(-x, y) for x, y in reversed(cheek)]
            outline = [*cheek, (-20, -64), (0, -80), (20, -64), *mirrored, *reversed(under)]
            pen.polygon([_pixel(x, y) for x, y in outline], fill=255)
        if goatee:
            wide = rng.uniform(8, 26)
            pen.polygon(
                [
                    _pixel(x, y)
                    for x, y in ((-wide, -84), (wide, -84), (wide * 0.8, -125), (-wide * 0.8, -125))
                ],
                fill=255,
            )
        if moustache:
            wide, low = rng.uniform(22, 36), rng.uniform(-70, -60)
            outline = (
                (-wide, low - 4),
                (-14, -52),
                (0, -51),
                (14, -52),
                (wide, low - 4),
                (14, -60),
                (0, -58.5),
                (-14, -60),
            )
            pen.polygon([_pixel(x, y) for x, y in outline], fill=255)
        pen.polygon([_pixel(x, y) for x, y, _ in lips], fill=0)
        density = rng.uniform(0.15, 1.0)
        grain = np.clip(1.0 + 0.45 * rng.standard_normal((FRONT[1], FRONT[0]), np.float32), 0, 1.5)
        return np.clip(_soft(canvas, rng.uniform(1.0, 4.5)) * density * grain, 0, 1)

    def _folds(self, rng: np.random.Generator) -> Float32[np.ndarray, "row column"]:
        """Darkening by folds beside the mouth, on the forehead, round the eyes; bags, liner and freckles."""
        canvas = Image.new("F", FRONT)
        pen = ImageDraw.Draw(canvas)
        age = rng.random() ** 2

        def crease(points: Sequence[tuple[Number, Number]], strength: Number, width: int = 1) -> None:
            for side in (-1, 1):
                pen.line(
                    [_pixel(side * x, y) for x, y in points], fill=float(strength), width=width, joint="curve"
                )

        crease(
            [(16, -44), (24, -52), (31, -60), (35, -70)],
            rng.uniform(0, 0.7) * (0.4 + age),
            int(rng.integers(1, 4)),
        )
        crease([(32, -72), (34, -80), (32, -90)], 0.35 * age)
        for height in rng.uniform(32, 62, int(rng.integers(0, 4))):
            crease([(0, height), (20, height + 2), (40, height - 1)], 0.35 * age)
        for height in (-4, 2, 7):
            crease([(50, height), (60, height * 1.8)], 0.3 * age)
        crease([(14, -8), (24, -16), (38, -13)], rng.uniform(0, 0.4), int(rng.integers(2, 6)))
        crease([(17, 6), (28, 9.5), (40, 8), (48, 1)], rng.uniform(0, 0.6), int(rng.integers(1, 3)))
        shade = gaussian_filter(np.asarray(canvas, np.float32), rng.uniform(0.5, 2.0))
        for eye in (self._points[36:42], self._points[42:48]):
            middle = eye.mean(axis=0)
            shade += _soft(_polygon(middle + (eye - middle) * 1.15), 0.8) * rng.uniform(0.0, 0.35)
            shade += _soft(_polygon(middle + (eye - middle) * 1.7), 4.0) * rng.uniform(0.0, 0.25)
        if rng.random() < 0.2:
            spots = (rng.random((FRONT[1], FRONT[0])) < rng.uniform(0.002, 0.02)).astype(np.float32)
            shade += np.clip(gaussian_filter(spots, rng.uniform(0.5, 1.0)) * rng.uniform(0.3, 1.5), 0, 0.25)
        return np.clip(shade, 0, 0.85)

    def _tint(
        self, name: str, atlas: np.ndarray, colour: Float[np.ndarray, "3"], rng: np.random.Generator
    ) -> None:
        x0, y0, x1, y1 = tile_box(name)
        tile = self._base[y0:y1, x0:x1]
        light = tile.mean(axis=2, keepdims=True)
        light = light / light.mean()
        contrast = rng.uniform(0.5, 1.6)
        tinted = light**contrast * colour
        if name == "clothes" and rng.random() < 0.4:
            waves = np.sin(np.arange(y1 - y0) * rng.uniform(0.1, 1.2))[:, None, None] > rng.uniform(-0.5, 0.8)
            tinted = np.where(waves, tinted, light * rng.uniform(15, 245, 3))
        atlas[y0:y1, x0:x1] = tinted

    def _eyes(self, atlas: np.ndarray, rng: np.random.Generator) -> None:
        x0, y0, x1, y1 = tile_box("eye")
        height, width = y1 - y0, x1 - x0
        v, u = np.meshgrid(
            (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
        )
        degrees = np.hypot(u - 0.5, v - 0.5) / 0.49 * 72
        tile = self._base[y0:y1, x0:x1]
        iris = np.clip((22.0 - degrees) / 1.5, 0, 1)[..., None]
        light = tile.mean(axis=2, keepdims=True) / 105.0
        colour = _between(_IRISES, rng) * rng.uniform(0.7, 1.3)
        white = tile * rng.uniform(0.78, 1.04) * (1 - np.array([0, 1, 1]) * rng.uniform(0, 0.14))
        painted = white * (1 - iris) + iris * np.clip(light * colour, 0, 255)
        pupil = np.clip((rng.uniform(6, 12) - degrees) / 1.2, 0, 1)[..., None]
        painted *= 1 - 0.9 * pupil
        glint = np.exp(
            -((u - 0.5 - rng.uniform(-0.12, 0.12)) ** 2 + (v - 0.42) ** 2) / rng.uniform(0.01, 0.04) ** 2
        )
        atlas[y0:y1, x0:x1] = painted + glint[..., None] * rng.uniform(0, 255) * (rng.random() < 0.8)

    def _mouth(self, atlas: np.ndarray, rng: np.random.Generator) -> None:
        x0, y0, x1, y1 = tile_box("teeth")
        atlas[y0:y1, x0:x1] *= rng.uniform(0.7, 1.08) * (1 - np.array([0, 0.3, 1]) * rng.uniform(0, 0.2))
        for name in ("gums", "tongue"):
            x0, y0, x1, y1 = tile_box(name)
            atlas[y0:y1, x0:x1] *= rng.uniform(0.7, 1.15, 3)


def _between(anchors: Float[np.ndarray, "anchor 3"], rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A colour between two neighbouring anchors, each stretch equally likely."""
    at = rng.uniform(0, len(anchors) - 1)
    low = int(at)
    return anchors[low] + (at - low) * (anchors[low + 1] - anchors[low])


def _pixel(x_mm: Number, y_mm: Number) -> tuple[float, float]:
    return x_mm - _LEFT_MM, _TOP_MM - y_mm


def _polygon(points: Float[np.ndarray, "corner 3"]) -> Image.Image:
    canvas = Image.new("L", FRONT)
    ImageDraw.Draw(canvas).polygon([_pixel(float(x), float(y)) for x, y, _ in points], fill=255)
    return canvas


def _soft(canvas: Image.Image, radius: Number) -> Float32[np.ndarray, "row column"]:
    """The canvas as 0..1, blurred."""
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255.0


def tile_box(name: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a part's texels."""
    left, top, width, height = TILES[name]
    return (
        round(left * ATLAS),
        round(top * ATLAS),
        round(min(left + width, 1) * ATLAS),
        round(min(top + height, 1) * ATLAS),
    )


def _linear_table() -> Float32[np.ndarray, "256"]:
    return srgb_to_linear(np.arange(256, dtype=np.float32) / 255.0).astype(np.float32)


def _position_map(head: HeadModel) -> Float32[np.ndarray, "row column 3"]:
    """The place at rest under every skin texel, NaN elsewhere, by rasterising the chart."""
    surface = head.mesh.surface
    start, stop = surface.groups["skin"]
    triangles = np.ascontiguousarray(surface.triangles[start:stop])
    flat = np.column_stack([surface.uvs * ATLAS, np.ones(len(surface.uvs))]).astype(np.float32)
    nearest = np.zeros((ATLAS, ATLAS, kernels.SAMPLES), np.float32)
    owner = np.full((ATLAS, ATLAS, kernels.SAMPLES), -1, np.int32)
    everything = np.arange(len(triangles), dtype=np.int32)
    kernels.cover_band(flat, triangles, everything, 0, len(triangles), 0, ATLAS, nearest, owner)
    triangle = owner.max(axis=2)
    known = triangle >= 0
    corners = triangles[triangle[known]]
    a, b, c = (flat[corners[:, k], :2] for k in range(3))
    rows, columns = np.nonzero(known)
    point = np.column_stack([columns + 0.5, rows + 0.5])
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    u = ((b - point)[:, 0] * (c - point)[:, 1] - (b - point)[:, 1] * (c - point)[:, 0]) / area
    v = ((c - point)[:, 0] * (a - point)[:, 1] - (c - point)[:, 1] * (a - point)[:, 0]) / area
    shares = np.column_stack([u, v, 1 - u - v])
    place = np.full((ATLAS, ATLAS, 3), np.nan, np.float32)
    place[known] = np.einsum("nk,nkd->nd", shares, surface.positions[corners])
    return place
