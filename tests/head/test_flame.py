"""FLAME: the published layout loads, skinning does what the joints say, and hostile pickles run nothing."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
from scipy import sparse

from affetto.head.flame import load_flame
from affetto.head.render import open_renderer
from affetto.head.stage import Camera
from affetto.runtime.errors import InvalidInputError, UsageError
from tests.head.shapes import sphere

MODES = 320


class Ch:
    """What chumpy's array class looks like to pickle."""

    def __init__(self, x):
        self.x = x


Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"


@pytest.fixture
def chumpy(monkeypatch):
    """A module named chumpy.ch while the test pickle is written, as at the publisher's; gone when it is read."""
    module = types.ModuleType("chumpy.ch")
    module.Ch = Ch
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
        patch.setitem(sys.modules, "chumpy.ch", module)
        yield


def arrays() -> dict:
    """A tiny random model of the published layout; the lower half follows the jaw."""
    ball = sphere(rings=6)
    count = len(ball.positions)
    rng = np.random.default_rng(1)
    weights = np.zeros((count, 5))
    lower = ball.positions[:, 1] < -0.03
    weights[lower, 2], weights[~lower, 1] = 1.0, 1.0
    regressor = np.zeros((5, count))
    regressor[np.arange(5), rng.integers(0, count, 5)] = 1.0
    return {
        "v_template": ball.positions.astype(np.float64),
        "f": ball.triangles.astype(np.uint32),
        "shapedirs": rng.normal(0, 0.001, (count, 3, MODES)),
        "posedirs": np.zeros((count, 3, 36)),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }


@pytest.fixture
def model_file(tmp_path, chumpy):
    content = arrays()
    content["shapedirs"] = Ch(content["shapedirs"])
    content["J_regressor"] = sparse.csc_matrix(content["J_regressor"])
    content["bs_style"] = "lbs"
    path = tmp_path / "flame.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def test_a_published_pickle_loads(model_file):
    model, wanted = load_flame(model_file), arrays()
    assert np.allclose(model.shapedirs, wanted["shapedirs"])
    assert np.allclose(model.J_regressor, wanted["J_regressor"])
    assert model.parents.tolist() == [-1, 0, 1, 1, 1]
    assert model.expressions == MODES - 300


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_other_containers_give_the_same_model(model_file, tmp_path, suffix):
    model, path = load_flame(model_file), tmp_path / f"model{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays())
    else:
        model.save(path)
    again = load_flame(path)
    assert np.array_equal(again.shapedirs, model.shapedirs)
    assert np.array_equal(again.f, model.f)


def test_at_rest_the_vertices_are_the_template(model_file):
    model = load_flame(model_file)
    still = model.vertices(expression=np.zeros((2, 0)))
    assert np.allclose(still, model.v_template, atol=1e-6)


def test_an_expression_adds_its_mode(model_file):
    model = load_flame(model_file)
    moved = model.vertices(expression=np.array([[0.0, 2.0]]))[0]
    assert np.allclose(moved - model.v_template, 2.0 * model.shapedirs[..., 301], atol=1e-5)


def test_the_jaw_turns_its_vertices_about_its_joint_and_no_others(model_file):
    model = load_flame(model_file)
    pose = np.zeros((1, 5, 3))
    pose[0, 2, 0] = 0.3
    moved = model.vertices(expression=np.zeros((1, 0)), pose=pose)[0]
    jaw = model.weights[:, 2] > 0.5
    assert np.allclose(moved[~jaw], model.v_template[~jaw], atol=1e-6)
    joint = model.J_regressor[2] @ model.v_template
    assert np.allclose(
        np.linalg.norm(moved[jaw] - joint, axis=1),
        np.linalg.norm(model.v_template[jaw] - joint, axis=1),
        atol=1e-5,
    )
    assert not np.allclose(moved[jaw], model.v_template[jaw], atol=1e-3)


def test_the_root_carries_everything_rigidly(model_file):
    model = load_flame(model_file)
    pose = np.zeros((1, 5, 3))
    pose[0, 0, 1] = np.pi / 2
    moved = model.vertices(expression=np.zeros((1, 0)), pose=pose)[0]
    joint = model.J_regressor[0] @ model.v_template
    x, y, z = (model.v_template - joint).T
    assert np.allclose(moved, np.stack([z, y, -x], axis=1) + joint, atol=1e-5)


def test_flame_renders(model_file):
    model = load_flame(model_file)
    surface = model.surface()
    renderer = open_renderer(surface, size=(64, 64), backend="numba", camera=Camera.around(surface.positions))
    picture = renderer.frame(model.vertices(expression=np.zeros((1, 5)))[0])
    assert picture[32, 32, 0] > picture[32, 32, 2]


class Malice:
    """Unpickling this calls os.system."""

    def __reduce__(self):
        return os.system, ("touch /tmp/affetto-was-here",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_in_one_line(tmp_path, protocol, monkeypatch):
    called = []
    monkeypatch.setattr(os, "system", called.append)
    path = tmp_path / "flame.pkl"
    payload = pickle.dumps({"v_template": Malice()}, protocol=protocol)
    path.write_bytes(payload)
    with pytest.raises(InvalidInputError, match="refused, the pickle wants to load") as caught:
        load_flame(path)
    assert "\n" not in str(caught.value)
    assert not called


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nfromfile\n.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"ccopyreg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
    ],
)
def test_other_doors_are_shut(tmp_path, opcodes):
    path = tmp_path / "flame.pkl"
    path.write_bytes(opcodes)
    with pytest.raises(InvalidInputError, match=r"flame\.pkl: (refused|not a readable)"):
        load_flame(path)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps([1, 2]), pickle.dumps({})])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    path = tmp_path / "flame.pkl"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"flame\.pkl: "):
        load_flame(path)


def test_a_truncated_pickle_is_refused(model_file):
    model_file.write_bytes(model_file.read_bytes()[:-2000])
    with pytest.raises(InvalidInputError, match="damaged"):
        load_flame(model_file)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("f", np.full((4, 3), 10_000), "point outside"),
        ("weights", np.zeros((3, 5)), r"weights has shape \(3, 5\)"),
        ("kintree_table", np.array([[-1, 3, 1, 1, 1], [0, 1, 2, 3, 4]]), "point outside"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, name, value, message):
    path = tmp_path / "flame.npz"
    np.savez(path, **{**arrays(), name: value})
    with pytest.raises(InvalidInputError, match=message):
        load_flame(path)


def test_a_sparse_matrix_that_points_outside_is_refused(tmp_path):
    content = arrays()
    matrix = sparse.csc_matrix(content["J_regressor"])
    matrix.indices[:] = 1_000_000
    path = tmp_path / "flame.pkl"
    path.write_bytes(pickle.dumps({**content, "J_regressor": matrix}))
    with pytest.raises(InvalidInputError, match="J_regressor is damaged"):
        load_flame(path)


def test_too_many_expression_values_are_refused(model_file):
    with pytest.raises(UsageError, match="30 expression values given, this FLAME has 20"):
        load_flame(model_file).vertices(expression=np.zeros((1, 30)))


def test_a_missing_file_and_a_strange_suffix_are_named(tmp_path):
    with pytest.raises(InvalidInputError, match="no such file"):
        load_flame(tmp_path / "absent.pkl")
    (tmp_path / "flame.txt").write_text("x")
    with pytest.raises(InvalidInputError, match=r"use \.pkl, \.npz or \.safetensors"):
        load_flame(tmp_path / "flame.txt")
