"""FLAME's named points from its geometry alone, and weights that explain moving vertices."""

import dataclasses

import numpy as np
import pytest

from affetto.head.arkit_fit import ArkitFit, FitOptions
from affetto.head.flame_points import flame_points, own_points
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX
from affetto.runtime.errors import InvalidInputError
from tests.head.flame_like import SCALE, SHIFT, WHO, flame_like


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


def test_the_points_of_another_face_are_found_within_five_millimetres(head):
    found = flame_points(flame_like()[0], head)
    other = head.with_identity(WHO)
    known = dict(other.landmarks)
    known["eye_left"], known["eye_right"] = other.mesh.eye_centres
    errors = {
        name: 1000 * float(np.linalg.norm((point - SHIFT) / SCALE - known[name]))
        for name, point in found.items()
    }
    assert len(found) >= 13
    assert max(errors.values()) < 5, errors
    middle = ("nose_tip", "inner_upper_lip", "mouth_corner_left", "mouth_corner_right", "chin")
    assert max(errors[name] for name in middle) < 2


def test_left_and_right_mirror_each_other(head):
    found = own_points(head)
    for name, point in found.items():
        if name.endswith("_left"):
            twin = found[name.replace("_left", "_right")]
            np.testing.assert_allclose(point * [-1, 1, 1], twin, atol=1e-3)


def test_a_head_without_eyes_or_lips_is_refused(head):
    model = flame_like()[0]
    blind, stiff = model.weights.copy(), model.weights.copy()
    blind[:, 3:] = 0.0
    stiff[:, 2] = 0.0
    with pytest.raises(InvalidInputError, match="no eyeballs"):
        flame_points(dataclasses.replace(model, weights=blind), head)
    with pytest.raises(InvalidInputError, match="no lips that its jaw parts"):
        flame_points(dataclasses.replace(model, weights=stiff), head)


@pytest.fixture(scope="module")
def deltas(head):
    start, stop = head.mesh.surface.groups["skin"]
    skin = np.unique(head.mesh.surface.triangles[start:stop])[::5]
    return np.ascontiguousarray(head.mesh.deltas[:, skin])


def weights_of(**named: float) -> np.ndarray:
    row = np.zeros((1, 52), np.float32)
    for name, value in named.items():
        row[0, ARKIT_INDEX[name]] = value
    return row


@pytest.mark.parametrize("name", ["jawOpen", "mouthSmileLeft", "browInnerUp", "eyeBlinkRight", "mouthPucker"])
def test_a_shape_alone_is_told_as_itself(deltas, name):
    asked = weights_of(**{name: 0.6})
    fit = ArkitFit(deltas)
    found = fit.solve(fit.project(np.einsum("fs,svx->fvx", asked, deltas)))
    assert abs(found[0, ARKIT_INDEX[name]] - 0.6) < 0.12
    assert np.delete(found[0], ARKIT_INDEX[name]).max() < 0.15


def test_no_motion_is_no_weight_and_gaze_and_tongue_are_never_used(deltas):
    fit = ArkitFit(deltas)
    assert not fit.solve(np.zeros((3, 52))).any()
    random = np.random.default_rng(0).normal(0, 0.01, (4, *deltas.shape[1:])).astype(np.float32)
    found = fit.solve(fit.project(random))
    assert found.min() >= 0
    assert found.max() <= 1
    unused = [index for index, name in enumerate(ARKIT_52) if "Look" in name or name == "tongueOut"]
    assert not found[:, unused].any()
    assert (found[:, ARKIT_INDEX["mouthClose"]] <= found[:, ARKIT_INDEX["jawOpen"]]).all()


def test_smoothness_calms_noise_and_leaves_a_held_pose_alone(deltas):
    rng = np.random.default_rng(1)
    held = np.repeat(weights_of(jawOpen=0.5, mouthSmileLeft=0.4, mouthSmileRight=0.4), 30, axis=0)
    moved = np.einsum("fs,svx->fvx", held, deltas)
    noisy = (moved + rng.normal(0, 0.002, moved.shape)).astype(np.float32)
    rough, calm = (
        (lambda fit: fit.solve(fit.project(noisy)))(ArkitFit(deltas, options=FitOptions(smooth=smooth)))
        for smooth in (0.0, 1.0)
    )
    jaw = ARKIT_INDEX["jawOpen"]
    assert np.abs(np.diff(calm[:, jaw])).mean() < 0.8 * np.abs(np.diff(rough[:, jaw])).mean()
    assert abs(calm[:, jaw].mean() - 0.5) < 0.1
