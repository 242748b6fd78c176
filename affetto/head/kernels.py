"""Compiled loops of the renderers: posing, normals, visibility and shading.

All arithmetic is float32 without fast-math, and every pixel is written by one thread in one order, so pictures repeat
bit for bit. Kernels let go of the interpreter's lock, so that ordinary threads paint side by side. They carry `no_type_check` because test-time type wrappers cannot be compiled.
"""

from typing import no_type_check

import numpy as np
from numba import njit

Array = np.ndarray
_0, _1, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)
_EDGE = np.float32(-1e-5)  # barycentric slack that closes cracks between neighbours
_SAME_DEPTH = np.float32(2e-3)  # relative depth step under which samples of one group are one surface
_TINY = np.float32(1e-12)
_EIGHT_PI = np.float32(8.0 * np.pi)
_LN2 = np.float32(np.log(2.0))
# Where the four samples of a pixel lie: the standard pattern of 4x multisampling.
_SX = np.array([0.375, 0.875, 0.125, 0.625], np.float32)
_SY = np.array([0.125, 0.375, 0.625, 0.875], np.float32)
SAMPLES = 4


@njit(cache=True, nogil=True)
@no_type_check
def pose(
    vertices: Array,
    follow: Array,
    vector: Array,
    pivot: Array,
    orientation: Array,
    target: Array,
    distance: np.float32,
    out: Array,
) -> None:
    """Write camera-space vertices: each turned about the pivot by its share of the rotation vector, then viewed."""
    angle = np.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])
    scale = _1 / max(angle, _TINY)
    ax, ay, az = vector[0] * scale, vector[1] * scale, vector[2] * scale
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        turn = angle * follow[i]
        if turn > _0:
            cosine, sine = np.cos(turn), np.sin(turn)
            px, py, pz = x - pivot[0], y - pivot[1], z - pivot[2]
            along = (ax * px + ay * py + az * pz) * (_1 - cosine)
            x = px * cosine + (ay * pz - az * py) * sine + ax * along + pivot[0]
            y = py * cosine + (az * px - ax * pz) * sine + ay * along + pivot[1]
            z = pz * cosine + (ax * py - ay * px) * sine + az * along + pivot[2]
        x, y, z = x - target[0], y - target[1], z - target[2]
        out[i, 0] = orientation[0, 0] * x + orientation[0, 1] * y + orientation[0, 2] * z
        out[i, 1] = orientation[1, 0] * x + orientation[1, 1] * y + orientation[1, 2] * z
        out[i, 2] = orientation[2, 0] * x + orientation[2, 1] * y + orientation[2, 2] * z - distance


@njit(cache=True, nogil=True)
@no_type_check
def smooth_normals(
    points: Array, triangles: Array, fan_start: Array, fan: Array, faces: Array, out: Array
) -> None:
    """Write unit vertex normals: the area-weighted mean over each vertex's fan of triangles (across texture seams)."""
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        faces[t, 0], faces[t, 1], faces[t, 2] = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    for i in range(points.shape[0]):
        x, y, z = _0, _0, _0
        for k in range(fan_start[i], fan_start[i + 1]):
            t = fan[k]
            x, y, z = x + faces[t, 0], y + faces[t, 1], z + faces[t, 2]
        length = np.sqrt(x * x + y * y + z * z)
        if length > _0:
            out[i, 0], out[i, 1], out[i, 2] = x / length, y / length, z / length
        else:
            out[i, 0], out[i, 1], out[i, 2] = _0, _0, _1


@njit(cache=True, nogil=True)
@no_type_check
def project(points: Array, focal: np.float32, width: int, height: int, near: np.float32, out: Array) -> None:
    """Write pixel x, pixel y and 1/depth of camera-space points; 1/depth is 0 for points nearer than `near`."""
    half_width, half_height = _HALF * np.float32(width), _HALF * np.float32(height)
    for i in range(points.shape[0]):
        depth = -points[i, 2]
        inverse = _1 / depth if depth > near else _0
        out[i, 0] = half_width + focal * points[i, 0] * inverse
        out[i, 1] = half_height - focal * points[i, 1] * inverse
        out[i, 2] = inverse


@njit(cache=True, nogil=True)
@no_type_check
def signed_area(projected: Array, a: int, b: int, c: int) -> np.float32:
    """Twice the area of a projected triangle in pixels, positive when it faces the camera (rows count downwards)."""
    abx, aby = projected[b, 0] - projected[a, 0], projected[b, 1] - projected[a, 1]
    acx, acy = projected[c, 0] - projected[a, 0], projected[c, 1] - projected[a, 1]
    return acx * aby - abx * acy


