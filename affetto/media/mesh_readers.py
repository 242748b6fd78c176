"""Hardened readers of OBJ and glTF meshes: limits first, arrays second."""

import base64
import binascii
import io
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from affetto.media.files import checked_size
from affetto.media.image import decode_image, load_image
from affetto.runtime.errors import InvalidInputError

MAX_BYTES = 256 * 2**20
MAX_VERTICES = 2_000_000
MAX_TRIANGLES = 4_000_000
GREY = np.full((2, 2, 3), 188, np.uint8)


@dataclass(frozen=True, kw_only=True)
class RawMesh:
    """Arrays as read from a file: texture coordinates have v pointing down, groups are triangle ranges."""

    positions: Float32[np.ndarray, "vertex 3"]
    triangles: Int32[np.ndarray, "triangle 3"]
    uvs: Float32[np.ndarray, "vertex 2"]
    texture: UInt8[np.ndarray, "row column 3"] = field(default_factory=lambda: GREY)
    groups: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def _checked(path: Path, positions: np.ndarray, triangles: np.ndarray) -> None:
    if not len(positions) or not len(triangles):
        raise InvalidInputError(f"{path}: holds no triangles: export it again as a mesh")
    if not np.isfinite(positions).all():
        raise InvalidInputError(f"{path}: a vertex position is not a number: export it again")
    if triangles.min() < 0 or triangles.max() >= len(positions):
        raise InvalidInputError(
            f"{path}: a triangle names vertex {triangles.max()} of {len(positions)}: it is damaged"
        )


