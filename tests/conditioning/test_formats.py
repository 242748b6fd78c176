import json
from importlib import resources

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.formats import SUFFIXES, load_track, native, save_track, table
from affetto.conditioning.formats.reading import read_text
from affetto.conditioning.track import EmotionTrack, Pulse
from affetto.runtime.errors import InvalidInputError, UsageError
from tests.conditioning.strategies import tracks

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module")  # beartype draws samples

FULL = EmotionTrack(
    keyframes=EmotionTrack.parse(
        "0:neutral; 1.5:happy:0.3+sad:0.7@1.8?0.5~cosine; 3:vad(0.1,0.2,0.3)"
    ).keyframes,
    space="slerp",
    route="neutral",
    pulses=(Pulse(time=1.0, emotion=Emotion.parse("contempt"), seconds=0.2, amount=0.5),),
    lanes={"voice": EmotionTrack.parse("0:angry; 2:sad@0.5~exp(0.3,0.8)")},
    lags={"face": -0.15},
)
RELAXED = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@RELAXED
@given(track=tracks())
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_keyframes_survive_every_format(tmp_path, suffix, track):
    path = tmp_path / f"track{suffix}"
    save_track(path, track)
    again = load_track(path)
    assert len(again.keyframes) == len(track.keyframes)
    for before, after in zip(track.keyframes, again.keyframes, strict=True):
        assert after.time == pytest.approx(before.time, abs=5e-4)
        assert after.ease == before.ease
        assert after.emotion.vad == pytest.approx(before.emotion.vad, abs=1e-4)
        assert after.emotion.intensity == pytest.approx(before.emotion.intensity, abs=1e-4)
        assert after.emotion.confidence == pytest.approx(before.emotion.confidence, abs=1e-4)
        assert dict(after.emotion.mixture) == pytest.approx(dict(before.emotion.mixture), abs=1e-4)


@RELAXED
@given(track=tracks())
def test_json_and_csv_lose_no_digit(tmp_path, track):
    for suffix in (".json", ".csv"):
        save_track(tmp_path / f"x{suffix}", track)
        assert load_track(tmp_path / f"x{suffix}").keyframes == track.keyframes


def test_json_keeps_everything_and_writes_the_same_bytes_again(tmp_path):
    save_track(tmp_path / "a.emotion.json", FULL)
    assert load_track(tmp_path / "a.emotion.json") == FULL
    save_track(tmp_path / "b.emotion.json", load_track(tmp_path / "a.emotion.json"))
    assert (tmp_path / "a.emotion.json").read_bytes() == (tmp_path / "b.emotion.json").read_bytes()


def test_the_published_schema_is_the_readers_own_and_accepts_what_is_written():
    published = json.loads(
        resources.files("affetto.conditioning.formats")
        .joinpath("emotion.schema.json")
        .read_text(encoding="utf-8")
    )
    assert published == native.schema()
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(json.loads(native.write(FULL)), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"keys": [{"t": -1, "emotion": "happy"}]}, published)


def test_a_path_given_as_text_is_loaded(tmp_path):
    save_track(tmp_path / "x.vtt", EmotionTrack.parse("0:happy; 1:sad"))
    assert EmotionTrack.parse(str(tmp_path / "x.vtt")).at(1) == Emotion.parse("sad")


def test_a_handwritten_json_may_use_the_text_form(tmp_path):
    (tmp_path / "x.json").write_text(
        '{"keys": [{"t": 0, "emotion": "happy@0.5"}, {"t": 2, "mixture": {"sad": 1}}]}'
    )
    assert load_track(tmp_path / "x.json") == EmotionTrack.parse("0:happy@0.5; 2:sad")


def test_a_csv_of_another_scale_and_spelling_is_read(tmp_path):
    (tmp_path / "deam.csv").write_text("frameTime;Valence;Arousal\n0.5;5;5\n1.0;9;1\n")
    path = tmp_path / "deam.csv"
    track = table.read(path, read_text(path), scale=(1.0, 9.0))
    assert track.keyframes[0].emotion.vad[:2] == (0, 0)
    assert track.keyframes[1].emotion.vad[:2] == (1, -1)


