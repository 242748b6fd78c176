import numpy as np
import pytest
import soundfile

from affetto.runtime.errors import InvalidInputError
from affetto.speech.augment import Augmentation, augment
from affetto.speech.content_data import (
    ClipStore,
    clip_arrays,
    coverage,
    shuffled,
    versions,
    warp_bands,
    write_shard,
)
from affetto.speech.corpus import (
    Utterance,
    find_release,
    flite_phones,
    read_emodb,
    read_lablaut,
    read_mono,
)
from affetto.speech.phones import PHONES, TimedPhone
from affetto.speech.texts import SENTENCES, pseudo_sentence, shuffled_words

_LABELS = """signal x
nfields 1
#
    0.100   -1 _p
    0.150   -1 !p\t+asp
    0.160   -1 pasp
    0.200   -1 aI\t+lar\t3
    0.260   -1 \t-lar
    0.300   -1 b\t+tie
    0.360  125 !b\t+na
    0.380   -1 m\t+sil
    0.450   -1 B
    0.500   -1 NN
    0.550   -1 (gef
    0.700   -1 .
"""


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "x.lablaut"
    path.write_text(_LABELS, "latin-1")
    return read_lablaut(path, 0.9)


def test_marks_are_starts_and_bursts_join_their_plosive(labels):
    assert [phone.phone for phone in labels] == ["sil", "p", "a", "ɪ", "b", "m", "b", "ŋ", "sil"]
    p = labels[1]
    assert (p.start, p.release, p.end) == (0.1, 0.15, 0.2)


def test_a_nasal_release_keeps_the_lips_shut(labels):
    b, m = labels[4], labels[5]
    assert b.release is None
    assert b.closure == (0.3, 0.38)
    assert m.closure == (0.38, 0.45)


def test_marks_without_a_symbol_lengthen_the_whole_diphthong(labels):
    a, i = labels[2], labels[3]
    assert a.start == pytest.approx(0.2)
    assert a.end == i.start == pytest.approx(0.2 + 0.55 * 0.1)
    assert i.end == pytest.approx(0.3)
    assert a.stress == i.stress == 1.0


def test_a_spirant_b_does_not_close_the_lips(labels):
    assert not labels[6].closes


def test_labels_without_a_header_are_refused(tmp_path):
    path = tmp_path / "broken.lablaut"
    path.write_text("0.1 -1 a\n")
    with pytest.raises(InvalidInputError, match=r"broken\.lablaut"):
        read_lablaut(path, 1.0)


def test_a_file_that_is_no_sound_is_refused_by_name(tmp_path):
    path = tmp_path / "noise.flac"
    path.write_bytes(b"not a sound")
    with pytest.raises(InvalidInputError, match=r"noise\.flac"):
        read_mono(path)


def test_emodb_clips_are_cut_where_their_sound_ends_and_split_by_speaker(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "phones").mkdir()
    rows = ["name,speaker,sex,sentence,emotion,seconds,extent"]
    for speaker in ("08", "12", "03"):
        name = f"{speaker}a01Fa"
        soundfile.write(tmp_path / "audio" / f"{name}.flac", np.zeros(16_000), 16_000)
        (tmp_path / "phones" / f"{name}xx.lablaut").write_text(_LABELS, "latin-1")
        rows.append(f"{name},{speaker},m,a01,happiness,0.6,whole")
    (tmp_path / "index.csv").write_text("\n".join(rows))
    clips = list(read_emodb(tmp_path))
    assert [clip.split for clip in clips] == ["train", "test", "validation"]
    assert all(clip.seconds == pytest.approx(0.6) and clip.phones[-1].end <= 0.6 for clip in clips)


def _stop(closure_s, release_s):
    """Voicing, silence, then a burst and noise."""
    rng = np.random.default_rng(0)
    samples = 0.3 * np.sin(np.arange(8_000) * 2 * np.pi * 150 / 16_000)
    samples[int(closure_s * 16_000) :] = 0.0
    samples[int(release_s * 16_000) :] = 0.2 * rng.normal(size=8_000 - int(release_s * 16_000))
    return samples.astype(np.float32)


