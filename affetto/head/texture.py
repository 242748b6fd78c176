"""One painted atlas: skin with lips, brows and cheeks, iris, teeth, tongue, hair and clothes. All procedural."""

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d

from affetto.head.assemble import TILES, Assembly
from affetto.head.hairline import scalp
from affetto.head.reference import EYE_CENTRE, Reference

SKIN = np.array([232, 184, 158], float)
SKIN_SHADE = np.array([196, 128, 104], float)
BLUSH = np.array([226, 132, 116], float)
LIP = np.array([204, 118, 108], float)
LIP_LINE = np.array([104, 42, 42], float)
BROW = np.array([74, 50, 38], float)
HAIR = np.array([78, 52, 38], float)
HAIR_LIGHT = np.array([142, 98, 66], float)
IRIS = np.array([104, 124, 96], float)
SHIRT = np.array([74, 104, 128], float)


def paint(
    assembly: Assembly, reference: Reference, size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The finished atlas of `size` x `size` pixels."""
    atlas = np.tile(SKIN, (size, size, 1))
    place = _position_map(assembly, size)
    painted = np.zeros((size, size), bool)
    painted[: round(TILES["skin"][3] * size), : round(TILES["skin"][2] * size)] = True
    atlas = _paint_skin(assembly, atlas, place, reference, rng)
    for name, painter in (
        ("eye", _eye),
        ("teeth", _teeth),
        ("gums", _gums),
        ("tongue", _tongue),
        ("lashes", _lashes),
        ("hair", _hair),
        ("clothes", _clothes),
    ):
        left, top, width, height = TILES[name]
        x0, y0, x1, y1 = (round(v * size) for v in (left, top, min(left + width, 1), min(top + height, 1)))
        tile = painter(y1 - y0, x1 - x0, rng)
        atlas[y0:y1, x0:x1] = tile
        painted[y0:y1, x0:x1] = True
    nearest = np.asarray(distance_transform_edt(~painted, return_indices=True, return_distances=False))
    atlas = atlas[nearest[0], nearest[1]]  # gaps take their neighbours' colour, so that no seam shows
    return np.clip(np.rint(atlas), 0, 255).astype(np.uint8)


def _position_map(assembly: Assembly, size: int) -> Float[np.ndarray, "h w 3"]:
    """The rest position under every skin texel (NaN where no skin lies), by rasterising the chart."""
    start, stop = assembly.groups["skin"]
    place = np.full((size, size, 3), np.nan)
    pixel = assembly.uvs * size - 0.5
    for triangle in assembly.triangles[start:stop]:
        if (assembly.patch[triangle] == 2).any():
            continue
        p = pixel[triangle]
        low = np.clip(np.floor(p.min(axis=0) - 1).astype(int), 0, size - 1)
        high = np.clip(np.ceil(p.max(axis=0) + 1).astype(int), 0, size - 1)
        xs, ys = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
        u, v = p[1] - p[0], p[2] - p[0]
        area = u[0] * v[1] - u[1] * v[0]
        if abs(area) < 1e-9:
            continue
        dx, dy = xs - p[0, 0], ys - p[0, 1]
        b = (dx * v[1] - dy * v[0]) / area
        c = (u[0] * dy - u[1] * dx) / area
        a = 1 - b - c
        inside = np.minimum(np.minimum(a, b), c) > -0.02
        corners = assembly.positions[triangle]
        place[ys[inside], xs[inside]] = np.stack([a, b, c], axis=-1)[inside] @ corners
    return place


def _mix(base: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return base + np.clip(amount, 0, 1)[..., None] * (colour - base)


def _smooth(edge0: float, edge1: float, value: np.ndarray) -> np.ndarray:
    t = np.clip((value - edge0) / (edge1 - edge0), 0, 1)
    return t * t * (3 - 2 * t)


def _noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    field = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return field / field.std()


def _paint_skin(
    assembly: Assembly, atlas: np.ndarray, place: np.ndarray, reference: Reference, rng: np.random.Generator
) -> np.ndarray:
    known = np.isfinite(place[..., 0])
    nearest = np.asarray(distance_transform_edt(~known, return_indices=True, return_distances=False))
    place = place[nearest[0], nearest[1]]
    x, y, z = place[..., 0], place[..., 1], place[..., 2]
    side = np.abs(x)
    front = _smooth(4.0, 7.0, z)
    colour = atlas.copy()
    mottled = _noise(x.shape, 18, rng) * 0.014 + _noise(x.shape, 1.6, rng) * 0.012
    colour = colour * (1 + mottled[..., None] * np.array([0.5, 0.9, 0.9]))
    # Skin is redder over cartilage and thin tissue (cheeks, nose, ears, chin), yellower on the forehead.
    ball = lambda cx, cy, cz, r: np.exp(-(((side - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / r**2))  # noqa: E731
    colour = _mix(
        colour,
        BLUSH,
        0.42 * ball(4.4, 0.4, 8.6, 2.1) + 0.30 * ball(0, 0.5, 12.8, 1.3) + 0.14 * ball(0, -6.6, 10.4, 1.5),
    )
    colour = _mix(colour, BLUSH, 0.35 * _smooth(7.0, 8.2, side) * (y > -2))
    colour = _mix(colour, SKIN_SHADE, 0.20 * ball(3.1, 2.3, 9.4, 0.9) + 0.22 * ball(2.1, 3.7, 9.0, 0.9))
    colour = _mix(colour, np.array([240, 200, 168.0]), 0.35 * front * _smooth(6.5, 9, y))
    colour = _mix(colour, np.array([92, 44, 38.0]), 0.9 * ball(0.62, -0.30, 11.2, 0.55))
    colour = _mix(colour, SKIN_SHADE * 0.85, 0.35 * _smooth(-7.6, -10.0, y) * _smooth(2.0, 8.0, z))
    colour = _lips(colour, place, reference, _lip_curve(assembly))
    colour = _eyes_and_brows(colour, place, reference, rng)
    stubble = _smooth(-0.25, 0.5, scalp(place.reshape(-1, 3)).reshape(x.shape)) * _smooth(1.5, 3.5, z)
    return _mix(colour, HAIR * 0.7, stubble * 0.9)


def _polygon_distance(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Signed distance to a closed polygon in the plane, positive inside."""
    from matplotlib.path import Path

    best = np.full(points.shape[:-1], np.inf)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        ab = b - a
        t = np.clip(((points - a) @ ab) / (ab @ ab), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[..., None] * ab, axis=-1))
    inside = Path(polygon).contains_points(points.reshape(-1, 2)).reshape(best.shape)
    return np.where(inside, best, -best)


