"""An edit of a voice's controls -> its waveform, changed only where and how the edit asks."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float32

from affetto.generators.voice.breath import with_breath
from affetto.generators.voice.controls import CONTROL_FPS, ControlResidual, VoiceControls
from affetto.generators.voice.filters import filtered
from affetto.generators.voice.layout import Timing, Voice, neighbouring_periods, plan_layout, stretches
from affetto.generators.voice.marks import pitch_marks, voiced_runs
from affetto.generators.voice.psola import Layout, laid_out
from affetto.generators.voice.spectra import band_of
from affetto.generators.voice.time_map import TimeMap
from affetto.media.audio import Audio
from affetto.runtime.errors import UsageError

PIECE_SECONDS, LONGEST_PIECE_SECONDS, MARGIN_SECONDS = 16, 24, 1
"""How much sound is changed at a time, ended at the next pause, and how much is read on either side."""
_LOWEST_HZ, _HIGHEST_HZ = 45.0, 1000.0  # to which the new pitch is held
_SLOWEST = np.log(6.0)  # to which the local duration is held
_FULL_SCALE = 1.0
_LIMIT_S = 0.008  # how far around a peak that would clip the limiter turns down
_NOISY_HZ = 1800.0  # above which the noise of a voice is heard
_LEVEL_S = 0.012  # over which loudness is compared
_LEVEL_DB = 9.0  # most that new periods are made louder or quieter to keep the loudness
_BURST_DB = 9.0  # rise of the energy within 20 ms that is a burst, which is not stretched
_SPREAD = 31  # frames over which the stretching left out of a burst is made up for


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The changed sound, and where each moment of the source went in it."""

    audio: Audio
    time_map: TimeMap


@dataclass(frozen=True, kw_only=True)
class _Edit:
    """What is done to a recording as a whole."""

    controls: VoiceControls
    residual: ControlResidual
    time_map: TimeMap
    rate: int


def render(
    audio: Audio, controls: VoiceControls, residual: ControlResidual, *, keep_timing: bool = False
) -> Rendered:
    """The recording with the residual applied to its own waveform; every channel alike.

    A residual of zero gives the samples bit for bit, and stretches where it is zero are only moved in time. With
    `keep_timing` the log-rate is left out. Raises UsageError when the residual is not finite or has another length.
    """
    time_map = output_times(controls, residual, keep_timing=keep_timing)
    parts = list(render_blocks([audio.samples], audio.rate, controls, residual, keep_timing=keep_timing))
    samples = np.concatenate(parts, axis=1) if parts else audio.samples
    return Rendered(audio=Audio(samples=samples, rate=audio.rate, path=audio.path), time_map=time_map)


def output_times(controls: VoiceControls, residual: ControlResidual, *, keep_timing: bool = False) -> TimeMap:
    """Where each moment of the source will be: the log-rate summed up, bursts left as short as they are."""
    if len(controls) != len(residual):
        raise UsageError(
            f"the residual has {len(residual)} frames for controls of {len(controls)}: use as many"
        )
    if not np.isfinite(residual.stack()).all():
        raise UsageError("the residual holds a number that is not finite: make it again")
    log_rate = residual.log_rate
    if keep_timing or not np.any(log_rate):
        return TimeMap.identity(controls.seconds)
    spared = log_rate * (1.0 - _bursts(controls))
    asked, left = (
        scipy.ndimage.uniform_filter1d(np.abs(x), _SPREAD, mode="nearest") for x in (log_rate, spared)
    )
    spared *= np.clip(asked / np.maximum(left, 1e-6), 1.0, 3.0)
    return TimeMap.from_log_rate(np.clip(spared, -_SLOWEST, _SLOWEST), CONTROL_FPS)


def _bursts(controls: VoiceControls) -> Float32[np.ndarray, "frame"]:
    """1 in the frames of a plosive's burst, 0 elsewhere."""
    energy = np.pad(controls.energy, (2, 0), mode="edge")
    loud = controls.energy > np.percentile(controls.energy, 95) - 45.0
    burst = (energy[2:] - energy[:-2] > _BURST_DB) & loud & (controls.voiced < 0.5)
    wide = scipy.ndimage.binary_dilation(burst, structure=np.ones(3)) if np.any(burst) else burst
    return wide.astype(np.float32)


