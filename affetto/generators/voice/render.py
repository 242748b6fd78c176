"""An edit of a voice's controls -> its waveform, changed only where and how the edit asks."""

from dataclasses import dataclass

import numpy as np

from affetto.generators.voice.controls import CONTROL_FPS, ControlResidual, VoiceControls
from affetto.generators.voice.filters import filtered
from affetto.generators.voice.layout import plan_layout, stretches
from affetto.generators.voice.marks import pitch_marks, voiced_runs
from affetto.generators.voice.psola import laid_out
from affetto.generators.voice.time_map import TimeMap
from affetto.media.audio import Audio
from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The changed sound, and where each moment of the source went in it."""

    audio: Audio
    time_map: TimeMap


def render(
    audio: Audio, controls: VoiceControls, residual: ControlResidual, *, keep_timing: bool = False
) -> Rendered:
    """The recording with the residual applied to its own waveform; every channel alike.

    A residual of zero gives the samples bit for bit, and stretches where it is zero are only moved in time. With
    `keep_timing` the log-rate is left out.
    """
    if len(controls) != len(residual):
        raise UsageError(
            f"the residual has {len(residual)} frames for controls of {len(controls)}: use as many"
        )
    if not np.isfinite(residual.stack()).all():
        raise UsageError("the residual holds a number that is not finite: make it again")
    rate = audio.rate
    log_rate = np.zeros_like(residual.log_rate) if keep_timing else residual.log_rate
    time_map = (
        TimeMap.from_log_rate(log_rate, CONTROL_FPS) if np.any(log_rate) else TimeMap.identity(audio.seconds)
    )
    sound = audio.samples
    changed = np.flatnonzero(np.any(residual.envelope, axis=1) | (residual.energy != 0))
    if len(changed):
        sound = filtered(sound, rate, 0, changed, residual.envelope[changed], residual.energy[changed])
    moving = (residual.pitch != 0) | (log_rate != 0)
    if np.any(moving):
        mono = audio.mono()
        marks = pitch_marks(mono, rate, controls.log_f0, voiced_runs(controls.voiced))
        layout, length = plan_layout(
            mono, rate, stretches(marks, len(mono)), residual.pitch, moving, time_map
        )
        sound = laid_out(sound, layout, length)
    return Rendered(audio=Audio(samples=sound, rate=rate, path=audio.path), time_map=time_map)