def _lips(colour: np.ndarray, place: np.ndarray, reference: Reference, curve: np.ndarray) -> np.ndarray:
    outline = reference.landmarks[48:60, :2].copy()
    outline = _rounded(outline)
    near = (
        (np.abs(place[..., 0]) < 3.2)
        & (place[..., 1] > -5.4)
        & (place[..., 1] < -1.6)
        & (place[..., 2] > 8.6)
    )
    points = place[near]
    depth = _polygon_distance(points[:, :2], outline)
    behind = points[:, 2] < np.interp(np.abs(points[:, 0]), [0, 1, 2, 2.6], [10.7, 10.5, 10.0, 9.7])
    behind &= (np.abs(points[:, 0]) < 2.6) & (np.abs(points[:, 1] + 3.4) < 0.9)
    depth = np.where(behind, 1.0, depth)
    amount = _smooth(-0.07, 0.16, depth)
    streak = (
        0.025
        * np.sin(points[:, 0] * 34 + 3 * np.sin(points[:, 1] * 4 + 5 * points[:, 0]))
        * _smooth(0, 0.3, depth)
    )
    side = np.abs(points[:, 0])
    mouth, front = (np.interp(side, curve[:, 0], curve[:, axis]) for axis in (1, 2))
    upper = points[:, 1] > mouth
    lip = LIP * np.where(upper, 0.90, 1.0)[:, None] * (1 + streak[:, None])
    local = colour[near]
    local = local + (amount * 0.80)[:, None] * (lip - local)
    inner = _smooth(-0.08, -0.34, points[:, 2] - front) * (side < curve[-1, 0]) * _smooth(-0.2, 0.1, depth)
    local = local + (0.8 * inner)[:, None] * (LIP_LINE - local)
    seam = np.exp(-(((points[:, 1] - mouth) / 0.05) ** 2)) * _smooth(
        curve[-1, 0] + 0.05, curve[-1, 0] - 0.3, side
    )
    local = local + (0.55 * seam)[:, None] * (LIP_LINE - local)
    corner = np.exp(-(((side - curve[-1, 0]) / 0.2) ** 2 + ((points[:, 1] - curve[-1, 1]) / 0.13) ** 2))
    local = local + (0.45 * corner)[:, None] * (SKIN_SHADE * 0.7 - local)
    colour[near] = local
    return colour


