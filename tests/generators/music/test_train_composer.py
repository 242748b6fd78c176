from pathlib import Path

import numpy as np
import pytest
import torch

from affetto.generators.music.composer_data import (
    SongBars,
    load_song_bars,
    melody_role,
    repetition,
    save_song_bars,
    song_bars,
)
from affetto.generators.music.grammar import BAR, END, MELODY
from affetto.generators.music.model import ComposerModel
from affetto.generators.music.train_composer import ComposerTrainer, counted_score
from affetto.tokenizers.chords import with_chords
from affetto.tokenizers.compound import encode
from tests.generators.music.small import TINY, little_song


@pytest.fixture(scope="module")
def songs() -> list[SongBars]:
    made = []
    for key in (0, 2, 7):
        words = encode(with_chords(little_song(8))).transposed(key)
        role = (words.is_note & (words.ids[:, 4].astype(int) + 20 >= 70)).astype(np.int64)
        made.append(song_bars(words, role, name=str(key)))
    return made


def test_songs_in_any_key_are_learned_in_one(songs: list[SongBars]) -> None:
    assert np.array_equal(songs[0].words[:, :3], songs[1].words[:, :3])
    assert np.array_equal(songs[0].words[:, 3] % 12, songs[1].words[:, 3] % 12)
    assert (songs[2].mode == 1).all()


def test_bars_that_come_back_are_known(songs: list[SongBars]) -> None:
    lag, likeness, source = repetition(songs[0].words, len(songs[0]))
    assert (lag[4:] == 4).all()  # the class of four bars ago
    assert (likeness[4:] == 4).all()
    assert np.array_equal(source[4:], np.arange(4))


def test_the_melody_is_the_track_that_says_so() -> None:
    score = little_song(2)
    words = encode(score)
    assert melody_role(score, words).sum() == 0


def test_songs_survive_their_archive(songs: list[SongBars], tmp_path: Path) -> None:
    save_song_bars(tmp_path / "s.npz", songs, np.array([0, 0, 1]))
    again, splits = load_song_bars(tmp_path / "s.npz")
    assert splits.tolist() == [0, 0, 1]
    for before, after in zip(songs, again, strict=True):
        assert np.array_equal(before.words, after.words)
        assert np.array_equal(before.starts, after.starts)
        assert np.array_equal(before.attributes, after.attributes)


def test_windows_hold_whole_words_and_say_which_to_predict(songs: list[SongBars]) -> None:
    trainer = ComposerTrainer(songs, songs, seed=0, device=torch.device("cpu"), config=TINY, words=120)
    kinds = set()
    for seed in range(12):
        batch, counted = trainer.windows.batch(3, np.random.default_rng(seed))
        assert counted.shape == (3, 119)
        assert int(batch.bar_of.max()) < batch.bars.shape[1]
        kinds |= set(batch.segment.unique().tolist())
        assert batch.words[..., 0].max() <= 4
        assert set(batch.words[:, 0, 0].tolist()) == {BAR}
    assert kinds == {0, 1, 2}


def test_a_little_training_learns_a_little_song(songs: list[SongBars], tmp_path: Path) -> None:
    trainer = ComposerTrainer(
        songs, songs, seed=0, device=torch.device("cpu"), config=TINY, batch=2, words=120
    )
    before = trainer.network_scores(rounds=1)
    trainer.train(1.2, decay=0.3, save=lambda: None)
    after = trainer.network_scores(rounds=1)
    assert after["position"] < before["position"] - 0.3
    assert after["family"] < before["family"] - 0.3
    trainer.save(tmp_path / "m.safetensors", half=True)
    model = ComposerModel.load(tmp_path / "m.safetensors")
    assert model.net.config == TINY
    assert np.allclose(model.scale.middles, trainer.scale.middles)
    trainer.load(tmp_path / "m.safetensors")


def test_counting_scores_a_certain_column_at_nothing() -> None:
    words = np.zeros((60, 6), np.int64)
    words[:, 0] = np.tile([BAR, END, MELODY], 20)
    alone = counted_score(words, words, "family", context=False)
    assert alone == pytest.approx(np.log(3), abs=0.05)
    assert counted_score(words, words, "family", context=True) < 0.1
