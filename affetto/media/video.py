"""Writing H.264/AAC video that is in sync and the same every time, and reading video with care."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import numpy as np
import soxr
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from jaxtyping import Float32, UInt8

from affetto.media.audio import MAX_RATE, MIN_RATE, Audio
from affetto.media.files import checked_size, first_bytes, looked_at, looks_like_text
from affetto.media.mp4_boxes import largest_picture
from affetto.media.shelf import Shelf, in_blocks, put_away
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.limited import Limits

MAX_PIXELS = 4096 * 2304
MAX_SECONDS = 3600.0
AAC_BLOCK = 1024  # samples in one AAC frame
AUDIO_RATES = (44_100, 48_000)
_RATE = 48_000  # that other sounds are brought to


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video file holds."""

    path: Path
    size: tuple[int, int]  # width, height in pixels, as shown (rotation applied)
    fps: float
    seconds: float
    frames: int  # 0 when the file does not say
    codec: str
    has_audio: bool


class VideoWriter:
    """Writes frames, and the sound that belongs to them, to an .mp4 file; use it in a `with` block.

    H.264 (4:2:0, BT.709, the index at the front so that it plays while loading) and AAC. Sound starts with the first
    frame, runs along with the frames in constant memory, and is cut at the end of the last one. The same frames and
    sound always give the same bytes: threads are fixed and nothing of the clock or the library's name is written.
    When the block fails, no file appears. Odd sizes get one more row or column of edge pixels.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: int | float,
        audio: Audio | None = None,
        *,
        crf: int = 18,
        preset: str = "veryfast",
        overwrite: bool = True,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".mp4", ".m4v", ".mov"):
            raise UsageError(f"{self.path}: video is written as .mp4")
        if min(size) < 2 or size[0] * size[1] > MAX_PIXELS:
            raise UsageError(
                f"{self.path}: a video of {size[0]}x{size[1]} pixels cannot be written: use 2x2 to 4096x2304"
            )
        if not 1 <= fps <= 240:
            raise UsageError(f"{self.path}: {fps} frames per second are outside 1..240")
        self.size = size
        self.fps = Fraction(fps).limit_denominator(1001)
        self.frames = 0
        self._audio = playable(audio) if audio is not None else None
        self._audio_sent = 0
        self._options = {"crf": str(crf), "preset": preset, "threads": "2", "bf": "2"}
        self._overwrite = overwrite
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "VideoWriter":
        temporary = self._stack.enter_context(atomic_path(self.path, overwrite=self._overwrite))
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        opened = av.open(str(temporary), "w", format="mp4", options=options)
        self._container = self._stack.enter_context(opened)
        self._video = self._container.add_stream("libx264", rate=self.fps, options=self._options)
        width, height = self.size
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.color_range = ColorRange.MPEG
        self._video.codec_context.color_primaries = ColorPrimaries.BT709
        self._video.codec_context.color_trc = ColorTrc.BT709
        self._video.codec_context.colorspace = int(Colorspace.ITU709)
        self._video.codec_context.flags |= Flags.bitexact
        self._video.codec_context.time_base = 1 / self.fps
        self._sound = None
        if self._audio is not None:
            layout = "mono" if len(self._audio.samples) == 1 else "stereo"
            self._sound = self._container.add_stream("aac", rate=self._audio.rate, layout=layout)
            self._sound.bit_rate = 128_000 if layout == "mono" else 192_000
            self._sound.codec_context.flags |= Flags.bitexact
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; or, after a failure, remove it."""
        try:
            if kind is None and self.frames == 0:
                raise UsageError(f"{self.path}: a video needs at least one frame")
            if kind is None:
                self._finish()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: UInt8[np.ndarray, "row column 3"]) -> None:
        """Add one RGB frame of the size given at the start."""
        width, height = self.size
        if frame.shape != (height, width, 3):
            raise UsageError(
                f"{self.path}: frames are {width}x{height}, got {frame.shape[1]}x{frame.shape[0]}"
            )
        if width % 2 or height % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        picture.pts, picture.time_base = self.frames, 1 / self.fps
        self._container.mux(self._video.encode(picture))
        self.frames += 1
        self._send_audio(until=self.frames / self.fps, flush=False)

    def _send_audio(self, until: Fraction, *, flush: bool) -> None:
        if self._audio is None or self._sound is None:
            return
        stop = min(self._audio.samples.shape[1], round(until * self._audio.rate))
        while stop - self._audio_sent >= (1 if flush else AAC_BLOCK):
            end = min(stop, self._audio_sent + AAC_BLOCK)
            sent = self._audio.samples[:, self._audio_sent : end]
            block = np.clip(sent, -1.0, 1.0)
            put_away(sent)
            layout = "mono" if len(block) == 1 else "stereo"
            sound = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            sound.sample_rate, sound.pts = self._audio.rate, self._audio_sent
            sound.time_base = Fraction(1, self._audio.rate)
            self._container.mux(self._sound.encode(sound))
            self._audio_sent = end

    def _finish(self) -> None:
        self._send_audio(until=self.frames / self.fps, flush=True)
        self._container.mux(self._video.encode(None))
        if self._sound is not None:
            self._container.mux(self._sound.encode(None))


