import numpy as np
import pytest

from affetto.conditioning.track import as_track
from affetto.generators.voice.adapter import voice_course
from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.controls import VoiceControls
from affetto.generators.voice.guide import (
    COLOUR_GAINS,
    GROUP_GAINS,
    RIVALS,
    Guide,
    VoiceOptions,
    broad,
    keep_range,
)

FRAMES = 200


def controls(voiced: float = 1.0) -> VoiceControls:
    melody = np.log(150.0) + 0.1 * np.sin(np.arange(FRAMES) / 15)
    return VoiceControls(
        log_f0=melody.astype(np.float32),
        voiced=np.full(FRAMES, voiced, np.float32),
        energy=np.full(FRAMES, -20.0, np.float32),
        envelope=np.zeros((FRAMES, 24), np.float32),
        aperiodicity=np.zeros((FRAMES, 3), np.float32),
    )


def test_only_the_broad_and_slow_shape_of_the_envelope_stays():
    rng = np.random.default_rng(0)
    tilt = np.linspace(-4, 4, 24)
    rows = np.zeros((FRAMES, 30))
    rows[:, 2:26] = tilt + rng.normal(0, 2, (FRAMES, 24))
    rows[:, [0, 1, 26, 29]] = rng.normal(size=(FRAMES, 4))
    kept = broad(rows)
    assert np.array_equal(kept[:, [0, 1, 26, 29]], rows[:, [0, 1, 26, 29]])
    assert np.abs(kept[:, 2:26] - tilt).mean() < 0.25 * np.abs(rows[:, 2:26] - tilt).mean()
    assert not broad(np.zeros((FRAMES, 30))).any()


def test_a_flattened_melody_gets_its_range_back_and_keeps_its_middle():
    mean = np.full((FRAMES, 30), 0.0)
    mean[:, 0] = 5.0
    own = 12 / np.log(2) * controls().log_f0.astype(np.float64)
    rows = mean.copy()
    rows[:, 0] -= 0.25 * (own - own.mean())  # flattened by a quarter
    out = own + keep_range(rows, mean, controls())[:, 0]
    assert out.std() == pytest.approx(own.std(), rel=1e-3)
    assert out.mean() == pytest.approx((own + rows[:, 0]).mean(), abs=1e-6)


def test_without_voice_there_is_no_range_to_keep():
    rows = np.random.default_rng(0).normal(size=(FRAMES, 30))
    assert np.array_equal(keep_range(rows, np.zeros((FRAMES, 30)), controls(voiced=0.0)), rows)


@pytest.fixture(scope="module")
def bank():
    return VoiceBank.from_pretrained()


def guide(bank, emotion):
    made = Guide(bank, None, as_track(emotion), VoiceOptions())
    made.settle(np.zeros(256))
    return made


def test_anger_is_pushed_away_from_joy_and_sadness_from_nothing(bank):
    angry, sad = guide(bank, "angry"), guide(bank, "sad")
    course = angry.course(0, 20)
    away, push = angry.rival(course)
    joy = guide(bank, "happy")
    np.testing.assert_allclose(away, joy.target(joy.course(0, 20)), atol=1e-5)
    np.testing.assert_allclose(push, RIVALS["angry"][1], rtol=1e-6)
    assert not sad.rival(sad.course(0, 20))[1].any()


def test_a_track_is_pushed_only_where_the_confusable_emotion_is(bank):
    scene = guide(bank, "0:sad; 1:sad; 1.2:angry; 3:angry")
    push = scene.rival(scene.course(0, 300))[1]
    assert push[:80] == pytest.approx(0.0, abs=1e-6)
    assert push[200:] == pytest.approx(RIVALS["angry"][1], rel=1e-3)
    assert (np.diff(push) > -1e-9).all()


def test_gains_of_a_mixture_lie_between_those_of_its_emotions(bank):
    made = guide(bank, "angry:0.5+happy:0.5")
    course = voice_course(as_track("angry:0.5+happy:0.5"), bank, frames=4)
    gains = made.column_gains(course)
    assert gains.shape == (4, 30)
    middle = 0.5 * (COLOUR_GAINS["angry"][0] + COLOUR_GAINS["happy"][0])
    np.testing.assert_allclose(gains[:, 2:26], middle, rtol=1e-6)
    np.testing.assert_allclose(gains[:, 0], GROUP_GAINS[0], rtol=1e-6)
