import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.media.midi import Score, TrackInfo, midi_bytes, note_array, parse_midi
from affetto.runtime.errors import UsageError
from affetto.tokenizers.compound import Words, decode, encode, quantisation
from affetto.tokenizers.vocabulary import (
    CHORD,
    COLUMNS,
    EMBEDDED,
    EMOTION,
    FAMILY,
    METERS,
    METRICAL,
    NOTE_WORD,
    PITCH,
    POSITION,
    QUALITIES,
    ROOTS,
    TEMPO,
    chord_id,
    chord_name,
    meter_steps,
)

chord_names = st.sampled_from([f"{root}_{quality}" for root in ROOTS for quality in QUALITIES] + ["N_N"])


@st.composite
def quantised_scores(draw):
    """Scores on the sixteenth grid, in the vocabulary's values, no pitch overlapping itself."""
    meters, edge = [], 0
    for _ in range(draw(st.integers(1, 5))):
        meter = draw(st.sampled_from(METERS))
        if not meters or meters[-1][1:] != meter:
            meters.append((edge / 4, *meter))
        edge += meter_steps(*meter)
    ends, notes = {}, []
    for step in sorted(draw(st.lists(st.integers(0, edge - 1), max_size=30))):
        pitch = draw(st.sampled_from(EMBEDDED.pitches))
        if step >= ends.get(pitch, 0):
            length = draw(st.sampled_from(EMBEDDED.durations))
            ends[pitch] = step + length
            notes.append((step / 4, length / 4, pitch, draw(st.sampled_from(EMBEDDED.velocities)), 0))
    notes.append(((edge - 1) / 4, 0.25, 108, 64, 0) if ends.get(108, 0) < edge else notes[-1])
    notes = sorted(set(notes))
    inside = st.integers(1, edge - 1)
    tempos = {0.0: float(draw(st.sampled_from(EMBEDDED.tempos)))}
    tempos |= {
        step / 4: float(draw(st.sampled_from(EMBEDDED.tempos))) for step in draw(st.lists(inside, max_size=4))
    }
    chords = {step / 4: draw(chord_names) for step in draw(st.lists(inside, max_size=5))}
    return Score(
        notes=note_array(notes),
        tracks=(TrackInfo(name="Piano"),),
        tempos=tuple(changed(tempos)),
        meters=tuple(meters),
        markers=tuple(changed(chords)),
    )


def changed(events):
    kept = []
    for beat, value in sorted(events.items()):
        if not kept or kept[-1][1] != value:
            kept.append((beat, value))
    return kept


@given(quantised_scores())
@settings(deadline=None, max_examples=50)
def test_scores_on_the_grid_survive_exactly(score):
    words = encode(score)
    found = decode(words)
    assert (found.notes == score.notes).all()
    assert found.tempos == score.tempos
    assert found.markers == score.markers
    used = [each for each in score.meters if each[0] <= score.notes["start"].max()]
    assert found.meters == tuple(used)
    assert (encode(found).ids == words.ids).all()
    assert (parse_midi(midi_bytes(found), name="x").notes == found.notes).all()
    lost = quantisation(score)
    assert (lost.merged, lost.shortened, lost.onset, lost.duration, lost.velocity) == (0, 0, 0.0, 0.0, 0.0)


@given(quantised_scores(), st.integers(-5, 6))
@settings(deadline=None, max_examples=20)
def test_transposing_moves_pitches_and_chords_and_nothing_else(score, semitones):
    words = encode(score)
    moved = words.transposed(semitones)
    untouched = [column for column in range(8) if column not in (PITCH, CHORD)]
    assert (moved.ids[:, untouched] == words.ids[:, untouched]).all()
    change = decode(moved).notes["pitch"].astype(int).sum() - decode(words).notes["pitch"].astype(int).sum()
    assert (change - semitones * len(score.notes)) % 12 == 0
    again = moved.transposed(-semitones)
    assert (again.ids[:, CHORD] == words.ids[:, CHORD]).all()


def tune(**changes):
    notes = [(0, 1, 60, 64, 0), (0, 1, 48, 64, 0), (1, 0.5, 64, 64, 0), (4, 2, 67, 64, 0)]
    return dataclasses.replace(Score(notes=note_array(notes)), **changes)


