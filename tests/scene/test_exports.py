import itertools
import json
from pathlib import Path

import mido
import numpy as np
import pytest

from affetto.conditioning.formats import load_track
from affetto.conditioning.track import EmotionTrack
from affetto.media.midi import Score
from affetto.scene.edit_lists import MediaFiles, write_edit_lists
from affetto.scene.exports import control_score, cue_times, usda_text, write_subtitles, write_track
from tests.scene.small import dialogue, timeline

TRACK = EmotionTrack.parse("0:neutral; 2:happy; 4:vad(-1,0.5,-0.5)")
MEDIA = MediaFiles(
    video="video.mp4", voices={"ada": "voice-ada.wav", "bert": "voice-bert.wav"}, music="music.wav"
)


def test_subtitles_carry_the_emotion_that_affetto_reads_back(tmp_path):
    line = timeline()
    srt, vtt = write_subtitles(tmp_path, line)
    track = load_track(srt)
    assert "sad" in track.at(line.lines[1].start + 1.0).mixture
    text = vtt.read_text("utf-8")
    assert text.startswith("WEBVTT\n\n")
    assert "<v bert>[emotion: sad 0.7] <c.sad>I am tired &amp; sad &lt;today&gt;.</c>" in text
    assert load_track(vtt).at(line.lines[2].start + 1.0).mixture


def test_long_sentences_become_several_cues_in_order():
    scene = dialogue()
    words = " ".join(["word"] * 60) + "."
    scene.shots[0].turns[0] = scene.shots[0].turns[0].model_copy(update={"text": words})
    cues = [cue for cue in cue_times(timeline(scene), alone=False) if cue[2] == "ada"]
    assert all(len(cue[4]) <= 84 for cue in cues)
    assert " ".join(cue[4] for cue in cues[:-1]) == words
    assert all(before[1] <= after[0] + 1e-6 for before, after in itertools.pairwise(cues))


def test_controllers_are_what_another_midi_reader_finds(tmp_path):
    score = Score(tempos=((0.0, 90.0), (4.0, 140.0)))
    write_track(tmp_path, TRACK, 5.0, 25.0, score)
    file = mido.MidiFile(tmp_path / "emotion.mid")
    now, values = 0.0, {20: [], 21: [], 22: [], 23: []}
    for message in file:
        now += message.time
        if message.type == "control_change":
            values[message.control].append((now, message.value))
    for number, axis in ((20, 0), (21, 1), (22, 2)):
        times, found = np.array(values[number]).T
        wanted = 63.5 * (TRACK.sample(times).effective_vad[:, axis] + 1)
        assert np.abs(found - wanted).max() <= 2.0
    assert values[23][-1][1] == 127


def test_the_table_and_the_native_file_read_back_as_the_same_course(tmp_path):
    write_track(tmp_path, TRACK, 5.0, 25.0, None)
    times = np.arange(0, 5, 0.1)
    for name, most in (("emotion.csv", 0.02), ("emotion.emotion.json", 1e-6)):
        read = load_track(tmp_path / name)
        assert np.abs(read.sample(times).effective_vad - TRACK.sample(times).effective_vad).max() < most


def test_usd_carries_the_emotion_as_custom_attributes(tmp_path):
    usd = pytest.importorskip("pxr.Usd")
    path = tmp_path / "emotion.usda"
    path.write_text(usda_text(TRACK, 5.0, 25.0))
    stage = usd.Stage.Open(str(path))
    assert stage.GetTimeCodesPerSecond() == 25
    attribute = stage.GetPrimAtPath("/Emotion").GetAttribute("affetto:valence")
    assert attribute.IsCustom()
    assert attribute.Get(50) == pytest.approx(float(TRACK.at(2.0).effective_vad()[0]), abs=1e-3)
    assert attribute.Get(100) == pytest.approx(-1.0, abs=1e-3)


def test_opentimelineio_reads_the_timeline(tmp_path):
    otio = pytest.importorskip("opentimelineio")
    line = timeline()
    path, _ = write_edit_lists(tmp_path, line, MEDIA, 25.0, "Two")
    read = otio.adapters.read_from_file(str(path))
    assert read.name == "Two"
    assert [track.name for track in read.tracks] == ["picture", "ada", "bert", "music"]
    shots = list(read.tracks[0].find_clips())
    assert [clip.name for clip in shots] == ["one", "two"]
    assert read.duration().to_seconds() == pytest.approx(line.seconds, abs=0.05)
    assert shots[0].media_reference.target_url == "video.mp4"
    bert = next(iter(read.tracks[2].find_clips()))
    start = bert.transformed_time_range(bert.trimmed_range(), read.tracks).start_time.to_seconds()
    assert start == pytest.approx(line.lines[1].start, abs=0.04)
    assert bert.metadata["affetto"]["words"].startswith("I am tired")
    assert len(read.tracks[0].markers) == len(line.course.keyframes)
    again = tmp_path / "again.otio"
    otio.adapters.write_to_file(read, str(again))
    assert json.loads(again.read_text())["tracks"]["children"][0]["children"][1]["name"] == "two"


def test_the_edit_decision_list_is_read_by_the_cmx_adapter(tmp_path):
    otio = pytest.importorskip("opentimelineio")
    if "cmx_3600" not in otio.adapters.available_adapter_names():
        pytest.skip("the CMX 3600 adapter is not installed")
    line = timeline()
    _, edl = write_edit_lists(tmp_path, line, MEDIA, 25.0, "Two")
    read = otio.adapters.read_from_string(Path(edl).read_text(), "cmx_3600", rate=25)
    clips = list(read.find_clips())
    assert [clip.name for clip in clips] == ["one", "two"]
    assert sum(clip.duration().to_seconds() for clip in clips) == pytest.approx(line.seconds, abs=0.05)


def test_frame_rates_of_film_are_kept_in_seconds():
    score = control_score(TRACK, 3.0)
    assert float(score.seconds_of(score.controls["beat"].max())) <= 3.01
