"""emotion2vec: the published names load strictly, and random weights give what the authors' program gives for them."""

import numpy as np
import pytest
import torch

from affetto.apps.cli import main
from affetto.conditioning.encoders.base import EmotionEncoder
from affetto.conditioning.encoders.emotion2vec import Emotion2vecEncoder
from affetto.conditioning.encoders.emotion2vec_network import (
    Emotion2vecConfig,
    Emotion2vecNetwork,
    alibi_slopes,
    convert_emotion2vec,
)
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError
from affetto.weights.store import save_tensors

_AUDIO = "modality_encoders.AUDIO."


def _published():
    """Tensors under the published names, drawn in their order, and the sound drawn after them."""
    block = {
        "attn.proj.bias": (48,), "attn.proj.weight": (48, 48), "attn.qkv.bias": (144,), "attn.qkv.weight": (144, 48),
        "mlp.fc1.bias": (96,), "mlp.fc1.weight": (96, 48), "mlp.fc2.bias": (48,), "mlp.fc2.weight": (48, 96),
        "norm1.bias": (48,), "norm1.weight": (48,), "norm2.bias": (48,), "norm2.weight": (48,),
    }  # fmt: skip
    shapes = {f"blocks.0.{key}": shape for key, shape in block.items()}
    shapes |= {f"{_AUDIO}context_encoder.blocks.0.{key}": shape for key, shape in block.items()}
    shapes |= {f"{_AUDIO}alibi_scale": (1, 1, 12, 1, 1), f"{_AUDIO}extra_tokens": (1, 2, 48)}
    for index, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        wave = f"{_AUDIO}local_encoder.conv_layers.{index}"
        shapes[f"{wave}.0.weight"] = (16, 1 if index == 0 else 16, kernel)
        shapes |= {f"{wave}.2.1.{part}": (16,) for part in ("bias", "weight")}
    shapes |= {f"{_AUDIO}context_encoder.norm.{part}": (48,) for part in ("bias", "weight")}
    shapes |= {f"{_AUDIO}project_features.1.{part}": (16,) for part in ("bias", "weight")}
    shapes |= {f"{_AUDIO}project_features.2.bias": (48,), f"{_AUDIO}project_features.2.weight": (48, 16)}
    for index in (1, 2):
        shapes[f"{_AUDIO}relative_positional_encoder.{index}.0.bias"] = (48,)
        shapes[f"{_AUDIO}relative_positional_encoder.{index}.0.weight"] = (48, 12, 5)
    shapes |= {"proj.bias": (9,), "proj.weight": (9, 48)}
    rng = np.random.default_rng(7)
    tensors = {
        key: torch.from_numpy((0.3 * rng.standard_normal(shapes[key])).astype(np.float32))
        for key in sorted(shapes)
    }
    sound = torch.from_numpy(rng.standard_normal((1, 4000)).astype(np.float32))
    return tensors, torch.nn.functional.layer_norm(sound, sound.shape)


def _network(tensors):
    ours, metadata = convert_emotion2vec(tensors)
    network = Emotion2vecNetwork(Emotion2vecConfig.from_json(metadata["config"])).eval()
    network.load_state_dict(ours)
    return network


def test_random_weights_give_what_the_authors_program_gives():
    tensors, sound = _published()
    network = _network(tensors)
    with torch.no_grad():
        logits, frames = network(sound)
    # FunASR's Emotion2vec with these tensors and this sound
    assert logits[0].tolist() == pytest.approx(
        [0.10904, 0.57626, 0.25905, -0.71362, -0.20872, -0.95721, -0.03523, -1.2662, -0.21863], abs=2e-5
    )
    assert frames.shape == (1, 12, 48)
    assert frames[0, 5, :4].tolist() == pytest.approx([0.88676, 0.46231, 0.09462, 0.20096], abs=2e-5)


def test_the_shapes_of_a_file_tell_the_sizes():
    _, metadata = convert_emotion2vec(_published()[0])
    config = Emotion2vecConfig.from_json(metadata["config"])
    assert (config.width, config.blocks, config.heads, config.hidden) == (48, 2, 12, 96)
    assert (config.tokens, config.places, config.place_kernel, config.place_groups) == (2, 2, 5, 4)
    assert config.fewest_samples == 400
    with torch.device("meta"):
        base = Emotion2vecNetwork(Emotion2vecConfig())
    assert sum(value.numel() for value in base.parameters()) == pytest.approx(93.2e6, rel=0.01)


