"""Reading and writing MIDI files: notes in beats, a tempo map, metres, markers and controllers.

symusic parses; this module looks at the header and the sizes first, and at counts and times before anything is built from
them, so that a file made to exhaust a reader costs little. The writer gives the same bytes for the same score.
"""

import dataclasses
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import symusic
from jaxtyping import Float64
from symusic.core import ScoreQuarter, ScoreSecond, ScoreTick

from affetto.media.files import checked_size, looked_at
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.limited import Limits

TICKS_PER_BEAT = 480
MAX_BYTES = 8 * 2**20
MAX_NOTES = 200_000
MAX_CONTROLS = 400_000
MAX_TRACKS = 256
MAX_SECONDS = 4 * 3600.0
MAX_NOTE_SECONDS = 600.0
MIN_BPM, MAX_BPM = 4.0, 1000.0
DEFAULT_BPM = 120.0
SUSTAIN = 64  # controller number of the pedal

NOTE = np.dtype(
    [("start", "f8"), ("duration", "f8"), ("pitch", "i2"), ("velocity", "i2"), ("track", "i2")]
)  # beats, beats, 0..127, 1..127, row of `tracks`
CONTROL = np.dtype([("beat", "f8"), ("track", "i2"), ("number", "i2"), ("value", "i2")])

SymusicScore = ScoreTick | ScoreQuarter | ScoreSecond


def note_array(rows: Sequence[tuple[Any, ...]] | np.ndarray) -> np.ndarray:
    """Notes (start, duration, pitch, velocity, track) as a structured array in the order a score keeps."""
    notes = np.array(rows, NOTE)
    return notes[np.lexsort((notes["duration"], notes["track"], notes["pitch"], notes["start"]))]


@dataclass(frozen=True, kw_only=True)
class TrackInfo:
    """One instrument: its name, General MIDI program 0..127, and whether its pitches are drums."""

    name: str = ""
    program: int = 0
    is_drum: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """Music in beats (quarter notes): notes by start, then pitch; everything else by beat."""

    notes: np.ndarray = field(default_factory=lambda: np.zeros(0, NOTE))
    tracks: tuple[TrackInfo, ...] = (TrackInfo(),)
    tempos: tuple[tuple[float, float], ...] = ((0.0, DEFAULT_BPM),)  # (beat, quarter notes a minute)
    meters: tuple[tuple[float, int, int], ...] = ((0.0, 4, 4),)  # (beat, numerator, denominator)
    markers: tuple[tuple[float, str], ...] = ()
    controls: np.ndarray = field(default_factory=lambda: np.zeros(0, CONTROL))

    def __post_init__(self) -> None:
        assert self.notes.dtype == NOTE, f"notes are {self.notes.dtype}"
        assert self.controls.dtype == CONTROL, f"controls are {self.controls.dtype}"
        assert self.tempos, "a score has a tempo"

    @cached_property
    def _clock(
        self,
    ) -> tuple[Float64[np.ndarray, "point"], Float64[np.ndarray, "point"], tuple[float, float]]:
        """Beats and seconds at the tempo changes, from beat 0, and seconds per beat before and after them."""
        beats = np.array([beat for beat, _ in self.tempos], np.float64)
        pace = 60.0 / np.array([bpm for _, bpm in self.tempos], np.float64)
        if beats[0] > 0:  # the first tempo counts from the start
            beats[0] = 0.0
        seconds = np.concatenate([[0.0], np.cumsum(np.diff(beats) * pace[:-1])])
        zero = np.interp(0.0, beats, seconds)
        return beats, seconds - zero, (float(pace[0]), float(pace[-1]))

    def seconds_of(self, beats: float | np.ndarray) -> np.ndarray:
        """The time in seconds of each beat, through the tempo map; beat 0 is second 0."""
        at, seconds, (_, last) = self._clock
        beats = np.asarray(beats, np.float64)
        return np.asarray(np.interp(beats, at, seconds) + np.maximum(beats - at[-1], 0.0) * last)

    def beats_of(self, seconds: float | np.ndarray) -> np.ndarray:
        """The beat at each time in seconds; the inverse of `seconds_of`."""
        at, known, (_, last) = self._clock
        seconds = np.asarray(seconds, np.float64)
        return np.asarray(np.interp(seconds, known, at) + np.maximum(seconds - known[-1], 0.0) / last)

    @property
    def beats(self) -> float:
        """The beat at which the last note ends."""
        return float((self.notes["start"] + self.notes["duration"]).max(initial=0.0))

    @property
    def seconds(self) -> float:
        """The second at which the last note ends."""
        return float(self.seconds_of(self.beats))

    def timed_notes(self, *, drums: bool = False) -> Float64[np.ndarray, "note 4"]:
        """Start and duration in seconds, pitch and velocity of each note; without drums unless asked for."""
        kept = self.notes if drums else self.notes[~self._is_drum]
        start = self.seconds_of(kept["start"])
        end = self.seconds_of(kept["start"] + kept["duration"])
        columns = (start, end - start, kept["pitch"], kept["velocity"])
        return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)

    @property
    def _is_drum(self) -> np.ndarray:
        drums = np.array([track.is_drum for track in self.tracks], bool)
        return drums[self.notes["track"]] if len(self.notes) else np.zeros(0, bool)

    def pitched(self) -> "Score":
        """The same score without drum notes."""
        return dataclasses.replace(self, notes=self.notes[~self._is_drum])


