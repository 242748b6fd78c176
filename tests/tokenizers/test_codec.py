"""Codec tokens on toy networks with random weights: shapes, files, key maps, errors."""

import json

import numpy as np
import pytest
import torch
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.tokenizers.codec import (
    CodecTokens,
    NeuralCodec,
    codec_file,
    convert_encodec_24khz,
    official_names,
)
from affetto.weights.store import save_tensors

ENCODEC = EncodecConfig(
    num_filters=4, hidden_size=8, codebook_dim=8, codebook_size=16, target_bandwidths=[6.0, 12.0], num_lstm_layers=1,
    sampling_rate=8000, upsampling_ratios=[4, 2],
)  # fmt: skip
STEREO = EncodecConfig(
    num_filters=4, hidden_size=8, codebook_dim=8, codebook_size=16, target_bandwidths=[12.0], num_lstm_layers=1,
    sampling_rate=8000, upsampling_ratios=[4, 2], audio_channels=2, normalize=True, chunk_length_s=0.2, overlap=0.01,
    norm_type="time_group_norm", use_causal_conv=False,
)  # fmt: skip
DAC = DacConfig(
    encoder_hidden_size=4, decoder_hidden_size=32, hidden_size=64, n_codebooks=3, codebook_size=16, codebook_dim=2,
    downsampling_ratios=[2, 4], upsampling_ratios=[4, 2], hop_length=8, sampling_rate=8000,
)  # fmt: skip
MIMI = MimiConfig(
    hidden_size=16, num_filters=2, vector_quantization_hidden_dimension=8, codebook_size=16, codebook_dim=8,
    num_quantizers=3, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
    intermediate_size=16, upsampling_ratios=[4, 2], upsample_groups=16, sampling_rate=8000,
)  # fmt: skip
MODELS = {"encodec": (EncodecModel, ENCODEC), "stereo": (EncodecModel, STEREO), "dac": (DacModel, DAC), "mimi": (MimiModel, MIMI)}  # fmt: skip


def _codec(name):
    kind = "encodec" if name == "stereo" else name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make, config = MODELS[name]
        model = make(config)
        for key, value in model.state_dict().items():
            if key.endswith(("codebook.embed", "codebook.embed_sum")):
                value.normal_(0.0, 0.02)  # else every token is 0
    return NeuralCodec(kind, model)


@pytest.fixture(scope="module", params=list(MODELS))
def codec(request):
    return _codec(request.param)


@pytest.fixture(scope="module")
def sound():
    rng = np.random.default_rng(0)
    return Audio(samples=rng.normal(0, 0.2, (2, 4410)).astype(np.float32), rate=11_025)


def test_a_sound_becomes_tokens_and_tokens_a_sound_of_the_same_length(codec, sound):
    tokens = codec.to_codes(sound)
    assert tokens.codes.shape[1] == codec.codebooks
    assert tokens.codes.min() >= 0
    assert tokens.codes.max() < codec.codebook_size == 16
    assert len(np.unique(tokens.codes)) > 2
    assert tokens.samples == round(4410 * 8000 / 11_025)
    back = codec.from_codes(tokens)
    assert back.samples.shape == (codec.channels, tokens.samples)
    assert back.rate == codec.rate == 8000
    assert np.isfinite(back.samples).all()
    assert np.array_equal(codec.from_codes(tokens).samples, back.samples)


def test_fewer_codebooks_are_the_first_ones_and_cost_less(codec, sound):
    whole, coarse = codec.to_codes(sound), codec.to_codes(sound, codebooks=1)
    assert np.array_equal(whole.codes[:, :1], coarse.codes)
    assert coarse.kbps == pytest.approx(whole.kbps / codec.codebooks)
    assert codec.from_codes(coarse).samples.shape[1] == whole.samples
    with pytest.raises(UsageError, match="codebooks, not 99"):
        codec.to_codes(sound, codebooks=99)


def test_tokens_survive_their_file_byte_for_byte(codec, sound, tmp_path):
    tokens = codec.to_codes(sound)
    path = tokens.save(tmp_path / "a.safetensors")
    loaded = CodecTokens.load(path)
    assert np.array_equal(loaded.codes, tokens.codes)
    assert (loaded.samples, loaded.codec, loaded.padding) == (tokens.samples, tokens.codec, tokens.padding)
    assert loaded.save(tmp_path / "b.safetensors").read_bytes() == path.read_bytes()
    assert np.array_equal(codec.from_codes(loaded).samples, codec.from_codes(tokens).samples)


