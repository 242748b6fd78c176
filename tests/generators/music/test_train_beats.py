import zipfile

import numpy as np
import pytest

from affetto.generators.music.dataset import part_of_split
from affetto.generators.music.train_beats import (
    BeatRecipe,
    Performance,
    excerpt,
    f_measure,
    played,
    read_performances,
    train_beat_tracker,
)
from affetto.media.midi import Score, note_array, save_midi
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.beat_tracker import FRAMES, BeatNetworkConfig, BeatTracker


def clockwork(beats=48):
    notes = [[beat / 2, 0.4, 60 + beat % 7, 64] for beat in range(beats)]
    return Performance(
        notes=np.array(notes, np.float64), beats=np.arange(beats) / 2.0, downbeats=np.arange(beats) % 4 == 0
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_piece_played_anew_keeps_its_notes_near_its_beats(seed):
    piece = played(clockwork(), np.random.default_rng(seed))
    assert (np.diff(piece.beats) > 0).all()
    assert (np.diff(piece.notes[:, 0]) >= 0).all()
    near = np.abs(piece.notes[:, 0][:, None] - piece.beats[None]).min(axis=1)
    assert np.percentile(near, 90) < 0.05
    assert not np.allclose(np.diff(piece.beats), np.diff(piece.beats)[0])


def test_excerpts_mark_beats_at_their_frames():
    features, targets = excerpt(clockwork(), 8.0, np.random.default_rng(0))
    assert features.shape[1] == targets.shape[1] == 400
    assert np.diff(np.flatnonzero(targets[0] == 1.0)).tolist()[:3] == [FRAMES // 2] * 3
    assert (targets[1] <= targets[0]).all()


def test_the_f_measure_counts_each_beat_once():
    wanted = np.arange(10.0)
    assert f_measure(wanted + 0.06, wanted) == 1.0
    assert f_measure(wanted + 0.08, wanted) == 0.0
    assert f_measure(np.sort(np.concatenate([wanted, wanted + 0.03])), wanted) == pytest.approx(2 / 3)
    assert f_measure(np.zeros(0), wanted) == 0.0


def make_archive(folder):
    names = {
        part: next(f"{index:03d}" for index in range(1, 900) if part_of_split(f"{index:03d}") == part)
        for part in ("train", "test")
    }
    save_midi(
        folder / "song.mid",
        Score(notes=note_array([(beat, 0.8, 60 + beat % 7, 64, 0) for beat in range(48)])),
    )
    lines = "\n".join(f"{beat / 2} {beat % 2 == 0:d} {beat % 4 == 0:d}" for beat in range(48))
    with zipfile.ZipFile(folder / "pop909.zip", "w") as file:
        for name in names.values():
            file.write(folder / "song.mid", f"POP909/{name}/{name}.mid")
            file.writestr(f"POP909/{name}/beat_midi.txt", lines)


def test_the_recipe_trains_resumes_and_reports(tmp_path):
    make_archive(tmp_path)
    recipe = BeatRecipe(network=BeatNetworkConfig(width=8, blocks=3), crop_s=6.0, batch=2)
    out = tmp_path / "beats.safetensors"
    first = train_beat_tracker(tmp_path, out, seconds=0.3, recipe=recipe)
    more = train_beat_tracker(tmp_path, out, seconds=2.0, resume=True, recipe=recipe)
    assert more["steps"] >= first["steps"] > 0
    assert {"played", "recorded", "played, onsets only"} < set(more)
    assert 0.0 <= more["played"].beat <= 1.0
    assert BeatTracker.from_pretrained(out).track(clockwork().notes).times[0] < 1.0


def test_a_missing_archive_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"pop909\.zip: no such file"):
        read_performances(tmp_path, "train")
