import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder, VoiceNetwork, VoiceNetworkConfig
from affetto.conditioning.track import EmotionTrack
from affetto.generators.voice.bank import CRYING, NAMES, ROLES, VoiceBank, frame_roles
from affetto.generators.voice.controls import BANDS, VoiceControls
from affetto.generators.voice.pairs import Take
from affetto.generators.voice.speaker import speaker_statistics
from affetto.generators.voice.train_bank import fit_bank, train_voice_bank
from affetto.generators.voice.warping import warp_alignment
from affetto.runtime.errors import InvalidInputError, TryAgainError, UsageError
from affetto.weights.registry import REGISTRY
from affetto.weights.store import save_tensors


def _controls(frames=160, *, semitones=0.0, stretch=1.0, tilt=0.0, mean_hz=160.0, seed=0):
    """A sentence of six syllables with a pause, unvoiced stretches and a falling melody, said in another way."""
    rng = np.random.default_rng(seed)
    place = np.arange(round(frames * stretch)) / (frames * stretch)
    voiced = (np.sin(2 * np.pi * 6 * place) > -0.6) & ~((place > 0.45) & (place < 0.52))
    energy = np.where(voiced, -20.0 + 4 * np.sin(2 * np.pi * 6 * place), -32.0)
    energy = np.where((place > 0.45) & (place < 0.52), -75.0, energy)
    bands = np.linspace(-1, 1, BANDS)
    colour = 8 * np.sin(2 * np.pi * 3 * place)[:, None] * np.cos(3 * bands) - 12 * bands + tilt * bands
    colour = colour + 0.1 * rng.standard_normal(colour.shape)
    melody = np.log(mean_hz) + (semitones + 3 * np.cos(np.pi * place)) * np.log(2) / 12
    return VoiceControls(
        log_f0=melody.astype(np.float32), voiced=voiced.astype(np.float32), energy=energy.astype(np.float32),
        envelope=(colour - colour.mean(1, keepdims=True)).astype(np.float32),
        aperiodicity=np.full((len(place), 3), 0.2, np.float32),
    )  # fmt: skip


CHANGES = {
    "neutral": (0.0, 1.0, 0.0),
    "angry": (6.0, 0.9, 6.0),
    "sad": (-3.0, 1.4, -2.0),
    "happy": (5.0, 1.0, 3.0),
}


def _takes():
    takes = []
    for speaker, hertz in (("a", 110.0), ("b", 210.0)):
        for text in range(3):
            for index, (emotion, (semitones, stretch, tilt)) in enumerate(CHANGES.items()):
                seed = 10 * text + index
                controls = _controls(
                    semitones=semitones, stretch=stretch, tilt=tilt, mean_hz=hertz, seed=seed
                )
                place = np.random.default_rng([seed, len(takes)]).standard_normal(256) * 0.3
                place[index] += 3.0
                takes.append(
                    Take(
                        name=f"{speaker}{text}{emotion}",
                        speaker=speaker,
                        text=str(text),
                        emotion=emotion,
                        controls=controls,
                        phones=(),
                        embedding=place,
                    )
                )
    return takes


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    return fit_bank(_takes(), VoiceEmbedder(VoiceNetwork(VoiceNetworkConfig(width=16, early=1, late=1))))


@pytest.fixture(scope="module")
def bank(fitted):
    return fitted[0]


def _weights(bank, text, frames=1):
    return bank.weights(EmotionTrack.constant(Emotion.parse(text)).sample(np.arange(frames) / 100.0))


def _shares(bank, text):
    return dict(zip(bank.names, _weights(bank, text)[0], strict=True))


def test_a_bank_finds_what_the_takes_have_in_common(fitted):
    bank, report = fitted
    assert report["angry"]["pairs"] == 6
    for name in ("angry", "sad", "happy"):
        semitones, stretch, tilt = CHANGES[name]
        row = bank.residual[NAMES.index(name)]
        assert row[0, 0] == pytest.approx(semitones, abs=0.7)
        assert np.exp(row[0, 29]) == pytest.approx(stretch, rel=0.06)
        assert row[0, 2 + BANDS - 1] - row[0, 2] == pytest.approx(2 * tilt, abs=2.0)
    assert set(bank.derived) == set(NAMES) - {"angry", "sad", "happy"}
    np.testing.assert_allclose(bank.residual[:, ROLES.index("voiced"), 1], 0.0, atol=1e-9)
    np.testing.assert_allclose(bank.residual[:, ROLES.index("pause"), 1:29], 0.0, atol=1e-9)


