import numpy as np
import pytest

from affetto.media.midi import Score, note_array
from affetto.media.music import KEYS
from affetto.tokenizers.attributes import BarAttributes, bar_attributes
from affetto.tokenizers.chords import (
    bar_key_path,
    best_path,
    chord_root,
    chord_tones,
    recognised_chords,
    song_key,
    with_chords,
)
from affetto.tokenizers.compound import encode
from affetto.tokenizers.vocabulary import QUALITIES, ROOTS, chord_id


def block(root, quality, *, beat, beats=4.0, velocity=64, octave=48):
    """A chord over its root."""
    rows = [(beat, beats, octave - 12 + root, velocity, 0)]
    return rows + [(beat, beats, octave + root + tone, velocity, 0) for tone in chord_tones(quality)]


def progression(*chords):
    rows = [
        row for index, (root, quality) in enumerate(chords) for row in block(root, quality, beat=4.0 * index)
    ]
    return Score(notes=note_array(rows))


@pytest.mark.parametrize("quality", QUALITIES)
def test_every_chord_over_its_root_is_recognised(quality):
    for root in (0, 5, 11):
        found = recognised_chords(progression((root, quality)))
        assert found == ((0.0, f"{ROOTS[root]}_{quality}"),)


def test_changes_come_where_the_harmony_changes():
    score = with_chords(progression((0, "M"), (9, "m"), (9, "m"), (7, "7")))
    assert score.markers == ((0.0, "C_M"), (4.0, "A_m"), (12.0, "G_7"))
    assert with_chords(score).markers == score.markers


def test_silence_has_no_chord():
    rows = [*block(0, "M", beat=0.0), *block(0, "M", beat=12.0)]
    assert recognised_chords(Score(notes=note_array(rows)))[1] == (4.0, "N_N")
    assert recognised_chords(Score()) == ()


def test_the_key_is_found_and_follows_a_modulation():
    def cadence(tonic):
        return [((tonic + step) % 12, kind) for step, kind in ((0, "M"), (5, "M"), (7, "7"), (0, "M"))]

    words = encode(progression(*cadence(2), *cadence(2)))
    assert KEYS[song_key(words)] == "D major"
    path = bar_key_path(encode(progression(*cadence(0) * 3, *cadence(6) * 3)))
    assert (KEYS[path[0]], KEYS[path[-1]]) == ("C major", "F# major")
    assert (np.diff(path) != 0).sum() == 1
    minor = [((9 + step) % 12, kind) for step, kind in ((0, "m"), (5, "m"), (7, "M"), (0, "m"))]
    assert KEYS[song_key(encode(progression(*minor)))] == "A minor"


def test_the_best_path_weighs_evidence_against_changes():
    evidence = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert best_path(evidence, np.full(3, 2.0)).tolist() == [0, 0, 0]
    assert best_path(evidence, np.full(3, 0.1)).tolist() == [0, 1, 0]


def test_the_root_of_a_chord_id():
    assert [chord_root(chord_id(name)) for name in ("C_M", "G#_m7", "N_N")] == [0, 8, -1]


def bars(**changes):
    options = {"velocity": 64, "quality": "M", "count": 6, "octave": 48, "notes": 4} | changes
    rows = [
        row
        for place in range(options["count"] * options["notes"])
        for row in block(
            0,
            options["quality"],
            beat=place * 4.0 / options["notes"],
            beats=4.0 / options["notes"],
            velocity=options["velocity"],
            octave=options["octave"],
        )
    ]
    return bar_attributes(encode(Score(notes=note_array(rows))))


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({}, "velocity", 64.0),
        ({"velocity": 100}, "soft", 100.0),
        ({"notes": 8}, "density", 16.0),  # eight times four notes in two seconds
        ({"notes": 8}, "rhythm", 0.5),
        ({}, "polyphony", 4.0),
        ({}, "duration", 60 / 119),
        ({"octave": 60}, "register", (48 + 60 + 64 + 67) / 4),
        ({"octave": 60}, "low", 48.0),
    ],
)
def test_attributes_of_a_plain_passage(change, name, value):
    assert getattr(bars(**change), name)[2] == pytest.approx(value, rel=0.01)


def test_major_minor_loud_and_soft_are_told_apart():
    lively, sad = bars(velocity=100, notes=16), bars(velocity=30, quality="m", notes=1)
    assert lively.major[2] > 0 > sad.major[2]
    assert lively.vad()[2, 1] > 0.5 > -0.5 > sad.vad()[2, 1]
    assert lively.vad()[2, 0] > sad.vad()[2, 0]


def test_bars_without_notes_are_finite():
    empty = bar_attributes(encode(Score()))
    assert isinstance(empty, BarAttributes)
    assert np.isfinite(empty.stack()).all()
    assert np.abs(empty.vad()).max() < 1