def playable(audio: Audio) -> Audio:
    """The sound as every player takes it: one or two channels at 44.1 or 48 kHz; one that was resampled lies on a shelf."""
    samples = audio.samples if len(audio.samples) <= 2 else audio.mono()[None]
    if audio.rate in AUDIO_RATES:
        return Audio(samples=samples, rate=audio.rate)
    stream = soxr.ResampleStream(audio.rate, _RATE, len(samples), dtype="float32", quality="HQ")
    room = Shelf().empty(len(samples), -(-samples.shape[1] * _RATE // audio.rate) + 1)
    done = read = 0
    for block in in_blocks(samples):
        read += block.shape[1]
        made = stream.resample_chunk(block.T, last=read == samples.shape[1]).T
        room[:, done : done + made.shape[1]] = made
        put_away(room[:, done : done + made.shape[1]])
        done += made.shape[1]
    return Audio(samples=room[:, :done], rate=_RATE)


_CONTAINERS = ((4, b"ftyp", "mov"), (0, b"\x1a\x45\xdf\xa3", "matroska"), (8, b"AVI ", "avi"))


def _container_of(path: Path, max_pixels: int) -> str:
    """FFmpeg's name of the demuxer for a file, by its content; raises for what no video is and for enormous pictures."""
    size = checked_size(path, kind="video")
    head = first_bytes(path)
    format_name = next((name for at, magic, name in _CONTAINERS if head[at : at + len(magic)] == magic), None)
    if format_name is None:
        reason = "is text or a playlist" if looks_like_text(head) else "is not a video affetto reads"
        raise InvalidInputError(f"{path}: {reason}: use .mp4, .mov, .mkv, .webm or .avi")
    if format_name == "mov":
        width, height = largest_picture(path, size)
        _check_pixels(path, width, height, max_pixels)
    return format_name


def _open(path: Path, max_pixels: int) -> Any:
    """An open input container whose demuxer was chosen by content, with at least one picture stream."""
    format_name = _container_of(path, max_pixels)
    try:
        container = av.open(str(path), format=format_name, options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError, ValueError) as error:
        raise InvalidInputError(
            f"{path}: the video is cut off or damaged: copy or export it again"
        ) from error
    if not container.streams.video:
        container.close()
        raise InvalidInputError(f"{path}: holds no picture: it may be sound only")
    stream = container.streams.video[0]
    if stream.codec_context is None:  # FFmpeg knows no decoder for it
        container.close()
        raise InvalidInputError(f"{path}: its pictures are coded in a way that cannot be read: use H.264")
    try:
        _check_pixels(path, stream.width, stream.height, max_pixels)
    except InvalidInputError:
        container.close()
        raise
    return container


def _check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InvalidInputError(
            f"{path}: {width}x{height} exceeds {max_pixels / 1e6:.1f} Mpx a frame: scale the video down"
        )


def probe_video(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, max_seconds: float | None = MAX_SECONDS
) -> VideoInfo:
    """What a video holds, from its headers and first frame.

    Raises `InvalidInputError` for a missing, empty, damaged, oversized or overlong file, or one without pictures.
    """
    path = Path(path)
    with _open(path, max_pixels) as container:
        stream = container.streams.video[0]
        first = next(_decoded(container, path), None)
        if first is None:
            raise InvalidInputError(f"{path}: no frame can be decoded: export it again")
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        length = container.duration / av.time_base if container.duration else 0.0
        if stream.duration and stream.time_base:
            length = float(stream.duration * stream.time_base)
        info = VideoInfo(
            path=path,
            size=(first.shape[1], first.shape[0]),
            fps=fps,
            seconds=length,
            frames=stream.frames,
            codec=stream.codec_context.name,
            has_audio=bool(container.streams.audio),
        )
    if max_seconds is not None and info.seconds > max_seconds:
        raise InvalidInputError(
            f"{path}: {info.seconds:.0f} s exceeds {max_seconds:.0f} s: cut it into parts"
        )
    return info


def look_at_video(path: str | Path, *, max_seconds: float | None = MAX_SECONDS) -> VideoInfo:
    """Like `probe_video`, with the decoder in a process bounded in memory and time.

    Raises also for a file that takes more than 512 MiB or 20 processor seconds to open, or crashes its decoder.
    """
    path = Path(path)
    _container_of(path, MAX_PIXELS)
    found = looked_at(path, "affetto.media.video:first_look", max_seconds, limits=Limits())
    return VideoInfo(**found | {"path": path, "size": tuple(found["size"])})


def first_look(path: str, max_seconds: float | None) -> dict[str, Any]:
    """What `look_at_video` finds, in the process with limits."""
    return dataclasses.asdict(probe_video(path, max_seconds=max_seconds)) | {"path": path}


def _decoded(container: Any, path: Path) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
    for _, pixels in _timed(container, path):
        yield pixels


def _timed(container: Any, path: Path) -> Iterator[tuple[float, UInt8[np.ndarray, "row column 3"]]]:
    stream = container.streams.video[0]
    stream.thread_count = 2
    number = 0
    try:
        for frame in container.decode(stream):
            pixels = frame.to_ndarray(format="rgb24")
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            seconds = (
                float(frame.time) if frame.time is not None else number / float(stream.average_rate or 25)
            )
            number += 1
            yield seconds, cast(np.ndarray, np.ascontiguousarray(np.rot90(pixels, turns)))
    except (FFmpegError, OSError) as error:
        raise InvalidInputError(
            f"{path}: the video is damaged after frame {number}: export it again"
        ) from error


def read_frames(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, max_seconds: float | None = MAX_SECONDS
) -> Iterator[tuple[float, UInt8[np.ndarray, "row column 3"]]]:
    """Yield (seconds, RGB frame) one by one, upright, in constant memory; raises like `probe_video`."""
    path = Path(path)
    probe_video(path, max_pixels=max_pixels, max_seconds=max_seconds)
    with _open(path, max_pixels) as container:
        yield from _timed(container, path)


def read_sound(path: str | Path, *, max_seconds: float = MAX_SECONDS) -> Audio | None:
    """The first sound track of a video, starting with its first frame, at its own rate and channels; None without one.

    Raises `InvalidInputError` like `probe_video`, and for sound that is damaged.
    """
    path = Path(path)
    if not probe_video(path, max_seconds=max_seconds).has_audio:
        return None
    with _open(path, MAX_PIXELS) as container:
        stream = container.streams.audio[0]
        if stream.codec_context is None or not MIN_RATE <= int(stream.rate or 0) <= MAX_RATE:
            raise InvalidInputError(f"{path}: its sound cannot be read: use AAC at 44.1 or 48 kHz")
        rate = int(stream.rate)
        blocks, held = list[np.ndarray](), 0
        try:
            for block in _sound_blocks(container, rate, most=round(max_seconds * rate)):
                blocks.append(block)
                held += block.shape[1]
                if held > max_seconds * rate:
                    raise InvalidInputError(
                        f"{path}: its sound exceeds {max_seconds:.0f} s: cut it into parts"
                    )
        except (FFmpegError, OSError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(f"{path}: its sound is damaged: export it again") from error
    if not blocks:
        return None
    samples = np.concatenate(blocks, axis=1)
    if not np.isfinite(samples).all():
        raise InvalidInputError(f"{path}: its sound is damaged: export it again")
    return Audio(samples=np.ascontiguousarray(samples), rate=rate, path=path)


def _sound_blocks(container: Any, rate: int, *, most: int) -> Iterator[Float32[np.ndarray, "channel sample"]]:
    """The sound of the first track piece by piece, after silence (at most one sample over `most`) until it sets in."""
    stream, pictures = container.streams.audio[0], container.streams.video[0]
    first = float(pictures.start_time or 0) * float(pictures.time_base or 0)
    resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
    begun = False
    for frame in container.decode(stream):
        if not begun and frame.time is not None and frame.time > first:
            silence = min(round((float(frame.time) - first) * rate), most + 1)
            yield np.zeros((len(stream.layout.channels), silence), np.float32)
        begun = True
        for each in resampler.resample(frame):
            yield np.asarray(each.to_ndarray(), np.float32)