def test_sadness_of_high_pitch_is_filed_as_crying():
    takes = [t for t in _takes() if t.emotion in ("neutral", "happy")]
    cried = [Take(**{**t.__dict__, "emotion": "sad"}) if t.emotion == "happy" else t for t in takes]
    torch.manual_seed(0)
    embedder = VoiceEmbedder(VoiceNetwork(VoiceNetworkConfig(width=16, early=1, late=1)))
    bank, report = fit_bank(cried, embedder)
    assert report[CRYING]["pairs"] == 6
    assert "sad" in bank.derived


def test_named_emotions_weigh_by_name_and_neutral_weighs_nothing(bank):
    assert not _weights(bank, "neutral").any()
    assert not _weights(bank, "angry@0").any()
    for name in NAMES[:-1]:
        assert _shares(bank, name)[name] == pytest.approx(1.0)
    assert _shares(bank, "fear@0.4")["fear"] == pytest.approx(0.4)
    assert _shares(bank, "happy@1.5")["happy"] == pytest.approx(1.5)
    mixed = _shares(bank, "happy:0.6+surprised:0.4")
    assert mixed["happy"] == pytest.approx(0.6)


def test_arousal_chooses_the_form_of_sadness(bank):
    assert _shares(bank, "sad")[CRYING] == 0.0
    assert _shares(bank, "sad:0.5+angry:0.5")[CRYING] > 0.3
    assert _shares(bank, "vad(-0.6,0.35,-0.5)")[CRYING] > 0.5
    assert _shares(bank, "vad(-0.6,-0.4,-0.4)")["sad"] > 0.5


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3), st.integers(0, 2))
def test_weights_of_a_place_are_bounded_and_do_not_jump(vad, axis):
    from affetto.generators.voice.bank import _by_place

    point = np.array([vad])
    near = point.copy()
    near[0, axis] = np.clip(near[0, axis] + 1e-3, -1, 1)
    here, there = _by_place(point), _by_place(near)
    assert here.min() >= 0
    assert here.sum() <= 1 + 1e-9
    assert np.abs(here - there).max() < 0.05


def test_a_weaker_place_is_the_same_emotion_with_less_weight(bank):
    strong, weak = _weights(bank, "vad(0.7,0.5,0.4)")[0], _weights(bank, "vad(0.35,0.25,0.2)")[0]
    assert strong.argmax() == weak.argmax() == NAMES.index("happy")
    assert 0.15 < weak.sum() < 0.7 * strong.sum()


def test_the_linear_engine_moves_the_melody_about_the_speakers_mean(bank):
    controls = _controls(mean_hz=180.0)
    weights = _weights(bank, "angry", len(controls))
    residual = bank.linear_residual(controls, weights)
    voiced = controls.voiced > 0.5
    assert residual.pitch[voiced].mean() == pytest.approx(6.0, abs=1.0)
    half = bank.linear_residual(controls, 0.5 * weights)
    assert 0 < half.pitch[voiced].mean() < residual.pitch[voiced].mean()
    assert bank.linear_residual(controls, 0 * weights).is_zero
    np.testing.assert_allclose(residual.envelope.mean(axis=1), 0.0, atol=1e-4)
    with pytest.raises(UsageError, match="weights must be"):
        bank.linear_residual(controls, weights[:5])


def test_frames_are_voiced_unvoiced_or_pause(bank):
    controls = _controls()
    roles = frame_roles(controls, speaker_statistics(controls).level)
    np.testing.assert_allclose(roles.sum(axis=1), 1.0, atol=1e-6)
    assert roles[76, ROLES.index("pause")] > 0.8
    assert roles[controls.voiced > 0.5, 0].mean() > 0.8
    np.testing.assert_allclose(
        bank.mean_residual(np.eye(9)), bank.mean_residual(np.eye(9), np.tile(bank.role_share, (9, 1)))
    )


