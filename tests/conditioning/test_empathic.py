"""Empathic Insight: regressors and encoders of any size load strictly under their published names and are read as documented."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import SiglipConfig, SiglipModel, WhisperConfig, WhisperForConditionalGeneration

from affetto.apps.cli import main
from affetto.conditioning.encoders.base import EmotionEncoder
from affetto.conditioning.encoders.empathic import EmpathicFaceEncoder, EmpathicVoiceEncoder
from affetto.conditioning.encoders.empathic_network import (
    EmpathicNetwork,
    EncoderSizes,
    convert_empathic_face,
    convert_empathic_voice,
    label_of,
)
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.weights.origins import ORIGINS
from affetto.weights.store import save_tensors

PLACES, WIDTH = 100, 64  # two seconds at Whisper's 20 ms a state


@pytest.fixture(scope="module")
def whisper():
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=WIDTH, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_source_positions=PLACES, vocab_size=50, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def siglip():
    torch.manual_seed(0)
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 16, "intermediate_size": 48,
        "image_size": 64, "patch_size": 16,
    }  # fmt: skip
    text = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 20,
    }
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()


def _voice_head(score, seed):
    """A regressor of the published shape that gives about `score` for anything."""
    torch.manual_seed(seed)
    layers = {
        "proj": (8, PLACES * WIDTH),
        "mlp.2": (8, 8),
        "mlp.5": (4, 8),
        "mlp.8": (2, 4),
        "mlp.11": (1, 2),
    }
    head = {f"_orig_mod.{name}.weight": 1e-4 * torch.randn(*shape) for name, shape in layers.items()}
    head |= {f"_orig_mod.{name}.bias": torch.zeros(shape[0]) for name, shape in layers.items()}
    head["_orig_mod.mlp.11.bias"] = torch.tensor([float(score)])
    return head


def _face_head(score, seed):
    torch.manual_seed(seed)
    layers = {"layers.0": (6, 32), "layers.3": (4, 6), "layers.6": (1, 4)}
    head = {f"{name}.weight": 0.1 * torch.randn(*shape) for name, shape in layers.items()}
    head |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in layers.items()}
    head["layers.6.bias"] = torch.tensor([float(score)])
    return head


def _sound(seconds=1.0):
    samples = np.random.default_rng(0).standard_normal((1, int(16_000 * seconds))).astype(np.float32) * 0.1
    return Audio(samples=samples, rate=16_000)


def test_a_pulled_folder_of_voices_reads_what_its_regressors_say(tmp_path, monkeypatch, capsys, whisper):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    folder = tmp_path / "published"
    (folder / "EmoWhisper-AnS-Small-v0.1").mkdir(parents=True)
    state = {key: value for key, value in whisper.state_dict().items() if key != "proj_out.weight"}
    save_tensors(folder / "EmoWhisper-AnS-Small-v0.1" / "model.safetensors", state, {"format": "pt"})
    scores = {"Anger": 3.0, "Fear": 1.0, "Valence": -1.5, "Arousal": 3.0, "Submissive_vs._Dominant": 0.9}
    needed = [
        part.name
        for part in ORIGINS["empathic-insight-voice"].parts
        if part.name.endswith(".pth") and part.url
    ]
    for seed, name in enumerate([*needed, "model_Jealousy_&_Envy_best.pth"]):
        label = name.removeprefix("model_").removesuffix("_best.pth")
        torch.save(_voice_head(scores.get(label, 0.0), seed), folder / name)
    assert main(["weights", "pull", "empathic-insight-voice", "--from", str(folder), "-q"]) == 0
    capsys.readouterr()
    encoder = EmpathicVoiceEncoder.from_pretrained(device="cpu")
    assert isinstance(encoder, EmotionEncoder)
    assert {"Anger", "Contentment", "Jealousy_and_Envy"} <= set(encoder.taxonomy)
    assert not {"Valence", "Arousal"} & set(encoder.taxonomy)
    reading = encoder.read(_sound())
    assert reading.vad == pytest.approx([-0.5, 0.5, 0.3], abs=0.02)  # -1.5 of 3, 3 of 0..4, 0.9 of 3
    assert reading.mixture["neutral"] == pytest.approx(0.25, abs=0.01)  # the strongest is 3 of 4
    assert reading.mixture["angry"] > 2 * reading.mixture["fear"] > 0
    assert sum(reading.mixture.values()) == pytest.approx(1.0)


def test_a_voice_is_whispers_states_laid_end_to_end(whisper):
    head = _voice_head(0.0, 1)
    head["_orig_mod.proj.weight"] = torch.randn(8, PLACES * WIDTH) * 0.02
    for name in ("mlp.2", "mlp.5", "mlp.8", "mlp.11"):
        head[f"_orig_mod.{name}.weight"] = head[f"_orig_mod.{name}.weight"].abs() * 1e4
    tensors, metadata = convert_empathic_voice(
        {
            "model_Anger_best.pth": head,
            "model_Fear_best.pth": _voice_head(1.0, 2),
            "w/model.safetensors": whisper.state_dict(),
        }
    )
    network = _built("voice", tensors, metadata)
    mels = torch.randn(1, 80, 2 * PLACES)
    with torch.no_grad():
        states = whisper.get_encoder()(mels).last_hidden_state.reshape(1, -1)
        x = states
        for name in ("proj", "mlp.2", "mlp.5", "mlp.8", "mlp.11"):
            weight, bias = head[f"_orig_mod.{name}.weight"].half().float(), head[f"_orig_mod.{name}.bias"]
            x = (x if name == "proj" else x.relu()) @ weight.T + bias
        found = network(mels)[0]
    assert network.labels == ("Anger", "Fear")
    assert found[0].item() == pytest.approx(x.item(), rel=1e-4)
    assert found[1].item() == pytest.approx(1.0, abs=1e-2)


def _built(medium, tensors, metadata):
    import json

    config = json.loads(metadata["config"])
    heads = {label: tuple(widths) for label, widths in config["heads"].items()}
    network = EmpathicNetwork(medium, EncoderSizes(**config["sizes"]), heads).eval()
    network.heads.half()
    network.load_state_dict(tensors)
    return network


def test_a_face_is_siglips_picture_features_and_its_forty_labels_are_those_of_voices(siglip):
    small = {
        "model_elation_best.pth": _face_head(3.5, 1),
        "model_jealousy_&_envy_best.pth": _face_head(0.0, 2),
    }
    tensors, metadata = convert_empathic_face({**small, "s/model.safetensors": siglip.state_dict()})
    network = _built("face", tensors, metadata)
    assert network.labels == ("Elation", "Jealousy_and_Envy")
    assert network.sizes == EncoderSizes(width=32, layers=1, heads=16, hidden=48, places=16, given=16)
    assert network.sizes.picture == 64
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        features = siglip.get_image_features(pixel_values=pictures)
        features = getattr(features, "pooler_output", features)
        assert torch.allclose(network.encoder(pixel_values=pictures).pooler_output, features, atol=1e-5)
    encoder = EmpathicFaceEncoder(network)
    assert isinstance(encoder, EmotionEncoder)
    emotion = encoder(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    assert max(emotion.mixture, key=lambda name: emotion.mixture[name]) == "elated"
    assert emotion.intensity == pytest.approx(0.5, abs=0.1)  # 3.5 of 7
    with pytest.raises(InvalidInputError, match="too small"):
        encoder.read(np.zeros((8, 8, 3), np.uint8))


def test_all_forty_labels_have_a_file_and_a_place_or_none():
    parts = [part.name for part in ORIGINS["empathic-insight-face"].parts if part.name.endswith(".pth")]
    labels = {label_of(name.removeprefix("model_").removesuffix("_best.pth"), "face") for name in parts}
    assert len(parts) == len(labels) == 40
    voices = [part.name for part in ORIGINS["empathic-insight-voice"].parts if part.name.endswith(".pth")]
    assert (
        len({label_of(name.removeprefix("model_").removesuffix("_best.pth"), "voice") for name in voices})
        == 43
    )


def test_a_score_above_the_scale_is_full_and_below_nothing(siglip):
    tensors, metadata = convert_empathic_face(
        {
            "model_fear_best.pth": _face_head(-4.0, 1),
            "model_sadness_best.pth": _face_head(-3.0, 2),
            "s/model.safetensors": siglip.state_dict(),
        }
    )
    network = _built("face", tensors, metadata)
    picture = np.full((40, 40, 3), 128, np.uint8)
    assert EmpathicFaceEncoder(network)(picture).intensity == 0
    with torch.no_grad():
        network.heads[0].layers[-1].bias.fill_(50.0)
    assert EmpathicFaceEncoder(network)(picture).intensity == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.update({"other.safetensors": {}}), "2 files could be the encoder"),
        (lambda p: p["s/model.safetensors"].clear(), "holds no SigLIP's picture tower"),
        (lambda p: p["model_fear_best.pth"].update({"scale": torch.ones(1)}), "'scale' is unknown"),
        (lambda p: p["model_fear_best.pth"].update({"layers.0.weight": torch.ones(6, 31)}), r"is \(6, 31\), not \(6, 32\)"),
        (lambda p: p["model_fear_best.pth"].pop("layers.3.bias"), "is missing"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(siglip, change, said):
    parts = {"model_fear_best.pth": _face_head(0.0, 1), "s/model.safetensors": dict(siglip.state_dict())}
    change(parts)
    with pytest.raises(InvalidInputError, match=said):
        convert_empathic_face(parts)


def test_a_label_that_emonet_lacks_is_named():
    with pytest.raises(UsageError, match="'hunger' is none of the forty"):
        label_of("hunger", "face")
    with pytest.raises(UsageError, match="none of the forty"):
        label_of("Valence", "face")


def test_networks_are_not_mixed_up_and_one_emotion_is_not_enough(siglip, whisper):
    parts = {"model_fear_best.pth": _face_head(0.0, 1), "s/model.safetensors": siglip.state_dict()}
    network = _built("face", *convert_empathic_face(parts))
    with pytest.raises(UsageError, match="judges a face, not a voice"):
        EmpathicVoiceEncoder(network)
    with pytest.raises(InvalidInputError, match="tells none apart"):
        EmpathicFaceEncoder(network)
    with pytest.raises(InvalidInputError, match="SigLIP's picture tower"):
        convert_empathic_face({**parts, "s/model.safetensors": whisper.state_dict()})
    assert dataclasses.replace(network.sizes, places=4).picture == 32
