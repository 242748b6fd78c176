import numpy as np
import pytest

from affetto.conditioning.anchors import ANCHORS_8
from affetto.evaluation.scores import (
    agreement,
    calibration_error,
    ccc,
    js_divergence,
    linearity,
    overlap,
    top_k,
    transition,
    vad_error,
)

HAPPY, SAD, SURPRISED = (np.eye(8)[ANCHORS_8.index(name)] for name in ("happy", "sad", "surprised"))


def test_concordance_asks_for_the_same_place_not_only_the_same_shape():
    x = np.sin(np.arange(100) / 7)
    x = x - x.mean()
    assert ccc(x, x) == pytest.approx(1.0)
    assert ccc(x, -x) == pytest.approx(-1.0, abs=0.01)
    assert ccc(x, x + 1.0) < 0.6
    assert np.isnan(ccc(np.ones(5), np.ones(5)))


def test_the_error_in_vad_is_a_distance():
    zeros, moved = np.zeros((4, 3)), np.tile([0.3, 0.4, 0.0], (4, 1))
    assert vad_error(moved, zeros)[0] == pytest.approx(0.5)
    assert vad_error(zeros, zeros) == (0.0, 0.0)


def test_mixtures_are_compared_as_distributions():
    assert js_divergence(HAPPY, HAPPY) == pytest.approx(0.0)
    assert js_divergence(HAPPY, SAD) == pytest.approx(1.0)
    half = 0.5 * (HAPPY + SAD)
    assert 0 < js_divergence(half, SAD) < 1
    assert overlap(half, SAD) == pytest.approx(0.5)


def test_every_plausible_emotion_counts_as_right():
    wanted = np.array([0.5 * HAPPY + 0.5 * SURPRISED, 0.9 * HAPPY + 0.1 * SAD])
    assert top_k(np.array([SURPRISED, HAPPY]), wanted) == 1.0
    assert top_k(np.array([SURPRISED, SAD]), wanted) == 0.5
    assert top_k(np.array([SURPRISED, 0.6 * SAD + 0.4 * HAPPY]), wanted, 2) == 1.0


def test_a_straight_curve_is_told_from_a_bent_and_a_falling_one():
    asked = [0.0, 0.25, 0.5, 0.75, 1.0]
    straight, bent = linearity(asked, [0, 0.2, 0.4, 0.6, 0.8]), linearity(asked, [0, 0.02, 0.05, 0.2, 0.9])
    assert straight.r2 == pytest.approx(1.0)
    assert straight.slope == pytest.approx(0.8)
    assert bent.spearman == pytest.approx(1.0)
    assert bent.r2 < 0.8
    assert bent.monotone
    assert not linearity(asked, [0, 0.5, 0.1, 0.6, 0.8]).monotone
    assert linearity(asked, [0.3] * 5).spearman == 0.0


@pytest.mark.parametrize("late", [-0.3, 0.0, 0.5])
def test_a_transition_tells_how_late_and_how_far(late):
    fps = 20.0
    times = np.arange(0, 12, 1 / fps)

    def course(at):
        ramp = np.clip((at - 4) / 1.0, 0, 1) - np.clip((at - 8) / 1.0, 0, 1)
        return np.stack([ramp, 0.5 * ramp, 0 * ramp], axis=1)

    found = transition(course(times - late), course(times), fps)
    assert found is not None
    assert found.lag_s == pytest.approx(late, abs=0.03)
    assert found.overshoot < 0.1
    beyond = course(times).copy()
    beyond[110:120] *= 1.5
    assert transition(beyond, course(times), fps).overshoot > 0.2
    assert transition(course(times), 0 * course(times), fps) is None


def test_confidence_that_is_deserved_has_no_calibration_error():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0, 1, 20_000)
    assert calibration_error(sure.tolist(), (rng.uniform(0, 1, 20_000) < sure).tolist()).ece < 0.02
    boast = calibration_error([0.9] * 100, [True] * 50 + [False] * 50)
    assert boast.ece == pytest.approx(0.4)
    assert boast.accuracy == 0.5


def test_a_conflict_that_was_asked_for_is_found_or_missed():
    still = np.zeros((10, 3))
    same = agreement((still, np.tile(HAPPY, (10, 1))), (still, np.tile(HAPPY, (10, 1))), wanted_js=1.0)
    apart = agreement((still, np.tile(HAPPY, (10, 1))), (still, np.tile(SAD, (10, 1))), wanted_js=1.0)
    assert same.conflict_kept is False
    assert apart.conflict_kept is True
    assert (
        agreement(
            (still, np.tile(HAPPY, (10, 1))), (still, np.tile(SAD, (10, 1))), wanted_js=0.0
        ).conflict_kept
        is None
    )