def test_fine_tuned_files_have_a_prefix_and_what_only_training_needs():
    tensors, sound = _published()
    tuned = {key if key.startswith("proj.") else f"d2v_model.{key}": value for key, value in tensors.items()}
    tuned |= {
        "_ema.blocks.0.norm1.weight": torch.zeros(3),
        f"d2v_model.{_AUDIO}decoder.proj.bias": torch.zeros(3),
    }
    tuned[f"d2v_model.{_AUDIO}alibi_scale"] = tensors[f"{_AUDIO}alibi_scale"][0]
    with torch.no_grad():
        assert torch.equal(_network(tuned)(sound)[0], _network(tensors)(sound)[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("proj.weight"), "names no emotion"),
        (lambda t: t.update({f"{_AUDIO}local_encoder.conv_layers.0.0.bias": torch.zeros(16)}), r"conv_layers\.0\.0\.bias' is unknown"),
        (lambda t: t.update({"norm.weight": torch.zeros(48)}), "norms before its layers"),
        (lambda t: t.pop(f"{_AUDIO}extra_tokens"), "'tokens' is missing"),
        (lambda t: t.update({"blocks.0.mlp.fc2.bias": torch.zeros(3)}), r"is \(3,\), not \(48,\)"),
    ],
)  # fmt: skip
def test_files_of_other_networks_are_refused(change, said):
    tensors, _ = _published()
    change(tensors)
    with pytest.raises(InvalidInputError, match=said):
        convert_emotion2vec(tensors)


def test_alibi_slopes_fall_geometrically_and_twelve_heads_take_some_of_twenty_four():
    assert alibi_slopes(8) == [2.0**-n for n in range(1, 9)]
    twelve = alibi_slopes(12)
    assert twelve[:8] == alibi_slopes(8)
    assert twelve[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_a_pulled_file_reads_one_voice_and_other_or_unknown_are_no_emotions(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    tensors, _ = _published()
    tensors["proj.weight"] = torch.zeros(9, 48)
    tensors["proj.bias"] = torch.tensor(
        [2.0, 0, 0, 0, 0, 3.0, 0, 0, 3.0]
    )  # other and unknown lead, then anger
    torch.save({"model": tensors}, tmp_path / "model.pt")
    assert main(["weights", "pull", "emotion2vec-base", "--from", str(tmp_path / "model.pt"), "-q"]) == 0
    capsys.readouterr()
    encoder = Emotion2vecEncoder.from_pretrained(device="cpu")
    assert isinstance(encoder, EmotionEncoder)
    assert "other" not in encoder.taxonomy
    samples = np.random.default_rng(0).standard_normal((1, 44_100)).astype(np.float32) * 0.1
    reading = encoder.read(Audio(samples=samples, rate=44_100))
    assert max(reading.mixture, key=lambda name: reading.mixture[name]) == "angry"
    assert reading.confidence == pytest.approx(np.exp(2) / (np.exp(2) + 2 * np.exp(3) + 6), abs=1e-6)
    assert reading.embedding.shape == (48,)
    with pytest.raises(InvalidInputError, match=r"shorter than 0\.1 s"):
        encoder.read(Audio(samples=samples[:, :2000], rate=44_100))


def test_long_sound_is_read_in_pieces_whose_shares_are_their_lengths():
    tensors, _ = _published()
    encoder = Emotion2vecEncoder(_network(tensors))
    samples = np.random.default_rng(1).standard_normal((1, 21 * 16_000)).astype(np.float32) * 0.1
    whole = encoder.read(Audio(samples=samples, rate=16_000))
    halves = [
        encoder.read(Audio(samples=np.ascontiguousarray(part), rate=16_000))
        for part in np.array_split(samples, 2, axis=1)
    ]
    assert whole.mixture["angry"] == pytest.approx(
        np.mean([half.mixture["angry"] for half in halves]), abs=0.02
    )
    assert np.allclose(whole.embedding, np.mean([half.embedding for half in halves], axis=0), atol=1e-5)


def test_a_file_that_was_not_converted_is_refused(tmp_path):
    path = save_tensors(
        tmp_path / "x.safetensors", {"w": torch.zeros(2)}, {"format": "other", "config": "{}"}
    )
    with pytest.raises(InvalidInputError, match="holds no emotion2vec-1 weights"):
        Emotion2vecEncoder.from_pretrained(path, device="cpu")
