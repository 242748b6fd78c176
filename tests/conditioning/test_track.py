import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.conditioning.emotion import ANCHORS_8, Emotion
from affetto.conditioning.interpolation import parse_ease, slerp, smooth_noise
from affetto.conditioning.lexicon import LEXICON
from affetto.conditioning.track import EmotionTrack, Keyframe, Pulse, as_track
from affetto.runtime.errors import UsageError
from tests.conditioning.strategies import EASES, tracks

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module")  # beartype draws samples

HAPPY, SAD = Emotion.parse("happy"), Emotion.parse("sad")


@given(tracks())
@settings(deadline=None, max_examples=40)
def test_the_text_of_a_track_reads_back_to_the_same_track(track):
    assert EmotionTrack.parse(str(track)) == track


@given(tracks())
@settings(deadline=None, max_examples=40)
def test_a_track_passes_exactly_through_its_keyframes(track):
    batch = track.sample(np.array([key.time for key in track.keyframes]))
    for row, key in enumerate(track.keyframes):
        if track.space != "mixture":
            assert batch.effective_vad[row] == pytest.approx(key.emotion.effective_vad(), abs=1e-5)
        assert batch.intensity[row, 0] == pytest.approx(key.emotion.intensity, abs=1e-6)
        if key.emotion.mixture:
            expected = {name: key.emotion.mixture.get(name, 0.0) for name in batch.names}
            assert dict(zip(batch.names, batch.mixture[row], strict=True)) == pytest.approx(
                expected, abs=1e-5
            )


@given(tracks(), st.lists(st.floats(-1, 12), min_size=1, max_size=30))
@settings(deadline=None, max_examples=40)
def test_whatever_is_sampled_is_a_valid_emotion(track, times):
    batch = track.sample(np.array(times))
    assert np.abs(batch.vad).max() <= 1
    assert batch.intensity.min() >= 0
    assert batch.intensity.max() <= 2
    assert batch.anchors().sum(axis=1) == pytest.approx(np.ones(len(times)), abs=1e-4)
    if batch.names:
        assert batch.mixture.sum(axis=1) == pytest.approx(np.ones(len(times)), abs=1e-5)
        assert batch.effective_mixture.sum(axis=1) == pytest.approx(np.ones(len(times)), abs=1e-4)
    for frame in range(len(times)):
        assert batch[frame].effective_vad() == pytest.approx(batch.effective_vad[frame], abs=1e-5)


@given(tracks(max_size=3))
@settings(deadline=None, max_examples=30)
def test_resampling_and_sampling_again_changes_nothing(track):
    dense = track.resampled(25)
    times = np.array([key.time for key in dense.keyframes])
    assert dense.sample(times).effective_vad == pytest.approx(track.sample(times).effective_vad, abs=1e-5)
    assert dense.sample(times).anchors() == pytest.approx(track.sample(times).anchors(), abs=1e-4)


@given(tracks())
@settings(deadline=None, max_examples=40)
def test_at_intensity_zero_every_frame_is_exactly_neutral(track):
    anchors = track.scaled(0).sample(np.linspace(0, 10, 50)).anchors()
    assert np.array_equal(anchors, np.tile(np.eye(8, dtype=np.float32)[0], (50, 1)))


def test_a_fade_to_neutral_keeps_the_name_and_scales_linearly():
    batch = EmotionTrack.parse("0:neutral; 2:happy@0.8").sample(np.array([0.5, 1.0]))
    assert batch.intensity[:, 0] == pytest.approx([0.2, 0.4])
    assert batch.vad == pytest.approx(np.tile(LEXICON["happy"].vad, (2, 1)), abs=1e-6)
    assert batch.anchors()[1, ANCHORS_8.index("happy")] == pytest.approx(0.4)


def test_times_before_and_after_the_keyframes_hold_the_ends():
    track = EmotionTrack.parse("1:sad; 2:happy")
    assert track.at(0) == SAD
    assert track.at(50) == HAPPY


