"""Compiled loops of the portrait's renderer: moving vertices and painting a photograph through them.

Like the head's own kernels: float32 without fast-math, one thread writes a pixel, no interpreter lock, no type checks.
"""

from typing import no_type_check

import numpy as np
from numba import njit

Array = np.ndarray
_0, _1, _HALF, _QUARTER = np.float32(0.0), np.float32(1.0), np.float32(0.5), np.float32(0.25)
_STILL = np.float32(0.01)  # pixels: what has moved less than this is copied
_EDGE = np.float32(-1e-4)
_MARGIN = np.float32(1.0)  # in widths of the lips' shadow: how far past the lips' line the mouth may show
SKIN, EYE, HOLLOW, GUM, TOOTH, TONGUE = 0, 1, 2, 3, 4, 5
# Columns of the attributes of a vertex.
U, V, U2, V2, TRUST, SHADE, MIX, RED, GREEN, BLUE = range(10)
ATTRIBUTES = 10


@njit(cache=True, nogil=True)
@no_type_check
def deform(rest: Array, amounts: Array, starts: Array, index: Array, fields: Array, out: Array) -> None:
    """Write rest positions plus every field (sparse: vertices `index`, `fields` in `starts[k]:starts[k+1]`) times its amount."""
    out[:] = rest
    for k in range(amounts.shape[0]):
        amount = amounts[k]
        if amount != _0:
            for i in range(starts[k], starts[k + 1]):
                v = index[i]
                out[v, 0] += amount * fields[i, 0]
                out[v, 1] += amount * fields[i, 1]
                out[v, 2] += amount * fields[i, 2]


@njit(cache=True, nogil=True)
@no_type_check
def project(
    points: Array, focal: np.float32, cx: np.float32, cy: np.float32, sink: Array, out: Array
) -> None:
    """Write pixel x, y and 1/depth; `sink` pushes a vertex away from the camera (metres) for visibility only."""
    for i in range(points.shape[0]):
        depth = -points[i, 2]
        inverse = _1 / depth
        out[i, 0] = cx + focal * points[i, 0] * inverse
        out[i, 1] = cy - focal * points[i, 1] * inverse
        out[i, 2] = _1 / (depth + sink[i])


@njit(cache=True, nogil=True)
@no_type_check
def light_inside(
    points: Array, normals: Array, base: Array, light: Array, front: np.float32, reach: np.float32,
    gain: np.float32, first: int, attributes: Array,
) -> None:  # fmt: skip
    """Write the colours of vertices from `first`: their own, lit from `light` and dimmer further in.

    The fourth column of `base` is how deep light reaches to this kind of vertex, in parts of `reach` metres; `gain` makes front teeth as bright as their colour.
    """
    for i in range(first, points.shape[0]):
        cosine = normals[i, 0] * light[0] + normals[i, 1] * light[1] + normals[i, 2] * light[2]
        bright = min(gain * (np.float32(0.6) + np.float32(0.4) * max(cosine, _0)), np.float32(1.1))
        inside = max(front - points[i, 2], _0) / (reach * base[i, 3])
        # Light that has bounced between cheeks and gums comes back red.
        attributes[i, RED] = base[i, 0] * bright * np.exp(np.float32(-0.8) * inside)
        attributes[i, GREEN] = base[i, 1] * bright * np.exp(np.float32(-1.15) * inside)
        attributes[i, BLUE] = base[i, 2] * bright * np.exp(np.float32(-1.2) * inside)


