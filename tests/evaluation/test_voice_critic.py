import csv

import numpy as np
import pytest
import soundfile
import torch

from affetto.evaluation.voice_critic import (
    FLOOR,
    Reference,
    VoiceCritic,
    augmented,
    core_choice,
    core_probability,
    train_voice_critic,
)
from affetto.evaluation.voice_features import listen
from affetto.evaluation.voice_sets import CORE, EMOTIONS, READERS, read_reader, read_takes, trimmed
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError

from .test_voice_metrics import RATE, voice

LETTERS = {"anger": 220.0, "boredom": 90.0, "disgust": 140.0, "fear": 200.0, "happiness": 240.0, "neutral": 120.0,
           "sadness": 100.0}  # fmt: skip


@pytest.fixture
def corpus(tmp_path):
    """A corpus laid out like EMO-DB: ten speakers whose emotions differ by pitch and colour."""
    folder = tmp_path / "speech" / "emodb"
    (folder / "audio").mkdir(parents=True)
    with (folder / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "speaker", "sex", "sentence", "emotion", "seconds", "extent"])
        for speaker in ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16"):
            for index, (emotion, hertz) in enumerate(LETTERS.items()):
                name = f"{speaker}a0{index}"
                sound = voice(0.5, hertz=hertz, seed=int(speaker), tilt=0.6 + 0.15 * index)
                soundfile.write(folder / "audio" / f"{name}.flac", sound.samples.T, RATE)
                rows.writerow([name, speaker, "mf"[int(speaker) % 2], f"a0{index}", emotion, 0.5, "whole"])
    return tmp_path


def test_the_recipe_writes_a_critic_that_learnt_what_differs(corpus, tmp_path):
    scores = train_voice_critic(corpus, tmp_path / "critic.safetensors", seconds=2.0)
    assert (tmp_path / "critic.safetensors").is_file()
    assert scores["others_seven_statistics"] > 0.5  # chance .14
    assert set(scores) >= {"test_core", "test_seven_network", "others_recall_sad"}


def test_the_embedded_critic_gives_probabilities_that_level_does_not_change():
    critic = VoiceCritic.from_pretrained()
    sound = voice(2.5)
    quiet = Audio(samples=(0.1 * sound.samples).astype(np.float32), rate=RATE)
    reference = Reference.of([listen(sound)])
    one, other = (critic.probabilities(listen(audio), reference) for audio in (sound, quiet))
    assert one.sum() == pytest.approx(1.0)
    assert np.allclose(one, other, atol=0.03)
    assert critic.judges(listen(sound), reference, speaker="03").shape == (2, len(EMOTIONS))


def test_among_four_only_the_four_count():
    shares = np.full(len(EMOTIONS), 0.02)
    shares[EMOTIONS.index("fear")] = 0.7
    shares[EMOTIONS.index("sad")] = 0.2
    assert core_choice(shares) == "sad"
    assert core_probability(shares, "sad") == pytest.approx(0.2 / 0.26)
    assert sum(core_probability(shares, name) for name in CORE) == pytest.approx(1.0)


def test_augmented_windows_are_two_seconds_finite_and_never_below_the_floor():
    rng = torch.Generator().manual_seed(0)
    mels = torch.randn(8, 300, 48)
    lengths = torch.tensor([300, 40, 160, 161, 200, 80, 250, 299])
    windows = augmented(mels, lengths, rng)
    assert windows.shape == (8, 160, 48)
    assert torch.isfinite(windows).all()
    assert float(windows.min()) >= FLOOR
    again = augmented(mels, lengths, torch.Generator().manual_seed(0))
    assert torch.equal(windows, again)


def test_takes_are_read_with_their_split_and_cut_to_where_they_speak(corpus):
    takes = read_takes(corpus)
    assert len(takes) == 70
    assert {take.split for take in takes if take.speaker in ("12", "16")} == {"test"}
    assert {take.split for take in takes if take.speaker == "03"} == {"validation"}
    silence = np.zeros((1, RATE), np.float32)
    padded = Audio(samples=np.concatenate([silence, voice(0.5).samples, silence], axis=1), rate=RATE)
    assert trimmed(padded).seconds == pytest.approx(0.5, abs=0.15)
    assert trimmed(Audio(samples=silence, rate=RATE)).samples.shape[0] == 1


def test_a_folder_without_the_corpus_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match="speech/emodb"):
        read_takes(tmp_path)
    with pytest.raises(InvalidInputError, match="kathleen"):
        read_reader(tmp_path, next(iter(READERS)), count=2)
