"""GLB files, read back by an independent library."""

import dataclasses

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from affetto.media.animation.curves import ARKIT_52
from affetto.media.animation.gltf import write_glb
from affetto.media.animation.parts import split_mesh, target_weights
from affetto.media.animation.rotations import quaternions, rotation_matrices
from affetto.media.mesh import load_mesh
from affetto.media.mesh_readers import GltfReader


@pytest.fixture(scope="module")
def written(small_head, performance, tmp_path_factory):
    """The tiny head with its performance."""
    return write_glb(tmp_path_factory.mktemp("glb") / "head.glb", small_head, performance)


def test_an_independent_reader_sees_face_and_eyes_in_place(written, small_head):
    scene = trimesh.load(written, force="scene")
    assert {"Head", "Face", "EyeLeft", "EyeRight"} <= set(scene.graph.nodes)
    assert tuple(scene.geometry["Face"].metadata["targetNames"]) == ARKIT_52
    merged = scene.to_geometry()
    assert len(merged.faces) == len(small_head.surface.triangles)
    bounds = [small_head.surface.positions.min(axis=0), small_head.surface.positions.max(axis=0)]
    np.testing.assert_allclose(merged.bounds, bounds, atol=1e-6)
    matrix, _ = scene.graph["EyeLeft"]
    np.testing.assert_allclose(matrix[:3, 3], small_head.eye_centres[0], atol=1e-6)


def test_the_file_has_52_named_animated_targets(written, performance):
    document = GltfReader(written).document
    face = next(mesh for mesh in document["meshes"] if mesh["name"] == "Face")
    assert tuple(face["extras"]["targetNames"]) == ARKIT_52
    assert len(face["primitives"][0]["targets"]) == len(face["weights"]) == 52
    animation = document["animations"][0]
    moved = {
        (document["nodes"][c["target"]["node"]]["name"], c["target"]["path"]) for c in animation["channels"]
    }
    assert moved == {("Face", "weights"), *((name, "rotation") for name in ("Head", "EyeLeft", "EyeRight"))}


def test_weights_and_rotations_come_back(written, performance):
    reader = GltfReader(written)
    samplers = reader.document["animations"][0]["samplers"]
    times = reader.accessor(samplers[0]["input"])[:, 0]
    np.testing.assert_allclose(times, performance.times, atol=1e-6)
    np.testing.assert_array_equal(reader.accessor(samplers[0]["output"]).reshape(-1, 52), performance.weights)
    np.testing.assert_allclose(
        reader.accessor(samplers[1]["output"]), quaternions(performance.head), atol=1e-6
    )


def test_every_target_moves_the_vertices_it_should(written, small_head):
    reader = GltfReader(written)
    face = next(mesh for mesh in reader.document["meshes"] if mesh["name"] == "Face")["primitives"][0]
    rest = reader.accessor(face["attributes"]["POSITION"])
    used = [int(np.abs(small_head.surface.positions - point).sum(axis=1).argmin()) for point in rest]
    np.testing.assert_allclose(small_head.surface.positions[used], rest, atol=1e-6)
    for shape in (0, 25, 51):
        delta = reader.accessor(face["targets"][shape]["POSITION"])
        expected = small_head.deltas[shape][used]
        np.testing.assert_allclose(delta, expected, atol=3e-6)


def test_the_file_obeys_the_alignment_and_bounds_rules_of_gltf(written):
    reader = GltfReader(written)
    document = reader.document
    assert written.stat().st_size % 4 == 0
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= document["buffers"][0]["byteLength"]
    primitives = [primitive for mesh in document["meshes"] for primitive in mesh["primitives"]]
    bounded = [primitive["attributes"]["POSITION"] for primitive in primitives]
    bounded += [target["POSITION"] for primitive in primitives for target in primitive.get("targets", [])]
    bounded += [sampler["input"] for sampler in document["animations"][0]["samplers"]]
    for index in bounded:
        values, accessor = reader.accessor(index), document["accessors"][index]
        np.testing.assert_array_equal(values.min(axis=0), np.array(accessor["min"], np.float32))
        np.testing.assert_array_equal(values.max(axis=0), np.array(accessor["max"], np.float32))
    for accessor in document["accessors"]:
        sparse = accessor.get("sparse")
        if sparse:
            assert 1 <= sparse["count"] <= accessor["count"]
            assert "target" not in document["bufferViews"][sparse["indices"]["bufferView"]]


def test_the_same_head_gives_the_same_bytes(small_head, performance, tmp_path):
    files = [write_glb(tmp_path / f"{n}.glb", small_head, performance).read_bytes() for n in range(2)]
    assert files[0] == files[1]
    assert b"pygltflib" not in files[0]


def test_morph_targets_are_stored_sparsely(small_head, performance, tmp_path, written):
    document = GltfReader(written).document
    dense = 52 * len(small_head.surface.positions) * 12
    stored = sum(
        document["bufferViews"][a["sparse"]["values"]["bufferView"]]["byteLength"]
        for a in document["accessors"]
        if "sparse" in a
    )
    assert stored < dense