@njit(cache=True, nogil=True)
@no_type_check
def cubic(picture: Array, x: np.float32, y: np.float32, out: Array) -> None:
    """Write the picture's channels at pixel position (x, y), centres at halves: Catmull-Rom, edges repeated."""
    height, width, channels = picture.shape
    x, y = x - _HALF, y - _HALF
    column, row = np.int32(np.floor(x)), np.int32(np.floor(y))
    fx, fy = x - np.float32(column), y - np.float32(row)
    wx0 = _HALF * fx * (fx * (np.float32(2.0) - fx) - _1)
    wx1 = _HALF * (fx * fx * (np.float32(3.0) * fx - np.float32(5.0)) + np.float32(2.0))
    wx2 = _HALF * fx * (fx * (np.float32(4.0) - np.float32(3.0) * fx) + _1)
    wx3 = _HALF * (fx - _1) * fx * fx
    wy0 = _HALF * fy * (fy * (np.float32(2.0) - fy) - _1)
    wy1 = _HALF * (fy * fy * (np.float32(3.0) * fy - np.float32(5.0)) + np.float32(2.0))
    wy2 = _HALF * fy * (fy * (np.float32(4.0) - np.float32(3.0) * fy) + _1)
    wy3 = _HALF * (fy - _1) * fy * fy
    c0, c1 = min(max(column - 1, 0), width - 1), min(max(column, 0), width - 1)
    c2, c3 = min(max(column + 1, 0), width - 1), min(max(column + 2, 0), width - 1)
    for k in range(channels):
        out[k] = _0
    for step in range(4):
        r = min(max(row - 1 + step, 0), height - 1)
        weight = wy0 if step == 0 else (wy1 if step == 1 else (wy2 if step == 2 else wy3))
        for k in range(channels):
            line = (
                wx0 * picture[r, c0, k]
                + wx1 * picture[r, c1, k]
                + wx2 * picture[r, c2, k]
                + wx3 * picture[r, c3, k]
            )
            out[k] += weight * line


@njit(cache=True, nogil=True)
@no_type_check
def linear(picture: Array, x: np.float32, y: np.float32, out: Array) -> None:
    """Write the picture's channels at (x, y), bilinearly."""
    height, width, channels = picture.shape
    x = min(max(x - _HALF, _0), np.float32(width - 1))
    y = min(max(y - _HALF, _0), np.float32(height - 1))
    column, row = np.int32(x), np.int32(y)
    fx, fy = x - np.float32(column), y - np.float32(row)
    right, below = min(column + 1, width - 1), min(row + 1, height - 1)
    for k in range(channels):
        top = picture[row, column, k] + fx * (picture[row, right, k] - picture[row, column, k])
        low = picture[below, column, k] + fx * (picture[below, right, k] - picture[below, column, k])
        out[k] = top + fy * (low - top)


@njit(cache=True, nogil=True)
@no_type_check
def cloth(grid: Array, home: Array, cells: Array, top: int, bottom: int, depth: Array, flow: Array) -> None:
    """Write into rows `top` to `bottom` where each pixel's content comes from: the sheet of cells that carries the picture.

    `grid` (x, y, 1/depth) is where the sheet's corners are now, `home` (x, y) where they were.
    """
    width = flow.shape[1]
    for y in range(top, bottom):
        for x in range(width):
            flow[y, x, 0], flow[y, x, 1] = np.float32(x) + _HALF, np.float32(y) + _HALF
            depth[y, x] = _0
    for t in range(cells.shape[0]):
        a, b, c = cells[t, 0], cells[t, 1], cells[t, 2]
        ay, by, cy = grid[a, 1], grid[b, 1], grid[c, 1]
        y0, y1 = max(np.int32(np.floor(min(ay, by, cy))), top), min(np.int32(max(ay, by, cy)) + 1, bottom)
        if y0 >= y1:
            continue
        ax, bx, cx = grid[a, 0], grid[b, 0], grid[c, 0]
        x0, x1 = max(np.int32(np.floor(min(ax, bx, cx))), 0), min(np.int32(max(ax, bx, cx)) + 1, width)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < np.float32(1e-6):
            continue
        inverse = _1 / area
        for y in range(y0, y1):
            py = np.float32(y) + _HALF
            for x in range(x0, x1):
                px = np.float32(x) + _HALF
                u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                w = _1 - u - v
                if u >= _EDGE and v >= _EDGE and w >= _EDGE:
                    near = u * grid[a, 2] + v * grid[b, 2] + w * grid[c, 2]
                    if near > depth[y, x]:
                        depth[y, x] = near
                        flow[y, x, 0] = u * home[a, 0] + v * home[b, 0] + w * home[c, 0]
                        flow[y, x, 1] = u * home[a, 1] + v * home[b, 1] + w * home[c, 1]