def test_labels_and_bare_points_mix_on_one_track():
    batch = EmotionTrack.parse("0:happy; 1:vad(-0.63,-0.27,-0.33)").sample(np.array([0.0, 1.0]))
    assert batch.anchors()[1].argmax() == ANCHORS_8.index("sad")


def test_a_track_of_bare_points_has_no_names_and_its_anchors_come_from_the_chart():
    batch = EmotionTrack.parse("0:vad(0.81,0.51,0.46); 1:vad(-0.63,-0.27,-0.33)").sample(np.array([0.0, 1.0]))
    assert batch.names == ()
    assert list(batch.anchors().argmax(axis=1)) == [ANCHORS_8.index("happy"), ANCHORS_8.index("sad")]


@pytest.mark.parametrize(
    "text",
    [
        "0:neutral; 2:happy@0.8~cosine; 4:surprised; 6:sad",
        "space=slerp; 0:sad; 2:happy~exp; 4:vad(0.1,0.2,0.3); 6:angry",
        "space=mixture; 0:sad~catmull-rom; 2:happy~catmull-rom; 4:angry~bezier(0.2,0,0.3,1); 6:fear",
    ],
)
def test_ten_thousand_frames_are_sampled_within_twenty_milliseconds(text):
    track, times = EmotionTrack.parse(text), np.linspace(0, 6, 10_000)
    track.sample(times)
    spent = []
    for _ in range(5):
        start = time.process_time()
        track.sample(times)
        spent.append(time.process_time() - start)
    # Run-time type checks and a busy machine take their share here: the bare figure is in docs/emotion.md.
    assert min(spent) < 0.04


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:happy; 0:sad", "keyframe 2 at 0 s repeats 0 s: times must rise"),
        ("2:happy; 1:sad", "keyframe 2 at 1 s comes after 2 s: times must rise"),
        ("-1:happy; 1:sad", "time must lie in"),
        ("0:happy; 1:hapy", "did you mean happy"),
        ("0:happy; sad", "cannot read keyframe 'sad'"),
        ("0:happy~bouncy; 1:sad", "unknown ease 'bouncy'"),
        ("space=banana; 0:happy", "unknown space 'banana'"),
        ("space=slerp; 0:happy~catmull-rom; 1:sad", "catmull-rom curves need"),
        (" ; ", "empty emotion track"),
        ("1e9:happy", "time must lie in"),
    ],
)
def test_a_wrong_track_gives_one_line_with_the_way_out(text, message):
    with pytest.raises(UsageError, match=message) as failure:
        EmotionTrack.parse(text)
    assert "\n" not in str(failure.value)


def test_more_keyframes_than_the_cap_are_refused():
    with pytest.raises(UsageError, match="at most 100000 keyframes"):
        EmotionTrack.parse(";".join(["0:happy"] * 100_001))
    with pytest.raises(UsageError, match="lower the fps"):
        EmotionTrack.parse("0:happy; 3000:sad").resampled(60)


@given(EASES, st.floats(0.1, 10))
@settings(deadline=None, max_examples=40)
def test_every_ease_starts_and_ends_on_its_keyframes(ease, length):
    track = EmotionTrack(
        keyframes=(Keyframe(time=0, emotion=SAD, ease=ease), Keyframe(time=length, emotion=HAPPY))
    )
    assert track.at(0) == SAD
    assert track.at(length) == HAPPY


@pytest.mark.parametrize(
    ("ease", "half"),
    [
        ("hold", 0.0),
        ("linear", 0.5),
        ("cosine", 0.5),
        ("smoothstep", 0.5),
        ("bezier(0,0,1,1)", 0.5),
        ("bezier(0.42,0,1,1)", 0.3154),  # CSS ease-in at one half
        ("exp(0.5,0.8)", (1 - np.exp(-1)) / (1 - np.exp(-2))),
    ],
)
def test_eases_follow_their_formulae(ease, half):
    track = EmotionTrack(
        keyframes=(Keyframe(time=0, emotion=Emotion.neutral(), ease=ease), Keyframe(time=1, emotion=HAPPY))
    )
    assert track.sample(np.array([0.5])).intensity[0, 0] == pytest.approx(half, abs=1e-3)


