import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.generators.music.grammar import (
    BAR,
    BEAT,
    LENGTHS,
    MELODY,
    NOTE,
    SIZES,
    BarRule,
    BarState,
    check_words,
)


def random_bar(rule: BarRule, seed: int) -> np.ndarray:
    """Any bar that the states let through."""
    rng = np.random.default_rng(seed)
    state, words = BarState(rule), [[BAR, 0, 0, 0, 0, 0]]
    while True:
        family = int(rng.choice(np.flatnonzero(state.families())))
        if family == BAR:
            return np.array(words)
        word = [family, 0, max(state.position, 0), 0, 0, 0]
        if family == BEAT:
            word[2] = int(rng.choice(np.flatnonzero(state.positions())))
        else:
            word[3] = int(rng.choice(np.flatnonzero(state.pitches(family))))
            word[4] = int(rng.choice(np.flatnonzero(state.durations(family))))
            word[5] = int(rng.integers(1, SIZES["velocity"]))
        words.append(word)
        state.advance(word)


rules = st.builds(
    BarRule,
    steps=st.sampled_from([8, 12, 16]),
    onsets=st.none() | st.frozensets(st.integers(0, 7), min_size=1),
    melody=st.none() | st.dictionaries(st.integers(0, 7), st.tuples(st.integers(0, 80), st.integers(0, 3))),
    tune=st.just((30, 80)),
    room=st.none() | st.just(16),
    need_start=st.booleans(),
    pitches=st.just({0: frozenset((0, 4, 7)), 4: frozenset((2, 5, 9, 11))}),
)


@settings(deadline=None, max_examples=60)
@given(rules, st.integers(0, 2**32))
def test_every_walk_through_the_states_ends_and_obeys_its_rule(rule: BarRule, seed: int) -> None:
    words = random_bar(rule, seed)
    check_words(words, [rule])
    notes = words[words[:, 0] > BEAT]
    beats = words[words[:, 0] == BEAT, 2]
    assert (np.diff(beats) > 0).all()
    assert (words[:, 2] < rule.steps).all()
    if rule.room is not None:
        assert (notes[:, 2] + LENGTHS[notes[:, 4]] <= rule.room).all()
    if rule.onsets is not None and rule.melody is None:
        assert set(beats) == set(rule.onsets)
    if rule.melody is not None:
        sung = words[words[:, 0] == MELODY]
        assert set(sung[:, 2]) == {place for place in rule.melody if place < rule.steps}
        for word in sung:
            pitch, duration = rule.melody[int(word[2])]
            assert pitch in (0, word[3])
            assert duration in (0, word[4])


def test_a_beat_without_a_note_is_refused() -> None:
    words = np.array([[BAR, 0, 0, 0, 0, 0], [BEAT, 0, 0, 0, 0, 0], [BEAT, 0, 4, 0, 0, 0]])
    with pytest.raises(ValueError, match="beat may not stand here"):
        check_words(words, [BarRule()])


def test_notes_of_one_beat_come_from_the_top_down() -> None:
    up = [[BAR, 0, 0, 0, 0, 0], [BEAT, 0, 0, 0, 0, 0], [NOTE, 0, 0, 40, 4, 10], [NOTE, 0, 0, 44, 4, 10]]
    with pytest.raises(ValueError, match="no such note"):
        check_words(np.array(up), [BarRule()])
