"""Is everything in time? Lags measured on what was made: the emotion in voice, brows and mouth, the lips on the sound.

A lag is the shift at which a linear map from what was asked (or heard) explains most of what was done. What the emotion
does to a face is the performance less the same performance without emotion; to a voice, its melody and colour less those
of the recording at the same moment of the words.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from affetto.acting.expression import expression_pose, speech_gate
from affetto.acting.lip_sync import lag_of, lip_lag
from affetto.conditioning.track import EmotionTrack
from affetto.generators.voice.controls import BANDS, CONTROL_FPS, VoiceControls, analyse
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.runtime.files import atomic_path
from affetto.scene.scoring import KeyHit
from affetto.scene.timeline import SpokenLine
from affetto.speech.content import SpeechContent

BAR_MS = 40.0
"""How far voice and face may be off."""

_FPS = 100.0
_QUICK_S, _CHANGE = 1.2, 0.25  # a change that can be timed: how long at most, how large at least (half of L1)
_SETTLED_S, _LEAST_REST_S = 0.75, 0.3  # when it is settled
_SYLLABLE = 10.0  # frames at 100 Hz
_SEMITONE = 12.0 / np.log(2.0)
_MOST_S = 0.2  # by which a change may be begun earlier
BROWS_LAG, MOUTH_LAG = "emotion in the brows", "emotion around the mouth"
BROWS = tuple(
    index for index, name in enumerate(ARKIT_52) if name.startswith(("brow", "cheekSquint", "noseSneer"))
)
UPPER = tuple(
    index
    for index, name in enumerate(ARKIT_52)
    if name.startswith(("brow", "cheekSquint", "noseSneer", "eye"))
)
MOUTH = tuple(
    index
    for index, name in enumerate(ARKIT_52)
    if name.startswith(("mouthSmile", "mouthFrown", "mouthStretch", "mouthDimple"))
)


@dataclass(frozen=True, kw_only=True)
class Lag:
    """By how much something follows (negative: leads), and how well the match explains it (0..1)."""

    what: str
    milliseconds: float
    explained: float
    seconds: float  # of material behind the figure
    worst: float | None = None  # of several, milliseconds

    @property
    def holds(self) -> bool:
        """Whether it is within the bar of 40 ms."""
        return abs(self.milliseconds) <= BAR_MS


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """All lags of a scene, and how near the music comes to each turn of the emotion."""

    lags: tuple[Lag, ...]
    keys: tuple[KeyHit, ...]

    def document(self) -> dict[str, Any]:
        """Plain values, rounded."""
        return {
            "bar_ms": BAR_MS,
            "lags": [{**_rounded(asdict(lag)), "holds": lag.holds} for lag in self.lags],
            "music": [
                {**_rounded(asdict(key)), "within_half_a_beat": key.beat_ms <= 500 * key.beat_s}
                for key in self.keys
            ],
        }

    def save(self, path: Path) -> Path:
        """Write sync.json."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")
        return path


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