def test_exponential_eases_decay_more_slowly_than_they_rise():
    rising = EmotionTrack.parse("0:neutral~exp(0.3,0.8); 2:happy").sample(np.array([0.5])).intensity[0, 0]
    falling = EmotionTrack.parse("0:happy~exp(0.3,0.8); 2:neutral").sample(np.array([0.5])).intensity[0, 0]
    assert rising > 1 - falling


def test_unknown_or_impossible_eases_are_refused():
    for text in ("bezier(2,0,0,1)", "exp(0,1)", "exp(1)", "spring"):
        with pytest.raises(UsageError, match="unknown ease"):
            parse_ease(text)


VECTORS = st.tuples(*(st.floats(-1, 1) for _ in range(3))).map(lambda v: np.array([v]))


@given(VECTORS, VECTORS, st.sampled_from(["arousal", "neutral"]))
def test_slerp_meets_both_ends_exactly(start, stop, route):
    assert slerp(start, stop, np.zeros(1), route=route) == pytest.approx(start, abs=1e-6)
    assert slerp(start, stop, np.ones(1), route=route) == pytest.approx(stop, abs=1e-6)


def test_slerp_keeps_the_length_on_a_plain_turn():
    start, stop = np.array([[0.8, 0.0, 0.0]]), np.array([[0.0, 0.8, 0.0]])
    middle = slerp(start, stop, np.array([0.5]))
    assert middle == pytest.approx(np.array([[0.5657, 0.5657, 0]]), abs=1e-3)


def test_opposite_emotions_turn_over_an_aroused_moment_or_through_neutral():
    start, stop = np.array([[0.8, 0.1, 0.0]]), np.array([[-0.8, -0.1, 0.0]])
    assert slerp(start, stop, np.array([0.5]), route="arousal") == pytest.approx(
        np.array([[0, 0.35, 0]]), abs=1e-9
    )
    assert slerp(start, stop, np.array([0.5]), route="neutral") == pytest.approx(np.zeros((1, 3)), abs=1e-9)


def test_in_mixture_space_the_point_follows_the_names():
    batch = EmotionTrack.parse("space=mixture; 0:happy; 1:sad").sample(np.array([0.5]))
    middle = (np.array(LEXICON["happy"].vad) + np.array(LEXICON["sad"].vad)) / 2
    assert batch.vad[0] == pytest.approx(middle, abs=1e-6)
    assert sorted(batch.mixture[0]) == pytest.approx([0, 0.5, 0.5])


def test_a_pulse_flashes_and_is_gone():
    track = EmotionTrack.parse("happy").with_pulse(1.0, Emotion.parse("contempt"), seconds=0.4)
    contempt = track.sample(np.array([0.79, 0.9, 1.0, 1.1, 1.21])).anchors()[:, ANCHORS_8.index("contempt")]
    assert contempt == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)
    with pytest.raises(UsageError, match="use keyframes instead"):
        Pulse(time=1, emotion=HAPPY, seconds=0.7)


def test_a_lane_replaces_the_course_and_a_lag_delays_it():
    voice = EmotionTrack.parse("angry")
    track = EmotionTrack(
        keyframes=EmotionTrack.parse("0:sad; 2:happy").keyframes,
        lanes={"voice": voice},
        lags={"face": 0.5, "music": -0.5},
    )
    assert track.for_modality("voice") == voice
    assert track.for_modality("face").at(1.5).effective_vad() == pytest.approx(track.at(1.0).effective_vad())
    assert track.for_modality("music").at(0.5).effective_vad() == pytest.approx(
        track.at(1.0).effective_vad(), abs=1e-5
    )
    with pytest.raises(UsageError, match="unknown modality"):
        track.for_modality("smell")


@pytest.mark.parametrize(
    "text",
    [
        "0:neutral; 2:happy; 4:sad",
        "0:neutral~cosine; 2:happy~exp; 4:sad",
        "space=slerp; 0:sad; 2:joyful; 4:angry",
    ],
)
def test_a_slice_is_the_same_course_from_a_later_zero(text):
    track = EmotionTrack.parse(text)
    part, times = track.sliced(0.7, 3.3), np.linspace(0, 2.6, 53)
    assert part.sample(times).effective_vad == pytest.approx(
        track.sample(times + 0.7).effective_vad, abs=2e-3
    )
    assert part.seconds == pytest.approx(2.6)


