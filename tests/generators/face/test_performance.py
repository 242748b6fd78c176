import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from affetto.acting.pieces import join
from affetto.conditioning.track import as_track
from affetto.generators.face.performance import FaceOptions, RuleSpeaker, perform
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.runtime.errors import UsageError
from affetto.speech.content import SpeechContent
from affetto.speech.phones import TimedPhone, closure_windows

SYLLABLES = ("m", "a", "t", "i", "p", "o", "s", "u", "b", "e")


def babble(seconds: float) -> list[TimedPhone]:
    """Syllables without end, 120 ms a phone, with a pause every six seconds."""
    phones, clock, index = [], 0.3, 0
    while clock + 0.12 < seconds - 0.2:
        if clock % 6.0 < 5.2:
            phones.append(TimedPhone(SYLLABLES[index % len(SYLLABLES)], clock, clock + 0.12))
            index += 1
        clock += 0.12
    return phones


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


def content_of(phones: list[TimedPhone], seconds: float) -> SpeechContent:
    return SpeechContent.from_phones(phones, seconds)


def played(
    head: HeadModel, seconds: float, emotion: str, pieces: int = 1, batch: int = 1, **options: object
) -> FaceCurves:
    phones = babble(seconds)
    content = content_of(phones, seconds)
    settings = FaceOptions(**options)  # pyright: ignore[reportArgumentType]
    bounds = np.linspace(0, len(content), pieces + 1).astype(int)
    parts: Iterator[SpeechContent] = (content.sliced(int(a), int(b)) for a, b in itertools.pairwise(bounds))
    speaker = RuleSpeaker(phones, content)
    return join(perform(parts, speaker, head, as_track(emotion), settings, batch=batch), settings.fps)


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 60.0])
def test_a_performance_lasts_as_long_as_its_speech_at_every_rate(head, fps):
    curves = played(head, 23.4, "happy", fps=fps)
    assert len(curves) == round(23.4 * fps)
    assert curves.weights.min() >= 0
    assert curves.weights.max() <= 1


def test_the_size_of_the_pieces_makes_no_difference(head):
    whole = played(head, 31.0, "0:neutral; 12:angry")
    for pieces, batch in ((7, 1), (50, 3)):
        cut = played(head, 31.0, "0:neutral; 12:angry", pieces=pieces, batch=batch)
        assert np.array_equal(whole.weights, cut.weights)
        assert np.array_equal(whole.head, cut.head)
        assert np.array_equal(whole.eyes, cut.eyes)


def test_no_seam_shows_where_windows_meet(head):
    curves = played(head, 42.0, "happy", fps=50.0, blinks=0.0)
    steps = np.abs(np.diff(curves.head, axis=0)).max(axis=1)
    seams = [step for seam in (500, 1000, 1500) for step in range(seam - 8, seam + 8)]
    assert steps[seams].max() <= 1.5 * np.delete(steps, seams).max()


def test_intensity_zero_is_neutral_bit_for_bit(head):
    neutral, zero = played(head, 8.0, "neutral"), played(head, 8.0, "angry@0")
    assert np.array_equal(neutral.weights, zero.weights)
    assert np.array_equal(neutral.head, zero.head)


def test_another_seed_moves_the_head_otherwise_and_the_lips_alike(head):
    one, two = played(head, 8.0, "neutral", seed=1), played(head, 8.0, "neutral", seed=2)
    jaw = ARKIT_INDEX["jawOpen"]
    assert np.abs(one.head - two.head).max() > 0.01
    assert np.array_equal(one.weights[:, jaw], two.weights[:, jaw])


@pytest.mark.parametrize("emotion", ["neutral", "happy", "surprised@1.5"])
@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
def test_lips_meet_on_every_bilabial_whatever_the_emotion_and_rate(head, emotion, fps):
    curves = played(head, 9.0, emotion, fps=fps, articulation=1.3)
    gap = head.lip_gap(curves.weights)
    for start, end in closure_windows(babble(9.0)):
        near = (curves.times >= start - 0.04) & (curves.times <= end + 0.04)
        assert gap[near].min() < 0.015


def test_gains_and_offsets_act_on_the_named_shape_alone(head):
    plain = played(head, 3.0, "neutral")
    changed = played(head, 3.0, "neutral", gains={"jawOpen": 0.5}, offsets={"browInnerUp": 0.2})
    touched = [ARKIT_INDEX["jawOpen"], ARKIT_INDEX["browInnerUp"]]
    np.testing.assert_allclose(changed.weights[:, touched[0]], 0.5 * plain.weights[:, touched[0]], atol=1e-6)
    np.testing.assert_allclose(changed.weights[:, touched[1]], plain.weights[:, touched[1]] + 0.2, atol=1e-6)
    assert np.array_equal(np.delete(changed.weights, touched, 1), np.delete(plain.weights, touched, 1))


def test_amounts_of_zero_leave_head_and_eyes_at_rest(head):
    curves = played(head, 5.0, "neutral", blinks=0.0, gaze=0.0, head_motion=0.0)
    assert not curves.head.any()
    assert not curves.eyes.any()
    assert not curves.channel("eyeBlinkLeft").any()


def test_nothing_said_gives_an_empty_performance(head):
    content = SpeechContent.from_phones([], 0.0)
    assert (
        len(
            join(
                perform([content], RuleSpeaker([], content_of([], 1.0)), head, as_track(None), FaceOptions()),
                30.0,
            )
        )
        == 0
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 5.0}, "fps 5"),
        ({"articulation": 9.0}, "articulation 9.0"),
        ({"gains": {"jawOpened": 1.0}}, "jawOpened"),
        ({"seed": -1}, "seed -1"),
        ({"blinks": 7.0}, "0..3"),
    ],
)
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(UsageError, match=message):
        _ = FaceOptions(**options).life
