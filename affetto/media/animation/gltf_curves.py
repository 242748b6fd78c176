"""Face curves out of an animated glTF file: morph-target weights by ARKit name."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from affetto.media.animation.curve_files import MAX_FRAMES
from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.media.mesh_readers import GltfReader
from affetto.runtime.errors import InvalidInputError

MAX_RATE = 1000.0
_LOWER = {name.lower(): index for index, name in enumerate(ARKIT_52)}


def read_glb_curves(path: str | Path, *, fps: float | None = None) -> FaceCurves:
    """The performance of the first morphing mesh of a .glb file, at `fps` or at the rate of its keys.

    Raises `InvalidInputError` for a file without such an animation, with another kind of data, or damaged.
    """
    path = Path(path)
    reader = GltfReader(path)
    try:
        times, values, names = _animation(reader)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise reader.damaged(f"its animation is damaged ({type(error).__name__}: {error})") from error
    if not (np.isfinite(times).all() and np.isfinite(values).all()):
        raise reader.damaged("its animation holds values that are not numbers")
    if len(times) < 2 or np.any(np.diff(times) <= 0) or len(names) != values.shape[1]:
        raise InvalidInputError(f"{path}: its animation has no rising times or no names: export targetNames")
    rate = float(fps or np.round(1.0 / np.median(np.diff(times.astype(np.float64))), 3))
    if not 1.0 <= rate <= MAX_RATE or float(times[-1] - times[0]) * rate >= MAX_FRAMES:
        raise reader.damaged(f"its animation has {rate:g} keys a second over {times[-1] - times[0]:g} s")
    return _curves(times, values, names, rate)


def _animation(
    reader: GltfReader,
) -> tuple[Float32[np.ndarray, "key"], Float32[np.ndarray, "key target"], list[str]]:
    """Times in seconds, weights and their names of the first animation of weights."""
    document = reader.document
    channels = [(a, c) for a in document.get("animations", []) for c in a["channels"]]
    found = [(a, c) for a, c in channels if c["target"]["path"] == "weights"]
    if not found:
        raise InvalidInputError(
            f"{reader.path}: holds no animated face: export the morph-target animation too"
        )
    animation, channel = found[0]
    mesh = document["meshes"][document["nodes"][channel["target"]["node"]]["mesh"]]
    names = [str(name) for name in mesh.get("extras", {}).get("targetNames", [])]
    sampler = animation["samplers"][channel["sampler"]]
    times = reader.accessor(sampler["input"])[:, 0].astype(np.float32)
    values = reader.accessor(sampler["output"]).astype(np.float32).reshape(len(times), -1)
    return times, values, names


def _curves(
    times: Float32[np.ndarray, "key"],
    values: Float32[np.ndarray, "key target"],
    names: list[str],
    rate: float,
) -> FaceCurves:
    frames = max(round(float(times[-1] - times[0]) * rate) + 1, 1)
    grid = times[0] + np.arange(frames) / rate
    curves = FaceCurves.neutral(frames, rate)
    weights = curves.weights.copy()
    for column, name in enumerate(names):
        index = _LOWER.get(name.lower())
        if index is not None:
            weights[:, index] = np.interp(grid, times, values[:, column])
    return FaceCurves(fps=rate, weights=weights, head=curves.head, eyes=curves.eyes)
