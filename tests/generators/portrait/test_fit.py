"""The fit finds what made the points, and says when they make no face."""

import time

import numpy as np
import pytest

from affetto.generators.portrait.camera import Camera
from affetto.generators.portrait.fit import PointModel, fit_face
from affetto.generators.portrait.refit import euler_angles, known_person, refit_curves
from affetto.head.landmarks68 import landmarks_of
from affetto.head.model import HeadModel
from affetto.head.rotation import euler_matrix
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.runtime.errors import InvalidInputError
from tests.generators.portrait.conftest import Portrait, landmarks

SIZE = (256, 256)
CAMERA = Camera(focal=1500.0, centre=(128.0, 128.0))


def seen(head: HeadModel, identity: np.ndarray, weights: np.ndarray, angles: np.ndarray) -> np.ndarray:
    vertices = head.deform(weights, identity=identity)[0]
    placed = landmarks_of(vertices) @ euler_matrix(angles).T + [0.0, 0.03, -1.0]
    return CAMERA.project(placed)


def weights_of(**weights: float) -> np.ndarray:
    result = np.zeros(52)
    for name, value in weights.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in ARKIT_INDEX:
                result[ARKIT_INDEX[full]] = value
    return result


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.3, 0.1, -0.1), (-0.35, -0.1, 0.15)])
def test_pose_and_expression_of_projected_points_are_found(
    head: HeadModel, point_model: PointModel, angles: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(3)
    identity = 0.7 * rng.standard_normal(48)
    weights = weights_of(jawOpen=0.35, mouthSmile=0.5)
    points = seen(head, identity, weights, np.array(angles)) + 0.3 * rng.standard_normal((68, 2))
    pose = tuple(angle + 0.08 for angle in angles)
    fit = fit_face(landmarks(points, pose), head, SIZE, model=point_model)
    assert fit.rms < 1.5
    assert np.degrees(np.abs(euler_angles(fit.rotation) - angles)).max() < 6.0
    assert abs(fit.weights[ARKIT_INDEX["jawOpen"]] - 0.35) < 0.12
    assert abs(fit.weights[ARKIT_INDEX["mouthSmileLeft"]] - 0.5) < 0.25
    off = seen(head, identity, np.zeros(52), np.zeros(3)) - seen(
        head, fit.identity, np.zeros(52), np.zeros(3)
    )
    plain = seen(head, identity, np.zeros(52), np.zeros(3)) - seen(
        head, np.zeros(48), np.zeros(52), np.zeros(3)
    )
    off, plain = off - off.mean(axis=0), plain - plain.mean(axis=0)
    assert np.linalg.norm(off) < 0.7 * np.linalg.norm(plain)  # more like the person than the mean face is


def test_a_resting_face_has_no_expression_to_take_off(head: HeadModel, point_model: PointModel) -> None:
    points = seen(head, np.zeros(48), np.zeros(52), np.array([0.1, 0.0, 0.0]))
    fit = fit_face(landmarks(points), head, SIZE, model=point_model)
    assert fit.weights.max() < 0.1


def test_the_photographs_are_fitted_closely_and_quickly(
    head: HeadModel, point_model: PointModel, astronaut: Portrait, hopper: Portrait
) -> None:
    for portrait in (astronaut, hopper):
        height = np.ptp(portrait.points, axis=0).max()
        assert portrait.fit.rms * 256 / height < 2.5
    start = time.process_time()
    fit_face(landmarks(astronaut.points), head, (512, 512), model=point_model)
    assert time.process_time() - start < 1.0
    smile = astronaut.fit.weights[[ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["mouthSmileRight"]]]
    assert smile.min() > 0.15
    assert hopper.fit.weights[ARKIT_INDEX["jawOpen"]] < 0.05


def test_a_few_wild_points_do_not_carry_the_fit_away(
    head: HeadModel, point_model: PointModel, astronaut: Portrait
) -> None:
    points = astronaut.points.copy()
    points[[3, 20, 50]] += [[30, -20], [0, 25], [-25, 10]]
    fit = fit_face(landmarks(points), head, (512, 512), model=point_model)
    turned = euler_angles(fit.rotation.T @ astronaut.fit.rotation)
    assert np.degrees(np.abs(turned)).max() < 7.0


def test_a_fit_scales_with_its_picture(astronaut: Portrait, head: HeadModel) -> None:
    vertices = head.deform(astronaut.fit.weights, identity=astronaut.fit.identity)[0]
    np.testing.assert_allclose(
        astronaut.fit.scaled(0.5).project(vertices), 0.5 * astronaut.fit.project(vertices), atol=1e-2
    )
    np.testing.assert_allclose(
        astronaut.fit.shifted(7, 3).project(vertices), astronaut.fit.project(vertices) - [7, 3], atol=1e-2
    )


def test_a_tiny_face_and_a_face_outside_are_refused(head: HeadModel, point_model: PointModel) -> None:
    points = seen(head, np.zeros(48), np.zeros(52), np.zeros(3))
    with pytest.raises(InvalidInputError, match="too small"):
        fit_face(landmarks(points * 0.05), head, SIZE, model=point_model)
    with pytest.raises(InvalidInputError, match="outside"):
        fit_face(landmarks(points + 1000.0), head, SIZE, model=point_model)


def test_a_performance_is_read_back_from_its_points(
    head: HeadModel, point_model: PointModel, hopper: Portrait
) -> None:
    fit = hopper.fit
    person = known_person(fit, point_model)
    asked = [weights_of(jawOpen=jaw, mouthLowerDown=0.3 * jaw) for jaw in (0.0, 0.2, 0.45, 0.6, 0.3)]
    yaws = [0.0, 0.05, 0.12, 0.1, 0.0]
    frames = []
    for weights, yaw in zip(asked, yaws, strict=True):
        shape = person.shape(fit.identity.astype(float), np.clip(fit.weights + weights, 0, 1))[:68]
        rotation = fit.rotation @ euler_matrix(np.array([yaw, 0.0, 0.0]))
        frames.append(fit.camera.project(shape @ rotation.T + fit.translation))
    curves = refit_curves(frames, fit, head, fps=25.0, neutralise=0.0, model=point_model)
    np.testing.assert_allclose(curves.channel("jawOpen"), [0, 0.2, 0.45, 0.6, 0.3], atol=0.15)
    np.testing.assert_allclose(curves.head[:, 0], yaws, atol=np.radians(2.0))
    assert np.corrcoef(curves.channel("jawOpen"), [0, 0.2, 0.45, 0.6, 0.3])[0, 1] > 0.97
