"""The user's own FLAME model as a head: a safe reader of its file and linear blend skinning.

FLAME (Li et al. 2017) is licensed by its publisher and never part of affetto. "FLAME 2023 Open" is CC-BY-4.0.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from einops import einsum, rearrange
from jaxtyping import Float, Float32, Int32, Integer
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from affetto.head.flame_pickle import read_flame_pickle
from affetto.head.rotation import vector_matrix
from affetto.media.arrays import read_arrays_of
from affetto.media.mesh import Surface
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
SHAPES = 300  # of the shape space's columns; those after them are expressions
SKIN_COLOUR, EYE_COLOUR = (205, 160, 138), (236, 234, 230)
MAX_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class FlameModel:
    """FLAME's arrays, named as its publisher names them; metres, Y up, Z forward."""

    v_template: Float32[np.ndarray, "vertex 3"]
    f: Int32[np.ndarray, "triangle 3"]
    shapedirs: Float32[np.ndarray, "vertex 3 mode"]  # 300 of shape, then expression
    posedirs: Float32[np.ndarray, "vertex 3 36"]
    J_regressor: Float32[np.ndarray, "5 vertex"]
    weights: Float32[np.ndarray, "vertex 5"]
    parents: Int32[np.ndarray, "5"]

    @property
    def expressions(self) -> int:
        """How many expression modes there are."""
        return max(self.shapedirs.shape[2] - SHAPES, 0)

    def vertices(
        self,
        *,
        expression: Float[np.ndarray, "frame mode"],
        pose: Float[np.ndarray, "frame 5 3"] | None = None,
        shape: Float[np.ndarray, "identity"] | None = None,
    ) -> Float32[np.ndarray, "frame vertex 3"]:
        """The vertices at each frame (metres).

        `pose` holds axis-angle rotations in radians of root, neck, jaw, left and right eye; a positive first component
        of the jaw opens the mouth. Fewer modes than the model has are a prefix, as its users expect.
        """
        frames = len(expression)
        if expression.shape[1] > self.expressions:
            raise UsageError(
                f"{expression.shape[1]} expression values given, this FLAME has {self.expressions}"
            )
        if shape is not None and len(shape) > min(SHAPES, self.shapedirs.shape[2]):
            raise UsageError(f"{len(shape)} shape values given, FLAME has {SHAPES}")
        rest = self.v_template
        if shape is not None:
            rest = rest + einsum(self.shapedirs[..., : len(shape)], shape, "v xyz mode, mode -> v xyz")
        modes = self.shapedirs[..., SHAPES : SHAPES + expression.shape[1]]
        shaped = rest + einsum(modes, expression, "v xyz mode, frame mode -> frame v xyz")
        rotations = vector_matrix(np.zeros((frames, 5, 3)) if pose is None else pose.astype(np.float64))
        bend = rearrange(rotations[:, 1:] - np.eye(3), "frame joint row column -> frame (joint row column)")
        posed = shaped + einsum(self.posedirs, bend, "v xyz mode, frame mode -> frame v xyz")
        joints = einsum(self.J_regressor, shaped, "joint v, frame v xyz -> frame joint xyz")
        turn, shift = self._chain(rotations, joints)
        skin_turn = einsum(self.weights, turn, "v joint, frame joint row column -> frame v row column")
        skin_shift = einsum(self.weights, shift, "v joint, frame joint xyz -> frame v xyz")
        moved = einsum(skin_turn, posed, "frame v row column, frame v column -> frame v row") + skin_shift
        return moved.astype(np.float32)

    def surface(self) -> Surface:
        """The mean head as a surface to render: plain skin, bright eyeballs in the group `eyes`."""
        eyes = self.weights[:, 3:].sum(axis=1) > 0.5
        is_eye = eyes[self.f].all(axis=1)
        triangles = np.concatenate([self.f[~is_eye], self.f[is_eye]])
        texture = np.zeros((8, 16, 3), np.uint8)
        texture[:, :8], texture[:, 8:] = SKIN_COLOUR, EYE_COLOUR
        uvs = np.stack([np.where(eyes, 0.75, 0.25), np.full(len(eyes), 0.5)], axis=1)
        split = int((~is_eye).sum())
        return Surface(
            positions=self.v_template,
            triangles=np.ascontiguousarray(triangles),
            uvs=uvs.astype(np.float32),
            texture=texture,
            gloss=np.where(eyes, 1.0, 0.28).astype(np.float32),
            groups={"skin": (0, split), "eyes": (split, len(triangles))},
        )

    def save(self, path: str | Path) -> None:
        """Write the arrays as safetensors, which load faster than the pickle and can carry no code."""
        arrays = {field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}
        with atomic_path(path) as temporary:
            save_file(arrays, temporary, metadata={"format": "affetto-flame-1"})

    def _chain(
        self, rotations: Float[np.ndarray, "frame 5 3 3"], joints: Float[np.ndarray, "frame 5 3"]
    ) -> tuple[Float[np.ndarray, "frame 5 3 3"], Float[np.ndarray, "frame 5 3"]]:
        """Rotation and shift of each joint from rest to its pose, parents first."""
        turn, shift = np.empty_like(rotations), np.empty(joints.shape)
        for joint, parent in enumerate(self.parents):
            centre = joints[:, joint]
            own = centre - einsum(rotations[:, joint], centre, "frame row column, frame column -> frame row")
            if parent < 0:
                turn[:, joint], shift[:, joint] = rotations[:, joint], own
            else:
                turn[:, joint] = turn[:, parent] @ rotations[:, joint]
                carried = einsum(turn[:, parent], own, "frame row column, frame column -> frame row")
                shift[:, joint] = carried + shift[:, parent]
        return turn, shift


