"""`EmoteSpeaker`: EMOTE as one of the ways a face can speak; long sound goes through it in overlapping windows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from affetto.conditioning.track import EmotionTrack
from affetto.generators.face.full.audio import RATE, normalised
from affetto.generators.face.full.emote import FPS, Emote
from affetto.generators.face.full.flame_curves import FlameCurves, FlameToArkit
from affetto.generators.face.full.flint import JAW
from affetto.generators.face.full.style import StyleOptions, style_rows
from affetto.generators.face.performance import Window
from affetto.runtime.device import autocast
from affetto.speech.content import CONTENT_FPS

LONGEST_S = 22.0
"""The published code cuts here; longer sound goes through in windows."""

WINDOW_S, OVERLAP_S = 16.0, 2.0
_BEFORE_S = 6.0  # of context that a stream keeps in front of a window


@dataclass(frozen=True, kw_only=True)
class Span:
    """A window of frames, from `start` to `stop`."""

    start: int
    stop: int


def spans(frames: int, *, fps: float = FPS) -> list[Span]:
    """The windows of a clip: one up to the published length, else equal ones of at most 16 s that overlap by 2 s."""
    if frames <= round(LONGEST_S * fps):
        return [Span(start=0, stop=frames)]
    window, overlap = round(WINDOW_S * fps), round(OVERLAP_S * fps)
    count = -(-(frames - overlap) // (window - overlap))
    window = -(-(frames + (count - 1) * overlap) // count)
    starts = [min(index * (window - overlap), frames - window) for index in range(count)]
    return [Span(start=start, stop=start + window) for start in starts]


def cross_fade(spans: Sequence[Span], at: int) -> Float[np.ndarray, "frame"]:
    """The share of window `at` in each of its frames: half a cosine over what it has in common with its neighbours."""
    own = spans[at]
    share = np.ones(own.stop - own.start)
    if at > 0 and (common := spans[at - 1].stop - own.start) > 0:
        share[:common] *= _rising(common)
    if at + 1 < len(spans) and (common := own.stop - spans[at + 1].start) > 0:
        share[-common:] *= _rising(common)[::-1]
    return share


def _rising(frames: int) -> Float[np.ndarray, "frame"]:
    return 0.5 - 0.5 * np.cos(np.pi * (np.arange(frames) + 0.5) / frames)


class EmoteMotion:
    """Sound and an emotion track to FLAME curves at 25 frames a second, for any length of sound."""

    def __init__(
        self, network: Emote, *, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = 1
    ) -> None:
        self._network = network.to(device).eval()
        self._batch = batch
        self.device, self.dtype = device, dtype

    def __call__(
        self,
        samples: Float[np.ndarray, "sample"],
        track: EmotionTrack,
        *,
        style: StyleOptions | None = None,
        start_s: float = 0.0,
        watch: Callable[[int, int], None] | None = None,
    ) -> FlameCurves:
        """The curves of 16 kHz samples that begin `start_s` into the track; `watch` is told windows done and in all."""
        frames = round(len(samples) / RATE * FPS)
        times = start_s + np.arange(frames) / FPS
        rows = style_rows(track, times, style, self._network.config.people)
        level = normalised(samples)
        windows = spans(frames)
        total = np.zeros((frames, self._network.config.flint.channels))
        for group in _groups(windows, self._batch):
            made = self._run(level, rows, [windows[index] for index in group])
            for index, motion in zip(group, made, strict=True):
                own = windows[index]
                total[own.start : own.stop] += cross_fade(windows, index)[:, None] * motion
            if watch is not None:
                watch(group[-1] + 1, len(windows))
        curves = total.astype(np.float32)
        return FlameCurves(fps=FPS, expression=curves[:, :-JAW], jaw=curves[:, -JAW:])

    @torch.inference_mode()
    def _run(
        self,
        samples: Float32[np.ndarray, "sample"],
        rows: Float32[np.ndarray, "frame width"],
        windows: Sequence[Span],
    ) -> Float32[np.ndarray, "window span channel"]:
        sound = np.stack([_stretch(samples, each) for each in windows])
        style = np.stack([rows[each.start : each.stop] for each in windows])
        with autocast(self.device, self.dtype):
            motion = self._network(
                torch.from_numpy(sound).to(self.device), torch.from_numpy(style).to(self.device)
            )
        return motion.float().cpu().numpy()


class EmoteSpeaker:
    """A `Speak` for a whole recording: EMOTE's curves, made once and handed out by window at 50 Hz."""

    def __init__(self, weights: Float32[np.ndarray, "frame 52"], fps: float = FPS) -> None:
        self._weights, self._fps = weights, fps

    def __call__(self, windows: Sequence[Window]) -> Sequence[Float[np.ndarray, "frame 52"]]:
        """The weights of each window at the rate of its content."""
        return [self._window(window) for window in windows]

    def _window(self, window: Window) -> Float[np.ndarray, "frame 52"]:
        times = window.start_s + np.arange(len(window.content)) / window.content.fps
        position = np.clip(times * self._fps, 0.0, max(len(self._weights) - 1, 0))
        low = position.astype(int)
        high = np.minimum(low + 1, len(self._weights) - 1)
        share = (position - low)[:, None].astype(np.float32)
        return (1.0 - share) * self._weights[low] + share * self._weights[high]


