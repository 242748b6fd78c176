"""What stands around the head in a picture: camera, lights and background."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from affetto.head.rotation import euler_matrix
from affetto.runtime.errors import UsageError

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A perspective camera that looks at `target` (metres) from `distance`, turned about it by yaw and pitch (degrees).

    The default frames our head and the top of its shoulders like a portrait. Positive yaw walks to the subject's
    left, positive pitch climbs.
    """

    field_of_view: float = 20.0  # degrees, vertical
    target: Triple = (0.0, -0.035, 0.0)
    distance: float = 1.0
    yaw: float = 0.0
    pitch: float = 0.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.field_of_view <= 120.0:
            raise UsageError(f"field_of_view is {self.field_of_view}: use 1 to 120 degrees")
        if not self.distance > 0.0:
            raise UsageError(f"distance is {self.distance}: use a positive number of metres")

    @classmethod
    def around(cls, points: Float[np.ndarray, "vertex 3"], *, field_of_view: float = 20.0) -> "Camera":
        """The camera that shows all of `points` from the front with a small margin, whatever their unit."""
        low, high = points.min(axis=0), points.max(axis=0)
        centre, reach = (low + high) / 2.0, max(float((high - low)[:2].max()) / 2.0, 1e-6)
        distance = 1.1 * reach / np.tan(np.radians(field_of_view) / 2.0) + float(high[2] - centre[2])
        target = (float(centre[0]), float(centre[1]), float(centre[2]))
        return cls(field_of_view=field_of_view, target=target, distance=float(distance))

    def focal(self, height: int) -> float:
        """Pixels of a picture `height` rows tall per unit of tangent."""
        return 0.5 * height / float(np.tan(np.radians(self.field_of_view) / 2.0))

    def orientation(self) -> Float32[np.ndarray, "3 3"]:
        """The matrix that turns world directions into the camera's, where +X is right, +Y up and -Z ahead."""
        angles = np.radians([self.yaw, -self.pitch, 0.0])
        return euler_matrix(angles).T.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Light:
    """A distant light: the direction towards it in the camera's frame, and its linear RGB strength."""

    direction: Triple
    colour: Triple


@dataclass(frozen=True, kw_only=True)
class Lighting:
    """Distant lights with soft (wrapped) falloff over an ambience that shades from `sky` above to `ground` below."""

    lights: tuple[Light, ...]
    sky: Triple
    ground: Triple
    wrap: float = 0.25  # how far light reaches past the terminator, as a cosine
    rim: float = 0.25  # strength of the grazing sheen

    def __post_init__(self) -> None:
        if not 1 <= len(self.lights) <= 4:
            raise UsageError(f"{len(self.lights)} lights given: use 1 to 4")
        if any(np.linalg.norm(light.direction) == 0.0 for light in self.lights):
            raise UsageError("a light has direction (0, 0, 0): point it somewhere")

    def directions(self) -> Float32[np.ndarray, "light 3"]:
        """Unit directions towards the lights."""
        directions = np.array([light.direction for light in self.lights])
        return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)

    def colours(self) -> Float32[np.ndarray, "light 3"]:
        """Linear RGB of the lights."""
        return np.array([light.colour for light in self.lights], np.float32)


@dataclass(frozen=True, kw_only=True)
class Background:
    """A studio wall: `top` to `bottom` (sRGB, 0..255), a soft `glow` behind the head, darker in the corners."""

    top: Triple = (66.0, 72.0, 84.0)
    bottom: Triple = (38.0, 40.0, 48.0)
    glow: Triple = (52.0, 52.0, 54.0)
    vignette: float = 0.35

    def picture(self, size: tuple[int, int]) -> Float32[np.ndarray, "row column 3"]:
        """The wall alone, sRGB 0..255 for a picture of `size` (width, height)."""
        width, height = size
        x = (np.arange(width) + 0.5) / height - 0.5 * width / height
        y = (np.arange(height) + 0.5) / height
        fall = (y**1.2)[:, None, None]
        wall = (1.0 - fall) * np.array(self.top) + fall * np.array(self.bottom)
        from_head = np.hypot(x[None, :], (y[:, None] - 0.45))[..., None]
        wall = wall + np.exp(-((from_head / 0.42) ** 2)) * np.array(self.glow)
        wall = wall * (1.0 - self.vignette * np.clip(from_head / 0.8, 0.0, 1.0) ** 2)
        # Half a level of fixed noise keeps the gradient free of bands.
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (height, width, 1))
        return np.clip(wall + noise, 0.0, 255.0).astype(np.float32)

    @classmethod
    def plain(cls, colour: Triple) -> "Background":
        """One even colour (sRGB, 0..255)."""
        return cls(top=colour, bottom=colour, glow=(0.0, 0.0, 0.0), vignette=0.0)


STUDIO = Lighting(
    lights=(
        Light(
            direction=(0.55, 0.60, 0.75), colour=(0.96, 0.90, 0.82)
        ),  # key: warm, high, from the subject's left
        Light(direction=(-0.80, 0.10, 0.65), colour=(0.24, 0.28, 0.34)),  # fill: cool, level
        Light(direction=(-0.45, 0.55, -0.80), colour=(0.75, 0.80, 0.95)),  # rim: cool, from behind
    ),
    sky=(0.26, 0.28, 0.32),
    ground=(0.15, 0.13, 0.12),
)
"""A three-light portrait."""
