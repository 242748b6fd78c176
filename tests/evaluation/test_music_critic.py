import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.evaluation.music_critic import (
    MusicCritic,
    Panel,
    Regression,
    cross_verdicts,
    heard_columns,
    song_folds,
)
from affetto.evaluation.music_features import FORMULA, feature_table, features
from affetto.evaluation.music_sets import (
    ARCHIVE,
    QUADRANTS,
    LabelledClip,
    archive_in,
    as_written,
    read_emopia,
    song_numbers,
)
from affetto.media.midi import Score, midi_bytes, note_array
from affetto.runtime.errors import InvalidInputError


def played(quadrant: int, seed: int, *, bars: int = 6) -> Score:
    """Broken triads over a bass: fast and loud for arousal, major for valence, every piece a little different."""
    rng = np.random.default_rng([quadrant, seed])
    valence, arousal = QUADRANTS[quadrant - 1]
    third = 4 if valence > 0 else 3
    step = 0.25 if arousal > 0 else 1.0
    tonic = int(rng.integers(44, 52))
    loud = 80 if arousal > 0 else 45
    rows = []
    for bar in range(bars):
        rows.append((4.0 * bar, 4.0, tonic, loud, 0))
        for place in np.arange(0.0, 4.0, step):
            if rng.random() < 0.9:
                pitch = tonic + 12 * int(rng.integers(1, 3)) + int(rng.choice([0, third, 7]))
                rows.append((4.0 * bar + place, step, pitch, loud + int(rng.integers(-6, 7)), 0))
    return Score(notes=note_array(rows), tempos=((0.0, 110.0 if arousal > 0 else 80.0),))


def labelled(quadrants: np.ndarray) -> tuple[list[LabelledClip], list[Score]]:
    scores = [played(int(quadrant), index) for index, quadrant in enumerate(quadrants)]
    clips = [
        LabelledClip(name=f"c{index}", quadrant=int(quadrant), song=index // 2, split="train", score=score)
        for index, (quadrant, score) in enumerate(zip(quadrants, scores, strict=True))
    ]
    return clips, scores


def test_features_are_finite_named_and_always_the_same():
    names, values = feature_table([played(1, 0), played(3, 1)])
    assert 70 <= len(names) <= 100
    assert set(FORMULA) <= set(names)
    assert np.isfinite(values).all()
    assert list(features(played(1, 0)).values()) == values[0].tolist()
    assert np.isfinite(list(features(played(2, 0, bars=1)).values())).all()


def test_another_key_leaves_degrees_and_intervals_as_they_are():
    score = played(1, 2)
    moved = score.notes.copy()
    moved["pitch"] += 3
    first, second = features(score), features(Score(notes=moved, tempos=score.tempos))
    for name in first:
        if name.startswith(("degree", "interval", "thirds", "H")):
            assert second[name] == pytest.approx(first[name], abs=1e-9), name


def test_a_regression_separates_what_can_be_separated():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    values = rng.normal(size=(90, 5)) + 3.0 * np.eye(3, 5)[labels]
    said = Regression.fit(values, labels, classes=3).probabilities(values)
    assert np.allclose(said.sum(axis=1), 1.0)
    assert (said.argmax(axis=1) == labels).mean() > 0.95


@given(st.lists(st.integers(0, 12), min_size=5, max_size=60), st.integers(0, 100))
def test_no_song_is_in_two_folds(songs: list[int], seed: int):
    numbers = np.array(songs, np.int64)
    folds = song_folds(numbers, 5, np.random.default_rng(seed))
    assert ((folds >= 0) & (folds < 5)).all()
    assert all(len(set(folds[numbers == song].tolist())) == 1 for song in set(songs))


def test_critics_name_the_quadrants_of_songs_they_have_not_heard():
    quadrants = np.tile(np.repeat(np.arange(1, 5), 2), 6)
    clips, scores = labelled(quadrants)
    panel = Panel.taught(clips, scores)
    for view in (0, 1):
        right = panel.played[view].accuracies(quadrants)
        assert right["arousal"] > 0.9
        assert right["valence"] > 0.9
        assert right["quadrant"] > 0.9
    said = panel.verdicts([played(quadrant, 99) for quadrant in range(1, 5)])
    assert said[0].accuracies(np.arange(1, 5))["quadrant"] == 1.0


def test_labels_without_meaning_are_not_learned():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 6))
    quadrants, songs = rng.integers(1, 5, 120), np.arange(120)
    right = cross_verdicts(values, quadrants, songs).accuracies(quadrants)
    assert right["quadrant"] < 0.45


def test_the_second_critic_hears_nothing_that_the_formula_reads():
    names = (*FORMULA, "tempo", "H1")
    assert heard_columns(names, without_formula=True).tolist() == [len(FORMULA), len(FORMULA) + 1]
    columns = heard_columns(names, without_formula=True)
    rng = np.random.default_rng(0)
    values, quadrants = rng.normal(size=(40, len(names))), np.tile(np.arange(1, 5), 10)
    critic = MusicCritic.fit(values, quadrants, columns=columns)
    changed = values.copy()
    changed[:, : len(FORMULA)] = 99.0
    assert np.array_equal(critic(values).quadrant, critic(changed).quadrant)


def test_clips_that_share_a_name_or_a_tune_are_one_song():
    tune = played(1, 0, bars=12)
    numbers = song_numbers(["a", "b", "b", "c"], [tune, tune, played(2, 1), played(3, 2)])
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]


def test_writing_twice_changes_nothing_more():
    once = as_written(played(1, 0))
    assert np.array_equal(once.notes, as_written(once).notes)


def archive(path: Path, labels: str) -> Path:
    with zipfile.ZipFile(path, "w") as files:
        files.writestr("labels.csv", labels)
        for quadrant in (1, 3):
            files.writestr(f"midis/Q{quadrant}_x.mid", midi_bytes(played(quadrant, 0)))
    return path


def test_the_archive_gives_clips_with_quadrants_on_beats(tmp_path: Path):
    columns = "clip,quadrant,valence_sign,arousal_sign,youtube_id,segment,official_split\n"
    lines = "Q1_x,1,1,1,x,0,train\nQ3_x,3,-1,-1,y,0,val\nQ2_gone,2,-1,1,z,0,val\n"
    (tmp_path / "music").mkdir()
    archive(tmp_path / "music" / ARCHIVE, columns + lines)
    found = archive_in(tmp_path)
    assert found is not None
    clips = read_emopia(found)
    assert [(clip.name, clip.quadrant, clip.split) for clip in clips] == [
        ("Q1_x", 1, "train"),
        ("Q3_x", 3, "val"),
    ]
    for clip in clips:
        steps = clip.score.notes["start"] * 4
        assert np.allclose(steps, np.round(steps))
        assert len(clip.score.notes) > 20


def test_an_archive_without_labels_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / ARCHIVE
    with zipfile.ZipFile(path, "w") as files:
        files.writestr("other.txt", io.StringIO("nothing").getvalue())
    with pytest.raises(InvalidInputError, match=r"labels\.csv"):
        read_emopia(path)
    assert archive_in(tmp_path / "elsewhere") is None
