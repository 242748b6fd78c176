"""Video out and in."""

import av
import numpy as np
import pytest

from affetto.media.audio import Audio
from affetto.media.video import probe_video, read_frames
from affetto.media.video_writer import VideoWriter
from affetto.runtime.errors import InvalidInputError, UsageError


def frames(count: int, width: int = 96, height: int = 64):
    """A red block on a moving ramp, with a white corner in every tenth frame."""
    columns = np.arange(width)
    for number in range(count):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[..., 1] = (columns + number * 3) % 200
        picture[20:40, 20:40] = (200, 40, 30)
        if number % 10 == 0:
            picture[:16, :16] = 255
        yield picture


def clicks(seconds: float, rate: int = 16_000) -> Audio:
    """A short click at every full second but the first."""
    samples = np.zeros((1, round(seconds * rate)), np.float32)
    for second in range(1, int(seconds)):
        samples[0, second * rate : second * rate + 80] = 0.9
    return Audio(samples=samples, rate=rate)


def write(path, count=50, fps=25, audio=None, size=(96, 64), source=frames):
    with VideoWriter(path, size, fps, audio) as writer:
        for frame in source(count, *size):
            writer.write(frame)
    return path


def test_frames_come_back_in_order_and_colour(tmp_path):
    path = write(tmp_path / "a.mp4")
    back = list(read_frames(path))
    assert [round(time * 25) for time, _ in back] == list(range(50))
    bright = [number for number, (_, frame) in enumerate(back) if frame[:14, :14].mean() > 200]
    assert bright == [0, 10, 20, 30, 40]
    np.testing.assert_allclose(back[5][1][25:35, 25:35].reshape(-1, 3).mean(axis=0), (200, 40, 30), atol=6)


def test_the_file_says_what_it_is(tmp_path):
    info = probe_video(write(tmp_path / "a.mp4", audio=clicks(2.0), fps=30, count=60))
    assert (info.size, info.fps, info.frames, info.codec, info.has_audio) == ((96, 64), 30, 60, "h264", True)
    assert info.seconds == pytest.approx(2.0, abs=0.01)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    files = [write(tmp_path / f"{n}.mp4", audio=clicks(2.0)).read_bytes() for n in range(2)]
    assert files[0] == files[1]
    assert b"Lavf" not in files[0]


def test_the_index_stands_before_the_pictures(tmp_path):
    content = write(tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("fps", [24, 25, 30, 60, 29.97])
def test_sound_is_in_sync_to_the_sample(tmp_path, fps):
    path = write(tmp_path / "a.mp4", audio=clicks(3.0), fps=fps, count=round(3 * fps))
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        parts = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    assert parts[0][0] == 0.0
    sound = np.concatenate([part for _, part in parts])
    starts = np.flatnonzero(np.abs(sound) > 0.3)
    starts = starts[np.diff(starts, prepend=-rate) > rate // 2] / rate
    np.testing.assert_allclose(starts, [1.0, 2.0], atol=0.001)


def test_sound_stops_with_the_pictures(tmp_path):
    path = write(tmp_path / "a.mp4", audio=clicks(9.0), count=25)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44_100, 2), (48_000, 1), (96_000, 6)])
def test_any_sound_is_brought_to_what_players_take(tmp_path, rate, channels):
    audio = Audio(samples=np.zeros((channels, rate), np.float32), rate=rate)
    path = write(tmp_path / "a.mp4", audio=audio, count=25)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.rate in (44_100, 48_000)
        assert stream.channels == (2 if channels == 2 else 1)


def test_odd_sizes_get_an_edge_row(tmp_path):
    path = write(tmp_path / "a.mp4", size=(97, 65), count=5)
    assert probe_video(path).size == (98, 66)


def failing(count, width, height):
    yield from frames(1, width, height)
    raise RuntimeError("renderer broke")


def test_a_failure_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="renderer"):
        write(tmp_path / "a.mp4", source=failing)
    with pytest.raises(UsageError, match="at least one frame"):
        write(tmp_path / "a.mp4", count=0)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_are_refused(tmp_path):
    with pytest.raises(UsageError, match="96x64"), VideoWriter(tmp_path / "a.mp4", (96, 64), 25) as writer:
        writer.write(np.zeros((10, 10, 3), np.uint8))


def claim(path, width: int, height: int) -> None:
    """A real video whose sample description claims another size."""
    write(path, count=3)
    content = bytearray(path.read_bytes())
    at = content.index(b"avc1", content.index(b"stsd")) + 4 + 24
    content[at : at + 4] = width.to_bytes(2, "big") + height.to_bytes(2, "big")
    path.write_bytes(bytes(content))


def sound_only(path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


BAD = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.touch(), "empty"),
    "a playlist": (lambda path: path.write_text("#EXTM3U\nhttp://example.org/a.ts\n"), "playlist"),
    "noise": (lambda path: path.write_bytes(b"\x00\x01\x02" * 99), "not a video"),
    "cut": (lambda path: path.write_bytes(write(path).read_bytes()[:600]), "cut off|damaged|no frame"),
    "an enormous picture": (lambda path: claim(path, 16_000, 16_000), "16000x16000"),
    "sound only": (sound_only, "holds no picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_video_is_refused_in_one_line(tmp_path, name):
    make, message = BAD[name]
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(InvalidInputError, match=message) as caught:
        list(read_frames(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_long_video_is_refused_by_its_header(tmp_path):
    path = write(tmp_path / "a.mp4", count=50)
    with pytest.raises(InvalidInputError, match="2 s exceeds 1 s"):
        probe_video(path, max_seconds=1.0)
