"""Contract tests: random weights under the published keys load strictly and are read as documented."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from transformers import RobertaConfig, RobertaForSequenceClassification, Wav2Vec2Config

from affetto.conditioning.encoders.audeering import ROBUST_12, AudeeringEncoder, AudeeringNetwork
from affetto.conditioning.encoders.base import EmotionEncoder
from affetto.conditioning.encoders.faces import (
    CageNetwork,
    FaceEncoder,
    HSEmotionNetwork,
    b0_config,
    prepared,
    timm_to_transformers,
)
from affetto.conditioning.encoders.go_emotions import GoEmotionsEncoder
from affetto.conditioning.encoders.hub import load_strict, open_checkpoint
from affetto.conditioning.taxonomies import get_taxonomy
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError, MissingResourceError
from affetto.weights.store import save_tensors

TINY_SPEECH = ROBUST_12 | {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": (16, 16), "conv_kernel": (10, 8), "conv_stride": (40, 8), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


def _audio(seconds=1.0, rate=16_000):
    samples = np.random.default_rng(0).standard_normal((1, int(seconds * rate))).astype(np.float32) * 0.1
    return Audio(samples=samples, rate=rate)


def _audeering_file(tmp_path, *, old_keys=False):
    torch.manual_seed(0)
    network = AudeeringNetwork(Wav2Vec2Config(**TINY_SPEECH))
    state = network.state_dict()
    if old_keys:
        state = {
            key.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): value
            for key, value in state.items()
        }  # fmt: skip
    path = save_tensors(tmp_path / "vad.safetensors", state, {"config": json.dumps(TINY_SPEECH)})
    return network.eval(), path


def test_audeering_keys_are_the_published_ones():
    keys = set(AudeeringNetwork(Wav2Vec2Config(**TINY_SPEECH)).state_dict())
    assert {"classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight"} <= keys
    assert "wav2vec2.encoder.layers.1.attention.q_proj.weight" in keys
    assert all(key.startswith(("wav2vec2.", "classifier.")) for key in keys)


@pytest.mark.parametrize("old_keys", [False, True])
def test_audeering_outputs_are_arousal_dominance_valence(tmp_path, old_keys):
    network, path = _audeering_file(tmp_path, old_keys=old_keys)
    encoder = AudeeringEncoder.from_pretrained(path, device="cpu")
    samples = _audio().samples
    normal = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    with torch.inference_mode():
        arousal, dominance, valence = network(torch.from_numpy(normal))[0][0].tolist()
    reading = encoder.read(_audio())
    expected = np.clip([2 * valence - 1, 2 * arousal - 1, 2 * dominance - 1], -1, 1)
    assert np.allclose(reading.vad, expected, atol=1e-4)
    assert reading.embedding.shape == (32,)
    assert isinstance(encoder, EmotionEncoder)


def test_audeering_calibration_centres_on_its_clips(tmp_path):
    _, path = _audeering_file(tmp_path)
    clips = [_audio(1.0), _audio(1.5)]
    encoder = AudeeringEncoder.from_pretrained(path, device="cpu").calibrated(clips)
    mean = np.mean([encoder.read(clip).vad for clip in clips], axis=0)
    assert np.abs(mean).max() < 1e-3


def test_audeering_refuses_too_short_sound(tmp_path):
    _, path = _audeering_file(tmp_path)
    with pytest.raises(InvalidInputError, match=r"shorter than 0\.1 s"):
        AudeeringEncoder.from_pretrained(path, device="cpu").read(_audio(0.05))


def _go_emotions_folder(folder, labels):
    from tokenizers import ByteLevelBPETokenizer

    torch.manual_seed(0)
    tokenizer = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        ["I am very happy today", "so sad and tired"], vocab_size=300, special_tokens=specials
    )
    tokenizer.save_model(str(folder))
    config = RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1,
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    network = RobertaForSequenceClassification(config)
    save_tensors(folder / "model.safetensors", network.state_dict(), {"format": "pt"})
    described = {key: value for key, value in config.to_dict().items() if value is not None} | {
        "model_type": "roberta"
    }
    (folder / "config.json").write_text(json.dumps(described))
    return network.eval()


def test_go_emotions_reads_28_labels_with_a_probability_each(tmp_path):
    labels = get_taxonomy("goemotions").labels
    network = _go_emotions_folder(tmp_path, labels)
    assert {
        "roberta.embeddings.word_embeddings.weight",
        "classifier.dense.weight",
        "classifier.out_proj.bias",
    } <= set(network.state_dict())
    encoder = GoEmotionsEncoder.from_pretrained(tmp_path, device="cpu")
    assert encoder.taxonomy == labels
    with torch.no_grad():  # one label certain, the others impossible
        encoder.network.classifier.out_proj.weight.zero_()
        bias = torch.full((28,), -20.0)
        bias[labels.index("anger")] = 20.0
        encoder.network.classifier.out_proj.bias.copy_(bias)
    emotion = encoder("I am very happy today")
    assert max(emotion.mixture, key=lambda name: emotion.mixture[name]) == "angry"
    assert emotion.confidence == pytest.approx(1.0)
    assert isinstance(encoder, EmotionEncoder)


def test_go_emotions_refuses_other_label_sets_and_missing_folders(tmp_path):
    _go_emotions_folder(tmp_path, ["joy", "hunger", "neutral"])
    with pytest.raises(InvalidInputError, match="label 'hunger' is not one of GoEmotions"):
        GoEmotionsEncoder.from_pretrained(tmp_path, device="cpu")
    with pytest.raises(MissingResourceError, match="no model folder"):
        GoEmotionsEncoder.from_pretrained(tmp_path / "none")


def _published_hsemotion():
    """Random tensors under timm's key names, and the network that holds them."""
    torch.manual_seed(0)
    network = HSEmotionNetwork().eval()
    backwards = {ours: theirs for theirs, ours in timm_to_transformers().items()}
    state = {}
    for key, value in network.state_dict().items():
        module, _, leaf = key.rpartition(".")
        name = "classifier" if module == "classifier" else backwards[module.removeprefix("backbone.")]
        state[f"{name}.{leaf}"] = value
    return network, state


