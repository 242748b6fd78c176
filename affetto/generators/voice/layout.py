"""Which part of the source is heard when: periods for voice, stretches with few joints for everything else."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Float32, Int64

from affetto.generators.voice.controls import CONTROL_FPS
from affetto.generators.voice.psola import COPY, JOINT, PERIOD, Layout
from affetto.generators.voice.time_map import TimeMap

_STILL_MARKS = 4  # so many marks without a change pass untouched
_DRIFT_S = 0.006  # how far noise may run ahead of the time map before it is joined anew
_JOINT_S = 0.005  # length of a joint
_SEARCH_S = 0.004  # within which the best fitting joint is looked for
_ONSET_DB, _ONSET_S = 10.0, 0.006  # a burst is so much louder than all that preceded it for so long
_BURST_S = 0.012  # how long a burst stays as it is
_FAINT_DB = 45.0  # below the loudest moment nothing is a burst


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A stretch with voice: its marks, and the samples between which they reign."""

    start: int
    stop: int
    marks: Float[np.ndarray, "_mark"]


class _Grains:
    """Grains gathered in order of output time, and the same with other periods where one would come twice."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float, float, int]] = []
        self.varied: list[tuple[float, float, float, float, int]] = []

    def add(
        self, output: float | int, source: float | int, before: float | int, after: float | int, kind: int
    ) -> None:
        self.rows.append((output, source, before, after, kind))
        self.varied.append(self.rows[-1])

    def add_period(self, output: float, knots: np.ndarray, mark: int, other: int) -> None:
        spans = np.diff(knots)
        for rows, number in ((self.rows, mark), (self.varied, other)):
            before, after = spans[max(number - 1, 0)], spans[min(number, len(spans) - 1)]
            rows.append((output, float(knots[number]), float(before), float(after), PERIOD))

    def layout(self, *, varied: bool = False) -> Layout:
        table = np.array(self.varied if varied else self.rows, np.float64).reshape(-1, 5)
        output, source, before, after, kind = (np.ascontiguousarray(c) for c in table.T)
        return Layout(output=output, source=source, before=before, after=after, kind=kind.astype(np.int8))


def stretches(marks: list[Float[np.ndarray, "_mark"]], length: int) -> list[Voice]:
    """The voiced stretches of a recording, each reaching about one period beyond its first and last mark."""
    found: list[Voice] = []
    for run in marks:
        if len(run) < 3:
            continue
        periods = np.diff(run)
        start = int(max(run[0] - periods[0], 0.0))
        stop = int(np.ceil(min(run[-1] + periods[-1], length)))
        if found and start < found[-1].stop:
            last = found[-1]
            meet = int(0.5 * (last.marks[-1] + run[0]))
            found[-1] = Voice(start=last.start, stop=meet, marks=last.marks)
            start = meet
        found.append(Voice(start=start, stop=stop, marks=run))
    return found


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the places of a part of the recording go: samples from that part's first, in source and output."""

    start: int  # place of the part's first sample in the recording
    rate: int
    time_map: TimeMap

    def _whole(self, place: float | int) -> int:
        seconds = np.float64((place + self.start) / self.rate)
        return int(np.round(self.time_map.shift_at(seconds) * self.rate))

    @cached_property
    def base(self) -> int:
        """Samples by which the part as a whole comes later."""
        return self._whole(0)

    def shift(self, place: float | int) -> int:
        """Whole samples by which this place comes later than the part's first."""
        return self._whole(place) - self.base

    def output(self, places: Float[np.ndarray, "*place"]) -> Float[np.ndarray, "*place"]:
        """Where these places go."""
        moved = self.time_map.to_output((places + self.start) / self.rate)
        return np.asarray(moved * self.rate - self.start - self.base)

    def source(self, places: Float[np.ndarray, "*place"] | float | int) -> Float[np.ndarray, "*place"]:
        """Which places are heard at these places of the output."""
        heard = self.time_map.to_source((places + self.start + self.base) / self.rate)
        return np.asarray(heard * self.rate - self.start)


