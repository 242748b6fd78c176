"""The built-in instruments and which General MIDI program plays on which."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32

from affetto.generators.music.synth.drums import LONGEST_S, drum
from affetto.generators.music.synth.held import Held, sing
from affetto.generators.music.synth.piano import piano, piano_release
from affetto.generators.music.synth.struck import Bar, Plucked, pluck, strike

Sound = Callable[[int, float, int, int], Float32[np.ndarray, "sample"]]
"""(pitch, force 0..1, samples, rate) -> the note left to itself; more samples begin with the same samples."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Timbre:
    """One instrument: the sound of a note, how it ends, and where it stands."""

    name: str
    sound: Sound
    release: Callable[[int], float]  # time constant in seconds after the key is left; inf: rings on
    level_db: float = 0.0
    longest_s: float = 8.0  # no note rings or is held longer in one go
    held: bool = False  # a longer note begins anew, as a bow turns; else it has died away
    pan: float = 0.0  # -1 left .. 1 right
    spread: float = 0.0  # how far low notes lie left and high ones right
    width: float = 0.0  # level of the diffuse sound of body or section
    sympathetic: bool = False  # other strings sound along while the pedal is down


def _constant(seconds: float) -> Callable[[int], float]:
    return lambda _: seconds


def _falling(at_middle_c: float) -> Callable[[int], float]:
    """Dampers and fingers silence short strings sooner."""
    return lambda pitch: at_middle_c * 2.0 ** (-(pitch - 60) / 24.0)


def _plucked(
    name: str, string: Plucked, *, release: float = 0.07, level: float = 0.0, pan: float = 0.0
) -> Timbre:
    return Timbre(
        name=name,
        sound=partial(pluck, string),
        release=_falling(release),
        level_db=level,
        pan=pan,
        width=0.12,
    )


def _struck(name: str, bar: Bar, *, release: float, level: float, pan: float = 0.0) -> Timbre:
    ends = _constant(release)
    return Timbre(name=name, sound=partial(strike, bar), release=ends, level_db=level, pan=pan, spread=0.25)


def _sung(
    name: str, held: Held, *, release: float = 0.08, level: float = 0.0, pan: float = 0.0, width: float = 0.1
) -> Timbre:
    return Timbre(
        name=name,
        sound=partial(sing, held),
        release=_constant(release),
        level_db=level,
        longest_s=10.0,
        held=True,
        pan=pan,
        width=width,
    )


_GUITAR_BODY = ((105.0, 5.0), (205.0, 4.0), (400.0, 2.0), (2_600.0, 2.0))
_FREE, _TUNED, _BELL = (
    (1.0, 2.756, 5.404, 8.933),
    (1.0, 3.984, 10.67),
    (0.5, 1.0, 1.183, 1.506, 2.0, 2.51, 3.01),
)


def _bar(
    ratios: tuple[float, ...], levels: tuple[float, ...], seconds: tuple[float, ...], **more: float
) -> Bar:
    return Bar(partials=tuple(zip(ratios, levels, seconds, strict=True)), **more)