def test_words_read_like_the_published_ones():
    words = encode(tune(markers=((0.0, "C_M"), (0.0, "happy"), (4.0, "C_M"))), quadrant=2)
    assert [COLUMNS[column] for column in np.flatnonzero(words.ids[0])] == ["family", "emotion"]
    assert words.ids[0, EMOTION] == 2
    assert words.ids[:, FAMILY].tolist() == [1, 2, 2, 3, 3, 2, 3, 2, 2, 3, 0]
    assert words.ids[3:5, PITCH].tolist() == [40, 28]  # from the highest down
    assert words.ids[2, CHORD] == chord_id("C_M")
    assert words.ids[5, [TEMPO, CHORD]].tolist() == [1, 1]  # as before
    assert words.bars.tolist() == [-1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert words.steps[words.is_note].tolist() == [0, 0, 4, 16]
    assert words.bpm[words.is_note].tolist() == [119.0] * 4


def test_what_does_not_fit_the_grid_is_counted():
    notes = [
        (0.1, 1, 60, 63, 0),
        (0.0, 0.5, 60, 90, 0),
        (0.5, 3, 62, 64, 0),
        (1.0, 1, 62, 64, 0),
        (0, 1, 5, 64, 0),
    ]
    score = Score(notes=note_array(notes))
    lost = quantisation(score)
    assert (lost.notes, lost.out_of_range, lost.merged, lost.shortened) == (5, 1, 1, 1)
    assert lost.onset == pytest.approx(0.1)
    found = decode(encode(score)).notes
    assert found["pitch"].tolist() == [60, 62, 62]
    assert (found["start"][1] + found["duration"][1]) == found["start"][2]
    assert found["velocity"][0] == 92  # as loud as the loudest


def test_metres_without_a_word_keep_their_length_if_they_can():
    assert decode(encode(tune(meters=((0.0, 2, 2),)))).meters == ((0.0, 4, 4),)
    assert decode(encode(tune(meters=((0.0, 7, 8),)))).meters == ((0.0, 4, 4),)
    assert decode(encode(tune(meters=((0.0, 3, 2),)))).meters == ((0.0, 6, 4),)


def test_an_empty_score_is_a_bar_and_an_end():
    words = encode(Score())
    assert words.ids[:, FAMILY].tolist() == [METRICAL, METRICAL, 0]
    assert len(decode(words).notes) == 0


def test_words_after_the_end_are_ignored():
    words = encode(tune())
    longer = Words(ids=np.concatenate([words.ids, words.ids]))
    assert (decode(longer).notes == decode(words).notes).all()


def row(**fields):
    ids = np.zeros((1, 8), np.int16)
    for name, value in fields.items():
        ids[0, COLUMNS.index(name)] = value
    return ids


BAR = row(family=METRICAL, position=1)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(family=NOTE_WORD, pitch=3, duration=3, velocity=3)], "without a bar"),
        ([BAR, row(family=NOTE_WORD, pitch=3, duration=3)], "without pitch"),
        (
            [row(family=METRICAL, position=3), row(family=METRICAL, position=EMBEDDED.first_position + 8)],
            "beyond the end",
        ),
    ],
)
def test_words_that_spell_no_music_are_refused(rows, reason):
    with pytest.raises(UsageError, match=reason):
        decode(Words(ids=np.concatenate(rows)))


def test_ids_outside_the_vocabulary_are_refused():
    with pytest.raises(UsageError, match="word 1, column 4: id 900"):
        Words(ids=np.concatenate([BAR, row(family=NOTE_WORD, pitch=900)]))


def test_ids_count_in_musical_order():
    assert (np.diff(EMBEDDED.values[TEMPO][2:]) > 0).all()
    assert EMBEDDED.sizes == (67, 135, 33, 4, 89, 21, 28, 5)
    assert [chord_name(chord_id(name)) for name in ("C_M", "B_sus4", "N_N")] == ["C_M", "B_sus4", "N_N"]
    assert EMBEDDED.bar_id(3, 4) == 2
    assert EMBEDDED.first_position > EMBEDDED.bar_id(9, 8)
    for text in ("H_M", "C_x", "C"):
        with pytest.raises(UsageError, match="no chord"):
            chord_id(text)
    with pytest.raises(UsageError, match="metre 7/8"):
        EMBEDDED.bar_id(7, 8)
    assert POSITION == 2