def plan_layout(
    sound: Float32[np.ndarray, "sample"],
    voices: list[Voice],
    pitch: Float32[np.ndarray, "frame"],
    moving: Bool[np.ndarray, "frame"],
    timing: Timing,
    pins: Sequence[int],
) -> tuple[Layout, Layout]:
    """The layout of a part of a recording whose frames begin with its first sample.

    `pitch` is in semitones; `moving` says which frames change pitch or timing at all; at the places `pins` source and
    output meet to the sample, whatever came before. The second layout is the same but that no period comes twice in a
    row: noise above the voice would sound like a tone if it did.
    """
    grains = _Grains()
    bursts = onsets(sound, timing.rate)
    place, period = 0, 1.0
    for voice in [*voices, Voice(start=len(sound), stop=len(sound), marks=np.zeros(0))]:
        for pin in [*(pin for pin in pins if place < pin < voice.start), voice.start]:
            _lay_noise(grains, sound, place, pin, moving, timing, bursts, before=period)
            place, period = pin, 1.0
        if len(voice.marks):
            _lay_voice(grains, voice, pitch, moving, timing)
            place, period = voice.stop, voice.stop - voice.marks[-1]
    grains.add(len(sound) + timing.shift(len(sound)), len(sound), 1.0, 1.0, COPY)
    return grains.layout(), grains.layout(varied=True)


def _moves(moving: np.ndarray, rate: int, start: float | int, stop: float | int) -> bool:
    first = int(np.floor(start * CONTROL_FPS / rate))
    last = int(np.ceil(stop * CONTROL_FPS / rate))
    return bool(np.any(moving[max(first, 0) : last + 1]))


def _lay_noise(
    grains: _Grains,
    sound: np.ndarray,
    start: int,
    stop: int,
    moving: np.ndarray,
    timing: Timing,
    bursts: Int64[np.ndarray, "burst"],
    *,
    before: float = 1.0,
) -> None:
    """Copy what has no pitch; where the timing changes, jump to a similar place whenever the drift asks for it.

    No jump crosses one of the `bursts`, which would be heard twice or not at all. `before` is how far what precedes may reach back to meet the last period of a voice.
    """
    if stop <= start:
        return
    rate = timing.rate
    source, output = start, start + timing.shift(start)
    grains.add(output, source, before, 1.0, COPY)
    end = stop + timing.shift(stop)
    if timing.shift(start) == timing.shift(stop) and not _moves(moving, rate, start, stop):
        return
    joint, drift = max(2, round(_JOINT_S * rate)), round(_DRIFT_S * rate)
    step = joint
    while output + step + joint < end:
        here = source + step
        wanted = round(float(timing.source(output + step)))
        left = end - (output + step)
        free = _moves(moving, rate, here, here) and _moves(moving, rate, wanted, wanted)
        if free and abs(wanted - here) >= drift and left > 2 * joint:
            to = _best_joint(sound, here, wanted, joint, round(_SEARCH_S * rate))
            if _crosses(bursts, here, to, joint, round(_BURST_S * rate)):
                step += max(1, joint // 2)
                continue
            grains.add(output + step, here, joint, joint, JOINT)
            output, source = output + step + joint, to + joint
            grains.add(output, source, joint, joint, COPY)
            step = joint
        else:
            step += max(1, joint // 2)
    here, there = source + (end - joint - output), stop - joint
    if here != there and end - joint > output:
        grains.add(end - joint, here, joint, joint, JOINT)
        grains.add(end, stop, joint, joint, COPY)


def onsets(sound: Float32[np.ndarray, "sample"], rate: int) -> Int64[np.ndarray, "burst"]:
    """Where bursts begin: places at which a recording becomes much louder within a thousandth of a second."""
    size, past = max(1, rate // 1000), round(1000 * _ONSET_S) | 1
    count = len(sound) // size
    if count <= past:
        return np.zeros(0, np.int64)
    power = np.square(sound[: count * size], dtype=np.float64).reshape(count, size).mean(axis=1)
    level = 10.0 * np.log10(power + 1e-12)
    before = scipy.ndimage.maximum_filter1d(level, past, origin=past // 2, mode="nearest")
    before = np.concatenate([level[:1], before[:-1]])
    rises = (level > before + _ONSET_DB) & (level > level.max() - _FAINT_DB)
    return (np.flatnonzero(rises) * size).astype(np.int64)


def _crosses(bursts: Int64[np.ndarray, "burst"], here: int, to: int, joint: int, lasts: int) -> bool:
    low, high = sorted((here, to))
    return bool(np.any((bursts + lasts >= low) & (bursts <= high + joint)))


def _best_joint(sound: np.ndarray, here: int, wanted: int, joint: int, reach: int) -> int:
    """The place near `wanted` whose next samples are most like those at `here`."""
    low, high = max(0, wanted - reach), min(len(sound) - joint, wanted + reach)
    if high <= low or here + joint > len(sound):
        return int(np.clip(wanted, 0, max(0, len(sound) - joint)))
    pattern = sound[here : here + joint].astype(np.float64)
    field = sound[low : high + joint].astype(np.float64)
    match = np.correlate(field, pattern, "valid")
    power = np.concatenate([[0.0], np.cumsum(field**2)])
    energy = power[joint:] - power[:-joint]
    return low + int(np.argmax(match / np.sqrt(energy + 1e-9)))


def _lay_voice(grains: _Grains, voice: Voice, pitch: np.ndarray, moving: np.ndarray, timing: Timing) -> None:
    """Lay the periods of a voiced stretch: untouched ones with a whole shift, the others by their output phase."""
    knots = np.concatenate([[voice.start], voice.marks, [voice.stop]])
    still = np.array([not _moves(moving, timing.rate, a, b) for a, b in itertools.pairwise(knots)])
    groups = _groups(still)
    for number, (first, last, untouched) in enumerate(groups):
        start = voice.start if first == 0 else np.floor(knots[first])
        if untouched:
            grains.add(start + timing.shift(start), start, 1.0, 1.0, COPY)
        else:
            ends = number + 1 < len(groups)
            _lay_periods(grains, knots, first, last, ends, pitch, timing)


def _groups(still: np.ndarray) -> list[tuple[int, int, bool]]:
    """(first interval, interval after the last, untouched): runs of intervals, short untouched ones made part of others."""
    still = still.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[True], ~still, [True]]).astype(np.int8)))
    for first, last in itertools.pairwise(edges):
        if first < len(still) and still[first] and last - first < _STILL_MARKS and last - first < len(still):
            still[first:last] = False
    bounds = np.concatenate([[0], 1 + np.flatnonzero(np.diff(still.astype(np.int8))), [len(still)]])
    return [(int(a), int(b), bool(still[a])) for a, b in itertools.pairwise(bounds)]