class StreamSpeaker:
    """A `Speak` for sound that is still arriving: each window is heard with some seconds before it, nothing is kept."""

    def __init__(
        self, motion: EmoteMotion, arkit: FlameToArkit, track: EmotionTrack, style: StyleOptions | None
    ) -> None:
        self._motion, self._arkit, self._track, self._style = motion, arkit, track, style
        self._held, self._first = np.zeros(0, np.float32), 0

    def listening(
        self, blocks: Iterator[Float[np.ndarray, "sample"]]
    ) -> Iterator[Float[np.ndarray, "sample"]]:
        """Pass the sound through, so that it has been heard here before anybody asks for its face."""
        for block in blocks:
            self._held = np.concatenate([self._held, np.asarray(block, np.float32)])
            yield block

    def __call__(self, windows: Sequence[Window]) -> Sequence[Float[np.ndarray, "frame 52"]]:
        """The weights of each window; the sound before it is forgotten."""
        return [self._window(window) for window in windows]

    def _window(self, window: Window) -> Float[np.ndarray, "frame 52"]:
        frames = max(round((window.start_s - _BEFORE_S) * FPS), 0)
        stop = round((window.start_s + len(window.content) / CONTENT_FPS) * RATE)
        start = max(frames * RATE // round(FPS), self._first)
        heard = self._held[start - self._first : stop - self._first]
        curves = self._motion(heard, self._track, style=self._style, start_s=start / RATE)
        weights = EmoteSpeaker(self._arkit(curves))([_later(window, start / RATE)])[0]
        self._held, self._first = self._held[start - self._first :], start
        return weights


def _later(window: Window, seconds: float) -> Window:
    """The window as it lies in sound that begins `seconds` later."""
    return Window(content=window.content, emotion=window.emotion, start_s=window.start_s - seconds)


def _groups(windows: Sequence[Span], size: int) -> Iterator[list[int]]:
    """Indices of windows that can be computed together: they are equally long."""
    for first in range(0, len(windows), size):
        yield list(range(first, min(first + size, len(windows))))


def _stretch(samples: Float32[np.ndarray, "sample"], window: Span) -> Float32[np.ndarray, "part"]:
    """The samples of a window, exactly as many as its frames last; silence where the sound has ended."""
    unit = round(RATE / FPS)
    part = samples[window.start * unit : window.stop * unit]
    return np.pad(part, (0, (window.stop - window.start) * unit - len(part)))
