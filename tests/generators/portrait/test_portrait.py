"""Choosing, framing and remembering faces, with a finder that is told what is there."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from affetto.generators.portrait.landmark_files import given_landmarks
from affetto.generators.portrait.portrait import (
    MIN_FACE,
    choose_face,
    describe_faces,
    faces_folder,
    find_faces,
    read_portrait,
)
from affetto.head.landmarks68 import mirrored
from affetto.head.model import HeadModel
from affetto.runtime.errors import InvalidInputError, UsageError

MARKS = Path(__file__).parent / "marks" / "astronaut.json"


@pytest.fixture(scope="module")
def head():
    return HeadModel.load()


@pytest.fixture(scope="module")
def photo():
    return data.astronaut()


@pytest.fixture(scope="module")
def face():
    return given_landmarks(np.array(json.loads(MARKS.read_text())["points"]))


@pytest.fixture(scope="module")
def portrait(photo, face, head):
    return read_portrait(photo, lambda _: [face], head)


def _scaled(face, factor, shift=(0.0, 0.0)):
    points = (face.points * factor + np.array(shift)).astype(np.float32)
    return dataclasses.replace(face, points=points)


def test_the_only_face_is_taken_and_fitted_within_the_bar(portrait, photo, face):
    assert portrait.landmarks is face
    assert portrait.fit.rms * 256 / (1.33 * face.size) < 2.5
    assert portrait.image is photo


def test_no_face_is_said_in_one_line_with_a_mend(photo, head):
    with pytest.raises(InvalidInputError, match=r"no face found.*--landmarks") as caught:
        read_portrait(photo, lambda _: [], head)
    assert "\n" not in str(caught.value)


def test_several_faces_are_listed_and_one_is_chosen_by_number(face):
    faces = [face, _scaled(face, 0.9, (5, 200)), _scaled(face, 0.8, (200, 200))]
    with pytest.raises(InvalidInputError, match=r"3 faces found \(1 at .*3 at .*--face N"):
        choose_face(faces, "group.jpg")
    assert choose_face(faces, "group.jpg", face=2) is faces[1]
    with pytest.raises(InvalidInputError, match="there is no face 4"):
        choose_face(faces, "group.jpg", face=4)


def test_a_face_far_larger_than_the_others_is_the_one_meant(face):
    assert choose_face([face, _scaled(face, 0.3)], "photo.jpg") is face


def test_a_long_list_is_cut_short(face):
    assert describe_faces([face] * 12).endswith(", ...)")


def test_a_small_face_is_refused_with_its_size(photo, face, head):
    small = _scaled(face, 0.55)
    with pytest.raises(InvalidInputError, match=f"pixels tall, {MIN_FACE} are needed"):
        read_portrait(photo, lambda _: [small], head)


def test_a_profile_is_refused(photo, head):
    weights = np.zeros(52, np.float32)
    from affetto.head.landmarks68 import landmarks_of
    from affetto.head.rotation import euler_matrix

    turned = landmarks_of(head.deform(weights)[0]) @ euler_matrix(np.radians([60.0, 0.0, 0.0])).T
    points = 250 + turned[:, :2] * [1, -1] * 1000
    given = dataclasses.replace(given_landmarks(points), pose=(np.radians(60.0), 0.0, 0.0))
    with pytest.raises(InvalidInputError, match=r"turned .* degrees aside"):
        read_portrait(photo, lambda _: [given], head)


def test_points_that_make_no_face_are_refused(photo, face, head):
    rng = np.random.default_rng(0)
    scrambled = dataclasses.replace(face, points=rng.permutation(face.points))
    with pytest.raises(InvalidInputError):
        read_portrait(photo, lambda _: [scrambled], head)


def test_face_and_landmarks_exclude_each_other(photo, face, head):
    with pytest.raises(UsageError, match="not by both"):
        read_portrait(photo, lambda _: [face], head, face=1, landmarks=face)


@pytest.mark.parametrize(("frame", "ratio"), [("9:16", 9 / 16), ("16:9", 16 / 9), ("1:1", 1.0), ("4:5", 0.8)])
def test_a_cut_has_its_shape_and_holds_the_face(portrait, photo, face, frame, ratio):
    cut = portrait.framed(frame)
    height, width = cut.image.shape[:2]
    assert width / height == pytest.approx(ratio, abs=0.02)
    left, top, right, bottom = cut.landmarks.box
    assert 0 < left < right < width
    assert 0 < top < bottom < height
    x, y = cut.landmarks.points[30].astype(int)
    u, v = face.points[30].astype(int)
    assert (cut.image[y, x] == photo[v, u]).all()  # the same pixel under the tip of the nose
    vertex = np.zeros((1, 3), np.float32)
    moved = portrait.fit.project(vertex) - cut.fit.project(vertex)
    assert np.allclose(moved, face.points[30] - cut.landmarks.points[30], atol=1e-3)  # the head moves along


def test_the_whole_picture_is_kept_unless_a_cut_is_asked_for(portrait):
    assert portrait.framed("whole") is portrait
    with pytest.raises(UsageError, match="no frame"):
        portrait.framed("3:7")


def test_a_mirrored_picture_gives_the_mirrored_fit(portrait, photo, face, head):
    plain = portrait
    turned = dataclasses.replace(face, points=mirrored(face.points, float(photo.shape[1])))
    other = read_portrait(np.ascontiguousarray(photo[:, ::-1]), lambda _: [turned], head)
    assert other.fit.rms == pytest.approx(plain.fit.rms, rel=0.05)
    flip = np.diag([-1.0, 1.0, 1.0])
    assert np.abs(flip @ other.fit.rotation @ flip - plain.fit.rotation).max() < 0.03


def test_faces_are_found_once_and_remembered_by_their_pixels(photo, face, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    calls = []

    def finder(image):
        calls.append(image)
        return [face]

    first = find_faces(photo, finder, cache_key="a")
    again = find_faces(photo.copy(), finder, cache_key="a")
    assert len(calls) == 1
    assert np.allclose(first[0].points, again[0].points)
    assert again[0].confidence == face.confidence
    find_faces(photo, finder, cache_key="another model")
    find_faces(photo[:, ::-1], finder, cache_key="a")
    assert len(calls) == 3
    for stored in faces_folder().iterdir():
        stored.write_bytes(b"damaged")
    assert find_faces(photo, finder, cache_key="a")[0].confidence == 1.0
    assert len(calls) == 4


def test_finding_nothing_is_remembered_too(photo, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    calls = []
    for _ in range(2):
        assert find_faces(photo, lambda image: calls.append(image) or [], cache_key="a") == []
    assert len(calls) == 1