def _lay_periods(
    grains: _Grains,
    knots: np.ndarray,
    first: int,
    last: int,
    tied: bool,
    pitch: np.ndarray,
    timing: Timing,
) -> None:
    """Lay out intervals `first` to `last`: as many periods as the new pitch asks for, each from the nearest mark.

    When `tied`, untouched periods follow and the last mark must land where they begin.
    """
    edge = knots[first : last + 1].copy()
    edge[0] = np.floor(edge[0]) if first else edge[0]
    goal = timing.output(edge)
    goal[0] = edge[0] + timing.shift(edge[0])
    goal[-1] = edge[-1] + timing.shift(edge[-1])
    middle = 0.5 * (edge[1:] + edge[:-1])
    ratio = 2.0 ** (np.interp(middle * (CONTROL_FPS / timing.rate), np.arange(len(pitch)), pitch) / 12.0)
    phase = np.concatenate([[0.0], np.cumsum(ratio * np.diff(goal) / np.diff(edge))])
    if tied:
        phase *= max(1.0, np.round(phase[-1])) / phase[-1]
    count = int(np.ceil(phase[-1] - 0.4))
    at = np.arange(count)
    output = np.interp(at, phase, goal)
    nearest = first + np.round(np.interp(at, phase, np.arange(len(edge)))).astype(np.int64)
    for place, mark, other in zip(output, nearest, _without_repeats(nearest, len(knots)), strict=True):
        grains.add_period(float(place), knots, int(mark), int(other))


def _without_repeats(marks: Int64[np.ndarray, "grain"], count: int) -> Int64[np.ndarray, "grain"]:
    """The marks, another one nearby in place of each that was just heard or comes next."""
    varied = marks.copy()
    for k in range(1, len(marks)):
        heard = {varied[k - 1], varied[max(k - 2, 0)], marks[min(k + 1, len(marks) - 1)]}
        if varied[k] == varied[k - 1]:
            choices = [marks[k] + step for step in (1, -1, 2, -2, 3, -3)]
            varied[k] = next((c for c in choices if 0 < c < count - 1 and c not in heard), marks[k])
    return varied


def neighbouring_periods(voices: list[Voice], length: int, step: int) -> Layout:
    """The layout that shows at each mark the period `step` marks on, and everything else as it is."""
    grains = _Grains()
    place = 0
    for voice in voices:
        grains.add(place, place, 1.0, 1.0, COPY)
        grains.add(voice.start, voice.start, 1.0, voice.marks[0] - voice.start, PERIOD)
        knots = np.concatenate([[voice.start], voice.marks, [voice.stop]])
        spans = np.diff(knots)
        for number in range(1, len(knots) - 1):
            other = int(np.clip(number + step, 1, len(knots) - 2))
            grains.add(knots[number], knots[other], spans[other - 1], spans[other], PERIOD)
        place = voice.stop
    grains.add(place, place, 1.0, 1.0, COPY)
    grains.add(length, length, 1.0, 1.0, COPY)
    return grains.layout()