def render_blocks(
    blocks: Iterable[Float32[np.ndarray, "channel sample"]],
    rate: int,
    controls: VoiceControls,
    residual: ControlResidual,
    *,
    keep_timing: bool = False,
) -> Iterator[Float32[np.ndarray, "channel out"]]:
    """Yield the changed sound part by part; what is held does not grow with the recording.

    The parts together are what `render` gives; the blocks of the source may be of any length.
    """
    time_map = output_times(controls, residual, keep_timing=keep_timing)
    if keep_timing:
        residual = dataclasses.replace(residual, log_rate=np.zeros_like(residual.log_rate))
    if residual.is_zero:
        yield from blocks
        return
    edit = _Edit(controls=controls, residual=residual, time_map=time_map, rate=rate)
    cuts = [round(cut * rate / CONTROL_FPS) for cut in _cuts(controls)]
    held, first, done = np.zeros((0, 0), np.float32), 0, 0
    for block in blocks:
        held = np.concatenate([held, block], axis=1) if held.size else block
        while cuts and first + held.shape[1] >= _window_end(cuts[0], rate):
            stop = cuts.pop(0)
            yield _changed(held[:, : _window_end(stop, rate) - first], first, done, stop, edit)
            done, keep = stop, max(0, stop // rate - MARGIN_SECONDS) * rate
            held, first = held[:, keep - first :], keep
    if first + held.shape[1] > done:
        yield _changed(held, first, done, first + held.shape[1], edit)


def _cuts(controls: VoiceControls) -> list[int]:
    """Frames at which the recording is parted: the quietest without voice, else the quietest, of eight seconds."""
    found, last = [], 0
    shortest, longest = (round(s * CONTROL_FPS) for s in (PIECE_SECONDS, LONGEST_PIECE_SECONDS))
    badness = controls.energy + 200.0 * scipy.ndimage.maximum_filter1d(controls.voiced, 9)
    while len(controls) - last > longest + shortest:
        last += shortest + int(np.argmin(badness[last + shortest : last + longest]))
        found.append(last)
    return found


def _window_end(cut: int, rate: int) -> int:
    return (cut // rate + 1 + MARGIN_SECONDS) * rate


def _changed(
    sound: Float32[np.ndarray, "channel sample"], first: int, start: int, stop: int, edit: _Edit
) -> Float32[np.ndarray, "channel out"]:
    """The output for the source from `start` to `stop`, made from a wider part that begins at `first`."""
    part = _Part.of(edit, first, sound.shape[1])
    if part.residual.is_zero:
        return sound[:, start - first : stop - first]
    timing = Timing(start=first, rate=edit.rate, time_map=edit.time_map)
    pins = [place - first for place in (start, stop) if first < place < first + sound.shape[1]]
    voices = part.voices(sound.mean(0), pins)
    coloured = part.coloured(sound, voices)
    moved = coloured
    if np.any(part.moving):
        layouts = plan_layout(coloured.mean(0), voices, part.residual.pitch, part.moving, timing, pins)
        moved = _moved(coloured, layouts, sound.shape[1] + timing.shift(sound.shape[1]), edit.rate)
        moved = part.levelled(moved, coloured, timing)
    result = _limited(part.breathing(moved, timing), edit.rate, ceiling=_FULL_SCALE)
    low, high = (place + timing.shift(place) for place in (start - first, stop - first))
    return result[:, low:high]


def _moved(
    sound: Float32[np.ndarray, "channel sample"], layouts: tuple[Layout, Layout], length: int, rate: int
) -> Float32[np.ndarray, "channel out"]:
    """The sound laid out anew; its noisy upper part after the second layout, in which no period comes twice."""
    plain, varied = layouts
    moved = laid_out(sound, plain, length)
    if np.array_equal(plain.source, varied.source):
        return moved
    upper = band_of(sound, rate, _NOISY_HZ, rate / 2)
    return moved + (laid_out(upper, varied, length) - laid_out(upper, plain, length))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of an edit whose frames begin with the part's first sample."""

    controls: VoiceControls
    residual: ControlResidual
    moving: Bool[np.ndarray, "frame"]  # frames whose pitch or timing changes
    number: int  # of the first frame in the whole recording
    rate: int

    @classmethod
    def of(cls, edit: _Edit, first: int, samples: int) -> "_Part":
        """The part that begins at sample `first`, at a whole second."""
        number = round(first * CONTROL_FPS / edit.rate)
        count = int(np.ceil(samples * CONTROL_FPS / edit.rate)) + 1
        rows = np.minimum(number + np.arange(count), len(edit.controls) - 1)
        times = (number + np.arange(count)) / CONTROL_FPS
        residual = edit.residual.stack()[rows]
        slope = np.diff(edit.time_map.shift_at(np.append(times, times[-1] + 1 / CONTROL_FPS)))
        controls = VoiceControls.from_stack(edit.controls.stack()[rows])
        low, high = (
            12.0 * (np.log(hertz) - controls.log_f0) / np.log(2.0) for hertz in (_LOWEST_HZ, _HIGHEST_HZ)
        )
        residual[:, 0] = np.clip(residual[:, 0], np.minimum(low, 0.0), np.maximum(high, 0.0))
        return cls(
            controls=controls,
            residual=ControlResidual.from_stack(residual),
            moving=(residual[:, 0] != 0) | (np.abs(slope) > 1e-9),
            number=number,
            rate=edit.rate,
        )

    def voices(self, mono: Float32[np.ndarray, "sample"], pins: list[int]) -> list[Voice]:
        """The voiced stretches, none of which reaches across a pin; none at all when nothing depends on them."""
        if not np.any(self.moving) and not np.any(self.residual.aperiodicity < 0):
            return []
        voiced = self.controls.voiced.copy()
        voiced[[round(pin * CONTROL_FPS / self.rate) for pin in pins]] = 0.0
        marks = pitch_marks(mono, self.rate, self.controls.log_f0, voiced_runs(voiced))
        return stretches(marks, len(mono))

    def coloured(
        self, sound: Float32[np.ndarray, "channel sample"], voices: list[Voice]
    ) -> Float32[np.ndarray, "channel sample"]:
        """The sound with its envelope and energy changed, and its periods made alike where breath is taken away."""
        smoothing = _smoothing(self.controls, self.residual)
        changed = np.any(self.residual.envelope, axis=1) | (self.residual.energy != 0)
        smoother = None
        if np.any(smoothing):
            changed |= np.any(smoothing, axis=1)
            sides = [neighbouring_periods(voices, sound.shape[1], step) for step in (-1, 1)]
            before, after = (laid_out(sound, side, sound.shape[1]) for side in sides)
            smoother = 0.5 * (before + after)
        rows = np.flatnonzero(changed)
        if not len(rows):
            return sound
        residual = ControlResidual.from_stack(self.residual.stack()[rows])
        offset = round(self.number * self.rate / CONTROL_FPS)
        return filtered(sound, self.rate, offset, rows + self.number, residual, smoother, smoothing[rows])

    def _frames_at(self, places: np.ndarray, timing: Timing) -> np.ndarray:
        """The frames, with parts, that are heard at places of the output."""
        return np.clip(timing.source(places) * (CONTROL_FPS / self.rate), 0, len(self.controls) - 1)

    def levelled(
        self,
        moved: Float32[np.ndarray, "channel out"],
        source: Float32[np.ndarray, "channel sample"],
        timing: Timing,
    ) -> Float32[np.ndarray, "channel out"]:
        """The moved sound as loud as its source: closer periods would make it louder, wider ones quieter."""
        before, after = (_loudness_db(part, self.rate) for part in (source, moved))
        step = self.rate * _LEVEL_S / 4
        places = np.arange(len(after)) * step
        frames = self._frames_at(places, timing)
        apart = np.interp(timing.source(places) / step, np.arange(len(before)), before) - after
        touched = self.controls.voiced * (self.residual.pitch != 0)
        weight = scipy.ndimage.minimum_filter1d(touched, 3)[np.round(frames).astype(np.int64)]
        gain = np.clip(apart, -_LEVEL_DB, _LEVEL_DB) * weight
        gain = scipy.ndimage.uniform_filter1d(gain, 5, mode="nearest") * (weight > 0)
        curve = np.interp(np.arange(moved.shape[1]), places, gain)
        return moved * np.exp(np.log(10.0) / 20.0 * curve).astype(np.float32)

    def breathing(
        self, moved: Float32[np.ndarray, "channel out"], timing: Timing
    ) -> Float32[np.ndarray, "channel out"]:
        """The moved sound with noise in place of as much of its voice as the edit asks."""
        more = np.maximum(self.residual.aperiodicity, 0.0)
        share = more / np.maximum(1.0 - self.controls.aperiodicity, 0.05) * self.controls.voiced[:, None]
        if not np.any(share):
            return moved
        origin = timing.start + timing.base
        hop = self.rate / CONTROL_FPS
        frames = np.arange(np.ceil(origin / hop), np.floor((origin + moved.shape[1]) / hop) + 1).astype(
            np.int64
        )
        at = self._frames_at(frames * hop - origin, timing)
        rows = np.arange(len(share))
        wanted = np.stack([np.interp(at, rows, band) for band in share.T], axis=1).astype(np.float32)
        kept = np.any(wanted, axis=1)
        return with_breath(moved, self.rate, origin, frames[kept], wanted[kept])


def _smoothing(controls: VoiceControls, residual: ControlResidual) -> Float32[np.ndarray, "frame 3"]:
    """How much of the mean of the neighbouring periods takes away as much noise as the residual asks.

    A share m of that mean leaves (1 - m)^2 + m^2 / 2 of the noise's power, a third at the least.
    """
    less = np.minimum(residual.aperiodicity, 0.0) * controls.voiced[:, None]
    noise = np.clip(controls.aperiodicity, 1e-3, 0.98)
    wanted = np.clip(noise + less, 1e-3, 0.98)
    left = np.clip(wanted / (1 - wanted) * (1 - noise) / noise, 1 / 3, 1.0)
    return np.where(less < 0, (2.0 - np.sqrt(np.maximum(6.0 * left - 2.0, 0.0))) / 3.0, 0.0).astype(
        np.float32
    )


def _loudness_db(sound: Float32[np.ndarray, "channel sample"], rate: int) -> np.ndarray:
    """Level of all channels together every 3 ms, over some periods."""
    total = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64).sum(0))])
    step, reach = rate * _LEVEL_S / 4, rate * _LEVEL_S
    middle = np.arange(int(sound.shape[1] / step) + 1) * step
    low, high = (np.clip(middle + side * reach, 0, sound.shape[1]).astype(np.int64) for side in (-1, 1))
    mean = (total[high] - total[low]) / np.maximum(high - low, 1)
    return 10.0 * np.log10(scipy.ndimage.uniform_filter1d(mean, 5, mode="nearest") + 1e-10)


def _limited(sound: Float32[np.ndarray, "channel sample"], rate: int, *, ceiling: float) -> np.ndarray:
    """The sound turned down around what would rise above the ceiling, and only there."""
    peak = np.abs(sound).max(0)
    if not np.any(peak > ceiling):
        return sound
    reach = max(1, round(_LIMIT_S * rate))
    need = np.minimum(ceiling / np.maximum(peak, 1e-9), 1.0)
    held = scipy.ndimage.minimum_filter1d(need, 2 * reach + 1, mode="nearest")
    smooth = scipy.ndimage.uniform_filter1d(held, 2 * reach + 1, mode="nearest")
    near = scipy.ndimage.minimum_filter1d(held, 2 * reach + 1, mode="nearest") < 1.0
    return sound * np.where(near, np.minimum(smooth, need), 1.0).astype(np.float32)
