"""EmoReg: embeddings, directions, pieces, the converter's contract."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affetto.conditioning.directions import DirectionalLatents, principal_axes
from affetto.generators.voice.full.diffvc import DiffVC
from affetto.generators.voice.full.embedding import NetworkEmbedding, new_head, open_embedding, train_head
from affetto.generators.voice.full.emoreg import EmoRegConverter, cut_pieces, open_hifigan
from affetto.generators.voice.full.emoreg_weights import EmoRegWeights
from affetto.generators.voice.pipeline import VoiceConverter
from affetto.media.audio import Audio
from affetto.runtime.errors import CancelledError, InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.progress import CancelToken
from affetto.weights.store import save_tensors

from .conftest import TINY, vowels


@pytest.fixture(scope="module")
def weights():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(60, 256, generator=generator)
    labels = ["neutral", "angry", "sad"] * 20
    latents[1::3, 0] += 5.0
    latents[2::3, 1] += 5.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = DiffVC(TINY).eval()
    return EmoRegWeights(
        network=network,
        directions=DirectionalLatents.from_local_means(latents, labels, parts=2, keep=0.95),
        axes=principal_axes(latents, 0.95).float(),
        about={"data": "noise"},
    )


@pytest.fixture(scope="module")
def converter(weights, vocoder, embedder):
    return EmoRegConverter(weights, vocoder, embedder, device=torch.device("cpu"))


FAST = {"steps": 1, "solver": "pf"}


@given(st.integers(16, 900), st.integers(64, 200), st.integers(0, 99))
def test_pieces_cover_every_frame_once_and_stay_short(frames, longest, seed):
    mel = np.random.default_rng(seed).normal(size=(4, frames)).astype(np.float32)
    pieces = cut_pieces(mel, longest, 8)
    assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
    assert (pieces[0].low, pieces[0].start, pieces[-1].stop, pieces[-1].high) == (0, 0, frames, frames)
    assert all(0 < piece.high - piece.low <= longest for piece in pieces)


def test_pieces_are_cut_where_it_is_quiet():
    mel = np.zeros((4, 300), np.float32)
    mel[:, 140:160] = -8.0
    assert 140 <= cut_pieces(mel, 232, 16)[0].stop < 160


def test_a_conversion_has_the_shape_and_the_loudness_of_its_source(converter, speech):
    made = converter(speech, "angry", **FAST)
    assert made.audio.samples.shape == speech.samples.shape
    assert made.audio.rate == speech.rate
    assert made.time_map.is_identity
    assert not np.array_equal(made.audio.samples, speech.samples)
    loud = [float(np.sqrt(np.mean(np.square(each.samples)))) for each in (made.audio, speech)]
    assert loud[0] <= loud[1] * 1.01


def test_strength_zero_and_neutral_return_the_very_samples(converter, speech):
    for arguments in ({"emotion": "angry", "strength": 0.0}, {"emotion": "neutral"}):
        assert np.array_equal(converter(speech, **arguments, **FAST).audio.samples, speech.samples)


def test_the_same_seed_gives_the_same_samples(converter, speech):
    runs = [converter(speech, "sad", seed=seed, steps=2, solver="em").audio.samples for seed in (3, 3, 4)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_batches_of_pieces_change_nothing(converter, monkeypatch):
    from affetto.generators.voice.full import emoreg

    monkeypatch.setattr(emoreg, "cut_pieces", lambda mel: cut_pieces(mel, 64))
    long = Audio(samples=vowels(2.0, 22_050, 150.0)[None], rate=22_050)
    one, many = (converter(long, "angry", batch=size, **FAST).audio.samples for size in (1, 3))
    assert np.abs(one - many).max() < 1e-3


def test_the_emotion_may_change_over_time_and_stereo_stays_stereo(converter, speech):
    stereo = dataclasses.replace(speech, samples=np.repeat(speech.samples, 2, axis=0))
    made = converter(stereo, "0:neutral; 1:angry", **FAST)
    assert made.audio.samples.shape == stereo.samples.shape


def test_a_reference_recording_leads_without_a_named_emotion(converter, speech):
    other = Audio(samples=vowels(1.0, 16_000, 260.0, seed=5)[None], rate=16_000)
    towards = converter(speech, reference=other, **FAST).audio.samples
    named = converter(speech, "angry", **FAST).audio.samples
    assert np.isfinite(towards).all()
    assert not np.array_equal(towards, named)


def test_the_walk_is_linear_and_ends_where_it_should(weights):
    place, goal = torch.randn(256), torch.randn(256)
    step = weights.reference_direction(place, goal)
    assert torch.allclose(step @ weights.axes.T, (goal - place) @ weights.axes.T, atol=1e-4)
    assert torch.allclose(weights.reference_direction(place, place), torch.zeros(256), atol=1e-5)
    assert float(weights.direction("angry", place)[0]) > 2.0


def test_emotions_that_the_weights_do_not_know_are_refused_with_those_they_do(converter, speech):
    with pytest.raises(UsageError, match="know angry, sad: ask for one of them, or give a reference"):
        converter(speech, "happy", **FAST)


def test_a_voice_bank_needs_our_own_embeddings(weights, vocoder, embedder, speech):
    other = EmoRegConverter(
        dataclasses.replace(weights, embedding="/a/network"), vocoder, embedder, device=torch.device("cpu")
    )
    with pytest.raises(UsageError, match="these weights use another network"):
        other(speech, "angry", bank="some.safetensors", **FAST)


def test_steps_are_reported_and_can_be_stopped(converter, speech):
    seen = []
    converter(speech, "angry", steps=2, solver="pf", callback_on_step_end=seen.append)
    assert [(event.done, event.total) for event in seen] == [(1, 2), (2, 2)]
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        converter(speech, "angry", cancel=token, **FAST)


def test_weights_survive_their_file(weights, tmp_path):
    head = new_head(16, seed=3)
    kept = dataclasses.replace(weights, embedding="/a/network", head=head)
    path = kept.save(tmp_path / "a.safetensors")
    assert kept.save(tmp_path / "b.safetensors").read_bytes() == path.read_bytes()
    loaded = EmoRegWeights.load(path)
    assert (loaded.embedding, loaded.about, loaded.network.config) == ("/a/network", {"data": "noise"}, TINY)
    assert loaded.head is not None
    assert torch.equal(loaded.head.weight, head.weight)
    place = torch.ones(256)
    assert torch.allclose(loaded.direction("sad", place), weights.direction("sad", place))
    state = weights.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.network.state_dict().items())


def test_a_file_that_is_no_emoreg_is_refused(tmp_path):
    other = save_tensors(tmp_path / "x.safetensors", {"w": np.ones(2, np.float32)}, {})
    with pytest.raises(InvalidInputError, match="holds no EmoReg weights: train them"):
        EmoRegWeights.load(other)


def test_without_weights_the_user_is_told_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    for call in (EmoRegConverter.from_pretrained, lambda: VoiceConverter.from_pretrained("emoreg")):
        with pytest.raises(
            MissingResourceError, match=r"affetto weights pull emoreg.*affetto train voice-emoreg"
        ) as told:
            call()
        assert told.value.exit_code == 4
    with pytest.raises(MissingResourceError, match="affetto weights pull hifigan-universal"):
        open_hifigan("hifigan-universal")
    with pytest.raises(UsageError, match=r"no weights at absent\.pt"):
        open_hifigan("absent.pt")


def test_a_users_speech_network_embeds_through_its_head(speech_network):
    reader = open_embedding(
        str(speech_network), new_head(16), device=torch.device("cpu"), dtype=torch.float32
    )
    assert isinstance(reader, NetworkEmbedding)
    sounds = [vowels(0.5, 16_000, 120.0), vowels(0.7, 16_000, 240.0)]
    both = reader(sounds)
    assert both.shape == (2, 256)
    assert torch.allclose(both[1], reader(sounds[1:])[0])
    with pytest.raises(InvalidInputError, match="too short"):
        reader([sounds[0][:100]])


def test_a_folder_without_a_network_is_refused(tmp_path):
    with pytest.raises(MissingResourceError, match="transformers layout"):
        NetworkEmbedding.from_folder(tmp_path, device=torch.device("cpu"))


def test_a_trained_head_tells_classes_apart_better_than_a_random_one():
    generator = torch.Generator().manual_seed(0)
    labels = ["a", "b"] * 40
    states = torch.randn(80, 12, generator=generator)
    states[1::2, 3] += 1.5
    states[:, 5] *= 8.0  # what says nothing about the class

    def apart(head):
        """How far the classes lie apart along their difference, in deviations within them."""
        with torch.no_grad():
            first, second = head(states)[::2], head(states)[1::2]
        way = torch.nn.functional.normalize(first.mean(0) - second.mean(0), dim=0)
        spread = 0.5 * ((first @ way).std() + (second @ way).std())
        return float(((first - second) @ way).mean() / spread)

    assert apart(train_head(states, labels, steps=100, rate=3e-3)) > 1.2 * apart(new_head(12))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bf16_on_the_gpu_sounds_like_fp32_on_the_cpu(weights, vocoder, embedder, speech):
    exact = EmoRegConverter(weights, vocoder, embedder, device=torch.device("cpu"))(speech, "angry", **FAST)
    rough = EmoRegConverter(weights, vocoder, embedder, device=torch.device("cuda"), dtype=torch.bfloat16)(
        speech, "angry", **FAST
    )
    difference = np.abs(exact.audio.samples - rough.audio.samples).mean()
    assert difference < 0.05 * np.abs(exact.audio.samples).mean()
