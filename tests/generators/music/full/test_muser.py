"""MusER's network: its published layout, what it computes, and decoding word by word."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from affetto.generators.music.full.muser import VARIANTS, Muser, MuserConfig, MuserPrior
from affetto.generators.music.full.muser_quantiser import MovingCodebook, regularisation
from affetto.runtime.errors import UsageError

from .small import TINY, random_words, tiny, tiny_prior

PARAMETERS = {  # of the published code, regulariser included
    "MusER_TRANS_CA_GE": 68_070_360, "MusER_TRANS_CONCAT_GE": 67_081_176, "MusER_TRANS_CA_G": 61_223_896,
    "MusER_TRANS_NONE_E": 63_827_160, "MusER_MEAN_CA_GE": 17_683_416, "MusER_MEAN_CONCAT_GE": 16_694_232,
    "VQ_VAE_CA": 10_832_600, "VQ_VAE_CONCAT": 8_944_856, "VAE": 8_808_232,
}  # fmt: skip
ENTRIES = {
    "MusER_TRANS_CA_GE": 580, "MusER_TRANS_CONCAT_GE": 540, "MusER_TRANS_CA_G": 446, "MusER_TRANS_NONE_E": 472,
    "MusER_MEAN_CA_GE": 513, "MusER_MEAN_CONCAT_GE": 473, "VQ_VAE_CA": 377, "VQ_VAE_CONCAT": 301, "VAE": 300,
}  # fmt: skip


def pack():
    default = Path(__file__).resolve().parents[4].parent / "shared" / "parity"
    folder = Path(os.environ.get("AFFETTO_PARITY_DIR", default))
    golden = folder / "muser" / f"golden_{os.environ.get('AFFETTO_PARITY_SALT', 'a')}.npz"
    if not golden.is_file():
        pytest.skip(f"no parity pack at {golden}: set AFFETTO_PARITY_DIR")
    module = importlib.util.spec_from_file_location("parity_recipe", folder / "recipe.py")
    recipe = importlib.util.module_from_spec(module)
    module.loader.exec_module(recipe)
    return folder / "muser", golden, recipe


def on_meta(build):
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_has_the_published_number_of_parameters_and_entries(variant):
    network = on_meta(lambda: Muser(VARIANTS[variant]))
    assert sum(each.numel() for each in network.parameters()) == PARAMETERS[variant]
    assert len(network.state_dict()) == ENTRIES[variant]


def test_parity_of_names_and_shapes_for_every_variant():
    folder, _, _ = pack()
    for name, keys in json.loads((folder / "state_keys.json").read_text()).items():
        network = on_meta(lambda name=name: MuserPrior(512) if name == "Prior" else Muser(VARIANTS[name]))
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == keys


def test_parity_with_the_published_network():
    _, golden, recipe = pack()
    salt = os.environ.get("AFFETTO_PARITY_SALT", "a")
    network = Muser().eval()
    recipe.fill_({k: v for k, v in network.state_dict().items() if not k.endswith(".pe")}, salt)
    sizes = enumerate(network.config.sizes)
    target = torch.stack([recipe.integers(f"input.words.{i}", n, (2, 1024), salt) for i, n in sizes], dim=-1)
    words = target.roll(1, dims=1)
    with np.load(golden) as held, torch.no_grad():
        expected = {name: torch.from_numpy(held[name]) for name in held}
        encoded = network.encode(target)
        found = {"encoded": encoded[:, :48]}
        quantised = network.VQ(encoded)
        found |= {"quantized": quantised.z[:, :48], "vq_loss": quantised.loss}
        ordered = network.element_latents(quantised.z)
        found |= {f"element_latent.{i}": each for i, each in enumerate(ordered)}
        attributes = target[..., :7].permute(2, 0, 1).contiguous()
        found["regularisation_loss"] = regularisation(ordered, attributes)
        found["decoder_hidden"] = network.decoder_hidden(words, quantised.z)[:, :48]
        names = ("tempo", "chord", "beat", "type", "pitch", "duration", "velocity")
        for name, logits in zip(names, network.decode(words, quantised.z, target[..., 3]), strict=True):
            found[f"logits.{name}"] = logits[:, :48]
    assert set(found) == set(expected)
    for name, values in found.items():
        assert (values.reshape(expected[name].shape) - expected[name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_and_decodes_word_by_word_as_it_does_at_once(variant):
    network = tiny(variant)
    words = random_words(network.config, words=network.config.length)
    target = words.roll(-1, dims=1)
    output = network.train()(words, target)
    (output.latent_loss + output.regularisation + sum(each.mean() for each in output.logits)).backward()
    network.eval()
    with torch.no_grad():
        output = network(words, target)
        state = network.start(output.latents)
        for place in range(12):
            heads, state = network.step(words[:, place], state)
            family = target[:, place : place + 1, 3]
            found = {3: network.family_logits(heads), **network.column_logits(heads, family)}
            for column, logits in found.items():
                assert torch.allclose(logits[:, 0], output.logits[column][:, place], atol=2e-5)


def test_the_prior_goes_code_by_code_as_it_does_at_once():
    prior = tiny_prior()
    codes = torch.randint(0, 20, (2, 30))
    codes[:, 0] = prior.start_of(2)
    with torch.no_grad():
        whole, states = prior(codes), prior.start()
        for place in range(30):
            logits, states = prior.step(codes[:, place], place, states)
            assert torch.allclose(logits, whole[:, place], atol=1e-4)


def test_regularisation_equals_the_published_loops():
    torch.manual_seed(0)
    latents, attributes = torch.randn(7, 3, 5), torch.randint(0, 9, (7, 3, 5))
    total = torch.zeros(())
    for element in range(7):
        pairs = [
            (
                torch.tanh(latents[element, j] - latents[element, k])
                - (attributes[element, j] - attributes[element, k]).sign()
            ).abs()
            for j in range(3)
            for k in range(3)
        ]
        total = total + torch.stack(pairs).mean()
    assert torch.allclose(regularisation(latents, attributes), total)


def test_regularisation_is_none_for_latents_far_apart_in_the_order_of_the_attributes():
    order = torch.arange(4)[None, :, None].expand(7, 4, 3).contiguous()
    assert regularisation(50.0 * order.float(), order) < 1e-5
    assert regularisation(-50.0 * order.float(), order) > 5


def test_the_regulariser_refuses_another_length():
    network = tiny()
    with pytest.raises(UsageError, match="48 words"):
        network.element_latents(torch.zeros(1, 8, network.config.latent_width))


def test_codes_move_in_training_only_and_towards_what_they_stand_for():
    torch.manual_seed(0)
    book, x = MovingCodebook(4, 3), torch.randn(1, 50, 3)
    before = book.codes.clone()
    book.eval()(x)
    assert torch.equal(book.codes, before)
    book.train()
    first = book(x).loss
    for _ in range(30):
        last = book(x).loss
    assert int(book.get_buffer("steps")) == 31
    assert last < first
    assert "steps" not in book.state_dict()


def test_the_first_step_is_the_mean_of_what_a_code_stands_for():
    book = MovingCodebook(2, 1).train()
    book.codes.copy_(torch.tensor([[-1.0], [1.0]]))
    book(torch.tensor([[[-3.0], [-5.0], [2.0]]]))
    assert torch.allclose(book.codes[:, 0], torch.tensor([-4.0, 2.0]), atol=1e-3)


def test_gradients_pass_straight_through_the_codebook():
    book, x = MovingCodebook(4, 3), torch.randn(1, 5, 3, requires_grad=True)
    book(x).z.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_a_configuration_survives_json():
    assert MuserConfig.from_json(TINY.to_json()) == TINY


def test_an_unknown_shape_is_refused():
    with pytest.raises(UsageError, match="attend, concat, alone"):
        MuserConfig(reads="sideways")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_computes_what_the_processor_does():
    network = tiny()
    words = random_words(network.config, words=network.config.length)
    with torch.no_grad():
        here = network(words, words).logits[4]
        there = network.cuda()(words.cuda(), words.cuda()).logits[4].cpu()
    assert torch.allclose(here, there, atol=1e-3)