EMOTIONML = """<?xml version="1.0"?>
<emotionml version="1.0" xmlns="http://www.w3.org/2009/10/emotionml"
    category-set="http://www.w3.org/TR/emotion-voc/xml#big6">
  <emotion start="1268647330000" end="1268647331000"><category name="happiness" value="0.8" confidence="0.5"/></emotion>
  <emotion start="1268647332000" dimension-set="http://www.w3.org/TR/emotion-voc/xml#fsre-dimensions">
    <dimension name="valence" value="0.25"/><dimension name="arousal" value="0.75"/>
    <dimension name="potency" value="0.5"/><dimension name="unpredictability" value="0.9"/>
  </emotion>
  <emotion start="1268647333000" dimension-set="http://www.w3.org/TR/emotion-voc/xml#pad-dimensions">
    <dimension name="pleasure"><trace freq="10Hz" samples="0.5 0.75 1.0"/></dimension>
    <dimension name="arousal" value="0.5"/><dimension name="dominance" value="0.5"/>
  </emotion>
</emotionml>
"""


def test_emotionml_of_others_is_read_with_its_intervals_traces_and_absolute_times(tmp_path):
    (tmp_path / "x.emotionml").write_text(EMOTIONML)
    keys = load_track(tmp_path / "x.emotionml").keyframes
    assert [key.time for key in keys] == pytest.approx([0, 1, 2, 3, 3.1, 3.2])
    assert keys[0].emotion == Emotion.from_label("happy", 0.8, confidence=0.5)
    assert keys[2].emotion.vad == (-0.5, 0.5, 0.0)
    assert [key.emotion.vad[0] for key in keys[3:]] == [0, 0.5, 1]


SRT = """1
00:00:01,000 --> 00:00:02,000
[emotion: happy 0.8]
Good to see you!

2
00:00:02,000 --> 00:00:03,500
<c.sad>But it is late.</c>

3
00:01:00,000 --> 00:01:01,000
No mark here.
"""


def test_subtitles_hold_an_emotion_for_their_cue_and_fade_into_the_next(tmp_path):
    (tmp_path / "x.srt").write_text(SRT)
    track = load_track(tmp_path / "x.srt")
    assert str(track) == "1:happy@0.8; 1.8:happy@0.8; 2:sad; 3.5:sad"


