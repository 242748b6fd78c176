"""One track played on one instrument: a schedule of notes, a bounded store of their sounds, and their sum in blocks."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import scipy.signal
from jaxtyping import Float32
from numba import njit

from affetto.generators.music.synth.room import Convolver, Stereo, string_response
from affetto.generators.music.synth.timbres import Timbre
from affetto.media.midi import SUSTAIN, Score

STORE_BYTES = 96 * 2**20
_LAYER, _HELD_LAYER = 8, 16  # velocities that share a spectrum; loudness is continuous
_SHORTEST_S = 0.5
_RELEASES = 9.0  # time constants until a note that ended is silent (78 dB)
_LEVEL, _DYNAMICS = 0.1, 1.6
_VOLUME, _PAN, _EXPRESSION = 7, 10, 11  # controllers
_PEDAL_S = 0.06
_SYMPATHY = 0.02
_TRUNCATED_FADE_S = 0.6

Array = np.ndarray


class SoundStore:
    """The sounds of notes by instrument, pitch and force; the least used are forgotten beyond 96 MiB.

    A sound is made as long as it is needed, in steps of an octave, so what is heard does not depend on what is kept.
    """

    def __init__(self, rate: int, *, limit: int = STORE_BYTES) -> None:
        self.rate = rate
        self._limit = limit
        self._held = 0
        self._sounds: OrderedDict[tuple[str, int, int], tuple[np.ndarray, bool]] = OrderedDict()

    def sound(
        self, timbre: Timbre, pitch: int, velocity: int, seconds: float
    ) -> Float32[np.ndarray, "sample"]:
        """At least `seconds` of a note left to itself, less where it has died away or the instrument goes no further."""
        wide = _HELD_LAYER if timbre.held else _LAYER
        layer = int(np.clip((velocity + wide // 2) // wide, 1, 127 // wide))
        key = (timbre.name, pitch, layer)
        found = self._sounds.get(key)
        if found is not None and (found[1] or len(found[0]) >= round(seconds * self.rate)):
            self._sounds.move_to_end(key)
            return found[0]
        length = _SHORTEST_S
        while length < seconds:
            length *= 2.0
        length = min(length, timbre.longest_s)
        sound = timbre.sound(pitch, layer * wide / 127.0, round(length * self.rate), self.rate)
        audible = np.flatnonzero(np.abs(sound) > 1e-5)
        last = int(audible[-1]) + 1 if len(audible) else 1
        sound = sound[:last].copy()
        self._keep(key, sound, complete=length >= timbre.longest_s or last < round(0.98 * length * self.rate))
        return sound

    def _keep(
        self, key: tuple[str, int, int], sound: Float32[np.ndarray, "sample"], *, complete: bool
    ) -> None:
        if key in self._sounds:
            self._held -= self._sounds.pop(key)[0].nbytes
        self._sounds[key] = (sound, complete)
        self._held += sound.nbytes
        while self._held > self._limit and len(self._sounds) > 1:
            self._held -= self._sounds.popitem(last=False)[1][0].nbytes


@dataclass(frozen=True, kw_only=True, eq=False)
class _Schedule:
    """What a track plays, by start."""

    start: np.ndarray  # samples, int64
    hold: np.ndarray  # seconds until fingers, and the pedal, let go
    pitch: np.ndarray
    velocity: np.ndarray
    left: np.ndarray  # gains
    right: np.ndarray


@njit(cache=True, nogil=True)
@no_type_check
def _lay(sound: Array, left: float, right: float, hold: int, shrink: float, fade: int, out: Array) -> None:
    """Add a note to both channels of `out`: as it is until `hold`, then fading; its last `fade` samples fade anyway."""
    count = min(len(sound), out.shape[1])
    gain = 1.0
    for i in range(count):
        if i >= hold:
            gain *= shrink
            if gain < 1e-4:
                return
        level = sound[i] * gain
        if count - i <= fade:
            level *= (count - i) / fade
        out[0, i] += left * level
        out[1, i] += right * level


class Part:
    """The sound of one track, asked for block by block."""

    def __init__(self, score: Score, track: int, timbre: Timbre, store: SoundStore) -> None:
        self.timbre = timbre
        self._store = store
        self._rate = store.rate
        self._pedal = _pedal_times(score, track)
        self._notes = _schedule(score, track, timbre, self._pedal, self._rate)
        self._next = self._at = 0
        self._sums = np.zeros((2, 0), np.float32)
        self._strings: Convolver | None = None
        if timbre.sympathetic and len(self._pedal):
            self._strings = Convolver(string_response(self._rate), crossing=0.5)
        self._pedal_state = np.zeros(1)

    def block(self, count: int) -> Stereo:
        """The next `count` samples, body and room left out."""
        longest = round(self.timbre.longest_s * self._rate)
        sums = np.zeros((2, count + longest), np.float32)
        sums[:, : self._sums.shape[1]] = self._sums
        notes, rate = self._notes, self._rate
        while self._next < len(notes.start) and notes.start[self._next] < self._at + count:
            note = self._next
            pitch, hold = int(notes.pitch[note]), float(notes.hold[note])
            release = self.timbre.release(pitch)
            seconds = min(hold + _RELEASES * release, self.timbre.longest_s)
            sound = self._store.sound(self.timbre, pitch, int(notes.velocity[note]), seconds)
            cut_short = len(sound) >= longest
            _lay(
                sound,
                float(notes.left[note]),
                float(notes.right[note]),
                round(hold * rate),
                float(np.exp(-1.0 / (release * rate))),
                round((_TRUNCATED_FADE_S if cut_short else 0.004) * rate),
                sums[:, notes.start[note] - self._at :],
            )
            self._next += 1
        out, self._sums = sums[:, :count], sums[:, count:]
        if self._strings is not None:
            out = out + np.float32(_SYMPATHY) * self._strings(out) * self._pedal_curve(count)
        self._at += count
        return out

    def _pedal_curve(self, count: int) -> Float32[np.ndarray, "sample"]:
        """How far the dampers are off the strings, 0..1."""
        t = (self._at + np.arange(count)) / self._rate
        down = np.searchsorted(self._pedal.ravel(), t, side="right") % 2
        keep = float(np.exp(-1.0 / (_PEDAL_S * self._rate)))
        curve, self._pedal_state = scipy.signal.lfilter(
            [1.0 - keep], [1.0, -keep], down.astype(np.float64), zi=self._pedal_state
        )
        return curve.astype(np.float32)


def _pedal_times(score: Score, track: int) -> np.ndarray:
    """(press, lift) seconds of the sustain pedal; one that is never lifted stays down to the end."""
    moves = score.controls[(score.controls["track"] == track) & (score.controls["number"] == SUSTAIN)]
    times: list[float] = []
    for second, value in zip(score.seconds_of(moves["beat"]).tolist(), moves["value"].tolist(), strict=True):
        if (value >= 64) == (len(times) % 2 == 0):
            times.append(second)
    if len(times) % 2:
        times.append(max(score.seconds, times[-1]) + 30.0)
    return np.array(times, np.float64).reshape(-1, 2)


def _schedule(score: Score, track: int, timbre: Timbre, pedal: np.ndarray, rate: int) -> _Schedule:
    notes = score.notes[score.notes["track"] == track]
    start = score.seconds_of(notes["start"])
    end = score.seconds_of(notes["start"] + notes["duration"])
    pitch = notes["pitch"].astype(np.int64)
    if len(pedal):
        place = np.searchsorted(pedal[:, 0], end, side="right") - 1
        lift = pedal[np.maximum(place, 0), 1]
        end = np.where((place >= 0) & (lift > end), lift, end)
    for key in np.unique(pitch):  # a key that is struck again takes the string from its own earlier note
        same = np.flatnonzero(pitch == key)
        end[same[:-1]] = np.minimum(end[same[:-1]], np.maximum(start[same[1:]], start[same[:-1]] + 0.01))
    level = _level(score, track, notes, timbre)
    left, right = _placed(score, track, notes["start"], pitch, timbre)
    columns = [start, np.maximum(end - start, 0.02), pitch, notes["velocity"], level * left, level * right]
    if timbre.held:
        columns = _bowed(columns, timbre.longest_s - 1.0)
    first = np.round(columns[0] * rate).astype(np.int64)
    return _Schedule(
        start=first,
        hold=columns[1],
        pitch=columns[2].astype(np.int64),
        velocity=columns[3].astype(np.int64),
        left=columns[4],
        right=columns[5],
    )


def _bowed(columns: list[np.ndarray], longest: float) -> list[np.ndarray]:
    """Notes longer than a bow begin again at its end, as players do."""
    strokes = np.maximum(np.ceil(columns[1] / longest), 1.0).astype(np.int64)
    which = np.repeat(np.arange(len(strokes)), strokes)
    turn = np.arange(len(which)) - np.repeat(np.cumsum(strokes) - strokes, strokes)
    start, hold, *rest = (column[which] for column in columns)
    start, hold = start + turn * longest, np.minimum(hold - turn * longest, longest)
    order = np.argsort(start, kind="stable")
    return [column[order] for column in (start, hold, *rest)]


def _level(score: Score, track: int, notes: np.ndarray, timbre: Timbre) -> np.ndarray:
    """Gains by velocity, and by the volume and expression controllers as General MIDI 2 advises (40 log)."""
    gain = _LEVEL * 10.0 ** (timbre.level_db / 20.0) * (notes["velocity"] / 100.0) ** _DYNAMICS
    for number, usual in ((_VOLUME, 100), (_EXPRESSION, 127)):
        gain = gain * (_control(score, track, number, notes["start"], usual) / usual) ** 2
    return gain


def _placed(
    score: Score, track: int, beats: np.ndarray, pitch: np.ndarray, timbre: Timbre
) -> tuple[np.ndarray, np.ndarray]:
    """Gains of both channels at constant power; the pan controller, where there is one, moves the instrument."""
    usual = round(64 + 63 * timbre.pan)
    place = (_control(score, track, _PAN, beats, usual) - 64.0) / 63.0
    place = np.clip(place + timbre.spread * (pitch - 62) / 46.0, -1.0, 1.0)
    angle = (place + 1.0) * np.pi / 4.0
    return np.sqrt(2.0) * np.cos(angle), np.sqrt(2.0) * np.sin(angle)


def _control(score: Score, track: int, number: int, beats: np.ndarray, usual: int) -> np.ndarray:
    """The value of a controller at each beat; `usual` before its first message."""
    moves = score.controls[(score.controls["track"] == track) & (score.controls["number"] == number)]
    values = np.append(usual, moves["value"]).astype(np.float64)
    return values[np.searchsorted(moves["beat"], beats, side="right")]


def blocks_of(count: int, size: int) -> Iterator[int]:
    """The lengths of the blocks that make up `count` samples."""
    for start in range(0, count, size):
        yield min(size, count - start)
