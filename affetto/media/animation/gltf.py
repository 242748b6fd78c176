"""glTF 2.0 binary files: a head with named morph targets, turning eyes, and its performance.

Blender, Unity, Unreal, Godot, three.js and Babylon read them. Morph targets are sparse accessors, so that a face of ten
thousand vertices with 52 targets stays small; names are in mesh.extras.targetNames, where all of these look.
"""

from pathlib import Path

import numpy as np
import pygltflib as gl

from affetto.media.animation.curves import FaceCurves
from affetto.media.animation.parts import Part, head_shares, split_mesh, target_normals, target_weights
from affetto.media.animation.rotations import quaternions
from affetto.media.image import jpeg_bytes
from affetto.media.mesh import AnimatedMesh
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path

STILL_METRES = 2e-6  # a smaller move of a vertex is not written
STILL_NORMAL = 4e-3  # nor is a smaller turn of its normal
MAX_BYTES = 2**31

_WIDTH = {1: gl.SCALAR, 2: gl.VEC2, 3: gl.VEC3, 4: gl.VEC4, 16: gl.MAT4}
_KIND = {
    "uint8": gl.UNSIGNED_BYTE,
    "uint16": gl.UNSIGNED_SHORT,
    "uint32": gl.UNSIGNED_INT,
    "float32": gl.FLOAT,
}


