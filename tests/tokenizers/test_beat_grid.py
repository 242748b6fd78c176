import numpy as np
import pytest

from affetto.media.midi import Score, note_array
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.beat_grid import BeatGrid, bar_grid, grid_error, on_beats


def test_a_performance_is_counted_on_its_own_beats():
    pace = np.cumsum([0.0, *np.full(16, 0.5), *np.full(16, 0.4)])
    grid = BeatGrid(times=pace, downbeats=np.arange(33) % 4 == 1)
    heard = Score(notes=note_array([(2 * second, 0.2, 60, 64, 0) for second in pace[1:]]))  # at 120
    score = on_beats(heard, grid, [(float(pace[5]), "C_M")])
    assert np.allclose(score.notes["start"], np.arange(32))
    assert score.meters == ((0.0, 4, 4),)
    assert score.markers == ((4.0, "C_M"),)
    assert [bpm for _, bpm in score.tempos] == [119.0, 149.0]


def test_bars_of_odd_lengths_are_split_into_known_ones():
    first, lengths = bar_grid(np.array([0, 4, 10, 11, 14, 26, 30, 34]), 38)
    assert lengths[:5].tolist() == [4, 3, 3, 4, 4]
    assert (np.diff(first) == lengths[:-1]).all()


def test_a_grid_without_rising_beats_is_refused():
    for times in ([1.0], [1.0, 0.5]):
        with pytest.raises(InvalidInputError, match="grid of beats"):
            BeatGrid(times=np.array(times), downbeats=np.zeros(len(times), bool))


def test_the_distance_from_the_grid_is_counted_in_sixteenths():
    score = Score(notes=note_array([(0.0, 1, 60, 64, 0), (0.3, 1, 60, 64, 0)]))
    assert grid_error(score).tolist() == pytest.approx([0.0, 0.2])
