"""Expressions carried onto another mesh: the same mesh keeps them, others get them in their own scale and side."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from affetto.head.rotation import euler_matrix
from affetto.head.transfer import load_landmarks, transfer_expressions
from affetto.media.mesh import AnimatedMesh
from affetto.runtime.errors import InvalidInputError, UsageError
from tests.head.shapes import bust, joined, moved, sphere

NAMES = ("jawOpen", "mouthSmileLeft", "mouthSmileRight")
POINTS = {
    "nose_tip": (0.0, -0.03, 0.08),
    "chin": (0.0, -0.11, 0.01),
    "brow_left": (0.03, 0.03, 0.05),
    "brow_right": (-0.03, 0.03, 0.05),
    "mouth_left": (0.025, -0.065, 0.04),
    "mouth_right": (-0.025, -0.065, 0.04),
    "jaw_left": (0.07, -0.05, -0.03),
    "jaw_right": (-0.07, -0.05, -0.03),
    "lip": (0.0, -0.06, 0.05),
    "crown": (0.0, 0.10, -0.04),
}


def bump(
    positions: np.ndarray, centre: tuple[float, float, float], push: tuple[float, float, float]
) -> np.ndarray:
    fall = np.exp(-(((positions - np.array(centre)) ** 2).sum(axis=1)) / (2 * 0.03**2))
    return (fall[:, None] * np.array(push)).astype(np.float32)


def head() -> SimpleNamespace:
    surface = bust()
    positions = surface.positions
    deltas = np.stack(
        [
            bump(positions, (0.0, -0.09, 0.03), (0.0, -0.02, 0.0)),
            bump(positions, (0.03, -0.06, 0.04), (0.008, 0.008, 0.0)),
            bump(positions, (-0.03, -0.06, 0.04), (-0.008, 0.008, 0.0)),
        ]
    )
    eyes = np.unique(surface.triangles[slice(*surface.groups["eyes"])])
    left, right = eyes[positions[eyes, 0] > 0.0], eyes[positions[eyes, 0] < 0.0]
    mesh = AnimatedMesh(
        surface=surface,
        names=NAMES,
        deltas=deltas,
        eye_centres=np.array([[0.0315, 0.0, 0.045], [-0.0315, 0.0, 0.045]]),
        eye_vertices=(left, right),
        head_pivot=np.array([0.0, -0.07, -0.05]),
    )
    return SimpleNamespace(
        mesh=mesh, landmarks={name: np.array(at, np.float32) for name, at in POINTS.items()}
    )


@pytest.fixture(scope="module")
def ours():
    return head()


def error(result: np.ndarray, wanted: np.ndarray) -> float:
    """The worst miss as a share of the largest displacement wanted."""
    return float(np.abs(result - wanted).max() / np.abs(wanted).max())


def test_our_own_mesh_keeps_its_expressions(ours):
    result = transfer_expressions(ours.mesh.surface, ours.landmarks, ours, smoothing=0)
    assert error(result.deltas, ours.mesh.deltas) < 0.02


def test_smoothing_changes_little(ours):
    result = transfer_expressions(ours.mesh.surface, ours.landmarks, ours)
    assert error(result.deltas, ours.mesh.deltas) < 0.06


def test_a_turned_mesh_in_millimetres_gets_turned_displacements_in_millimetres(ours):
    turn = euler_matrix(np.array([0.4, -0.2, 0.1]))

    def place(points: np.ndarray) -> np.ndarray:
        return 1000.0 * points @ turn.T + np.array([5.0, 1500.0, 3.0])

    surface = dataclasses.replace(
        ours.mesh.surface, positions=place(ours.mesh.surface.positions).astype(np.float32)
    )
    landmarks = {name: place(np.asarray(point, float)) for name, point in ours.landmarks.items()}
    result = transfer_expressions(surface, landmarks, ours, smoothing=0)
    assert error(result.deltas, 1000.0 * ours.mesh.deltas @ turn.T) < 0.03
    assert result.eye_centres == pytest.approx(place(ours.mesh.eye_centres), abs=0.1)
    assert result.head_pivot == pytest.approx(place(ours.mesh.head_pivot), abs=0.1)


def test_a_wider_face_smiles_wider(ours):
    stretch = np.array([1.4, 1.0, 1.0])
    surface = dataclasses.replace(
        ours.mesh.surface, positions=(ours.mesh.surface.positions * stretch).astype(np.float32)
    )
    landmarks = {name: np.asarray(point, float) * stretch for name, point in ours.landmarks.items()}
    result = transfer_expressions(surface, landmarks, ours, smoothing=0)
    assert error(result.deltas, ours.mesh.deltas * stretch) < 0.05


def test_another_topology_moves_where_ours_does(ours):
    mask = moved(sphere(rings=30, radius=1.0), (0.0, -0.01, -0.04), (0.08, 0.115, 0.10))
    result = transfer_expressions(mask, ours.landmarks, ours)
    wanted = bump(mask.positions, (0.0, -0.09, 0.03), (0.0, -0.02, 0.0))
    front = mask.positions[:, 2] > 0.02
    assert np.corrcoef(result.deltas[0][front, 1], wanted[front, 1])[0, 1] > 0.95


def test_a_symmetric_mesh_gets_mirrored_smiles(ours):
    mask = moved(sphere(rings=30, radius=1.0), (0.0, -0.01, -0.04), (0.08, 0.115, 0.10))
    crooked = {**ours.landmarks, "mouth_left": np.array([0.027, -0.063, 0.041])}
    result = transfer_expressions(mask, crooked, ours)
    plane = float(np.abs(mask.positions.mean(axis=0)[0]))
    assert plane < 1e-6
    left = np.array([result.deltas[1][i] for i in np.argsort(mask.positions[:, 0])[-200:]])
    right = np.array([result.deltas[2][i] for i in np.argsort(mask.positions[:, 0])[:200]])
    assert np.sort(np.abs(left[:, 1])) == pytest.approx(np.sort(np.abs(right[:, 1])), abs=3e-4)


def test_what_lies_far_from_the_face_stays_still(ours):
    with_hat = joined(face=ours.mesh.surface, hat=moved(sphere(rings=8), (0.0, 0.5, 0.0), (1.0, 1.0, 1.0)))
    result = transfer_expressions(with_hat, ours.landmarks, ours)
    assert not result.deltas[:, len(ours.mesh.surface.positions) :].any()


def test_eyeballs_are_found_as_pieces_of_their_own(ours):
    result = transfer_expressions(ours.mesh.surface, ours.landmarks, ours)
    used = np.unique(ours.mesh.surface.triangles)
    for found, wanted in zip(result.eye_vertices, ours.mesh.eye_vertices, strict=True):
        assert set(found) & set(used) == set(wanted) & set(used)


def test_too_few_landmarks_name_what_is_missing(ours):
    few = {name: ours.landmarks[name] for name in list(POINTS)[:5]}
    with pytest.raises(UsageError, match="5 known landmarks, 8 are needed: add some of crown, jaw_left"):
        transfer_expressions(ours.mesh.surface, few, ours)


def test_flat_landmarks_are_refused(ours):
    flat = {name: np.asarray(point, float) * [1.0, 1.0, 0.0] for name, point in ours.landmarks.items()}
    with pytest.raises(UsageError, match="in one plane"):
        transfer_expressions(ours.mesh.surface, flat, ours)


def test_landmarks_come_from_json(tmp_path):
    path = tmp_path / "face.json"
    path.write_text(json.dumps({name: list(point) for name, point in POINTS.items()}))
    points = load_landmarks(path)
    assert points["nose_tip"] == pytest.approx(POINTS["nose_tip"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no landmarks"),
        ('{"chin": [1, 2]}', "'chin' is not three finite numbers"),
        ('{"chin": [1, 2, NaN]}', "'chin' is not three finite numbers"),
        ('{"chin": [true, 2, 3]}', "'chin' is not three finite numbers"),
    ],
)
def test_bad_landmark_files_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "face.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        load_landmarks(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_landmarks(tmp_path / "absent.json")
