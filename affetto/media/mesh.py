"""A renderable, animatable surface: what heads, renderers and 3D file writers share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, UInt8

from affetto.media.mesh_readers import read_glb, read_obj
from affetto.runtime.errors import InvalidInputError, UsageError


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A textured triangle mesh at rest.

    Metres; +X to the subject's left, +Y up, +Z forward; triangles run counter-clockwise seen from outside. Texture
    coordinates have v pointing down, as image rows do. `gloss` is 0 (matt) to 1 (wet) for each vertex. `groups` name
    ranges of triangles (start, stop), such as the eyeballs, so that they can move or be hidden on their own.
    """

    positions: Float32[np.ndarray, "vertex 3"]
    triangles: Int32[np.ndarray, "triangle 3"]
    uvs: Float32[np.ndarray, "vertex 2"]
    texture: UInt8[np.ndarray, "row column 3"]
    gloss: Float32[np.ndarray, "vertex"]
    groups: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vertices = len(self.positions)
        if len(self.uvs) != vertices or len(self.gloss) != vertices:
            raise UsageError(
                f"a surface of {vertices} vertices needs as many texture coordinates and gloss values"
            )
        if self.triangles.size and not 0 <= int(self.triangles.min()) <= int(self.triangles.max()) < vertices:
            raise UsageError(f"a triangle names a vertex outside 0..{vertices - 1}")
        for name, (start, stop) in self.groups.items():
            if not 0 <= start <= stop <= len(self.triangles):
                raise UsageError(
                    f"group {name!r} is {start}..{stop}, but there are {len(self.triangles)} triangles"
                )

    def normals(self) -> Float32[np.ndarray, "vertex 3"]:
        """Unit normals of the surface at rest, see `vertex_normals`."""
        return vertex_normals(self.positions, self.triangles)


@dataclass(frozen=True, kw_only=True)
class AnimatedMesh:
    """A surface with named morph targets, rotating eyeballs and a head that turns about a pivot.

    `deltas[k]` is what weight 1 of `names[k]` adds to every vertex (metres). `eye_centres` and `eye_vertices` are
    (left, right), the subject's own; the vertices named there turn rigidly about their centre. `head_weights` is each
    vertex's share of the head's rotation, 1 on the head and 0 on the shoulders (None: all turn wholly).
    `correctives[c]` is added with the product of the two weights that `corrective_pairs[c]` names.
    """

    surface: Surface
    names: tuple[str, ...]
    deltas: Float32[np.ndarray, "shape vertex 3"]
    eye_centres: Float[np.ndarray, "2 3"]
    eye_vertices: tuple[Int[np.ndarray, "left"], Int[np.ndarray, "right"]]
    head_pivot: Float[np.ndarray, "3"]
    head_weights: Float32[np.ndarray, "vertex"] | None = None
    correctives: Float32[np.ndarray, "corrective vertex 3"] | None = None
    corrective_pairs: Int[np.ndarray, "corrective 2"] | None = None

    def __post_init__(self) -> None:
        if (self.correctives is None) != (self.corrective_pairs is None):
            raise UsageError("correctives and corrective_pairs belong together: give both or none")
        wanted = (len(self.names), len(self.surface.positions), 3)
        if self.deltas.shape != wanted:
            raise UsageError(
                f"deltas have shape {self.deltas.shape}, but names and vertices ask for {wanted}"
            )

    def posed(self, weights: Float[np.ndarray, "shape"]) -> Float32[np.ndarray, "vertex 3"]:
        """The vertices with every morph target added at its weight; no correctives, eyes and head do not turn."""
        moved = np.tensordot(weights.astype(np.float32), self.deltas, axes=1)
        return self.surface.positions + moved


def vertex_normals(
    positions: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
) -> Float32[np.ndarray, "vertex 3"]:
    """Unit normals, the area-weighted mean of the adjoining triangles' (+Z where a vertex belongs to none)."""
    corners = positions[triangles].astype(np.float64)
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(positions), 3))
    for axis in range(3):
        weights = np.repeat(faces[:, axis], 3)
        normals[:, axis] = np.bincount(triangles.ravel(), weights=weights, minlength=len(positions))
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(lengths > 1e-20, normals / np.maximum(lengths, 1e-20), [0.0, 0.0, 1.0]).astype(np.float32)


def load_mesh(path: str | Path) -> Surface:
    """The surface in an OBJ, glTF-binary (.glb) or glTF (.gltf) file, with its first texture or plain grey.

    Size, counts and indices are checked before anything large is built. Units and axes stay those of the file.
    Raises `InvalidInputError` when the file is missing, empty, damaged or too large.
    """
    path = Path(path)
    readers = {".obj": read_obj, ".glb": read_glb, ".gltf": read_glb}
    if path.suffix.lower() not in readers:
        raise InvalidInputError(f"{path}: not a mesh affetto reads: use .obj, .glb or .gltf")
    raw = readers[path.suffix.lower()](path)
    return Surface(
        positions=raw.positions,
        triangles=raw.triangles,
        uvs=raw.uvs,
        texture=raw.texture,
        gloss=np.full(len(raw.positions), 0.2, np.float32),
        groups=raw.groups,
    )
