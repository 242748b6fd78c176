import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder
from affetto.generators.voice.adapter import VoiceAdapter
from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.controls import analyse
from affetto.generators.voice.pipeline import VoiceConverter, VoiceOptions
from affetto.generators.voice.residual_flow import ResidualFlow
from affetto.generators.voice.residual_net import ResidualConfig, ResidualNet
from affetto.media.audio import Audio, load_audio, save_audio, save_stream
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from tests.generators.voice.sounds import talker


@pytest.fixture(scope="module")
def converter():
    torch.manual_seed(0)
    net = ResidualNet(ResidualConfig(width=16, style=16, code=8, blocks=2))
    torch.nn.init.normal_(net.leave.weight, std=0.003)
    net.scale.fill_(0.5)
    cpu = torch.device("cpu")
    return VoiceConverter(
        VoiceEmbedder.from_pretrained(device="cpu"),
        VoiceBank.from_pretrained(),
        ResidualFlow(net, device=cpu),
        device=cpu,
    )


def _speech(rate=16_000, seconds=2.0, channels=1, hertz=120.0):
    sound = talker(rate, seconds, hertz)[0]
    return Audio(samples=np.tile(sound, (channels, 1)), rate=rate)


def _level(audio):
    return 20 * np.log10(np.sqrt(np.mean(np.square(audio.samples, dtype=np.float64))))


@pytest.mark.parametrize(
    ("emotion", "strength"), [("angry", 0.0), ("neutral", 1.0), ("happy@0", 1.0), (None, 1.0)]
)
def test_no_emotion_gives_the_very_samples(converter, emotion, strength):
    speech = _speech()
    done = converter(speech, emotion, strength=strength)
    assert np.array_equal(done.audio.samples, speech.samples)
    assert done.time_map.is_identity


def test_anger_is_higher_than_sadness_and_both_keep_the_loudness(converter):
    speech = _speech()
    pitch, level = {}, []
    for emotion in ("angry", "sad"):
        done = converter(speech, emotion)
        heard = analyse(done.audio.mono(), done.audio.rate)
        pitch[emotion] = float(np.median(heard.log_f0[heard.voiced > 0.5]))
        level.append(_level(done.audio))
        assert done.audio.seconds == pytest.approx(done.time_map.to_output(speech.seconds), abs=0.02)
    assert pitch["angry"] > pitch["sad"] + 0.2
    assert max(level) - min(level) < 3.0


def test_the_slider_moves_the_pitch_step_by_step(converter):
    speech = _speech()
    shift = [
        float(np.mean(converter.plan(speech, "angry", options=VoiceOptions(strength=s)).residual.pitch))
        for s in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    ]
    assert spearmanr(range(6), shift).statistic == 1.0


def test_the_same_seed_gives_the_same_bytes(converter):
    speech = _speech()
    first = converter(speech, "fear", seed=5).audio.samples
    assert np.array_equal(first, converter(speech, "fear", seed=5).audio.samples)
    other = converter(speech, "fear", seed=6).audio.samples
    assert other.shape != first.shape or not np.array_equal(first, other)


def test_timing_can_be_kept(converter):
    speech = _speech()
    done = converter(speech, "sad", keep_timing=True)
    assert done.audio.samples.shape == speech.samples.shape
    assert done.time_map.is_identity


def test_what_comes_before_the_emotion_is_untouched(converter):
    speech = _speech(seconds=3.0)
    done = converter(speech, "0:neutral; 1.5:neutral; 1.8:angry")
    assert np.array_equal(done.audio.samples[:, :20_000], speech.samples[:, :20_000])
    assert not np.array_equal(done.audio.samples[:, 32_000:40_000], speech.samples[:, 32_000:40_000])


def test_stereo_at_44100_hz_stays_so(converter):
    done = converter(_speech(44_100, channels=2), "happy", keep_timing=True)
    assert done.audio.samples.shape == (2, 88_200)
    assert done.audio.rate == 44_100
    assert np.isfinite(done.audio.samples).all()
    assert np.abs(done.audio.samples).max() <= 1.0


def test_level_is_a_dial_of_its_own(converter):
    speech = _speech()
    speech = Audio(samples=0.2 * speech.samples, rate=speech.rate)
    plain, loud = (converter(speech, "angry", level=level).audio for level in (0.0, 1.0))
    assert abs(_level(plain) - _level(speech)) < 3.0
    assert _level(loud) > _level(plain) + 5.0


def test_more_than_full_strength_is_flagged(converter):
    assert not converter.plan(_speech(), "sad").warnings
    plan = converter.plan(_speech(), "sad", options=VoiceOptions(strength=1.6))
    assert any("overdriven" in line for line in plan.warnings)


def test_clipping_is_a_warning(converter):
    loud = Audio(samples=np.clip(6.0 * _speech().samples, -1.0, 1.0), rate=16_000)
    assert any("clipped" in line for line in converter.plan(loud, "happy").warnings)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((1, 16_000), np.float32), "silent"),
        (np.full((1, 800), 0.1, np.float32), "lasts 0.050 s"),
        (np.full((1, 16_000), np.nan, np.float32), "NaN"),
        (np.full((9, 16_000), 0.1, np.float32), "9 channels"),
        (0.1 * np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32), "no voice"),
    ],
)
def test_sound_that_holds_no_voice_is_refused_in_one_line(converter, samples, reason):
    with pytest.raises(InvalidInputError, match=reason) as caught:
        converter(Audio(samples=samples, rate=16_000), "happy")
    assert "\n" not in str(caught.value)


def test_wrong_wishes_are_refused(converter):
    with pytest.raises(UsageError, match="strength"):
        converter(_speech(), "happy", strength=2.5)
    with pytest.raises(MissingResourceError, match="nobody"):
        VoiceConverter.from_pretrained("nobody")


def test_a_stream_of_a_file_gives_all_of_it(converter, tmp_path):
    path = save_audio(tmp_path / "long.wav", _speech(seconds=26.0), subtype="FLOAT")
    pieces = list(converter.stream(path, "neutral"))
    assert len(pieces) == 2
    joined = np.concatenate([piece.audio.samples for piece in pieces], axis=1)
    assert np.array_equal(joined, load_audio(path).samples)
    pieces = list(converter.stream(path, "sad"))
    for before, after in itertools.pairwise(pieces):
        assert after.output_s == pytest.approx(before.output_s + before.audio.seconds)
    written = save_stream(tmp_path / "out.wav", (piece.audio for piece in pieces))
    assert load_audio(written).seconds == pytest.approx(pieces[-1].output_s + pieces[-1].audio.seconds)
    whole = converter(path, "sad").audio
    streamed = load_audio(written).samples[0]
    assert len(streamed) == pytest.approx(
        whole.samples.shape[1], rel=0.05
    )  # the voice is judged as it is heard
    steps = np.abs(np.diff(streamed))
    seam = pieces[0].audio.samples.shape[1]
    assert steps[seam - 2 : seam + 2].max() <= np.quantile(steps, 0.99)  # no click


def test_the_adapter_gives_weights_and_zeros_for_nothing():
    adapter = VoiceAdapter(bank=VoiceBank.from_pretrained())
    felt = adapter("angry@0.5", length=30)["emotion"]
    assert felt.shape == (1, 30, adapter.width)
    torch.testing.assert_close(felt.sum(-1), torch.full((1, 30), 0.5))
    assert not adapter(Emotion.parse("neutral"), length=30)["emotion"].any()
    assert torch.equal(adapter.null(length=30)["emotion"], adapter(None, length=30)["emotion"])
