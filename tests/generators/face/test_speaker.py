import numpy as np
import pytest
import torch

from affetto.acting.adapter import face_emotion
from affetto.acting.rules import viseme_curves
from affetto.conditioning.track import as_track
from affetto.generators.face.motion import MotionModel
from affetto.generators.face.motion_net import MotionConfig, MotionNet
from affetto.generators.face.performance import Window
from affetto.generators.face.speaker import NetworkSpeaker
from affetto.speech.content import SpeechContent
from affetto.speech.decide import decided, timed_phones
from affetto.speech.phones import PHONES, TimedPhone

SAID = [TimedPhone(name, 0.2 + 0.12 * i, 0.32 + 0.12 * i) for i, name in enumerate("mapusibo")]


@pytest.fixture(scope="module")
def speak():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MotionNet(MotionConfig(width=32, prior_width=32, latent=8, layers=2, heads=2))
    return NetworkSpeaker(MotionModel(net, device=torch.device("cpu")))


def window(text, *, doubt=0.0):
    """Eight phones of which a reader is sure but for `doubt`, which it shares out among all."""
    exact = SpeechContent.from_phones(SAID, 1.4)
    phones = (1 - doubt) * exact.phones + doubt / len(PHONES)
    content = SpeechContent(
        fps=exact.fps,
        phones=phones.astype(np.float32),
        closure=exact.closure,
        loudness=exact.loudness,
        speaking=exact.speaking,
    )
    emotion = face_emotion(as_track(text).sample(np.arange(len(content)) / 50.0), 50.0)
    return Window(content=content, emotion=emotion, start_s=0.0)


def test_without_emotion_the_lips_are_those_of_the_rules(speak):
    heard = window(None)
    (curves,) = speak([heard])
    phones = timed_phones(decided(heard.content))
    ruled = viseme_curves(phones, heard.content.seconds, energy=heard.content.loudness)
    assert np.abs(curves - ruled).max() < 1e-6


def test_a_reader_in_doubt_gives_the_same_lips(speak):
    for text in (None, "happy", "angry@1.5"):
        sure, unsure = speak([window(text), window(text, doubt=0.6)])
        assert np.abs(sure - unsure).max() < 1e-5


def test_emotion_changes_the_face_within_bounds(speak):
    calm, glad, overdriven = speak([window(None), window("happy"), window("happy@2")])
    assert np.abs(glad - calm).mean() > 1e-4
    assert overdriven.min() >= 0
    assert overdriven.max() <= 1
    assert overdriven.dtype == np.float32
