"""From words to a score: a pianist, or a small ensemble that shares the same notes; tempo map, markers, controllers, pedal."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from affetto.generators.music.compose import Composition, note_rows
from affetto.generators.music.form import MusicPlan
from affetto.generators.music.ringing import held
from affetto.media.midi import CONTROL, SUSTAIN, Score, TrackInfo, note_array

ENSEMBLES = ("piano", "ensemble")
VALENCE_CONTROL, AROUSAL_CONTROL, DOMINANCE_CONTROL = 20, 21, 22
_BASS_BELOW = 53  # MIDI; lower notes of the accompaniment belong to the bass
_LEADS = ((-0.15, 0.2, 71), (-0.15, 9.0, 40), (9.0, 0.35, 73), (9.0, 9.0, 56))
"""(valence up to, arousal up to, program): clarinet, violin, flute, trumpet; the first that fits leads."""
_KICK, _SNARE, _HAT, _RIDE, _STICK = 36, 38, 42, 51, 37
_PEDAL_UP_S = 0.06
_CALM = 0.55  # arousal above which the pianist leaves the pedal alone


def score_of(composition: Composition, plan: MusicPlan, *, ensemble: str = "piano") -> Score:
    """The score of composed words in the key and tempo of their plan."""
    rows = played_rows(composition, plan)
    parts = _piano(rows) if ensemble == "piano" else _ensemble(rows, plan)
    notes = [
        (start / 4.0, length / 4.0, int(pitch), int(velocity), track)
        for track, (_, part) in enumerate(parts)
        for start, length, pitch, velocity in part.tolist()
    ]
    controls = _feeling_controls(plan)
    pedalled = 0 if ensemble == "piano" else 1
    controls += _pedal(plan, pedalled)
    return Score(
        notes=note_array(notes),
        tracks=tuple(info for info, _ in parts),
        tempos=_tempos(plan),
        meters=((0.0, plan.steps // 4, 4),),
        markers=_markers(plan),
        controls=np.array(sorted(controls), CONTROL),
    )


def played_rows(composition: Composition, plan: MusicPlan) -> Float64[np.ndarray, "note 6"]:
    """The notes of `note_rows` at the pitch and as long as they sound."""
    rows = note_rows(composition.bars, plan.steps)
    if composition.lengths is None:
        rows = held(rows, plan)
    else:
        rows[:, 1] = composition.lengths
    rows[:, 2] += plan.shift
    return rows


Part = tuple[TrackInfo, np.ndarray]
"""A track and its notes: start and length in sixteenths, pitch, velocity."""


def _piano(rows: Float64[np.ndarray, "note 6"]) -> list[Part]:
    return [(TrackInfo(name="Piano", program=0), rows[:, :4])]


def _ensemble(rows: Float64[np.ndarray, "note 6"], plan: MusicPlan) -> list[Part]:
    """Tune, chords, bass and light drums; every note is played once."""
    valence, arousal = (float(np.mean([bar.vad[axis] for bar in plan.bars])) for axis in (0, 1))
    program = next(p for v, a, p in _LEADS if valence <= v and arousal <= a)
    tune = rows[:, 4] > 0
    starts = rows[:, 0]
    lowest = np.ones(
        len(rows), bool
    )  # rows come by start, the highest first: the last of a start is its lowest
    lowest[:-1] = np.diff(starts) > 0
    bass = ~tune & lowest & (rows[:, 2] < _BASS_BELOW)
    lead = rows[tune][:, :4].copy()
    lead[:, 3] = np.minimum(lead[:, 3] + 6, 124)
    parts = [
        (TrackInfo(name="Melody", program=program), lead),
        (TrackInfo(name="Chords", program=0 if arousal > -0.3 else 48), rows[~tune & ~bass][:, :4]),
        (TrackInfo(name="Bass", program=32 if arousal < 0.4 else 33), _one_voice(rows[bass][:, :4])),
    ]
    drums = np.array([hit for index in range(len(plan.bars)) for hit in _drums(plan, index)], np.float64)
    parts.append((TrackInfo(name="Drums", is_drum=True), drums.reshape(-1, 4)))
    return parts


def _one_voice(part: Float64[np.ndarray, "note 4"]) -> Float64[np.ndarray, "note 4"]:
    """Each note ends at the latest where the next begins."""
    part = part.copy()
    if len(part) > 1:
        part[:-1, 1] = np.minimum(part[:-1, 1], np.maximum(np.diff(part[:, 0]), 1.0))
    return part


def _drums(plan: MusicPlan, index: int) -> list[tuple[int, int, int, int]]:
    """(step, sixteenths, drum, velocity) of one bar: silent when it is calm, fuller the more arousal there is."""
    arousal = plan.bars[index].vad[1]
    final = index == len(plan.bars) - 1 and plan.ending == "cadence"
    if arousal < -0.35 or (final and len(plan.bars) > 1):
        return []
    start, loud = index * plan.steps, int(np.clip(52 + 28 * arousal, 30, 96))
    beats = plan.steps // 4
    hits: list[tuple[int, int, int, int]] = []
    gap = 4 if arousal < 0.0 else 2
    for step in range(0, plan.steps, gap):
        accent = 6 if step % 4 == 0 else -8
        hits.append((start + step, 1, _RIDE if arousal < 0.0 else _HAT, loud - 10 + accent))
    hits.append((start, 1, _KICK, loud + 8))
    if beats == 4:
        hits += [(start + 8, 1, _KICK, loud + 2)] if arousal > 0.0 else []
        back = _SNARE if arousal > 0.15 else _STICK
        hits += [(start + 4, 1, back, loud), (start + 12, 1, back, loud + 2)]
    else:
        hits += [(start + 4 * beat, 1, _STICK, loud - 6) for beat in range(1, beats)]
    phrase_ends = index + 1 < len(plan.bars) and plan.bars[index + 1].phrase != plan.bars[index].phrase
    if phrase_ends and arousal > 0.25:
        hits += [(start + plan.steps - 2, 1, _SNARE, loud - 6), (start + plan.steps - 1, 1, _SNARE, loud)]
    return hits


def _tempos(plan: MusicPlan) -> tuple[tuple[float, float], ...]:
    tempos: list[tuple[float, float]] = []
    for index, bar in enumerate(plan.bars):
        if not tempos or tempos[-1][1] != bar.bpm:
            tempos.append((index * plan.beats, bar.bpm))
    return tuple(tempos)


def _markers(plan: MusicPlan) -> tuple[tuple[float, str], ...]:
    """Where sections begin and what is felt there, and the chords, so that the file tells what it was made from."""
    markers: list[tuple[float, str]] = []
    sounding = ""
    for index, bar in enumerate(plan.bars):
        beat = index * plan.beats
        if index == 0 or bar.phrase != plan.bars[index - 1].phrase:
            valence, arousal, dominance = bar.vad
            markers.append((beat, f"{bar.section} vad({valence:.2f},{arousal:.2f},{dominance:.2f})"))
        for slot, chord in enumerate(bar.chords):
            if chord != sounding:
                markers.append((beat + slot * plan.beats / 4, chord))
                sounding = chord
    return tuple(markers)


def _feeling_controls(plan: MusicPlan) -> list[tuple[float, int, int, int]]:
    numbers = (VALENCE_CONTROL, AROUSAL_CONTROL, DOMINANCE_CONTROL)
    return [
        (index * plan.beats, 0, number, int(np.clip(round(63.5 * (value + 1.0)), 0, 127)))
        for index, bar in enumerate(plan.bars)
        for number, value in zip(numbers, bar.vad, strict=True)
    ]


def _pedal(plan: MusicPlan, track: int) -> list[tuple[float, int, int, int]]:
    """The sustain pedal, changed with the chords; off where the music is agitated and at the end."""
    moves: list[tuple[float, int, int, int]] = []
    down, sounding = False, ""
    for index, bar in enumerate(plan.bars):
        up = _PEDAL_UP_S * bar.bpm / 60.0
        for slot, chord in enumerate(bar.chords):
            beat = index * plan.beats + slot * plan.beats / 4
            if bar.vad[1] > _CALM:
                if down:
                    moves.append((beat, track, SUSTAIN, 0))
                down, sounding = False, ""
            elif chord != sounding:
                if down:
                    moves.append((beat, track, SUSTAIN, 0))
                moves.append((beat + up, track, SUSTAIN, 127))
                down, sounding = True, chord
    if down:
        moves.append((len(plan.bars) * plan.beats, track, SUSTAIN, 0))
    return moves


def levelled(bars: Sequence[np.ndarray], moves: Sequence[int]) -> list[np.ndarray]:
    """The bars with the velocities of each moved by so many ids, within what there is."""
    moved = []
    for words, move in zip(bars, moves, strict=True):
        words = words.copy()
        loud = words[:, 5] > 0
        words[loud, 5] = np.clip(words[loud, 5] + move, 1, 27)
        moved.append(words)
    return moved
