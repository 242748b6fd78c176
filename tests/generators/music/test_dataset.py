import json
import zipfile

import numpy as np
import pytest

from affetto.generators.music.augment import Augmentation, sustained, thinned
from affetto.generators.music.dataset import SPLITS, MusicData, assembled, build, tune_groups
from affetto.generators.music.songs import Song, chorale_score, read_chords
from affetto.media.midi import Score, note_array, save_midi
from affetto.media.music import KEYS
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.compound import decode, encode
from affetto.tokenizers.vocabulary import CHORD, TEMPO, chord_id


def melody(seed, *, bars=12, shift=0):
    """A tune in C over a bass, on the grid; `shift` moves it without changing the tune."""
    rng = np.random.default_rng(seed)
    scale = np.array([60, 62, 64, 65, 67, 69, 71, 72])
    rows = [(beat / 2, 0.5, int(rng.choice(scale)) + shift, 64, 0) for beat in range(bars * 8)]
    rows += [(bar * 4.0, 4.0, 36 + shift, 64, 0) for bar in range(bars)]
    return Score(notes=note_array(rows), tempos=((0.0, 119.0),), markers=((0.0, "C_M"),))


def small_set(count=6):
    songs = [Song(name=f"tune{index}", source="pop909", score=melody(index)) for index in range(count)]
    return assembled([(song, encode(song.score)) for song in songs])


def test_excerpts_are_whole_bars_that_fit_and_say_their_tempo_and_chord():
    data = small_set()
    excerpt = data.excerpt(2, first_bar=4, most_words=80)
    assert len(excerpt.words) <= 80
    assert len(excerpt.keys) == len(excerpt.words.bar_steps) == len(excerpt.vad())
    assert excerpt.bars_left + excerpt.first_bar + len(excerpt.keys) == 12
    first = excerpt.words.ids[1]
    assert first[CHORD] == chord_id("C_M")
    assert data.song(2).vocabulary.values[TEMPO][first[TEMPO]] == 119.0
    part = decode(excerpt.words).notes
    assert (part["pitch"] == decode(data.song(2)).notes["pitch"][4 * 9 :][: len(part)]).all()


def test_the_last_bar_brings_the_end():
    excerpt = small_set().excerpt(0, first_bar=11)
    assert excerpt.bars_left == 0
    assert excerpt.words.ids[-1, 3] == 0


def test_augmentation_changes_key_tempo_and_dynamics_and_the_emotion_follows():
    data = small_set()
    plain = data.excerpt(1)
    change = Augmentation(semitones=3, tempo=1.1, velocity=30.0)
    other = data.excerpt(1, augmentation=change)
    assert (decode(other.words).notes["pitch"] - decode(plain.words).notes["pitch"] == 3).all()
    assert decode(other.words).tempos[0][1] == pytest.approx(119 * 1.1, abs=2)
    assert [KEYS[key] for key in (plain.keys[0], other.keys[0])] == ["C major", "Eb major"]
    assert (other.vad()[:, 1] > plain.vad()[:, 1] + 0.2).all()


def test_thinner_music_keeps_its_melody_and_has_fewer_notes_the_thinner_it_is():
    rows = [(step / 4, 0.25, 60 + step % 3, 64, 0) for step in range(64)]
    rows += [(beat * 2.0, 2.0, 76 + beat % 5, 64, 0) for beat in range(8)]
    words = encode(Score(notes=note_array(rows)))
    counts, melody_notes = [], {(beat * 2.0, 76 + beat % 5) for beat in range(8)}
    for level in (1, 2, 3):
        found = decode(thinned(words, level)).notes
        counts.append(len(found))
        assert melody_notes <= set(zip(found["start"].tolist(), found["pitch"].tolist(), strict=True))
        assert (encode(decode(thinned(words, level))).ids == thinned(words, level).ids).all()
    assert counts == [40, 24, 16]