_ALL = (
    Timbre(
        name="piano",
        sound=piano,
        release=piano_release,
        longest_s=16.0,
        spread=0.55,
        width=0.3,
        sympathetic=True,
    ),
    _struck(
        "electric-piano",
        _bar(
            (1.0, 2.0, 3.0, 7.1), (1.0, 0.28, 0.06, 0.1), (5.0, 3.0, 1.6, 0.35), hardness=0.35, tremolo_hz=4.6
        ),
        release=0.08,
        level=-1.0,
    ),
    _plucked(
        "harpsichord", Plucked(place=0.11, edge_hz=6_500.0, loss=1.1, noise=0.1), release=0.05, level=-3.0
    ),
    _struck(
        "celesta",
        _bar(_TUNED, (1.0, 0.14, 0.04), (2.6, 0.7, 0.25), hardness=0.8, shortening=0.04),
        release=0.25,
        level=-3.0,
        pan=0.15,
    ),
    _struck(
        "music-box",
        _bar(
            (1.0, 2.0, 5.95, 11.2),
            (1.0, 0.05, 0.2, 0.05),
            (2.4, 1.2, 0.5, 0.15),
            shortening=0.025,
            knock=0.08,
        ),
        release=math.inf,
        level=-3.0,
        pan=0.1,
    ),
    _struck(
        "glockenspiel", _bar(_FREE, (1.0, 0.3, 0.12, 0.05), (4.0, 1.4, 0.6, 0.3)), release=1.0, level=-6.0
    ),
    _struck(
        "vibraphone",
        _bar(_TUNED, (1.0, 0.12, 0.02), (6.0, 1.2, 0.3), hardness=0.5, tremolo_hz=5.2),
        release=0.15,
        level=-3.0,
    ),
    _struck(
        "marimba",
        _bar(_TUNED, (1.0, 0.2, 0.08), (0.9, 0.2, 0.07), hardness=0.4, shortening=0.045),
        release=0.5,
        level=0.0,
    ),
    _struck(
        "bells",
        _bar(
            _BELL,
            (0.4, 1.0, 0.5, 0.4, 0.7, 0.3, 0.25),
            (9.0, 6.0, 4.0, 3.0, 2.4, 1.6, 1.0),
            shimmer_cents=3.0,
        ),
        release=1.5,
        level=-5.0,
    ),
    _plucked("guitar", Plucked(body=_GUITAR_BODY), pan=-0.2),
    _plucked("muted-guitar", Plucked(body=_GUITAR_BODY, loss=9.0, bending_loss=0.2), pan=-0.2),
    _plucked("harp", Plucked(place=0.4, edge_hz=1_700.0, loss=1.0, noise=0.03), release=0.6, pan=0.2),
    _plucked(
        "pizzicato", Plucked(place=0.15, edge_hz=1_500.0, loss=7.0, bending_loss=0.4, noise=0.08), pan=0.1
    ),
    _plucked(
        "bass",
        Plucked(
            place=0.16,
            edge_hz=650.0,
            loss=2.2,
            bending_loss=0.06,
            noise=0.04,
            body=((98.0, 3.0), (205.0, 2.0)),
        ),
        level=2.0,
    ),
    _sung(
        "organ", Held(attack_s=0.012, opening_s=0.02, knee_hz=700.0, slope_db=11.0, soft_db=1.0), level=-9.0
    ),
    _sung(
        "violin",
        Held(
            attack_s=0.05,
            opening_s=0.09,
            knee_hz=900.0,
            slope_db=10.5,
            formants=((280.0, 3.0, 0.3), (480.0, 3.0, 0.3), (1_150.0, -3.0, 0.4), (2_600.0, 5.0, 0.6)),
            vibrato_cents=16.0,
            vibrato_hz=5.6,
            drift_cents=3.0,
            breath=0.006,
        ),
        release=0.1,
        level=-5.0,
        pan=0.12,
    ),
    _sung(
        "strings",
        Held(
            attack_s=0.14,
            opening_s=0.25,
            knee_hz=650.0,
            slope_db=11.0,
            formants=((300.0, 2.0, 0.5), (2_400.0, 3.0, 0.8)),
            vibrato_cents=9.0,
            vibrato_hz=5.2,
            drift_cents=4.0,
            breath=0.006,
            voices=4,
            spread_cents=7.0,
        ),
        release=0.22,
        level=-6.0,
        pan=-0.1,
        width=0.7,
    ),
    _sung(
        "pad",
        Held(
            attack_s=0.4,
            opening_s=1.2,
            knee_hz=420.0,
            slope_db=12.0,
            soft_db=4.0,
            vibrato_cents=4.0,
            vibrato_hz=4.2,
            drift_cents=4.0,
            voices=3,
            spread_cents=8.0,
        ),
        release=0.5,
        level=-5.0,
        width=0.8,
    ),
    _sung(
        "choir",
        Held(
            attack_s=0.18,
            opening_s=0.3,
            knee_hz=400.0,
            slope_db=13.0,
            formants=((620.0, 9.0, 0.35), (1_080.0, 8.0, 0.3), (2_700.0, 9.0, 0.3)),
            vibrato_cents=18.0,
            vibrato_hz=5.1,
            drift_cents=6.0,
            breath=0.02,
            voices=4,
            spread_cents=9.0,
        ),
        release=0.25,
        level=-5.0,
        width=0.7,
    ),
    _sung(
        "trumpet",
        Held(
            attack_s=0.03,
            opening_s=0.07,
            knee_hz=1_100.0,
            slope_db=11.0,
            soft_db=9.0,
            formants=((1_300.0, 3.0, 0.6),),
            vibrato_cents=6.0,
            vibrato_after_s=0.6,
            breath=0.004,
        ),
        release=0.05,
        level=-6.0,
        pan=0.15,
    ),
    _sung(
        "horn",
        Held(
            attack_s=0.06,
            opening_s=0.12,
            knee_hz=450.0,
            slope_db=13.0,
            soft_db=8.0,
            formants=((450.0, 3.0, 0.6),),
            breath=0.005,
        ),
        release=0.08,
        level=-5.0,
        pan=-0.15,
    ),
    _sung(
        "clarinet",
        Held(
            attack_s=0.035,
            opening_s=0.06,
            knee_hz=800.0,
            slope_db=12.0,
            even=0.12,
            formants=((1_500.0, 3.0, 0.5),),
            vibrato_cents=2.0,
            breath=0.005,
        ),
        release=0.05,
        level=-5.0,
        pan=0.1,
    ),
    _sung(
        "oboe",
        Held(
            attack_s=0.03,
            opening_s=0.05,
            knee_hz=1_000.0,
            slope_db=12.0,
            formants=((1_050.0, 6.0, 0.4), (2_900.0, 5.0, 0.4)),
            vibrato_cents=9.0,
            breath=0.004,
        ),
        release=0.05,
        level=-6.0,
        pan=0.1,
    ),
    _sung(
        "flute",
        Held(
            attack_s=0.05,
            opening_s=0.09,
            knee_hz=600.0,
            slope_db=15.0,
            soft_db=7.0,
            vibrato_cents=9.0,
            vibrato_hz=5.0,
            drift_cents=3.0,
            breath=0.03,
        ),
        release=0.07,
        level=-4.0,
        pan=0.12,
    ),
    Timbre(
        name="drums", sound=drum, release=_constant(math.inf), level_db=-2.0, longest_s=LONGEST_S, width=0.1
    ),
)
TIMBRES: Mapping[str, Timbre] = MappingProxyType({timbre.name: timbre for timbre in _ALL})
"""Every instrument by name."""

