"""The MusER recipe on a tiny corpus with a tiny network."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from affetto.generators.music.full.muser_composer import MusERComposer
from affetto.generators.music.full.muser_data import labelled_files, read_clips
from affetto.generators.music.full.muser_weights import MuserIds, MuserWeights
from affetto.generators.music.full.train_muser import MuserRecipe, MuserTrainer, train_music_muser
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.stages import StagedTraining

from .small import TINY, write_corpus

RECIPE = MuserRecipe(
    network=TINY, batch=4, epochs=2, prior_epochs=2, rate=3e-3, precision="no", prior_width=16, prior_layers=1,
    prior_heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "muser.safetensors"
    report = train_music_muser(corpus, output, seconds=600.0, seed=1, device="cpu", recipe=RECIPE)
    return output, report


def test_the_recipe_writes_weights_that_compose(trained):
    output, report = trained
    assert (report["clips"], report["network_steps"], report["prior_steps"]) == (8, 4, 4)
    assert np.isfinite([report["network_last"], report["prior_last"]]).all()
    assert json.loads(json.dumps(report)) == report
    composer = MusERComposer.from_pretrained(output, device="cpu")
    assert len(composer("sad", bars=2, seed=1).words.bar_steps) == 2


def test_a_resumed_run_goes_on_where_the_first_stopped(trained, corpus):
    output, _ = trained
    before = MuserWeights.load(output).network.state_dict()
    report = train_music_muser(
        corpus, output, seconds=600.0, seed=1, device="cpu", recipe=RECIPE, resume=True
    )
    assert "network_last" not in report
    after = MuserWeights.load(output).network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    more = dataclasses.replace(RECIPE, epochs=3)
    report = train_music_muser(corpus, output, seconds=600.0, seed=1, device="cpu", recipe=more, resume=True)
    assert report["network_steps"] == 6
    state = output.with_name("muser-work") / "state" / "network" / "custom_checkpoint_0.pkl"
    assert torch.load(state, weights_only=True) == {"steps": 6}


def test_the_network_learns_a_small_corpus(corpus, tmp_path):
    clips = read_clips(corpus, tmp_path / "clips.npz", ids=MuserIds(), length=TINY.length)
    recipe = dataclasses.replace(RECIPE, epochs=8, rate=1e-2)
    training = StagedTraining(tmp_path, device="cpu", precision=recipe.precision)
    report = MuserTrainer(recipe, training).train_network(clips, 600.0)
    assert report["network_last"] < 0.8 * report["network_first"]


def test_inputs_are_the_targets_one_word_later(corpus, tmp_path):
    for order in ("numeric", "lexicographic"):
        ids = MuserIds.of_order(order)
        clips = read_clips(corpus, tmp_path / "clips.npz", ids=ids, length=TINY.length)
        assert clips.quadrants.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
        for words, target, length in zip(clips.words, clips.target, clips.lengths, strict=True):
            assert np.array_equal(words[1:length], target[: length - 1])
            assert ids.from_network(target[:length]).ids[-1, 3] == 0
            assert words[0, 7] > 0
            assert not target[:, 7].any()


def test_a_folder_without_labels_is_refused(tmp_path):
    (tmp_path / "song.mid").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match=r"Q1_NAME\.mid"):
        labelled_files(tmp_path)


def test_the_recipe_beside_the_data_is_read_and_checked(tmp_path):
    assert MuserRecipe.beside(tmp_path) == MuserRecipe()
    (tmp_path / "muser.json").write_text('{"batch": 2, "order": "lexicographic", "network": {"codes": 64}}')
    found = MuserRecipe.beside(tmp_path)
    assert (found.batch, found.order, found.config.codes) == (2, "lexicographic", 64)
    (tmp_path / "muser.json").write_text('{"colour": 2}')
    with pytest.raises(InvalidInputError, match="is no recipe"):
        MuserRecipe.beside(tmp_path)
    with pytest.raises(UsageError, match="unknown order"):
        MuserRecipe(order="random")
