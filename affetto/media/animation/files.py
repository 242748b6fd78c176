"""Saving and loading face performances by file suffix."""

from pathlib import Path

from affetto.media.animation import curve_files, livelink
from affetto.media.animation.curves import FaceCurves
from affetto.media.animation.gltf import write_glb
from affetto.media.animation.usd import write_usd
from affetto.media.mesh import AnimatedMesh
from affetto.runtime.errors import InvalidInputError, UsageError

CURVE_SUFFIXES = (".csv", ".json", ".npz")
"""Files that hold curves alone; these can be read back."""

MESH_SUFFIXES = (".glb", ".usda", ".usdc")
"""Files that hold a head as well; writing them needs one."""


def save_curves(
    path: str | Path, curves: FaceCurves, mesh: AnimatedMesh | None = None, *, overwrite: bool = True
) -> Path:
    """Write a performance as .csv (Live Link Face), .json, .npz, .glb or .usda/.usdc; the last three need a mesh."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in CURVE_SUFFIXES + MESH_SUFFIXES:
        raise UsageError(f"{path}: a performance is written as {', '.join(CURVE_SUFFIXES + MESH_SUFFIXES)}")
    if suffix in MESH_SUFFIXES and mesh is None:
        raise UsageError(f"{path}: a {suffix} file needs a head: pass mesh=")
    if suffix == ".csv":
        return livelink.write_csv(path, curves, overwrite=overwrite)
    if suffix == ".json":
        return curve_files.write_json(path, curves, overwrite=overwrite)
    if suffix == ".npz":
        return curve_files.write_npz(path, curves, overwrite=overwrite)
    assert mesh is not None
    if suffix == ".glb":
        return write_glb(path, mesh, curves, overwrite=overwrite)
    return write_usd(path, mesh, curves, overwrite=overwrite)


def load_curves(path: str | Path) -> FaceCurves:
    """The performance in a .csv (Live Link Face), .json or .npz file; raises `InvalidInputError` when it cannot be read."""
    path = Path(path)
    readers = {".csv": livelink.read_csv, ".json": curve_files.read_json, ".npz": curve_files.read_npz}
    if path.suffix.lower() not in readers:
        raise InvalidInputError(f"{path}: not a performance affetto reads: use {', '.join(CURVE_SUFFIXES)}")
    return readers[path.suffix.lower()](path)
