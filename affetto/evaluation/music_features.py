"""What the critic hears in a piece: some eighty numbers about dynamics, time, pitch and harmony.

The composer is conditioned on the formula of `media.music`, which reads eight of them (`FORMULA`). They are listed apart so
that a second critic can do without.
"""

import numpy as np
from jaxtyping import Float, Float64, Int64

from affetto.evaluation.music_metrics import class_entropy, entropy, groove_consistency, onset_grid, polyphony
from affetto.media.midi import Score
from affetto.media.music import ATTRIBUTES, attributes_of, key_correlations
from affetto.tokenizers.vocabulary import STEPS_PER_BEAT

FORMULA = tuple(f"formula {name}" for name in ATTRIBUTES)
"""Features that the composer's conditioning reads too."""

_TRIADS = np.zeros((24, 12))
for _root in range(12):
    _TRIADS[_root, [_root, (_root + 4) % 12, (_root + 7) % 12]] = 3**-0.5
    _TRIADS[12 + _root, [_root, (_root + 3) % 12, (_root + 7) % 12]] = 3**-0.5

Named = dict[str, float]


def features(score: Score) -> Named:
    """All features of a piece of at least two notes, by name, always in the same order."""
    score = score.pitched()
    timed = score.timed_notes()
    assert len(timed) > 1, "a piece for the critic has notes"
    found = attributes_of(timed)
    assert found is not None
    shared = {f"formula {name}": float(getattr(found, name)) for name in ATTRIBUTES}
    return {
        **shared,
        **_dynamics(score, timed),
        **_time(score, timed),
        **_lengths(score, timed),
        **_pitches(timed),
        **_lines(timed),
        **_harmony(score, timed),
    }


def feature_table(scores: list[Score]) -> tuple[tuple[str, ...], Float64[np.ndarray, "clip feature"]]:
    """The names and the features of each piece as a row."""
    rows = [features(score) for score in scores]
    return tuple(rows[0]), np.array([list(row.values()) for row in rows], np.float64)


def _onsets(start: Float[np.ndarray, "note"]) -> tuple[np.ndarray, Int64[np.ndarray, "note"]]:
    """The different moments at which notes begin, and which of them each note has."""
    times, group = np.unique(np.round(start, 3), return_inverse=True)
    return times, group.astype(np.int64)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _mean(values: np.ndarray, otherwise: float = 0.0) -> float:
    return float(values.mean()) if len(values) else otherwise


def _dynamics(score: Score, timed: Float64[np.ndarray, "note 4"]) -> Named:
    velocity, pitch = timed[:, 3], timed[:, 2]
    place = np.round(score.notes["start"] * STEPS_PER_BEAT).astype(np.int64)
    on_beat = place % STEPS_PER_BEAT == 0
    _, group = _onsets(timed[:, 0])
    loudest = np.zeros(int(group.max()) + 1)
    np.maximum.at(loudest, group, velocity)
    high = pitch > np.median(pitch)
    return {
        "velocity mean": _mean(velocity),
        "velocity median": float(np.median(velocity)),
        "velocity 90th": float(np.percentile(velocity, 90)),
        "velocity deviation": float(velocity.std()),
        "velocity step": _mean(np.abs(np.diff(loudest))),
        "accent of beats": _mean(velocity[on_beat]) - _mean(velocity[~on_beat], _mean(velocity[on_beat])),
        "treble over bass": _mean(velocity[high]) - _mean(velocity[~high]) if high.any() else 0.0,
        "velocity with pitch": _correlation(velocity, pitch),
        "velocity with time": _correlation(velocity, timed[:, 0]),
    }


