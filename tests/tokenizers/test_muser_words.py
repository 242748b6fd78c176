import pickle

import numpy as np
import pytest
import symusic
from miditok import CPWord, TokenizerConfig

from affetto.media.midi import Score, note_array, save_midi
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.compound import decode, encode
from affetto.tokenizers.muser_words import COLUMN_NAMES, MUSER, MuserTables, encode_muser, event_names
from affetto.tokenizers.vocabulary import (
    DURATION,
    FAMILY,
    METRICAL,
    NOTE_WORD,
    PITCH,
    POSITION,
    TEMPO,
    VELOCITY,
)

TABLES = MuserTables.rebuilt()
PUBLISHED_SIZES = (56, 135, 18, 4, 87, 18, 42, 5)


def random_score(seed=0, count=60):
    """Notes on the grid in MusER's range, no pitch overlapping itself."""
    rng = np.random.default_rng(seed)
    rows = [
        (int(step) / 4, int(length) / 4, int(pitch), int(rng.choice(MUSER.velocities)), 0)
        for step, length, pitch in zip(
            rng.integers(0, 160, count), rng.integers(1, 9, count), rng.integers(30, 100, count), strict=True
        )
    ]
    return decode(encode(Score(notes=note_array(rows), tempos=((0.0, 119.0),)), vocabulary=MUSER))


def test_sizes_are_the_published_ones():
    assert MUSER.sizes == PUBLISHED_SIZES
    assert TABLES.sizes == PUBLISHED_SIZES


def test_their_ids_sort_names_as_text():
    tempo, _, beat, family, pitch = TABLES.names[:5]
    assert tempo[:3] == (0, "CONTI", "Tempo_101")
    assert beat[:5] == (0, "Bar", "Beat_0", "Beat_1", "Beat_10")
    assert family == ("EOS", "Emotion", "Metrical", "Note")
    assert pitch[1] == "Note_Pitch_100"
    chords = TABLES.names[1]
    assert chords.index("C#_sus4") < chords.index("CONTI") < chords.index("C_+")


@pytest.mark.parametrize("seed", range(3))
def test_words_go_to_their_ids_and_back(seed):
    words = encode_muser(random_score(seed), quadrant=3)
    theirs = TABLES.to_muser(words)
    assert (TABLES.from_muser(theirs).ids == words.ids).all()
    assert theirs[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 3]
    assert theirs[-2].tolist() == [0, 0, 1, 2, 0, 0, 0, 0]  # their empty bar before the end
    assert (decode(words).notes == random_score(seed).notes).all()


def test_a_published_dictionary_is_read_without_running_code(tmp_path):
    word2event = {
        name: dict(enumerate(column)) for name, column in zip(COLUMN_NAMES, TABLES.names, strict=True)
    }
    path = tmp_path / "dictionary.pkl"
    path.write_bytes(pickle.dumps(({}, word2event)))
    assert MuserTables.load(path) == TABLES
    path.write_bytes(pickle.dumps(({}, word2event | {"velocity": {0: 0, 1: "Note_Velocity_64"}})))
    smaller = MuserTables.load(path)
    assert smaller.sizes[6] == 2
    assert set(smaller.to_muser(encode_muser(random_score(), quadrant=1))[:, 6]) == {0, 1}


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    "content", [b"", b"text", pickle.dumps(Evil()), pickle.dumps([1]), pickle.dumps(({}, {"tempo": {0: 5}}))]
)
def test_other_pickles_are_refused(tmp_path, content, capsys):
    path = tmp_path / "dictionary.pkl"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"dictionary\.pkl"):
        MuserTables.load(path)
    assert capsys.readouterr().out == ""


def test_ids_their_tables_lack_are_refused():
    with pytest.raises(InvalidInputError, match="tempo"):
        TABLES.from_muser(np.full((2, 8), 200))


def test_every_event_has_one_id_on_both_sides():
    for ours, theirs in zip(event_names(), TABLES.names, strict=True):
        assert len(set(ours)) == len(ours)
        assert set(ours) == set(theirs)


def test_miditok_cuts_a_score_into_the_same_words(tmp_path):
    score = random_score(5)
    save_midi(tmp_path / "a.mid", score)
    tokenizer = CPWord(
        TokenizerConfig(
            beat_res={(0, 4): 4}, use_tempos=True, num_tempos=65, tempo_range=(32, 224), num_velocities=64,
            pitch_range=(22, 108), use_chords=True, chord_tokens_with_root_note=True,
        )
    )  # fmt: skip
    found = tokenizer(symusic.Score(str(tmp_path / "a.mid")))
    rows = (found[0] if isinstance(found, list) else found).ids
    named = [[tokenizer[column, index] for column, index in enumerate(row)] for row in rows]
    # their columns in MusER's order: family, position or bar, pitch, velocity, duration, chord, tempo
    theirs = [[row[column] for column in (6, 5, 1, 0, 2, 4, 3)] for row in named]
    words = encode(score, vocabulary=MUSER)
    assert len(theirs) == len(words) - 1  # no word for the end
    assert sorted_within_places(plain_miditok(theirs)) == sorted_within_places(plain_ours(words))


def plain_miditok(rows):
    """(kind, place) for bars and places, (kind, pitch, length, velocity) for notes, in plain numbers."""
    for tempo, _, place, family, pitch, length, velocity in rows:
        if family == "Family_Note":
            beats, parts, _ = map(int, length.removeprefix("Duration_").split("."))
            # their bins of velocity stand one above the even numbers
            strength = int(velocity.removeprefix("Velocity_")) - 1
            yield "note", int(pitch.removeprefix("Pitch_")), 4 * beats + parts, strength
        elif place == "Bar_None":
            yield ("bar",)
        else:
            yield "place", int(place.removeprefix("Position_")), float(tempo.removeprefix("Tempo_"))


def plain_ours(words):
    for row, bpm in zip(words.ids[:-1], words.bpm, strict=False):
        if row[FAMILY] == NOTE_WORD:
            yield (
                "note",
                *(
                    int(words.vocabulary.values[column][row[column]])
                    for column in (PITCH, DURATION, VELOCITY)
                ),
            )
        elif row[FAMILY] == METRICAL and row[POSITION] < words.vocabulary.first_position:
            yield ("bar",)
        else:  # the tempo in force, where ours says "as before"
            yield "place", int(row[POSITION]) - words.vocabulary.first_position, float(bpm)
            assert row[TEMPO] > 0


def sorted_within_places(words):
    """Notes that begin together in one order: ours come from the highest down, theirs from the lowest up."""
    groups = []
    for word in words:
        if word[0] == "note":
            groups[-1].append(word)
        else:
            groups.append([word])
    return [[group[0], *sorted(group[1:])] for group in groups]