def test_a_release_is_found_at_the_burst():
    assert find_release(_stop(0.2, 0.27), 0.2, 0.31, "p") == pytest.approx(0.27, abs=0.008)


def test_flite_reports_become_phones_with_releases():
    phones = flite_phones("pau:0.1 ow:0.2 p:0.31 m:0.4 pau:0.5 ", _stop(0.2, 0.27))
    assert [phone.phone for phone in phones] == ["sil", "o", "ʊ", "p", "m", "sil"]
    assert phones[3].release == pytest.approx(0.27, abs=0.01)
    assert phones[3].end == 0.31


def test_dutch_is_never_among_the_training_voices():
    assert not {"nl", "af"} & set(SENTENCES)


def test_pseudo_sentences_repeat_with_their_seed():
    first = pseudo_sentence(np.random.default_rng(3), 6)
    assert first == pseudo_sentence(np.random.default_rng(3), 6)
    assert len(first.split()) == 6


def test_shuffled_words_are_those_of_the_lines():
    made = shuffled_words(np.random.default_rng(3), ["Bob may, perhaps.", "bring plums"], 8)
    assert {word.strip(",.") for word in made.split()} <= {"Bob", "may", "perhaps", "bring", "plums"}


def test_pieces_of_a_crop_change_places_and_cuts_are_uncertain():
    order, uncertain = shuffled(200, np.random.default_rng(1), chance=1.0)
    assert sorted(order.tolist()) == list(range(200))
    jumps = np.flatnonzero(np.diff(order) != 1) + 1
    assert len(jumps) > 2
    assert uncertain[jumps].all()
    assert not shuffled(200, np.random.default_rng(1), chance=0.0)[1].any()


def test_another_throat_moves_formants_but_not_their_times():
    mels = np.zeros((3, 80), np.float32)
    mels[1, 40] = 1.0
    moved = warp_bands(mels, 1.1)
    assert moved[1].argmax() == 44
    assert not moved[[0, 2]].any()
    assert np.allclose(warp_bands(mels, 1.0)[:, :79], mels[:, :79])


def test_augmentation_stretches_sound_and_labels_alike_and_repeats_with_its_seed():
    samples = _stop(0.2, 0.27)
    phones = [TimedPhone("a", 0.0, 0.2), TimedPhone("p", 0.2, 0.5, release=0.27)]
    made = [augment(samples, phones, np.random.default_rng(5), [samples], Augmentation()) for _ in range(2)]
    (sound, timed), (again, _) = made
    assert np.array_equal(sound, again)
    assert timed[-1].end == pytest.approx(len(sound) / 16_000, abs=1e-3)
    assert np.isfinite(sound).all()
    assert timed[-1].release == pytest.approx(0.27 * timed[-1].end / 0.5)


def test_coverage_is_the_share_of_each_frame_inside_the_windows():
    curve = coverage([(0.03, 0.06)], 5, 50.0)
    assert curve == pytest.approx([0.0, 0.0, 1.0, 0.5, 0.0])


def test_shards_give_back_batches_of_padded_crops(tmp_path):
    samples = _stop(0.2, 0.27)
    phones = (TimedPhone("a", 0.0, 0.2), TimedPhone("p", 0.2, 0.31, release=0.27), TimedPhone("s", 0.31, 0.5))
    clip = Utterance(
        name="a", samples=samples, phones=phones, split="train", source="flite", language="en-us"
    )
    assert clip_arrays(samples, phones)["mels"].shape == (50, 80)
    count = write_shard(tmp_path / "a.npz", versions([clip], {"flite": 1}, seed=0, babble=[]))
    assert count == 2
    batch = ClipStore([tmp_path / "a.npz"], {}).batch(np.random.default_rng(0), 3, 1.0)
    assert batch["mels"].shape == (3, 80, 100)
    assert batch["present"].sum(1).tolist() == [2 * (row != 255).sum() for row in batch["phones"].numpy()]
    assert PHONES[int(batch["phones"][0, 3])] == "a"


def test_an_empty_shard_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="no clips"):
        write_shard(tmp_path / "a.npz", [])
