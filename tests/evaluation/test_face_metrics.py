import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.evaluation.face_metrics import (
    ClosureScore,
    closure_score,
    face_dynamics_deviation,
    jerk,
    lip_vertex_error,
    pooled,
    spearman,
    sync_offset,
)

FPS = 50.0


def gap_with_closures(frames: int, *spans: tuple[int, int]) -> np.ndarray:
    gap = np.full(frames, 0.2)
    for start, stop in spans:
        gap[start:stop] = 0.0
    return gap


def test_lips_that_close_where_they_should_score_one_and_one():
    score = closure_score(
        gap_with_closures(100, (20, 25), (60, 64)), FPS, [(0.40, 0.48), (1.20, 1.26)], np.ones(100, bool)
    )
    assert (score.recall, score.precision, score.bilabials) == (1.0, 1.0, 2)
    assert score.shut_share == pytest.approx(0.09)


def test_a_missed_bilabial_costs_recall_and_a_false_closure_costs_precision():
    score = closure_score(
        gap_with_closures(100, (20, 25), (80, 84)), FPS, [(0.40, 0.48), (1.20, 1.26)], np.ones(100, bool)
    )
    assert (score.recall, score.precision) == (0.5, 0.5)


def test_a_closure_one_frame_at_25_fps_late_still_counts_and_two_do_not():
    speaking = np.ones(100, bool)
    assert closure_score(gap_with_closures(100, (27, 30)), FPS, [(0.40, 0.50)], speaking).recall == 1.0
    assert closure_score(gap_with_closures(100, (30, 33)), FPS, [(0.40, 0.50)], speaking).recall == 0.0


def test_lips_may_rest_shut_in_pauses():
    speaking = np.zeros(100, bool)
    speaking[:50] = True
    score = closure_score(gap_with_closures(100, (20, 25), (70, 100)), FPS, [(0.40, 0.48)], speaking)
    assert score.precision == 1.0


def test_pooling_weighs_recall_by_the_number_of_bilabials():
    scores = [
        ClosureScore(recall=1.0, precision=1.0, shut_share=0.1, bilabials=3),
        ClosureScore(recall=0.0, precision=0.5, shut_share=0.3, bilabials=1),
        ClosureScore(recall=float("nan"), precision=float("nan"), shut_share=0.2, bilabials=0),
    ]
    score = pooled(scores)
    assert score.recall == pytest.approx(0.75)
    assert score.precision == pytest.approx(0.75)
    assert score.bilabials == 4


@given(st.integers(-8, 8), st.integers(0, 1000))
def test_a_shifted_curve_is_found_at_its_shift(shift: int, seed: int):
    curve = np.convolve(np.random.default_rng(seed).random(220), np.ones(5) / 5, mode="same")
    opening, reference = curve[20 - shift : 200 - shift], curve[20:200]
    assert sync_offset(opening, reference, FPS) == pytest.approx(shift / FPS, abs=0.006)


def test_lip_vertex_error_is_the_worst_vertex_in_percent_of_the_inter_pupil_distance():
    target = np.zeros((10, 4, 3))
    predicted = target.copy()
    predicted[:, 2, 1] = 0.0063
    assert lip_vertex_error(predicted, target, 0.063) == pytest.approx(10.0)


def test_stiff_faces_have_negative_and_lively_ones_positive_deviation():
    wave = np.sin(np.linspace(0, 20, 100))[:, None, None] * np.array([0.0, 0.001, 0.0])
    target = np.repeat(wave, 3, axis=1)
    assert face_dynamics_deviation(0.5 * target, target, 0.063) < 0
    assert face_dynamics_deviation(2.0 * target, target, 0.063) > 0
    assert face_dynamics_deviation(target, target, 0.063) == 0


def test_shaky_curves_have_more_jerk_than_smooth_ones():
    smooth = np.sin(np.linspace(0, 6, 200))[:, None]
    shaky = smooth + 0.01 * np.random.default_rng(0).standard_normal((200, 1))
    assert jerk(shaky, FPS) > 10 * jerk(smooth, FPS)


def test_spearman_is_one_for_anything_that_only_rises():
    assert spearman([0.0, 0.25, 0.5, 1.0], [0.1, 0.1001, 0.9, 0.95]) == pytest.approx(1.0)
