"""Weights in and out, drawing pieces, sections, and elements given from one piece to another."""

import functools
import pickle

import numpy as np
import pytest
import torch

from affetto.conditioning.track import EmotionTrack
from affetto.generators.music.full.muser import ELEMENTS, VARIANTS, Muser, MuserPrior
from affetto.generators.music.full.muser_composer import (
    MusERComposer,
    quadrants_of,
    sections_of,
    spliced_latents,
)
from affetto.generators.music.full.muser_decoding import Draw, PieceSampler, drawn
from affetto.generators.music.full.muser_weights import (
    MuserIds,
    MuserWeights,
    convert_muser,
    convert_muser_prior,
    prior_path,
    read_used_codes,
)
from affetto.media.midi import load_midi
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.tokenizers.compound import decode
from affetto.tokenizers.vocabulary import END, FAMILY
from affetto.weights.store import save_tensors
from affetto.weights.tensors import read_checkpoint

from .small import TINY, little_score, tiny, tiny_prior

LEXICOGRAPHIC = MuserIds.of_order("lexicographic")


def lasting(variant="MusER_TRANS_CA_GE"):
    """A tiny network; untrained ones end at once too often, this one writes notes."""
    network = tiny(variant)
    with torch.no_grad():
        network.predict_type.bias.copy_(torch.tensor([-3.0, 0.0, 0.0, 1.0]))
    return network


def weights(ids=None):
    return MuserWeights(
        network=lasting(), ids=ids or MuserIds(), prior=tiny_prior(), compact=np.arange(20) + 2
    )


@pytest.fixture(scope="module")
def composer():
    return MusERComposer(weights(), device=torch.device("cpu"))


@pytest.mark.parametrize("ids", [MuserIds(), LEXICOGRAPHIC], ids=["numeric", "lexicographic"])
def test_every_drawn_piece_is_music_in_either_order_of_ids(ids):
    held = weights(ids)
    sampler = PieceSampler(held.network, ids, prior=held.prior, compact=held.compact)
    rngs = [np.random.default_rng(index) for index in range(4)]
    latents = sampler.latents([1, 2, 3, 4], rngs)
    assert latents.shape == (4, TINY.length, TINY.latent_width)
    for ids_of_piece in sampler.words(latents, [1, 2, 3, 4], rngs):
        words = ids.from_network(ids_of_piece)
        assert words.ids[-1, FAMILY] == END
        assert len(decode(words).notes) == words.is_note.sum()


def test_a_piece_is_the_same_alone_and_beside_others():
    held = weights()
    sampler = PieceSampler(held.network, held.ids, prior=held.prior, compact=held.compact)
    latents = torch.randn(2, TINY.length, TINY.latent_width)
    both = sampler.words(latents, [1, 3], [np.random.default_rng(5), np.random.default_rng(6)])
    alone = sampler.words(latents[1:], [3], [np.random.default_rng(6)])
    assert np.array_equal(both[1], alone[0])


def test_the_nucleus_is_the_fewest_ids_that_exceed_its_share():
    rng = np.random.default_rng(0)
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    assert {drawn(logits, rng, Draw(top_p=0.6)) for _ in range(200)} == {0, 1}
    assert {drawn(logits, rng, Draw(top_p=0.4)) for _ in range(50)} == {0}
    allowed = np.array([False, False, True, True])
    assert {drawn(logits, rng, Draw(temperature=5.0), allowed) for _ in range(200)} == {2, 3}


def test_bars_are_exact_and_a_seed_gives_the_same_file(composer, tmp_path):
    piece, again, other = (composer("happy", bars=2, seed=seed) for seed in (3, 3, 4))
    assert len(piece.words.bar_steps) == 2
    first, second = piece.save(tmp_path / "a.mid"), again.save(tmp_path / "b.mid")
    assert first.read_bytes() == second.read_bytes()
    assert len(load_midi(first).notes) == len(piece.score.notes)
    assert other.save(tmp_path / "c.mid").read_bytes() != first.read_bytes()


def test_a_change_of_quadrant_begins_a_section(composer):
    track = EmotionTrack.parse("0:vad(0.6,0.6,0.2); 4:vad(0.6,0.6,0.2); 4.1:vad(-0.6,-0.6,-0.2)")
    assert [quadrant for _, quadrant in sections_of(track, 8.5)] == [1, 3]
    piece = composer(track, seconds=8.5)
    assert [quadrant for _, quadrant in piece.sections] == [1, 3]
    assert abs(piece.sections[1][0] - 4.0) < 6.0
    assert {"Q1", "Q3"} <= {text for _, text in piece.score.markers}


def test_quadrants_are_those_of_the_plane():
    points = np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [-0.5, -0.5, 0], [0.5, -0.5, 0], [0, 0, 0]])
    assert quadrants_of(points).tolist() == [1, 2, 3, 4, 4]


def test_only_the_named_slices_change():
    a, b = torch.zeros(1, 4, 28), torch.ones(1, 4, 28)
    spliced = spliced_latents(a, b, ["velocity", "tempo"]).view(4, 7, 4)
    changed = [ELEMENTS[index] for index in range(7) if spliced[:, index].all()]
    assert changed == ["tempo", "velocity"]
    assert spliced.sum() == 2 * 4 * 4
    with pytest.raises(UsageError, match="no element 'colour'"):
        spliced_latents(a, b, ["colour"])


