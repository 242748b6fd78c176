"""Music that meets the emotion's keys: the tempo bends a little so that bar lines fall where the emotion turns."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from affetto.conditioning.track import EmotionTrack
from affetto.generators.music.form import MusicPlan

MOST_BEND = 1.25
"""How much faster or slower than planned a stretch may become; a key that would need more falls on a beat or between."""

_MOVED = 0.12  # of VAD: a smaller change of emotion is no turn


@dataclass(frozen=True, kw_only=True)
class KeyHit:
    """How near a turn of the emotion comes to the music."""

    time: float  # seconds
    bar_ms: float  # to the nearest bar line
    beat_ms: float  # to the nearest beat
    beat_s: float  # how long a beat lasts there


def turns(track: EmotionTrack, seconds: float) -> list[float]:
    """The times at which the course of emotion turns: keyframes within `seconds` where it begins or ends to move."""
    times = np.array([key.time for key in track.keyframes if 0.0 < key.time < seconds])
    if not len(times):
        return []
    edge = 0.25
    before, here, after = (
        track.sample(np.clip(times + by, 0.0, seconds)).effective_vad for by in (-edge, 0.0, edge)
    )
    moved = np.maximum(np.linalg.norm(here - before, axis=1), np.linalg.norm(after - here, axis=1))
    bend = np.linalg.norm((after - here) - (here - before), axis=1)
    return [float(t) for t, m, b in zip(times, moved, bend, strict=True) if max(m, b) > _MOVED]


def on_the_bar(plan: MusicPlan, keys: list[float]) -> MusicPlan:
    """The same piece, as long, whose tempo bends so that `keys` (seconds) fall on bar lines, or on beats, where it can.

    Each key in turn claims the nearest bar line, else a beat near it; the lengths of all bars change as little as that
    needs (least squares, in shares), and a claim that would bend any bar too far is given up.
    """
    planned = plan.bar_seconds
    beats = round(plan.beats)
    claims: list[tuple[float, float]] = [
        (float(len(planned)), float(planned.sum()))
    ]  # (bars from the start, seconds)
    lengths = planned
    for key in sorted(keys):
        starts = np.concatenate([[0.0], np.cumsum(lengths)])
        grid = np.arange(len(planned) * beats + 1) / beats
        times = np.interp(grid, np.arange(len(starts)), starts)
        near = grid[np.argsort(np.abs(times - key), kind="stable")[:3]]
        line = float(np.abs(starts - key).argmin())
        for place in (line, *near.tolist()):
            found = _bent(planned, [*claims, (place, key)])
            if 0 < place < len(planned) and found is not None:
                claims.append((place, key))
                lengths = found
                break
    bars = tuple(
        replace(bar, bpm=float(bar.bpm * before / after))
        for bar, before, after in zip(plan.bars, planned, lengths, strict=True)
    )
    return replace(plan, bars=bars)


def _bent(
    planned: Float64[np.ndarray, "bar"], claims: list[tuple[float, float]]
) -> Float64[np.ndarray, "bar"] | None:
    """Lengths of the bars under which each place (bars from the start) comes at its time; None when one bends too far."""
    count = len(planned)
    rows = np.zeros((len(claims), count))
    for row, (place, _) in zip(rows, claims, strict=True):
        whole = int(place)
        row[:whole] = 1.0
        if whole < count:
            row[whole] = place - whole
    missing = np.array([time for _, time in claims]) - rows @ planned
    shares, *_ = np.linalg.lstsq(rows * planned, missing, rcond=None)
    lengths = planned * (1.0 + shares)
    if np.abs(rows @ lengths - [time for _, time in claims]).max() > 1e-6:
        return None  # two claims contradict each other
    bend = lengths / planned
    return lengths if bend.min() >= 1.0 / MOST_BEND and bend.max() <= MOST_BEND else None


def key_hits(plan: MusicPlan, keys: list[float]) -> list[KeyHit]:
    """How near each key comes to bar lines and beats."""
    starts = plan.starts
    found = []
    for key in keys:
        bar = int(np.clip(np.searchsorted(starts, key, side="right") - 1, 0, len(plan.bars) - 1))
        beat_s = 60.0 / plan.bars[bar].bpm
        beats = starts[bar] + beat_s * np.arange(plan.beats + 1)
        found.append(
            KeyHit(
                time=key,
                bar_ms=float(1000 * np.abs(starts - key).min()),
                beat_ms=float(1000 * np.abs(beats - key).min()),
                beat_s=beat_s,
            )
        )
    return found
