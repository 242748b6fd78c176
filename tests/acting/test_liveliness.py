import numpy as np
import pytest

from affetto.acting.expression import Mood
from affetto.acting.liveliness import MARGIN_S, LivelinessOptions, apply_life, enliven, look_weights
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.runtime.errors import UsageError

FPS = 50.0


def scene(frames=3000):
    rng = np.random.default_rng(1)
    speaking = (np.sin(np.arange(frames) / 60) > -0.3).astype(np.float64)
    return speaking, speaking * rng.random(frames)


def lively(frames=3000, seed=5, **amounts):
    speaking, loudness = scene(frames)
    options = LivelinessOptions(**amounts)
    return enliven(
        Mood.neutral(frames), speaking=speaking, loudness=loudness, fps=FPS, seed=seed, options=options
    )


def test_amount_zero_is_exactly_none():
    life = lively(blinks=0.0, gaze=0.0, head=0.0)
    assert not life.blink.any()
    assert not life.eyes.any()
    assert not life.head.any()


def test_the_same_seed_gives_the_same_life_and_another_a_different_one():
    first, again, other = lively(), lively(), lively(seed=6)
    assert np.array_equal(first.head, again.head)
    assert np.array_equal(first.blink, again.blink)
    assert not np.array_equal(first.blink, other.blink)


@pytest.mark.parametrize("start", [0, 410, 1333, 2600])
def test_a_window_with_its_margin_equals_the_same_stretch_of_the_whole(start):
    speaking, loudness = scene()
    whole = lively()
    margin = int(MARGIN_S * FPS)
    first, last = max(0, start - margin), min(3000, start + 400 + margin)
    part = enliven(
        Mood.neutral(last - first),
        speaking=speaking[first:last],
        loudness=loudness[first:last],
        fps=FPS,
        seed=5,
        start_s=first / FPS,
    )
    here, there = slice(start - first, start - first + 400), slice(start, start + 400)
    for name in ("blink", "eyes", "head"):
        assert np.allclose(getattr(part, name)[here], getattr(whole, name)[there], atol=1e-9)


def test_blinks_come_at_a_human_rate_and_fall_faster_than_they_rise():
    blink = lively(30_000).blink  # ten minutes
    onsets = np.flatnonzero((blink[1:] > 0.3) & (blink[:-1] <= 0.3))
    assert 8 < len(onsets) / 10 < 30
    falls = np.diff(blink)
    assert falls.max() > 1.5 * -falls.min()
    assert blink.max() <= 1


def test_eyes_and_head_stay_within_a_calm_range():
    life = lively(30_000)
    assert np.rad2deg(np.abs(life.eyes)).max() < 8
    assert np.rad2deg(np.abs(life.head)).max() < 12
    assert np.rad2deg(life.head.std(axis=0)).max() > 0.5


def test_looking_left_moves_the_left_eye_out_and_the_right_eye_in():
    eyes = np.zeros((1, 2, 2))
    eyes[:, :, 0] = 0.2
    weights = look_weights(eyes)[0]
    assert weights[ARKIT_INDEX["eyeLookOutLeft"]] > 0.3
    assert weights[ARKIT_INDEX["eyeLookInRight"]] > 0.3
    assert weights[ARKIT_INDEX["eyeLookInLeft"]] == 0


def test_a_blink_shuts_even_a_wide_eye():
    life = lively()
    weights = np.zeros((3000, 52), np.float32)
    weights[:, ARKIT_INDEX["eyeWideLeft"]] = 0.8
    shut = int(life.blink.argmax())
    result = apply_life(weights, life)
    assert result[shut, ARKIT_INDEX["eyeBlinkLeft"]] > 0.95
    assert result[shut, ARKIT_INDEX["eyeWideLeft"]] < 0.05


def test_absurd_amounts_are_refused():
    with pytest.raises(UsageError, match=r"lie in 0\.\.3"):
        LivelinessOptions(head=9.0)
