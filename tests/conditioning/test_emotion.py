import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.conditioning.emotion import ANCHORS_8, Emotion, Mixture
from affetto.conditioning.lexicon import ALIASES, EMOJI, LEXICON, RUSSELL_MEHRABIAN, find_term
from affetto.runtime.errors import UsageError
from tests.conditioning.strategies import emotions

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module")  # beartype draws samples

NEUTRAL = np.eye(8, dtype=np.float32)[0]


@given(emotions())
def test_the_text_of_an_emotion_reads_back_to_the_same_value(emotion):
    assert Emotion.parse(str(emotion)) == emotion
    assert hash(Emotion.parse(str(emotion))) == hash(emotion)
    assert pickle.loads(pickle.dumps(emotion)) == emotion


@given(emotions())
def test_anchor_weights_sum_to_one_and_are_exactly_neutral_at_intensity_zero(emotion):
    assert emotion.anchors().sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(emotion.scaled(0.0).anchors(), NEUTRAL)
    assert sum(emotion.effective_mixture().values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ANCHORS_8)
def test_a_named_anchor_at_full_intensity_is_that_anchor(name):
    weights = Emotion.parse(name).anchors()
    assert weights[ANCHORS_8.index(name)] >= 0.99


@pytest.mark.parametrize(
    ("text", "vad", "intensity"),
    [
        ("happy", (0.81, 0.51, 0.46), 1.0),
        (" Happy @0.7 ", (0.81, 0.51, 0.46), 0.7),
        ("joy", (0.76, 0.48, 0.35), 1.0),
        ("fearful", (-0.64, 0.60, -0.43), 1.0),
        ("in love", (0.82, 0.65, -0.05), 1.0),
        ("happy:0.6+sad:0.4@0.8", (0.234, 0.198, 0.144), 0.8),
        ("happy:3+sad:2", (0.234, 0.198, 0.144), 1.0),
        ("vad(0.5, .2, -0.1)", (0.5, 0.2, -0.1), 1.0),
        ("🙂", (0.81, 0.51, 0.46), 0.5),
        ("neutral@0.5", (0.0, 0.0, 0.0), 0.0),
    ],
)
def test_every_text_form_is_understood(text, vad, intensity):
    emotion = Emotion.parse(text)
    assert emotion.vad == pytest.approx(vad, abs=1e-9)
    assert emotion.intensity == pytest.approx(intensity)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hapy", "did you mean happy"),
        ("xqzzt", "--list"),
        ("", "empty emotion"),
        ("happy@", "cannot read the intensity"),
        ("happy@3", "intensity must lie in 0..1"),
        ("happy@-1", "intensity must lie in 0..1"),
        ("happy@nan", "cannot read the intensity"),
        ("happy:0.5", r"write happy@0\.5"),
        ("happy:0.5+:0.5", "a name is missing"),
        ("happy:-1+sad:2", "must be a number >= 0"),
        ("happy:0+sad:0", "at least one share above 0"),
        ("vad(0.5,0.2", "write vad"),
        ("vad(3,0,0)", "scales of 1..9"),
        ("happy?2", "confidence must lie"),
        ("a" * 3000, "characters"),
    ],
)
def test_a_wrong_text_gives_one_line_with_the_way_out(text, message):
    with pytest.raises(UsageError, match=message) as failure:
        Emotion.parse(text)
    assert "\n" not in str(failure.value)


def test_intensity_above_one_is_allowed_and_flagged():
    emotion = Emotion.parse("angry@1.5")
    assert emotion.overdriven
    assert emotion.anchors()[0] == pytest.approx(-0.5)
    assert np.abs(emotion.effective_vad()).max() <= 1


def test_a_missing_dominance_is_completed_from_the_other_axes():
    assert Emotion.parse("vad(0.8,0.3)").vad[2] > Emotion.parse("vad(-0.8,0.3)").vad[2]


@given(emotions(), emotions(), st.floats(0, 1))
def test_blending_is_linear_in_what_is_felt(first, second, w):
    blended = first.blend(second, w)
    expected = (1 - w) * first.intensity * np.array(first.vad) + w * second.intensity * np.array(second.vad)
    assert blended.intensity * np.array(blended.vad) == pytest.approx(expected, abs=1e-6)
    assert sum(blended.named().values()) == pytest.approx(1)


@given(st.dictionaries(st.sampled_from(sorted(LEXICON)), st.floats(0.001, 10), min_size=1, max_size=8))
def test_a_mixture_sums_to_one(shares):
    mixture = Mixture(shares)
    assert sum(mixture.values()) == pytest.approx(1)
    assert Mixture(mixture) == mixture


def test_fading_an_emotion_keeps_its_name():
    faded = Emotion.parse("happy").blend(Emotion.neutral(), 0.75)
    assert str(faded) == "happy@0.25"


def test_the_lexicon_is_complete_and_every_alias_and_emoji_leads_into_it():
    assert len(RUSSELL_MEHRABIAN) == 151
    table = np.array([LEXICON[name].vad for name in RUSSELL_MEHRABIAN])
    assert table.mean(axis=0) == pytest.approx([0.01, 0.19, 0.03], abs=0.015)
    assert np.corrcoef(table.T)[0, 2] == pytest.approx(0.63, abs=0.02)
    assert all(name in LEXICON for name in ALIASES.values())
    assert not set(ALIASES) & set(LEXICON)
    assert all(Emotion.parse(symbol).intensity >= 0 for symbol in EMOJI)
    assert find_term("nothing like it") is None


def test_distance_grows_with_difference():
    happy, joyful, sad = (Emotion.parse(text) for text in ("happy", "joyful", "sad"))
    assert happy.distance(happy) == 0
    assert happy.distance(joyful) < happy.distance(sad)
