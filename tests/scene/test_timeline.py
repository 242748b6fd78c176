import numpy as np
import pytest

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.generators.voice.time_map import TimeMap
from affetto.scene.pictures import segments
from affetto.scene.segments import canvas
from affetto.scene.timeline import GRID_S, joined, speaker_content, warped_content
from affetto.speech.content import CONTENT_FPS
from affetto.speech.phones import PHONE_INDEX, SILENCE
from tests.scene.small import dialogue, spoken, timeline


def test_turns_follow_one_another_with_their_pauses_on_one_grid():
    line = timeline(seconds=2.013)
    assert [each.speaker for each in line.lines] == ["ada", "bert", "ada"]
    for before, after in zip(line.lines, line.lines[1:], strict=False):
        assert after.start - before.stop >= 0.34
    assert all(abs(each.start / GRID_S - round(each.start / GRID_S)) < 1e-6 for each in line.lines)
    assert line.shots[0].stop == line.shots[1].start
    assert line.shots[-1].stop == line.seconds >= line.lines[-1].stop + 0.5


def test_a_listener_feels_what_listeners_feel_and_a_speaker_what_is_said():
    line = timeline()
    ada = line.tracks["ada", "face"]
    assert ada.at(1.9).intensity == pytest.approx(1.0, abs=0.02)
    assert ada.at(4.2).intensity == pytest.approx(0.2, abs=0.02)  # bert speaks
    assert str(line.tracks["bert", "face"].at(0.5)) == "neutral"
    assert line.tracks["bert", "face"].at(3.5).intensity == pytest.approx(0.7, abs=0.02)


def test_the_course_of_a_scene_is_that_of_whoever_speaks():
    line = timeline()
    second, third = line.lines[1], line.lines[2]
    assert "sad" in line.course.at(second.start + 1.0).mixture
    assert "surprised" in line.course.at(third.start + 1.0).mixture
    # over a pause the emotion is held and then moves on, without a jump at the start of the turn
    before, after = (line.course.at(third.start + by).effective_vad() for by in (-0.02, 0.02))
    assert np.abs(before - after).max() < 0.25


def test_tracks_that_travel_differently_are_baked_together():
    parts = [
        (0.0, 2.0, EmotionTrack.parse("space=slerp; 0:happy; 2:sad")),
        (2.5, 4.0, EmotionTrack.parse("angry")),
    ]
    track = joined(parts)
    assert track.space == "linear"
    wanted = EmotionTrack.parse("space=slerp; 0:happy; 2:sad").at(1.0).effective_vad()
    assert np.abs(track.at(1.0).effective_vad() - wanted).max() < 0.05


def test_content_moves_along_the_time_map():
    content = spoken(dialogue())[0].content
    double = TimeMap(source=np.array([0.0, 2.0]), output=np.array([0.0, 4.0]))
    moved = warped_content(content, double, np.ones(200, np.float32))
    assert len(moved) == 200
    assert np.allclose(moved.phones[100], content.phones[50])
    assert np.allclose(moved.phones.sum(axis=1), 1.0, atol=1e-5)


def test_a_speaker_is_silent_while_others_speak():
    line = timeline()
    content = speaker_content(line.of("bert"), line.seconds)
    assert content.speaking[: round(line.of("bert")[0].start * CONTENT_FPS)].max() == 0.0
    assert content.phones[5, PHONE_INDEX[SILENCE]] == 1.0
    start = round(line.of("bert")[0].start * CONTENT_FPS)
    assert content.speaking[start : start + 90].min() == 1.0


def test_shots_show_who_speaks_everyone_or_someone():
    line = timeline()
    plan = segments(line, 25.0, everyone=("ada", "bert"))
    assert [segment.names for segment in plan] == [("ada",), ("bert",), ("ada", "bert")]
    assert plan[0].start == 0
    assert plan[-1].stop == round(line.seconds * 25)
    cut = plan[0].stop / 25
    assert line.lines[0].stop < cut <= line.lines[1].start
    assert canvas(plan, (256, 256)) == (384, 256)


def test_gaps_of_one_speaker_alone_keep_their_emotion():
    track = joined([(0.0, 1.0, EmotionTrack.parse("happy")), (3.0, 4.0, EmotionTrack.parse("sad"))])
    assert track.at(2.0).mixture == Emotion.from_label("happy").mixture
