"""How long notes sound: as a pianist lets them ring, then so that the mode of every bar comes to the valence asked for."""

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.ndimage import correlate1d

from affetto.generators.music.form import MusicPlan, valence_at
from affetto.media.music import mode_valence
from affetto.tokenizers.attributes import KEY_NEAR

_RING = (0.75, 0.3)  # of the way a note may ring on: at no arousal, and less for each unit of it
_TRIED = 0.1  # of all that sounds in a bar, how much longer a pitch class is tried out
_BASS_BELOW = 53  # MIDI in C; the bass is never cut short
_CUT = 0.5  # of the length that was written, the shortest an accompanying note gets
_WAYS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # from cut short, over how it rings by itself, to as far as it may ring
_UNLIKE = 0.1  # cost of going all the way, in units of the formula's valence
_GAIN = 0.01  # what a change must be worth
_ROUNDS, _CHANGES = 3, 6  # over the piece, and for each bar within a round
_NEAR_BARS = len(KEY_NEAR) // 2


def held(rows: Float64[np.ndarray, "note 6"], plan: MusicPlan) -> Float64[np.ndarray, "note 6"]:
    """The notes (`note_rows`) as long as a pianist lets them ring: on towards the next note of the tune, or the next chord.

    The calmer a bar, the more of that way; songs are learned from notes as they were written down, which are shorter.
    Tones that bring the mode nearer to the valence of their bar go further, those that do not less.
    A note never reaches its own pitch again, nor lasts longer than a bar.
    """
    rows = rows.copy()
    tune = rows[:, 4] > 0
    arousal = np.array([bar.vad[1] for bar in plan.bars])[rows[:, 5].astype(np.int64)]
    share = np.clip(
        (_RING[0] - _RING[1] * arousal) * (1.0 + np.where(tune, 1.0, 2.0) * _colour(rows, plan)), 0.0, 1.0
    )
    rows[:, 1] += np.round(share * (_longest(rows, plan) - rows[:, 1]))
    return rows


def coloured(
    rows: Float64[np.ndarray, "note 6"], plan: MusicPlan, wanted: Float64[np.ndarray, "bar"]
) -> Float64[np.ndarray, "note 6"]:
    """The notes (`note_rows`) rung as `held`, then longer or shorter so that `mode_valence` of each bar nears `wanted`.

    In every bar the tones of one pitch class, those of the tune apart, change together: what argues for the mode rings as
    far as it may, what argues against it is damped earlier, down to half of what was written; the tune and the bass never
    below it. No pitch or onset moves, and a final chord stays. The change that helps most comes first, bar by bar.
    """
    bar, classes = rows[:, 5].astype(np.int64), rows[:, 2].astype(np.int64) % 12
    tune = (rows[:, 4] > 0).astype(np.int64)
    count = len(plan.bars)
    unit = (bar * 12 + classes) * 2 + tune
    lengths = _lengths(rows, plan)

    def summed(values: np.ndarray) -> Float64[np.ndarray, "bar 12 2"]:
        return np.bincount(unit, values, minlength=24 * count).reshape(count, 12, 2)

    heard = np.stack([summed(each) for each in lengths])
    way = np.full((count, 12, 2), _WAYS.index(0.0))
    near = correlate1d(heard[_WAYS.index(0.0)].sum(axis=-1), KEY_NEAR, axis=0, mode="constant")
    present = summed(np.ones(len(rows))) > 0
    for _ in range(_ROUNDS):
        if not sum(_recolour(index, near, heard, way, present[index], wanted) for index in range(count)):
            break
    rows = rows.copy()
    rows[:, 1] = lengths[way[bar, classes, tune], np.arange(len(rows))]
    return rows