def test_shifting_later_and_earlier():
    track = EmotionTrack.parse("0:sad; 2:happy")
    assert track.shifted(1).at(2) == track.at(1)
    assert track.shifted(-1).at(0).effective_vad() == pytest.approx(track.at(1).effective_vad(), abs=1e-6)


def test_a_warp_moves_keyframes_and_must_rise():
    track = EmotionTrack.parse("0:sad; 2:happy")
    assert track.warped(lambda t: 2 * t).at(2) == track.at(1)
    with pytest.raises(UsageError, match="times must rise"):
        track.warped(lambda _: 1.0)


def test_following_plays_one_course_after_the_other():
    joined = EmotionTrack.parse("0:sad; 1:happy").followed_by(EmotionTrack.parse("0:angry; 1:fear"), at=3)
    assert [key.time for key in joined.keyframes] == [0, 1, 3, 4]
    assert joined.at(4) == Emotion.parse("fear")


def test_quantising_moves_keyframes_onto_the_beat_and_can_hold_them():
    track = EmotionTrack.parse("0:sad; 1.1:happy; 1.9:angry; 2.2:fear")
    snapped = track.quantised(1.0)
    assert [key.time for key in snapped.keyframes] == [0, 1, 2]
    assert snapped.at(2) == Emotion.parse("fear")
    held = track.quantised([0.0, 1.5, 3.0], hold=True)
    assert held.at(1.4) == SAD


def test_smoothing_calms_a_jump():
    jump = EmotionTrack.parse("0:sad~hold; 1:happy; 2:happy")
    calm = jump.smoothed(0.2)
    step = np.abs(np.diff(calm.sample(np.arange(0, 2, 0.02)).effective_vad, axis=0)).max()
    assert step < 0.1
    assert calm.at(1).named().keys() == {"sad", "happy"}


def test_a_rate_limit_is_kept():
    limited = EmotionTrack.parse("0:sad~hold; 1:happy; 6:happy").rate_limited(0.5)
    felt = limited.sample(np.array([key.time for key in limited.keyframes])).effective_vad
    assert np.linalg.norm(np.diff(felt, axis=0), axis=1).max() * 50 < 0.5 + 1e-3
    assert limited.at(6).effective_vad() == pytest.approx(HAPPY.effective_vad(), abs=1e-4)


def test_variations_differ_by_seed_stay_near_and_repeat_exactly():
    track = EmotionTrack.parse("0:happy; 4:happy@0.5")
    times = np.linspace(0, 4, 100)
    first, again, other = (track.varied(seed).sample(times) for seed in (1, 1, 2))
    assert np.array_equal(first.vad, again.vad)
    assert not np.array_equal(first.vad, other.vad)
    assert np.abs(first.vad - track.sample(times).vad).mean() < 0.12
    assert (first.anchors().argmax(axis=1) == ANCHORS_8.index("happy")).mean() > 0.9


def test_smooth_noise_has_unit_variance_and_the_rbf_covariance():
    noise = smooth_noise(40_000, 2, fps=20, seed=0, length_s=0.5)
    assert noise.std() == pytest.approx(1, abs=0.05)
    lag = 10  # half a second, one length scale
    assert np.mean(noise[:-lag] * noise[lag:]) == pytest.approx(np.exp(-0.5), abs=0.05)


def test_wandering_stays_within_the_space():
    track = EmotionTrack.wandering(5, seed=3)
    assert np.abs(track.sample(np.linspace(0, 5, 200)).vad).max() <= 1


def test_anything_that_names_a_track_becomes_one():
    assert as_track(None).at(0) == Emotion.neutral()
    assert as_track(HAPPY).at(3) == HAPPY
    assert as_track("happy@0.5").at(0) == Emotion.parse("happy@0.5")
    track = EmotionTrack.parse("0:sad; 1:happy")
    assert as_track(track) is track