def load_midi(path: str | Path) -> Score:
    """The score in a standard MIDI file.

    Raises `InvalidInputError` for a missing or empty file, something that is not MIDI, a damaged one, and one with more
    bytes, tracks, notes, controllers or hours than music has, or with a note longer than ten minutes.
    """
    path = Path(path)
    checked_size(path, MAX_BYTES, kind="MIDI file")
    return parse_midi(path.read_bytes(), name=str(path))


def look_at_midi(path: str | Path) -> float:
    """The seconds of a MIDI file, read once in a process bounded in memory and time.

    Raises as `load_midi` does, and for a file that takes more than 512 MiB or 20 processor seconds, or crashes its reader.
    """
    path = Path(path)
    checked_size(path, MAX_BYTES, kind="MIDI file")
    return float(looked_at(path, "affetto.media.midi:first_look", limits=Limits()))


def first_look(path: str) -> float:
    """What `look_at_midi` finds, in the process with limits."""
    return load_midi(path).seconds


def parse_midi(data: bytes, *, name: str) -> Score:
    """The score in the bytes of a standard MIDI file called `name`; raises like `load_midi`."""
    if len(data) > MAX_BYTES:
        raise InvalidInputError(f"{name}: exceeds {MAX_BYTES >> 20} MiB: cut it into parts")
    _check_header(data, name)
    try:
        parsed = cast(ScoreTick, symusic.Score.from_midi(data))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0][:80]
        raise InvalidInputError(f"{name}: damaged MIDI ({reason}): export it again") from error
    return score_from_symusic(parsed, name=name)


def _check_header(data: bytes, name: str) -> None:
    """Raise unless the header is MIDI's and the track chunks it promises lie in the file."""
    if data[:4] != b"MThd":
        raise InvalidInputError(f"{name}: no MIDI file (it does not begin with MThd): export it as .mid")
    size = len(data)
    if size < 14:
        raise InvalidInputError(f"{name}: is cut off within its header: export it again")
    length, kind, tracks, division = struct.unpack(">IHHH", data[4:14])
    if length < 6 or kind > 2:
        raise InvalidInputError(f"{name}: its MIDI header is damaged: export it again")
    if division & 0x8000 or division == 0:
        raise InvalidInputError(
            f"{name}: counts time in film frames, not in beats: export it with ticks per beat"
        )
    if tracks > MAX_TRACKS:
        raise InvalidInputError(f"{name}: {tracks} tracks exceed {MAX_TRACKS}: merge them")
    at = 8 + length
    while at + 8 <= size:
        held = int.from_bytes(data[at + 4 : at + 8], "big")
        if data[at : at + 4] == b"MTrk" and at + 8 + held > size:
            raise InvalidInputError(f"{name}: is cut off within a track: copy or export it again")
        at += 8 + held


