"""The EmoReg recipe on a synthetic corpus with toy networks."""

import json

import numpy as np
import pytest
import torch

from affetto.generators.voice.bank_data import read_corpus
from affetto.generators.voice.full.diffvc import DiffVC
from affetto.generators.voice.full.emoreg_data import average_voice, cepstra, crops, phone_units, sound_units
from affetto.generators.voice.full.emoreg_weights import EmoRegWeights
from affetto.generators.voice.full.train_emoreg import (
    EmoRegRecipe,
    EncoderObjective,
    train_voice_emoreg,
)
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.stages import StagedTraining
from affetto.weights.store import save_tensors

from .conftest import TINY


@pytest.fixture(scope="module")
def trained(corpus, speech_network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    recipe = EmoRegRecipe(
        network=TINY, embedding=str(speech_network), units=6, frames=16, batch=2, accumulate=2, max_steps=2,
        encoder_rate=3e-3, decoder_rate=3e-3, precision="no",
    )  # fmt: skip
    output = folder / "emoreg.safetensors"
    report = train_voice_emoreg(f"dir:{corpus}", output, seconds=600.0, seed=1, device="cpu", recipe=recipe)
    return recipe, output, report


def test_the_recipe_writes_weights_that_load(trained):
    recipe, output, report = trained
    weights = EmoRegWeights.load(output)
    assert weights.network.config == TINY
    assert set(weights.directions.names) == {"angry", "sad"}
    assert weights.embedding == recipe.embedding
    assert weights.head is not None
    assert (report["encoder_steps"], report["decoder_steps"]) == (2, 2)
    assert np.isfinite([report["encoder_last"], report["decoder_last"]]).all()
    assert json.loads(json.dumps(report)) == report


def test_a_resumed_run_goes_on_counting_and_starts_from_what_was_learned(trained, corpus):
    import dataclasses

    recipe, output, _ = trained
    first = EmoRegWeights.load(output).network.state_dict()
    same = train_voice_emoreg(
        f"dir:{corpus}", output, seconds=600.0, seed=1, device="cpu", recipe=recipe, resume=True
    )
    assert same == {"encoder_steps": 2, "decoder_steps": 2}
    again = EmoRegWeights.load(output).network.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    more = dataclasses.replace(recipe, max_steps=3)
    report = train_voice_emoreg(
        f"dir:{corpus}", output, seconds=600.0, seed=1, device="cpu", recipe=more, resume=True
    )
    assert (report["encoder_steps"], report["decoder_steps"]) == (3, 3)


def test_the_encoder_learns_one_batch(corpus):
    clips = read_corpus(f"dir:{corpus}")
    mels = [np.random.default_rng(i).normal(-5, 1, (80, 40)).astype(np.float32) for i in range(len(clips))]
    targets = average_voice(mels, sound_units(clips, mels, 4, seed=0))
    torch.manual_seed(0)
    objective = EncoderObjective(DiffVC(TINY)).train()
    batch = (
        torch.from_numpy(np.stack(mels[:4])),
        torch.tensor([40] * 4),
        torch.from_numpy(np.stack(targets[:4])),
    )
    optimiser = torch.optim.Adam(objective.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        loss = objective(*batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.6 * losses[0]


def test_the_average_voice_is_the_mean_of_each_unit():
    mels = [np.array([[1.0, 3.0, 8.0]], np.float32), np.array([[5.0]], np.float32)]
    targets = average_voice(mels, [np.array([0, 0, 1]), np.array([0])])
    np.testing.assert_allclose(targets[0], [[3.0, 3.0, 8.0]])
    np.testing.assert_allclose(targets[1], [[3.0]])


def test_units_do_not_know_the_speakers_level_or_colour(corpus):
    clips = read_corpus(f"dir:{corpus}")
    rng = np.random.default_rng(0)
    said = rng.normal(size=(3, 80)).cumsum(axis=1)
    mels = []
    for clip in clips:
        colour = np.linspace(0, 4, 80) if clip.speaker == "ann" else np.linspace(3, -3, 80)
        frames = np.repeat(said, 10, axis=0) + colour + 0.01 * rng.normal(size=(30, 80))
        mels.append(frames.T.astype(np.float32))
    labels = sound_units(clips, mels, 3, seed=0)
    for other in labels[1:]:
        assert (other[2:8] == labels[0][2:8]).all()


def test_phone_marks_become_units(corpus):
    import dataclasses

    from affetto.generators.voice.bank_data import SpokenPhone

    clip = dataclasses.replace(
        read_corpus(f"dir:{corpus}")[0], phones=(SpokenPhone("a", 0.1, 0.2), SpokenPhone("m", 0.2, 0.3))
    )
    (labels,) = phone_units([clip], [np.zeros((80, 40), np.float32)])
    assert labels[:5].tolist() == [2] * 5  # pause
    assert labels[12] == 0
    assert labels[20] == 1


def test_cepstra_leave_the_level_out():
    mel = np.random.default_rng(0).normal(size=(80, 20))
    np.testing.assert_allclose(cepstra(mel), cepstra(mel + 3.0), atol=1e-9)


def test_the_random_numbers_alone_say_what_a_batch_holds(corpus):
    from affetto.generators.voice.full.emoreg_data import Utterance

    rng = np.random.default_rng(0)
    utterances = [
        Utterance(
            mel=rng.normal(size=(80, 30)), target=rng.normal(size=(80, 30)), embedding=np.zeros(4, np.float32),
            emotion="sad", speaker="a",
        )
        for _ in range(3)
    ]  # fmt: skip
    first, same, other = (
        crops(utterances, size=2, frames=16, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.mel, same.mel)
    assert first.lengths.tolist() == [16, 16]
    assert not torch.equal(first.mel, other.mel)


def test_the_recipe_file_beside_the_data_is_read_strictly(tmp_path):
    assert EmoRegRecipe.beside(tmp_path) == EmoRegRecipe()
    (tmp_path / "emoreg.json").write_text('{"batch": 8, "network": {"width": 64}}')
    read = EmoRegRecipe.beside(f"dir:{tmp_path}")
    assert (read.batch, read.network.width, read.network.channels) == (8, 64, 192)
    (tmp_path / "emoreg.json").write_text('{"wings": 2}')
    with pytest.raises(InvalidInputError, match="is no recipe"):
        EmoRegRecipe.beside(tmp_path)


def test_published_weights_can_be_the_start(corpus, speech_network, tmp_path):
    from affetto.generators.voice.full.train_emoreg import EmoRegTrainer

    torch.manual_seed(7)
    start = DiffVC(TINY).state_dict()
    save_tensors(tmp_path / "start.safetensors", start, {})
    recipe = EmoRegRecipe(network=TINY, start=str(tmp_path / "start.safetensors"), precision="no")
    training = StagedTraining(tmp_path, device="cpu", precision="no")
    trainer = EmoRegTrainer(recipe, training)
    assert all(torch.equal(value, start[key]) for key, value in trainer.network.state_dict().items())
    wrong = EmoRegRecipe(start=str(tmp_path / "start.safetensors"), precision="no", network=TINY.__class__(
        channels=8, filters=16, layers=2, postnet=8, width=8, condition=8))  # fmt: skip
    with pytest.raises(InvalidInputError, match="not the weights of DiffVC at these sizes"):
        EmoRegTrainer(wrong, training)