def _lip_curve(assembly: Assembly) -> Float[np.ndarray, "k 3"]:
    """Where the closed lips meet at rest, from the middle to the left corner, x rising."""
    edge = assembly.positions[assembly.lip_edge]
    upper = edge[: int(edge[:, 0].argmax()) + 1]
    return upper[np.argsort(upper[:, 0])]


def _rounded(polygon: np.ndarray, rounds: int = 2) -> np.ndarray:
    """Chaikin's corner cutting."""
    for _ in range(rounds):
        after = np.roll(polygon, -1, axis=0)
        polygon = np.stack([0.75 * polygon + 0.25 * after, 0.25 * polygon + 0.75 * after], axis=1).reshape(
            -1, 2
        )
    return polygon


def _eyes_and_brows(
    colour: np.ndarray, place: np.ndarray, reference: Reference, rng: np.random.Generator
) -> np.ndarray:
    side = np.abs(place[..., 0])
    y, z = place[..., 1], place[..., 2]
    from_eye = np.sqrt((side - EYE_CENTRE[0]) ** 2 + (y - EYE_CENTRE[1]) ** 2 + (z - EYE_CENTRE[2]) ** 2)
    margin = _smooth(1.80, 1.55, from_eye) * (z > 8)
    upper = y > np.interp(side, [2.0, 4.6], [3.35, 3.45])
    colour = _mix(colour, np.array([168, 96, 84.0]), margin * 0.5)
    colour = _mix(colour, np.array([46, 30, 26.0]), _smooth(1.72, 1.58, from_eye) * upper * (z > 8) * 0.85)
    colour = _mix(
        colour, SKIN_SHADE, 0.32 * np.exp(-(((from_eye - 2.0) / 0.3) ** 2)) * upper * (y < 5.4) * (z > 8)
    )
    arch = np.array([[0.9, 5.56], [2.0, 5.84], [3.2, 6.06], [4.3, 6.06], [5.1, 5.74], [5.7, 5.34]])
    middle = np.interp(side, arch[:, 0], arch[:, 1])
    half = np.interp(
        side, [0.72, 0.95, 1.4, 2.4, 3.8, 5.0, 5.55, 5.7], [-0.05, 0.20, 0.33, 0.36, 0.29, 0.16, 0.05, -0.05]
    )
    inside = 1 - np.abs(y - middle) / np.maximum(half, 0.02)
    inside = np.where(half > 0, inside, -1)
    slant = np.interp(
        side, [1.0, 2.0, 4.0], [0.15, 0.9, 2.2]
    )  # hairs stand upright inside and lie down outside
    hairs = (
        np.sin((side - slant * (y - middle)) * 30) * 0.5
        + np.sin((side - 0.7 * slant * (y - middle)) * 47) * 0.4
    )
    grain = _noise(side.shape, 0.8, rng) * 0.25 + hairs * 0.5
    fade = _smooth(0.8, 1.6, side) * 0.45 + 0.55
    amount = _smooth(-0.25, 0.75, inside + 0.30 * grain) * fade * (inside > -0.6) * (z > 6)
    return _mix(colour, BROW, amount * 0.86)


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return u, v


