"""Writing video with its sound, in sync and the same every time: H.264 with AAC, ProRes 4444 with transparency."""

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import av
import numpy as np
import soxr
from av.codec.context import Flags
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from jaxtyping import Float32, UInt8

from affetto.media.audio import Audio
from affetto.media.shelf import Shelf, in_blocks, put_away
from affetto.media.video import MAX_PIXELS
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path

AUDIO_RATES = (44_100, 48_000)
_RATE = 48_000  # that other sounds are brought to
_BLOCK = 1024  # samples in one AAC frame
_Writer = TypeVar("_Writer", bound="VideoWriter")


class VideoWriter:
    """Writes frames, and the sound that belongs to them, to an .mp4 file; use it in a `with` block.

    H.264 (4:2:0, BT.709, the index at the front so that it plays while loading) and AAC. Sound starts with the first
    frame, runs along with the frames in constant memory, and is cut at the end of the last one. The same frames and
    sound always give the same bytes: threads are fixed and nothing of the clock or the library's name is written.
    When the block fails, no file appears. Odd sizes get one more row or column of edge pixels.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".mp4", ".m4v", ".mov")
    channels: ClassVar[int] = 3
    container: ClassVar[str] = "mp4"
    pixels: ClassVar[tuple[str, str]] = ("rgb24", "yuv420p")  # as given, as coded

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
        if self.path.suffix.lower() not in self.suffixes:
            raise UsageError(f"{self.path}: this video is written as {self.suffixes[0]}")
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
        self._sent = 0
        self._quality = {"crf": str(crf), "preset": preset}
        self._overwrite = overwrite
        self._stack = contextlib.ExitStack()

    def __enter__(self: _Writer) -> _Writer:
        temporary = self._stack.enter_context(atomic_path(self.path, overwrite=self._overwrite))
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        opened = av.open(str(temporary), "w", format=self.container, options=options)
        self._container = self._stack.enter_context(opened)
        self._video = self._picture_stream()
        width, height = self.size
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = self.pixels[1]
        context = self._video.codec_context
        context.color_range, context.color_primaries = ColorRange.MPEG, ColorPrimaries.BT709
        context.color_trc, context.colorspace = ColorTrc.BT709, int(Colorspace.ITU709)
        context.flags |= Flags.bitexact
        context.time_base = 1 / self.fps
        self._sound = None
        if self._audio is not None:
            self._layout = "mono" if len(self._audio.samples) == 1 else "stereo"
            self._sound = self._sound_stream(self._audio.rate)
            self._sound.codec_context.flags |= Flags.bitexact
        return self

    def _picture_stream(self) -> Any:
        options = {**self._quality, "threads": "2", "bf": "2"}
        return self._container.add_stream("libx264", rate=self.fps, options=options)

    def _sound_stream(self, rate: int) -> Any:
        stream = self._container.add_stream("aac", rate=rate, layout=self._layout)
        stream.bit_rate = 128_000 if self._layout == "mono" else 192_000
        return stream

    def _sound_frame(self, block: Float32[np.ndarray, "channel sample"]) -> av.AudioFrame:
        return av.AudioFrame.from_ndarray(block, format="fltp", layout=self._layout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; or, after a failure, remove it."""
        try:
            if kind is None and self.frames == 0:
                raise UsageError(f"{self.path}: a video needs at least one frame")
            if kind is None:
                self._send_sound(flush=True)
                for stream in filter(None, (self._video, self._sound)):
                    self._container.mux(stream.encode(None))
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: UInt8[np.ndarray, "row column channel"]) -> None:
        """Add one frame (RGB; for video with transparency RGBA) of the size given at the start."""
        width, height = self.size
        if frame.shape != (height, width, self.channels):
            colours = "RGB" if self.channels == 3 else "RGBA"
            raise UsageError(f"{self.path}: frames are {width}x{height} {colours}, got {frame.shape}")
        if width % 2 or height % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        given, coded = self.pixels
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=given).reformat(
            format=coded,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        picture.pts, picture.time_base = self.frames, 1 / self.fps
        self._container.mux(self._video.encode(picture))
        self.frames += 1
        self._send_sound(flush=False)

    def _send_sound(self, *, flush: bool) -> None:
        """The sound up to the end of the last frame, in whole blocks unless it is to be flushed."""
        if self._audio is None or self._sound is None:
            return
        stop = min(self._audio.samples.shape[1], round(self.frames / self.fps * self._audio.rate))
        while stop - self._sent >= (1 if flush else _BLOCK):
            end = min(stop, self._sent + _BLOCK)
            sent = self._audio.samples[:, self._sent : end]
            sound = self._sound_frame(np.clip(sent, -1.0, 1.0))
            put_away(sent)
            sound.sample_rate, sound.pts = self._audio.rate, self._sent
            sound.time_base = Fraction(1, self._audio.rate)
            self._container.mux(self._sound.encode(sound))
            self._sent = end


class AlphaVideoWriter(VideoWriter):
    """Writes RGBA frames, and their sound, to a .mov file as editing programs take it.

    ProRes 4444 (10 bits a channel, BT.709, straight alpha) and 16-bit PCM; all else as `VideoWriter`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".mov",)
    channels: ClassVar[int] = 4
    container: ClassVar[str] = "mov"
    pixels: ClassVar[tuple[str, str]] = ("rgba", "yuva444p10le")

    def _picture_stream(self) -> Any:
        options = {"profile": "4444", "vendor": "apl0", "threads": "2", "alpha_bits": "16"}
        return self._container.add_stream("prores_ks", rate=self.fps, options=options)

    def _sound_stream(self, rate: int) -> Any:
        return self._container.add_stream("pcm_s16le", rate=rate, layout=self._layout)

    def _sound_frame(self, block: Float32[np.ndarray, "channel sample"]) -> av.AudioFrame:
        whole = np.rint(block * 32767.0).astype(np.int16)
        return av.AudioFrame.from_ndarray(
            np.ascontiguousarray(whole.T.reshape(1, -1)), format="s16", layout=self._layout
        )


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