def test_hsemotion_loads_timms_key_layout_strictly(tmp_path):
    network, state = _published_hsemotion()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert len(state) == 360  # timm's efficientnet_b0, classifier and batch counters included
    assert shapes["conv_stem.weight"] == (32, 3, 3, 3)
    assert shapes["blocks.0.0.conv_pw.weight"] == (16, 32, 1, 1)
    assert shapes["blocks.1.0.se.conv_reduce.weight"] == (4, 96, 1, 1)
    assert shapes["blocks.6.0.conv_pwl.weight"] == (320, 1152, 1, 1)
    assert shapes["conv_head.weight"] == (1280, 320, 1, 1)
    assert shapes["classifier.weight"] == (10, 1280)
    encoder = FaceEncoder.from_pretrained(
        "hsemotion-b0", save_tensors(tmp_path / "h.safetensors", state, {}), device="cpu"
    )
    picture = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    with torch.inference_mode():
        assert torch.allclose(encoder.network(prepared(picture)), network(prepared(picture)), atol=1e-5)
    reading = encoder.read(picture)
    assert sum(reading.mixture.values()) == pytest.approx(1.0)
    assert isinstance(encoder, EmotionEncoder)


def test_hsemotion_with_a_foreign_key_is_refused(tmp_path):
    _, state = _published_hsemotion()
    state["blocks.0.1.conv_dw.weight"] = torch.zeros(1)
    path = save_tensors(tmp_path / "h.safetensors", state, {})
    with pytest.raises(InvalidInputError, match=r"'blocks\.0\.1\.conv_dw\.weight' is unknown"):
        FaceEncoder.from_pretrained("hsemotion-b0", path, device="cpu")


def test_expression_orders_differ_and_are_told_apart():
    network = HSEmotionNetwork(b0_config())
    with torch.no_grad():
        network.classifier.weight.zero_()
        bias = torch.full((10,), -20.0)
        bias[4], bias[8], bias[9] = 20.0, 0.6, 0.2  # the fifth is Happiness here, Fear in AffectNet's order
        network.classifier.bias.copy_(bias)
    emotion = FaceEncoder(network)(np.full((64, 64, 3), 128, np.uint8))
    assert emotion.mixture["happy"] > 0.99
    assert emotion.vad[0] > 0.3


def test_cage_needs_torchvision_and_says_so():
    if importlib.util.find_spec("torchvision") is not None:
        pytest.skip("torchvision is installed")
    with pytest.raises(MissingResourceError, match="needs torchvision: pip install torchvision"):
        CageNetwork()


def test_cage_loads_its_published_key_layout():
    pytest.importorskip("torchvision")
    state = {key.removeprefix("net."): value for key, value in CageNetwork().state_dict().items()}
    assert state["classifier.5.weight"].shape == (10, 512)
    assert "classifier.5.bias" not in state
    CageNetwork().load_published(state, "cage.safetensors")


def test_small_pictures_are_refused():
    with pytest.raises(InvalidInputError, match="too small"):
        prepared(np.zeros((8, 8, 3), np.uint8))


def test_strict_loading_names_the_first_problem(tmp_path):
    layer = torch.nn.Linear(2, 3)
    source = tmp_path / "x.safetensors"
    with pytest.raises(InvalidInputError, match="key 'bias' is missing"):
        load_strict(layer, {"weight": torch.zeros(3, 2)}, source=source)
    with pytest.raises(InvalidInputError, match=r"'weight' is \(2, 2\), not \(3, 2\)"):
        load_strict(layer, {"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, source=source)
    load_strict(
        layer,
        {"w": torch.ones(3, 2), "bias": torch.zeros(3), "old": torch.zeros(1)},
        source=source,
        renames=((r"^w$", "weight"),),
        dropped=(r"^old$",),
    )
    assert layer.weight.sum() == 6


def test_a_missing_checkpoint_says_how_to_get_it(tmp_path):
    with pytest.raises(MissingResourceError, match=r"get the file from .*audeering"):
        open_checkpoint("audeering-vad")
    with pytest.raises(MissingResourceError, match="no weights at"):
        open_checkpoint(tmp_path / "none.safetensors")
