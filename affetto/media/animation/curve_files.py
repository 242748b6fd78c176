"""Face performances as JSON (readable anywhere) and NPZ (exact arrays)."""

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.media.arrays import read_arrays_of
from affetto.media.files import checked_size
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path

SCHEMA = "affetto.face/1"
MAX_BYTES = 512 * 2**20
MAX_FRAMES = 2_000_000


def _round(values: np.ndarray) -> list[Any]:
    return (np.round(values.astype(np.float64), 6) + 0.0).tolist()


def write_json(path: str | Path, curves: FaceCurves, *, overwrite: bool = True) -> Path:
    """Write `{schema, fps, names, frames, head, eyes, meta}`; weights and radians are rounded to 6 decimals.

    `frames` is (frame, 52) in the order of `names`, `head` (frame, 3) yaw pitch roll, `eyes` (frame, 2, 2) left and right
    yaw and pitch. `audio` and `emotion` of `meta` stand at the top level, where other programs look for them.
    """
    meta = dict(curves.meta)
    document: dict[str, Any] = {"schema": SCHEMA, "fps": curves.fps, "names": list(ARKIT_52)}
    document |= {key: meta.pop(key) for key in ("audio", "emotion") if key in meta}
    document |= {"meta": meta, "head": _round(curves.head), "eyes": _round(curves.eyes)}
    head = json.dumps(document, ensure_ascii=False, allow_nan=False)
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write(head[:-1] + ', "frames": [\n')
        for number, row in enumerate(curves.weights):
            file.write((",\n" if number else "") + json.dumps(_round(row)))
        file.write("\n]}\n")
    return Path(path)


def _array(path: Path, values: Any, name: str, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """`values` as float32 of `shape`, where -1 stands for any count of frames."""
    try:
        array = np.asarray(values, np.float32)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{path}: {name} is not a table of numbers: export it again") from error
    if array.size == 0 and 0 in (array.shape[0], shape[0]):
        array = array.reshape(0, *shape[1:])
    if array.ndim != len(shape) or any(
        want not in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    ):
        raise InvalidInputError(f"{path}: {name} has shape {array.shape}, not {shape}: export it again")
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{path}: {name} holds NaN or infinity: export it again")
    if len(array) > MAX_FRAMES:
        raise InvalidInputError(f"{path}: {len(array)} frames exceed {MAX_FRAMES}: cut it into parts")
    return array


def read_json(path: str | Path) -> FaceCurves:
    """The performance in a JSON file written by `write_json`, or by another program with fps, names and frames.

    Names may come in any order and case; shapes that are missing count as 0. Raises `InvalidInputError`.
    """
    path = Path(path)
    checked_size(path, MAX_BYTES, kind="animation")
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path}: is not JSON ({error}): export it again") from error
    if not isinstance(document, dict) or not {"fps", "names", "frames"} <= document.keys():
        raise InvalidInputError(f"{path}: not a face animation: it needs fps, names and frames")
    fps, names = document["fps"], document["names"]
    _check_fps(path, fps)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidInputError(f"{path}: names must be a list of text: export it again")
    places = {name.lower(): place for place, name in enumerate(names)}
    if not any(name.lower() in places for name in ARKIT_52):
        raise InvalidInputError(f"{path}: has none of the 52 ARKit shapes: rename its channels")
    frames = _array(path, document["frames"], "frames", (-1, len(names)))
    weights = np.zeros((len(frames), len(ARKIT_52)), np.float32)
    for column, name in enumerate(ARKIT_52):
        if name.lower() in places:
            weights[:, column] = frames[:, places[name.lower()]]
    head = _array(path, document.get("head", np.zeros((len(frames), 3))), "head", (len(frames), 3))
    eyes = _array(path, document.get("eyes", np.zeros((len(frames), 2, 2))), "eyes", (len(frames), 2, 2))
    meta = document.get("meta", {})
    meta = dict(meta) if isinstance(meta, dict) else {}
    meta |= {key: document[key] for key in ("audio", "emotion") if key in document}
    return FaceCurves(fps=float(fps), weights=weights, head=head, eyes=eyes, meta=meta)


def _check_fps(path: Path, fps: Any) -> None:
    if (
        not isinstance(fps, int | float)
        or isinstance(fps, bool)
        or not math.isfinite(fps)
        or not 1 <= fps <= 1000
    ):
        raise InvalidInputError(f"{path}: fps must be 1..1000, got {fps!r}: export it again")


def write_npz(
    path: str | Path,
    curves: FaceCurves,
    *,
    extra: Mapping[str, np.ndarray] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write `weights (frame, 52)`, `head`, `eyes`, `fps`, `names` and `meta` (JSON text) as compressed NumPy arrays.

    The same performance always gives the same bytes: numpy's own writer would put the time of day into the file.
    """
    meta = json.dumps(dict(curves.meta), ensure_ascii=False, sort_keys=True, allow_nan=False)
    arrays: dict[str, np.ndarray] = {
        "weights": curves.weights,
        "head": curves.head,
        "eyes": curves.eyes,
        "fps": np.array(curves.fps),
        "names": np.array(ARKIT_52),
        "meta": np.array(meta),
        **(extra or {}),
    }
    with atomic_path(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())
    return Path(path)


def read_npz(path: str | Path) -> FaceCurves:
    """The performance in an NPZ file written by `write_npz`; raises `InvalidInputError` for anything else."""
    path = Path(path)
    checked_size(path, MAX_BYTES, kind="animation")
    arrays = read_arrays_of(path, what="a face animation of affetto", most_bytes=2 * MAX_BYTES)
    try:
        meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
        fps = float(arrays["fps"].item()) if arrays["fps"].size == 1 else math.nan
        parts = [arrays[name] for name in ("weights", "head", "eyes")]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(
            f"{path}: not a face animation of affetto, or damaged: export it again"
        ) from error
    _check_fps(path, fps)
    weights = _array(path, parts[0], "weights", (-1, 52))
    head = _array(path, parts[1], "head", (len(weights), 3))
    eyes = _array(path, parts[2], "eyes", (len(weights), 2, 2))
    return FaceCurves(
        fps=fps, weights=weights, head=head, eyes=eyes, meta=meta if isinstance(meta, dict) else {}
    )


def with_meta(curves: FaceCurves, **values: Any) -> FaceCurves:
    """The same performance with more entries in its `meta`."""
    return dataclasses.replace(curves, meta={**curves.meta, **values})
