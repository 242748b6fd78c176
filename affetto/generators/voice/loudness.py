"""The loudness that a plan asks for, made good in the sound itself."""

from dataclasses import replace

import numpy as np
import scipy.signal
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from affetto.generators.voice.controls import CONTROL_FPS, ControlResidual, VoiceControls
from affetto.generators.voice.limits import loudness_change
from affetto.generators.voice.render import Rendered
from affetto.media.audio import Audio

_SLOW_S = 1.2  # over which loudness is compared
_RAMP_S = 0.04
_MOST_DB = 12.0
_CEILING = 0.99


def settled(
    rendered: Rendered, source: Audio, controls: VoiceControls, residual: ControlResidual
) -> Rendered:
    """The sound turned up or down, slowly, to be as much louder than its source as the residual says.

    What rendering does to loudness beyond the plan is measured over about a second, through a filter that weighs
    treble as the ear does (about the K-weighting of BS.1770). Frames whose residual is zero keep their samples.
    """
    edited = np.any(residual.stack(), axis=1).astype(np.float64)
    if not edited.any():
        return rendered
    sound = rendered.audio
    frames = int(sound.seconds * CONTROL_FPS) + 1
    origin = rendered.time_map.to_source(np.arange(frames) / CONTROL_FPS) * CONTROL_FPS
    places = np.arange(len(controls))
    amount = np.interp(origin, places, edited)
    amount = np.where(amount < 1.0, 0.0, gaussian_filter1d(amount, _RAMP_S * CONTROL_FPS, mode="nearest"))
    asked = 10.0 ** (loudness_change(residual.stack(), controls) / 10.0)
    before = _power(source)
    wanted = np.interp(origin, np.arange(len(before)), before) * np.interp(origin, places, asked) * amount
    heard = np.pad(_power(sound), (0, 1), mode="edge")[:frames] * amount
    sigma = _SLOW_S * CONTROL_FPS
    wanted, heard = (
        gaussian_filter1d(x, sigma, mode="reflect", truncate=3.0) + 1e-12 for x in (wanted, heard)
    )
    decibels = amount * np.clip(10.0 * np.log10(wanted / heard), -_MOST_DB, _MOST_DB)
    times = np.arange(sound.samples.shape[1]) * (CONTROL_FPS / sound.rate)
    gain = 10.0 ** (np.interp(times, np.arange(frames), decibels) / 20.0)
    samples = (sound.samples * gain).astype(np.float32)
    ceiling = max(_CEILING, float(np.abs(source.samples).max(initial=0.0)))
    return replace(rendered, audio=replace(sound, samples=_under(samples, ceiling, sound.rate)))


def _power(audio: Audio) -> Float[np.ndarray, "frame"]:
    """Mean power of each hundredth of a second, all channels, treble raised by 4 dB and rumble taken away."""
    treble = scipy.signal.butter(1, 1500.0, "highpass", fs=audio.rate, output="sos")
    rumble = scipy.signal.butter(2, 60.0, "highpass", fs=audio.rate, output="sos")
    power = np.zeros(audio.samples.shape[1])
    for channel in audio.samples.astype(np.float64):
        weighted = channel + 0.585 * np.asarray(scipy.signal.sosfilt(treble, channel))
        power += np.square(np.asarray(scipy.signal.sosfilt(rumble, weighted)))
    total = np.concatenate([[0.0], np.cumsum(power)])
    edges = (np.arange(int(audio.seconds * CONTROL_FPS) + 2) - 0.5) * (audio.rate / CONTROL_FPS)
    edges = np.clip(np.round(edges).astype(np.int64), 0, len(power))
    return np.diff(total[edges]) / np.maximum(np.diff(edges), 1)


def _under(samples: np.ndarray, ceiling: float, rate: int) -> np.ndarray:
    """Peaks above the ceiling turned down over a few milliseconds."""
    peak = np.abs(samples).max(axis=0)
    if not len(peak) or float(peak.max()) <= ceiling:
        return samples
    reach = max(2, round(0.008 * rate))
    need = np.minimum(1.0, ceiling / np.maximum(peak, 1e-9))
    held = minimum_filter1d(need, 2 * reach + 1, mode="nearest")
    ramp = np.hanning(2 * reach + 1)
    smooth = np.convolve(np.pad(held, reach, mode="edge"), ramp / ramp.sum(), mode="valid")
    return np.where(smooth < 1.0 - 1e-9, samples * smooth, samples).clip(-ceiling, ceiling).astype(np.float32)