class _Writer:
    """Collects the buffer and the accessors of one file."""

    def __init__(self) -> None:
        self.document = gl.GLTF2(asset=gl.Asset(version="2.0", generator="affetto"))
        self._blob = bytearray()

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes, aligned to four, and return the number of their buffer view."""
        self._blob += b"\0" * (-len(self._blob) % 4)
        self.document.bufferViews.append(
            gl.BufferView(buffer=0, byteOffset=len(self._blob), byteLength=len(data), target=target)
        )
        self._blob += data
        if len(self._blob) > MAX_BYTES:
            raise UsageError("the animation is too long for one .glb file (2 GiB): cut it into parts")
        return len(self.document.bufferViews) - 1

    def accessor(self, values: np.ndarray, target: int | None = None, *, bounds: bool = False) -> int:
        """Append an array (count, width) and return the number of its accessor."""
        values = values.reshape(len(values), -1)
        accessor = gl.Accessor(
            bufferView=self.view(np.ascontiguousarray(values).tobytes(), target),
            componentType=_KIND[values.dtype.name],
            count=len(values),
            type=_WIDTH[values.shape[1]],
        )
        return self._add(accessor, values if bounds else None)

    def sparse(self, values: np.ndarray, still: float, *, bounds: bool) -> int:
        """Append an array of mostly zero rows, keeping only rows longer than `still`."""
        kept = np.flatnonzero(np.abs(values).max(axis=1) > still)
        kept = kept if len(kept) else np.zeros(1, np.int64)  # a sparse accessor must name at least one row
        rounded = np.zeros_like(values)
        rounded[kept] = values[kept]
        indices = kept.astype(np.uint16 if len(values) <= 65_535 else np.uint32)
        sparse = gl.Sparse(
            count=len(kept),
            indices=gl.AccessorSparseIndices(
                bufferView=self.view(indices.tobytes()), componentType=_KIND[indices.dtype.name]
            ),
            values=gl.AccessorSparseValues(bufferView=self.view(rounded[kept].astype(np.float32).tobytes())),
        )
        accessor = gl.Accessor(
            byteOffset=None, componentType=gl.FLOAT, count=len(values), type=gl.VEC3, sparse=sparse
        )
        return self._add(accessor, rounded if bounds else None)

    def _add(self, accessor: gl.Accessor, bounded: np.ndarray | None) -> int:
        if bounded is not None:
            accessor.min = [float(value) for value in bounded.min(axis=0)]
            accessor.max = [float(value) for value in bounded.max(axis=0)]
        self.document.accessors.append(accessor)
        return len(self.document.accessors) - 1

    def attributes(self, part: Part) -> gl.Attributes:
        """Append the vertices of a part."""
        return gl.Attributes(
            POSITION=self.accessor(part.positions, gl.ARRAY_BUFFER, bounds=True),
            NORMAL=self.accessor(part.normals, gl.ARRAY_BUFFER),
            TEXCOORD_0=self.accessor(part.uvs, gl.ARRAY_BUFFER),
        )

    def mesh(
        self,
        part: Part,
        attributes: gl.Attributes,
        material: int,
        targets: list[gl.Attributes],
        names: tuple[str, ...],
    ) -> int:
        """Append a mesh of one primitive with its morph targets and return its number."""
        small = len(part.positions) <= 65_535
        indices = part.triangles.astype(np.uint16 if small else np.uint32).reshape(-1, 1)
        primitive = gl.Primitive(
            attributes=attributes,
            indices=self.accessor(indices, gl.ELEMENT_ARRAY_BUFFER),
            material=material,
            mode=gl.TRIANGLES,
            targets=targets,
        )
        mesh = gl.Mesh(name=part.name, primitives=[primitive])
        if targets:
            mesh.weights = [0.0] * len(targets)
            mesh.extras = {"targetNames": list(names)}
        self.document.meshes.append(mesh)
        return len(self.document.meshes) - 1

    def save(self, path: Path, *, overwrite: bool) -> None:
        """Write the file."""
        self._blob += b"\0" * (-len(self._blob) % 4)
        self.document.buffers = [gl.Buffer(byteLength=len(self._blob))]
        self.document.set_binary_blob(bytes(self._blob))
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(b"".join(self.document.save_to_bytes()))


def _materials(writer: _Writer, mesh: AnimatedMesh) -> tuple[int, int]:
    """A skin and an eye material over the same texture; gloss becomes roughness."""
    document = writer.document
    picture = writer.view(jpeg_bytes(mesh.surface.texture))
    document.images.append(gl.Image(bufferView=picture, mimeType="image/jpeg", name="Skin"))
    document.samplers.append(
        gl.Sampler(
            magFilter=gl.LINEAR,
            minFilter=gl.LINEAR_MIPMAP_LINEAR,
            wrapS=gl.CLAMP_TO_EDGE,
            wrapT=gl.CLAMP_TO_EDGE,
        )
    )
    document.textures.append(gl.Texture(source=0, sampler=0))
    for name, roughness in (("Skin", 0.62), ("Eye", 0.12)):
        look = gl.PbrMetallicRoughness(
            baseColorTexture=gl.TextureInfo(index=0), metallicFactor=0.0, roughnessFactor=roughness
        )
        document.materials.append(
            gl.Material(name=name, pbrMetallicRoughness=look, doubleSided=name == "Skin")
        )
    return 0, 1


def _targets(writer: _Writer, mesh: AnimatedMesh, face: Part, *, normals: bool) -> list[gl.Attributes]:
    rest = mesh.surface.normals()
    targets = []
    for shape in range(len(mesh.names)):
        target = gl.Attributes(
            POSITION=writer.sparse(mesh.deltas[shape][face.source], STILL_METRES, bounds=True)
        )
        if normals:
            turned = target_normals(mesh, face, shape, rest)
            target.NORMAL = writer.sparse(turned, STILL_NORMAL, bounds=False)
        targets.append(target)
    return targets


def _animate(
    writer: _Writer, curves: FaceCurves, weights: np.ndarray, *, head: int, face: int, eyes: tuple[int, int]
) -> None:
    """Add one animation: the face's weights, and the rotation of the head and of both eyes (node numbers)."""
    times = writer.accessor(curves.times.astype(np.float32)[:, None], bounds=True)
    animation = gl.Animation(name="Performance")
    tracks = [(head, "rotation", quaternions(curves.head))]
    tracks += [(node, "rotation", quaternions(curves.eyes[:, side])) for side, node in enumerate(eyes)]
    if weights.shape[1]:
        tracks.insert(0, (face, "weights", weights.reshape(-1, 1)))
    for number, (node, path, values) in enumerate(tracks):
        output = writer.accessor(values.astype(np.float32))
        animation.samplers.append(
            gl.AnimationSampler(input=times, output=output, interpolation=gl.ANIM_LINEAR)
        )
        target = gl.AnimationChannelTarget(node=node, path=path)
        animation.channels.append(gl.AnimationChannel(sampler=number, target=target))
    writer.document.animations.append(animation)