def test_a_codec_survives_as_our_file_and_as_a_folder(codec, sound, tmp_path):
    tokens = codec.to_codes(sound)
    tensors, metadata = codec_file(codec.kind, codec.model.config, codec.model.state_dict())
    save_tensors(tmp_path / "codec.safetensors", tensors, metadata)
    codec.model.save_pretrained(tmp_path / "folder")
    for name in ("codec.safetensors", "folder"):
        loaded = NeuralCodec.from_pretrained(tmp_path / name, device="cpu")
        assert loaded.kind == codec.kind
        assert np.array_equal(loaded.to_codes(sound).codes, tokens.codes)


@pytest.mark.parametrize("name", ["encodec", "stereo"])
def test_the_encodec_packages_names_are_understood(name):
    expected = _codec(name).model.state_dict()
    theirs = {}
    for key, value in expected.items():
        for mine, official in (
            ("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"),
            (".codebook.", "._codebook."), ("quantizer.layers", "quantizer.vq.layers"),
        ):  # fmt: skip
            key = key.replace(mine, official)
        if key.startswith(("encoder", "decoder")):
            key = key.replace(".layers.", ".model.")
            grown = key.split(".")[2] in ("3", "6") and key.startswith("decoder.") and ".block." not in key
            inner = "convtr" if grown else "conv"
            key = key.replace(".conv.", f".{inner}.{inner}.").replace(".norm.", f".{inner}.norm.")
        theirs[key] = value
    assert set(theirs).isdisjoint(key for key in expected if ".conv." in key)
    assert set(official_names(theirs)) == set(expected)
    assert set(official_names(expected)) == set(expected)


def test_the_published_size_of_encodec_is_checked():
    with torch.device("meta"):
        layout = EncodecModel(EncodecConfig()).state_dict()
    assert sum(v.numel() for k, v in layout.items() if k.startswith(("encoder", "decoder"))) == pytest.approx(14.85e6, rel=0.01)  # fmt: skip
    few = {key: torch.zeros(value.shape) for key, value in list(layout.items())[:3]}
    with pytest.raises(InvalidInputError, match="these are not the weights of encodec"):
        convert_encodec_24khz(few)


def test_missing_and_foreign_weights_are_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError, match="affetto weights pull encodec-24khz"):
        NeuralCodec.from_pretrained("encodec-24khz", device="cpu")
    with pytest.raises(MissingResourceError, match="affetto weights pull"):
        NeuralCodec.from_pretrained(tmp_path / "absent.safetensors", device="cpu")
    other = save_tensors(tmp_path / "x.safetensors", {"w": np.ones(2, np.float32)}, {})
    with pytest.raises(InvalidInputError, match="is no converted codec"):
        NeuralCodec.from_pretrained(other, device="cpu")
    with pytest.raises(InvalidInputError, match="holds no codec tokens"):
        CodecTokens.load(other)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InvalidInputError, match="holds no EnCodec, DAC or Mimi"):
        NeuralCodec.from_pretrained(tmp_path, device="cpu")
    bad = {"samples": 8, "rate": 8000, "codec": "dac", "codebook_size": 4, "padding": 0}
    wild = save_tensors(tmp_path / "y.safetensors", {"codes": np.full((1, 1, 2), 9, np.int16)}, {"format": "affetto-codec-tokens-1", "about": json.dumps(bad)})  # fmt: skip
    with pytest.raises(InvalidInputError, match=r"outside 0\.\.3"):
        CodecTokens.load(wild)


def test_tokens_of_another_codec_and_no_sound_are_refused(sound):
    encodec, dac = _codec("encodec"), _codec("dac")
    with pytest.raises(UsageError, match="tokens of dac at 8000 Hz, but this codec is encodec"):
        encodec.from_codes(dac.to_codes(sound))
    with pytest.raises(InvalidInputError, match=r"shorter than 0\.02 s"):
        encodec.to_codes(Audio(samples=np.zeros((1, 20), np.float32), rate=8000))


def test_an_encoders_states_have_one_row_for_each_frame(sound):
    codec = _codec("encodec")
    assert codec.embed(sound).shape == (codec.to_codes(sound).codes.shape[2], 8)
