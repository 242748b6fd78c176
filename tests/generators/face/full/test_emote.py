"""EMOTE's network: what the published one computes, its names, its attention, its style."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from affetto.conditioning.track import as_track
from affetto.generators.face.full.audio import SpeechNetwork, normalised, renamed_weight_norm
from affetto.generators.face.full.emote import Emote, EmoteConfig, EmoteDecoder
from affetto.generators.face.full.emote_weights import convert_emote, load_emote, save_emote
from affetto.generators.face.full.flint import Flint, FlintConfig, FlintDecoder
from affetto.generators.face.full.layers import AlibiEncoder
from affetto.generators.face.full.style import EMOTIONS, PEOPLE, StyleOptions, label_row, style_rows
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError

from .small import TINY, tiny_emote

PLACES = {
    "flint_decoder": "sequence_decoder.motion_prior.motion_decoder.",
    "squasher": "sequence_decoder.squasher_2.",
    "bert_decoder": "sequence_decoder.bert_decoder.",
}


@pytest.fixture(scope="module")
def pack():
    default = Path(__file__).resolve().parents[4].parent / "shared" / "parity"
    folder = Path(os.environ.get("AFFETTO_PARITY_DIR", default))
    salt = os.environ.get("AFFETTO_PARITY_SALT", "a")
    golden = folder / "emote" / f"golden_{salt}.npz"
    if not golden.is_file():
        pytest.skip(f"no parity pack at {golden}: set AFFETTO_PARITY_DIR")
    module = importlib.util.spec_from_file_location("parity_recipe", folder / "recipe.py")
    recipe = importlib.util.module_from_spec(module)
    module.loader.exec_module(recipe)
    with np.load(golden) as held:
        return {name: held[name] for name in held}, recipe, salt, folder / "emote"


@pytest.fixture(scope="module")
def real_size():
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in Emote().state_dict().items()}


def test_parity_of_names_and_shapes_at_the_published_size(pack, real_size):
    keys = json.loads((pack[3] / "state_keys.json").read_text())
    assert set(keys) == set(PLACES)
    for module, prefix in PLACES.items():
        ours = {
            key.removeprefix(prefix): list(shape)
            for key, shape in real_size.items()
            if key.startswith(prefix)
        }
        assert ours == keys[module]


def test_parity_with_the_published_modules(pack):
    golden, recipe, salt, _ = pack
    flint = FlintDecoder(FlintConfig()).eval()
    decoder = EmoteDecoder(EmoteConfig()).eval()
    for module in (flint, decoder.squasher_2, decoder.bert_decoder):
        recipe.fill_(module.state_dict(), salt)
    with torch.no_grad():
        found = {
            "flint.decoded": flint(recipe.tensor("input.flint_latent", (2, 6, 128), salt)),
            "flint.mask": flint.decoder_transformer.bias(48),
            "squasher": decoder.squashed(recipe.tensor("input.squasher", (2, 48, 128), salt)),
            "sequence_decoder.hidden": decoder.bert_decoder(
                recipe.tensor("input.styled", (2, 40, 256), salt)
            ),
            "sequence_decoder.mask": decoder.bert_decoder.bias(40),
        }
    assert set(found) == set(golden)
    for name, value in found.items():
        assert np.abs(value.numpy() - golden[name]).max() < 1e-4, name


def stock(encoder: AlibiEncoder) -> nn.TransformerEncoder:
    """torch's own encoder with the same weights."""
    layer = nn.TransformerEncoderLayer(32, 4, 24, dropout=0.0, activation="gelu", batch_first=True)
    other = nn.TransformerEncoder(layer, 1).eval()
    other.load_state_dict(encoder.state_dict())
    return other