@njit(cache=True, nogil=True)
@no_type_check
def bin_triangles(
    projected: Array,
    triangles: Array,
    width: int,
    height: int,
    rows: int,
    cull: bool,
    starts: Array,
    bins: Array,
) -> Array:
    """Sort the triangles in view into horizontal bands of `rows` pixels; fill `starts`, return (grown) `bins`."""
    bands = starts.shape[0] - 1
    first = np.empty(triangles.shape[0], np.int32)
    last = np.empty(triangles.shape[0], np.int32)
    counts = np.zeros(bands, np.int32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        first[t], last[t] = 1, 0
        if projected[a, 2] <= _0 or projected[b, 2] <= _0 or projected[c, 2] <= _0:
            continue
        area = signed_area(projected, a, b, c)
        if area == _0 or (cull and area < _0):
            continue
        left = min(projected[a, 0], projected[b, 0], projected[c, 0])
        right = max(projected[a, 0], projected[b, 0], projected[c, 0])
        upper = min(projected[a, 1], projected[b, 1], projected[c, 1])
        lower = max(projected[a, 1], projected[b, 1], projected[c, 1])
        if right < _0 or left > np.float32(width) or lower < _0 or upper > np.float32(height):
            continue
        first[t] = np.int32(max(upper, _0)) // rows
        last[t] = min(np.int32(min(lower, np.float32(height))) // rows, bands - 1)
        for band in range(first[t], last[t] + 1):
            counts[band] += 1
    starts[0] = 0
    for band in range(bands):
        starts[band + 1] = starts[band] + counts[band]
        counts[band] = starts[band]
    if starts[bands] > bins.shape[0]:
        bins = np.empty(starts[bands] * 5 // 4, np.int32)
    for t in range(triangles.shape[0]):
        for band in range(first[t], last[t] + 1):
            bins[counts[band]] = t
            counts[band] += 1
    return bins


@njit(cache=True, nogil=True)
@no_type_check
def cover_band(
    projected: Array,
    triangles: Array,
    bins: Array,
    start: int,
    stop: int,
    top: int,
    bottom: int,
    nearest: Array,
    owner: Array,
) -> None:
    """Find for each sample of rows `top` to `bottom` the nearest triangle (-1 for none) and its 1/depth."""
    width = nearest.shape[1]
    nearest[top:bottom] = _0
    owner[top:bottom] = -1
    for k in range(start, stop):
        t = bins[k]
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = projected[a, 0], projected[a, 1], projected[a, 2]
        bx, by, bz = projected[b, 0], projected[b, 1], projected[b, 2]
        cx, cy, cz = projected[c, 0], projected[c, 1], projected[c, 2]
        inverse = _1 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
        # Barycentric weights of a and b, and 1/depth, are planes over the picture.
        ux, uy = (by - cy) * inverse, (cx - bx) * inverse
        vx, vy = (cy - ay) * inverse, (ax - cx) * inverse
        zx, zy = ux * (az - cz) + vx * (bz - cz), uy * (az - cz) + vy * (bz - cz)
        y0 = max(np.int32(max(min(ay, by, cy), _0)), top)
        y1 = min(np.int32(max(ay, by, cy)) + 1, bottom)
        x0 = np.int32(max(min(ax, bx, cx), _0))
        x1 = min(np.int32(max(ax, bx, cx)) + 1, width)
        for y in range(y0, y1):
            dy = np.float32(y) - cy
            for x in range(x0, x1):
                dx = np.float32(x) - cx
                u0, v0, z0 = ux * dx + uy * dy, vx * dx + vy * dy, cz + zx * dx + zy * dy
                for s in range(SAMPLES):
                    u = u0 + (ux * _SX[s] + uy * _SY[s])
                    v = v0 + (vx * _SX[s] + vy * _SY[s])
                    if u >= _EDGE and v >= _EDGE and _1 - u - v >= _EDGE:
                        z = z0 + (zx * _SX[s] + zy * _SY[s])
                        if z > nearest[y, x, s]:
                            nearest[y, x, s] = z
                            owner[y, x, s] = t


@njit(cache=True, nogil=True)
@no_type_check
def shade(
    t: int,
    px: np.float32,
    py: np.float32,
    projected: Array,
    triangles: Array,
    normals: Array,
    attributes: Array,
    texture: Array,
    eye: Array,
    lights: Array,
    toward: Array,
    table: Array,
) -> tuple[np.float32, np.float32, np.float32]:
    """The encoded colour (0..255, three floats) of triangle `t` seen through pixel position (px, py).

    `eye` is (centre x, centre y, focal); `lights` rows are colours, then sky, ground, (wrap, rim, 0).
    """
    a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    ax, ay, az = projected[a, 0], projected[a, 1], projected[a, 2]
    bx, by, bz = projected[b, 0], projected[b, 1], projected[b, 2]
    cx, cy, cz = projected[c, 0], projected[c, 1], projected[c, 2]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
    v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
    u, v = min(max(u, _0), _1), min(max(v, _0), _1)
    w = max(_1 - u - v, _0)
    u, v, w = u * az, v * bz, w * cz  # perspective
    scale = _1 / (u + v + w)
    u, v, w = u * scale, v * scale, w * scale

    nx = u * normals[a, 0] + v * normals[b, 0] + w * normals[c, 0]
    ny = u * normals[a, 1] + v * normals[b, 1] + w * normals[c, 1]
    nz = u * normals[a, 2] + v * normals[b, 2] + w * normals[c, 2]
    scale = _1 / np.sqrt(max(nx * nx + ny * ny + nz * nz, _TINY))
    if area > _0:  # seen from behind
        scale = -scale
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    vx, vy, vz = (eye[0] - px) / eye[2], (py - eye[1]) / eye[2], _1
    scale = _1 / np.sqrt(vx * vx + vy * vy + vz * vz)
    vx, vy, vz = vx * scale, vy * scale, vz * scale

    gloss = u * attributes[a, 2] + v * attributes[b, 2] + w * attributes[c, 2]
    warmth = u * attributes[a, 3] + v * attributes[b, 3] + w * attributes[c, 3]
    light = u * attributes[a, 4] + v * attributes[b, 4] + w * attributes[c, 4]
    facing = max(nx * vx + ny * vy + nz * vz, _0)

    count = toward.shape[0]
    wrap, rim = lights[count + 2, 0], lights[count + 2, 1]
    wrap_r, wrap_g = wrap + np.float32(0.15) * warmth, wrap + np.float32(0.04) * warmth
    up = _HALF + _HALF * ny
    sheen = (_1 - facing) * (_1 - facing) * (_1 - facing) * rim * up
    # Light bounced inside hollows of warm stuff loses red last.
    hollow = _1 - light
    light_r = light + np.float32(0.35) * warmth * hollow * light
    light_g = light + np.float32(0.10) * warmth * hollow * light
    red = (lights[count + 1, 0] + up * (lights[count, 0] - lights[count + 1, 0])) * light_r
    green = (lights[count + 1, 1] + up * (lights[count, 1] - lights[count + 1, 1])) * light_g
    blue = (lights[count + 1, 2] + up * (lights[count, 2] - lights[count + 1, 2])) * light
    shine_r = sheen * lights[count, 0] * light
    shine_g = sheen * lights[count, 1] * light
    shine_b = sheen * lights[count, 2] * light
    exponent = np.exp(_LN2 * (np.float32(3.0) + np.float32(8.0) * gloss))
    peak = (exponent + np.float32(8.0)) / _EIGHT_PI * min(np.float32(3.0) * gloss, _1)
    direct = light * (np.float32(2.0) - light)
    for k in range(count):
        lx, ly, lz = toward[k, 0], toward[k, 1], toward[k, 2]
        cosine = nx * lx + ny * ly + nz * lz
        red += lights[k, 0] * max((cosine + wrap_r) / (_1 + wrap_r), _0) * direct
        green += lights[k, 1] * max((cosine + wrap_g) / (_1 + wrap_g), _0) * direct
        blue += lights[k, 2] * max((cosine + wrap) / (_1 + wrap), _0) * direct
        if cosine > _0:
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            scale = _1 / np.sqrt(max(hx * hx + hy * hy + hz * hz, _TINY))
            lobe = exponent * ((nx * hx + ny * hy + nz * hz) * scale - _1)
            if lobe > np.float32(-12.0):
                grazing = _1 - (vx * hx + vy * hy + vz * hz) * scale
                mirror = np.float32(0.04) + np.float32(0.96) * grazing * grazing * grazing * grazing * grazing
                lobe = np.exp(lobe) * peak * mirror * min(cosine * np.float32(4.0), _1) * light
                shine_r += lights[k, 0] * lobe
                shine_g += lights[k, 1] * lobe
                shine_b += lights[k, 2] * lobe

    texture_height, texture_width = texture.shape[0], texture.shape[1]
    tx = u * attributes[a, 0] + v * attributes[b, 0] + w * attributes[c, 0]
    ty = u * attributes[a, 1] + v * attributes[b, 1] + w * attributes[c, 1]
    tx = min(max(tx * np.float32(texture_width) - _HALF, _0), np.float32(texture_width - 1))
    ty = min(max(ty * np.float32(texture_height) - _HALF, _0), np.float32(texture_height - 1))
    column, row = np.int32(tx), np.int32(ty)
    fx, fy = tx - np.float32(column), ty - np.float32(row)
    next_column, next_row = min(column + 1, texture_width - 1), min(row + 1, texture_height - 1)
    w00, w01, w10, w11 = (_1 - fx) * (_1 - fy), fx * (_1 - fy), (_1 - fx) * fy, fx * fy
    t00, t01 = texture[row, column], texture[row, next_column]
    t10, t11 = texture[next_row, column], texture[next_row, next_column]
    red = red * (w00 * t00[0] + w01 * t01[0] + w10 * t10[0] + w11 * t11[0]) + shine_r
    green = green * (w00 * t00[1] + w01 * t01[1] + w10 * t10[1] + w11 * t11[1]) + shine_g
    blue = blue * (w00 * t00[2] + w01 * t01[2] + w10 * t10[2] + w11 * t11[2]) + shine_b

    # The table is indexed by the square root of a quarter of the light, for even precision in the dark.
    top = np.float32(table.shape[0] - 1)
    scale = _HALF * top
    return (
        table[np.int32(min(np.sqrt(red) * scale, top))],
        table[np.int32(min(np.sqrt(green) * scale, top))],
        table[np.int32(min(np.sqrt(blue) * scale, top))],
    )


@njit(cache=True, nogil=True)
@no_type_check
def paint(
    projected: Array,
    triangles: Array,
    group: Array,
    normals: Array,
    attributes: Array,
    texture: Array,
    starts: Array,
    bins: Array,
    rows: int,
    eye: Array,
    lights: Array,
    toward: Array,
    table: Array,
    background: Array,
    first: int,
    step: int,
    nearest: Array,
    owner: Array,
    out: Array,
) -> None:
    """Write every `step`-th band from `first`: visibility of all samples, then shading once for each visible surface."""
    height, width = nearest.shape[0], nearest.shape[1]
    for band in range(first, starts.shape[0] - 1, step):
        top, bottom = band * rows, min(band * rows + rows, height)
        cover_band(projected, triangles, bins, starts[band], starts[band + 1], top, bottom, nearest, owner)
        for y in range(top, bottom):
            for x in range(width):
                red, green, blue = _0, _0, _0
                pending = 15
                if owner[y, x, 0] & owner[y, x, 1] & owner[y, x, 2] & owner[y, x, 3] == -1:
                    for channel in range(3):
                        out[y, x, channel] = np.uint8(background[y, x, channel] + _HALF)
                    continue
                while pending:
                    s = 0
                    while not (pending >> s) & 1:
                        s += 1
                    t, z = owner[y, x, s], nearest[y, x, s]
                    taken, mx, my = _0, _0, _0
                    for other in range(s, SAMPLES):
                        if (pending >> other) & 1:
                            o = owner[y, x, other]
                            same = o == t
                            if not same and t >= 0 and o >= 0 and group[o] == group[t]:
                                same = abs(nearest[y, x, other] - z) < _SAME_DEPTH * z
                            if same:
                                pending &= ~(1 << other)
                                taken += _1
                                mx += _SX[other]
                                my += _SY[other]
                    if t < 0:
                        r, g, b = background[y, x, 0], background[y, x, 1], background[y, x, 2]
                    else:
                        r, g, b = shade(
                            t, np.float32(x) + mx / taken, np.float32(y) + my / taken, projected, triangles, normals,
                            attributes, texture, eye, lights, toward, table,
                        )  # fmt: skip
                    red, green, blue = red + taken * r, green + taken * g, blue + taken * b
                quarter = np.float32(0.25)
                out[y, x, 0] = np.uint8(red * quarter + _HALF)
                out[y, x, 1] = np.uint8(green * quarter + _HALF)
                out[y, x, 2] = np.uint8(blue * quarter + _HALF)
