"""Writing video with transparency: ProRes 4444 in QuickTime, with uncompressed sound, as editing programs take it."""

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from jaxtyping import UInt8

from affetto.media.audio import Audio
from affetto.media.video import MAX_PIXELS, playable
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path

_BLOCK = 1024


class AlphaVideoWriter:
    """Writes RGBA frames, and the sound that belongs to them, to a .mov file; use it in a `with` block.

    ProRes 4444 (10 bits a channel, BT.709, straight alpha) and 16-bit PCM. Sound is cut at the end of the last frame.
    When the block fails, no file appears. Odd sizes get one more row or column of edge pixels.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: int | float,
        audio: Audio | None = None,
        *,
        overwrite: bool = True,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mov":
            raise UsageError(f"{self.path}: video with transparency is written as .mov")
        if min(size) < 2 or size[0] * size[1] > MAX_PIXELS:
            raise UsageError(
                f"{self.path}: {size[0]}x{size[1]} pixels cannot be written: use 2x2 to 4096x2304"
            )
        if not 1 <= fps <= 240:
            raise UsageError(f"{self.path}: {fps} frames per second are outside 1..240")
        self.size = size
        self.fps = Fraction(fps).limit_denominator(1001)
        self.frames = 0
        self._audio = playable(audio) if audio is not None else None
        self._sent = 0
        self._overwrite = overwrite
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "AlphaVideoWriter":
        temporary = self._stack.enter_context(atomic_path(self.path, overwrite=self._overwrite))
        opened = av.open(str(temporary), "w", format="mov", options={"fflags": "+bitexact"})
        self._container = self._stack.enter_context(opened)
        options = {"profile": "4444", "vendor": "apl0", "threads": "2", "alpha_bits": "16"}
        self._video = self._container.add_stream("prores_ks", rate=self.fps, options=options)
        width, height = self.size
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuva444p10le"
        context = self._video.codec_context
        context.color_range, context.color_primaries = ColorRange.MPEG, ColorPrimaries.BT709
        context.color_trc, context.colorspace = ColorTrc.BT709, int(Colorspace.ITU709)
        context.flags |= Flags.bitexact
        context.time_base = 1 / self.fps
        self._sound = None
        if self._audio is not None:
            layout = "mono" if len(self._audio.samples) == 1 else "stereo"
            self._sound = self._container.add_stream("pcm_s16le", rate=self._audio.rate, layout=layout)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; or, after a failure, remove it."""
        try:
            if kind is None and self.frames == 0:
                raise UsageError(f"{self.path}: a video needs at least one frame")
            if kind is None:
                self._container.mux(self._video.encode(None))
                if self._sound is not None:
                    self._container.mux(self._sound.encode(None))
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: UInt8[np.ndarray, "row column 4"]) -> None:
        """Add one frame, red, green, blue and opacity, of the size given at the start."""
        width, height = self.size
        if frame.shape != (height, width, 4):
            raise UsageError(f"{self.path}: frames are {width}x{height} RGBA, got {frame.shape}")
        if width % 2 or height % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgba").reformat(
            format="yuva444p10le",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        picture.pts, picture.time_base = self.frames, 1 / self.fps
        self._container.mux(self._video.encode(picture))
        self.frames += 1
        self._send_audio(self.frames / self.fps)

    def _send_audio(self, until: Fraction) -> None:
        if self._audio is None or self._sound is None:
            return
        stop = min(self._audio.samples.shape[1], round(until * self._audio.rate))
        while self._sent < stop:
            end = min(stop, self._sent + _BLOCK)
            block = np.rint(np.clip(self._audio.samples[:, self._sent : end], -1.0, 1.0) * 32767.0).astype(
                np.int16
            )
            layout = "mono" if len(block) == 1 else "stereo"
            packed = np.ascontiguousarray(block.T.reshape(1, -1))
            sound = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            sound.sample_rate, sound.pts = self._audio.rate, self._sent
            sound.time_base = Fraction(1, self._audio.rate)
            self._container.mux(self._sound.encode(sound))
            self._sent = end