@pytest.mark.parametrize("period", [1, 30])
def test_the_bias_stays_a_float_where_torchs_fast_path_makes_it_boolean(period):
    torch.manual_seed(0)
    encoder = AlibiEncoder(32, 4, 24, layers=1, period=period, dropout=0.0).eval()
    hidden = torch.randn(2, 70, 32)
    mask = encoder.bias(70).repeat(2, 1, 1)
    other = stock(encoder)
    with torch.no_grad():
        ours, fast = encoder(hidden), other(hidden, mask=mask)
        enabled = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            slow = other(hidden, mask=mask)
        finally:
            torch.backends.mha.set_fastpath_enabled(enabled)
    assert (ours - slow).abs().max() < 1e-5
    assert (fast - slow).abs().max() > 0.05  # the bug that this layer avoids


def test_attention_equals_its_definition():
    torch.manual_seed(1)
    encoder = AlibiEncoder(16, 2, 8, layers=1, period=3, dropout=0.0).eval()
    attention, hidden = encoder.layers[0].self_attn, torch.randn(1, 9, 16)
    q, k, v = (hidden @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    heads = [each.reshape(1, 9, 2, 8).transpose(1, 2) for each in (q, k, v)]
    scores = heads[0] @ heads[1].transpose(-1, -2) / 8**0.5 + encoder.bias(9)
    expected = attention.out_proj((scores.softmax(-1) @ heads[2]).transpose(1, 2).reshape(1, 9, 16))
    assert torch.allclose(attention(hidden, encoder.bias(9)), expected, atol=1e-6)


def test_the_network_has_the_published_size(real_size):
    sizes = {key: int(np.prod(shape)) for key, shape in real_size.items() if "num_batches" not in key}
    spoken = sum(size for key, size in sizes.items() if key.startswith("audio_model."))
    assert spoken == 94_371_712
    assert 1.1e6 < sum(sizes.values()) - spoken < 1.3e6


@pytest.mark.parametrize(("seconds", "fps"), [(1.0, 25), (1.3, 30)])
def test_speech_states_come_at_the_rate_of_the_picture(seconds, fps):
    network = tiny_emote().audio_model
    sound = torch.randn(2, round(16_000 * seconds), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = network(sound, round(seconds * fps))
        whole = network.model.feature_extractor(sound)
        frames = whole.shape[-1]
        same = network(sound, frames)
        plain = network.model(sound).last_hidden_state
    assert states.shape == (2, round(seconds * fps), 24)
    assert torch.allclose(same, plain, atol=1e-5)  # at wav2vec's own rate nothing is changed


def test_samples_are_brought_to_unit_variance_through_16_bits():
    level = normalised(np.linspace(-0.1, 0.3, 1000))
    assert abs(float(level.mean())) < 1e-5
    assert abs(float(level.std()) - 1.0) < 1e-5
    assert len(np.unique(normalised(np.full(10, 0.5)))) == 1


def test_the_last_frames_are_filled_up_and_cut_off_again():
    network = tiny_emote()
    style = torch.zeros(1, 13, TINY.styles)
    with torch.no_grad():
        assert network(torch.randn(1, 8320), style).shape == (1, 13, 103)


def test_style_is_one_hot_at_the_corners_and_moves_between_them():
    rows = style_rows(as_track("0:neutral; 1:happy@0.45; 2:happy; 3:happy@1.5"), np.arange(4.0))
    named = {name: rows[:, index] for index, name in enumerate(EMOTIONS)}
    np.testing.assert_allclose(named["neutral"], [1, 0, 0, -0.5], atol=1e-6)
    np.testing.assert_allclose(named["happy"], [0, 1, 1, 1.5], atol=1e-6)
    np.testing.assert_allclose(rows[:3, 8:11], [[1, 0, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(rows[:, 11:], 1 / 32)


@pytest.mark.parametrize("emotion", ["angry@0", "vad(0.8,0.5,0.2)@0", "neutral"])
def test_intensity_zero_is_the_very_neutral_style(emotion):
    calm = style_rows(as_track("neutral"), np.zeros(1))
    assert np.array_equal(style_rows(as_track(emotion), np.zeros(1)), calm)


def test_a_drawn_emotion_reaches_the_style_as_shares():
    rows = style_rows(as_track("vad(0.8,0.5,0.4)"), np.zeros(1))
    assert rows[0, EMOTIONS.index("happy")] > 0.5
    assert abs(float(rows[0, :8].sum()) - 1.0) < 1e-5


def test_people_are_shares_and_unknown_ones_are_named():
    row = StyleOptions.of({"M003": 1.0, "W029": 3.0}).row()
    assert (row[0], row[-1], row.sum()) == (0.25, 0.75, 1.0)
    with pytest.raises(UsageError, match="no speaking style 'M001'"):
        StyleOptions.of("M001").row()
    labelled = label_row("sad", 2, "M005")
    assert np.flatnonzero(labelled).tolist() == [2, 9, 11 + PEOPLE.index("M005")]
    with pytest.raises(UsageError, match="level 4"):
        label_row("sad", 4, None)


def published(shapes) -> dict[str, torch.Tensor]:
    """What the authors' file holds, as far as names and shapes go."""
    state = {
        key: torch.zeros(shape, dtype=torch.int64 if "num_batches" in key else torch.float32).float()
        if "num_batches" not in key
        else torch.zeros((), dtype=torch.int64)
        for key, shape in (
            (key, shape) for key, shape in shapes.items() if not key.endswith("masked_spec_embed")
        )
    }
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, name in old.items():
        key = f"audio_model.model.encoder.pos_conv_embed.conv.{new}"
        state[key.replace(new, name)] = state.pop(key)
    state["sequence_decoder.flame.v_template"] = torch.zeros(5, 3)
    state["sequence_decoder.motion_prior.motion_encoder.squasher.0.0.weight"] = torch.zeros(1)
    return state


def test_the_authors_checkpoint_is_accepted_with_its_old_names(real_size):
    tensors, metadata = convert_emote(published(real_size))
    assert {key: tuple(value.shape) for key, value in tensors.items()} == real_size
    assert EmoteConfig.from_json(metadata["config"]) == EmoteConfig()


def test_the_first_release_with_fifty_expressions_is_accepted():
    config = EmoteConfig(flint=FlintConfig(expressions=50, projected=False))
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in Emote(config).state_dict().items()}
    _, metadata = convert_emote(published(shapes))
    assert EmoteConfig.from_json(metadata["config"]) == config


def test_the_checkpoint_of_something_else_is_named_in_words(real_size):
    with pytest.raises(InvalidInputError, match="these are not the weights of EMOTE"):
        convert_emote({"conv_in.weight": torch.zeros(3)})
    short = published(real_size)
    del short["sequence_decoder.obj_vector.map.bias"]
    with pytest.raises(InvalidInputError, match=r"obj_vector\.map\.bias' is missing"):
        convert_emote(short)


def test_weights_survive_their_file_and_a_missing_file_names_the_command(tmp_path, monkeypatch):
    network = tiny_emote()
    loaded = load_emote(save_emote(tmp_path / "a.safetensors", network))
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "empty"))
    with pytest.raises(MissingResourceError, match="affetto weights pull emote"):
        load_emote()


def test_old_and_new_weight_norm_names_are_the_same():
    old = {"a.pos_conv_embed.conv.weight_g": torch.ones(1), "b.weight_g": torch.ones(1)}
    assert set(renamed_weight_norm(old)) == {
        "a.pos_conv_embed.conv.parametrizations.weight.original0", "b.weight_g"}  # fmt: skip


def test_the_prior_gives_back_as_many_frames_as_it_got():
    torch.manual_seed(0)
    flint = Flint(FlintConfig(width=16, heads=2, hidden=16, expressions=5)).eval()
    motion, divergence = flint(torch.randn(2, 32, 8))
    assert motion.shape == (2, 32, 8)
    assert float(divergence.detach()) >= 0


def test_the_front_of_the_speech_network_can_be_kept_still():
    network = SpeechNetwork(tiny_emote().audio_model.model.config)
    network.freeze_front()
    still = {name for name, each in network.named_parameters() if not each.requires_grad}
    assert still
    assert all("feature_extractor" in name for name in still)
