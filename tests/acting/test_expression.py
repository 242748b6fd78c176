import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.acting.expression import (
    LOWER_FACE,
    PROFILE_POSES,
    Mood,
    breathing,
    express,
    expression_pose,
    mood,
    paced,
    speech_gate,
)
from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.emotion import Emotion
from affetto.media.animation.curves import ARKIT_INDEX

FPS = 50.0
NEUTRAL = np.eye(8)[:1]
NO_VAD = np.zeros((1, 3))


def face_of(text):
    emotion = Emotion.parse(text)
    anchors, vad = (
        emotion.anchors()[None].astype(np.float64),
        emotion.effective_vad()[None].astype(np.float64),
    )
    return expression_pose(anchors, vad)[0]


def weight(face, name):
    return face[ARKIT_INDEX[name]]


def test_neutral_and_zero_intensity_are_exactly_zero():
    assert not expression_pose(NEUTRAL, NO_VAD).any()
    for name in ANCHORS_8:
        assert not face_of(f"{name}@0").any()


@pytest.mark.parametrize("name", ANCHORS_8[1:])
def test_a_named_emotion_gives_its_profile(name):
    profile = PROFILE_POSES[ANCHORS_8.index(name)]
    assert np.abs(face_of(name) - profile).max() < 0.1


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(ANCHORS_8[1:]), st.floats(0.05, 1.9), st.floats(0.01, 0.1))
def test_more_intensity_never_shows_less(name, intensity, step):
    weaker, stronger = face_of(f"{name}@{intensity:.4f}"), face_of(f"{name}@{intensity + step:.4f}")
    assert stronger.sum() > weaker.sum() - 0.02
    assert stronger.max() <= 1.0


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, 2))
def test_any_vad_point_gives_a_possible_face(vad, intensity):
    emotion = Emotion.from_vad(*vad, intensity=intensity)
    face = expression_pose(emotion.anchors()[None].astype(float), emotion.effective_vad()[None].astype(float))
    assert face.min() >= 0
    assert face.max() <= 1


def test_valence_moves_the_mouth_corners_and_arousal_the_lids():
    assert weight(face_of("vad(0.8,0.2,0.2)"), "mouthSmileLeft") > weight(
        face_of("vad(0.2,0.2,0.2)"), "mouthSmileLeft"
    )
    assert weight(face_of("vad(-0.6,-0.2,-0.3)"), "mouthFrownLeft") > 0.2
    assert weight(face_of("vad(0,0.8,0)"), "eyeWideLeft") > weight(face_of("vad(0,0.1,0)"), "eyeWideLeft")


def test_contempt_is_one_sided():
    face = face_of("contempt")
    assert weight(face, "mouthSmileLeft") > 0.4
    assert weight(face, "mouthSmileRight") == 0


def test_speech_alone_passes_untouched():
    speech = np.random.default_rng(0).random((30, 52)).astype(np.float32)
    silent = np.zeros(30)
    anchors, vad = np.repeat(NEUTRAL, 30, 0), np.zeros((30, 3))
    assert np.array_equal(express(speech, anchors, vad, speaking=silent + 1, closure=silent), speech)


def test_the_lower_face_gives_way_to_speech_and_to_closures():
    speaking, closure = np.ones(200), np.zeros(200)
    speaking[:80] = 0
    closure[150:156] = 1
    gate = speech_gate(speaking, closure, FPS)
    assert np.allclose(gate[20], 1)
    talking = gate[120]
    assert 0.3 < talking[LOWER_FACE].mean() < 0.6
    assert (talking[~LOWER_FACE] == 1).all()
    assert gate[153, ARKIT_INDEX["mouthUpperUpLeft"]] < 0.02
    assert gate[153, ARKIT_INDEX["mouthSmileLeft"]] == pytest.approx(talking[ARKIT_INDEX["mouthSmileLeft"]])


def test_emotions_come_in_faster_than_they_leave():
    anchors = np.repeat(NEUTRAL, 300, 0)
    anchors[100:200] = np.eye(8)[1]
    happy = paced(anchors, FPS)[:, 1]
    rise = np.flatnonzero(happy >= 0.9)[0] - np.flatnonzero(happy >= 0.1)[0]
    fall = np.flatnonzero(happy[150:] < 0.1)[0] - np.flatnonzero(happy[150:] < 0.9)[0]
    assert rise < fall
    assert happy[150] == pytest.approx(1.0)
    assert not paced(anchors, FPS)[:, 2:].any()
    assert not paced(np.repeat(NEUTRAL, 50, 0), FPS)[:, 1:].any()


def test_every_change_is_half_way_when_the_track_is():
    anchors = np.repeat(NEUTRAL, 300, 0)
    anchors[100:200] = np.eye(8)[1]
    anchors[200:] = np.eye(8)[6]
    shown = paced(anchors, FPS)
    for column, at in ((1, 100), (1, 200), (6, 200)):
        around = shown[at - 1 : at + 1, column]
        assert around.mean() == pytest.approx(0.5, abs=0.01)


def test_one_emotion_giving_way_to_another_never_adds_up_to_more():
    anchors = np.repeat(np.eye(8)[1:2], 300, 0)
    anchors[150:] = np.eye(8)[2]
    assert paced(anchors, FPS)[:, 1:].sum(axis=1).max() <= 1 + 1e-9


def test_breathing_is_a_function_of_absolute_time():
    whole = breathing(500, FPS, seed=3)
    assert np.allclose(breathing(200, FPS, seed=3, start_s=4.0), whole[200:400])
    assert 0.02 < np.abs(whole - 1).mean() < 0.15
    assert not np.allclose(whole, breathing(500, FPS, seed=4))


def test_the_neutral_mood_is_ordinary():
    bearing = Mood.neutral(4)
    assert not bearing.head.any()
    assert not bearing.gaze.any()
    assert (bearing.articulation == 1).all()
    sad = mood(np.eye(8)[2:3], np.array([[-0.63, -0.27, -0.33]]))
    assert sad.head[0, 1] > 0.1  # looks down
    assert sad.articulation[0] < 0.9