def test_sustained_notes_stop_at_the_next_chord_and_the_next_of_their_pitch():
    notes = [(0, 0.5, 60, 64, 0), (1, 0.5, 60, 64, 0), (1, 0.5, 64, 64, 0), (6, 0.5, 67, 64, 0)]
    score = Score(notes=note_array(notes), markers=((0.0, "C_M"), (4.0, "G_M")))
    longer = decode(sustained(encode(score), 20.0)).notes["duration"].tolist()
    assert longer == [1.0, 3.0, 3.0, 8.0]
    assert decode(sustained(encode(score), 0.5)).notes["duration"].tolist() == [0.25] * 4


def test_any_drawn_change_leaves_words_that_decode():
    data = small_set()
    rng = np.random.default_rng(0)
    for _ in range(20):
        words = data.draw(rng, data.songs("train"), most_words=200).words
        assert (encode(decode(words)).ids[:-1] == words.ids[: len(encode(decode(words)).ids) - 1]).all()


def test_drawing_with_one_seed_gives_one_excerpt():
    data = small_set()
    drawn = [data.draw(np.random.default_rng(3), data.songs("train"), most_words=60) for _ in range(2)]
    assert (drawn[0].words.ids == drawn[1].words.ids).all()
    assert drawn[0].song in data.songs("train")


def test_transposed_copies_of_a_tune_share_a_group_and_a_split():
    pieces = [encode(melody(seed, shift=shift)) for seed, shift in ((0, 0), (1, 0), (0, 5), (2, 0))]
    groups = tune_groups(pieces)
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 3


def test_every_song_is_in_one_part_of_the_split():
    data = small_set(30)
    parts = [set(data.songs(split).tolist()) for split in SPLITS]
    assert sum(map(len, parts)) == 30
    assert set.union(*parts) == set(range(30))


def test_the_set_is_written_once_and_read_back(tmp_path):
    make_archives(tmp_path)
    first = build(tmp_path, tmp_path / "a.npz")
    build(tmp_path, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = MusicData.load(tmp_path / "a.npz")
    assert (again.words == first.words).all()
    assert again.names.tolist() == ["001", "test000"]


def make_archives(folder):
    save_midi(folder / "001.mid", melody(0))
    beats = np.arange(49) * 60 / 119
    lines = [f"{second} {index % 2 == 0:d} {index % 4 == 0:d}" for index, second in enumerate(beats)]
    with zipfile.ZipFile(folder / "pop909.zip", "w") as file:
        file.write(folder / "001.mid", "POP909/001/001.mid")
        file.writestr("POP909/001/beat_midi.txt", "\n".join(lines))
        file.writestr("POP909/001/chord_midi.txt", "0.0\t8.0\tC:maj\n8.0\t24.0\tA:min7/b3\n")
    voices = [[72 - step // 4 % 5, 64, 60, 48] for step in range(64)]
    with zipfile.ZipFile(folder / "chorales_and_tunes.zip", "w") as file:
        file.writestr("jsb-chorales-16th.json", json.dumps({"test": [voices * 2]}))


def test_missing_archives_and_other_files_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"pop909\.zip: no such file"):
        build(tmp_path, tmp_path / "a.npz")
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="no music data"):
        MusicData.load(tmp_path / "x.npz")


def test_chord_labels_become_names():
    text = "0.0\t1.0\tN\n1.0\t2.0\tBb:min7/b3\n2.0\t3.0\tC:sus4(b7)\n3.0\t4.0\tF#:odd"
    assert [name for _, name in read_chords(text)] == ["N_N", "A#_m7", "C_sus4", "N_N"]


def test_a_chorale_becomes_four_voices_with_notes_at_most_a_bar_long():
    grid = np.tile([72, 67, 64, 48], (40, 1))
    grid[20:] = [71, 67, 62, 43]
    score = chorale_score(grid)
    assert score.notes["duration"].max() == 4.0
    assert sorted(set(score.notes["pitch"].tolist())) == [43, 48, 62, 64, 67, 71, 72]
