import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from affetto.conditioning.encoders.base import EmotionEncoder
from affetto.conditioning.encoders.speech import SpeechEncoder, SpeechEnsemble, ensemble_metadata
from affetto.conditioning.encoders.speech_features import SpeechSpec, frame_features, functionals, pitch
from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES, SpeechNetworkConfig
from affetto.conditioning.train import SpeechRecipe, concordance, train_speech_emotion
from affetto.conditioning.train_data import load_clips
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError, TryAgainError, UsageError
from affetto.weights.store import save_tensors

SPEC = SpeechSpec()
RATE = SPEC.mel.rate
TINY = SpeechNetworkConfig(width=16, blocks=2, embedding=8)


def _voice(seconds=2.0, hertz=150.0, seed=0):
    """A buzz with a wandering pitch and syllables, like a voice."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.05 * np.sin(2 * np.pi * 0.7 * time))) / RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20))
    loud = 0.2 + 0.8 * np.sin(2 * np.pi * 2.0 * time) ** 2
    return (0.2 * buzz * loud + 0.001 * rng.standard_normal(len(time))).astype(np.float32)


def _sound(samples):
    return Audio(samples=samples[None], rate=RATE)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return SpeechEncoder(SpeechEnsemble(TINY, 2))


@pytest.mark.parametrize("hertz", [90.0, 150.0, 240.0, 400.0])
def test_pitch_is_found_within_a_quarter_of_a_semitone(hertz):
    octaves, strength = pitch(torch.from_numpy(_voice(1.0, hertz))[None], SPEC)
    true = np.log2(hertz / 100 * (1 + 0.05 * np.sin(2 * np.pi * 0.7 * np.arange(100) / 100)))
    inside = slice(20, -20)
    assert strength[0, inside].median() > 0.8
    assert np.abs(octaves[0].numpy() - true)[inside].max() < 0.25 / 12


def test_noise_and_silence_have_no_voice():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert pitch(torch.from_numpy(noise)[None], SPEC)[1].median() < 0.5
    assert pitch(torch.zeros(1, RATE), SPEC)[1].max() == 0


@pytest.mark.parametrize("gain", [0.01, 0.3, 3.0])
def test_features_do_not_know_the_level(gain):
    voice = torch.from_numpy(_voice())[None]
    plain, active = frame_features(voice, SPEC)
    scaled, same = frame_features(voice * gain, SPEC)
    assert torch.equal(active, same)
    assert (plain - scaled).abs().max() < 1e-2


def test_statistics_do_not_know_silence_around_the_voice():
    voice = _voice(1.2)
    rows = np.zeros((2, SPEC.samples), np.float32)
    rows[0, 1600 : 1600 + len(voice)] = voice
    rows[1, 6400 : 6400 + len(voice)] = voice  # a whole number of frames later
    features, active = frame_features(torch.from_numpy(rows), SPEC)
    first, second = functionals(features, active, SPEC)
    assert (first - second).abs().max() < 0.05


def test_silence_has_features_of_zero_and_finite_statistics():
    features, active = frame_features(torch.zeros(1, SPEC.samples), SPEC)
    assert not active.any()
    assert features.abs().max() == 0
    assert functionals(features, active, SPEC).isfinite().all()
    assert functionals(features, active, SPEC).shape == (1, SpeechNetworkConfig().statistics)


def test_a_track_has_a_keyframe_for_each_window_and_follows_the_clip(encoder):
    track = encoder(_sound(_voice(5.0)), hop=0.5)
    assert [key.time for key in track.keyframes] == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
    odd = encoder(_sound(_voice(4.3)), hop=1.0)
    assert odd.keyframes[-1].time == pytest.approx(3.3)  # the end is heard too
    assert len(encoder(_sound(_voice(0.7))).keyframes) == 1


def test_silence_is_neutral_with_no_confidence(encoder):
    emotion = encoder.overall(_sound(np.zeros(3 * RATE, np.float32)))
    assert (emotion.intensity, emotion.confidence) == (0.0, 0.0)


def test_reading_is_a_valid_emotion_and_the_same_twice(encoder):
    audio = _sound(_voice(3.0))
    first, second = encoder.read(audio), encoder.read(audio)
    assert np.array_equal(first.vad, second.vad)
    assert sum(first.mixture.values()) == pytest.approx(1.0)
    assert set(first.mixture) <= set(encoder.taxonomy)
    assert isinstance(encoder, EmotionEncoder)


def test_other_rates_and_stereo_are_read_alike(encoder):
    stereo = Audio(samples=np.stack([_voice(2.0)] * 2), rate=RATE)
    plain = encoder.read(_sound(_voice(2.0)))
    assert np.allclose(encoder.read(stereo).vad, plain.vad, atol=1e-6)
    fast = _sound(_voice(2.0)).resampled(44_100)
    assert np.allclose(encoder.read(fast).vad, plain.vad, atol=0.05)


def test_saved_weights_load_strictly_and_say_the_same(encoder, tmp_path):
    state = encoder.network.state_dict()
    path = save_tensors(tmp_path / "s.safetensors", state, ensemble_metadata(encoder.network))
    loaded = SpeechEncoder.from_pretrained(path, device="cpu")
    audio = _sound(_voice(2.0))
    assert np.array_equal(loaded.read(audio).vad, encoder.read(audio).vad)
    state.pop("members.0.vad.bias")
    with pytest.raises(InvalidInputError, match="is no speech encoder"):
        SpeechEncoder.from_pretrained(
            save_tensors(path, state, ensemble_metadata(encoder.network)), device="cpu"
        )
    with pytest.raises(InvalidInputError, match="is no speech encoder"):
        SpeechEncoder.from_pretrained(save_tensors(path, state, {"config": "{}"}), device="cpu")


def test_bad_sound_and_hops_are_refused(encoder):
    with pytest.raises(InvalidInputError, match="no samples"):
        encoder.read(_sound(np.zeros(0, np.float32)))
    with pytest.raises(InvalidInputError, match="NaN"):
        encoder.read(_sound(np.full(RATE, np.nan, np.float32)))
    with pytest.raises(UsageError, match="hop must lie in"):
        encoder(_sound(_voice(1.0)), hop=0.0)
    with pytest.raises(UsageError, match="no speech encoder at"):
        SpeechEncoder.from_pretrained("elsewhere.safetensors")


def test_the_embedded_weights_hear_more_arousal_in_a_high_than_in_a_low_voice():
    shipped = SpeechEncoder.from_pretrained(device="cpu")
    low, high = (shipped.read(_sound(_voice(3.0, hertz))) for hertz in (100.0, 320.0))
    assert high.vad[1] > low.vad[1] + 0.1
    assert shipped.taxonomy[5] == "neutral"


@pytest.mark.gpu
def test_cuda_says_what_the_cpu_says():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    audio = _sound(_voice(4.0))
    on_cpu, on_gpu = (SpeechEncoder.from_pretrained(device=device).read(audio) for device in ("cpu", "cuda"))
    assert np.allclose(on_cpu.vad, on_gpu.vad, atol=2e-3)


def _corpus(folder, speakers=("01", "02", "12")):
    (folder / "audio").mkdir()
    lines = ["name,speaker,emotion"]
    for number, speaker in enumerate(speakers):
        for kind, emotion in enumerate(SPEECH_CLASSES):
            name = f"{speaker}{emotion}"
            voice = _voice(1.0 + 0.1 * kind, 100 + 30 * kind + 10 * number, seed=kind)
            soundfile.write(folder / "audio" / f"{name}.flac", np.pad(voice, (0, 800)), RATE)
            lines.append(f"{name},{speaker},{emotion}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


RECIPE = SpeechRecipe(network=TINY, members=2, epochs=2, batch=4, variations=1)


def test_padding_does_not_reach_the_clips(tmp_path):
    clips = load_clips(_corpus(tmp_path), SPEC)
    assert clips.lengths.min() == pytest.approx(RATE, abs=2)
    assert clips.rows(["12"]).tolist() == list(range(14, 21))


def test_a_resumed_training_ends_in_the_weights_of_an_uninterrupted_one(tmp_path):
    data = _corpus(tmp_path)
    options = {"seed": 3, "recipe": RECIPE, "held_out": ("12",)}
    scores = train_speech_emotion(data, tmp_path / "whole.safetensors", **options)
    assert set(scores) == {"shipped", "networks", "linear", "majority"}
    assert scores["majority"].uar == pytest.approx(1 / 7)
    with pytest.raises(TryAgainError, match="the time is up at epoch 0 of member 1"):
        train_speech_emotion(data, tmp_path / "parts.safetensors", seconds=0.0, **options)
    assert not (tmp_path / "parts.safetensors").exists()
    with pytest.raises(InvalidInputError, match="belongs to other settings"):
        train_speech_emotion(data, tmp_path / "parts.safetensors", resume=True, **{**options, "seed": 4})
    train_speech_emotion(data, tmp_path / "parts.safetensors", resume=True, **options)
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_training_needs_a_corpus_and_a_checkpoint_to_resume(tmp_path):
    with pytest.raises(InvalidInputError, match=r"has no index\.csv"):
        train_speech_emotion(tmp_path, tmp_path / "x.safetensors")
    data = _corpus(tmp_path)
    with pytest.raises(InvalidInputError, match="no checkpoint to resume"):
        train_speech_emotion(data, tmp_path / "x.safetensors", resume=True, recipe=RECIPE, held_out=("12",))
    with pytest.raises(InvalidInputError, match="to train on and to test on"):
        train_speech_emotion(
            data, tmp_path / "x.safetensors", recipe=dataclasses.replace(RECIPE), held_out=("99",)
        )


def test_concordance_rewards_agreement_and_punishes_bias():
    x = np.linspace(-1, 1, 20)
    assert concordance(x, x) == pytest.approx(1.0)
    assert concordance(x, -x) == pytest.approx(-1.0)
    assert concordance(x, x + 1) < 0.5
    assert concordance(np.zeros(3), np.zeros(3)) == 0.0