def test_a_head_at_rest_has_no_animation(small_head, tmp_path):
    path = write_glb(tmp_path / "rest.glb", small_head, normals=False)
    document = GltfReader(path).document
    assert not document.get("animations")
    assert "NORMAL" not in document["meshes"][0]["primitives"][0]["targets"][0]


def test_our_own_reader_finds_the_texture_and_all_triangles(written, small_head):
    surface = load_mesh(written)
    assert len(surface.triangles) == len(small_head.surface.triangles)
    assert surface.texture.shape == small_head.surface.texture.shape
    assert {"Face", "EyeLeft", "EyeRight"} == set(surface.groups)


@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=1, max_size=5))
def test_quaternions_and_matrices_are_the_same_rotation(angles):
    angles = np.array(angles)
    for (x, y, z, w), matrix in zip(quaternions(angles), rotation_matrices(angles), strict=True):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
        from_quaternion = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        np.testing.assert_allclose(matrix, from_quaternion, atol=1e-9)


def test_positive_angles_turn_left_look_down_and_lift_the_left_ear():
    forward, left = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])
    yaw, pitch, roll = rotation_matrices(np.eye(3) * 0.3)
    assert (yaw @ forward)[0] > 0.2
    assert (pitch @ forward)[1] < -0.2
    assert (roll @ left)[1] > 0.2


def evaluated(path, frame: int) -> dict[str, np.ndarray]:
    """World positions of every mesh at one key, by the rules of the glTF 2.0 specification."""
    reader = GltfReader(path)
    document, animation = reader.document, reader.document["animations"][0]
    nodes = [dict(node) for node in document["nodes"]]
    for channel in animation["channels"]:
        values = reader.accessor(animation["samplers"][channel["sampler"]]["output"])
        target = channel["target"]
        keys = values.reshape(75, -1)
        nodes[target["node"]][target["path"]] = keys[frame].tolist()
    matrices = {}

    def place(number: int, parent: np.ndarray) -> None:
        matrix = np.eye(4)
        x, y, z, w = nodes[number].get("rotation", (0, 0, 0, 1))
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        matrix[:3, 3] = nodes[number].get("translation", (0, 0, 0))
        matrices[number] = parent @ matrix
        for child in nodes[number].get("children", []):
            place(child, matrices[number])

    for root in document["scenes"][0]["nodes"]:
        place(root, np.eye(4))
    result = {}
    for number, node in enumerate(nodes):
        if "mesh" not in node:
            continue
        primitive = document["meshes"][node["mesh"]]["primitives"][0]
        points = reader.accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        for weight, target in zip(node.get("weights", []), primitive.get("targets", []), strict=True):
            points += weight * reader.accessor(target["POSITION"])
        points = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        if "skin" not in node:
            result[node["name"]] = (points @ matrices[number].T)[:, :3]
            continue
        skin = document["skins"][node["skin"]]
        inverse = reader.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        joints = np.stack([matrices[joint] for joint in skin["joints"]]) @ inverse
        chosen = joints[reader.accessor(primitive["attributes"]["JOINTS_0"])]
        shares = reader.accessor(primitive["attributes"]["WEIGHTS_0"])
        result[node["name"]] = np.einsum("vj,vjab,vb->va", shares, chosen, points)[:, :3]
    return result


def test_a_viewer_that_follows_the_specification_sees_our_head(written, small_head, performance):
    frame = 20
    pivot, share = small_head.head_pivot, small_head.head_weights[:, None]
    posed = small_head.posed(performance.weights[frame]).astype(np.float64)
    for side, centre in enumerate(small_head.eye_centres):
        eye = small_head.eye_vertices[side]
        posed[eye] = (posed[eye] - centre) @ rotation_matrices(performance.eyes[frame, side]).T + centre
    turned = (posed - pivot) @ rotation_matrices(performance.head[frame]).T + pivot
    expected = share * turned + (1 - share) * posed
    seen = evaluated(written, frame)
    for part in split_mesh(small_head):
        # up to 52 moves of 2 µm each are left out
        np.testing.assert_allclose(seen[part.name], expected[part.source], atol=6e-5)


def test_shapes_that_a_corrective_undoes_are_held_back(small_head, performance):
    first, second = 0, 1
    undone = -0.75 * small_head.deltas[second] - 0.1 * small_head.deltas[first]
    mesh = dataclasses.replace(
        small_head, correctives=undone[None].astype(np.float32), corrective_pairs=np.array([[first, second]])
    )
    weights = target_weights(mesh, performance)
    both = performance.weights[:, first] * performance.weights[:, second]
    np.testing.assert_allclose(
        weights[:, second], np.maximum(performance.weights[:, second] - 0.75 * both, 0), atol=1e-4
    )
    np.testing.assert_array_equal(weights[:, 2:], performance.weights[:, 2:])
    np.testing.assert_array_equal(target_weights(small_head, performance), performance.weights)
