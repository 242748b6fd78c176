"""Emotions as priors, portraits as the denoiser takes them, speech as whisper hears it."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.emotion import Emotion
from affetto.generators.portrait.full.framing import FaceBox, frame_portrait
from affetto.generators.portrait.full.priors import anchor_course, emotion_tokens, priors_of
from affetto.generators.portrait.full.speech import published_frames, speech_states, speech_windows
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError, UsageError

from .small import TINY, photo, speech

PRIORS = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))


def mixed(emotion, frames=1):
    rows, index = priors_of(anchor_course(emotion, frames), PRIORS)
    return rows[index]


@pytest.mark.parametrize("name", ANCHORS_8)
def test_a_published_emotion_gives_its_own_prior(name):
    assert torch.allclose(mixed(name), PRIORS[[ANCHORS_8.index(name)]], atol=1e-6)


def test_intensity_goes_from_neutral_to_the_emotion_and_beyond():
    neutral, angry = PRIORS[0], PRIORS[ANCHORS_8.index("angry")]
    assert torch.equal(mixed("angry@0")[0], neutral)
    assert torch.allclose(mixed("angry@0.5")[0], (neutral + angry) / 2, atol=1e-5)
    beyond = Emotion.from_label("angry", 1.5)
    assert torch.allclose(mixed(beyond)[0], neutral + 1.5 * (angry - neutral), atol=1e-5)


def test_a_mixture_lies_between_its_emotions():
    happy, sad = (PRIORS[ANCHORS_8.index(name)] for name in ("happy", "sad"))
    assert torch.allclose(mixed("happy:0.6+sad:0.4")[0], 0.6 * happy + 0.4 * sad, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_any_point_of_the_vad_cube_gives_convex_weights(valence, arousal, dominance):
    weights = anchor_course(Emotion.from_vad(valence, arousal, dominance), 1)[0]
    assert weights.min() >= -1e-6
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)


def test_tokens_of_a_course_are_computed_once_for_each_different_emotion():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TINY.build("emotion_model").eval()
    model.priors.copy_(PRIORS)
    course = anchor_course("0:sad; 1:sad; 1.001:happy; 9:happy", 25)
    tokens = emotion_tokens(model, model.priors, course)
    assert len(tokens.rows) == 3  # sad, happy, nothing
    assert tokens.null == 2
    assert tokens.index[0] != tokens.index[-1]
    alone = model(PRIORS[[ANCHORS_8.index("sad")]]).tokens[0]
    assert torch.allclose(tokens.rows[tokens.index[0]], alone, atol=1e-5)
    padded = tokens.padded(4)
    assert padded.index[-4:].tolist() == [2] * 4


def test_a_portrait_is_cropped_to_a_square_about_the_face_and_sized():
    face = FaceBox(left=40.0, top=30.0, right=80.0, bottom=80.0)
    framed = frame_portrait(photo(), face, size=128)
    assert framed.size == (128, 128)
    left, top, right, bottom = framed.crop
    assert right - left == bottom - top == 100  # the box grown by half of itself on each side
    assert (left + right) / 2 == 60
    assert framed.pixels().min() >= -1
    assert framed.pixels().max() <= 1
    assert framed.for_clip().shape == (1, 3, 224, 224)


def test_the_mask_is_the_box_grown_by_a_tenth():
    face = FaceBox(left=32.0, top=32.0, right=96.0, bottom=96.0)
    framed = frame_portrait(photo(), face, size=128, crop=False)
    mask = framed.mask
    assert mask.shape == (128, 128)
    assert mask.max() == 1.0
    assert mask[64, 64] == 1.0
    assert mask[10, 64] == 0.0
    assert mask.sum() == pytest.approx((64 * 1.1) ** 2, rel=0.03)


@given(st.integers(64, 700), st.integers(64, 700), st.sampled_from([64, 128, 256]))
@settings(deadline=None, max_examples=15)
def test_any_picture_gets_sides_that_are_multiples_of_64(width, height, size):
    assume(40.0 * size > 9.0 * min(width, height))  # a face of fewer than eight pixels is refused
    picture = np.zeros((height, width, 3), np.uint8)
    face = FaceBox(left=10.0, top=10.0, right=50.0, bottom=60.0)
    for crop in (True, False):
        framed = frame_portrait(picture, face, size=size, crop=crop)
        assert all(side % 64 == 0 for side in framed.size)
        assert min(framed.size) == size
        assert framed.mask.shape == framed.picture.shape[:2]


def test_the_box_about_68_points_takes_in_the_forehead():
    box = FaceBox.about_points((100.0, 100.0, 200.0, 220.0))
    assert box.top == 70
    assert (box.left, box.right, box.bottom) == (95, 205, 220)


def test_boxes_and_sizes_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="8 pixels"):
        FaceBox(left=10.0, top=10.0, right=12.0, bottom=90.0)
    with pytest.raises(UsageError, match=r"64\.\.1024"):
        frame_portrait(photo(), FaceBox(left=0.0, top=0.0, right=50.0, bottom=50.0), size=32)
    with pytest.raises(InvalidInputError, match="outside the picture"):
        frame_portrait(photo(), FaceBox(left=300.0, top=0.0, right=350.0, bottom=50.0))


def test_speech_states_are_fifty_a_second_and_longer_sound_is_heard_in_chunks():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = TINY.build("speech").eval()
    chunk = 2.0  # seconds, of this small encoder
    sound = speech(2 * chunk + 0.5)
    states = speech_states(encoder, sound)
    assert states.shape == (2 * (int(4.5 * 16_000) // 640), 3, 16)
    second = speech_states(encoder, sound.sliced(chunk, 2 * chunk))
    assert torch.allclose(states[100:200], second, atol=1e-5)
    assert published_frames(len(states)) == 56


def test_windows_of_speech_end_in_silence_when_the_sound_does():
    states = torch.ones(8, 2, 3)
    windows = speech_windows(states, 5)
    assert windows.shape == (5, 10, 2, 3)
    assert windows[0, :4].sum() == 0
    assert windows[4].sum() == 0
    assert windows[1].sum() == 8 * 6


def test_sound_that_is_too_short_is_refused():
    encoder = TINY.build("speech").eval()
    with pytest.raises(InvalidInputError, match="too short"):
        speech_states(encoder, Audio(samples=np.full((1, 500), 0.1, np.float32), rate=16_000))
