"""Tests of video with transparency."""

from pathlib import Path

import av
import numpy as np
import pytest

from affetto.media.audio import Audio
from affetto.media.video_writer import AlphaVideoWriter
from affetto.runtime.errors import UsageError


def _frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.reformat(format="rgba").to_ndarray() for frame in container.decode(video=0)]


def test_opacity_and_sound_come_back_as_written(tmp_path: Path) -> None:
    picture = np.zeros((32, 48, 4), np.uint8)
    picture[:, :24] = (200, 120, 40, 255)
    picture[:, 24:] = (200, 120, 40, 0)
    picture[:16, 24:, 3] = 128
    tone = 0.5 * np.sin(np.arange(48_000) * 0.05).astype(np.float32)[None]
    path = tmp_path / "out.mov"
    with AlphaVideoWriter(path, (48, 32), 25, Audio(samples=tone, rate=48_000)) as video:
        for _ in range(5):
            video.write(picture)
    frames = _frames(path)
    assert len(frames) == 5
    assert np.abs(frames[2][4:-4, 4:20, 3].astype(int) - 255).max() <= 2
    assert np.abs(frames[2][20:28, 28:44, 3].astype(int)).max() <= 2
    assert np.abs(frames[2][4:12, 28:44, 3].astype(int) - 128).max() <= 4
    assert np.abs(frames[2][4:-4, 4:20, :3].astype(int) - [200, 120, 40]).max() <= 6
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples == 48_000 // 5


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mov"
    with pytest.raises(UsageError, match="RGBA"), AlphaVideoWriter(path, (16, 16), 25) as video:
        video.write(np.zeros((8, 16, 4), np.uint8))
    assert not list(tmp_path.iterdir())


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.mov"):
        AlphaVideoWriter(tmp_path / "out.mp4", (16, 16), 25)
