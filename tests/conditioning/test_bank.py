import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from affetto.conditioning.bank import DICE_TALK, BankConfig, EmotionBank, vad_embedding, vad_grid
from affetto.runtime.errors import InvalidInputError, UsageError

TINY = BankConfig(inputs=24, width=32, codes=75, tokens=3, heads=4, topk=4)


def _ask(vad):
    return vad_embedding(torch.tensor(vad, dtype=torch.float32), TINY.inputs)


def test_a_grid_bank_finds_the_code_at_each_grid_point():
    bank = EmotionBank.on_grid(TINY)
    assert bank(vad_embedding(vad_grid(), TINY.inputs)).indices.tolist() == list(range(75))


def test_the_probe_reads_the_vad_of_every_grid_code():
    bank = EmotionBank.on_grid(BankConfig(inputs=64, width=128, codes=75, tokens=2))
    assert (bank.code_vad() - vad_grid()).abs().max() < 0.05


def test_the_vad_embedding_is_zero_at_neutral_and_odd():
    vad = torch.rand(9, 3) * 2 - 1
    assert vad_embedding(torch.zeros(1, 3), 24).abs().max() == 0
    assert torch.equal(vad_embedding(-vad, 24), -vad_embedding(vad, 24))


@pytest.mark.parametrize("mode", ["retrieve", "attend", "topk"])
def test_every_mode_gives_tokens_of_the_declared_shape_and_trains_the_codes(mode):
    bank = EmotionBank.on_grid(TINY)
    output = bank(_ask([[0.8, 0.5, 0.4], [-0.6, -0.3, -0.3]]), mode)
    assert output.tokens.shape == (2, 3, 32)
    (output.tokens.square().sum() + output.loss).backward()
    assert bank.codes.grad.abs().sum() > 0


def test_top_k_over_all_codes_equals_attending_to_all():
    full = dataclasses.replace(TINY, topk=75)
    bank = EmotionBank.on_grid(full).eval()
    asked = _ask([[0.3, -0.2, 0.7]])
    assert torch.allclose(bank(asked, "topk").tokens, bank(asked, "attend").tokens, atol=1e-5)


def test_top_1_equals_retrieving():
    bank = EmotionBank.on_grid(dataclasses.replace(TINY, topk=1)).eval()
    asked = _ask([[0.3, -0.2, 0.7], [-1.0, 1.0, 0.0]])
    assert torch.allclose(bank(asked, "topk").tokens, bank(asked, "retrieve").tokens, atol=1e-5)


def test_a_kept_memory_changes_nothing():
    bank = EmotionBank.on_grid(TINY).eval()
    asked = _ask([[0.3, -0.2, 0.7]])
    assert torch.equal(bank(asked, memory=bank.memory()).tokens, bank(asked).tokens)


def test_neutral_vad_gives_the_null_tokens():
    bank = EmotionBank.on_grid(TINY).eval()
    assert torch.equal(bank(_ask([[0.0, 0.0, 0.0]])).tokens, bank.null(1))


def test_usage_counts_nearest_codes_and_the_null_is_not_use():
    bank = EmotionBank.on_grid(TINY)
    assert bank.usage().perplexity == 0.0
    bank(vad_embedding(vad_grid()[:10], TINY.inputs))
    bank.null(3)
    usage = bank.usage()
    assert usage.perplexity == pytest.approx(10.0)
    assert usage.dead == tuple(range(10, 75))
    bank.reset_usage()
    assert bank.usage().counts.sum() == 0


def test_the_same_seed_gives_the_same_bank_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = EmotionBank.on_grid(TINY, seed=3), EmotionBank.on_grid(TINY, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_wrong_sizes_are_refused():
    with pytest.raises(UsageError, match="not a multiple"):
        BankConfig(width=30, heads=8)
    with pytest.raises(UsageError, match="grid bank has 75 codes"):
        EmotionBank.on_grid(dataclasses.replace(TINY, codes=64))


def _dice_state(inputs=6, width=16, codes=5, tokens=2):
    sizes = {"codebook.fc": (width, inputs), "classifier.fc1": (4, 9)}
    for name, entry in (("emo_linear", inputs), ("kv_tokens_linear", width)):
        sizes |= {f"{name}.proj1": (width, entry), f"{name}.proj2": (width, width)}
        sizes[f"{name}.proj3"] = (tokens * width, width)
        sizes[f"{name}.norm"] = (width,)
    sizes |= {f"attention.fc_{part}": (width, width) for part in "qkv"}
    generator = torch.Generator().manual_seed(0)
    state = {f"{key}.weight": torch.randn(size, generator=generator) for key, size in sizes.items()}
    state |= {f"{key}.bias": torch.randn(size[0], generator=generator) for key, size in sizes.items()}
    state["codebook.codebook.weight"] = torch.randn(codes, width, generator=generator)
    return state


def test_the_published_key_layout_loads_and_its_discriminator_is_dropped():
    bank = EmotionBank.from_dice_talk(_dice_state())
    assert (bank.config.inputs, bank.config.width, bank.config.codes, bank.config.tokens) == (6, 16, 5, 2)
    assert bank(torch.randn(2, 6)).tokens.shape == (2, 2, 16)


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape"])
def test_a_damaged_published_bank_is_refused(damage):
    state = _dice_state()
    if damage == "missing":
        del state["attention.fc_q.bias"]
    elif damage == "unknown":
        state["attention.fc_o.weight"] = torch.zeros(1)
    else:
        state["emo_linear.proj1.weight"] = torch.zeros(3, 3)
    with pytest.raises(InvalidInputError, match="no DICE-Talk emotion bank"):
        EmotionBank.from_dice_talk(state)


def _parity_folder():
    default = Path(__file__).resolve().parents[2].parent / "shared" / "parity"
    return Path(os.environ.get("AFFETTO_PARITY_DIR", default))


def test_parity_with_the_published_bank():
    folder, salt = _parity_folder(), os.environ.get("AFFETTO_PARITY_SALT", "a")
    golden = folder / "dice_talk" / f"golden_{salt}.npz"
    if not golden.is_file():
        pytest.skip(f"no parity pack at {golden}: set AFFETTO_PARITY_DIR")
    module = importlib.util.spec_from_file_location("parity_recipe", folder / "recipe.py")
    recipe = importlib.util.module_from_spec(module)
    module.loader.exec_module(recipe)
    keys = json.loads((folder / "dice_talk" / "state_keys.json").read_text())["emo_model"]
    state = {key: recipe.value(key, tuple(shape), salt) for key, shape in keys.items()}
    bank = EmotionBank.from_dice_talk(state).eval()
    assert dataclasses.replace(bank.config, topk=4) == DICE_TALK
    prior = recipe.tensor("input.emotion_prior", (1, 1, 1, 1, 256), salt).reshape(1, 256)
    with np.load(golden) as pack, torch.no_grad():
        for mode in ("attend", "retrieve"):
            output = bank(prior, mode)
            expected = torch.from_numpy(pack[f"emotion_tokens.{mode}"]).reshape(output.tokens.shape)
            assert (output.tokens - expected).abs().max() < 1e-4
            assert output.loss.item() == pytest.approx(float(pack["emotion_tokens.vq_loss"]), abs=1e-4)
            assert output.indices.item() == int(pack["emotion_bank.index"].item())
