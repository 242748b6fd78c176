"""Decoders meet files of others in a process with limits first: whatever they do there is one line that names the file."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from affetto.media import audio, files, image, midi, video
from affetto.media.audio import look_at_sound, probe_audio
from affetto.media.files import LOOKER, MEND, looked_at
from affetto.media.image import look_at_picture
from affetto.media.looking import look_at_media
from affetto.media.midi import look_at_midi
from affetto.media.video import look_at_video, probe_video
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.limited import Limits
from tests.apps import bad_inputs as bad

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux")


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "voice.wav"
    soundfile.write(path, np.full(8000, 0.1, np.float32), 16_000)
    return path


def test_a_look_finds_what_a_probe_finds(tmp_path, sound):
    assert look_at_sound(sound) == look_at_sound(sound, whole=False) == probe_audio(sound)
    film = bad.video(tmp_path / "clip.mp4")
    assert look_at_video(film) == probe_video(film)
    picture = bad.picture(tmp_path / "me.png")
    assert look_at_picture(picture) == Image.open(picture).size
    notes = bad.midi(tmp_path / "a.mid", b"\x00\x90\x3c\x40\x83\x60\x80\x3c\x40")
    assert look_at_midi(notes) == pytest.approx(0.5)


def test_no_decoder_runs_in_the_process_that_looks(tmp_path, sound, monkeypatch):
    film, picture = bad.video(tmp_path / "clip.mp4"), bad.picture(tmp_path / "me.png")

    def decoded(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a decoder ran here")

    monkeypatch.setattr(audio.soundfile, "info", decoded)
    monkeypatch.setattr(audio.soundfile, "SoundFile", decoded)
    monkeypatch.setattr(video.av, "open", decoded)
    monkeypatch.setattr(image.Image, "open", decoded)
    monkeypatch.setattr(midi, "load_midi", decoded)
    assert look_at_sound(sound).seconds == 0.5
    assert look_at_video(film).size == (64, 64)
    assert look_at_picture(picture) == (230, 220)
    look_at_media(film)


@linux
def test_a_video_that_eats_memory_as_it_is_opened_is_one_line(tmp_path):
    film = bad.hidden_video(tmp_path / "clip.mp4")  # 67 megapixels behind boxes that speak of 64 x 64
    with pytest.raises(InvalidInputError, match=r"clip\.mp4: (reading it takes more than 48 MiB of memory|.*exceeds)"):  # fmt: skip
        looked_at(film, "affetto.media.video:first_look", None, limits=Limits(memory=48 << 20))
    with pytest.raises(InvalidInputError, match=r"clip\.mp4: 8176x8176 exceeds"):
        look_at_video(film)


@linux
def test_a_picture_beyond_the_limit_is_one_line_and_costs_this_process_nothing(tmp_path):
    path = tmp_path / "me.png"
    Image.fromarray(np.zeros((6000, 6000, 3), np.uint8)).save(path)
    with pytest.raises(InvalidInputError, match=rf"me\.png: reading it takes more than 64 MiB of memory: {MEND}$"):  # fmt: skip
        looked_at(path, "affetto.media.image:first_look", limits=Limits(memory=64 << 20))


def _meanwhile(act) -> threading.Thread:
    """Do something to the process that looks, a moment after now."""

    def later() -> None:
        time.sleep(0.1)
        assert LOOKER.pid is not None
        act(LOOKER.pid)

    thread = threading.Thread(target=later)
    thread.start()
    return thread


def _again_and_again(path: Path) -> None:
    """Look until something strikes the process at work."""
    while True:
        os.utime(path)
        look_at_sound(path)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_decoder_that_hangs_is_one_line(sound):
    assert LOOKER.bounds is not None  # it has begun
    os.kill(LOOKER.pid or 0, signal.SIGSTOP)  # it hangs, whatever it is given
    with pytest.raises(InvalidInputError, match=r"voice\.wav: reading it takes longer than 0\.5 s: it is damaged"):  # fmt: skip
        looked_at(sound, "affetto.media.audio:first_look", None, True, limits=Limits(clock_s=0.5))
    assert look_at_sound(sound).seconds == 0.5


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_decoder_that_kills_its_process_is_one_line(tmp_path, sound):
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(16_000 * 60 * 55, np.int16), 16_000)
    assert LOOKER.bounds is not None
    thread = _meanwhile(lambda pid: os.kill(pid, signal.SIGSEGV))
    with pytest.raises(InvalidInputError, match=rf"long\.flac: its reader crashed \(SIGSEGV\): {MEND}$"):
        _again_and_again(path)
    thread.join()
    assert look_at_sound(sound).seconds == 0.5


def test_a_file_that_was_looked_at_is_not_read_again_until_it_changes(sound, monkeypatch):
    asked = []
    call = LOOKER.call
    monkeypatch.setattr(files.LOOKER, "call", lambda *a, **k: asked.append(a) or call(*a, **k))
    for _ in range(3):
        look_at_sound(sound)
    assert len(asked) == 1
    soundfile.write(sound, np.full(16_000, 0.1, np.float32), 16_000)
    assert look_at_sound(sound).seconds == 1.0
    assert len(asked) == 2


def test_errors_name_the_file_as_it_was_named(sound, monkeypatch):
    monkeypatch.chdir(sound.parent)
    sound.write_bytes(bad.header(data=64_000, channels=32) + bytes(64_000))
    with pytest.raises(InvalidInputError, match=r"^voice\.wav: 32 channels exceed 8: mix it down$"):
        look_at_sound("voice.wav")


def test_sound_is_looked_at_to_its_end_unless_only_its_head_is_wanted(tmp_path):
    path = tmp_path / "voice.wav"
    samples = np.full(16_000 * 12, 0.1, np.float32)
    samples[-1] = np.nan
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    assert look_at_sound(path, whole=False).seconds == 12
    with pytest.raises(InvalidInputError, match="sample 191999 is not a number"):
        look_at_sound(path)


def test_many_files_share_one_process_and_take_milliseconds_each(tmp_path):
    paths = []
    for index in range(60):
        paths.append(tmp_path / f"{index}.wav")
        soundfile.write(paths[-1], np.full(16_000, 0.1, np.float32), 16_000)
    look_at_sound(paths[0])
    first, began = LOOKER.pid, time.perf_counter()
    for path in paths:
        look_at_sound(path, whole=False)
    assert LOOKER.pid == first
    assert (time.perf_counter() - began) / len(paths) < 0.02
