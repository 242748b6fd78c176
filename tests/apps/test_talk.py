"""`affetto talk`: what it makes, and one line for everything that cannot speak."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.media.animation.files import load_curves, save_curves
from affetto.media.video import probe_video

from .conftest import tone, write_wav


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("talk") / "astronaut.png"
    Image.fromarray(data.astronaut()[40:260, 110:340]).save(path)
    return path


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFETTO_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def motion(tmp_path) -> Path:
    curves = FaceCurves.neutral(8, 25.0)
    curves.weights[:, ARKIT_INDEX["jawOpen"]] = np.linspace(0, 0.6, 8)
    return save_curves(tmp_path / "motion.json", curves)


def bomb(folder: Path) -> Path:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = folder / "huge.png"
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def cut_jpeg(folder: Path) -> Path:
    path = folder / "cut.jpg"
    Image.fromarray(data.astronaut()).save(path)
    path.write_bytes(path.read_bytes()[:9_000])
    return path


def moving_gif(folder: Path) -> Path:
    path = folder / "moving.gif"
    frames = [Image.fromarray(np.full((64, 64, 3), level, np.uint8)) for level in (0, 255)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def wall(folder: Path) -> Path:
    path = folder / "wall.png"
    Image.fromarray(np.full((200, 200, 3), 150, np.uint8)).save(path)
    return path


def small(folder: Path) -> Path:
    path = folder / "small.png"
    face = Image.fromarray(data.astronaut()[40:260, 110:340])
    face.resize((138, 132), Image.Resampling.BOX).save(path)
    return path


def three(folder: Path) -> Path:
    path = folder / "three.png"
    face = data.astronaut()[40:230, 130:320]
    Image.fromarray(np.concatenate([face, face[:, ::-1], face], axis=1)).save(path)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (bomb, "too many pixels"),
        (cut_jpeg, "cut off or damaged"),
        (moving_gif, "not a picture affetto reads"),
        (wall, "no face found"),
        (small, "pixels tall, 96 are needed"),
        (three, "3 faces found"),
    ],
)
def test_a_picture_that_cannot_speak_is_named_in_one_line(affetto, speech, tmp_path, make, words):
    portrait = make(tmp_path)
    outcome = affetto("talk", portrait, speech, "-o", tmp_path / "out.mp4")
    assert outcome.code == 3, outcome.err
    assert len(outcome.lines) == 1
    assert words in outcome.err
    assert str(portrait) in outcome.err
    assert not (tmp_path / "out.mp4").exists()


def test_sound_shorter_than_a_frame_is_refused(affetto, photo, tmp_path):
    short = write_wav(tmp_path / "short.wav", tone(0.015))
    outcome = affetto("talk", photo, short, "-o", tmp_path / "out.mp4")
    assert outcome.code == 3
    assert len(outcome.lines) == 1
    assert "less than one frame" in outcome.err


def test_a_video_has_exactly_the_frames_of_its_sound(affetto, photo, motion, tmp_path):
    speech = write_wav(tmp_path / "half.wav", tone(0.5))
    out, curves = tmp_path / "out.mp4", tmp_path / "out.csv"
    outcome = affetto(
        "talk",
        photo,
        speech,
        "-e",
        "happy",
        "-o",
        out,
        "-o",
        curves,
        "--motion",
        motion,
        "--size",
        "256",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["frames"] == 12  # round(0.5 * 25)
    assert report["face"]["confidence"] > 0.5
    info = probe_video(out)
    assert (info.frames, min(info.size), info.fps) == (12, 256, 25)
    assert info.has_audio
    assert load_curves(curves).channel("jawOpen")[7:].min() == pytest.approx(
        0.6, abs=0.01
    )  # the last frame is held


def test_cmyk_works_and_pictures_can_be_cut_out(affetto, motion, tmp_path):
    photo = tmp_path / "press.jpg"
    Image.fromarray(data.astronaut()[40:260, 110:340]).convert("CMYK").save(photo)
    speech = write_wav(tmp_path / "tiny.wav", tone(0.1))
    frames = tmp_path / "frames"
    outcome = affetto(
        "talk", photo, speech, "-o", frames, "--motion", motion, "--size", "256", "--frame", "1:1", "--alpha"
    )
    assert outcome.code == 0, outcome.err
    assert [path.name for path in sorted(frames.iterdir())] == ["frame_00000.png", "frame_00001.png"]
    picture = np.asarray(Image.open(frames / "frame_00000.png"))
    assert picture.shape == (256, 256, 4)
    assert picture[128, 128, 3] == 255  # the face
    assert picture[2, 2, 3] == 0  # the wall behind


def test_faces_are_listed(affetto, photo):
    outcome = affetto("talk", photo, "--faces", "--json")
    assert outcome.code == 0, outcome.err
    (face,) = json.loads(outcome.out)["faces"]
    left, top, right, bottom = face["box"]
    assert 50 < left < 90 < 140 < right < 180
    assert abs(face["turned_degrees"][0]) < 15
    assert bottom - top > 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "100"], "--size"),
        (["--frame", "3:2"], "unknown --frame"),
        (["--fps", "200"], "--fps"),
        (["--head-motion", "9"], "--head-motion"),
        (["--face", "1", "--landmarks", "x.json"], "exclude each other"),
        (["-o", "out.avi"], "nobody writes"),
        (["-o", "frame.png"], "frame_%05d.png"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(affetto, photo, speech, tmp_path, options, words):
    named = [] if "-o" in options else ["-o", tmp_path / "out.mp4"]
    outcome = affetto("talk", photo, speech, *named, *options)
    assert outcome.code == 2, outcome.err
    assert words in outcome.err