@njit(cache=True, nogil=True)
@no_type_check
def place(
    t: int, px: np.float32, py: np.float32, projected: Array, triangles: Array, attributes: Array, out: Array
) -> None:
    """Write the attributes of triangle `t` seen at pixel (px, py)."""
    a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    ax, ay, bx, by = projected[a, 0], projected[a, 1], projected[b, 0], projected[b, 1]
    cx, cy = projected[c, 0], projected[c, 1]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    u = min(max(((bx - px) * (cy - py) - (by - py) * (cx - px)) / area, _0), _1)
    v = min(max(((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area, _0), _1)
    w = max(_1 - u - v, _0)
    scale = _1 / (u + v + w)
    u, v, w = u * scale, v * scale, w * scale
    for k in range(ATTRIBUTES):
        out[k] = u * attributes[a, k] + v * attributes[b, k] + w * attributes[c, k]


@njit(cache=True, nogil=True)
@no_type_check
def asshot(
    trust: np.float32, person: Array, flow: Array, x: int, y: int, colour: Array, extra: Array
) -> None:
    """Mix into `colour` what the photograph shows here, as long as mouth and eyes are as open as in it (`trust` 0)."""
    if trust < _1:
        cubic(person, flow[y, x, 0], flow[y, x, 1], extra)
        for k in range(4):
            colour[k] = extra[k] + trust * (colour[k] - extra[k])


@njit(cache=True, nogil=True)
@no_type_check
def surface(
    kind: int, seen: Array, x: int, y: int, flow: Array, person: Array, lidless: Array, white: Array, iris: Array,
    ivory: Array, lips: Array, colour: Array, extra: Array,
) -> None:  # fmt: skip
    """Write the colour (premultiplied RGBA) of one surface at a pixel whose attributes are `seen`."""
    if kind == SKIN or kind == HOLLOW:  # noqa: SIM109, a tuple is slower
        trust = seen[TRUST]
        u = flow[y, x, 0] + trust * (seen[U] - flow[y, x, 0])
        v = flow[y, x, 1] + trust * (seen[V] - flow[y, x, 1])
        if abs(u - np.float32(x) - _HALF) < _STILL and abs(v - np.float32(y) - _HALF) < _STILL:
            for k in range(4):
                colour[k] = person[y, x, k]
        else:
            cubic(person, u, v, colour)
        mix = seen[MIX]
        if kind == SKIN:
            if mix > _0:
                linear(lidless, seen[U2], seen[V2], extra)
                for k in range(3):
                    colour[k] += mix * (extra[k] * colour[3] - colour[k])
            shade = _1 + trust * (seen[SHADE] - _1)
            for k in range(3):
                colour[k] *= shade
        else:
            for k in range(3):
                colour[k] = colour[k] * seen[SHADE] * (_1 - mix) + mix * seen[RED + k]
            colour[3] = _1
        return
    colour[3] = _1
    if kind == EYE:
        linear(iris, seen[U2], seen[V2], extra)
        cover = extra[3]
        red, green, blue = extra[0], extra[1], extra[2]
        linear(white, seen[U], seen[V], extra)
        shade = seen[SHADE]
        colour[0] = shade * (red + (_1 - cover) * extra[0])
        colour[1] = shade * (green + (_1 - cover) * extra[1])
        colour[2] = shade * (blue + (_1 - cover) * extra[2])
        asshot(seen[TRUST], person, flow, x, y, colour, extra)
        return
    # Inside the mouth the lips throw a soft shadow on what lies close behind them.
    under = (np.float32(y) + _HALF - lips[x, 0]) * lips[x, 2]
    above = (lips[x, 1] - np.float32(y) - _HALF) * lips[x, 2]
    shadow = np.float32(0.72) + np.float32(0.28) * min(max(under, _0), _1)
    shadow *= np.float32(0.75) + np.float32(0.25) * min(max(above, _0), _1)
    for k in range(3):
        colour[k] = seen[RED + k] * shadow
    if kind == TOOTH:
        linear(ivory, seen[U], seen[V], extra)
        mix = extra[3] * seen[MIX]
        for k in range(3):
            colour[k] += mix * (extra[k] - colour[k])
    asshot(seen[TRUST], person, flow, x, y, colour, extra)


@njit(cache=True, nogil=True)
@no_type_check
def paint(
    top: int, bottom: int, projected: Array, triangles: Array, kinds: Array, attributes: Array, owner: Array,
    flow: Array, person: Array, plate: Array, lidless: Array, white: Array, iris: Array, ivory: Array, lips: Array,
    cut: bool, out: Array, alpha: Array,
) -> None:  # fmt: skip
    """Write rows `top` to `bottom`: the person, seen through sheet and face, over the plate behind; `alpha` too.

    With `cut` the person alone is written, not premultiplied.
    """
    width = flow.shape[1]
    seen, single = np.empty(ATTRIBUTES, np.float32), np.empty(ATTRIBUTES, np.float32)
    colour = np.empty(4, np.float32)
    extra, total = np.empty(4, np.float32), np.empty(4, np.float32)
    sx = (np.float32(0.375), np.float32(0.875), np.float32(0.125), np.float32(0.625))
    sy = (np.float32(0.125), np.float32(0.375), np.float32(0.625), np.float32(0.875))
    for y in range(top, bottom):
        for x in range(width):
            for k in range(4):
                total[k] = _0
            pending = 15
            while pending:
                s = 0
                while not (pending >> s) & 1:
                    s += 1
                t = owner[y, x, s]
                kind = -1 if t < 0 else kinds[t]
                taken, mx, my, alike = _0, _0, _0, True
                mine = 0
                for other in range(s, 4):
                    if (pending >> other) & 1:
                        o = owner[y, x, other]
                        if (-1 if o < 0 else kinds[o]) == kind:
                            pending &= ~(1 << other)
                            mine |= 1 << other
                            alike = alike and o == t
                            taken += _1
                            mx += sx[other]
                            my += sy[other]
                if kind >= HOLLOW and kind != EYE:
                    low, high = lips[x, 0] - _MARGIN / lips[x, 2], lips[x, 1] + _MARGIN / lips[x, 2]
                    if np.float32(y) < low or np.float32(y) > high:  # seen through a nostril, not the mouth
                        kind = -1
                if kind < 0:
                    u, v = flow[y, x, 0], flow[y, x, 1]
                    if abs(u - np.float32(x) - _HALF) < _STILL and abs(v - np.float32(y) - _HALF) < _STILL:
                        for k in range(4):
                            colour[k] = person[y, x, k]
                    else:
                        cubic(person, u, v, colour)
                else:
                    if alike:
                        px, py = np.float32(x) + mx / taken, np.float32(y) + my / taken
                        place(t, px, py, projected, triangles, attributes, seen)
                    else:
                        for k in range(ATTRIBUTES):
                            seen[k] = _0
                        for other in range(4):
                            if (mine >> other) & 1:
                                px, py = np.float32(x) + sx[other], np.float32(y) + sy[other]
                                place(owner[y, x, other], px, py, projected, triangles, attributes, single)
                                for k in range(ATTRIBUTES):
                                    seen[k] += single[k] / taken
                    # Samples seen off the pixel's middle show what lies off it in the photograph.
                    for k in (U, U2):
                        seen[k] -= mx / taken - _HALF
                        seen[k + 1] -= my / taken - _HALF
                    surface(kind, seen, x, y, flow, person, lidless, white, iris, ivory, lips, colour, extra)
                for k in range(4):
                    total[k] += taken * colour[k]
            cover = min(max(total[3] * _QUARTER, _0), _1)
            alpha[y, x] = np.uint8(cover * np.float32(255.0) + _HALF)
            for k in range(3):
                value = total[k] * _QUARTER + (_1 - cover) * plate[y, x, k]
                if cut and cover > np.float32(0.004):
                    value = total[k] * _QUARTER / cover
                out[y, x, k] = np.uint8(min(max(value, _0), np.float32(255.0)) + _HALF)