def _eye(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Sclera with a faint warm rim, iris with fibres and a limbal ring, pupil, one soft highlight; centre at 0.5."""
    u, v = _grid(height, width)
    dx, dy = u - 0.5, v - 0.5
    degrees = np.hypot(dx, dy) / 0.49 * 72
    angle = np.arctan2(dy, dx)
    white = np.tile(np.array([232, 227, 222.0]), (height, width, 1))
    white = _mix(white, np.array([206, 150, 138.0]), _smooth(34, 66, degrees) * 0.75)
    white = _mix(
        white, np.array([120, 96, 92.0]), 0.40 * _smooth(0.02, -0.24, dy + 0.02)
    )  # the upper lid's shadow
    fibres = sum(np.sin(k * angle + p) / n for n, (k, p) in enumerate(((31, 0.3), (53, 1.1), (79, 2.0)), 1))
    inner = _smooth(15, 8, degrees)
    iris = IRIS * (0.80 + 0.10 * fibres * _smooth(6, 10, degrees))[..., None]
    iris = _mix(iris, np.array([156, 124, 74.0]), inner * 0.65)
    iris = iris * (1 + 0.35 * _smooth(-0.05, 0.16, dy))[..., None]  # light gathers opposite its source
    iris = _mix(iris, np.array([30, 36, 36.0]), _smooth(17.5, 21.0, degrees) * 0.85)
    iris = _mix(iris, np.array([24, 20, 20.0]), 0.55 * _smooth(-0.02, -0.13, dy))
    iris = _mix(iris, np.array([10, 8, 10.0]), _smooth(9.0, 7.6, degrees))
    eye = white + _smooth(22.6, 20.8, degrees)[..., None] * (iris - white)
    glint = np.exp(-((((dx + 0.045) / 0.030) ** 2 + ((dy + 0.062) / 0.026) ** 2) ** 2))
    eye = _mix(eye, np.array([255, 255, 255.0]), glint * 0.95)
    return _mix(
        eye,
        np.array([220, 225, 230.0]),
        0.30 * np.exp(-(((dx - 0.05) / 0.03) ** 2 + ((dy - 0.06) / 0.02) ** 2)),
    )


def _teeth(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    _, v = _grid(height, width)
    tooth = np.tile(np.array([236, 230, 216.0]), (height, width, 1))
    tooth = _mix(tooth, np.array([214, 196, 168.0]), _smooth(0.35, 0.7, v))
    return _mix(tooth, np.array([176, 96, 92.0]), _smooth(0.68, 0.9, v))


def _gums(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    return np.tile(np.array([176, 92, 90.0]), (height, width, 1))


def _tongue(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    u, v = _grid(height, width)
    base = (
        np.tile(np.array([198, 106, 104.0]), (height, width, 1))
        * (1 + 0.04 * _noise((height, width), 1.5, rng))[..., None]
    )
    base = _mix(base, np.array([150, 70, 72.0]), 0.6 * np.exp(-(((u - 0.5) / 0.06) ** 2)))
    return _mix(base, np.array([96, 38, 42.0]), _smooth(0.65, 0.1, v))


def _lashes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    return np.tile(np.array([34, 24, 22.0]), (height, width, 1))


def _hair(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Strands run from the crown (top of the tile) outwards; lighter streaks and darker roots."""
    fine = _blur(rng.standard_normal((height, width)), 9, 0.9)
    broad = _blur(rng.standard_normal((height, width)), 16, 5)
    tone = 0.5 + 0.20 * fine / fine.std() + 0.14 * broad / broad.std()
    return HAIR + np.clip(tone, 0, 1)[..., None] * (HAIR_LIGHT - HAIR) * 0.75


def _blur(field: np.ndarray, down: float, across: float) -> np.ndarray:
    """Blurred by two widths; the left and right edges mirror, the upper and lower ones repeat."""
    return gaussian_filter1d(
        gaussian_filter1d(field, down, axis=0, mode="nearest"), across, axis=1, mode="reflect"
    )


def _clothes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Knitted rows under a ribbed neckband; the neckline is the tile's upper edge."""
    u, v = _grid(height, width)
    knit = 1 + 0.05 * np.sin(u * 2 * np.pi * 40) * np.sin(v * 2 * np.pi * 36)
    cloth = SHIRT * (knit * (1.04 - 0.18 * v) * (1 + 0.02 * _noise((height, width), 2, rng)))[..., None]
    band = _smooth(0.085, 0.075, v)
    rib = SHIRT * (0.86 + 0.10 * np.sin(u * 2 * np.pi * 60))[..., None]
    cloth = cloth + band[..., None] * (rib - cloth)
    return _mix(cloth, SHIRT * 0.5, 0.6 * np.exp(-(((v - 0.088) / 0.008) ** 2)))
