import numpy as np
import pytest
import torch

from affetto.runtime.errors import InvalidInputError
from affetto.speech.clips import read_clips
from affetto.speech.content_net import ContentConfig, ContentEncoder
from affetto.speech.corpus import RATE, Utterance
from affetto.speech.phones import TimedPhone
from affetto.speech.reader import ContentReader
from affetto.speech.readings import readings_of, write_clip, write_readings

PHONES_SAID = (
    TimedPhone("m", 0.25, 0.5),
    TimedPhone("a", 0.5, 0.75, 1.0),
    TimedPhone("p", 0.75, 1.0, 0.0, 0.875),
    TimedPhone("b", 1.0, 1.25, 0.0, None, False),
)


@pytest.fixture(scope="module")
def reader():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ContentEncoder(ContentConfig(width=16, layers=1, heads=2, reach_s=0.2))
    return ContentReader(encoder, device=torch.device("cpu"))


def utterance(name, *, split="train"):
    """A chord of 1.51 s that falls silent at its ends, said to be four phones."""
    times = np.arange(round(1.51 * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * 140.0 * harmonic * times) / harmonic for harmonic in range(1, 9))
    samples = (0.2 * chord * ((times > 0.25) & (times < 1.25))).astype(np.float32)
    return Utterance(
        name=name, samples=samples, phones=PHONES_SAID, split=split, source="synthetic", language="de"
    )


def test_a_written_clip_is_read_back_with_its_exact_phones_and_one_heard_reading(tmp_path, reader):
    write_clip(tmp_path, utterance("one-a"), reader, rng=np.random.default_rng(3), babble=[])
    write_clip(
        tmp_path, utterance("two", split="validation"), reader, rng=np.random.default_rng(4), babble=[]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "synthetic-one-a-embedded.npz",
        "synthetic-one-a-oracle.npz",
        "synthetic-two-embedded.npz",
        "synthetic-two-oracle.npz",
    ]
    first, second = read_clips(tmp_path)
    assert (first.name, first.split, second.split) == ("synthetic-one-a", "train", "validation")
    assert first.phones == PHONES_SAID
    exact, heard = first.readings
    assert len(exact) == len(heard) == 76
    assert exact.closure[15:25].all()
    assert not exact.closure[26:37].any()
    assert exact.loudness[30] > 0.9
    assert exact.loudness[5] == 0.0
    np.testing.assert_allclose(heard.phones.sum(axis=1), 1.0, atol=2e-2)  # half precision


def test_the_same_seed_writes_the_same_bytes_and_another_one_spoils_otherwise(tmp_path, reader):
    written = []
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        folder = tmp_path / name
        folder.mkdir()
        write_clip(folder, utterance("one"), reader, rng=np.random.default_rng(seed), babble=[])
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]
    assert written[0]["synthetic-one-oracle.npz"] == written[2]["synthetic-one-oracle.npz"]
    assert written[0]["synthetic-one-embedded.npz"] != written[2]["synthetic-one-embedded.npz"]


def test_a_folder_of_readings_is_used_as_it_is_and_readings_once_made_are_kept(tmp_path):
    assert readings_of(tmp_path, tmp_path / "net.safetensors") == tmp_path
    corpora, made = tmp_path / "corpora", tmp_path / "net-work" / "readings"
    (corpora / "speech" / "emodb").mkdir(parents=True)
    made.mkdir(parents=True)
    assert readings_of(corpora, tmp_path / "net.safetensors") == made


def test_a_missing_corpus_is_named_before_anything_is_made(tmp_path):
    with pytest.raises(InvalidInputError, match=r"lacks speech/emodb/index\.csv"):
        write_readings(tmp_path, tmp_path / "readings")
    assert not (tmp_path / "readings").exists()
