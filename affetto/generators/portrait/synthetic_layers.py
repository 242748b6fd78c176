"""What lies before and behind a face in a picture: hair, hats, glasses, shadows, hands in the way."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

from affetto.generators.portrait.synthetic_photo import as_colour
from affetto.generators.portrait.synthetic_skin import Look, tile_box
from affetto.head.prepare import srgb_to_linear

_FINE = 2  # layers are drawn this many times larger


_STRANDS = gaussian_filter(np.random.default_rng(0).standard_normal((256, 256)), (6, 0.8), mode="wrap")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where the head's points lie in the picture."""

    rotation: Float[np.ndarray, "3 3"]
    pivot: Float[np.ndarray, "3"]
    distance: float
    focal: float
    shift: Float[np.ndarray, "2"]

    def project(self, points_mm: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """Pixel x, pixel y and 1/depth of points that turn with the head (millimetres in its frame)."""
        turned = (np.asarray(points_mm) / 1000.0 - self.pivot) @ self.rotation.T + self.pivot
        depth = np.maximum(self.distance - turned[:, 2], 0.05)
        pixel = self.shift + self.focal * turned[:, :2] * [1, -1] / depth[:, None]
        return np.column_stack([pixel, 1.0 / depth])


@dataclass(frozen=True, kw_only=True)
class Style:
    """Hair, hat and glasses of a person; lengths in millimetres, colours sRGB 0..255."""

    hair: Float[np.ndarray, "3"]
    tone: Float[np.ndarray, "3"]
    volume: float  # metres that the hair stands away from the head
    bald: bool
    behind: float  # how far hair hangs down behind, 0 for none
    fringe: float  # how far it falls over the forehead, 0 for none
    locks: float  # how far it falls beside the cheeks
    hat: str
    hat_colour: Float[np.ndarray, "3"]
    glasses: "Glasses | None"

    @classmethod
    def random(cls, rng: np.random.Generator, look: Look) -> "Style":
        """Anybody's style."""
        bald = rng.random() < 0.12
        hat = str(rng.choice(["none", "beanie", "cap", "scarf"], p=[0.84, 0.06, 0.06, 0.04]))
        long = not bald and rng.random() < 0.5
        return cls(
            hair=look.hair,
            tone=look.tone,
            volume=0.0
            if bald
            else rng.uniform(-0.002, 0.012)
            if rng.random() < 0.7
            else rng.uniform(0.01, 0.05),
            bald=bald,
            behind=rng.uniform(40, 260) if long or hat == "scarf" else 0.0,
            fringe=rng.uniform(10, 52) if not bald and hat == "none" and rng.random() < 0.45 else 0.0,
            locks=rng.uniform(60, 230) if long and rng.random() < 0.7 else 0.0,
            hat=hat,
            hat_colour=rng.uniform(10, 240, 3),
            glasses=Glasses.random(rng) if rng.random() < 0.28 else None,
        )

    def dressed(self, atlas: Float32[np.ndarray, "row column 3"], rng: np.random.Generator) -> np.ndarray:
        """The atlas with a hat, or a bare scalp, where the hair was."""
        if not self.bald and self.hat == "none":
            return atlas
        atlas = atlas.copy()
        x0, y0, x1, y1 = tile_box("hair")
        tile = atlas[y0:y1, x0:x1]
        grain = 1 + 0.06 * rng.standard_normal(tile.shape[:2])[..., None]
        if self.bald:
            skin = srgb_to_linear(np.clip(self.tone, 0, 255) / 255.0)
            tile[:] = skin * (1 + 0.25 * (grain - 1))
        if self.hat != "none":
            rows = round(tile.shape[0] * (0.62 if self.hat != "scarf" else 1.0) * rng.uniform(0.85, 1.1))
            tile[:rows] = (srgb_to_linear(self.hat_colour / 255.0) * grain)[:rows]
        return np.ascontiguousarray(atlas, np.float32)


@dataclass(frozen=True, kw_only=True)
class Glasses:
    """A frame: half width and height of a lens, how square it is, how it stands off, its line and its glass."""

    half: tuple[float, float]
    power: float
    drop: float
    forward: float
    line: float
    colour: Float[np.ndarray, "3"]
    glass: Float[np.ndarray, "4"]  # sRGB and opacity 0..1
    lower_rim: bool
    upper: float  # how many times thicker the upper rim is

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Glasses":
        """Any frame; one in eight is sunglasses."""
        dark = rng.random() < 0.12
        opacity = rng.uniform(0.6, 0.97) if dark else rng.uniform(0, 0.2) * (rng.random() < 0.5)
        colour = rng.uniform(0, 60, 3) if rng.random() < 0.6 else rng.uniform(20, 230, 3)
        return cls(
            half=(rng.uniform(21, 31), rng.uniform(14, 26)),
            power=rng.uniform(2.0, 5.0),
            drop=rng.uniform(-4, 8),
            forward=rng.uniform(24, 34),
            line=rng.uniform(0.6, 4.5),
            colour=colour,
            glass=np.array([*(rng.uniform(0, 50, 3) if dark else rng.uniform(120, 255, 3)), opacity]),
            lower_rim=rng.random() < 0.85,
            upper=rng.uniform(1.0, 3.5) if rng.random() < 0.35 else 1.0,
        )

    def lens(self, side: float) -> Float[np.ndarray, "point 3"]:
        """The outline of one lens, millimetres in the head's frame; `side` is +1 at the subject's left."""
        angle = np.linspace(0, 2 * np.pi, 36)
        squeeze = 2.0 / self.power
        x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** squeeze * self.half[0]
        y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** squeeze * self.half[1] - self.drop
        across = side * (max(self.half[0] + 8.0, 32.0)) + x
        return np.column_stack([across, y, self.forward - 0.0035 * across**2])


def hair_behind(picture: np.ndarray, scene: Scene, style: Style, rng: np.random.Generator) -> None:
    """Lay hair (or a headscarf) that hangs behind the head over the background, in place."""
    if not style.behind:
        return
    size = len(picture)
    wide = rng.uniform(82, 125)
    depth = -90.0
    angle = np.linspace(0, np.pi, 16)
    top = np.column_stack(
        [np.cos(angle) * wide, 40 + np.sin(angle) * rng.uniform(80, 110), np.full(16, depth)]
    )
    ends = np.array(
        [
            [-wide * rng.uniform(0.8, 1.4), -style.behind, depth],
            [wide * rng.uniform(0.8, 1.4), -style.behind, depth],
        ]
    )
    outline = scene.project(np.concatenate([top, ends]))[:, :2]
    canvas = Image.new("L", (size, size))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in outline], fill=255)
    share = (
        np.asarray(canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3))), np.float32)[..., None] / 255
    )
    colour = style.hat_colour if style.hat == "scarf" else style.hair
    strands = np.roll(_STRANDS, int(rng.integers(256)), 1)[:size, :size]
    shaded = np.clip(colour * (1 + 1.2 * strands[..., None]) * rng.uniform(0.3, 0.9), 0, 255)
    picture += share * (shaded.astype(np.float32) - picture)


