"""A note within a media file: it comes back, players show it, and nothing else of the file changes."""

import json
import struct

import av
import numpy as np
import pygltflib
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from affetto.head.model import HeadModel
from affetto.media.animation.curve_files import read_npz, write_npz
from affetto.media.animation.curves import FaceCurves
from affetto.media.animation.gltf import write_glb
from affetto.media.audio import Audio, load_audio, save_audio
from affetto.media.image import load_image, save_png
from affetto.media.midi import Score, TrackInfo, load_midi, note_array, save_midi
from affetto.media.notes import NOTED, read_note, write_note
from affetto.media.video import read_frames, read_sound
from affetto.media.video_writer import AlphaVideoWriter, VideoWriter
from affetto.runtime.errors import InvalidInputError

SOUND = Audio(samples=np.linspace(-0.5, 0.5, 24_001, dtype=np.float32)[None], rate=48_000)
TEXT = '{"emotion":"happy","words":"Grüße, 世界"}'


def sound(path):
    save_audio(path, SOUND)


def picture(path):
    save_png(path, np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3))


def video(path):
    with VideoWriter(path, (64, 48), 25, SOUND) as writer:
        for level in range(12):
            writer.write(np.full((48, 64, 3), 20 * level, np.uint8))


def clear_video(path):
    with AlphaVideoWriter(path, (64, 48), 25, SOUND) as writer:
        for level in range(12):
            writer.write(np.full((48, 64, 4), 20 * level, np.uint8))


def notes(path):
    rows = note_array([(0.0, 1.0, 60, 80, 0), (1.0, 1.0, 64, 80, 0)])
    save_midi(path, Score(notes=rows, tracks=(TrackInfo(name="piano"),)))


def curves(path):
    write_npz(path, FaceCurves.neutral(3, 25.0))


def layer(path):
    path.write_text('#usda 1.0\n(\n    defaultPrim = "Face"\n)\n\ndef Xform "Face"\n{\n}\n')


def cues(path):
    path.write_text("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nHello\n")


def head(path):
    write_glb(path, HeadModel.load().mesh, None, normals=False)


MAKERS = {
    "a.wav": sound, "a.flac": sound, "a.png": picture, "a.mp4": video, "a.mov": clear_video, "a.mid": notes, "a.glb": head,
    "a.npz": curves, "a.usda": layer, "a.vtt": cues,
}  # fmt: skip


def film(path):
    return b"".join(f.tobytes() for _, f in read_frames(path)) + read_sound(path).samples.tobytes()


CONTENT = {
    "a.wav": lambda path: load_audio(path).samples.tobytes(),
    "a.flac": lambda path: load_audio(path).samples.tobytes(),
    "a.png": lambda path: load_image(path).tobytes(),
    "a.mp4": film,
    "a.mov": film,
    "a.mid": lambda path: load_midi(path).notes.tobytes(),
    "a.glb": lambda path: pygltflib.GLTF2().load(str(path)).binary_blob(),
    "a.npz": lambda path: read_npz(path).weights.tobytes(),
    "a.usda": lambda path: path.read_text().rpartition("(\n    default")[2],
    "a.vtt": lambda path: path.read_text().rpartition("00:00:00")[2],
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_a_note_comes_back_and_what_the_file_holds_stays(tmp_path, name):
    path = tmp_path / name
    MAKERS[name](path)
    assert read_note(path) is None
    before = CONTENT[name](path)
    write_note(path, TEXT)
    assert read_note(path) == TEXT
    assert CONTENT[name](path) == before


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_films_larger_than_a_piece_take_notes_that_grow_and_shrink(tmp_path, monkeypatch, name):
    monkeypatch.setattr("affetto.media.mp4_notes._PIECE", 700)
    path = tmp_path / name
    MAKERS[name](path)
    before = CONTENT[name](path)
    for text in (TEXT * 200, "short", TEXT * 20):
        write_note(path, text)
        assert read_note(path) == text
        assert CONTENT[name](path) == before


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_note_gives_the_same_bytes(tmp_path, name):
    made = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / name
        MAKERS[name](path)
        write_note(path, TEXT)
        made.append(path.read_bytes())
    assert made[0] == made[1]


def test_other_programs_show_it(tmp_path):
    for name in ("a.wav", "a.flac", "a.mp4", "a.png", "a.glb"):
        MAKERS[name](tmp_path / name)
        write_note(tmp_path / name, TEXT)
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        assert file.comment.encode(errors="surrogateescape").decode() == TEXT
    with soundfile.SoundFile(tmp_path / "a.flac") as file:
        assert file.comment == TEXT
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.metadata["comment"] == TEXT
    with Image.open(tmp_path / "a.png") as file:
        assert file.text["Comment"] == TEXT
    assert pygltflib.GLTF2().load(str(tmp_path / "a.glb")).asset.extras["comment"] == TEXT


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_of_another_kind_takes_no_note_and_has_none(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"something else altogether, and not short either: " * 4)
    assert read_note(path) is None
    with pytest.raises(InvalidInputError, match=name):
        write_note(path, TEXT)


@pytest.fixture(scope="module")
def noted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noted")
    found = {}
    for name in ("a.wav", "a.flac", "a.png", "a.mp4", "a.mid", "a.npz", "a.usda", "a.vtt"):
        MAKERS[name](folder / name)
        write_note(folder / name, TEXT)
        found[name] = (folder / name).read_bytes()
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_have_a_note_or_none_and_nothing_else_happens(noted, tmp_path, data):
    name = data.draw(st.sampled_from(sorted(noted)))
    content = bytearray(noted[name])
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, min(len(content), 3000) - 1), st.integers(0, 255)), max_size=6)
    ):
        content[at] = value
    path = tmp_path / name
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    found = read_note(path)
    assert found is None or isinstance(found, str)


def test_usd_and_subtitles_with_notes_are_read_as_before(tmp_path):
    usd = pytest.importorskip("pxr.Usd")
    for name in ("a.usda", "a.vtt"):
        MAKERS[name](tmp_path / name)
        write_note(tmp_path / name, '{"words":"a --> b\\n"}')
    stage = usd.Stage.Open(str(tmp_path / "a.usda"))
    assert stage.GetDefaultPrim().GetName() == "Face"
    assert json.loads(read_note(tmp_path / "a.vtt")) == {"words": "a --> b\n"}
    assert (tmp_path / "a.vtt").read_text().count("-->") == 1


def test_a_note_that_an_archive_has_no_room_for_is_left_out(tmp_path):
    curves(tmp_path / "a.npz")
    write_note(tmp_path / "a.npz", "x" * 70_000)
    assert read_note(tmp_path / "a.npz") is None
    assert len(read_npz(tmp_path / "a.npz").weights) == 3


def test_a_box_that_claims_four_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x08ftyp" + struct.pack(">I", 0xFFFFFFF0) + b"moov" + bytes(64))
    assert read_note(path) is None


def test_every_format_with_a_reader_is_tested():
    assert {suffix for suffix in NOTED if suffix not in (".m4v", ".midi")} == {name[1:] for name in MAKERS}
