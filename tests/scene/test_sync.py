from dataclasses import replace

import numpy as np
import pytest

from affetto.acting.expression import expression_pose, speech_gate
from affetto.acting.lip_sync import lag_of
from affetto.conditioning.track import EmotionTrack
from affetto.media.animation.curves import FaceCurves
from affetto.scene.sync import BAR_MS, BROWS, Lag, earlier, face_lags, in_time, joined, pooled, ramps
from affetto.speech.content import SpeechContent
from affetto.speech.phones import PHONES


@pytest.mark.parametrize("lag_s", [-0.12, 0.0, 0.075])
def test_a_lag_is_found_to_the_millisecond(lag_s):
    rng = np.random.default_rng(0)
    times = np.arange(0, 12, 0.01)
    knots = rng.uniform(0, 1, 40)

    def course(at: np.ndarray) -> np.ndarray:
        return np.interp(at, np.linspace(-1, 13, 40), knots)

    cause = np.stack([course(times), course(times + 3)], axis=1)
    effect = (0.4 * course(times - lag_s) - 0.2 * course(times + 3 - lag_s))[:, None]
    found = lag_of(cause, effect + 0.01 * rng.standard_normal(effect.shape), fps=100.0)
    assert found is not None
    assert found[0] == pytest.approx(lag_s, abs=0.005)
    assert found[1] > 0.9


def test_no_lag_is_made_up_where_nothing_moves_or_nothing_fits():
    rng = np.random.default_rng(1)
    still = np.ones((500, 2))
    noise = rng.standard_normal((500, 3))
    assert lag_of(still, noise, fps=100.0) is None
    assert lag_of(rng.standard_normal((3000, 1)), rng.standard_normal((3000, 2)), fps=100.0) is None


TRACK = EmotionTrack.parse("0:neutral; 1.5:neutral; 1.8:surprised; 3:surprised; 3.4:neutral; 6:neutral")


def posed(times: np.ndarray) -> np.ndarray:
    batch = TRACK.sample(np.maximum(times, 0))
    return expression_pose(batch.anchors().astype(float), batch.effective_vad.astype(float))


def test_brows_that_come_late_are_told_apart_from_a_mouth_in_time():
    times = np.arange(0, 6, 1 / 50)
    still = FaceCurves.neutral(len(times), 50.0)
    weights = posed(times)
    weights[:, BROWS] = posed(times - 0.1)[:, BROWS]
    felt = FaceCurves(fps=50.0, weights=weights.astype(np.float32), head=still.head, eyes=still.eyes)
    found = face_lags(felt, still, TRACK)
    brows = [lag for _, lag in found if lag.what == "emotion in the brows"]
    assert [ramp.start for ramp, _ in found[:2]] == [1.5, 3.0]
    assert [lag.milliseconds for lag in brows] == pytest.approx([100, 100], abs=10)
    assert not brows[0].holds


def test_a_word_that_begins_in_a_change_is_no_lag():
    track = EmotionTrack.parse("0:neutral; 1.5:neutral; 1.9:happy; 4:happy")
    times = np.arange(0, 4, 1 / 50)
    batch = track.sample(times)
    pose = expression_pose(batch.anchors().astype(float), batch.effective_vad.astype(float))
    speaking = (times > 1.7).astype(np.float32)
    quiet = np.zeros_like(speaking)
    phones = np.zeros((len(times), len(PHONES)), np.float32)
    said = SpeechContent(fps=50.0, phones=phones, closure=quiet, loudness=speaking, speaking=speaking)
    still = FaceCurves.neutral(len(times), 50.0)
    shown = (pose * speech_gate(speaking, quiet, 50.0)).astype(np.float32)
    felt = FaceCurves(fps=50.0, weights=shown, head=still.head, eyes=still.eyes)

    def mouth(content: SpeechContent | None) -> float:
        (lag,) = (
            lag for _, lag in face_lags(felt, still, track, content) if lag.what == "emotion around the mouth"
        )
        return lag.milliseconds

    assert mouth(said) == pytest.approx(0, abs=5)
    assert abs(mouth(None)) > 10


def test_changes_that_come_late_are_begun_earlier_and_the_rest_stays():
    found = [
        (ramp, Lag(what="x", milliseconds=120.0, explained=1.0, seconds=1.0)) for ramp in ramps(TRACK, 6.0)
    ]
    early = earlier({}, found)
    moved = in_time(TRACK, early["x"])
    assert [key.time for key in moved.keyframes] == pytest.approx([0, 1.38, 1.68, 2.88, 3.28, 6.0], abs=0.01)
    assert [key.emotion for key in moved.keyframes] == [key.emotion for key in TRACK.keyframes]
    assert set(earlier(early, found)["x"].values()) == {0.2}  # twice .12 is more than may be


def test_the_upper_face_of_one_performance_joins_the_lower_of_another():
    still = FaceCurves.neutral(3, 25.0)
    one = replace(still, weights=np.full_like(still.weights, 0.2), head=still.head + 1)
    other = replace(still, weights=np.full_like(still.weights, 0.7))
    both = joined(one, other)
    assert both.channel("browInnerUp") == pytest.approx(0.2)
    assert both.channel("eyeBlinkLeft") == pytest.approx(0.2)
    assert both.channel("jawOpen") == pytest.approx(0.7)
    assert both.channel("mouthSmileLeft") == pytest.approx(0.7)
    assert np.array_equal(both.head, one.head)


def test_slow_and_small_changes_are_not_timed():
    assert ramps(EmotionTrack.parse("0:neutral; 3:happy; 4:happy"), 6.0) == []
    assert ramps(EmotionTrack.parse("0:happy; 2:happy; 2.3:happy@0.9; 5:happy@0.9"), 6.0) == []
    held = ramps(EmotionTrack.parse("0:happy~hold; 2:sad"), 6.0)
    assert [(ramp.start, ramp.stop) for ramp in held] == [(2.0, 2.0)]


def test_lags_of_several_speakers_are_averaged_by_how_much_they_say():
    lags = [
        Lag(what="x", milliseconds=10.0, explained=0.9, seconds=10.0),
        Lag(what="x", milliseconds=100.0, explained=0.1, seconds=1.0),
    ]
    assert pooled(lags)[0].milliseconds == pytest.approx(10 + 90 * 0.1 / 9.1)
    assert pooled(lags)[0].worst == 100.0
    assert BAR_MS == 40.0
