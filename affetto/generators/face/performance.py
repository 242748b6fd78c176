"""From what is said and felt to a whole performance, window by window, in constant memory.

Every window sees `MARGIN_S` of context on both sides of the part that is kept, and neighbours are cross-faded where
they meet; a stream and a whole clip take the same windows and therefore give the same curves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from affetto.acting import liveliness
from affetto.acting.adapter import FaceEmotion, face_emotion
from affetto.acting.closure import LipGap, close_lips
from affetto.acting.expression import LOWER_FACE, express, mood
from affetto.acting.liveliness import LivelinessOptions, apply_life, enliven
from affetto.acting.pieces import resampled_pieces
from affetto.acting.rules import fill_silence, viseme_curves
from affetto.conditioning.track import EmotionTrack
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.runtime.errors import UsageError
from affetto.speech.content import CONTENT_FPS, SpeechContent, closure_events
from affetto.speech.phones import TimedPhone

CORE_S = 10.0
MARGIN_S = liveliness.MARGIN_S
_SEAM_S = 0.1  # half the cross-fade between windows


@dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """How a performance is played; the defaults are an ordinary speaker at 30 frames a second."""

    fps: float = 30.0
    seed: int = 0
    articulation: float = 1.1  # lip and jaw travel while speaking, 0..3
    head_motion: float = 1.0  # 0..3, as are the next two
    blinks: float = 1.0
    gaze: float = 1.0
    gains: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))  # by blend shape
    offsets: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not 10 <= self.fps <= 120:
            raise UsageError(f"fps {self.fps} is out of range: use 10 to 120, for example 24, 25, 30 or 60")
        if not 0 <= self.articulation <= 3:
            raise UsageError(f"articulation {self.articulation} is out of range: use 0 to 3")
        for name in (*self.gains, *self.offsets):
            if name not in ARKIT_INDEX:
                raise UsageError(f"no blend shape {name!r}: use an ARKit name such as jawOpen")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative: use 0 or more")

    @property
    def life(self) -> LivelinessOptions:
        """The amounts of blinks, gaze and head motion."""
        return LivelinessOptions(blinks=self.blinks, gaze=self.gaze, head=self.head_motion)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of speech with the emotion over it; `start_s` is where it lies in the whole."""

    content: SpeechContent
    emotion: FaceEmotion
    start_s: float


Speak = Callable[[Sequence[Window]], Sequence[Float[np.ndarray, "frame 52"]]]
"""Speech and emotion -> blend shapes at 50 Hz for several windows at once: a network, or the rules."""


class RuleSpeaker:
    """A `Speak` for speech whose phones are known: lips by rule, computed once and handed out by window."""

    def __init__(self, phones: Sequence[TimedPhone], content: SpeechContent) -> None:
        self._fps = content.fps
        filled = fill_silence(phones, content.seconds)
        self._curves = viseme_curves(filled, content.seconds, content.fps, energy=content.loudness)

    def __call__(self, windows: Sequence[Window]) -> Sequence[Float[np.ndarray, "frame 52"]]:
        """The weights of each window at the rate of its content."""
        return [self._window(window) for window in windows]

    def _window(self, window: Window) -> Float[np.ndarray, "frame 52"]:
        first = round(window.start_s * self._fps)
        return express(
            self._curves[first : first + len(window.content)],
            window.emotion.anchors,
            window.emotion.vad,
            speaking=window.content.speaking,
            closure=window.content.closure,
            fps=self._fps,
        )


def perform(
    contents: Iterable[SpeechContent],
    speak: Speak,
    head: LipGap,
    track: EmotionTrack,
    options: FaceOptions,
    *,
    batch: int = 1,
) -> Iterator[FaceCurves]:
    """The performance piece by piece at `options.fps`; `contents` are consecutive pieces of any length.

    `batch` windows go through `speak` together. Holds no more than a few windows at a time.
    """
    windows = _windows(contents, track, options.seed)
    played = _played(windows, speak, head, options, batch)
    yield from resampled_pieces(_joined(played), CONTENT_FPS, options.fps)


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """A window together with which of its frames are kept, in frames of the whole."""

    window: Window
    first: int  # the window's first frame
    keep: tuple[int, int]