def score_from_symusic(parsed: SymusicScore, *, name: str = "the score") -> Score:
    """A symusic score as ours, checked like a file; raises `InvalidInputError` under the given name."""
    if not isinstance(parsed, ScoreTick):
        parsed = cast(ScoreTick, parsed.to("tick"))
    _check_counts(parsed, name)
    ticks = float(parsed.ticks_per_quarter)
    score = Score(
        notes=_notes_of(parsed, ticks),
        tracks=tuple(
            TrackInfo(name=track.name, program=track.program & 0x7F, is_drum=track.is_drum)
            for track in parsed.tracks
        )
        or (TrackInfo(),),
        tempos=_tempos_of(parsed, ticks, name),
        meters=_meters_of(parsed, ticks),
        markers=tuple(sorted((mark.time / ticks, mark.text) for mark in parsed.markers)),
        controls=_controls_of(parsed, ticks),
    )
    _check_times(score, name)
    return score


def _check_counts(parsed: ScoreTick, name: str) -> None:
    counts = {
        "notes": (sum(len(track.notes) for track in parsed.tracks), MAX_NOTES),
        "controllers": (
            sum(len(track.controls) + len(track.pitch_bends) for track in parsed.tracks),
            MAX_CONTROLS,
        ),
        "tempo changes": (len(parsed.tempos), MAX_CONTROLS),
        "tracks": (len(parsed.tracks), MAX_TRACKS),
    }
    for what, (count, limit) in counts.items():
        if count > limit:
            raise InvalidInputError(f"{name}: {count} {what} exceed {limit}: cut it into parts")


def _notes_of(parsed: ScoreTick, ticks: float) -> np.ndarray:
    parts = []
    for index, track in enumerate(parsed.tracks):
        columns = track.notes.numpy()
        part = np.zeros(len(columns["time"]), NOTE)
        part["start"], part["duration"] = columns["time"] / ticks, columns["duration"] / ticks
        part["pitch"], part["velocity"], part["track"] = columns["pitch"], columns["velocity"], index
        parts.append(part[part["velocity"] > 0])
    return note_array(np.concatenate(parts) if parts else np.zeros(0, NOTE))


def _controls_of(parsed: ScoreTick, ticks: float) -> np.ndarray:
    parts = []
    for index, track in enumerate(parsed.tracks):
        columns = track.controls.numpy()
        part = np.zeros(len(columns["time"]), CONTROL)
        part["beat"], part["track"] = columns["time"] / ticks, index
        part["number"], part["value"] = columns["number"], columns["value"]
        parts.append(part)
    controls = np.concatenate(parts) if parts else np.zeros(0, CONTROL)
    return controls[np.argsort(controls["beat"], kind="stable")]


def _tempos_of(parsed: ScoreTick, ticks: float, name: str) -> tuple[tuple[float, float], ...]:
    found = {0.0: DEFAULT_BPM} | {change.time / ticks: float(change.qpm) for change in parsed.tempos}
    for beat, bpm in found.items():
        if not MIN_BPM <= bpm <= MAX_BPM:
            raise InvalidInputError(
                f"{name}: tempo {bpm:g} at beat {beat:g} is outside {MIN_BPM:g}..{MAX_BPM:g}: mend its tempo map"
            )
    return tuple(sorted(found.items()))


def _meters_of(parsed: ScoreTick, ticks: float) -> tuple[tuple[float, int, int], ...]:
    found = {0.0: (4, 4)}
    for change in parsed.time_signatures:
        if change.numerator > 0 and change.denominator > 0:
            found[change.time / ticks] = (change.numerator, change.denominator)
    return tuple((beat, top, bottom) for beat, (top, bottom) in sorted(found.items()))


def _check_times(score: Score, name: str) -> None:
    edges = [score.notes["start"], score.controls["beat"], np.array([beat for beat, _ in score.tempos])]
    if any(len(edge) and (not np.isfinite(edge).all() or edge.min() < 0) for edge in edges):
        raise InvalidInputError(f"{name}: has events before its start or at no time: export it again")
    if (score.notes["duration"] < 0).any():
        raise InvalidInputError(f"{name}: has notes that end before they begin: export it again")
    seconds = float(score.seconds_of(max(float(edge.max(initial=0.0)) for edge in edges)))
    if seconds > MAX_SECONDS:
        raise InvalidInputError(
            f"{name}: lasts {seconds / 3600:.1f} h, more than {MAX_SECONDS / 3600:g} h: cut it into parts"
        )
    longest = float(score.timed_notes(drums=True)[:, 1].max(initial=0.0))
    if longest > MAX_NOTE_SECONDS:
        raise InvalidInputError(
            f"{name}: a note of {longest:.0f} s exceeds {MAX_NOTE_SECONDS:.0f} s: end the hanging note"
        )