def _recolour(
    index: int,
    near: Float64[np.ndarray, "bar 12"],
    heard: Float64[np.ndarray, "way bar 12 2"],
    way: Int64[np.ndarray, "bar 12 2"],
    present: Bool[np.ndarray, "12 2"],
    wanted: Float64[np.ndarray, "bar"],
) -> int:
    """Change lengths of one bar, in `way` and `near`, while that brings it and its neighbours nearer; how many changed."""
    first, last = max(index - _NEAR_BARS, 0), min(index + _NEAR_BARS + 1, len(near))
    weight = KEY_NEAR[first - index + _NEAR_BARS : last - index + _NEAR_BARS]
    tones, voices = np.nonzero(present)
    each, effort = np.arange(len(tones)), _UNLIKE * np.abs(_WAYS)
    for change in range(_CHANGES if len(tones) else 0):
        here = near[first:last]
        now = way[index, tones, voices]
        longer = heard[:, index, tones, voices] - heard[now, index, tones, voices]
        tried = np.tile(here, (len(_WAYS), len(tones), 1, 1))
        tried[:, each, :, tones] += (longer[..., None] * weight).transpose(1, 0, 2)
        missed = np.abs(mode_valence(tried) - wanted[first:last]) @ weight
        cost = missed + effort[:, None] - effort[now]
        to, tone = np.unravel_index(cost.argmin(), cost.shape)
        if cost[to, tone] > np.abs(mode_valence(here) - wanted[first:last]) @ weight - _GAIN:
            return change
        here[:, tones[tone]] += longer[to, tone] * weight
        way[index, tones[tone], voices[tone]] = to
    return _CHANGES if len(tones) else 0


def _lengths(rows: Float64[np.ndarray, "note 6"], plan: MusicPlan) -> Float64[np.ndarray, "way note"]:
    """How long each note lasts, sixteenths, when it goes each of `_WAYS`."""
    usual, most = held(rows, plan)[:, 1], _longest(rows, plan)
    spared = (rows[:, 4] > 0) | (rows[:, 2] + plan.shift < _BASS_BELOW)
    least = np.minimum(np.where(spared, rows[:, 1], np.maximum(np.round(_CUT * rows[:, 1]), 1.0)), usual)
    if plan.ending == "cadence":
        final = rows[:, 5] == len(plan.bars) - 1
        least, most = np.where(final, usual, least), np.where(final, usual, most)
    return np.stack([np.round(usual + abs(way) * ((least if way < 0 else most) - usual)) for way in _WAYS])


def _longest(rows: Float64[np.ndarray, "note 6"], plan: MusicPlan) -> Float64[np.ndarray, "note"]:
    """How long each note may ring, sixteenths: to the next chord or note of the tune, its own pitch again, or for a bar."""
    start, pitch, tune = rows[:, 0], rows[:, 2], rows[:, 4] > 0
    end = float(len(plan.bars) * plan.steps)
    changes = np.append(_chord_changes(plan), end)
    limit = changes[np.searchsorted(changes, start, side="right").clip(max=len(changes) - 1)]
    limit[tune] = np.append(start[tune][1:], end)
    limit = np.minimum(limit, start + np.maximum(plan.steps, rows[:, 1]))
    again = np.lexsort((start, pitch))
    same = np.append(np.diff(pitch[again]) == 0, False)
    limit[again] = np.where(same, np.minimum(limit[again], np.append(start[again][1:], end)), limit[again])
    return np.maximum(limit - start, rows[:, 1])


def _colour(rows: Float64[np.ndarray, "note 6"], plan: MusicPlan) -> Float64[np.ndarray, "note"]:
    """For each note, -1..1, how much its pitch class, ringing on, brings the mode of its bar to the valence asked for."""
    bar, classes = rows[:, 5].astype(np.int64), rows[:, 2].astype(np.int64) % 12
    count = len(plan.bars)
    heard = np.bincount(bar * 12 + classes, rows[:, 1], minlength=12 * count).reshape(count, 12)
    near = correlate1d(heard, KEY_NEAR, axis=0, mode="constant")
    tried = near[:, None] + np.eye(12) * (_TRIED * near.sum(axis=1))[:, None, None]
    wanted = valence_at(np.array([each.faders.get("mode", 4.0) for each in plan.bars]))
    missed = np.abs(mode_valence(tried) - wanted[:, None])
    better = np.abs(mode_valence(near) - wanted)[:, None] - missed
    most = np.maximum(np.abs(better).max(axis=1, keepdims=True), 1e-6)
    return (better / most)[bar, classes]


def _chord_changes(plan: MusicPlan) -> Float64[np.ndarray, "change"]:
    """The sixteenths at which another chord begins."""
    chords = [chord for bar in plan.bars for chord in bar.chords]
    slot = plan.steps / 4
    return np.array([i * slot for i, chord in enumerate(chords) if i == 0 or chord != chords[i - 1]], float)
