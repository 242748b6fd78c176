from pathlib import Path

import numpy as np
import pytest

from affetto.evaluation.music_bench import read_alike, rows_of, run
from affetto.evaluation.music_features import features
from affetto.evaluation.music_sets import QUADRANTS
from affetto.evaluation.music_trial import COURSES, LEVELS, REQUESTS, Trial, by_rules
from affetto.generators.music.adapter import music_vad
from affetto.media.midi import Score, note_array
from affetto.media.music import attributes_of
from affetto.runtime.errors import InvalidInputError
from tests.generators.music.small import small_composer


def chords(third: int = 4) -> Score:
    rows = [
        (beat / 2, 0.5 if beat % 2 else 1.0, 60 + pitch, 70, 0)
        for beat in range(32)
        for pitch in (0, third, 7)
    ]
    return Score(notes=note_array(rows))


@pytest.mark.parametrize("quadrant", [1, 2, 3, 4])
@pytest.mark.parametrize("third", [3, 4])
def test_rules_move_a_neutral_piece_toward_its_quadrant(quadrant: int, third: int):
    valence, arousal = QUADRANTS[quadrant - 1]
    source = chords(third)
    edited = by_rules(source, "C minor" if third == 3 else "C major", quadrant)
    before, after = attributes_of(source.timed_notes()), attributes_of(edited.timed_notes())
    assert before is not None
    assert after is not None
    assert after.major * valence > 0
    assert (after.density - before.density) * arousal > 0
    assert (after.soft - before.soft) * arousal > 0
    assert np.isfinite(list(features(edited).values())).all()


@pytest.mark.parametrize("quadrant", [1, 2, 3, 4])
def test_every_request_lies_in_the_quadrant_it_stands_for(quadrant: int):
    for request in REQUESTS[quadrant]:
        points = [music_vad(request, np.array([0.0, 12.0]), seed=seed).mean(axis=0) for seed in range(8)]
        signs = np.sign(np.mean(points, axis=0)[:2])
        assert tuple(signs.astype(int)) == QUADRANTS[quadrant - 1]


def test_two_readers_open_what_is_written(tmp_path: Path):
    assert read_alike(chords(), tmp_path / "a.mid")


def test_without_music_to_compare_with_the_rows_that_need_none_remain():
    trial = Trial(small_composer(), per_quadrant=1, sweeps=1, sweep_bars=2, varied=3, seconds=4.0)
    rows = rows_of(trial, [])
    held = {row["measure"]: row["holds"] for row in rows}
    assert held["same seed gives the same bytes (1 = yes)"]
    assert held["intensity 0 is the neutral piece (1 = yes)"]
    assert held["exactly as long as asked"]
    assert next(value for name, value in held.items() if "two readers" in name)
    assert trial.swept["mode"].shape == (1, len(LEVELS), 6)
    assert len(trial.courses) == len(COURSES)
    assert not any("critic" in row["measure"] for row in rows)


def test_a_folder_without_the_archive_is_refused_before_anything_is_composed(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="emopia_train_val"):
        run(tmp_path)
