import json
import zipfile

import numpy as np
import pytest
import soundfile
import torch

from affetto.conditioning.encoders.speech_features import SpeechSpec
from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES
from affetto.conditioning.encoders.voice_embedding import (
    VoiceEmbedder,
    VoiceNetwork,
    VoiceNetworkConfig,
    network_metadata,
)
from affetto.conditioning.train_voice_embedding import (
    VoiceEmbeddingRecipe,
    recall_of,
    standardise,
    train_voice_embedding,
)
from affetto.conditioning.voice_embedding_data import BURST_CLASS, BURST_TERMS, burst_vad
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError, TryAgainError, UsageError
from affetto.weights.registry import REGISTRY
from affetto.weights.store import save_tensors

RATE = SpeechSpec().mel.rate
TINY = VoiceNetworkConfig(width=16, early=1, late=1)
RECIPE = VoiceEmbeddingRecipe(
    network=TINY, steps=4, speech=4, bursts=4, speech_variations=1, burst_variations=1
)


def _voice(seconds=1.0, hertz=150.0, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.05 * np.sin(4.4 * time))) / RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (0.2 * buzz * (0.2 + np.sin(6 * time) ** 2) + 0.001 * rng.standard_normal(len(time))).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(0)
    return VoiceEmbedder(VoiceNetwork(TINY))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    audio = folder / "emodb" / "audio"
    audio.mkdir(parents=True)
    rows = ["name,speaker,emotion"]
    for number, (speaker, emotion) in enumerate(
        (s, e) for s in ("08", "09", "12", "03") for e in ("anger", "neutral")
    ):
        name = f"{speaker}a01{number}"
        soundfile.write(audio / f"{name}.flac", _voice(hertz=120 + 12 * number, seed=number), RATE)
        rows.append(f"{name},{speaker},{emotion}")
    (folder / "emodb" / "index.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "emogator").mkdir()
    with zipfile.ZipFile(folder / "emogator" / "bursts.zip", "w") as bundle:
        for person in (1, 30, 31):
            for category in (3, 24):
                path = folder / "burst.mp3"
                soundfile.write(path, _voice(hertz=200.0 + person), RATE, format="MP3")
                bundle.write(path, f"{person:06d}-{category:02d}-1.mp3")
    return folder


def test_an_embedding_does_not_know_the_level_and_a_long_sound_counts_all_its_windows(embedder):
    voice = _voice(3.7)
    one = embedder(voice)
    assert one.shape == (1, 256)
    assert one.dtype == torch.float32
    torch.testing.assert_close(embedder(0.1 * voice), one, atol=2e-3, rtol=1e-3)
    sound = Audio(samples=voice[None], rate=RATE)
    torch.testing.assert_close(embedder([sound, voice[:RATE]])[0], one[0])
    centres, rows, voiced = embedder.frames(voice, hop=0.5)
    assert len(centres) == len(rows) == len(voiced) == 5
    assert centres[-1] == pytest.approx(3.7 - 1.0)


def test_silence_embeds_to_numbers_and_bad_sounds_are_refused(embedder):
    assert torch.isfinite(embedder(np.zeros(RATE, np.float32))).all()
    with pytest.raises(InvalidInputError, match="no samples"):
        embedder(np.zeros(0, np.float32))
    with pytest.raises(InvalidInputError, match="NaN"):
        embedder(np.full(RATE, np.nan, np.float32))
    with pytest.raises(UsageError, match="hop"):
        embedder.frames(np.zeros(RATE, np.float32), hop=0.0)


def test_reading_embeddings_gives_probabilities_and_vad(embedder):
    probability, vad = embedder.read(torch.randn(5, 256))
    torch.testing.assert_close(probability.sum(-1), torch.ones(5))
    assert probability.shape == (5, len(SPEECH_CLASSES))
    assert vad.abs().max() <= 1


def test_standardising_changes_the_embeddings_and_not_what_is_read_in_them():
    torch.manual_seed(1)
    network = VoiceNetwork(TINY).eval()
    features, active = torch.randn(6, TINY.spec.channels, 200), torch.ones(6, 200, dtype=torch.bool)
    statistics = torch.randn(6, TINY.statistics)
    before = network(features, active, statistics)
    read = network.judge(before)
    standardise(network, before)
    after = network(features, active, statistics)
    torch.testing.assert_close(after.mean(0), torch.zeros(256), atol=1e-3, rtol=0)
    torch.testing.assert_close(after.std(0), torch.ones(256), atol=1e-2, rtol=0)
    for found, known in zip(network.judge(after), read, strict=True):
        torch.testing.assert_close(found, known, atol=1e-3, rtol=1e-3)


def test_burst_categories_have_places_and_classes():
    assert len(BURST_TERMS) == 30
    vad = burst_vad()
    assert np.abs(vad).max() <= 1
    assert vad[27, 0] > 0 > vad[26, 0]  # positive and negative surprise
    assert {BURST_TERMS[k] for k, klass in BURST_CLASS.items() if klass == "anger"} == {"angry"}


def test_training_resumes_to_the_same_weights_and_reports_its_figures(corpus, tmp_path):
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    figures = train_voice_embedding(corpus, whole, recipe=RECIPE)
    assert {"uar", "ccc", "speaker", "bursts"} <= set(figures)
    assert json.dumps(figures)
    with pytest.raises(TryAgainError, match="resume"):
        train_voice_embedding(corpus, parted, recipe=RECIPE, seconds=0.0)
    train_voice_embedding(corpus, parted, recipe=RECIPE, resume=True)
    assert whole.read_bytes() == parted.read_bytes()
    loaded = VoiceEmbedder.from_pretrained(whole, device="cpu")
    assert torch.isfinite(loaded(_voice())).all()
    with pytest.raises(InvalidInputError, match="no checkpoint"):
        train_voice_embedding(corpus, whole, recipe=RECIPE, resume=True)


def test_training_needs_speakers_to_test_on(corpus, tmp_path):
    alone = tmp_path / "one"
    alone.mkdir()
    (alone / "audio").symlink_to(corpus / "emodb" / "audio")
    text = (corpus / "emodb" / "index.csv").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if ",12," not in line and ",03," not in line]
    (alone / "index.csv").write_text("\n".join(kept), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="held out"):
        train_voice_embedding(alone, tmp_path / "w.safetensors", recipe=RECIPE)


