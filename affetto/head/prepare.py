"""What a renderer works out once for a surface: seams, materials, hollows, and a texture at the picture's scale."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from einops import reduce
from jaxtyping import Bool, Float, Float32, Int, Int32

from affetto.head.hollows import openness
from affetto.head.stage import Camera
from affetto.media.mesh import Surface

MOUTH_WORDS = ("teeth", "tongue", "mouth", "gum")
EYE_WORDS = ("eye", "iris", "cornea", "sclera")
SKIN_FLOOR = 0.15  # folds of skin open when a face moves, so none is baked wholly dark
DRY_WORDS = ("hair", "brow", "lash", "cap", "cloth", "shirt", "collar", "top")


@dataclass(frozen=True, kw_only=True)
class PreparedSurface:
    """A surface with everything that does not change from frame to frame.

    `attributes` are u, v (0..1), gloss, warmth (light scattered under the skin) and openness to light, all 0..1.
    The triangles `fan[fan_start[i]:fan_start[i + 1]]` meet at vertex i, those across texture seams included.
    """

    positions: Float32[np.ndarray, "vertex 3"]
    triangles: Int32[np.ndarray, "triangle 3"]
    group: Int32[np.ndarray, "triangle"]
    fan_start: Int32[np.ndarray, "fan_end"]
    fan: Int32[np.ndarray, "incidence"]
    attributes: Float32[np.ndarray, "vertex 5"]
    texture: Float32[np.ndarray, "row column 3"]  # linear light


def prepare_surface(surface: Surface, camera: Camera, height: int) -> PreparedSurface:
    """The surface made ready for pictures `height` pixels tall through `camera`."""
    group = triangle_groups(surface)
    fan_start, fan = vertex_fans(surface)
    attributes = np.column_stack([surface.uvs, surface.gloss, *_materials(surface)]).astype(np.float32)
    return PreparedSurface(
        positions=np.ascontiguousarray(surface.positions),
        triangles=np.ascontiguousarray(surface.triangles),
        group=group,
        fan_start=fan_start,
        fan=fan,
        attributes=np.ascontiguousarray(attributes),
        texture=_texture_at_scale(surface, camera, height),
    )


def triangle_groups(surface: Surface) -> Int32[np.ndarray, "triangle"]:
    """The index of each triangle's group in `surface.groups`, or -1 where it belongs to none."""
    group = np.full(len(surface.triangles), -1, np.int32)
    for index, (start, stop) in enumerate(surface.groups.values()):
        group[start:stop] = index
    return group


def seam_classes(surface: Surface) -> Int[np.ndarray, "vertex"]:
    """One number for all vertices that are one point of a smooth skin, cut only for the texture.

    Vertices that share a position count as one where their normals lie within 60 degrees of the mean, so hard edges
    and touching lips stay apart.
    """
    _, place = np.unique(surface.positions, axis=0, return_inverse=True)
    place = place.reshape(-1)
    normals = surface.normals().astype(np.float64)
    mean = np.stack([np.bincount(place, weights=normals[:, axis]) for axis in range(3)], axis=1)[place]
    agrees = (mean * normals).sum(axis=1) > 0.5 * np.linalg.norm(mean, axis=1)
    own = place.max(initial=0) + 1 + np.arange(len(place))
    return np.unique(np.where(agrees, place, own), return_inverse=True)[1].reshape(-1)


