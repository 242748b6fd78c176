"""Lip motion from timed phones by rule: dominance coarticulation, articulator dynamics, and hard closures.

Cohen & Massaro 1993 blend phone targets by overlapping dominance functions; JALI (Edwards et al. 2016) adds the two
knobs of jaw and lip activity and the constraints that must hold whatever the blend says.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

from affetto.acting.visemes import (
    CHANNEL_GROUP,
    GROUPS,
    PHONE_DOMINANCE,
    PHONE_TARGETS,
    VISEME_DOMINANCE,
    VISEME_TARGETS,
    Dominance,
)
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.runtime.errors import UsageError
from affetto.speech.phones import SILENCE, VISEME_OF, TimedPhone, closure_windows

_FINE_RATE = 200  # frames per second at which articulators are simulated
_REACH_S = 0.40  # beyond this distance no phone has dominance left
_LIPS, _JAW, _TONGUE = (GROUPS.index(group) for group in ("lips", "jaw", "tongue"))
_NATURAL_RAD_S = {_LIPS: 55.0, _JAW: 38.0, _TONGUE: 55.0}  # critically damped articulators
_PARTING = tuple(
    ARKIT_INDEX[name]
    for name in (
        *("mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight"),
        *("mouthFunnel", "mouthShrugUpper"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Articulation:
    """How a speaker moves: 1 is ordinary, 0 ventriloquy, above 1 over-articulated (JALI's jaw and lip axes)."""

    jaw: float = 1.0
    lip: float = 1.0
    lead_s: float = 0.010  # lips run this far ahead of the sound

    def __post_init__(self) -> None:
        if not (0 <= self.jaw <= 2 and 0 <= self.lip <= 2):
            raise UsageError(f"jaw and lip activity lie in 0..2, got {self.jaw} and {self.lip}")
        if abs(self.lead_s) > 0.2:
            raise UsageError(f"a lead of {self.lead_s} s is out of range: use -0.2..0.2")


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """One target with the stretch of time in which it is held outright."""

    start: float
    end: float
    target: Float[np.ndarray, "52"]
    dominance: Dominance
    scale: float


def viseme_curves(
    phones: Sequence[TimedPhone],
    seconds: float,
    rate: float = 50.0,
    *,
    style: Articulation | None = None,
    energy: Float[np.ndarray, "frame"] | None = None,
) -> Float[np.ndarray, "frame 52"]:
    """Weights 0..1 of the 52 shapes for every frame that begins within `seconds`; only mouth, jaw and tongue move.

    `energy` (0..1, one value for each frame) opens louder vowels wider. Gaps between phones count as silence. Raises
    UsageError for a rate or length that is not positive.
    """
    if seconds <= 0 or rate <= 0:
        raise UsageError(f"curves need a positive length and rate, got {seconds} s at {rate}")
    style = style or Articulation()
    whole = fill_silence(phones, seconds)
    segments = list(_segments(whole))
    times = np.arange(round(seconds * _FINE_RATE) + 1) / _FINE_RATE
    moved = _actuate(_blend(segments, times), style.lead_s)
    if energy is not None and len(energy):
        loud = np.interp(times, np.arange(len(energy)) / rate, energy)
        moved *= (0.85 + 0.30 * np.clip(loud, 0.0, 1.0))[:, None]
    moved[:, CHANNEL_GROUP == _LIPS] *= style.lip
    moved[:, CHANNEL_GROUP == _JAW] *= style.jaw
    _apply_hard_rules(moved, whole, times, style)
    frames = np.arange(int(np.ceil(seconds * rate - 1e-6))) / rate
    position = frames * _FINE_RATE
    low = np.minimum(position.astype(int), len(times) - 1)
    high = np.minimum(low + 1, len(times) - 1)
    share = (position - low)[:, None]
    return np.clip((1 - share) * moved[low] + share * moved[high], 0.0, 1.0).astype(np.float32)


def fill_silence(phones: Sequence[TimedPhone], seconds: float) -> list[TimedPhone]:
    """The phones in order, cut to 0..seconds, with silence put into every gap above 5 ms."""
    filled: list[TimedPhone] = []
    clock = 0.0
    for phone in sorted(phones, key=lambda timed: timed.start):
        start, end = max(phone.start, clock), min(phone.end, seconds)
        if end - start <= 1e-4:
            continue
        if start - clock > 0.005:
            filled.append(TimedPhone(phone=SILENCE, start=clock, end=start))
        else:
            start = clock
        filled.append(dataclasses.replace(phone, start=start, end=end))
        clock = end
    if seconds - clock > 1e-4:
        filled.append(TimedPhone(phone=SILENCE, start=clock, end=seconds))
    return filled


def _segments(phones: Sequence[TimedPhone]) -> Iterator[_Segment]:
    for timed in phones:
        duration = timed.end - timed.start
        scale = 0.92 + 0.20 * min(max(timed.stress, 0.0), 1.0)
        hold = 0.15 if timed.phone == SILENCE else 0.30
        margin = min(hold * duration, 0.12)
        viseme = VISEME_OF[timed.phone]
        rule = PHONE_DOMINANCE.get(timed.phone, VISEME_DOMINANCE[viseme])
        yield _Segment(
            start=timed.start + margin,
            end=timed.end - margin,
            target=PHONE_TARGETS.get(timed.phone, VISEME_TARGETS[viseme]),
            dominance=rule,
            scale=scale if rule.is_vowel else 1.0,
        )


def _blend(segments: Sequence[_Segment], times: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time 52"]:
    """F(t) = sum D T / sum D for each group of articulators, with D = a exp(-theta |t - t_s|)."""
    weighted = np.zeros((len(times), 52))
    total = np.full((len(times), len(GROUPS)), 1e-9)
    for segment in segments:
        first = max(0, int((segment.start - _REACH_S) * _FINE_RATE))
        last = min(len(times), int((segment.end + _REACH_S) * _FINE_RATE) + 2)
        if first >= last:
            continue
        clock = times[first:last]
        before = np.maximum(segment.start - clock, 0.0)[:, None]
        after = np.maximum(clock - segment.end, 0.0)[:, None]
        rule = segment.dominance
        dominance = rule.strength * np.exp(-rule.attack * before - rule.release * after)
        total[first:last] += dominance
        weighted[first:last] += dominance[:, CHANNEL_GROUP] * (segment.scale * segment.target)
    return weighted / total[:, CHANNEL_GROUP]


def _actuate(target: Float[np.ndarray, "time 52"], lead_s: float) -> Float[np.ndarray, "time 52"]:
    """The targets through critically damped second-order articulators, whose mean delay 2/w is taken out."""
    moved = np.zeros_like(target)
    for group, natural in _NATURAL_RAD_S.items():
        channels = group == CHANNEL_GROUP
        advance = round((2.0 / natural + lead_s) * _FINE_RATE)
        decay = np.exp(-natural / _FINE_RATE)
        padded = np.pad(target[:, channels], ((32, max(advance, 0)), (0, 0)), mode="edge")
        # two equal real poles: w^2 / (s + w)^2, step-invariant enough at 200 Hz
        smooth = (
            lfilter([(1 - decay) ** 2], [1, -2 * decay, decay**2], padded - padded[:1], axis=0) + padded[:1]
        )
        moved[:, channels] = smooth[32 + advance :][: len(target)]
    return moved


def window(
    times: Float[np.ndarray, "time"], start: float, end: float, ramp_s: float
) -> Float[np.ndarray, "time"]:
    """1 from `start` to `end`, falling to 0 over `ramp_s` on both sides along a raised cosine."""
    outside = np.maximum(np.maximum(start - times, times - end), 0.0)
    return 0.5 + 0.5 * np.cos(np.pi * np.minimum(outside / ramp_s, 1.0))


def _windows(
    spans: Iterable[tuple[float, float]], times: Float[np.ndarray, "time"], ramp_s: float
) -> Float[np.ndarray, "time"]:
    """The strongest of the windows around all spans (start, end) in seconds."""
    track = np.zeros(len(times))
    for start, end in spans:
        first = max(0, int((start - ramp_s) * _FINE_RATE))
        last = min(len(times), int((end + ramp_s) * _FINE_RATE) + 2)
        if first < last:
            track[first:last] = np.maximum(track[first:last], window(times[first:last], start, end, ramp_s))
    return track


def _held(phones: Sequence[TimedPhone], viseme: str) -> list[tuple[float, float]]:
    """When the constriction of each phone of this viseme is held: released a little before the phone ends."""
    chosen = [timed for timed in phones if VISEME_OF[timed.phone] == viseme]
    return [(timed.start, timed.end - min(0.02, 0.25 * (timed.end - timed.start))) for timed in chosen]


def _apply_hard_rules(
    curves: Float[np.ndarray, "time 52"],
    phones: Sequence[TimedPhone],
    times: Float[np.ndarray, "time"],
    style: Articulation,
) -> None:
    jaw, close, roll_lower, roll_upper = (
        ARKIT_INDEX[name] for name in ("jawOpen", "mouthClose", "mouthRollLower", "mouthRollUpper")
    )
    curves *= (1.0 - _rest(phones, times))[:, None]
    hissing = _windows(_held(phones, "SS"), times, 0.05)
    curves[:, jaw] -= hissing * np.maximum(curves[:, jaw] - 0.10, 0.0)
    biting = _windows(_held(phones, "FF"), times, 0.05)
    curves[:, jaw] -= biting * np.maximum(curves[:, jaw] - 0.09, 0.0)
    floor = 0.35 * min(style.lip, 1.0)
    curves[:, roll_lower] = np.maximum(curves[:, roll_lower], floor * biting)
    touching = [(start, max(start, end - 0.008)) for start, end in closure_windows(phones)]
    near = _windows(touching, times, 0.08)
    curves[:, jaw] -= near * np.maximum(curves[:, jaw] - 0.16, 0.0)
    shut = _windows(touching, times, 0.05)
    curves[:, _PARTING] *= (1.0 - shut)[:, None]
    curves[:, close] = (1.0 - shut) * curves[:, close] + shut * curves[:, jaw]
    for name, value in (("mouthPressLeft", 0.3), ("mouthPressRight", 0.3)):
        curves[:, ARKIT_INDEX[name]] = np.maximum(curves[:, ARKIT_INDEX[name]], value * shut)
    for channel in (roll_lower, roll_upper):
        curves[:, channel] = np.maximum(curves[:, channel], 0.2 * shut)


def _rest(phones: Sequence[TimedPhone], times: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time"]:
    """1 where a long pause has brought the mouth to rest: 250 ms after it begins, until 120 ms before it ends."""
    rest = np.zeros(len(times))
    for timed in phones:
        if timed.phone != SILENCE or timed.end - timed.start < 0.2:
            continue
        first, last = int(timed.start * _FINE_RATE), int(timed.end * _FINE_RATE) + 1
        clock = times[first:last]
        fall = 1.0 if timed.start <= 0 else np.clip((clock - timed.start) / 0.25, 0.0, 1.0)
        rise = 1.0 if timed.end >= times[-1] else np.clip((timed.end - clock) / 0.12, 0.0, 1.0)
        share = np.minimum(fall, rise) * np.ones(len(clock))
        rest[first:last] = np.maximum(rest[first:last], share * share * (3 - 2 * share))
    return rest
