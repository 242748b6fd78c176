"""Points from files and from other trackers, and crops that lead back to pixels."""

import json
import types
from pathlib import Path

import numpy as np
import pytest

from affetto.generators.portrait.crops import Crop, Pyramid
from affetto.generators.portrait.landmark_files import (
    MEDIAPIPE_68,
    face_alignment_finder,
    mediapipe_finder,
    read_landmarks,
)
from affetto.runtime.errors import InvalidInputError, MissingResourceError

MARKS = Path(__file__).parent / "marks" / "astronaut.json"


@pytest.fixture
def points():
    return np.array(json.loads(MARKS.read_text())["points"])


@pytest.mark.parametrize("form", ["list", "object", "csv", "csv with heading and numbers"])
def test_every_form_of_file_gives_the_same_points(points, form, tmp_path):
    path = tmp_path / ("points.csv" if "csv" in form else "points.json")
    if form == "list":
        path.write_text(json.dumps(points.tolist()))
    elif form == "object":
        path.write_text(json.dumps({"source": "me", "points": points.tolist()}))
    elif form == "csv":
        path.write_text("\n".join(f"{x},{y}" for x, y in points))
    else:
        path.write_text("n,x,y\n" + "\n".join(f"{k},{x},{y}" for k, (x, y) in enumerate(points)))
    face = read_landmarks(path, (512, 512))
    assert np.allclose(face.points, points, atol=1e-4)
    assert face.confidence == 1.0
    assert 0 < face.variance.max() < 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[1, 2], [3, 4]]", "holds 2 points"),
        ("{}", "no list of points"),
        ("[1, 2", "not JSON"),
        ("x,y\n1,a\n", "two numbers"),
        (json.dumps([[1000 + k, 5000] for k in range(68)]), "do not lie on the picture"),
        (json.dumps([[1, 1]] * 68), "do not lie on the picture"),
    ],
)
def test_a_file_of_anything_else_is_refused_in_one_line(text, words, tmp_path):
    path = tmp_path / "points.txt"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=words) as caught:
        read_landmarks(path, (512, 512))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_crop_shows_what_lies_at_its_places():
    rng = np.random.default_rng(0)
    image = np.asarray(rng.integers(0, 255, (200, 240, 3)), np.uint8)
    image[:] = np.linspace(0, 255, 240)[None, :, None].astype(np.uint8)  # brightness tells the column
    pyramid = Pyramid(image)
    for crop in (
        Crop(centre=(120.0, 100.0), side=64.0),
        Crop(centre=(120.0, 100.0), side=64.0, turn=0.5),
        Crop(centre=(100.0, 90.0), side=150.0, turn=-0.7, mirrored=True),
    ):
        square = pyramid.cut(crop, 32)
        places = (np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1).reshape(-1, 2) + 0.5) / 32
        columns = crop.to_picture(places)[:, 0]
        seen = (square[0].reshape(-1) + 1) * 127.5
        expected = np.interp(columns - 0.5, np.arange(240), np.linspace(0, 255, 240))
        assert np.abs(seen - expected).mean() < 2.0


def test_a_crop_beyond_the_edge_repeats_it():
    pyramid = Pyramid(np.full((50, 50, 3), 200, np.uint8))
    square = pyramid.cut(Crop(centre=(0.0, 0.0), side=60.0), 16)
    assert np.abs((square + 1) * 127.5 - 200).max() < 1


class _FakeTracker:
    def __init__(self, kind, device, flip_input):
        assert kind == "2d"

    def get_landmarks(self, image):
        small = np.tile(np.arange(68)[:, None], (1, 3)).astype(float)
        return [small, small * 2]


def test_face_alignment_gives_faces_the_largest_first():
    module = types.SimpleNamespace(
        FaceAlignment=_FakeTracker, LandmarksType=types.SimpleNamespace(TWO_D="2d")
    )
    faces = face_alignment_finder(module=module)(np.zeros((8, 8, 3), np.uint8))
    assert [face.points[1, 0] for face in faces] == [2.5, 1.5]


def test_face_alignment_without_models_says_so():
    def broken(*_args, **_kwargs):
        raise OSError("no connection")

    module = types.SimpleNamespace(FaceAlignment=broken, LandmarksType=types.SimpleNamespace(TWO_D="2d"))
    with pytest.raises(MissingResourceError, match="no models"):
        face_alignment_finder(module=module)


def test_mediapipe_gives_pixels_of_the_68_vertices(tmp_path):
    model = tmp_path / "face_landmarker.task"
    model.write_bytes(b"x")
    mesh = [types.SimpleNamespace(x=k / 1000, y=k / 500) for k in range(478)]
    landmarker = types.SimpleNamespace(detect=lambda image: types.SimpleNamespace(face_landmarks=[mesh]))
    vision = types.SimpleNamespace(
        FaceLandmarkerOptions=lambda base_options, num_faces: (base_options, num_faces),
        FaceLandmarker=types.SimpleNamespace(create_from_options=lambda options: landmarker),
    )
    module = types.SimpleNamespace(
        tasks=types.SimpleNamespace(vision=vision, BaseOptions=lambda model_asset_path: model_asset_path),
        Image=lambda image_format, data: data,
        ImageFormat=types.SimpleNamespace(SRGB=1),
    )
    (face,) = mediapipe_finder(model, module=module)(np.zeros((100, 200, 3), np.uint8))
    assert len(set(MEDIAPIPE_68)) == 68
    assert np.allclose(
        face.points[30], [MEDIAPIPE_68[30] / 1000 * 200, MEDIAPIPE_68[30] / 500 * 100], atol=1e-3
    )


def test_mediapipe_without_its_file_says_so(tmp_path):
    with pytest.raises(MissingResourceError, match="download"):
        mediapipe_finder(tmp_path / "none.task", module=types.SimpleNamespace())
