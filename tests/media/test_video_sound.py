import numpy as np
import pytest

from affetto.media.audio import Audio
from affetto.media.video import read_sound
from affetto.media.video_writer import VideoWriter
from affetto.runtime.errors import InvalidInputError


def video(path, audio: Audio | None):
    with VideoWriter(path, (32, 32), 25, audio) as writer:
        for _ in range(25):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    return path


def test_the_sound_of_a_video_comes_back_in_step(tmp_path):
    time = np.arange(48_000) / 48_000
    tone = (0.3 * np.sin(2 * np.pi * 440 * time) * (time > 0.5)).astype(np.float32)[None]
    read = read_sound(video(tmp_path / "a.mp4", Audio(samples=tone, rate=48_000)))
    assert read is not None
    assert read.rate == 48_000
    loud = np.abs(read.mono()) > 0.1
    assert np.argmax(loud) / 48_000 == pytest.approx(0.5, abs=0.03)


def test_a_silent_film_has_none_and_other_files_are_refused(tmp_path):
    assert read_sound(video(tmp_path / "a.mp4", None)) is None
    (tmp_path / "b.mp4").write_text("no film")
    with pytest.raises(InvalidInputError):
        read_sound(tmp_path / "b.mp4")