def _windows(contents: Iterable[SpeechContent], track: EmotionTrack, seed: int) -> Iterator[_Stretch]:
    core, margin = round(CORE_S * CONTENT_FPS), round(MARGIN_S * CONTENT_FPS)
    held: list[SpeechContent] = []
    held_first = kept = 0

    def cut(stop: int, last: int) -> _Stretch:
        first = max(held_first, kept - margin)
        content = SpeechContent.joined(held).sliced(first - held_first, min(last, stop + margin) - held_first)
        start_s = first / CONTENT_FPS
        times = start_s + np.arange(len(content)) / CONTENT_FPS
        emotion = face_emotion(track.sample(times), CONTENT_FPS, seed=seed, start_s=start_s)
        return _Stretch(
            window=Window(content=content, emotion=emotion, start_s=start_s), first=first, keep=(kept, stop)
        )

    last = 0
    for piece in contents:
        held.append(piece)
        last += len(piece)
        while last >= kept + core + margin:
            yield cut(kept + core, last)
            kept += core
            rest = SpeechContent.joined(held)
            forget = max(0, kept - margin - held_first)
            held, held_first = [rest.sliced(forget, len(rest))], held_first + forget
    if last > kept:
        yield cut(last, last)


def _played(
    stretches: Iterator[_Stretch], speak: Speak, head: LipGap, options: FaceOptions, batch: int
) -> Iterator[tuple[_Stretch, Float[np.ndarray, "frame 59"]]]:
    waiting: list[_Stretch] = []

    def flush() -> Iterator[tuple[_Stretch, Float[np.ndarray, "frame 59"]]]:
        spoken = speak([stretch.window for stretch in waiting])
        for stretch, weights in zip(waiting, spoken, strict=True):
            yield stretch, _finish(stretch.window, weights, head, options)
        waiting.clear()

    for stretch in stretches:
        waiting.append(stretch)
        if len(waiting) >= batch:
            yield from flush()
    if waiting:
        yield from flush()


def _finish(
    window: Window, weights: Float[np.ndarray, "frame 52"], head: LipGap, options: FaceOptions
) -> Float[np.ndarray, "frame 59"]:
    """All 59 channels of a window: articulation, closures, life, and the user's gains, in this order."""
    content, emotion = window.content, window.emotion
    gain = 1.0 + (options.articulation - 1.0) * content.speaking[:, None]
    articulated = np.where(LOWER_FACE, weights * gain, weights).astype(np.float32)
    articulated = np.clip(articulated, 0.0, 1.0)
    closed = close_lips(articulated, closure_events(content).astype(np.float32), head, fps=content.fps)
    life = enliven(
        mood(emotion.anchors, emotion.vad),
        speaking=content.speaking,
        loudness=content.loudness,
        fps=content.fps,
        seed=options.seed,
        start_s=window.start_s,
        options=options.life,
    )
    lively = apply_life(closed, life)
    for name, factor in options.gains.items():
        lively[:, ARKIT_INDEX[name]] *= factor
    for name, amount in options.offsets.items():
        lively[:, ARKIT_INDEX[name]] += amount
    lively = np.clip(lively, 0.0, 1.0)
    return np.concatenate([lively, life.head, life.eyes.reshape(len(lively), 4)], axis=1).astype(np.float32)


def _joined(
    played: Iterator[tuple[_Stretch, Float[np.ndarray, "frame 59"]]],
) -> Iterator[Float[np.ndarray, "frame 59"]]:
    """Consecutive frames, neighbours cross-faded around the point where they meet."""
    half = round(_SEAM_S * CONTENT_FPS)
    tail: np.ndarray | None = None  # the last window's view of the frames around the seam
    for stretch, channels in played:
        start, stop = (frame - stretch.first for frame in stretch.keep)
        if tail is not None:
            reach = min(len(tail), len(channels) - (start - half))
            share = np.linspace(0.0, 1.0, reach + 2, dtype=np.float32)[1:-1, None]
            yield (1.0 - share) * tail[:reach] + share * channels[start - half : start - half + reach]
            start = start - half + reach
        final = stop == len(channels)
        yield channels[start : stop if final else stop - half]
        tail = None if final else channels[stop - half : stop + half]