class _ObjBuilder:
    """Collects the lines of an OBJ file; a corner (position, texture coordinate) becomes one vertex."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points: list[tuple[float, ...]] = []
        self.coordinates: list[tuple[float, ...]] = []
        self.corners: dict[tuple[int, int], int] = {}
        self.triangles: list[tuple[int, int, int]] = []
        self.starts: list[tuple[str, int]] = []
        self.materials: list[str] = []

    def corner(self, token: str) -> int:
        """The vertex number of one `v/vt/vn` token of a face line; negative numbers count from the end."""
        parts = token.split("/")
        v, vt = int(parts[0]), int(parts[1]) if len(parts) > 1 and parts[1] else 0
        v = v - 1 if v > 0 else len(self.points) + v
        vt = vt - 1 if vt > 0 else len(self.coordinates) + vt if vt < 0 else -1
        if not 0 <= v < len(self.points) or not -1 <= vt < len(self.coordinates):
            raise ValueError(f"{token} names a vertex that does not exist")
        return self.corners.setdefault((v, vt), len(self.corners))

    def line(self, words: list[str]) -> None:
        """Take in one line, split into words; unknown keywords are skipped as the format asks."""
        match words:
            case ["v", x, y, z, *_]:
                self.points.append((float(x), float(y), float(z)))
            case ["vt", u, v, *_]:
                self.coordinates.append((float(u), float(v)))
            case ["f", first, second, third, *more]:
                face = [self.corner(token) for token in (first, second, third, *more)]
                self.triangles.extend((face[0], face[i], face[i + 1]) for i in range(1, len(face) - 1))
            case ["f", *_]:
                raise ValueError("a face needs three corners")
            case ["o" | "g", *names]:
                self.starts.append((" ".join(names) or "default", len(self.triangles)))
            case ["mtllib", *names]:
                self.materials.append(" ".join(names))
            case _:
                pass
        if (
            len(self.points) > MAX_VERTICES
            or len(self.corners) > MAX_VERTICES
            or len(self.triangles) > MAX_TRIANGLES
        ):
            raise InvalidInputError(f"{self.path}: has over {MAX_VERTICES} vertices: simplify the mesh")


def read_obj(path: Path) -> RawMesh:
    """Positions, texture coordinates, fan-triangulated faces, o/g groups and the first map_Kd of an OBJ file."""
    checked_size(path, MAX_BYTES, kind="mesh")
    builder = _ObjBuilder(path)
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                builder.line(line.split())
            except (ValueError, IndexError) as error:
                if isinstance(error, InvalidInputError):
                    raise
                raise InvalidInputError(
                    f"{path}: line {number} is not OBJ ({error}): export it again"
                ) from error
    if not builder.corners:
        raise InvalidInputError(f"{path}: holds no triangles: export it again as a mesh")
    corners = np.array(list(builder.corners), np.int64)
    positions = np.array(builder.points, np.float32)[corners[:, 0]]
    uvs = np.zeros((len(corners), 2), np.float32)
    has_uv = corners[:, 1] >= 0
    if has_uv.any():
        uvs[has_uv] = np.array(builder.coordinates, np.float32)[corners[has_uv, 1]]
        uvs[:, 1] = np.where(has_uv, 1.0 - uvs[:, 1], 0.0)  # OBJ counts v upwards
    triangles = np.array(builder.triangles, np.int32).reshape(-1, 3)
    _checked(path, positions, triangles)
    ends = [start for _, start in builder.starts[1:]] + [len(triangles)]
    groups = {
        name: (start, stop) for (name, start), stop in zip(builder.starts, ends, strict=False) if stop > start
    }
    texture = _obj_texture(path, builder.materials)
    return RawMesh(positions=positions, triangles=triangles, uvs=uvs, texture=texture, groups=groups)


def _beside(path: Path, name: str) -> Path | None:
    """The file `name` beside `path`, or None when it is missing or would lie outside that folder."""
    folder = path.parent.resolve()
    target = (folder / name).resolve()
    return target if target.is_relative_to(folder) and target.is_file() else None


def _obj_texture(path: Path, materials: list[str]) -> UInt8[np.ndarray, "row column 3"]:
    for material in materials:
        library = _beside(path, material)
        if library is None:
            continue
        checked_size(library, 2**20, kind="material file")
        for line in library.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if words and words[0] == "map_Kd":
                picture = _beside(path, " ".join(words[1:]))
                if picture is not None:
                    return load_image(picture)
    return GREY


_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_MAGIC, _JSON_CHUNK, _BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


class GltfReader:
    """Random access to the accessors and images of one glTF 2.0 file, every range checked before use."""

    def __init__(self, path: Path) -> None:
        checked_size(path, MAX_BYTES, kind="mesh")
        self.path = path
        content = path.read_bytes()
        self.binary = b""
        text = self._split(content) if path.suffix.lower() == ".glb" else content
        try:
            self.document: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.damaged("its JSON part cannot be read") from error
        if not isinstance(self.document, dict) or "asset" not in self.document:
            raise self.damaged("it is not glTF 2.0")
        self._buffers: dict[int, bytes] = {}

    def damaged(self, reason: str) -> InvalidInputError:
        """The error that says why this file cannot be used."""
        return InvalidInputError(f"{self.path}: {reason}: export it again as .glb")

    def _split(self, content: bytes) -> bytes:
        magic, version, total = struct.unpack_from("<III", content.ljust(12, b"\0"))
        if magic != _MAGIC or version != 2:
            raise self.damaged("it is not a glTF 2.0 binary")
        if total > len(content):
            raise self.damaged(f"it is cut off ({len(content)} of {total} bytes)")
        offset, text = 12, b""
        while offset + 8 <= total:
            length, kind = struct.unpack_from("<II", content, offset)
            chunk = content[offset + 8 : offset + 8 + length]
            if len(chunk) < length:
                raise self.damaged("a chunk is cut off")
            if kind == _JSON_CHUNK and not text:
                text = chunk
            elif kind == _BINARY_CHUNK and not self.binary:
                self.binary = chunk
            offset += 8 + length
        return text

    def _uri(self, uri: str) -> bytes:
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error as error:
                raise self.damaged("an embedded buffer is not base64") from error
        target = _beside(self.path, uri)
        if target is None:
            raise self.damaged(f"the file {uri!r} it needs is not beside it")
        checked_size(target, MAX_BYTES, kind="buffer")
        return target.read_bytes()

    def view(self, index: int) -> tuple[bytes, int]:
        """The bytes of one buffer view and its stride (0 when tightly packed)."""
        view = self.document["bufferViews"][index]
        number = view["buffer"]
        if number not in self._buffers:
            uri = self.document["buffers"][number].get("uri")
            self._buffers[number] = self._uri(uri) if uri else self.binary
        start, length = view.get("byteOffset", 0), view["byteLength"]
        piece = self._buffers[number][start : start + length]
        if start < 0 or length < 0 or len(piece) < length:
            raise self.damaged("a buffer is cut off")
        return piece, view.get("byteStride", 0)

    def _plain(self, view: int, offset: int, kind: str, count: int, width: int) -> np.ndarray:
        data, stride = self.view(view)
        item = np.dtype(kind).itemsize * width
        stride = stride or item
        if offset < 0 or stride < item or (count and offset + stride * (count - 1) + item > len(data)):
            raise self.damaged("an accessor reaches beyond its buffer")
        shape, strides = (count, width), (stride, np.dtype(kind).itemsize)
        return np.ndarray(shape, kind, data, offset, strides).copy()

    def accessor(self, index: int) -> np.ndarray:
        """The values of one accessor as an array (count, width); sparse ones are filled in."""
        accessor = self.document["accessors"][index]
        kind, width = _COMPONENTS[accessor["componentType"]], _WIDTHS[accessor["type"]]
        count = accessor["count"]
        if not 0 <= count <= 3 * MAX_TRIANGLES:
            raise self.damaged(f"an accessor claims {count} values")
        if "bufferView" in accessor:
            values = self._plain(accessor["bufferView"], accessor.get("byteOffset", 0), kind, count, width)
        else:
            values = np.zeros((count, width), kind)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            where, what, few = sparse["indices"], sparse["values"], sparse["count"]
            picked = self._plain(
                where["bufferView"], where.get("byteOffset", 0), _COMPONENTS[where["componentType"]], few, 1
            )
            if few and picked.max() >= count:
                raise self.damaged("a sparse accessor names a value that does not exist")
            values[picked[:, 0]] = self._plain(
                what["bufferView"], what.get("byteOffset", 0), kind, few, width
            )
        if accessor.get("normalized"):
            return values.astype(np.float32) / np.iinfo(np.dtype(kind)).max
        return values

    def image(self, index: int) -> UInt8[np.ndarray, "row column 3"]:
        """The pixels of one image, embedded or beside the file."""
        image = self.document["images"][index]
        content = self.view(image["bufferView"])[0] if "bufferView" in image else self._uri(image["uri"])
        return decode_image(io.BytesIO(content), self.path)

    def placed(self) -> Iterator[tuple[str, dict[str, Any], np.ndarray]]:
        """Every mesh of the scene: its name, its JSON and the 4x4 matrix that places it."""
        nodes = self.document.get("nodes", [])
        scenes = self.document.get("scenes", [])
        roots = scenes[self.document.get("scene", 0)].get("nodes", []) if scenes else range(len(nodes))
        stack = [(number, np.eye(4)) for number in roots]
        seen: set[int] = set()
        while stack:
            number, matrix = stack.pop(0)
            if number in seen:
                continue
            seen.add(number)
            node = nodes[number]
            matrix = matrix @ _local_matrix(node)
            if "mesh" in node:
                mesh = self.document["meshes"][node["mesh"]]
                yield node.get("name") or mesh.get("name") or f"mesh{number}", mesh, matrix
            stack.extend((child, matrix) for child in node.get("children", []))


def _local_matrix(node: Mapping[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(node.get("scale", (1.0, 1.0, 1.0)))
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix


def read_glb(path: Path) -> RawMesh:
    """All triangle primitives of a .glb or .gltf scene in one mesh, with the first base-colour texture."""
    reader = GltfReader(path)
    try:
        return _merge(reader)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise reader.damaged(f"its structure is broken ({type(error).__name__}: {error})") from error


def _merge(reader: GltfReader) -> RawMesh:
    positions: list[np.ndarray] = []
    triangles: list[np.ndarray] = []
    uvs: list[np.ndarray] = []
    groups: dict[str, tuple[int, int]] = {}
    texture: np.ndarray | None = None
    vertices = faces = 0
    for name, mesh, matrix in reader.placed():
        start = faces
        for primitive in mesh["primitives"]:
            if primitive.get("mode", 4) != 4:
                continue  # points and lines have no surface
            attributes = primitive["attributes"]
            points = reader.accessor(attributes["POSITION"]).astype(np.float64)
            indices = (
                reader.accessor(primitive["indices"]) if "indices" in primitive else np.arange(len(points))
            )
            flat = indices.ravel().astype(np.int64)
            corners = flat[: len(flat) // 3 * 3].reshape(-1, 3)
            if len(corners) and corners.max() >= len(points):
                raise reader.damaged("a triangle names a vertex that does not exist")
            positions.append(points @ matrix[:3, :3].T + matrix[:3, 3])
            triangles.append(corners + vertices)
            coordinates = attributes.get("TEXCOORD_0")
            uvs.append(
                reader.accessor(coordinates) if coordinates is not None else np.zeros((len(points), 2))
            )
            texture = texture if texture is not None else _base_colour(reader, primitive)
            vertices, faces = vertices + len(points), faces + len(corners)
            if vertices > MAX_VERTICES or faces > MAX_TRIANGLES:
                raise InvalidInputError(f"{reader.path}: has over {MAX_VERTICES} vertices: simplify the mesh")
        if faces > start and name not in groups:
            groups[name] = (start, faces)
    if not positions:
        raise InvalidInputError(f"{reader.path}: holds no triangles: export it again as a mesh")
    points = np.concatenate(positions).astype(np.float32)
    corners = np.concatenate(triangles).astype(np.int32)
    _checked(reader.path, points, corners)
    coordinates = np.concatenate(uvs).astype(np.float32)
    picture = GREY if texture is None else texture
    return RawMesh(positions=points, triangles=corners, uvs=coordinates, texture=picture, groups=groups)


def _base_colour(
    reader: GltfReader, primitive: Mapping[str, Any]
) -> UInt8[np.ndarray, "row column 3"] | None:
    if "material" not in primitive:
        return None
    material = reader.document["materials"][primitive["material"]]
    reference = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
    if reference is None:
        return None
    source = reader.document["textures"][reference["index"]].get("source")
    return None if source is None else reader.image(source)
