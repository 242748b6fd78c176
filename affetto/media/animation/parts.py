"""Splitting an animated mesh into what 3D files hold: a morphing face and two rigid eyeballs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.media.mesh import AnimatedMesh, vertex_normals


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some triangles of a mesh with only the vertices they use; `source` are those vertices in the whole mesh."""

    name: str
    source: Int32[np.ndarray, "vertex"]
    positions: Float32[np.ndarray, "vertex 3"]
    normals: Float32[np.ndarray, "vertex 3"]
    uvs: Float32[np.ndarray, "vertex 2"]
    triangles: Int32[np.ndarray, "triangle 3"]
    gloss: float


def _part(mesh: AnimatedMesh, name: str, chosen: np.ndarray, origin: np.ndarray, normals: np.ndarray) -> Part:
    surface = mesh.surface
    triangles = surface.triangles[chosen]
    source, inverse = np.unique(triangles, return_inverse=True)
    return Part(
        name=name,
        source=source.astype(np.int32),
        positions=(surface.positions[source] - origin).astype(np.float32),
        normals=normals[source],
        uvs=surface.uvs[source],
        triangles=inverse.reshape(-1, 3).astype(np.int32),
        gloss=float(surface.gloss[source].mean()) if len(source) else 0.0,
    )


def split_mesh(mesh: AnimatedMesh) -> tuple[Part, Part, Part]:
    """The face in place, the left and the right eyeball (each relative to its own centre).

    A triangle belongs to an eyeball when all its corners do. Eyeballs are rigid: morph targets of theirs are dropped.
    """
    surface = mesh.surface
    normals = surface.normals()
    owners = np.zeros(len(surface.positions), np.int8)
    for side, vertices in enumerate(mesh.eye_vertices, start=1):
        owners[vertices] = side
    corners = owners[surface.triangles]
    sides = np.where((corners == corners[:, :1]).all(axis=1), corners[:, 0], 0)
    face = _part(mesh, "Face", sides == 0, np.zeros(3), normals)
    left, right = (
        _part(mesh, name, sides == side, np.asarray(mesh.eye_centres)[side - 1], normals)
        for side, name in ((1, "EyeLeft"), (2, "EyeRight"))
    )
    return face, left, right


def target_normals(
    mesh: AnimatedMesh, part: Part, shape: int, rest: Float32[np.ndarray, "all 3"]
) -> Float32[np.ndarray, "vertex 3"]:
    """How the unit normals of a part change when one morph target is fully on; `rest` are the normals at rest."""
    moved = vertex_normals(mesh.surface.positions + mesh.deltas[shape], mesh.surface.triangles)
    return (moved - rest)[part.source]


def head_shares(mesh: AnimatedMesh, part: Part) -> Float32[np.ndarray, "vertex"]:
    """Each vertex's share of the head's rotation, 0..1."""
    if mesh.head_weights is None:
        return np.ones(len(part.source), np.float32)
    return np.clip(mesh.head_weights[part.source], 0, 1).astype(np.float32)


def target_weights(mesh: AnimatedMesh, curves: FaceCurves) -> Float32[np.ndarray, "frame target"]:
    """The curves' weights in the order of the mesh's targets; targets that are no ARKit shape stay at 0.

    3D files know no correctives, so what a corrective undoes when two shapes meet (a lid that blinks and looks down) is
    taken from the weights of the two instead: by the least-squares share of the corrective in their displacements.
    """
    weights = np.zeros((len(curves), len(mesh.names)), np.float32)
    for column, name in enumerate(mesh.names):
        if name in ARKIT_INDEX:
            weights[:, column] = curves.weights[:, ARKIT_INDEX[name]]
    if mesh.correctives is None or mesh.corrective_pairs is None:
        return weights
    adjusted = weights.copy()
    for (first, second), corrective in zip(mesh.corrective_pairs, mesh.correctives, strict=True):
        both = np.clip(weights[:, first], 0, None) * np.clip(weights[:, second], 0, None)
        if not both.any():
            continue
        displacements = mesh.deltas[[first, second]].reshape(2, -1).T
        shares = np.linalg.lstsq(displacements, corrective.ravel(), rcond=None)[0]
        adjusted[:, [first, second]] += both[:, None] * shares.astype(np.float32)
    return np.where(weights >= 0, np.maximum(adjusted, 0), adjusted)
