"""Lids that a photograph does not show: made of its own skin, with its light and its grain."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon2mask

from affetto.generators.portrait.fill import grain_like, membrane
from affetto.generators.portrait.renderer import PortraitRenderer
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX
from tests.generators.portrait.conftest import Portrait

EYES = (slice(36, 42), slice(42, 48))


def _roughness(picture: np.ndarray, mask: np.ndarray) -> float:
    level = picture.astype(np.float64).mean(axis=-1)
    return float((level - ndimage.gaussian_filter(level, 2.0))[mask].std())


def _polygon(shape: tuple[int, int], outline: np.ndarray) -> np.ndarray:
    return polygon2mask(shape, outline[:, ::-1] - 0.5)


@dataclass(frozen=True)
class Asleep:
    """A photograph, the same with closed eyes, and where its eyes are."""

    awake: np.ndarray
    shut: np.ndarray
    outlines: list[np.ndarray]


@pytest.fixture(scope="module", params=["astronaut", "hopper"])
def asleep(request: pytest.FixtureRequest, head: HeadModel) -> Asleep:
    portrait: Portrait = request.getfixturevalue(request.param)
    renderer = PortraitRenderer(portrait.image, portrait.fit, head)
    shut = np.zeros(52, np.float32)
    shut[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]] = 1.0
    frames = renderer.frame(np.zeros(52, np.float32)), renderer.frame(shut)
    renderer.close()
    return Asleep(*frames, [portrait.fit.points[eye] for eye in EYES])


def test_closed_lids_have_grain_like_skin_has(asleep: Asleep) -> None:
    for outline in asleep.outlines:
        height = np.array([0, np.ptp(outline[:, 1])])
        eye, above, cheek = (
            _polygon(asleep.shut.shape[:2], outline + shift * height) for shift in (0.0, -0.5, 3.0)
        )
        # The upper half of the eye, away from where lashes meet.
        share = _roughness(asleep.shut, eye & above) / _roughness(asleep.shut, cheek)
        assert 0.2 < share < 2.0


def test_no_eye_shines_through_closed_lids(asleep: Asleep) -> None:
    for outline in asleep.outlines:
        eye = _polygon(asleep.shut.shape[:2], outline)
        shut, awake = (picture.mean(axis=-1)[eye] for picture in (asleep.shut, asleep.awake))
        assert shut.max() < 1.3 * np.median(shut)
        assert np.percentile(shut, 2) > 0.4 * np.median(shut)
        assert np.ptp(np.percentile(shut, [5, 95])) < 0.7 * np.ptp(np.percentile(awake, [5, 95]))


def test_closed_lids_are_as_bright_as_the_skin_around_the_eye(asleep: Asleep) -> None:
    for outline in asleep.outlines:
        eye = _polygon(asleep.shut.shape[:2], outline)
        near, far = (np.asarray(ndimage.binary_dilation(eye, iterations=steps), bool) for steps in (2, 5))
        ratio = np.median(asleep.shut[eye], axis=0) / np.median(asleep.shut[far & ~near], axis=0)
        assert (np.abs(ratio - 1) < 0.22).all(), ratio


def test_a_membrane_continues_a_slope_through_a_hole_and_leaves_the_rest() -> None:
    y, x = np.mgrid[:40, :50].astype(np.float64)
    slope = np.stack([2 * x + y, 100 - x, 50 + 0.5 * y], axis=-1)
    hole = np.hypot(x - 25, y - 20) < 9
    spoiled = np.where(hole[..., None], 0.0, slope)
    mended = membrane(spoiled, hole, ~hole, 0.4)
    assert np.abs(mended - slope)[hole].max() < 3.0
    np.testing.assert_array_equal(mended[~hole], slope[~hole].astype(np.float32))


def test_a_membrane_does_not_hang_on_what_is_not_known() -> None:
    picture = np.full((30, 30, 1), 100.0)
    picture[:, :10] = 255.0  # a glint beside the hole
    hole = np.zeros((30, 30), bool)
    hole[10:20, 10:20] = True
    known = ~hole
    known[:, :10] = False
    assert np.abs(membrane(picture, hole, known, 0.5)[hole] - 100.0).max() < 1.0


def test_grain_is_as_strong_as_its_sample_about_zero_and_the_same_each_time() -> None:
    sample = 120 + 9.0 * np.random.default_rng(3).standard_normal((40, 40, 3))
    where = np.zeros((60, 90), bool)
    where[10:50, 10:80] = True
    grain = grain_like(sample, where)
    assert abs(float(grain[where].mean())) < 1.0
    assert grain[where].std() == pytest.approx(9.0, rel=0.25)
    assert not grain[~where].any()
    np.testing.assert_array_equal(grain, grain_like(sample, where))