def vertex_fans(surface: Surface) -> tuple[Int32[np.ndarray, "fan_end"], Int32[np.ndarray, "incidence"]]:
    """The triangles that meet at each vertex, seams closed: offsets (one more than vertices) and triangle numbers."""
    classes = seam_classes(surface)
    corner_class = classes[surface.triangles].ravel()
    order = np.argsort(corner_class, kind="stable")
    by_class = (order // 3).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(np.bincount(corner_class, minlength=classes.max(initial=-1) + 1))])
    counts = (ends[1:] - ends[:-1])[classes]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    fan = by_class[np.arange(start[-1]) - np.repeat(start[:-1] - ends[classes], counts)]
    return start, fan


def default_follow(
    positions: Float[np.ndarray, "vertex 3"], pivot: Float[np.ndarray, "3"]
) -> Float32[np.ndarray, "vertex"]:
    """How much of the head's rotation each vertex takes: 1 for the head, falling smoothly to 0 at the shoulders.

    Heights are measured in spans from the pivot to the crown, along a line that leans forward with the neck, so that
    the chin, which hangs lower than the nape, still belongs wholly to the head.
    """
    crown = float(positions[:, 1].max()) - float(pivot[1])
    if crown <= 0.0:
        return np.ones(len(positions), np.float32)
    height = (positions[:, 1] - pivot[1] + 0.55 * (positions[:, 2] - pivot[2])) / crown
    share = np.clip((height + 0.62) / 0.5, 0.0, 1.0)
    return (share * share * (3.0 - 2.0 * share)).astype(np.float32)


def _is(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name.lower() for word in words)


def _vertices_of(surface: Surface, groups: Mapping[str, tuple[int, int]]) -> Bool[np.ndarray, "vertex"]:
    chosen = np.zeros(len(surface.positions), bool)
    for start, stop in groups.values():
        chosen[surface.triangles[start:stop].ravel()] = True
    return chosen


def _materials(
    surface: Surface,
) -> tuple[Float32[np.ndarray, "vertex"], Float32[np.ndarray, "vertex"]]:
    """Warmth and openness to light of each vertex: skin is warm, the mouth darkens towards the throat."""
    vertices = len(surface.positions)
    warmth, light = np.ones(vertices, np.float32), SKIN_FLOOR + (1.0 - SKIN_FLOOR) * _spread(surface)
    named = {
        words: {n: r for n, r in surface.groups.items() if _is(n, words)} for words in (DRY_WORDS, EYE_WORDS)
    }
    for ranges in named.values():
        warmth[_vertices_of(surface, ranges)] = 0.0
    eyes = _vertices_of(surface, named[EYE_WORDS])
    light[eyes] = (
        0.5 + 0.5 * light[eyes]
    )  # eyeballs turn under their lids, so shade baked on them stays faint
    mouth = {name: span for name, span in surface.groups.items() if _is(name, MOUTH_WORDS)}
    inside = _vertices_of(surface, mouth)
    if inside.any():
        depth = surface.positions[inside, 2]
        front, back = float(depth.max()), float(depth.min())
        nearness = np.clip((depth - back) / max(front - back, 1e-9), 0.0, 1.0)
        light[inside] = 0.06 + 0.84 * nearness**2.2
        warmth[inside] = 0.5
    return warmth, light.astype(np.float32)


def _spread(surface: Surface) -> Float[np.ndarray, "vertex"]:
    """Openness of each vertex, averaged with its neighbours so that the depth maps' grain does not show."""
    light = openness(surface.positions, surface.normals(), np.ascontiguousarray(surface.triangles))
    classes = seam_classes(surface)
    corners = classes[surface.triangles]
    place = np.bincount(classes, weights=light) / np.bincount(classes)
    around = np.repeat(place[corners].mean(axis=1), 3)
    share = np.bincount(corners.ravel(), minlength=len(place))
    mean = np.bincount(corners.ravel(), weights=around, minlength=len(place)) / np.maximum(share, 1)
    place = np.where(share > 0, mean, place)
    return place[classes]


def _texture_at_scale(surface: Surface, camera: Camera, height: int) -> Float32[np.ndarray, "row column 3"]:
    """The texture in linear light, halved until about one texel falls on a pixel, so that it does not flicker."""
    texture = srgb_to_linear(surface.texture.astype(np.float32) / 255.0)
    ratio = _texels_per_pixel(surface, camera, height)
    while ratio > 1.5 and min(texture.shape[:2]) >= 16:
        even = texture[: texture.shape[0] // 2 * 2, : texture.shape[1] // 2 * 2]
        texture = reduce(even, "(row 2) (column 2) rgb -> row column rgb", "mean")
        ratio /= 2.0
    return np.ascontiguousarray(texture, dtype=np.float32)


def _texels_per_pixel(surface: Surface, camera: Camera, height: int) -> float:
    """How many texels lie along a pixel's side, in the median over the surface that faces the camera."""
    if not len(surface.triangles):
        return 1.0
    size = np.array([surface.texture.shape[1], surface.texture.shape[0]])
    texels = surface.uvs[surface.triangles] * size
    points = ((surface.positions - np.array(camera.target)) @ camera.orientation().T)[:, :2]
    pixels = points[surface.triangles] * camera.focal(height) / camera.distance
    facing = _areas(pixels)
    seen = facing > 1e-6
    if not seen.any():
        return 1.0
    ratios = np.sqrt(np.abs(_areas(texels)[seen]) / facing[seen])
    order = np.argsort(ratios)
    weight = np.cumsum(facing[seen][order])
    return float(ratios[order][np.searchsorted(weight, weight[-1] / 2.0)])


def _areas(corners: Float[np.ndarray, "triangle 3 2"]) -> Float[np.ndarray, "triangle"]:
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return 0.5 * (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])


def srgb_to_linear(encoded: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear light of sRGB values, both 0..1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(
        encoded.dtype
    )


def linear_to_srgb(light: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The sRGB value of linear light, both 0..1."""
    return np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    ).astype(light.dtype)


SHOULDER = 0.65  # linear light above this is compressed instead of clipped
TABLE_SIZE = 4096


def display_curve(light: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Screen values (sRGB, 0..255) of any amount of linear light; highlights roll off towards white."""
    room = 1.0 - SHOULDER
    over = np.maximum(light - SHOULDER, 0.0) / room
    rolled = np.where(light > SHOULDER, SHOULDER + room * over / (1.0 + over), light)
    return (255.0 * linear_to_srgb(rolled)).astype(light.dtype)


def display_table() -> Float32[np.ndarray, "entry"]:
    """`display_curve` at light 0..4, indexed by the square root of a quarter of the light."""
    return display_curve(4.0 * np.linspace(0.0, 1.0, TABLE_SIZE) ** 2).astype(np.float32)