def in_front(
    picture: UInt8[np.ndarray, "row column 3"],
    scene: Scene,
    style: Style,
    nearest: Float32[np.ndarray, "row column"],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "row column 3"]:
    """The picture with shadows, strands of hair, glasses, a hat's brim and whatever is held before the face."""
    light = float(np.clip(picture.mean() / 110.0, 0.3, 1.4))
    picture = _shadowed(picture, rng)
    canvas = Image.fromarray(picture).resize(
        (picture.shape[1] * _FINE, picture.shape[0] * _FINE), Image.Resampling.BILINEAR
    )
    pen = ImageDraw.Draw(canvas, "RGBA")
    untouched = True
    if style.fringe or style.locks:
        _strands(pen, scene, style, nearest, light, rng)
        untouched = False
    if style.glasses is not None:
        _draw_glasses(pen, scene, style.glasses, nearest, light, rng)
        untouched = False
    if style.hat == "cap":
        _brim(pen, scene, style, light, rng)
        untouched = False
    if rng.random() < 0.14:
        _in_the_way(pen, len(picture), style, light, rng)
        untouched = False
    if untouched:
        return picture
    return np.asarray(canvas.resize((picture.shape[1], picture.shape[0]), Image.Resampling.BOX))


def obstructed(
    picture: UInt8[np.ndarray, "row column 3"], style: Style, rng: np.random.Generator
) -> UInt8[np.ndarray, "row column 3"]:
    """The picture with something held before the camera."""
    size = len(picture)
    canvas = Image.fromarray(picture).resize((size * _FINE, size * _FINE), Image.Resampling.BILINEAR)
    _in_the_way(ImageDraw.Draw(canvas, "RGBA"), size, style, 1.0, rng)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))