def voice_lag(line: SpokenLine) -> Lag | None:
    """By how much what is heard of the emotion in a converted voice follows what was planned for that moment of the words.

    The plan gives each hundredth of the recording its share of the emotion asked for there; the time map tells when it
    shall be heard.
    """
    if line.residual is None or line.residual.is_zero:
        return None
    before = analyse(line.line.audio.mono(), line.line.audio.rate)
    after = analyse(line.audio.mono(), line.audio.rate)
    times = np.arange(len(after)) / CONTROL_FPS
    source = line.time_map.to_source(times)
    moved = _cues(after, times) - _cues(before, source)
    heard = (_at(after.voiced, times) > 0.5) & (_at(before.voiced, source) > 0.5)
    heard &= after.energy > after.energy.max() - 35.0
    broad = line.residual.envelope.reshape(len(line.residual), 6, BANDS // 6).mean(axis=2)
    planned = np.concatenate([line.residual.pitch[:, None], broad], axis=1)
    cause = np.stack([_at(column, source) for column in planned.T], axis=1)
    found = lag_of(cause, np.clip(moved, -12.0, 12.0), fps=_FPS, mask=heard)
    if found is None:
        return None
    return Lag(
        what="emotion in the voice", milliseconds=1000 * found[0], explained=found[1], seconds=line.seconds
    )


def _cues(controls: VoiceControls, times: Float[np.ndarray, "frame"]) -> Float[np.ndarray, "frame cue"]:
    """Melody in semitones, and the spectrum in six broad bands, at any times."""
    broad = controls.envelope.reshape(len(controls), 6, BANDS // 6).mean(axis=2)
    columns = np.concatenate([_SEMITONE * controls.log_f0[:, None], broad], axis=1)
    return np.stack([_at(column, times) for column in columns.T], axis=1)


def _at(curve: Float[np.ndarray, "_frame"], times: Float[np.ndarray, "frame"]) -> Float[np.ndarray, "frame"]:
    return np.interp(times * CONTROL_FPS, np.arange(len(curve)), curve)


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A quick change of emotion: from `start` to `stop` seconds; where it is settled again until `rest`."""

    start: float
    stop: float
    rest: float


def ramps(track: EmotionTrack, seconds: float) -> list[Ramp]:
    """The changes of a course that are quick and large enough to tell when they happen, with time to settle after them."""
    found: list[Ramp] = []
    keys = [key for key in track.keyframes if key.time < seconds]
    for index, (key, following) in enumerate(pairwise(keys)):
        start = following.time if key.ease == "hold" else key.time
        moved = track.sample(np.array([start - 1e-3, following.time + 1e-3])).anchors()
        change = 0.5 * float(np.abs(moved[1] - moved[0]).sum())
        later = [other.time for other in keys[index + 2 :]][:1]
        settled = (
            not later
            or np.abs(track.sample(np.array([following.time, later[0]])).anchors()[0] - moved[1]).sum() < 0.1
        )
        rest = min(following.time + _SETTLED_S, later[0] if later and not settled else seconds)
        if (
            change >= _CHANGE
            and following.time - start <= _QUICK_S
            and rest - following.time >= _LEAST_REST_S
        ):
            found.append(Ramp(start=start, stop=following.time, rest=rest))
    return found


def ramp_lag(
    cause: Float[np.ndarray, "frame column"], effect: Float[np.ndarray, "frame channel"], ramp: Ramp
) -> float | None:
    """Seconds by which `effect` is half-way through a change later than `cause` is; both at 100 Hz.

    Half-way is told along the line from where each stands before the change to where it stands after it.
    """
    halves = []
    for values in (cause, effect):
        before = _mean(values, max(ramp.start - 0.35, 0.0), max(ramp.start - 0.05, 0.02))
        after = _mean(values, ramp.rest - _LEAST_REST_S, ramp.rest)
        way = after - before
        if float(way @ way) < 1e-5:
            return None
        done = (values - before) @ way / float(way @ way)
        first, last = round(max(ramp.start - 0.5, 0.0) * _FPS), round(ramp.rest * _FPS)
        part = done[first : last + 1]
        crossed = np.flatnonzero((part[:-1] < 0.5) & (part[1:] >= 0.5))
        if not len(crossed):
            return None
        exact = crossed + (0.5 - part[crossed]) / (part[crossed + 1] - part[crossed])
        near = 0.0 if not halves else halves[0]
        halves.append(float(exact[0] if not halves else exact[np.abs(exact - near).argmin()]))
    return (halves[1] - halves[0]) / _FPS


def _mean(
    values: Float[np.ndarray, "frame column"], start: float, stop: float
) -> Float[np.ndarray, "column"]:
    first = min(max(round(start * _FPS), 0), len(values) - 1)
    return values[first : max(round(stop * _FPS), first) + 1].mean(axis=0)


def face_lags(
    felt: FaceCurves, unfelt: FaceCurves, track: EmotionTrack, content: SpeechContent | None = None
) -> list[tuple[Ramp, Lag]]:
    """By how much brows and mouth are late at each quick change; `unfelt` is the same performance without emotion.

    They are held against the pose that the rules have for the track at each moment, its share of the mouth given way to
    `content`, what is said, as in the performance: else a word that begins in a change would pass for a lag.
    """
    seconds = min(felt.seconds, unfelt.seconds)
    frames = max(round(seconds * _FPS), 1)
    wanted = _wanted(track, frames, content)
    change = felt.resampled(_FPS).weights - unfelt.resampled(_FPS).weights
    count = min(frames, len(change))
    lags = []
    for what, chosen, blur in (
        (BROWS_LAG, BROWS, 4.0),
        (MOUTH_LAG, MOUTH, _SYLLABLE),
    ):
        cause, shown = (
            gaussian_filter1d(part[:count, chosen].astype(np.float64), blur, axis=0, mode="nearest")
            for part in (wanted, change)
        )
        for ramp in ramps(track, seconds):
            late = ramp_lag(cause, shown, ramp)
            if late is not None:
                lag = Lag(what=what, milliseconds=1000 * late, explained=1.0, seconds=ramp.rest - ramp.start)
                lags.append((ramp, lag))
    return lags


def _wanted(track: EmotionTrack, frames: int, content: SpeechContent | None) -> Float[np.ndarray, "frame 52"]:
    """What the rules would show of the track with no delay, at 100 Hz."""
    batch = track.sample(np.arange(frames) / _FPS)
    pose = expression_pose(
        np.asarray(batch.anchors(), np.float64), np.asarray(batch.effective_vad, np.float64)
    )
    if content is None or not len(content):
        return pose
    at = np.arange(frames) / _FPS * content.fps
    said = np.arange(len(content))
    speaking, closure = (np.interp(at, said, curve) for curve in (content.speaking, content.closure))
    return pose * speech_gate(speaking, closure, _FPS)


Early = Mapping[str, Mapping[Ramp, float]]
"""By how many seconds each change is begun earlier, for brows and mouth."""


def earlier(early: Early, lags: Sequence[tuple[Ramp, Lag]]) -> Early:
    """The same with what was still late added, at most 0.2 s in all; a face lets go of emotions slowly."""
    found = {what: dict(by_ramp) for what, by_ramp in early.items()}
    for ramp, lag in lags:
        by_ramp = found.setdefault(lag.what, {})
        by_ramp[ramp] = float(np.clip(by_ramp.get(ramp, 0.0) + lag.milliseconds / 1000, -_MOST_S, _MOST_S))
    return found


def in_time(track: EmotionTrack, early: Mapping[Ramp, float]) -> EmotionTrack:
    """The course with each change begun earlier."""
    at, to = [0.0], [0.0]
    for ramp, by in sorted(early.items(), key=lambda item: item[0].start):
        for time in (ramp.start, ramp.stop):
            if time > at[-1] + 1e-3 and time - by > to[-1] + 1e-3:
                at.append(time)
                to.append(time - by)
    last_at, last_to = at[-1] + 1.0, max(at[-1] + 1.0, to[-1] + 0.1)
    at.append(last_at)
    to.append(last_to)
    return track.warped(lambda t: float(np.interp(t, at, to)) + max(t - last_at, 0.0))


def joined(upper: FaceCurves, lower: FaceCurves) -> FaceCurves:
    """The upper face, head and eyes of one performance and the lower face of another, frame by frame."""
    weights = lower.weights.copy()
    weights[:, UPPER] = upper.weights[:, UPPER]
    return replace(upper, weights=weights)


def lips_on_sound(curves: FaceCurves, heard: SpeechContent, head: HeadModel) -> Lag | None:
    """By how much the opening of the lips follows what is heard; `heard` is read off the sound as it will be played."""
    found = lip_lag(curves, heard, head)
    if found is None:
        return None
    return Lag(
        what="lips on the sound", milliseconds=1000 * found[0], explained=found[1], seconds=curves.seconds
    )


def pooled(lags: Sequence[Lag]) -> list[Lag]:
    """Lags of the same thing as one: the mean, weighted by how much is explained and how long it lasts, and the worst."""
    found = []
    for what in dict.fromkeys(lag.what for lag in lags):
        same = [lag for lag in lags if lag.what == what]
        weight = np.array([lag.explained * lag.seconds for lag in same])
        found.append(
            Lag(
                what=what,
                milliseconds=float(np.average([lag.milliseconds for lag in same], weights=weight)),
                explained=float(np.average([lag.explained for lag in same], weights=weight)),
                seconds=float(sum(lag.seconds for lag in same)),
                worst=max((lag.milliseconds for lag in same), key=abs),
            )
        )
    return found
