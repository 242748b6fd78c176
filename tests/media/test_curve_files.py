"""JSON, NPZ, USD and the choice by suffix."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from affetto.media.animation.curve_files import read_json, read_npz, write_json, write_npz
from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.media.animation.files import CURVE_SUFFIXES, load_curves, save_curves
from affetto.media.animation.parts import split_mesh
from affetto.media.animation.rotations import rotation_matrices
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError


@st.composite
def curves(draw) -> FaceCurves:
    frames = draw(st.integers(1, 12))
    values = draw(hnp.arrays(np.float32, (frames, 59), elements=st.floats(-4, 4, width=32)))
    return FaceCurves(
        fps=draw(st.sampled_from([24.0, 25.0, 29.97, 30.0, 60.0])),
        weights=values[:, :52],
        head=values[:, 52:55],
        eyes=values[:, 55:].reshape(frames, 2, 2),
        meta=draw(
            st.dictionaries(
                st.text("abc", min_size=1), st.one_of(st.integers(), st.text(max_size=5)), max_size=3
            )
        ),
    )


@given(curves())
@settings(max_examples=25, deadline=None)
def test_npz_keeps_every_bit(tmp_path_factory, performance):
    path = write_npz(tmp_path_factory.mktemp("npz") / "a.npz", performance)
    back = read_npz(path)
    assert (back.fps, dict(back.meta)) == (performance.fps, dict(performance.meta))
    for name in ("weights", "head", "eyes"):
        np.testing.assert_array_equal(getattr(back, name), getattr(performance, name))


@given(curves())
@settings(max_examples=25, deadline=None)
def test_json_keeps_six_decimals(tmp_path_factory, performance):
    path = write_json(tmp_path_factory.mktemp("json") / "a.json", performance)
    back = read_json(path)
    assert (back.fps, dict(back.meta)) == (performance.fps, dict(performance.meta))
    for name in ("weights", "head", "eyes"):
        np.testing.assert_allclose(getattr(back, name), getattr(performance, name), atol=1e-6)


@pytest.mark.parametrize("suffix", CURVE_SUFFIXES)
def test_the_same_performance_gives_the_same_bytes(tmp_path, performance, suffix):
    files = [save_curves(tmp_path / f"{n}{suffix}", performance).read_bytes() for n in range(2)]
    assert files[0] == files[1]
    back = load_curves(tmp_path / f"0{suffix}")
    np.testing.assert_allclose(back.weights, performance.weights, atol=1e-6)
    np.testing.assert_allclose(back.eyes, performance.eyes, atol=1e-6)


def test_json_shows_emotion_where_other_programs_look(tmp_path, performance):
    document = json.loads(write_json(tmp_path / "a.json", performance).read_text())
    assert document["names"] == list(ARKIT_52)
    assert (document["fps"], len(document["frames"])) == (25.0, 75)
    assert document["emotion"][0]["label"] == "happy"
    assert document["meta"] == {"seed": 7}


def test_json_of_another_program_is_read_by_name(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps({"fps": 30, "names": ["JawOpen", "neckTurn"], "frames": [[0.5, 9], [0.25, 9]]})
    )
    back = load_curves(path)
    np.testing.assert_allclose(back.channel("jawOpen"), [0.5, 0.25])
    assert back.weights.sum() == pytest.approx(0.75)


BAD_JSON = {
    "empty": ("", "empty"),
    "cut": ('{"fps": 30, "names": [', "not JSON"),
    "deep": ("[" * 200_000, "not JSON"),
    "a list": ("[1, 2]", "needs fps"),
    "no frames": ('{"fps": 30, "names": []}', "needs fps"),
    "fps zero": ('{"fps": 0, "names": ["jawOpen"], "frames": []}', "fps must be"),
    "fps text": ('{"fps": "30", "names": ["jawOpen"], "frames": []}', "fps must be"),
    "foreign names": ('{"fps": 30, "names": ["A"], "frames": [[1]]}', "none of the 52"),
    "ragged": ('{"fps": 30, "names": ["jawOpen"], "frames": [[1], [1, 2]]}', "not a table"),
    "too narrow": ('{"fps": 30, "names": ["jawOpen", "b"], "frames": [[1]]}', "shape"),
    "NaN": ('{"fps": 30, "names": ["jawOpen"], "frames": [[NaN]]}', "NaN"),
    "short head": ('{"fps": 30, "names": ["jawOpen"], "frames": [[1]], "head": []}', "head has shape"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_refused_in_one_line(tmp_path, name):
    content, message = BAD_JSON[name]
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_curves(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def pickled(path) -> None:
    np.savez(path, weights=np.array([{"a": 1}], object))


def other_arrays(path) -> None:
    np.savez(path, x=np.zeros(3))


def narrow(path) -> None:
    np.savez(path, weights=np.zeros((3, 51)), head=np.zeros((3, 3)), eyes=np.zeros((3, 2, 2)), fps=30.0)


@pytest.mark.parametrize(
    "make", [pickled, other_arrays, narrow, lambda path: path.write_bytes(b"PK\3\4 nothing")]
)
def test_bad_npz_is_refused_in_one_line(tmp_path, make):
    path = tmp_path / "a.npz"
    make(path)
    with pytest.raises(InvalidInputError, match=r"a\.npz") as caught:
        load_curves(path)
    assert "\n" not in str(caught.value)


def test_suffixes_nobody_knows_are_refused(tmp_path, performance):
    with pytest.raises(UsageError, match=r"\.fbx"):
        save_curves(tmp_path / "a.fbx", performance)
    with pytest.raises(UsageError, match="needs a head"):
        save_curves(tmp_path / "a.glb", performance)
    with pytest.raises(InvalidInputError, match=r"\.glb"):
        load_curves(tmp_path / "a.glb")


def test_without_the_usd_package_the_message_says_what_to_install(
    tmp_path, small_head, performance, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.delitem(sys.modules, "pxr.Gf", raising=False)
    with pytest.raises(MissingResourceError, match=r"affetto\[usd\]"):
        save_curves(tmp_path / "a.usda", performance, small_head)
    assert list(tmp_path.iterdir()) == []


def test_usd_bakes_to_the_same_vertices(tmp_path, small_head, performance):
    skel = pytest.importorskip("pxr.UsdSkel")
    from pxr import Gf, Usd, UsdGeom

    short = performance.sliced(0, 4)
    first, second = (save_curves(tmp_path / f"{n}.usda", short, small_head) for n in range(2))
    assert first.read_bytes() == second.read_bytes()
    stage = Usd.Stage.Open(str(first))
    assert (stage.GetTimeCodesPerSecond(), stage.GetEndTimeCode()) == (25, 3)
    assert tuple(skel.Animation.Get(stage, "/Affetto/Performance").GetBlendShapesAttr().Get()) == ARKIT_52
    skel.BakeSkinning(skel.Root(stage.GetDefaultPrim()), Gf.Interval(0, 3))
    pivot = small_head.head_pivot
    posed = small_head.posed(short.weights[2])
    for side, centre in enumerate(small_head.eye_centres):
        eye = small_head.eye_vertices[side]
        posed[eye] = (posed[eye] - centre) @ rotation_matrices(short.eyes[2, side]).T + centre
    share = small_head.head_weights[:, None]
    expected = share * ((posed - pivot) @ rotation_matrices(short.head[2]).T + pivot) + (1 - share) * posed
    for part in split_mesh(small_head):
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"/Affetto/{part.name}"))
        points = np.array(mesh.GetPointsAttr().Get(2))
        matrix = np.array(mesh.ComputeLocalToWorldTransform(2))
        np.testing.assert_allclose(points @ matrix[:3, :3] + matrix[3, :3], expected[part.source], atol=1e-6)
