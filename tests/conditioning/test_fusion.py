import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading, measured_emotion
from affetto.conditioning.fusion import CLASSES, class_shares, fuse
from affetto.conditioning.lexicon import LEXICON
from affetto.runtime.errors import UsageError


def _reading(modality, name, *, variance=0.05, confidence=0.9, strength=0.9):
    return Reading(
        modality=modality,
        vad=strength * np.array(LEXICON[name].vad),
        variance=np.full(3, variance),
        mixture={name: strength, "neutral": 1 - strength},
        confidence=confidence,
    )


def test_agreeing_readings_come_out_as_they_are_and_surer_in_vad():
    one, two = _reading("text", "happy"), _reading("voice", "happy")
    fused = fuse([one, two])
    assert np.allclose(fused.vad, one.vad)
    assert np.allclose(fused.variance, 0.025)
    assert fused.conflict < 1e-9
    assert fused.mixture["happy"] == pytest.approx(0.9, abs=0.02)
    assert fused.emotion.intensity == pytest.approx(0.9, abs=0.02)


def test_the_more_precise_reading_pulls_harder():
    fused = fuse([_reading("text", "happy", variance=0.01), _reading("voice", "sad", variance=0.09)])
    happy, sad = (0.9 * np.array(LEXICON[name].vad) for name in ("happy", "sad"))
    assert np.allclose(fused.vad, 0.9 * happy + 0.1 * sad)


def test_contradiction_is_measured_and_lowers_confidence():
    agree = fuse([_reading("text", "happy"), _reading("voice", "happy")])
    clash = fuse([_reading("text", "happy"), _reading("voice", "angry")])
    assert clash.conflicted
    assert not agree.conflicted
    assert 0.5 < clash.conflict < 1.5
    assert 0.4 < clash.emotion.intensity < 0.9
    assert clash.emotion.confidence < agree.emotion.confidence
    assert set(clash.divergence) == {"text", "voice"}


def test_an_override_stands_only_in_conflict():
    wanted = Emotion.from_label("sad", 0.5)
    clash = fuse([_reading("text", "happy"), _reading("voice", "angry")], override=wanted)
    agree = fuse([_reading("text", "happy"), _reading("voice", "happy")], override=wanted)
    assert clash.overridden
    assert clash.emotion == wanted
    assert not agree.overridden


def test_a_closed_gate_silences_a_modality():
    text, voice = _reading("text", "happy"), _reading("voice", "angry")
    fused = fuse([text, voice], gates={"voice": 0.0})
    assert np.allclose(fused.vad, text.vad)
    assert fused.conflict < 1e-9
    assert "angry" not in fused.mixture


def test_a_prior_pulls_toward_neutral():
    reading = _reading("text", "happy", variance=0.5)
    assert np.allclose(fuse([reading], prior_variance=0.5).vad, np.asarray(reading.vad) / 2)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(LEXICON)), st.floats(0.1, 1), st.floats(0, 1)),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None, max_examples=50)
def test_any_readings_fuse_to_a_valid_emotion_whatever_their_order(entries):
    readings = [
        _reading(f"m{index}", name, strength=strength, confidence=confidence)
        for index, (name, strength, confidence) in enumerate(entries)
    ]
    fused, turned = fuse(readings), fuse(readings[::-1])
    assert fused.conflict >= 0
    assert sum(fused.mixture.values()) == pytest.approx(1)
    assert np.allclose(fused.vad, turned.vad)
    assert fused.conflict == pytest.approx(turned.conflict)


def test_class_shares_are_probabilities_over_the_chart():
    shares = class_shares({"elated": 0.5, "happy": 0.5})
    assert shares.sum() == pytest.approx(1)
    assert CLASSES[int(shares.argmax())] == "happy"
    assert (shares > 0).all()


def test_a_measured_emotion_has_the_measured_effective_values():
    emotion = measured_emotion(np.array([0.3, 0.2, 0.1]), {"happy": 0.4, "neutral": 0.6})
    assert emotion.intensity == pytest.approx(0.4)
    assert np.allclose(emotion.effective_vad(), [0.3, 0.2, 0.1], atol=1e-6)
    assert emotion.effective_mixture()["neutral"] == pytest.approx(0.6)
    assert measured_emotion(np.zeros(3), {"neutral": 1.0}).intensity == 0


def test_bad_requests_are_refused():
    with pytest.raises(UsageError, match="nothing to fuse"):
        fuse([])
    with pytest.raises(UsageError, match="every gate is closed"):
        fuse([_reading("text", "happy")], gates={"text": 0.0})
    with pytest.raises(UsageError, match=r"must lie in 0\.\.1"):
        fuse([_reading("text", "happy")], gates={"text": 2.0})
    with pytest.raises(UsageError, match="the readings are of text"):
        fuse([_reading("text", "happy")], gates={"txt": 0.5})
    with pytest.raises(UsageError, match="variance must be positive"):
        _reading("text", "happy", variance=0.0)
