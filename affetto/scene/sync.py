"""Is everything in time? Lags measured on what was made: the emotion in voice, brows and mouth, the lips on the sound.

A lag is the shift at which a linear map from what was asked (or heard) explains most of what was done. What the emotion
does to a face is the performance less the same performance without emotion; to a voice, its melody and colour less those
of the recording at the same moment of the words.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

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
_SYLLABLE = 12.0  # frames at 100 Hz
_SEMITONE = 12.0 / np.log(2.0)
BROWS = tuple(
    index for index, name in enumerate(ARKIT_52) if name.startswith(("brow", "cheekSquint", "noseSneer"))
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


def asked_columns(
    track: EmotionTrack, seconds: float, fps: float = _FPS
) -> Float[np.ndarray, "frame column"]:
    """What is asked over time: the eight anchors without neutral, and effective VAD."""
    batch = track.sample(np.arange(max(round(seconds * fps), 1)) / fps)
    return np.concatenate([batch.anchors()[:, 1:], batch.effective_vad], axis=1)


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


def face_lags(felt: FaceCurves, unfelt: FaceCurves, track: EmotionTrack) -> list[Lag]:
    """By how much brows and mouth follow the emotion; `unfelt` is the same performance without any."""
    seconds = min(felt.seconds, unfelt.seconds)
    cause = asked_columns(track, seconds)
    change = felt.resampled(_FPS).weights - unfelt.resampled(_FPS).weights
    change = gaussian_filter1d(change, _SYLLABLE, axis=0, mode="nearest")  # speech moves the same shapes
    count = min(len(cause), len(change))
    lags = []
    for what, chosen in (("emotion in the brows", BROWS), ("emotion around the mouth", MOUTH)):
        found = lag_of(cause[:count], change[:count, chosen], fps=_FPS)
        if found is not None:
            lags.append(Lag(what=what, milliseconds=1000 * found[0], explained=found[1], seconds=seconds))
    return lags


def lips_on_sound(curves: FaceCurves, heard: SpeechContent, head: HeadModel) -> Lag | None:
    """By how much the opening of the lips follows what is heard; `heard` is read off the sound as it will be played."""
    found = lip_lag(curves, heard, head)
    if found is None:
        return None
    return Lag(
        what="lips on the sound", milliseconds=1000 * found[0], explained=found[1], seconds=curves.seconds
    )


def pooled(lags: Sequence[Lag]) -> list[Lag]:
    """Lags of the same thing as one: the mean, weighted by how much is explained and how long it lasts."""
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
            )
        )
    return found
