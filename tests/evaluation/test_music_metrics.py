from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.evaluation.music_metrics import (
    METRICS,
    cut,
    dominant,
    effect_matrix,
    ends_on_tonic,
    entropy,
    groove_consistency,
    metrics_of,
    overlap_floor,
    overlapped_area,
    polyphony,
    shuffled_accuracy,
)
from affetto.media.midi import Score, note_array


def score(*rows: tuple[float, float, int]) -> Score:
    """Start and length in beats, pitch."""
    return Score(notes=note_array([(start, length, pitch, 80, 0) for start, length, pitch in rows]))


def triads(beats: int = 8) -> Score:
    return score(*((float(beat), 1.0, pitch) for beat in range(beats) for pitch in (48, 64, 67)))


def test_range_classes_and_polyphony_of_a_repeated_triad():
    found = metrics_of(triads())
    assert tuple(found) == METRICS
    assert found["pitch range"] == 19
    assert found["pitch classes"] == 3
    assert found["polyphony"] == pytest.approx(3.0)
    assert found["groove"] == 1.0
    assert found["H1"] == found["H4"] == pytest.approx(np.log2(3))


def test_silence_has_no_metrics():
    assert all(np.isnan(value) for value in metrics_of(score()).values())


def test_rests_do_not_lower_polyphony():
    assert polyphony(np.array([0.0, 4.0]), np.array([1.0, 6.0])) == pytest.approx(1.0)
    assert polyphony(np.array([0.0, 0.0, 1.0]), np.array([2.0, 1.0, 2.0])) == pytest.approx(2.0)


def test_groove_falls_where_a_bar_has_other_onsets():
    steady = score(*((float(beat), 0.5, 60) for beat in range(8)))
    moved = score(
        *((float(beat), 0.5, 60) for beat in range(4)), *((4.25 + beat, 0.5, 60) for beat in range(4))
    )
    assert groove_consistency(steady) == 1.0
    assert groove_consistency(moved) == pytest.approx(1.0 - 8 / 16)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12))
def test_entropy_lies_between_nothing_and_that_of_equal_shares(counts: Sequence[int]):
    assert -1e-9 <= entropy(np.array(counts, np.float64)) <= np.log2(len(counts)) + 1e-9


def test_a_cut_piece_ends_at_the_second_given():
    short = cut(triads(16), 3.25)  # 120 beats a minute: six beats and a half
    assert short.beats == pytest.approx(6.5)
    assert short.notes["start"].max() == 6.0


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_equal_samples_overlap_wholly_and_distant_ones_hardly(seed: int):
    values = np.random.default_rng(seed).normal(size=60).tolist()
    assert overlapped_area(values, values) == pytest.approx(1.0)
    assert overlapped_area(values, [value + 100.0 for value in values]) < 0.2
    assert overlapped_area(values, values[:30]) == pytest.approx(overlapped_area(values[:30], values))


def test_the_floor_rises_with_the_size_of_the_sample():
    values = np.random.default_rng(0).normal(size=400).tolist()
    small, large = (overlap_floor(values, size, np.random.default_rng(1)) for size in (20, 150))
    assert 0.6 < small < large < 1.0


def test_a_fader_that_moves_its_neighbour_more_is_not_dominant():
    rng = np.random.default_rng(0)
    levels = np.linspace(-1, 1, 5)

    def swept(effects: tuple[float, float]) -> np.ndarray:
        return levels[None, :, None] * np.array(effects) + 0.05 * rng.normal(size=(4, 5, 2))

    own = effect_matrix({"first": swept((1.0, 0.1)), "second": swept((0.1, 1.0))})
    assert dominant(own) == 2
    assert own[0, 0] > 1.0
    assert dominant(effect_matrix({"first": swept((0.1, 1.0)), "second": swept((0.1, 1.0))})) == 1


def test_shuffled_requests_are_met_by_chance_only():
    asked = np.repeat(np.arange(1, 5), 12)
    assert shuffled_accuracy(asked, asked, np.random.default_rng(0)) == pytest.approx(0.25, abs=0.03)


def test_the_tonic_must_be_in_the_bass_at_the_end():
    ending = [(0.0, 1.0, 55), (1.0, 2.0, 48), (1.0, 2.0, 64)]
    assert ends_on_tonic(score(*ending), 0)
    assert not ends_on_tonic(score(*ending), 7)
    assert not ends_on_tonic(score(), 0)