def _bind(writer: _Writer, mesh: AnimatedMesh, face: Part, attributes: gl.Attributes) -> None:
    """Add the skin: joint 0 is the head, joint 1 the body; a vertex follows each by its share."""
    share = head_shares(mesh, face)
    joints = np.zeros((len(share), 4), np.uint8)
    joints[:, 0] = share == 0  # a joint with no weight must be 0
    joints[:, 1] = (share > 0) & (share < 1)
    weights = np.zeros((len(share), 4), np.float32)
    weights[:, 0] = np.where(share == 0, 1, share)
    weights[:, 1] = 1 - weights[:, 0]
    attributes.JOINTS_0 = writer.accessor(joints, gl.ARRAY_BUFFER)
    attributes.WEIGHTS_0 = writer.accessor(weights, gl.ARRAY_BUFFER)
    inverse = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    inverse[0, 3, :3] = -np.asarray(mesh.head_pivot)  # column-major, so the translation is the last row here
    bind = writer.accessor(inverse.reshape(2, 16))
    writer.document.skins.append(
        gl.Skin(name="Neck", joints=[_HEAD, _BODY], inverseBindMatrices=bind, skeleton=_BODY)
    )


_BODY, _HEAD, _FACE, _LEFT, _RIGHT = range(5)


def write_glb(
    path: str | Path,
    mesh: AnimatedMesh,
    curves: FaceCurves | None = None,
    *,
    normals: bool = True,
    overwrite: bool = True,
) -> Path:
    """Write a .glb: joint Head on joint Body, with EyeLeft and EyeRight on the head, and the skinned, morphing Face.

    Without `curves` the head is at rest and has no animation. `normals` also morphs the shading, at about 1.5 times the
    size. The same input always gives the same bytes. Returns the path.
    """
    writer = _Writer()
    face, left, right = split_mesh(mesh)
    skin, eye = _materials(writer, mesh)
    attributes = writer.attributes(face)
    _bind(writer, mesh, face, attributes)
    body = writer.mesh(face, attributes, skin, _targets(writer, mesh, face, normals=normals), mesh.names)
    nodes = writer.document.nodes
    nodes.append(gl.Node(name="Body", children=[_HEAD]))
    nodes.append(gl.Node(name="Head", translation=_list(mesh.head_pivot), children=[_LEFT, _RIGHT]))
    nodes.append(gl.Node(name="Face", mesh=body, skin=0))
    for part, centre in zip((left, right), np.asarray(mesh.eye_centres), strict=True):
        node = gl.Node(name=part.name, translation=_list(centre - np.asarray(mesh.head_pivot)))
        if len(part.triangles):
            node.mesh = writer.mesh(part, writer.attributes(part), eye, [], ())
        nodes.append(node)
    writer.document.scenes.append(gl.Scene(name="affetto", nodes=[_BODY, _FACE]))
    writer.document.scene = 0
    if curves is not None and len(curves):
        weights = target_weights(mesh, curves)
        _animate(writer, curves, weights, head=_HEAD, face=_FACE, eyes=(_LEFT, _RIGHT))
    writer.save(Path(path), overwrite=overwrite)
    return Path(path)


def _list(values: np.ndarray) -> list[float]:
    return [float(np.float32(value)) for value in values]