def _shadowed(
    picture: UInt8[np.ndarray, "row column 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "row column 3"]:
    """A soft-edged shadow over a part of the picture, one time in four."""
    if rng.random() > 0.25:
        return picture
    size = len(picture)
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle, edge = rng.uniform(0, 2 * np.pi), rng.uniform(0.01, 0.25)
    along = (
        x * np.cos(angle)
        + y * np.sin(angle)
        + 0.08 * np.sin(rng.uniform(5, 20) * (y * np.cos(angle) - x * np.sin(angle)))
    )
    share = np.clip((along - rng.uniform(-0.25, 0.25)) / edge, 0, 1)[..., None]
    return (picture * (1 - share * rng.uniform(0.2, 0.75))).astype(np.uint8)


def _strands(
    pen: ImageDraw.ImageDraw,
    scene: Scene,
    style: Style,
    nearest: Float32[np.ndarray, "row column"],
    light: float,
    rng: np.random.Generator,
) -> None:
    paths: list[np.ndarray] = []
    if style.fringe:
        part, sweep = rng.uniform(-50, 50), rng.normal(0, 0.5)
        keep = rng.uniform(0.35, 1.0)
        for x in rng.uniform(-66, 66, int(rng.integers(25, 70))):
            if rng.random() > keep:
                continue
            drop = np.linspace(0, style.fringe * rng.uniform(0.6, 1.1), 6)
            across = x + np.sign(x - part) * drop * 0.25 + sweep * drop
            y = 66 - 0.004 * across**2 - drop
            z = 24 - 0.0085 * across**2 - 0.006 * np.clip(y - 30, 0, None) ** 2 + 4
            paths.append(np.column_stack([across, y, z]))
    if style.locks:
        wave, pull = rng.uniform(0, 6), rng.uniform(-12, 16)
        for side in (-1, 1):
            for start in rng.uniform(0, 1, int(rng.integers(12, 40))):
                drop = np.linspace(0, style.locks * rng.uniform(0.7, 1.1), 9)
                x = side * (66 + 14 * start + pull * np.sin(drop / 70) + wave * np.sin(drop / 18 + 5 * start))
                y = 52 + 14 * start - drop
                paths.append(np.column_stack([x, y, np.full(9, -6.0 - 28 * start)]))
    _draw_strands(pen, scene, paths, style.hair * light, nearest, rng)


def _draw_strands(
    pen: ImageDraw.ImageDraw,
    scene: Scene,
    paths: list[np.ndarray],
    colour: Float[np.ndarray, "3"],
    nearest: Float32[np.ndarray, "row column"],
    rng: np.random.Generator,
) -> None:
    """Draw each strand down to where it goes behind the head."""
    if not paths:
        return
    flat = scene.project(np.concatenate(paths))
    size = len(nearest)
    place = np.clip(flat[:, :2].astype(int), 0, size - 1)
    shown = flat[:, 2] > nearest[place[:, 1], place[:, 0]] * 0.99
    ends = np.cumsum([len(path) for path in paths])
    thin, thick = (w / 1000 * scene.focal / scene.distance * _FINE for w in (1.5, 5.0))
    for start, stop in zip(ends - [len(path) for path in paths], ends, strict=True):
        run = shown[start:stop]
        count = len(run) if run.all() else int(run.argmin())
        if count < 2:
            continue
        red, green, blue = as_colour(colour * rng.uniform(0.55, 1.25))
        width = max(round(rng.uniform(thin, thick)), 1)
        xy = (flat[start : start + count, :2] * _FINE).ravel().tolist()
        pen.line(xy, fill=(red, green, blue, int(rng.uniform(150, 255))), width=width)


def _draw_glasses(
    pen: ImageDraw.ImageDraw,
    scene: Scene,
    frame: Glasses,
    nearest: Float32[np.ndarray, "row column"],
    light: float,
    rng: np.random.Generator,
) -> None:
    fill = (*as_colour(frame.colour * light), 255)
    centre = max(frame.half[0] + 8.0, 32.0)
    inner, outer = centre - frame.half[0], centre + frame.half[0]
    for side in (-1.0, 1.0):
        outline = frame.lens(side)
        flat = [(float(x) * _FINE, float(y) * _FINE) for x, y, _ in scene.project(outline)]
        glass = as_colour(frame.glass[:3] * (light if frame.glass[3] > 0.5 else 1.0))
        pen.polygon(flat, fill=(*glass, int(255 * frame.glass[3])))
        if rng.random() < 0.3:  # a reflection
            corners = np.array([flat[int(k)] for k in rng.integers(0, 36, 4)])
            middle = np.mean(flat, axis=0)
            shrunk = middle + (corners - middle) * rng.uniform(0.3, 0.85)
            pen.polygon(
                [(float(x), float(y)) for x, y in shrunk], fill=(255, 255, 255, int(rng.uniform(30, 200)))
            )
        rim = outline if frame.lower_rim else outline[:19]
        _line(pen, scene, rim, fill, frame.line, None)
        _line(pen, scene, outline[:19], fill, frame.line * frame.upper, None)
        temple = np.column_stack([
            np.linspace(outer, 76, 10) * side, np.linspace(2, 4, 10), np.linspace(frame.forward - 0.0035 * outer**2, -85, 10)
        ])  # fmt: skip
        _line(pen, scene, temple, fill, max(frame.line * 0.9, 1.2), nearest)
    bridge = np.column_stack(
        [
            np.linspace(-inner, inner, 7),
            4 + 3 * np.cos(np.linspace(-1.5, 1.5, 7)),
            np.full(7, frame.forward + 1),
        ]
    )
    _line(pen, scene, bridge, fill, frame.line, None)


def _line(
    pen: ImageDraw.ImageDraw,
    scene: Scene,
    path_mm: Float[np.ndarray, "point 3"],
    fill: tuple[int, int, int, int],
    width_mm: float,
    nearest: Float32[np.ndarray, "row column"] | None,
) -> None:
    """Draw a path in space; the pieces behind the head are left out when depths are given."""
    flat = scene.project(path_mm)
    width = max(round(width_mm / 1000 * scene.focal * flat[:, 2].mean() * _FINE), 1)
    if nearest is None:
        pen.line(
            [(float(x) * _FINE, float(y) * _FINE) for x, y, _ in flat], fill=fill, width=width, joint="curve"
        )
        return
    size = len(nearest)
    place = np.clip(flat[:, :2].astype(int), 0, size - 1)
    shown = flat[:, 2] > nearest[place[:, 1], place[:, 0]] * 0.99
    for k in range(len(flat) - 1):
        if shown[k] and shown[k + 1]:
            ends = (flat[k : k + 2, :2] * _FINE).ravel().tolist()
            pen.line(ends, fill=fill, width=width)


def _brim(
    pen: ImageDraw.ImageDraw, scene: Scene, style: Style, light: float, rng: np.random.Generator
) -> None:
    angle = np.linspace(-1.1, 1.1, 14)
    high, reach, tilt = rng.uniform(52, 72), rng.uniform(45, 75), rng.uniform(-0.5, 0.2)
    inner = np.column_stack([np.sin(angle) * 78, np.full(14, high), np.cos(angle) * 78 - 52])
    outer = np.column_stack(
        [np.sin(angle) * 80, high + tilt * reach * np.cos(angle), np.cos(angle) * (78 + reach) - 52]
    )
    outline = scene.project(np.concatenate([inner, outer[::-1]]))
    colour = as_colour(style.hat_colour * light * rng.uniform(0.5, 1.0))
    pen.polygon([(float(x) * _FINE, float(y) * _FINE) for x, y, _ in outline], fill=(*colour, 255))


def _in_the_way(
    pen: ImageDraw.ImageDraw, size: int, style: Style, light: float, rng: np.random.Generator
) -> None:
    """A hand of a few fingers, a cup, a microphone, a sheet: something between camera and face."""
    side = size * _FINE
    at = np.array([0.5, 0.5]) * side + rng.normal(0, 0.22, 2) * side
    if rng.random() < 0.5:
        direction = rng.uniform(0, 2 * np.pi)
        along = np.array([np.cos(direction), np.sin(direction)])
        across = np.array([-along[1], along[0]])
        width = side * rng.uniform(0.035, 0.06)
        for finger in range(int(rng.integers(1, 5))):
            start = at + across * finger * width * 1.05
            stop = start + along * side * rng.uniform(0.2, 0.9)
            colour = as_colour(style.tone * light * rng.uniform(0.75, 1.05))
            pen.line([*start, *stop], fill=(*colour, 255), width=round(width))
            pen.ellipse([*(start - width / 2), *(start + width / 2)], fill=(*colour, 255))
        return
    reach = side * rng.uniform(0.05, 0.22, 2)
    colour = (*as_colour(rng.uniform(0, 255, 3)), int(rng.uniform(200, 255)))
    box = [*(at - reach), *(at + reach)]
    if rng.random() < 0.5:
        pen.ellipse(box, fill=colour)
    else:
        pen.rectangle(box, fill=colour)
