import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.media.lablaut import split_label
from affetto.runtime.errors import UsageError
from affetto.speech.phones import (
    PHONE_INDEX,
    PHONES,
    VISEME_INDEX,
    VISEME_OF,
    VISEMES,
    TimedPhone,
    closure_windows,
    from_arpabet,
    from_ipa,
    from_sampa,
    phone_frames,
    window_frames,
)


def test_every_phone_has_a_viseme_and_every_viseme_a_phone():
    assert set(VISEME_OF) == set(PHONES)
    assert set(VISEME_OF.values()) == set(VISEMES)
    assert [VISEMES[index] for index in VISEME_INDEX] == [VISEME_OF[phone] for phone in PHONES]
    assert len(set(PHONES)) == len(PHONES)


def test_silence_is_the_first_class():
    assert PHONE_INDEX["sil"] == 0
    assert VISEME_OF["sil"] == "SIL"


def test_diphthongs_become_two_phones():
    assert from_sampa("aI") == ["a", "ɪ"]
    assert from_arpabet("OW1") == ["o", "ʊ"]
    assert from_ipa("ˈaʊ") == ["a", "ʊ"]


def test_ipa_diacritics_length_and_nasality_are_left_aside():
    assert from_ipa("pʰ") == ["p"]
    assert from_ipa("ɔ̃ː") == ["ɔ"]
    assert from_ipa("t͡ʃ") == ["tʃ"]
    assert from_ipa("ç") == ["ç"]
    assert from_ipa("c\u0327") == ["ç"]


def test_letters_of_other_languages_join_the_class_with_the_same_lips():
    assert [from_ipa(letter)[0] for letter in ("β", "ɸ", "ɲ", "ɥ", "ʁ", "ɱ", "ɓ")] == [*"vfnwrmb"]


@given(st.text(max_size=6))
def test_any_text_gives_known_phones_only(symbol):
    assert set(from_ipa(symbol)) <= set(PHONES)
    assert set(from_sampa(symbol)) <= set(PHONES)


def test_an_unknown_arpabet_symbol_is_refused_by_name():
    with pytest.raises(UsageError, match="'qq'"):
        from_arpabet("qq")


def test_label_fields_split_into_mark_symbol_and_modifiers():
    assert split_label("!t\t+asp") == ("!", "t", "\t+asp")
    assert split_label("[v -sth") == ("", "v", " -sth")
    assert split_label("_d    -sth")[:2] == ("_", "d")
    assert split_label("+hoe")[1] == ""


def test_a_phone_outside_the_inventory_or_running_backwards_is_refused():
    with pytest.raises(UsageError, match="unknown phone 'zz'"):
        TimedPhone("zz", 0.0, 1.0)
    with pytest.raises(UsageError, match="before its start"):
        TimedPhone("a", 1.0, 0.5)


def test_lips_stay_shut_until_the_release_of_a_plosive_and_all_through_m():
    assert TimedPhone("p", 0.1, 0.3, release=0.2).closure == (0.1, 0.2)
    assert TimedPhone("m", 0.1, 0.3).closure == (0.1, 0.3)
    assert TimedPhone("t", 0.1, 0.3, release=0.2).closure is None
    assert TimedPhone("b", 0.1, 0.3, closes=False).closure is None


def test_touching_closures_are_one_window():
    phones = [
        TimedPhone("p", 0.1, 0.2),
        TimedPhone("m", 0.2, 0.3),
        TimedPhone("a", 0.3, 0.5),
        TimedPhone("b", 0.5, 0.6),
    ]
    assert closure_windows(phones) == [(0.1, 0.3), (0.5, 0.6)]


def test_frames_name_the_phone_at_their_time_and_silence_elsewhere():
    phones = [TimedPhone("a", 0.02, 0.06), TimedPhone("m", 0.08, 0.10)]
    names = [PHONES[int(index)] for index in phone_frames(phones, 6, 50.0)]
    assert names == ["sil", "a", "a", "sil", "m", "sil"]


@given(st.lists(st.tuples(st.floats(0, 1.9), st.floats(0, 0.1)), max_size=5))
def test_every_window_marks_a_frame(spans):
    windows = [(start, start + length) for start, length in spans]
    curve = window_frames(windows, 105, 50.0)
    assert set(np.unique(curve)) <= {0.0, 1.0}
    for start, end in windows:
        assert curve[int(max(start * 50 - 1, 0)) : int(end * 50) + 2].any()
