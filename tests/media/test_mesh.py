"""Surfaces and the meshes users bring."""

import contextlib
import json
import struct

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from affetto.media.image import save_png
from affetto.media.mesh import Surface, load_mesh, vertex_normals
from affetto.runtime.errors import InvalidInputError, UsageError

CUBE = """# a unit square of two materials
mtllib look.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0.5 0.5 1 0.2 0.3 0.4
vt 0 0
vt 1 0
vt 1 1
vt 0 1
g front
f 1/1 2/2 3/3 4/4
o spike
f -5//1 -4 -1
s off
"""


def test_obj_faces_are_split_into_triangles_with_image_coordinates(tmp_path):
    (tmp_path / "a.obj").write_text(CUBE)
    surface = load_mesh(tmp_path / "a.obj")
    assert surface.triangles.tolist()[:2] == [[0, 1, 2], [0, 2, 3]]
    np.testing.assert_allclose(surface.positions[:4], [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_allclose(surface.uvs[:4], [[0, 1], [1, 1], [1, 0], [0, 0]])
    assert dict(surface.groups) == {"front": (0, 2), "spike": (2, 3)}
    np.testing.assert_allclose(surface.positions[surface.triangles[2]], [[0, 0, 0], [1, 0, 0], [0.5, 0.5, 1]])


def test_an_obj_finds_its_texture_beside_it_and_nowhere_else(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.obj").write_text(CUBE)
    pixels = np.full((4, 4, 3), 77, np.uint8)
    (folder / "look.mtl").write_text("newmtl skin\nmap_Kd ../skin.png\n")
    save_png(tmp_path / "skin.png", pixels)
    assert load_mesh(folder / "a.obj").texture[0, 0, 0] != 77
    (folder / "look.mtl").write_text("newmtl skin\nmap_Kd skin.png\n")
    save_png(folder / "skin.png", pixels)
    np.testing.assert_array_equal(load_mesh(folder / "a.obj").texture, pixels)


def test_gltf_written_by_another_library_is_read(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=2)
    scene = trimesh.Scene()
    scene.add_geometry(
        ball, node_name="ball", transform=trimesh.transformations.translation_matrix([1, 2, 3])
    )
    scene.export(tmp_path / "a.glb")
    surface = load_mesh(tmp_path / "a.glb")
    assert len(surface.triangles) == len(ball.faces)
    np.testing.assert_allclose(surface.positions.mean(axis=0), [1, 2, 3], atol=1e-5)


def test_gltf_with_a_file_beside_it_is_read(tmp_path):
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4")
    (tmp_path / "a.bin").write_bytes(points.tobytes())
    document = {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0, "rotation": [0, 0, 0.7071068, 0.7071068]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36, "uri": "a.bin"}],
    }
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    np.testing.assert_allclose(load_mesh(tmp_path / "a.gltf").positions[1], [0, 1, 0], atol=1e-6)
    document["buffers"][0]["uri"] = "../../etc/hostname"
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    with pytest.raises(InvalidInputError, match="not beside it"):
        load_mesh(tmp_path / "a.gltf")


def glb(document: object, binary: bytes = b"", claim: int | None = None) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text
    body += struct.pack("<II", len(binary), 0x004E4942) + binary if binary else b""
    return struct.pack("<III", 0x46546C67, 2, claim or 12 + len(body)) + body


def triangle(**changes: object) -> dict:
    accessor = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", **changes}
    return {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [accessor],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
    }


NOUGHT = b"\0" * 36
BAD = {
    "missing.obj": (None, "no such file"),
    "empty.obj": (b"", "empty"),
    "noise.obj": (b"\x00\xff\x13" * 100, "no triangles"),
    "points.obj": (b"v 0 0 0\nv 1 1 1\n", "no triangles"),
    "word.obj": (b"v 0 zero 0\n", "line 1"),
    "index.obj": (b"v 0 0 0\nf 1 2 3\n", "line 2"),
    "nan.obj": (b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not a number"),
    "line.obj": (b"v 0 0 0\nv 1 0 0\nf 1 2\n", "three corners"),
    "text.glb": (b"hello there, this is text", "not a glTF"),
    "cut.glb": (glb(triangle(), NOUGHT)[:-8], "cut off"),
    "no-json.glb": (glb("x"), "not glTF"),
    "beyond.glb": (glb(triangle(count=4), NOUGHT), "beyond its buffer"),
    "billions.glb": (glb(triangle(count=2**40), NOUGHT), "claims"),
    "negative.glb": (glb(triangle(count=-1), NOUGHT), "claims"),
    "no-accessor.glb": (glb({**triangle(), "accessors": []}, NOUGHT), "structure is broken"),
    "no-mesh.glb": (glb({"asset": {"version": "2.0"}}), "no triangles"),
    "mesh.fbx": (b"Kaydara", "use .obj"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_mesh_is_refused_in_one_line(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_mesh(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from([".obj", ".glb", ".gltf"]))
def test_random_bytes_never_crash_a_reader(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / f"random{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError):
        load_mesh(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**33) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mesh", "count", "buffer"]), inner)
    ),
    max_leaves=4,
)


@given(st.sampled_from(sorted(triangle())), st.booleans(), st.integers(0, 9), JSON)
def test_a_twisted_gltf_is_read_or_refused_but_never_crashes(tmp_path_factory, key, inside, pick, value):
    document = triangle()
    if inside and document[key] and isinstance(document[key], list):
        entry = document[key][0]
        entry[sorted(entry)[pick % len(entry)]] = value
    else:
        document[key] = value
    path = tmp_path_factory.getbasetemp() / "twisted.glb"
    path.write_bytes(glb(document, NOUGHT))
    with contextlib.suppress(InvalidInputError):
        assert len(load_mesh(path).triangles) == 1


def test_normals_of_a_ball_point_outwards(small_head):
    ball = np.unique(small_head.surface.triangles[:700])  # the seams at the poles belong to no triangle
    normals = small_head.surface.normals()[ball]
    outward = small_head.surface.positions[ball] - [0, -0.03, -0.08]
    assert ((normals * outward).sum(axis=1) / np.linalg.norm(outward, axis=1)).min() > 0.95


def test_a_vertex_of_no_triangle_gets_a_unit_normal():
    normals = vertex_normals(np.zeros((4, 3), np.float32), np.array([[0, 1, 2]]))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)


def test_a_surface_with_a_wrong_index_is_refused():
    with pytest.raises(UsageError, match="outside"):
        Surface(
            positions=np.zeros((3, 3), np.float32),
            triangles=np.array([[0, 1, 3]], np.int32),
            uvs=np.zeros((3, 2), np.float32),
            texture=np.zeros((1, 1, 3), np.uint8),
            gloss=np.zeros(3, np.float32),
        )
