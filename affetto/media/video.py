"""Reading video with care."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from jaxtyping import Float32, UInt8

from affetto.media.audio import MAX_RATE, MIN_RATE, Audio
from affetto.media.files import checked_size, first_bytes, looked_at, looks_like_text
from affetto.media.mp4_boxes import largest_picture
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.limited import Limits

MAX_PIXELS = 4096 * 2304
MAX_SECONDS = 3600.0


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