BAD = {
    "unsorted.csv": ("time,label\n0,happy\n1,sad\n0.5,sad\n", r":4: the keyframe at 0\.5 s comes after 1 s"),
    "doubled.json": (
        '{"keys": [\n{"t": 0, "emotion": "happy"},\n{"t": 0, "emotion": "sad"}]}',
        ":3: keys.1: .*repeats 0 s",
    ),
    "unknown.json": ('{"keys": [\n{"t": 0, "emotion": "hapy"}]}', ":2: keys.0: unknown emotion 'hapy'"),
    "lane.json": (
        '{"lanes": {"voice": {"keys": [\n{"t": 0, "emotion": "sad"},\n{"t": 1, "emotion": "sadd"}]}},\n'
        '"keys": [{"t": 0, "emotion": "happy"}]}',
        ":3: lanes.voice.keys.1: unknown emotion 'sadd'",
    ),
    "pulse.json": (
        '{"keys": [{"t": 0, "emotion": "happy"}],\n"pulses": [\n{"t": 1, "emotion": "sadd"}]}',
        ":3: pulses.0: unknown emotion",
    ),
    "missing.json": ('{\n"version": 1}', ":1: keys: field required"),
    "extra.json": ('{"keys": [\n\n{"t": 0, "emotion": "happy", "x": 1}]}', ":3: keys.0.x: extra inputs"),
    "range.json": ('{"keys": [\n{"t": 0, "vad": [0, 0, 3]}]}', r":2: keys.0.vad.2: input should be less"),
    "nan.json": ('{"keys": [{"t": NaN, "emotion": "happy"}]}', "NaN is not a number"),
    "list.json": ("[1]", "must be an object"),
    "broken.json": ('{"keys": [\n{"t": 0,}', ":2: not valid JSON"),
    "deep.json": ("[" * 200_000, "not valid JSON"),
    "both.json": ('{"keys": [{"t": 0, "emotion": "happy", "vad": [0, 0, 0]}]}', "either emotion or vad"),
    "headless.csv": ("1,2,3\n", ":1: the header must name time"),
    "twice.csv": ("time,t,label\n0,0,happy\n", "two columns mean time"),
    "short.csv": ("time,label\n0\n", ":2: 1 cells under a header of 2"),
    "quote.csv": ('time,label\n0,"happy\n', "not a CSV table"),
    "long.csv": (f"time,label\n0,{'x' * 5000}\n", ":2: a cell is longer"),
    "scale.csv": ("time,valence,arousal\n0,5,5\n", r":2: valence 5 is outside -1\.\.1"),
    "inf.csv": ("time,label\ninf,happy\n", ":2: time must be a finite number"),
    "empty.csv": ("  \n", "the file is empty"),
    "header.csv": ("time,label\n", "no keyframes in it"),
    "entity.xml": ('<!DOCTYPE e [<!ENTITY a "b">]><emotionml/>', "DTD or entities are refused"),
    "html.xml": ("<html/>", "the root is <html>"),
    "open.xml": ("<emotionml>\n", "not valid XML"),
    "deep.xml": ("<a>" * 100, "nested deeper"),
    "bare.xml": ('<emotionml>\n<emotion start="0"/></emotionml>', ":2: an emotion needs a category"),
    "range.xml": (
        '<emotionml>\n<emotion><category name="happy" value="7"/></emotion></emotionml>',
        ":2: the value of happy must lie",
    ),
    "none.xml": ("<emotionml/>", "no keyframes in it"),
    "times.srt": ("1\n00:00:01,000 --> nonsense\nhi\n", ":2: cannot read the cue times"),
    "backwards.srt": ("1\n00:00:02,000 --> 00:00:01,000\nhi\n", ":2: the cue ends before it starts"),
    "unmarked.vtt": ("WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n", "no cue names an emotion"),
    "unknown.vtt": ("WEBVTT\n\n00:01.000 --> 00:02.000\n[emotion: hapy]\n", ":3: unknown emotion"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_one_line_naming_file_and_place(tmp_path, name):
    text, message = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=message) as failure:
        load_track(tmp_path / name)
    assert str(failure.value).startswith(str(tmp_path / name))
    assert "\n" not in str(failure.value)


def test_missing_oversized_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="no such file"):
        load_track(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("time,label\n0,fr\u00f6hlich\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match=":2: not UTF-8"):
        load_track(tmp_path / "latin.csv")
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(33 * 2**20)
    with pytest.raises(InvalidInputError, match="larger than 32 MiB"):
        load_track(tmp_path / "big.json")
    with pytest.raises(UsageError, match="are read from"):
        load_track(tmp_path / "x.mp3")
    with pytest.raises(UsageError, match="are written as"):
        save_track(tmp_path / "x.mp3", FULL)


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        save_track(tmp_path / "nowhere" / "x.json", FULL)
    assert list(tmp_path.iterdir()) == []


def test_a_dense_track_survives_as_csv(tmp_path):
    dense = EmotionTrack.parse("0:sad; 4:happy").resampled(50)
    save_track(tmp_path / "x.csv", dense)
    times = np.linspace(0, 4, 33)
    assert load_track(tmp_path / "x.csv").sample(times).vad == pytest.approx(dense.sample(times).vad)


@pytest.mark.parametrize("declared", ["UTF-16", "latin-1", "no-such-thing"])
def test_emotionml_that_is_utf8_is_read_whatever_encoding_it_declares(tmp_path, declared):
    save_track(tmp_path / "x.xml", EmotionTrack.parse("0:neutral; 1:happy"))
    text = (tmp_path / "x.xml").read_text()
    assert 'encoding="UTF-8"' in text.replace("utf-8", "UTF-8")
    (tmp_path / "x.xml").write_text(text.replace("UTF-8", declared).replace("utf-8", declared))
    assert len(load_track(tmp_path / "x.xml").keyframes) == 2
