import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.acting.rules import Articulation, fill_silence, viseme_curves
from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX
from affetto.runtime.errors import UsageError
from affetto.speech.phones import PHONES, SILENCE, TimedPhone

MAMA = [
    TimedPhone("m", 0.30, 0.38),
    TimedPhone("a", 0.38, 0.55),
    TimedPhone("m", 0.55, 0.63),
    TimedPhone("a", 0.63, 0.8),
]


def said(*labels, step=0.09, start=0.3):
    return [TimedPhone(label, start + step * i, start + step * (i + 1)) for i, label in enumerate(labels)]


def channel(curves, name):
    return curves[:, ARKIT_INDEX[name]]


@st.composite
def utterances(draw):
    labels = draw(st.lists(st.sampled_from(PHONES), min_size=1, max_size=12))
    clock, phones = draw(st.floats(0, 0.5)), []
    for label in labels:
        length = draw(st.floats(0.03, 0.3))
        phones.append(TimedPhone(label, clock, clock + length, stress=draw(st.floats(0, 1))))
        clock += length
    return phones, clock + draw(st.floats(0.01, 0.5))


@settings(deadline=None, max_examples=40)
@given(utterances())
def test_weights_stay_within_bounds_and_the_upper_face_rests(utterance):
    phones, seconds = utterance
    curves = viseme_curves(phones, seconds)
    assert curves.shape == (int(np.ceil(seconds * 50 - 1e-6)), 52)
    assert curves.min() >= 0
    assert curves.max() <= 1
    still = [i for i, name in enumerate(ARKIT_52) if not name.startswith(("mouth", "jaw", "tongue"))]
    assert not curves[:, still].any()


@settings(deadline=None, max_examples=40)
@given(utterances())
def test_filled_phones_cover_the_clip_without_gaps(utterance):
    phones, seconds = utterance
    filled = fill_silence(phones, seconds)
    assert filled[0].start == pytest.approx(0.0, abs=0.01)
    assert filled[-1].end == pytest.approx(seconds, abs=0.01)
    assert all(a.end == b.start for a, b in itertools.pairwise(filled))


def test_silence_leaves_the_face_at_rest():
    assert not viseme_curves([], 1.0).any()
    assert not viseme_curves([TimedPhone(SILENCE, 0.0, 1.0)], 1.0).any()


def test_mouth_close_meets_the_jaw_throughout_a_bilabial():
    curves = viseme_curves(MAMA, 1.2)
    inside = slice(28, 31)  # 0.56 .. 0.60 s, within the second m
    assert np.allclose(channel(curves, "mouthClose")[inside], channel(curves, "jawOpen")[inside], atol=0.01)
    assert channel(curves, "mouthPressLeft")[inside].min() >= 0.29
    assert channel(curves, "mouthLowerDownLeft")[inside].max() < 0.01
    assert channel(curves, "jawOpen")[22:25].max() > 0.2  # the vowel before it opens


def test_a_weakened_bilabial_is_not_forced_shut():
    weak = [MAMA[0], MAMA[1], TimedPhone("b", 0.55, 0.63, closes=False), MAMA[3]]
    strong = viseme_curves(MAMA, 1.2)
    assert channel(viseme_curves(weak, 1.2), "mouthClose")[29] < channel(strong, "mouthClose")[29]


def test_labiodentals_bite_and_sibilants_narrow_the_jaw():
    biting = viseme_curves(said("a", "f", "a"), 1.0)
    assert channel(biting, "mouthRollLower")[20:23].min() >= 0.35 - 1e-6
    hissing = viseme_curves(said("a", "s", "a"), 1.0)
    assert channel(hissing, "jawOpen")[20:23].max() <= 0.10 + 1e-6


def test_rounding_begins_before_its_vowel():
    curves = viseme_curves(said("t", "s", "u", step=0.1), 1.0)
    at_t_end = channel(curves, "mouthPucker")[20]
    assert 0.05 < at_t_end < channel(curves, "mouthPucker")[27]


def test_a_long_pause_brings_the_mouth_to_rest_within_a_quarter_second():
    phones = [*said("a", start=0.1, step=0.3), *said("a", start=1.6, step=0.3)]
    curves = viseme_curves(phones, 2.2)
    assert curves[33:70].max() < 0.02  # 0.66 .. 1.4 s
    assert channel(curves, "jawOpen")[10:18].max() > 0.25


def test_lips_do_not_lag_the_sound():
    """The opening of /pa/ trains peaks with the vowels: the articulators' delay is taken out."""
    phones = said(*("p", "a") * 8, step=0.15)
    curves = viseme_curves(phones, 3.0)
    opening = channel(curves, "jawOpen") - channel(curves, "mouthClose")
    vowel = np.zeros(len(opening))
    for phone in phones[1::2]:
        vowel[round(phone.start * 50) : round(phone.end * 50)] = 1
    lags = range(-8, 9)
    scores = [np.corrcoef(np.roll(vowel, lag), opening)[0, 1] for lag in lags]
    assert -2 <= lags[int(np.argmax(scores))] <= 1  # frames of 20 ms


def test_knobs_scale_jaw_and_lips_separately():
    plain = viseme_curves(said("a", "u"), 1.0)
    lazy = viseme_curves(said("a", "u"), 1.0, style=Articulation(jaw=0.5))
    assert channel(lazy, "jawOpen").max() == pytest.approx(0.5 * channel(plain, "jawOpen").max(), rel=1e-3)
    assert np.array_equal(channel(lazy, "mouthPucker"), channel(plain, "mouthPucker"))
    mumbled = viseme_curves(said("a", "u"), 1.0, style=Articulation(lip=0.0))
    assert not channel(mumbled, "mouthPucker").any()


def test_louder_speech_opens_wider():
    quiet = viseme_curves(said("a"), 1.0, energy=np.zeros(50))
    loud = viseme_curves(said("a"), 1.0, energy=np.ones(50))
    assert channel(loud, "jawOpen").max() > 1.2 * channel(quiet, "jawOpen").max()


def test_impossible_arguments_are_refused():
    with pytest.raises(UsageError, match="positive length"):
        viseme_curves([], 0.0)
    with pytest.raises(UsageError, match=r"lie in 0\.\.2"):
        Articulation(jaw=3.0)