def test_transfer_writes_a_piece_under_the_other_emotion(composer):
    piece = composer.transfer(little_score(0), little_score(1), elements=["velocity"], quadrant=1, seed=1)
    assert len(piece.score.notes) > 0
    assert piece.sections == ((0.0, 1),)


@pytest.mark.parametrize(
    "option", [{"key": "C major"}, {"faders": {"mode": 3.0}}, {"loop": True}, {"metre": "3/4"}]
)
def test_what_muser_cannot_be_told_is_refused(composer, option):
    with pytest.raises(UsageError, match="cannot be told its"):
        composer("happy", bars=2, **option)


def test_missing_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError, match="affetto weights pull muser"):
        MusERComposer.from_pretrained("muser")
    with pytest.raises(MissingResourceError, match="affetto train music-muser"):
        MusERComposer.from_pretrained(tmp_path / "none.safetensors")


def test_weights_survive_saving(tmp_path):
    path = tmp_path / "muser.safetensors"
    held = weights(LEXICOGRAPHIC)
    held.save(path)
    composer = MusERComposer.from_pretrained(path, device="cpu")
    assert composer.weights.ids == LEXICOGRAPHIC
    assert composer.weights.compact.tolist() == held.compact.tolist()
    assert torch.equal(composer.network.latent_linear.weight, held.network.latent_linear.weight)
    kept, metadata = convert_muser(read_checkpoint(path), path)
    assert metadata["format"] == "muser-1"
    assert not any(key.startswith("DR.") or key.endswith(".pe") for key in kept)
    assert (
        convert_muser_prior(read_checkpoint(prior_path(path)), prior_path(path))[1]["format"]
        == "muser-prior-1"
    )


def test_the_gaussian_variant_composes_without_a_prior(tmp_path):
    path = tmp_path / "vae.safetensors"
    MuserWeights(network=lasting("VAE"), ids=MuserIds()).save(path)
    piece = MusERComposer.from_pretrained(path, device="cpu")("angry", bars=1)
    assert len(piece.words.bar_steps) == 1


def test_a_network_without_its_prior_names_it(tmp_path):
    path = tmp_path / "muser.safetensors"
    MuserWeights(network=tiny(), ids=MuserIds()).save(path)
    with pytest.raises(MissingResourceError, match="muser-prior"):
        MusERComposer.from_pretrained(path, device="cpu")


@functools.cache
def meta_state(variant):
    with torch.device("meta"):
        return Muser(VARIANTS[variant]).state_dict()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_checkpoint_of_every_variant_is_recognised(variant, tmp_path):
    source = tmp_path / "best.pt"
    source.write_bytes(b"PK" + bytes(20))
    kept, metadata = convert_muser(meta_state(variant), source)
    assert metadata["config"] == VARIANTS[variant].to_json()
    assert MuserIds.from_json(metadata["ids"]) == LEXICOGRAPHIC
    assert set(kept) == {
        key for key in meta_state(variant) if not key.endswith(".pe") and key[:3] not in ("DR.", "VQ_")
    }


def test_only_the_regulariser_and_position_tables_may_be_missing(tmp_path):
    source = tmp_path / "best.pt"
    source.write_bytes(b"PK" + bytes(20))
    state = meta_state("MusER_MEAN_CA_GE")
    without = {key: value for key, value in state.items() if not key.endswith(".pe")}
    assert convert_muser(without, source)[0].keys() == without.keys()
    del without["VQ.embeddings"]
    with pytest.raises(InvalidInputError, match=r"VQ\.embeddings"):
        convert_muser(without, source)
    with pytest.raises(InvalidInputError, match="'more' is unknown"):
        convert_muser({**state, "more": torch.zeros(1)}, source)


def test_a_published_checkpoint_file_and_its_used_codes_convert(tmp_path):
    prior, codes = MuserPrior(7), [3, 9, 10, 40, 100, 200, 511]
    torch.save({"model": prior.state_dict(), "optimizer": {}, "epoch": 3}, tmp_path / "best.pt")
    used = {0: {np.int64(code): i for i, code in enumerate(codes)}, 1: dict(enumerate(map(np.int64, codes)))}
    source, book = tmp_path / "best.pt", tmp_path / "VQ_dict.data"
    with pytest.raises(InvalidInputError, match=r"VQ_dict\.data"):
        convert_muser_prior(read_checkpoint(source), source)
    book.write_bytes(pickle.dumps(used))
    tensors, metadata = convert_muser_prior(read_checkpoint(source), source)
    save_tensors(tmp_path / "prior.safetensors", tensors, metadata)
    assert read_used_codes(book) == codes
    assert str(codes) in metadata["compact"]


def test_a_list_of_codes_with_code_behind_it_is_refused(tmp_path):
    path = tmp_path / "VQ_dict.data"
    path.write_bytes(pickle.dumps({1: {0: print}}))
    with pytest.raises(InvalidInputError, match=r"builtins\.print"):
        read_used_codes(path)
