"""The embedded finder on real photographs, as they are, turned, tiled, and on pictures without a face."""

import json
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image
from skimage import data

from affetto.generators.portrait.detect import CONFIDENCE, FaceFinder
from affetto.generators.portrait.fit import fit_face
from affetto.generators.portrait.landmark_net import LandmarkNet
from affetto.head.landmarks68 import eye_distance
from affetto.head.model import HeadModel

MARKS = Path(__file__).parent / "marks"


@pytest.fixture(scope="module")
def finder():
    return FaceFinder.from_pretrained(device="cpu")


def _photo(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A public-domain portrait and the points marked on it by hand."""
    if name == "astronaut":
        image = data.astronaut()
    else:
        image = np.asarray(Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")).convert("RGB"))
    return image, np.array(json.loads((MARKS / f"{name}.json").read_text())["points"])


@pytest.mark.parametrize(("name", "bar"), [("astronaut", 0.045), ("grace_hopper", 0.06)])
def test_photographs_are_found_close_to_the_marks_of_a_hand(finder, name, bar):
    image, marks = _photo(name)
    (face,) = finder(image)
    far = np.linalg.norm(face.points - marks, axis=1) / eye_distance(marks)
    assert far[27:].mean() < bar  # nose, eyes and lips; the jaw's points lie behind its outline
    assert face.confidence > 0.75
    assert abs(np.degrees(face.pose[0])) < 12
    assert (
        0.2 < np.sqrt(face.variance.mean()) / (far.mean() * eye_distance(marks)) < 5
    )  # it knows how sure it is
    fit = fit_face(face, HeadModel.load(), (image.shape[1], image.shape[0]))
    assert fit.rms * 256 / (1.33 * face.size) < 1.5


def test_a_tilted_head_is_found_where_it_lies(finder):
    image, marks = _photo("grace_hopper")
    tilted = np.asarray(Image.fromarray(image).rotate(30, fillcolor=(120, 120, 120)))
    (face,) = finder(tilted)
    turn = np.radians(30)
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    expected = (marks - middle) @ rotation.T + middle
    far = np.linalg.norm(face.points - expected, axis=1) / eye_distance(marks)
    assert far[27:].mean() < 0.07
    assert 25 < np.degrees(face.pose[2]) < 40


def test_three_people_are_three_faces_the_largest_first(finder):
    image = data.astronaut()[40:230, 130:320]
    faces = finder(np.concatenate([image, image[:, ::-1], image], axis=1))
    assert len(faces) == 3
    assert faces[0].size >= faces[1].size >= faces[2].size
    assert sorted(int(face.points[30, 0] // 190) for face in faces) == [0, 1, 2]


def test_a_large_picture_gives_the_same_face_as_a_small_one(finder):
    image, _ = _photo("astronaut")
    large = np.asarray(Image.fromarray(image).resize((1536, 1536), Image.Resampling.BICUBIC))
    (small_face,), (large_face,) = finder(image), finder(large)
    apart = np.linalg.norm(large_face.points / 3 - small_face.points, axis=1)
    assert apart.mean() / small_face.eye_distance < 0.02


@pytest.mark.parametrize("kind", ["wall", "noise", "cup"])
def test_no_face_is_seen_where_there_is_none(finder, kind):
    pictures = {
        "wall": np.full((200, 200, 3), 150, np.uint8),
        "noise": np.random.default_rng(3).integers(0, 255, (200, 200, 3)).astype(np.uint8),
        "cup": data.coffee()[::2, ::2],
    }
    assert finder(np.ascontiguousarray(pictures[kind])) == []
    assert CONFIDENCE == 0.5


def test_the_network_stays_small():
    parameters = sum(tensor.numel() for tensor in LandmarkNet.from_pretrained().parameters())
    assert parameters <= 3_000_000
