"""Mel front ends, HiFi-GAN and Vocos."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank

from affetto.generators.voice.full.hifigan import HiFiGAN, HiFiGANConfig, fold_weight_norm, load_hifigan
from affetto.generators.voice.full.mel import (
    HIFIGAN_MEL,
    VOCOS_MEL,
    hz_to_mel,
    mel_to_hz,
    subtract_noise,
    vocoder_filters,
    vocoder_mel,
)
from affetto.generators.voice.full.vocos import Vocos, VocosConfig, load_vocos
from affetto.runtime.errors import InvalidInputError

TINY_GAN = HiFiGANConfig(
    bands=8, channels=16, rates=(4, 2), kernels=(8, 4), block_kernels=(3, 5), dilations=((1, 3), (1, 3))
)
TINY_VOCOS = VocosConfig(bands=8, width=16, hidden=24, layers=2, fft=64, hop=16)


@given(st.floats(0.0, 11_000.0), st.sampled_from(["slaney", "htk"]))
def test_the_mel_scales_can_be_undone(hertz, scale):
    assert mel_to_hz(hz_to_mel(np.array([hertz]), scale), scale)[0] == pytest.approx(hertz, abs=1e-6)


@pytest.mark.parametrize("spec", [HIFIGAN_MEL, VOCOS_MEL])
def test_filters_equal_those_of_another_library(spec):
    norm = "slaney" if spec.scale == "slaney" else None
    theirs = mel_filter_bank(513, spec.bands, 0.0, spec.high_hz, spec.rate, norm=norm, mel_scale=spec.scale)
    assert np.abs(vocoder_filters(spec).numpy() - theirs.T).max() < 1e-6


def test_a_tone_lights_the_band_it_lies_in():
    time = torch.arange(22_050) / 22_050
    mel = vocoder_mel(0.5 * torch.sin(2 * torch.pi * 1000.0 * time))
    assert mel.shape == (80, 22_050 // 256)
    loudest = int(mel[:, 40].argmax())
    corners = mel_to_hz(np.linspace(0.0, hz_to_mel(np.array([8000.0]), "slaney")[0], 82), "slaney")
    assert corners[loudest] < 1000.0 < corners[loudest + 2]
    assert float(vocoder_mel(torch.zeros(22_050)).max()) == pytest.approx(np.log(1e-5), abs=1e-3)


def test_sound_too_short_to_reflect_is_refused():
    with pytest.raises(InvalidInputError, match=r"300 samples is too short: give 0\.023 s"):
        vocoder_mel(torch.zeros(300))


def test_steady_noise_is_subtracted_and_speech_stays():
    rng = np.random.default_rng(0)
    source = np.full((80, 60), -11.0, np.float32)
    source[:, 20:] = rng.normal(0.0, 0.5, (80, 40))
    noisy = np.log(np.sqrt(np.exp(2 * source) + 0.01)).astype(np.float32)
    clean = subtract_noise(noisy, source)
    assert clean[:, :20].mean() < noisy[:, :20].mean() - 1.5
    assert np.abs(clean[:, 20:] - source[:, 20:]).mean() < 0.05
    assert subtract_noise(noisy[:, :3], source[:, :3]) is not None


def test_hifigan_has_the_published_size_and_keys():
    with torch.device("meta"):
        network = HiFiGAN()
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(13.93e6, rel=1e-3)
    assert network.hop == 256
    assert tuple(state["ups.0.weight"].shape) == (512, 256, 16)
    assert tuple(state["resblocks.11.convs1.2.weight"].shape) == (32, 32, 11)
    assert len(state) == 2 * (1 + 4 + 12 * 6 + 1)


def test_official_weight_normalised_weights_load_and_sound_alike():
    torch.manual_seed(0)
    plain = HiFiGAN(TINY_GAN).eval()
    split = {}
    for key, value in plain.state_dict().items():
        if key.endswith("weight"):
            length = value.flatten(1).norm(dim=1).reshape(-1, *[1] * (value.ndim - 1))
            split |= {f"{key}_g": length, f"{key}_v": 3.0 * value}  # any length of v gives the same weight
        else:
            split[key] = value
    mel = torch.randn(2, 8, 11)
    sound = load_hifigan(split, TINY_GAN)(mel)
    assert sound.shape == (2, 88)
    assert torch.allclose(sound, plain(mel), atol=1e-6)


def test_half_of_a_weight_pair_is_refused():
    with pytest.raises(InvalidInputError, match=r"'conv_pre\.weight_g' is missing"):
        fold_weight_norm({"conv_pre.weight_v": torch.ones(2, 2, 3)})
    with pytest.raises(InvalidInputError, match="not the weights of HiFi-GAN"):
        load_hifigan({"conv_pre.weight": torch.ones(2, 2, 3)}, TINY_GAN)


def test_vocos_has_the_published_size_and_keys():
    with torch.device("meta"):
        network = Vocos()
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(13.5e6, rel=3e-3)
    assert tuple(state["backbone.embed.weight"].shape) == (512, 100, 7)
    assert tuple(state["backbone.convnext.7.pwconv1.weight"].shape) == (1536, 512)
    assert tuple(state["backbone.convnext.0.gamma"].shape) == (512,)
    assert tuple(state["head.out.weight"].shape) == (1026, 512)


def test_the_public_vocos_file_loads_without_its_front_end():
    torch.manual_seed(0)
    network = Vocos(TINY_VOCOS).eval()
    front = {
        "feature_extractor.mel_spec.spectrogram.window": torch.ones(64),
        "feature_extractor.mel_spec.mel_scale.fb": torch.ones(33, 8),
        "head.istft.window": torch.ones(64),
    }
    mel = torch.randn(1, 8, 13)
    loaded = load_vocos({**network.state_dict(), **front}, TINY_VOCOS)
    assert torch.equal(loaded(mel), network(mel))
    assert loaded(mel).shape == (1, 12 * 16)


def test_vocos_can_put_a_known_spectrum_into_sound():
    """With a head that says the spectrum of a tone, the sound is that tone."""
    network = Vocos(TINY_VOCOS).eval()
    time = torch.arange(12 * 16, dtype=torch.float32)
    tone = torch.sin(2 * torch.pi * 0.125 * time)
    spectrum = torch.stft(tone, 64, 16, 64, torch.hann_window(64), return_complex=True)
    said = torch.cat([spectrum.abs().clamp_min(1e-6).log(), spectrum.angle()]).T[None]
    network.head.out = torch.nn.Identity()
    assert torch.allclose(network.head(said)[0], tone, atol=1e-4)


@pytest.mark.parametrize(("config", "kind"), [(TINY_GAN, HiFiGANConfig), (TINY_VOCOS, VocosConfig)])
def test_configurations_survive_as_text(config, kind):
    assert kind.from_json(config.to_json()) == config
    with pytest.raises(InvalidInputError, match="convert them again"):
        kind.from_json("[]")