_PROGRAMS = (  # (first program, name)
    (0, "piano"), (4, "electric-piano"), (6, "harpsichord"), (8, "celesta"), (9, "glockenspiel"), (10, "music-box"),
    (11, "vibraphone"), (12, "marimba"), (14, "bells"), (15, "harp"), (16, "organ"), (24, "guitar"),
    (28, "muted-guitar"), (29, "guitar"), (32, "bass"), (40, "violin"), (44, "strings"), (45, "pizzicato"),
    (46, "harp"), (47, "marimba"), (48, "strings"), (52, "choir"), (55, "strings"), (56, "trumpet"), (57, "horn"),
    (59, "trumpet"), (60, "horn"), (61, "trumpet"), (64, "clarinet"), (65, "oboe"), (70, "clarinet"), (72, "flute"),
    (80, "clarinet"), (81, "violin"), (82, "flute"), (84, "guitar"), (85, "choir"), (86, "violin"), (87, "bass"),
    (88, "pad"), (104, "guitar"), (107, "harp"), (108, "marimba"), (109, "oboe"), (110, "violin"), (111, "oboe"),
    (112, "glockenspiel"), (113, "marimba"), (117, "marimba"), (119, "pad"),
)  # fmt: skip


def timbre_of(program: int, *, is_drum: bool) -> str:
    """The name of the instrument for a General MIDI program 0..127, or for the drum channel."""
    return "drums" if is_drum else next(name for first, name in reversed(_PROGRAMS) if program >= first)
