"""What a director made, and how others watch and judge it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from affetto.conditioning.track import EmotionTrack
from affetto.generators.music.pipeline import MusicPiece
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio
from affetto.media.midi import Score
from affetto.runtime.progress import CancelToken, Preview, ProgressCallback, ProgressEvent
from affetto.scene import mixing, sync
from affetto.scene.model import Scene
from affetto.scene.timeline import Timeline


@runtime_checkable
class Judge(Protocol):
    """A critic that chooses among candidates: higher is nearer to what was asked."""

    def voice(self, audio: Audio, source: Audio, track: EmotionTrack) -> float:
        """How well a converted line follows its track."""
        ...

    def face(self, curves: FaceCurves, track: EmotionTrack) -> float:
        """How well a performance follows its track."""
        ...

    def music(self, score: Score, track: EmotionTrack) -> float:
        """How well a piece follows its track."""
        ...


@dataclass(frozen=True, kw_only=True)
class SceneChunk:
    """A second or less of a scene as it plays: its frames and the mixed sound under them."""

    start_s: float
    fps: float
    frames: UInt8[np.ndarray, "frame row column 3"]
    sound: Float32[np.ndarray, "2 sample"]
    rate: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Performance:
    """All of a scene but its pictures: the timeline, the sounds, the faces, the music, and how well they fit in time."""

    timeline: Timeline
    stems: Mapping[str, Audio]
    curves: Mapping[str, FaceCurves]
    piece: MusicPiece | None
    music: Audio | None
    mix: Audio
    mix_report: mixing.MixReport
    sync: sync.SyncReport
    chosen: Mapping[str, int]  # seeds that a judge preferred, by what they made


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneRender:
    """What a render wrote."""

    folder: Path
    files: tuple[Path, ...]
    performance: Performance
    scene: Scene

    def document(self) -> dict[str, Any]:
        """Plain values for JSON: files, lengths, loudness and sync."""
        done = self.performance
        return {
            "folder": str(self.folder),
            "files": [path.name for path in self.files],
            "seconds": round(done.timeline.seconds, 3),
            "speakers": list(done.timeline.speakers),
            "emotion": str(done.timeline.course),
            "loudness_lufs": _round(done.mix_report.loudness_lufs),
            "true_peak_db": _round(done.mix_report.true_peak_db),
            "music_lufs": _round(done.mix_report.music_lufs),
            "key": done.piece.plan.key if done.piece is not None else None,
            "sync": done.sync.document(),
            "chosen": dict(done.chosen),
        }


def _round(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 2)


class Watch:
    """Reports progress and stops on request."""

    def __init__(self, callback: ProgressCallback | None, cancel: CancelToken | None) -> None:
        self.callback, self.cancel = callback, cancel

    def __call__(self, stage: str, done: int, total: int, preview: Preview | None = None) -> None:
        """Tell that a stage is at `done` of `total`; raises CancelledError when stopping was asked for."""
        if self.cancel is not None:
            self.cancel.check()
        if self.callback is not None:
            self.callback(ProgressEvent(stage=stage, done=done, total=total, preview=preview))