def midi_bytes(score: Score) -> bytes:
    """The score as a standard MIDI file of format 1, 480 ticks per beat; equal scores give equal bytes.

    Beats are rounded to ticks and notes last at least one. Track 0 holds tempos, metres and markers; at one tick notes end
    before others begin.
    """
    if len(score.tracks) > MAX_TRACKS:
        raise UsageError(f"{len(score.tracks)} tracks exceed {MAX_TRACKS}: merge them")
    chunks = [_conductor(score)]
    channels = [channel for channel in range(16) if channel != 9]
    pitched = 0
    for index, track in enumerate(score.tracks):
        channel = 9 if track.is_drum else channels[pitched % 15]
        pitched += not track.is_drum
        chunks.append(_track(score, index, channel))
    header = b"MThd" + struct.pack(">IHHH", 6, 1, len(chunks), TICKS_PER_BEAT)
    return header + b"".join(b"MTrk" + struct.pack(">I", len(chunk)) + chunk for chunk in chunks)


def save_midi(path: str | Path, score: Score) -> None:
    """Write the score as a MIDI file; see `midi_bytes`."""
    data = midi_bytes(score)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _tick(beat: float) -> int:
    return max(round(beat * TICKS_PER_BEAT), 0)


def _conductor(score: Score) -> bytes:
    events: list[tuple[int, int, bytes]] = []  # tick, rank within the tick, message
    for beat, top, bottom in score.meters:
        power = bottom.bit_length() - 1
        if 1 << power != bottom or not 0 < top < 256:
            raise UsageError(f"metre {top}/{bottom} cannot be written: use a power of two below the line")
        events.append((_tick(beat), 0, _meta(0x58, bytes([top, power, 24, 8]))))
    for beat, bpm in score.tempos:
        if not MIN_BPM <= bpm <= MAX_BPM:
            raise UsageError(f"tempo {bpm:g} cannot be written: use {MIN_BPM:g} to {MAX_BPM:g}")
        events.append((_tick(beat), 1, _meta(0x51, round(60e6 / bpm).to_bytes(3, "big"))))
    events.extend((_tick(beat), 2, _meta(0x06, text.encode())) for beat, text in score.markers)
    return _chunk(events)


def _track(score: Score, index: int, channel: int) -> bytes:
    track = score.tracks[index]
    events: list[tuple[int, int, bytes]] = [
        (0, 0, _meta(0x03, track.name.encode())),
        (0, 0, bytes([0xC0 | channel, track.program & 0x7F])),
    ]
    for beat, _, number, value in score.controls[score.controls["track"] == index].tolist():
        events.append((_tick(beat), 2, bytes([0xB0 | channel, number & 0x7F, value & 0x7F])))
    for start, duration, pitch, velocity, _ in score.notes[score.notes["track"] == index].tolist():
        begin = _tick(start)
        end = max(_tick(start + duration), begin + 1)
        events.append((begin, 3, bytes([0x90 | channel, pitch & 0x7F, min(max(velocity, 1), 127)])))
        events.append((end, 1, bytes([0x80 | channel, pitch & 0x7F, 0])))
    return _chunk(events)


def _chunk(events: list[tuple[int, int, bytes]]) -> bytes:
    parts, now = [], 0
    for tick, _, message in sorted(
        events, key=lambda event: event[:2]
    ):  # stable: the given order within a rank
        parts.append(_variable(tick - now) + message)
        now = tick
    return b"".join([*parts, _variable(0), _meta(0x2F, b"")])


def _meta(kind: int, payload: bytes) -> bytes:
    return bytes([0xFF, kind]) + _variable(len(payload)) + payload


def _variable(value: int) -> bytes:
    """A variable-length quantity: seven bits a byte, the highest first."""
    if value >= 1 << 28:
        raise UsageError(f"a gap of {value} ticks cannot be written: cut the score into parts")
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
