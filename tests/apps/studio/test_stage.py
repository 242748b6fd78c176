"""What the server tells the stage: how a render's time runs, when words are said, and what the timeline may draw."""

import json
import threading

import numpy as np
import pytest

from affetto.apps.studio.project import Project, with_timeline, write_points
from affetto.apps.studio.reading import WordReader
from affetto.apps.studio.stage import warp
from affetto.conditioning.track import EmotionTrack
from affetto.generators.portrait.landmark_files import read_landmarks
from affetto.media.audio import Audio, save_audio
from affetto.runtime.errors import UsageError

KEYS = [{"t": 0.0, "label": "neutral", "i": 0.0}, {"t": 1.0, "label": "happy"}, {"t": 3.0, "label": "sad"}]


@pytest.fixture
def render(tmp_path):
    """A render's folder in a project with four seconds of speech, and the project."""
    folder = tmp_path / "renders" / "001"
    folder.mkdir(parents=True)
    save_audio(tmp_path / "speech-1.wav", Audio(samples=np.full((1, 64_000), 0.1, np.float32), rate=16_000))
    return folder, Project.model_validate({"keys": KEYS, "speech": "speech-1.wav"})


def moved(folder, *times):
    (folder / "emotion.emotion.json").write_text(json.dumps({"keys": [{"t": time} for time in times]}))


def test_a_converted_voice_bends_the_timeline_so_that_keys_stay_with_their_words(render):
    folder, project = render
    moved(folder, 0.0, 1.2, 3.5, 4.6)
    assert warp(folder, project) == [[0.0, 0.0], [1.0, 1.2], [3.0, 3.5], [4.0, 4.6]]


@pytest.mark.parametrize("times", [(0.0, 1.0, 3.0, 4.0), (0.0, 2.0, 1.0, 4.0), (0.0, 1.0)])
def test_time_that_did_not_change_or_cannot_be_followed_is_left_alone(render, times):
    folder, project = render
    moved(folder, *times)
    assert warp(folder, project) == []


def test_a_bent_ease_is_kept_and_heard_by_the_render():
    drawn = with_timeline(
        Project(), {"keys": [{**KEYS[0], "ease": "bezier(0.9,0,1,0.2)"}, KEYS[1]], "trims": {}}
    )
    late = drawn.track.sample(np.array([0.5])).intensity[0, 0]
    even = EmotionTrack.parse("0:neutral; 1:happy").sample(np.array([0.5])).intensity[0, 0]
    assert late < 0.3 * even


@pytest.mark.parametrize("ease", ["bouncy", "bezier(2,0,1,1)", "exp(0.3,0.8)"])
def test_an_ease_that_no_timeline_draws_is_refused(ease):
    with pytest.raises(UsageError, match="keys"):
        with_timeline(Project(), {"keys": [{**KEYS[0], "ease": ease}], "trims": {}})


def test_points_set_by_hand_are_a_file_that_the_command_reads(tmp_path):
    points = [[float(index), 2.0 * index] for index in range(68)]
    file = write_points(tmp_path / "marks.json", points)
    np.testing.assert_array_equal(read_landmarks(file, (200, 200)).points, np.array(points, np.float32))


def test_words_are_read_once_the_text_has_settled_and_kept_beside_the_recording(tmp_path):
    now, asked, done = [0.0], [], threading.Event()

    def read(_body, **request):
        asked.append(request["text"])
        done.set()
        return [["Hello", 0.1, 0.5]]

    recording = tmp_path / "speech.wav"
    reader = WordReader(read, clock=lambda: now[0])
    assert reader.words(recording, "Hell", "en-us") is None
    now[0] = 1.0
    assert reader.words(recording, "Hello", "en-us") is None  # still being typed
    now[0] = 3.0
    assert reader.words(recording, "Hello", "en-us") is None  # read from now on
    assert done.wait(5)
    while (words := reader.words(recording, "Hello", "en-us")) is None:
        pass
    assert words == [["Hello", 0.1, 0.5]]
    assert asked == ["Hello"]
    assert WordReader(read).words(recording, "Hello", "en-us") == words  # after a restart
