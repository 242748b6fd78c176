import importlib.util
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.media import espeak
from affetto.media.espeak import Spoken
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.speech.align import align_script, snap_closures, viterbi
from affetto.speech.g2p import Script, espeak_phones, merge_silences, script, script_of
from affetto.speech.phones import PHONE_INDEX, PHONES, TimedPhone, closure_windows

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the tts extra"
)


def _posteriors(names):
    table = np.full((len(names), len(PHONES)), 0.001)
    for frame, name in enumerate(names):
        table[frame, PHONE_INDEX[name]] = 0.9
    return np.log(table)


def _script(*phones, breaks=None):
    return Script(phones=phones, stress=(0.0,) * len(phones), breaks=tuple(breaks or (False,) * len(phones)))


def test_clear_posteriors_are_aligned_frame_by_frame():
    heard = ["sil"] * 3 + ["m"] * 4 + ["a"] * 5 + ["p"] * 2 + ["sil"] * 2
    alignment = align_script(_posteriors(heard), _script("m", "a", "p"))
    assert [phone.phone for phone in alignment.phones] == ["sil", "m", "a", "p", "sil"]
    assert alignment.phones[1].start == pytest.approx(2.5 / 50)
    assert alignment.phones[3].end == pytest.approx(13.5 / 50)
    assert alignment.score == pytest.approx(np.log(0.9))


def test_pauses_appear_only_where_allowed():
    heard = ["a"] * 4 + ["sil"] * 4 + ["o"] * 4
    with_pause = align_script(_posteriors(heard), _script("a", "o", breaks=(False, True)))
    without = align_script(_posteriors(heard), _script("a", "o"))
    assert [phone.phone for phone in with_pause.phones] == ["a", "sil", "o"]
    assert [phone.phone for phone in without.phones] == ["a", "o"]
    assert with_pause.score > without.score


@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 10_000))
def test_paths_are_monotone_and_visit_all_that_is_required(frames, states, seed):
    rng = np.random.default_rng(seed)
    optional = [state % 2 == 0 for state in range(2 * states + 1)]
    scores = rng.normal(size=(frames, len(optional)))
    if frames < states:
        with pytest.raises(InvalidInputError, match="do not fit"):
            viterbi(scores, optional)
        return
    path = viterbi(scores, optional)
    assert (np.diff(path) >= 0).all()
    assert {state for state, skip in enumerate(optional) if not skip} <= set(path.tolist())


def test_the_path_is_the_best_of_all():
    scores = np.random.default_rng(1).normal(size=(6, 3))
    optional = [False, True, False]
    found = scores[np.arange(6), viterbi(scores, optional)].sum()
    every = [
        scores[np.arange(6), path].sum()
        for path in np.ndindex(*(3,) * 6)
        if path[0] == 0 and path[-1] == 2 and all(0 <= step <= 2 for step in np.diff(path))
    ]
    assert found == pytest.approx(max(every))


def test_a_script_without_phones_is_refused():
    with pytest.raises(UsageError, match="no phones"):
        align_script(_posteriors(["a"]), _script())


def _hum_with_gap(start, stop):
    times = np.arange(16_000) / 16_000
    hum = 0.1 * sum(np.sin(2 * np.pi * 140 * k * times) for k in range(1, 20))
    hum[int(start * 16_000) : int(stop * 16_000)] *= 0.01
    return hum.astype(np.float32)


def test_closures_move_to_the_dip_and_neighbours_give_way():
    phones = [TimedPhone("a", 0.0, 0.48), TimedPhone("p", 0.48, 0.62), TimedPhone("o", 0.62, 1.0)]
    snapped = snap_closures(phones, _hum_with_gap(0.5, 0.58))
    (window,) = closure_windows(snapped)
    assert window == pytest.approx((0.5, 0.58), abs=0.006)
    assert snapped[0].end == snapped[1].start
    assert snapped[1].end == snapped[2].start


def test_espeak_events_become_closures_before_bursts():
    spoken = Spoken(
        samples=np.zeros(22_050, np.float32),
        rate=22_050,
        events=((0.2, "p"), (0.25, "ˈaɪ"), (0.45, "m"), (0.6, "")),
        words=(0.1,),
    )
    phones = espeak_phones(spoken)
    assert [phone.phone for phone in phones] == ["sil", "p", "a", "ɪ", "m", "sil"]
    assert phones[1].closure == pytest.approx((0.152, 0.205))
    assert phones[4].closure == pytest.approx((0.44, 0.6))
    assert phones[2].stress == 1.0
    wanted = script_of(spoken)
    assert wanted.phones == ("p", "a", "ɪ", "m")
    assert wanted.breaks == (True, False, False, False)


def test_empty_and_repeated_silences_are_merged():
    silences = [TimedPhone("sil", 0.0, 1.0), TimedPhone("sil", 1.0, 1.0), TimedPhone("sil", 1.0, 2.0)]
    vowel = TimedPhone("a", 2.0, 3.0)
    assert merge_silences([*silences, vowel]) == [TimedPhone("sil", 0.0, 2.0), vowel]


@needs_espeak
def test_words_are_spelled_in_their_language_with_pauses_between():
    wanted = script("Papa, bitte.", "de")
    assert [phone for phone in wanted.phones if phone in "pbt"] == ["p", "p", "b", "t"]
    assert wanted.breaks == (True, False, False, False, True, False, False, False)


@needs_espeak
def test_unknown_languages_and_empty_texts_are_refused():
    with pytest.raises(UsageError, match="'tlh-x'"):
        script("hello", "tlh-x")
    with pytest.raises(UsageError, match="empty"):
        script("  ", "en-us")


def test_a_missing_synthesiser_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(espeak.ctypes.util, "find_library", lambda name: None)
    espeak.espeak.cache_clear()
    with pytest.raises(MissingResourceError, match=r"pip install affetto\[tts\]"):
        espeak.espeak()
    espeak.espeak.cache_clear()