def test_other_files_are_no_voice_embedder(tmp_path):
    path = save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, {})
    with pytest.raises(InvalidInputError, match="no voice embedder"):
        VoiceEmbedder.from_pretrained(path)
    bare = save_tensors(
        tmp_path / "b.safetensors", {"x": torch.zeros(2)}, network_metadata(VoiceNetwork(TINY))
    )
    with pytest.raises(InvalidInputError, match="no voice embedder"):
        VoiceEmbedder.from_pretrained(bare, device="cpu")
    with pytest.raises(UsageError, match="no voice embedder at"):
        VoiceEmbedder.from_pretrained(tmp_path / "gone.safetensors")


def test_recall_is_averaged_over_classes():
    classes = np.array([0, 0, 0, 0, 1])
    assert recall_of(np.zeros(5, np.int64), classes) == 0.5


@pytest.mark.skipif("voice-embedding" not in REGISTRY, reason="the weights are not embedded yet")
def test_the_embedded_weights_tell_a_shout_from_a_murmur():
    embedder = VoiceEmbedder.from_pretrained(device="cpu")
    _, vad = embedder.read(embedder([_voice(2.0, 110.0), _voice(2.0, 340.0)]))
    assert vad[1, 1] > vad[0, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_embeds_as_the_cpu_does(embedder):
    there = VoiceEmbedder(VoiceNetwork(TINY).to("cuda"))
    there.network.load_state_dict(embedder.network.state_dict())
    torch.testing.assert_close(there(_voice(3.0)), embedder(_voice(3.0)), atol=1e-3, rtol=1e-3)
