"""A tiny corpus of synthetic speech-like sound, and tiny networks."""

import numpy as np
import pytest
import soundfile
import torch

from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder, VoiceNetwork, VoiceNetworkConfig
from affetto.generators.voice.full.diffvc import DiffVCConfig
from affetto.generators.voice.full.hifigan import HiFiGAN, HiFiGANConfig
from affetto.media.audio import Audio

TINY = DiffVCConfig(channels=8, filters=16, layers=1, postnet=8, width=8, condition=8)
TINY_GAN = HiFiGANConfig(channels=16, rates=(16, 16), kernels=(32, 32), block_kernels=(3,), dilations=((1,),))


def vowels(seconds, rate, pitch, seed=0):
    """Buzzing vowels with pauses, so that there is a pitch, formants and silence."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.05 * np.sin(2 * np.pi * 3 * time))) / rate
    sound = sum(np.sin(n * phase) / n for n in range(1, 12))
    gate = (np.sin(2 * np.pi * 2 * time + 1) > -0.6).astype(np.float64)
    gate = np.convolve(gate, np.ones(400) / 400, mode="same")
    return (0.12 * gate * sound + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def speech():
    return Audio(samples=vowels(1.2, 24_000, 140.0)[None], rate=24_000)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for speaker, base in (("ann", 210.0), ("bob", 120.0)):
        for emotion, factor in (("neutral", 1.0), ("angry", 1.4), ("sad", 0.85)):
            for take in range(2):
                path = folder / speaker / emotion / f"{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, vowels(0.7, 16_000, base * factor, seed=take), 16_000)
    return folder


@pytest.fixture(scope="session")
def embedder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VoiceEmbedder(VoiceNetwork(VoiceNetworkConfig(width=16, late=1)))


@pytest.fixture(scope="session")
def vocoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HiFiGAN(TINY_GAN).eval()


@pytest.fixture(scope="session")
def speech_network(tmp_path_factory):
    """A wav2vec 2.0 of toy size with random weights, saved as transformers does."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    folder = tmp_path_factory.mktemp("network")
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_stride=(20, 16), conv_kernel=(20, 16), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Wav2Vec2Model(config).save_pretrained(folder)
    return folder
