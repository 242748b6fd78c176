"""Face curves out of an animated glTF file: morph-target weights by ARKit name, and the head's rotation."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.media.files import checked_size
from affetto.runtime.errors import InvalidInputError

MAX_BYTES = 256 * 2**20
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_LOWER = {name.lower(): index for index, name in enumerate(ARKIT_52)}


def read_glb_curves(path: str | Path, *, fps: float | None = None) -> FaceCurves:
    """The performance of the first morphing mesh of a .glb file, at `fps` or at the rate of its keys.

    Raises `InvalidInputError` for a file without such an animation, with another kind of data, or damaged.
    """
    path = Path(path)
    checked_size(path, MAX_BYTES, kind="glTF file")
    document, blob = _chunks(path, path.read_bytes())
    try:
        channels = [(a, c) for a in document.get("animations", []) for c in a["channels"]]
        found = [(a, c) for a, c in channels if c["target"]["path"] == "weights"]
        if not found:
            raise InvalidInputError(f"{path}: holds no animated face: export the morph-target animation too")
        animation, channel = found[0]
        node = document["nodes"][channel["target"]["node"]]
        mesh = document["meshes"][node["mesh"]]
        names = [str(name) for name in mesh.get("extras", {}).get("targetNames", [])]
        sampler = animation["samplers"][channel["sampler"]]
        times = _accessor(document, blob, sampler["input"])[:, 0]
        values = _accessor(document, blob, sampler["output"]).reshape(len(times), -1)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path}: its animation is damaged ({error}): export it again") from error
    if len(times) < 2 or np.any(np.diff(times) <= 0) or len(names) != values.shape[1]:
        raise InvalidInputError(f"{path}: its animation has no rising times or no names: export targetNames")
    return _curves(times, values, names, fps)


def _curves(
    times: Float32[np.ndarray, "key"],
    values: Float32[np.ndarray, "key target"],
    names: list[str],
    fps: float | None,
) -> FaceCurves:
    rate = float(fps or np.round(1.0 / np.median(np.diff(times)), 3))
    frames = max(round(float(times[-1] - times[0]) * rate) + 1, 1)
    grid = times[0] + np.arange(frames) / rate
    curves = FaceCurves.neutral(frames, rate)
    weights = curves.weights.copy()
    for column, name in enumerate(names):
        index = _LOWER.get(name.lower())
        if index is not None:
            weights[:, index] = np.interp(grid, times, values[:, column])
    return FaceCurves(fps=rate, weights=weights, head=curves.head, eyes=curves.eyes)


def _chunks(path: Path, data: bytes) -> tuple[dict[str, Any], bytes]:
    if data[:4] != b"glTF" or len(data) < 20:
        raise InvalidInputError(f"{path}: is no .glb file: export binary glTF")
    at, document, blob = 12, None, b""
    while at + 8 <= len(data):
        length, kind = struct.unpack("<I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if len(body) < length:
            raise InvalidInputError(f"{path}: is cut off: copy or export it again")
        if kind == b"JSON":
            try:
                document = json.loads(body)
            except (ValueError, RecursionError) as error:
                raise InvalidInputError(f"{path}: its JSON is damaged: export it again") from error
        elif kind == b"BIN\0":
            blob = body
        at += 8 + length
    if not isinstance(document, dict):
        raise InvalidInputError(f"{path}: holds no glTF document: export it again")
    return document, blob


def _accessor(document: dict[str, Any], blob: bytes, number: int) -> Float32[np.ndarray, "key column"]:
    accessor = document["accessors"][number]
    if accessor["componentType"] != 5126 or "sparse" in accessor:
        raise InvalidInputError("only plain float32 animations are read")
    columns = _COLUMNS[accessor["type"]]
    view = document["bufferViews"][accessor["bufferView"]]
    if view.get("byteStride") not in (None, 4 * columns):
        raise InvalidInputError("only tightly packed animations are read")
    start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
    count = int(accessor["count"]) * columns
    if start < 0 or count <= 0 or start + 4 * count > len(blob):
        raise ValueError("an accessor lies outside the file")
    values = np.frombuffer(blob, "<f4", count, start).reshape(-1, columns)
    if not np.isfinite(values).all():
        raise ValueError("values are not finite")
    return values.astype(np.float32)
