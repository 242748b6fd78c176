"""Emotion over time: keyframes, how to travel between them, and what every generator samples."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from affetto.conditioning.batch import EmotionBatch
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.interpolation import limit_rate, parse_ease, smooth_noise
from affetto.conditioning.lexicon import Number
from affetto.conditioning.sampling import KeyArrays, stand_at
from affetto.runtime.errors import UsageError

__all__ = ["MAX_KEYFRAMES", "EmotionBatch", "EmotionTrack", "Keyframe", "Pulse", "as_track"]

MAX_KEYFRAMES = 100_000
MAX_SECONDS = 24 * 3600.0
MODALITIES = ("face", "voice", "music", "portrait")
TRACK_SUFFIXES = (".json", ".csv", ".xml", ".emotionml", ".srt", ".vtt")

_KEY_TEXT = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*s?\s*:(.*)", re.DOTALL)
_BAKE_FPS = 100.0  # when an exact keyframe form does not exist
_PULSE_LIMIT = 0.5  # seconds; longer is no micro-event


@dataclass(frozen=True, kw_only=True)
class Keyframe:
    """An emotion at a time in seconds; `ease` shapes the way from it to the next keyframe."""

    time: Number
    emotion: Emotion
    ease: str = "linear"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time) and 0 <= self.time <= MAX_SECONDS):
            raise UsageError(f"a keyframe's time must lie in 0..{MAX_SECONDS:g} s, got {self.time:g}")
        object.__setattr__(self, "time", float(self.time))
        object.__setattr__(self, "ease", str(parse_ease(self.ease)))


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """A micro-event: for less than half a second `emotion` shows through, most at `time`, with `amount` 0..1."""

    time: Number
    emotion: Emotion
    seconds: Number = 0.3
    amount: Number = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time) and 0 <= self.time <= MAX_SECONDS):
            raise UsageError(f"a pulse's time must lie in 0..{MAX_SECONDS:g} s, got {self.time:g}")
        if not 0 < self.seconds <= _PULSE_LIMIT:
            raise UsageError(
                f"a pulse lasts up to {_PULSE_LIMIT:g} s, got {self.seconds:g}: use keyframes instead"
            )
        if not 0 <= self.amount <= 1:
            raise UsageError(f"a pulse's amount must lie in 0..1, got {self.amount:g}")


@dataclass(frozen=True, kw_only=True)
class EmotionTrack:
    """A course of emotion: keyframes in rising time, held before the first and after the last.

    `space` is how the way between keyframes runs: `linear` (straight in VAD), `slerp` (turning in VAD; opposite
    emotions over an aroused moment or through neutral, as `route` says) or `mixture` (cross-fading names; VAD follows).
    All are linear in effective emotion, so a fade to neutral keeps its name. `lanes` replaces the course for single
    modalities (face, voice, music, portrait) and `lags` delays it there, in seconds (negative leads).
    """

    keyframes: tuple[Keyframe, ...]
    space: str = "linear"
    route: str = "arousal"
    pulses: tuple[Pulse, ...] = ()
    lanes: Mapping[str, "EmotionTrack"] = field(default_factory=dict)
    lags: Mapping[str, Number] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyframes", tuple(self.keyframes))
        object.__setattr__(self, "pulses", tuple(self.pulses))
        if not self.keyframes:
            raise UsageError("an emotion track needs at least one keyframe, such as 0:happy")
        if max(len(self.keyframes), len(self.pulses)) > MAX_KEYFRAMES:
            raise UsageError(
                f"an emotion track holds at most {MAX_KEYFRAMES} keyframes, got {len(self.keyframes)}"
            )
        for number, (before, after) in enumerate(
            zip(self.keyframes, self.keyframes[1:], strict=False), start=2
        ):
            if after.time <= before.time:
                what = "repeats" if after.time == before.time else "comes after"
                raise UsageError(
                    f"keyframe {number} at {after.time:g} s {what} {before.time:g} s: times must rise, each once"
                )
        if self.space not in ("linear", "slerp", "mixture"):
            raise UsageError(f"unknown space {self.space!r}: use linear, slerp or mixture")
        if self.route not in ("arousal", "neutral"):
            raise UsageError(f"unknown route {self.route!r}: use arousal or neutral")
        if self.space == "slerp" and any(key.ease == "catmull-rom" for key in self.keyframes):
            raise UsageError("catmull-rom curves need space linear or mixture, not slerp")
        for modality in (*self.lanes, *self.lags):
            if modality not in MODALITIES:
                raise UsageError(f"unknown modality {modality!r}: use {', '.join(MODALITIES)}")

    @classmethod
    def constant(cls, emotion: Emotion) -> "EmotionTrack":
        """One emotion for all time."""
        return cls(keyframes=(Keyframe(time=0.0, emotion=emotion),))

    @classmethod
    def parse(cls, text: str) -> "EmotionTrack":
        """The track a text or file gives.

        `0:neutral; 1.5:happy@0.8~cosine; 3:surprised` (seconds:emotion~ease), one emotion alone (`happy@0.7`), or the
        path of a .json, .csv, .xml (EmotionML), .srt or .vtt file. `space=slerp;` may come first.
        """
        body = text.strip()
        if "\n" not in body and Path(body).suffix.lower() in TRACK_SUFFIXES:
            from affetto.conditioning.formats import load_track  # formats stands on this module

            return load_track(Path(body))
        options, segments = {}, [part.strip() for part in body.split(";") if part.strip()]
        while segments and re.match(r"(space|route)\s*=", segments[0]):
            key, _, value = segments.pop(0).partition("=")
            options[key.strip()] = value.strip()
        if len(segments) == 1 and not _KEY_TEXT.fullmatch(segments[0]):
            return cls(keyframes=(Keyframe(time=0.0, emotion=Emotion.parse(segments[0])),), **options)
        if not segments:
            raise UsageError("empty emotion track: write 0:neutral; 1.5:happy@0.8 or one emotion")
        if len(segments) > MAX_KEYFRAMES:
            raise UsageError(f"an emotion track holds at most {MAX_KEYFRAMES} keyframes, got {len(segments)}")
        return cls(keyframes=tuple(_parse_keyframe(segment) for segment in segments), **options)

    @classmethod
    def from_batch(cls, times: Real[np.ndarray, "frame"], batch: EmotionBatch) -> "EmotionTrack":
        """Sampled frames as a track with a keyframe each."""
        return cls(
            keyframes=tuple(Keyframe(time=float(t), emotion=batch[frame]) for frame, t in enumerate(times)),
        )

    @classmethod
    def wandering(
        cls,
        seconds: Number,
        seed: int,
        *,
        around: Emotion | None = None,
        sd: Number = 0.3,
        length_s: Number = 0.5,
    ) -> "EmotionTrack":
        """A smooth random course about an emotion: a Gaussian process in VAD of standard deviation `sd`."""
        centre = cls.constant(around or Emotion.from_vad(0.0, 0.0, 0.0))
        return centre.varied(seed, seconds=seconds, sd=sd, length_s=length_s)

    def __str__(self) -> str:
        """The text that `parse` reads back; pulses, lanes and lags have no text form and are left out."""
        head = "" if self.space == "linear" else f"space={self.space}; "
        head += "" if self.route == "arousal" else f"route={self.route}; "
        keys = self.keyframes
        if not head and len(keys) == 1 and keys[0].time == 0 and keys[0].ease == "linear":
            return str(keys[0].emotion)
        parts = [f"{k.time!r}:{k.emotion}{'' if k.ease == 'linear' else '~' + k.ease}" for k in keys]
        return head + "; ".join(
            part.replace(".0:", ":", 1) if re.match(r"\d+\.0:", part) else part for part in parts
        )

    @property
    def seconds(self) -> float:
        """The time of the last keyframe."""
        return self.keyframes[-1].time

    @property
    def names(self) -> tuple[str, ...]:
        """The named emotions of all keyframes and pulses, neutral first; empty when there are only VAD points."""
        return self._arrays.names

    def sample(self, times: Real[np.ndarray, "frame"]) -> EmotionBatch:
        """The emotion at each time in seconds (any order); outside the keyframes the ends are held."""
        times = np.asarray(times, np.float64).reshape(-1)
        keys = self._arrays
        row = keys.between(times, space=self.space, route=self.route)
        for pulse in self.pulses:
            phase = (times - pulse.time) / pulse.seconds
            w = np.where(np.abs(phase) < 0.5, pulse.amount * np.cos(np.pi * phase) ** 2, 0.0)
            keys.fade_to(row, pulse.emotion, w)
        return keys.unstack(row, from_names=self.space == "mixture")

    def at(self, time: Number) -> Emotion:
        """The emotion at one time in seconds."""
        return self.sample(np.array([float(time)]))[0]

    def for_modality(self, modality: str) -> "EmotionTrack":
        """The course one generator follows: its own lane if there is one, delayed by its lag."""
        if modality not in MODALITIES:
            raise UsageError(f"unknown modality {modality!r}: use {', '.join(MODALITIES)}")
        lane = self.lanes.get(modality, replace(self, lanes={}, lags={}))
        lag = self.lags.get(modality, 0.0)
        return lane.shifted(lag) if lag else lane

    def shifted(self, seconds: Number) -> "EmotionTrack":
        """The same course `seconds` later (negative: earlier; what falls before 0 is cut off)."""
        if seconds < 0 and self.keyframes[0].time + seconds < 0:
            return self.sliced(-seconds, max(self.seconds, -seconds))
        return self._retimed(lambda time: time + seconds)

    def warped(self, to_new_time: Callable[[float], Any]) -> "EmotionTrack":
        """The course with every keyframe moved to `to_new_time(seconds)`, which must rise; eases stretch along."""
        return self._retimed(to_new_time)

    def sliced(self, start: Number, stop: Number) -> "EmotionTrack":
        """The course from `start` to `stop` seconds, beginning at 0.

        A curved segment cut by an edge becomes a fine chain of straight ones (100 a second).
        """
        if not 0 <= start <= stop:
            raise UsageError(f"a slice needs 0 <= start <= stop, got {start:g}..{stop:g} s")
        times = [
            start,
            *(k.time for k in self.keyframes if start < k.time < stop),
            *([stop] if stop > start else []),
        ]
        eases = {k.time: k.ease for k in self.keyframes}
        keys: list[Keyframe] = []
        plain = replace(self, pulses=())
        for first, second in zip(times, [*times[1:], None], strict=True):
            owner = max((k.time for k in self.keyframes if k.time <= first), default=None)
            ease = "linear" if owner is None else eases[owner]
            nexts = [k.time for k in self.keyframes if k.time > first]
            whole = second is None or (first == owner and nexts and second == nexts[0])
            straight = ease in ("linear", "hold") and self.space != "slerp"
            inner = [first]
            if not (whole or straight):
                inner = list(np.arange(first, second, 1 / _BAKE_FPS))
                ease = "linear"
            keys += [
                Keyframe(time=float(t) - start, emotion=e, ease=ease)
                for t, e in zip(inner, plain._emotions(inner), strict=True)
            ]
        pulses = tuple(replace(p, time=p.time - start) for p in self.pulses if start <= p.time <= stop)
        return replace(self, keyframes=tuple(keys), pulses=pulses, lanes={}, lags=self.lags)

    def followed_by(
        self, other: "EmotionTrack", *, at: Number | None = None, ease: str = "linear"
    ) -> "EmotionTrack":
        """The course, then `other` starting at `at` seconds (default: just after the last keyframe)."""
        start = self.seconds if at is None else at
        head = [k for k in self.keyframes if k.time < start]
        tail = [replace(k, time=k.time + start) for k in other.keyframes]
        if head:
            head[-1] = replace(head[-1], ease=ease) if at is not None else head[-1]
        pulses = (
            *(p for p in self.pulses if p.time < start),
            *(replace(p, time=p.time + start) for p in other.pulses),
        )
        return replace(self, keyframes=(*head, *tail), pulses=pulses)

    def quantised(
        self, grid: Number | Sequence[Number] | np.ndarray, *, hold: bool = False
    ) -> "EmotionTrack":
        """Keyframes moved to the nearest point of a grid: a step in seconds, or rising times such as beats or bars.

        Of keyframes that meet, the last stays; `hold` lets each last until the next instead of moving on.
        """
        if isinstance(grid, int | float):
            if not grid > 0:
                raise UsageError(f"a grid needs a step above 0 s, got {grid:g}")
            points = np.arange(0, self.seconds + 2 * grid, grid)
        else:
            points = np.asarray(sorted(grid), np.float64)
            if not len(points):
                raise UsageError("a grid needs at least one time")
        placed: dict[float, Keyframe] = {}
        for key in self.keyframes:
            time = float(points[np.abs(points - key.time).argmin()])
            placed[time] = replace(key, time=time, ease="hold" if hold else key.ease)
        return replace(self, keyframes=tuple(placed.values()))

    def resampled(self, fps: Number, *, seconds: Number | None = None) -> "EmotionTrack":
        """The same course with a keyframe per frame at `fps`, so that sampling there gives what it gave before."""
        times = _grid(self.seconds if seconds is None else seconds, fps)
        return replace(EmotionTrack.from_batch(times, self.sample(times)), lanes=self.lanes, lags=self.lags)

    def smoothed(self, sigma: Number, *, fps: Number = 50.0) -> "EmotionTrack":
        """The course after a Gaussian filter of `sigma` seconds, with a keyframe per frame at `fps`."""
        if sigma <= 0:
            return self
        from scipy.ndimage import gaussian_filter1d  # scipy takes longer to import than the rest of this room

        return self._filtered(
            fps, lambda values: gaussian_filter1d(values, sigma * fps, axis=0, mode="nearest")
        )

    def rate_limited(self, per_second: Number, *, fps: Number = 50.0) -> "EmotionTrack":
        """The course held to `per_second` of effective VAD change per second, with a keyframe per frame at `fps`."""
        if not per_second > 0:
            raise UsageError(f"a rate limit must be above 0 per second, got {per_second:g}")
        times = _grid(self.seconds, fps)
        batch = self.sample(times)
        wanted = (batch.vad * batch.intensity).astype(np.float64)
        limited = limit_rate(wanted, fps=fps, per_second=per_second)
        return EmotionTrack.from_batch(times, stand_at(batch, wanted, limited))

    def varied(
        self,
        seed: int,
        *,
        sd: Number = 0.08,
        length_s: Number = 0.5,
        fps: Number = 25.0,
        seconds: Number | None = None,
    ) -> "EmotionTrack":
        """One random neighbour of this course: VAD plus a smooth Gaussian-process path of `sd`, names unchanged.

        Repeated renders with other seeds differ but stay on their labels.
        """
        times = _grid(self.seconds if seconds is None else seconds, fps)
        batch = self.sample(times)
        noise = smooth_noise(len(times), 3, fps=fps, seed=seed, length_s=length_s)
        vad = np.clip(batch.vad + sd * noise, -1, 1).astype(np.float32)
        return EmotionTrack.from_batch(times, replace(batch, vad=vad))

    def with_pulse(
        self, time: Number, emotion: Emotion, *, seconds: Number = 0.3, amount: Number = 1.0
    ) -> "EmotionTrack":
        """The course with a micro-event: `emotion` flashes for `seconds` (under 0.5), centred on `time`."""
        pulse = Pulse(time=time, emotion=emotion, seconds=seconds, amount=amount)
        return replace(self, pulses=(*self.pulses, pulse))

    def scaled(self, factor: Number) -> "EmotionTrack":
        """The course at `factor` times the intensity (at most 2)."""
        return replace(
            self,
            keyframes=tuple(replace(k, emotion=k.emotion.scaled(factor)) for k in self.keyframes),
            pulses=tuple(replace(p, emotion=p.emotion.scaled(factor)) for p in self.pulses),
            lanes={name: lane.scaled(factor) for name, lane in self.lanes.items()},
        )

    def _retimed(self, to_new_time: Callable[[float], Any]) -> "EmotionTrack":
        keys = tuple(replace(k, time=float(to_new_time(k.time))) for k in self.keyframes)
        pulses = tuple(replace(p, time=max(float(to_new_time(p.time)), 0.0)) for p in self.pulses)
        return replace(self, keyframes=keys, pulses=pulses)

    def _emotions(self, times: Sequence[Number]) -> list[Emotion]:
        by_time = {k.time: k.emotion for k in self.keyframes}
        batch = self.sample(np.array(times, np.float64))
        return [by_time.get(time) or batch[i] for i, time in enumerate(times)]

    def _filtered(self, fps: Number, apply: Callable[[np.ndarray], np.ndarray]) -> "EmotionTrack":
        times, keys = _grid(self.seconds, fps), self._arrays
        batch = self.sample(times)
        rows = keys.stack(batch.vad, batch.mixture, batch.intensity[:, 0], batch.confidence)
        return EmotionTrack.from_batch(times, keys.unstack(apply(rows), from_names=False))

    @cached_property
    def _arrays(self) -> KeyArrays:
        return KeyArrays.of(
            times=[float(k.time) for k in self.keyframes],
            emotions=[k.emotion for k in self.keyframes],
            eases=[k.ease for k in self.keyframes],
            also=[p.emotion for p in self.pulses],
            with_anchors=self.space == "slerp",
        )


def as_track(emotion: "str | Emotion | EmotionTrack | None") -> EmotionTrack:
    """A track from whatever names one: a text or file path, an emotion, a track; None is neutral."""
    if isinstance(emotion, EmotionTrack):
        return emotion
    if emotion is None:
        return EmotionTrack.constant(Emotion.neutral())
    return EmotionTrack.constant(emotion) if isinstance(emotion, Emotion) else EmotionTrack.parse(emotion)


def _grid(seconds: Number, fps: Number) -> Float[np.ndarray, "frame"]:
    if not fps > 0:
        raise UsageError(f"fps must be positive, got {fps:g}")
    frames = math.ceil(seconds * fps - 1e-9) + 1
    if frames > MAX_KEYFRAMES:
        raise UsageError(
            f"{seconds:g} s at {fps:g} fps are {frames} keyframes, at most {MAX_KEYFRAMES}: lower the fps"
        )
    return np.arange(frames) / fps


def _parse_keyframe(segment: str) -> Keyframe:
    match = _KEY_TEXT.fullmatch(segment)
    if match is None:
        raise UsageError(f"cannot read keyframe {segment!r}: write seconds:emotion, such as 1.5:happy@0.8")
    emotion, tilde, ease = match[2].partition("~")
    return Keyframe(time=float(match[1]), emotion=Emotion.parse(emotion), ease=ease if tilde else "linear")
