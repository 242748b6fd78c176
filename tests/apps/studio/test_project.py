"""What the timeline shows is what a render hears."""

import numpy as np
import pytest

from affetto.apps.studio.project import Project, keys_of, label_points, mixture_at, with_timeline
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import UsageError


def test_a_name_lies_on_the_pad_where_the_track_puts_it():
    for name, point in label_points().items():
        (frame,) = EmotionTrack.parse(name).keyframes
        np.testing.assert_allclose(point, [float(axis) for axis in frame.emotion.vad], atol=2e-3)


@pytest.mark.parametrize("name", ["happy", "sad", "angry", "fear", "surprised"])
def test_the_mixture_at_a_name_is_mostly_that_name(name):
    shares = mixture_at(label_points()[name])
    assert max(shares, key=shares.__getitem__) == name


def test_a_track_drawn_as_keys_comes_back_as_the_same_track():
    track = EmotionTrack.parse("0:neutral; 0.7:happy@0.9~cosine; 2.5:vad(0.5,-0.2,0.1)@0.6; 4:sad")
    times = np.linspace(0, 5, 21)
    again = Project(keys=keys_of(track)).track.sample(times)
    np.testing.assert_allclose(again.vad, track.sample(times).vad, atol=2e-3)
    np.testing.assert_allclose(again.intensity, track.sample(times).intensity, atol=2e-3)


def test_a_timeline_that_is_no_course_of_emotion_is_refused():
    with pytest.raises(UsageError, match="something else than keys"):
        with_timeline(Project(), {"keys": [{"t": -1}]})
