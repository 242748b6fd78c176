"""From a score to finished sound: parts, room, loudness, limiter."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from affetto.generators.music.synth.part import Part, SoundStore, blocks_of
from affetto.generators.music.synth.room import Convolver, Stereo, body_response, room_response
from affetto.generators.music.synth.soundfont import played_by_soundfont
from affetto.generators.music.synth.timbres import TIMBRES, timbre_of
from affetto.media.audio import MAX_SECONDS, Audio
from affetto.media.loudness import integrated_loudness, limited
from affetto.media.midi import Score
from affetto.media.shelf import Shelf, put_away
from affetto.runtime.errors import InvalidInputError, UsageError

LUFS = -16.0
ROOM = 0.25
TAIL_S = 2.5
MIN_RATE, MAX_RATE = 16_000, 96_000
_BLOCK_S = 4.0
_CROSSING = 0.35
_CEILING_DB = -1.0
_MOST_GAIN_DB = 40.0


@dataclass(frozen=True, kw_only=True)
class _Wishes:
    """What was asked for, checked."""

    rate: int
    timbres: Mapping[int, str] = field(default_factory=dict)
    room: float = ROOM
    lufs: float = LUFS
    tail_s: float = TAIL_S
    loop_s: float | None = None
    soundfont: Path | None = None

    def __post_init__(self) -> None:
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise UsageError(f"music is played at {MIN_RATE} to {MAX_RATE} samples a second, got {self.rate}")
        if not 0.0 <= self.room <= 1.0:
            raise UsageError(f"room is the level of the reverberation, 0 to 1, got {self.room:g}")
        if not -40.0 <= self.lufs <= -9.0:
            raise UsageError(f"loudness must be -40 to -9 LUFS, got {self.lufs:g}")
        if not 0.0 <= self.tail_s <= 30.0:
            raise UsageError(f"the tail must last 0 to 30 s, got {self.tail_s:g}")
        if self.loop_s is not None and self.loop_s < 0.1:
            raise UsageError(f"a loop must last 0.1 s or more, got {self.loop_s:g}")
        for program, name in self.timbres.items():
            if name not in TIMBRES:
                raise UsageError(f"no timbre {name!r} for program {program}: use {', '.join(TIMBRES)}")

    def samples(self, score: Score) -> int:
        """How many samples sound before a loop is closed."""
        return math.ceil((max(score.seconds, self.loop_s or 0.0) + self.tail_s) * self.rate)


def render(
    score: Score,
    *,
    rate: int = 44_100,
    timbres: Mapping[int, str] | None = None,
    room: float = ROOM,
    lufs: float = LUFS,
    tail_s: float = TAIL_S,
    loop_s: float | None = None,
    soundfont: str | Path | None = None,
) -> Audio:
    """The score as stereo sound at `lufs` (LUFS, BS.1770) with true peaks below -1 dBTP; the same bytes each time.

    Each track plays on a built-in instrument by its General MIDI program, or as `timbres` {program: name of `TIMBRES`}
    says; with `soundfont`, a .sf2 or .sf3 file, fluidsynth plays. `room` 0..1 is the reverberation. The sound ends `tail_s`
    seconds after the last note; with `loop_s` it lasts so many seconds and its ringing out runs into its beginning.
    Raises InvalidInputError for a score without notes or over an hour (see `stream`), MissingResourceError without
    fluidsynth.
    """
    wishes = _wishes(rate, timbres, room, lufs, tail_s, loop_s, soundfont)
    _check(score, longest_s=MAX_SECONDS)
    mix = np.zeros((2, wishes.samples(score)), np.float32)
    _mix(score, wishes, mix)
    mix = _closed(mix, wishes)
    return Audio(samples=np.concatenate(list(_mastered(mix, wishes)), axis=1), rate=rate)


def render_stems(
    score: Score,
    *,
    rate: int = 44_100,
    timbres: Mapping[int, str] | None = None,
    room: float = ROOM,
    lufs: float = LUFS,
    tail_s: float = TAIL_S,
    loop_s: float | None = None,
    soundfont: str | Path | None = None,
) -> dict[str, Audio]:
    """Each track with notes by its name, in its own room sound; arguments and errors as `render`.

    Their sum is the mix at `lufs` before its limiter, so it may pass full scale: save as FLOAT.
    """
    wishes = _wishes(rate, timbres, room, lufs, tail_s, loop_s, soundfont)
    _check(score, longest_s=MAX_SECONDS)
    stems: dict[str, Stereo] = {}
    for track in _playing(score):
        name = score.tracks[track].name or timbre_of(
            score.tracks[track].program, is_drum=score.tracks[track].is_drum
        )
        twins = sum(other == name or other.startswith(f"{name} ") for other in stems)
        sound = np.zeros((2, wishes.samples(score)), np.float32)
        _mix(score, wishes, sound, tracks=[track])
        stems[f"{name} {twins + 1}" if twins else name] = _closed(sound, wishes)
    gain = np.float32(_gain(np.stack(list(stems.values())).sum(axis=0), wishes))
    return {name: Audio(samples=gain * sound, rate=rate) for name, sound in stems.items()}


def stream(
    score: Score,
    *,
    rate: int = 44_100,
    timbres: Mapping[int, str] | None = None,
    room: float = ROOM,
    lufs: float = LUFS,
    tail_s: float = TAIL_S,
    loop_s: float | None = None,
    soundfont: str | Path | None = None,
) -> Iterator[Audio]:
    """The sound of `render` in pieces, for `save_stream`: memory does not grow with length, any length goes.

    Loudness is known only at the end, so the mix waits in a temporary file (0.35 MB a second at 44.1 kHz).
    """
    wishes = _wishes(rate, timbres, room, lufs, tail_s, loop_s, soundfont)
    _check(score, longest_s=math.inf)
    mix = Shelf().empty(2, wishes.samples(score))
    _mix(score, wishes, mix)
    for block in _mastered(_closed(mix, wishes), wishes):
        yield Audio(samples=block, rate=rate)


def _wishes(
    rate: int,
    timbres: Mapping[int, str] | None,
    room: float,
    lufs: float,
    tail_s: float,
    loop_s: float | None,
    soundfont: str | Path | None,
) -> _Wishes:
    return _Wishes(
        rate=rate,
        timbres=dict(timbres or {}),
        room=float(room),
        lufs=float(lufs),
        tail_s=float(tail_s),
        loop_s=None if loop_s is None else float(loop_s),
        soundfont=None if soundfont is None else Path(soundfont),
    )


def _check(score: Score, *, longest_s: float) -> None:
    if not len(score.notes):
        raise InvalidInputError("the score has no notes: there is nothing to play")
    if score.seconds > longest_s:
        raise InvalidInputError(
            f"the score lasts {score.seconds:.0f} s, more than {longest_s:.0f} s at once: use `stream`"
        )


def _playing(score: Score) -> list[int]:
    return np.unique(score.notes["track"]).tolist()


def _mix(score: Score, wishes: _Wishes, mix: np.ndarray, tracks: list[int] | None = None) -> None:
    """Fill `mix` (2, sample) with some tracks, or all, in the room; its very end fades out."""
    tracks = _playing(score) if tracks is None else tracks
    hall = Convolver(room_response(wishes.rate), crossing=_CROSSING)
    wet = np.float32(0.9 * wishes.room)
    at = 0
    with contextlib.ExitStack() as stack:
        if wishes.soundfont is None:
            source = _built_in(score, tracks, wishes)
        else:
            source = stack.enter_context(played_by_soundfont(score, tracks, wishes.soundfont, wishes.rate))
        for count in blocks_of(mix.shape[1], round(_BLOCK_S * wishes.rate)):
            dry = source(count)
            mix[:, at : at + count] = dry + wet * hall(dry) if wet else dry
            put_away(mix[:, at : at + count])
            at += count
    if wishes.loop_s is None:
        last = min(round(min(wishes.tail_s, 1.0) * wishes.rate), mix.shape[1])
        mix[:, mix.shape[1] - last :] *= np.linspace(1.0, 0.0, last, dtype=np.float32) ** 2


def _built_in(score: Score, tracks: list[int], wishes: _Wishes) -> Callable[[int], Stereo]:
    """A function that gives the next samples of these tracks on our instruments, their bodies included."""
    store = SoundStore(wishes.rate)
    parts = [_part(score, track, wishes, store) for track in tracks]
    body = Convolver(body_response(wishes.rate))

    def block(count: int) -> Stereo:
        dry, wide = np.zeros((2, 2, count), np.float32)
        for part in parts:
            sound = part.block(count)
            dry += sound
            wide += np.float32(part.timbre.width) * sound
        return dry + body(wide)

    return block


def _part(score: Score, track: int, wishes: _Wishes, store: SoundStore) -> Part:
    info = score.tracks[track]
    name = timbre_of(info.program, is_drum=info.is_drum)
    if not info.is_drum:
        name = wishes.timbres.get(info.program, name)
    return Part(score, track, TIMBRES[name], store)


def _closed(mix: np.ndarray, wishes: _Wishes) -> np.ndarray:
    """A loop with what rings past its end laid over its beginning; other sound as it is."""
    if wishes.loop_s is None:
        return mix
    length = round(wishes.loop_s * wishes.rate)
    for start in range(length, mix.shape[1], length):
        rest = mix[:, start : start + length]
        mix[:, : rest.shape[1]] += rest
    return mix[:, :length]


def _pieces(mix: np.ndarray, rate: int, gain: float) -> Iterator[Stereo]:
    at = 0
    for count in blocks_of(mix.shape[1], round(_BLOCK_S * rate)):
        yield np.float32(gain) * np.asarray(mix[:, at : at + count])
        put_away(mix[:, at : at + count])
        at += count


def _gain(mix: np.ndarray, wishes: _Wishes) -> float:
    """The factor after which the limited mix has the loudness that was asked for."""
    rate = wishes.rate
    found = integrated_loudness(_pieces(mix, rate, 1.0), rate)
    peak = max(float(np.abs(piece).max()) for piece in _pieces(mix, rate, 1.0))
    if peak == 0.0:
        return 1.0
    if not math.isfinite(found):
        return 0.5 / peak
    decibels = min(wishes.lufs - found, _MOST_GAIN_DB)
    for _ in range(3):  # what the limiter takes away is given back
        gain = 10.0 ** (decibels / 20.0)
        if gain * peak < 0.8:
            break
        missing = wishes.lufs - integrated_loudness(
            limited(_pieces(mix, rate, gain), rate, ceiling_db=_CEILING_DB), rate
        )
        if missing < 0.1:
            break
        decibels = min(decibels + missing, wishes.lufs - found + 6.0)
    return 10.0 ** (decibels / 20.0)


def _mastered(mix: np.ndarray, wishes: _Wishes) -> Iterator[Stereo]:
    pieces = _pieces(mix, wishes.rate, _gain(mix, wishes))
    yield from limited(pieces, wishes.rate, ceiling_db=_CEILING_DB)