def _time(score: Score, timed: Float64[np.ndarray, "note 4"]) -> Named:
    times, group = _onsets(timed[:, 0])
    span = max(float((timed[:, 0] + timed[:, 1]).max() - timed[0, 0]), 0.5)
    gaps = np.diff(times) if len(times) > 1 else np.array([span])
    grid = onset_grid(score)
    hits = grid.reshape(-1, 4).mean(axis=0)
    together = np.bincount(group)
    bars = np.bincount((timed[:, 0] // 2.0).astype(np.int64))
    beats = max(score.beats, 1.0)
    return {
        "onsets a second": len(times) / span,
        "onsets a beat": len(times) / beats,
        "notes a beat": len(timed) / beats,
        "tempo": 60.0 * beats / max(score.seconds, 0.5),
        "gap mean": float(gaps.mean()),
        "gap deviation": float(gaps.std()),
        "gap median, ln": float(np.log(np.median(gaps))),
        "gap entropy": entropy(np.bincount(np.minimum(np.round(gaps * 8), 16).astype(np.int64)) + 0.0),
        "short gaps": float((gaps < 0.16).mean()),
        "sixteenths filled": float(grid.mean()),
        "on the beat": float(hits[0]),
        "on the half beat": float(hits[2]),
        "on other sixteenths": float(hits[[1, 3]].mean()),
        "groove": groove_consistency(score),
        "notes at once": float(together.mean()),
        "single notes": float((together == 1).mean()),
        "full chords": float((together >= 4).mean()),
        "unevenness": float(bars.std() / max(bars.mean(), 1e-9)),
    }


def _lengths(score: Score, timed: Float64[np.ndarray, "note 4"]) -> Named:
    seconds, beats = timed[:, 1], score.notes["duration"]
    return {
        "length median": float(np.median(seconds)),
        "length deviation": float(seconds.std()),
        "length in beats": float(beats.mean()),
        "length in beats, deviation": float(beats.std()),
        "short notes": float((seconds < 0.25).mean()),
        "long notes": float((seconds > 1.0).mean()),
        "short in beats": float((beats <= 0.25).mean()),
        "long in beats": float((beats >= 2.0).mean()),
        "polyphony": polyphony(timed[:, 0], timed[:, 0] + seconds),
    }


def _pitches(timed: Float64[np.ndarray, "note 4"]) -> Named:
    pitch = timed[:, 2]
    centred = (pitch - pitch.mean()) / max(float(pitch.std()), 1e-6)
    return {
        "pitch mean": float(pitch.mean()),
        "pitch range": float(np.ptp(pitch)),
        "pitch skew": float((centred**3).mean()),
        "pitch 5th": float(np.percentile(pitch, 5)),
        "pitch 95th": float(np.percentile(pitch, 95)),
        "below 48": float((pitch < 48).mean()),
        "48 to 60": float(((pitch >= 48) & (pitch < 60)).mean()),
        "60 to 72": float(((pitch >= 60) & (pitch < 72)).mean()),
        "above 84": float((pitch >= 84).mean()),
        "pitches used": float(len(np.unique(pitch))),
    }


def _lines(timed: Float64[np.ndarray, "note 4"]) -> Named:
    times, group = _onsets(timed[:, 0])
    top, bass = np.full(len(times), -1.0), np.full(len(times), 999.0)
    np.maximum.at(top, group, timed[:, 2])
    np.minimum.at(bass, group, timed[:, 2])
    moves = np.diff(top)
    size = np.abs(moves)
    moving = moves[size > 0]
    return {
        "top mean": float(top.mean()),
        "top deviation": float(top.std()),
        "bass mean": float(bass.mean()),
        "bass deviation": float(bass.std()),
        "chord width": float((top - bass).mean()),
        "move": _mean(size),
        "repeated": _mean((size == 0).astype(np.float64)),
        "steps": _mean(((size > 0) & (size <= 2)).astype(np.float64)),
        "leaps": _mean((size > 7).astype(np.float64)),
        "upward": _mean((moving > 0).astype(np.float64), 0.5),
        "bass move": _mean(np.abs(np.diff(bass))),
    }


def _harmony(score: Score, timed: Float64[np.ndarray, "note 4"]) -> Named:
    classes = timed[:, 2].astype(np.int64) % 12
    sounding = np.bincount(classes, weights=timed[:, 1] + 1e-6, minlength=12)
    key = int(key_correlations(sounding).argmax())
    degrees = np.roll(sounding, -(key % 12)) / sounding.sum()
    bass_tonic = _bass_tonic(timed)
    minor, major = degrees_above(sounding, bass_tonic)
    triads = _triads(score)
    intervals = _interval_classes(timed[:, 0], classes)
    return {
        **{f"degree {index}": float(value) for index, value in enumerate(degrees) if index},
        "thirds above the bass": major - minor,
        "major triads": float(triads[:12].sum()),
        "minor triads": float(triads[12:].sum()),
        **{f"interval class {index + 1}": float(value) for index, value in enumerate(intervals)},
        "class entropy": entropy(np.bincount(classes, minlength=12) + 0.0),
        "H1": class_entropy(score, bars=1),
        "H4": class_entropy(score, bars=4),
    }


def _bass_tonic(timed: Float64[np.ndarray, "note 4"]) -> int:
    """The pitch class that sounds longest among the low notes."""
    low = timed[timed[:, 2] <= np.percentile(timed[:, 2], 30)]
    return int(np.bincount(low[:, 2].astype(np.int64) % 12, weights=low[:, 1], minlength=12).argmax())


def degrees_above(sounding: Float[np.ndarray, "12"], root: int) -> tuple[float, float]:
    """The shares of the minor and of the major third above a pitch class."""
    total = max(float(sounding.sum()), 1e-9)
    return float(sounding[(root + 3) % 12]) / total, float(sounding[(root + 4) % 12]) / total


def _triads(score: Score) -> Float64[np.ndarray, "24"]:
    """The share of half bars whose notes are nearest to each major and minor triad."""
    notes = score.notes
    half = (notes["start"] // 2.0).astype(np.int64)
    table = np.zeros((int(half.max(initial=0)) + 1, 12))
    np.add.at(table, (half, notes["pitch"].astype(np.int64) % 12), notes["duration"])
    table = table[table.sum(axis=1) > 0]
    best = (table @ _TRIADS.T).argmax(axis=1)
    return np.bincount(best, minlength=24) / max(len(best), 1)


def _interval_classes(
    start: Float[np.ndarray, "note"], classes: Int64[np.ndarray, "note"]
) -> Float64[np.ndarray, "6"]:
    """The share of each interval class, a semitone to a tritone, among notes that begin together."""
    times, group = _onsets(start)
    present = np.zeros((len(times), 12))
    present[group, classes] = 1.0
    counts = np.array(
        [(present * np.roll(present, -size, axis=1)).sum() for size in range(1, 7)], dtype=np.float64
    )
    counts[5] /= 2.0  # a tritone is met from both sides
    return counts / max(float(counts.sum()), 1.0)
