"""Where moments go when the timing changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.generators.voice.time_map import TimeMap
from affetto.runtime.errors import InvalidInputError

RATES = st.lists(st.sampled_from([0.0, 0.0, 0.3, -0.2, 0.5]), min_size=2, max_size=60)


@given(rates=RATES, seconds=st.floats(-0.5, 2.0))
@settings(max_examples=50, deadline=None)
def test_there_and_back_is_where_one_was(rates, seconds):
    made = TimeMap.from_log_rate(np.array(rates, np.float32), 100.0)
    assert made.to_source(made.to_output(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(rates=RATES)
@settings(max_examples=50, deadline=None)
def test_a_saved_map_is_the_same(rates, tmp_path_factory):
    made = TimeMap.from_log_rate(np.array(rates, np.float32), 100.0)
    path = made.save(tmp_path_factory.mktemp("map") / "a.json")
    again = TimeMap.load(path)
    np.testing.assert_array_equal(again.source, made.source)
    np.testing.assert_array_equal(again.output, made.output)


def test_a_rate_of_ln_two_makes_it_twice_as_long():
    made = TimeMap.from_log_rate(np.full(101, np.log(2.0)), 100.0)
    assert made.seconds == pytest.approx(2.0)
    assert made.to_output(0.25) == pytest.approx(0.5)
    assert len(made.source) == 2


def test_where_the_rate_is_zero_all_moves_alike():
    rate = np.zeros(300, np.float32)
    rate[100:150] = 0.4
    made = TimeMap.from_log_rate(rate, 100.0)
    late = made.shift_at(np.arange(151, 300) / 100)
    assert np.ptp(late) < 1e-9
    assert np.all(made.shift_at(np.arange(99) / 100) == 0)


def test_no_rate_is_the_identity():
    assert TimeMap.from_log_rate(np.zeros(10, np.float32), 100.0).is_identity
    assert TimeMap.identity(3.0).seconds == 3.0


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"source_seconds": [0, 1]}')
    with pytest.raises(InvalidInputError, match="is no time map"):
        TimeMap.load(path)
    with pytest.raises(InvalidInputError, match="rise on both sides"):
        TimeMap(source=np.array([0.0, 1.0]), output=np.array([1.0, 0.5]))
