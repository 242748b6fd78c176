"""Whatever bytes or words come from outside, a reader gives a value or one of our own errors, never anything else."""

import contextlib
import io
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from affetto.apps.batch.manifest import read_manifest
from affetto.conditioning.formats import load_track
from affetto.conditioning.track import EmotionTrack
from affetto.media.animation.files import load_curves
from affetto.media.audio import load_audio
from affetto.media.image import load_image
from affetto.media.midi import load_midi
from affetto.media.video import probe_video
from affetto.runtime.errors import AffettoError
from affetto.scene.loading import load_scene
from affetto.weights.store import read_arrays

pytestmark = pytest.mark.filterwarnings("ignore")

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _wav() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.arange(800, dtype="<i2").tobytes())
    return buffer.getvalue()


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 24), (200, 90, 40)).save(buffer, "PNG")
    return buffer.getvalue()


MIDI = b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0MTrk\x00\x00\x00\x14\x00\x90\x3c\x40\x83\x60\x80\x3c\x40\x00\x90\x3e\x40\x60\x80\x3e\x40\x00\xff\x2f\x00"
SAFETENSORS = (
    b'\x50\x00\x00\x00\x00\x00\x00\x00{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    + b" " * 26
    + b"\x00" * 8
)
SCENE = "affetto: 1\nspeech: {text: Hello, emotion: happy}\noutputs: [mix]\n"
MANIFEST = '{"generator": "music", "emotion": "happy", "output": "a.mid"}\n'
LIVE_LINK = "Timecode,BlendShapeCount,EyeBlinkLeft\n00:00:00:00.000,61,0.5\n"


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A sound file cut off, with some bytes changed, or with something in the middle."""
    data = bytearray(whole)
    for at, value in draw(
        st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=6)
    ):
        data[at] = value
    cut = draw(st.integers(0, len(data)))
    inserted = draw(st.binary(max_size=12))
    return bytes(data[:cut]) + inserted + (bytes(data[cut:]) if draw(st.booleans()) else b"")


def survives(reader, path: Path, content: bytes) -> None:
    """Read it; only our own errors may come out, and they say which file it is in one line."""
    path.write_bytes(content)
    told = path.name
    try:
        reader(path)
    except AffettoError as error:
        told = str(error)
    assert path.name in told
    assert "\n" not in told.strip()


@FUZZ
@given(damaged(_wav()))
def test_sound(tmp_path, content):
    survives(load_audio, tmp_path / "a.wav", content)


@FUZZ
@given(damaged(_png()))
def test_pictures(tmp_path, content):
    survives(load_image, tmp_path / "a.png", content)


@FUZZ
@given(damaged(MIDI))
def test_notes(tmp_path, content):
    survives(load_midi, tmp_path / "a.mid", content)


@FUZZ
@given(st.binary(max_size=200).map(lambda tail: b"\x00\x00\x00\x18ftypisom" + tail))
def test_video(tmp_path, content):
    survives(probe_video, tmp_path / "a.mp4", content)


@FUZZ
@given(damaged(SAFETENSORS))
def test_weights(tmp_path, content):
    survives(read_arrays, tmp_path / "a.safetensors", content)


@FUZZ
@given(damaged(SCENE.encode()))
def test_scenes(tmp_path, content):
    survives(load_scene, tmp_path / "a.yaml", content)


@FUZZ
@given(damaged(MANIFEST.encode()), st.sampled_from([".jsonl", ".csv", ".yaml"]))
def test_manifests(tmp_path, content, suffix):
    survives(lambda path: read_manifest(path).errors, tmp_path / f"a{suffix}", content)


@FUZZ
@given(damaged(LIVE_LINK.encode()))
def test_curves(tmp_path, content):
    survives(load_curves, tmp_path / "a.csv", content)


@FUZZ
@given(st.text(max_size=80))
@example("0:happy@1e999")
@example("vad(nan,0,0)")
@example("0:" + "a" * 70)
def test_the_text_form_of_tracks(text):
    with contextlib.suppress(AffettoError):
        EmotionTrack.parse(text)


@FUZZ
@given(st.sampled_from([".json", ".csv", ".xml", ".srt", ".vtt"]), st.text(max_size=120))
def test_track_files(tmp_path, suffix, text):
    survives(load_track, tmp_path / f"a{suffix}", text.encode("utf-8", "replace"))