def test_directions_are_named_calibrated_and_reversible_references(bank):
    place = np.random.default_rng(0).standard_normal(256)
    one = np.eye(len(NAMES))[NAMES.index("angry")]
    assert np.linalg.norm(bank.direction(one, place)) > 0.5
    assert not bank.direction(0 * one, place).any()
    assert bank.directions.names == NAMES
    assert bank.directions.calibration is not None
    way = bank.reference_direction(place, place + bank.axes[0])
    np.testing.assert_allclose(way, bank.axes[0], atol=1e-5)


def test_a_bank_survives_its_file(bank, tmp_path):
    path = bank.save(tmp_path / "bank.safetensors")
    again = VoiceBank.from_pretrained(path)
    np.testing.assert_allclose(again.residual, bank.residual, atol=1e-4)
    assert again.derived == bank.derived
    assert again.about == bank.about
    one = np.eye(len(NAMES))[0]
    place = np.zeros(256)
    np.testing.assert_allclose(again.direction(one, place), bank.direction(one, place), atol=1e-5)
    assert path.read_bytes() == again.save(tmp_path / "again.safetensors").read_bytes()
    with pytest.raises(UsageError, match="no voice bank"):
        VoiceBank.from_pretrained(tmp_path / "gone.safetensors")
    with pytest.raises(InvalidInputError, match="holds no voice bank"):
        VoiceBank.from_pretrained(save_tensors(tmp_path / "x.safetensors", {"a": np.zeros(2)}, {}))


def test_warping_finds_the_tempo_of_another_take():
    found = warp_alignment(_controls(seed=1), _controls(stretch=1.5, semitones=4.0, seed=2))
    assert len(found) > 15
    assert (np.diff(found.source) > 0).all()
    assert (np.diff(found.target) > 0).all()
    expected = 1.5 * found.source[:, 0]
    assert np.abs(found.target[:, 0] - expected).mean() < 0.05


@pytest.mark.skipif("voice-bank" not in REGISTRY, reason="the weights are not embedded yet")
def test_the_embedded_bank_raises_anger_and_slows_sadness():
    bank = VoiceBank.from_pretrained()
    pitch, rate = bank.residual[:, 0, 0], bank.residual[:, 0, 29]
    row = {name: index for index, name in enumerate(NAMES)}
    assert pitch[row["angry"]] > 5 > 0 > pitch[row["sad"]]
    assert np.exp(rate[row["sad"]]) > 1.3


def _spoken(path, hertz, seed):
    rng = np.random.default_rng(seed)
    time = np.arange(14_000) / 16_000
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.06 * np.sin(5 * time))) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 16))
    samples = 0.2 * buzz * (0.1 + np.sin(9 * time) ** 2) + 0.001 * rng.standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16_000)


@pytest.mark.skipif("voice-embedding" not in REGISTRY, reason="the weights are not embedded yet")
def test_the_recipe_makes_a_bank_of_own_takes_and_resumes(tmp_path):
    takes = tmp_path / "takes"
    for text in range(3):
        _spoken(takes / "anna" / "neutral" / f"{text}.wav", 150.0 + 5 * text, text)
        _spoken(takes / "anna" / "angry" / f"{text}.wav", 1.5 * (150.0 + 5 * text), text)
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    report = train_voice_bank(takes, whole)
    assert report["angry"]["pitch_st"] == pytest.approx(12 * np.log2(1.5), abs=0.8)
    with pytest.raises(TryAgainError, match="resume"):
        train_voice_bank(takes, parted, seconds=0.0)
    train_voice_bank(f"dir:{takes}", parted, resume=True)
    assert whole.read_bytes() == parted.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "parted.safetensors",
        "takes",
        "whole.safetensors",
    ]
    with pytest.raises(InvalidInputError, match="held out"):
        train_voice_bank(takes, whole, held_out=("anna",))