def load_flame(path: str | Path) -> FlameModel:
    """The FLAME model in a publisher's pickle (.pkl), or in an .npz or .safetensors file with the same arrays.

    Pickles are read without running anything in them. Raises `InvalidInputError` for a missing, damaged or foreign
    file.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file: download FLAME from its publisher first")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInputError(f"{path}: larger than 1 GiB, which no FLAME model is")
    readers = {".pkl": read_flame_pickle, ".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix.lower() not in readers:
        raise InvalidInputError(f"{path}: not a FLAME file affetto reads: use .pkl, .npz or .safetensors")
    return _checked(path, readers[path.suffix.lower()](path))


def convert_flame(source: str | Path, target: str | Path) -> None:
    """Write the FLAME model of any file that `load_flame` reads as safetensors."""
    load_flame(source).save(target)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    return read_arrays_of(path, what="a readable .npz of plain arrays", most_bytes=MAX_BYTES)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidInputError(
            f"{path}: not a readable .safetensors file: convert the model again"
        ) from error


def _checked(path: Path, arrays: dict[str, np.ndarray]) -> FlameModel:
    """The model after its shapes and indices are seen to be FLAME's."""
    if "parents" not in arrays and "kintree_table" in arrays:
        table = np.asarray(arrays["kintree_table"])
        if table.ndim == 2:
            arrays["parents"] = np.concatenate([[-1], table[0, 1:].astype(np.int64)])
    names = [field.name for field in fields(FlameModel)]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InvalidInputError(
            f"{path}: not a FLAME model, it lacks {', '.join(missing)}: download it again"
        )
    for name in names:
        kinds = "iu" if name in ("f", "parents") else "fiu"
        if arrays[name].dtype.kind not in kinds or arrays[name].ndim == 0:
            raise InvalidInputError(
                f"{path}: {name} does not hold the numbers FLAME's does: download it again"
            )
    vertices = len(arrays["v_template"])
    wanted = {
        "v_template": (vertices, 3),
        "f": (len(arrays["f"]), 3),
        "shapedirs": (vertices, 3, arrays["shapedirs"].shape[-1]),
        "posedirs": (vertices, 3, 36),
        "J_regressor": (5, vertices),
        "weights": (vertices, 5),
        "parents": (5,),
    }
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise InvalidInputError(f"{path}: {name} has shape {arrays[name].shape}, FLAME's is {shape}")
    if not _indices_hold(arrays["f"], vertices) or not _is_tree(arrays["parents"]):
        raise InvalidInputError(f"{path}: triangles or joints point outside the model: download it again")
    return FlameModel(
        **{
            name: np.ascontiguousarray(
                arrays[name], dtype=np.int32 if name in ("f", "parents") else np.float32
            )
            for name in names
        }
    )


def _indices_hold(triangles: Integer[np.ndarray, "triangle 3"], vertices: int) -> bool:
    return triangles.size > 0 and int(triangles.min()) >= 0 and int(triangles.max()) < vertices


def _is_tree(parents: Integer[np.ndarray, "5"]) -> bool:
    return all(-1 <= int(parent) < joint for joint, parent in enumerate(parents))
