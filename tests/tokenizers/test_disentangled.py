import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.media.midi import NOTE, Score, TrackInfo, note_array, save_midi
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.tokenizers.compound import encode
from affetto.tokenizers.disentangled import (
    ELEMENTS,
    FEATURES,
    SLICES,
    DisentangledConfig,
    DisentangledMusicTokenizer,
    DisentangledNetwork,
    ElementValues,
    bar_features,
    element_values,
    swapped,
)
from affetto.tokenizers.train_disentangled import (
    Adversary,
    DisentangledRecipe,
    disentangled_scores,
    pair_regulariser,
    read_bars,
    train_music_tokenizer,
    varied,
)

SMALL = DisentangledConfig(width=48)


def score(rows, meters=((0.0, 4, 4),)):
    notes = np.zeros(len(rows), NOTE)
    for index, (start, duration, pitch, velocity) in enumerate(rows):
        notes[index] = (start, duration, pitch, velocity, 0)
    return Score(
        notes=note_array(notes), tracks=(TrackInfo(name="Piano", program=0),), tempos=((0.0, 120.0),),
        meters=meters, markers=(),
    )  # fmt: skip


def piece(seed, bars=24):
    rng = np.random.default_rng(seed)
    rows = []
    for bar in range(bars):
        scale = (0, 4, 7) if rng.random() < 0.5 else (0, 3, 7)
        low, loud, length = rng.integers(36, 72), rng.integers(28, 116), rng.choice([0.25, 0.5, 1.0, 2.0])
        together = int(rng.integers(1, 4))
        for step in np.flatnonzero(rng.random(16) < rng.uniform(0.1, 0.8)):
            rows += [(bar * 4 + step / 4, length, low + scale[voice], loud) for voice in range(together)]
    return score(rows)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return DisentangledMusicTokenizer(DisentangledNetwork(SMALL))


def test_a_bar_is_described_element_by_element():
    chord = [(0.0, 1.0, pitch, 80) for pitch in (60, 64, 67)]
    words = encode(score([*chord, (2.0, 0.25, 72, 40), (4.0, 4.0, 57, 100)]))
    features = bar_features(words)
    assert features.shape == (2, FEATURES)
    assert np.flatnonzero(features[0, SLICES["rhythm"]]).tolist() == [0, 8]
    assert features[0, SLICES["polyphony"]].tolist() == [0.5, 0, 0.5, 0, 0, 0]
    values = dict(zip(ELEMENTS, element_values(features).T, strict=True))
    assert values["rhythm"].tolist() == [2, 1]
    assert values["polyphony"].tolist() == [2, 1]
    assert values["pitch"] == pytest.approx([65.75, 57], abs=2.0)
    assert values["duration"] == pytest.approx([1.5, 4.0])
    assert values["velocity"] == pytest.approx([70, 100], abs=2.1)
    assert values["harmony"][0] > 0


def test_bars_of_other_metres_fill_the_same_sixteen_places():
    words = encode(score([(beat, 0.5, 60, 80) for beat in range(6)], meters=((0.0, 3, 4),)))
    features = bar_features(words)
    assert len(features) == 2
    assert np.flatnonzero(features[1, SLICES["rhythm"]]).tolist() == [0, 5, 10]


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=10)
def test_shares_sum_to_one_also_after_variation(seed):
    features = bar_features(encode(piece(seed, bars=4)))
    heard = features[features.any(axis=1)]
    for bars in (heard, varied(heard, np.random.default_rng(seed))):
        for name, at in SLICES.items():
            if name != "rhythm":
                assert np.allclose(bars[:, at].sum(axis=1), 1.0, atol=1e-5)


def test_numbers_are_the_same_with_gradients():
    features = bar_features(encode(piece(5)))
    features = features[features.any(axis=1)]
    values = ElementValues()
    found = values(torch.from_numpy(features)) * values.scale + values.centre
    assert np.allclose(found.numpy(), element_values(features), atol=1e-3)


def test_the_regulariser_equals_the_published_loops():
    generator = torch.Generator().manual_seed(0)
    z, values = torch.randn(6, 3, generator=generator), torch.randn(6, 3, generator=generator).round()
    total = 0.0
    for j in range(6):
        for k in range(6):
            total += (torch.tanh(z[j] - z[k]) - torch.sign(values[j] - values[k])).abs().mean()
    assert float(pair_regulariser(z, values)) == pytest.approx(float(total / 36), rel=1e-5)
    assert float(pair_regulariser(1e3 * values, values, power=2)) == pytest.approx(0.0, abs=1e-6)


def test_the_adversary_learns_what_the_encoder_unlearns():
    torch.manual_seed(0)
    adversary = Adversary(4, width=8)
    features = torch.from_numpy(bar_features(encode(piece(1))))
    z = torch.randn(len(features), 6, 4, requires_grad=True)
    before = adversary(z, features)
    before.backward()
    step = [(each, each - 0.1 * each.grad) for each in adversary.parameters()]
    along = z.detach() - 1.0 * z.grad
    with torch.no_grad():
        assert adversary(along, features) > before  # the reversed gradient leads the encoder away
        for each, moved in step:
            each.copy_(moved)
        assert adversary(z, features) < before


def test_swapping_takes_elements_and_sliders_move_one_digit(tokenizer):
    words = encode(piece(2))
    codes = tokenizer.encode(words)
    assert codes.shape == (len(words.bar_steps), 6)
    other = codes[::-1].copy()
    mixed = swapped(codes, other, ["rhythm", "harmony"])
    assert np.array_equal(mixed[:, [0, 5]], other[:, [0, 5]])
    assert np.array_equal(mixed[:, 1:5], codes[:, 1:5])
    loud = tokenizer.slid(codes, "velocity", 8)
    assert (tokenizer.sliders(loud)[:, 4] == 8).all()
    assert np.array_equal(loud[:, :4], codes[:, :4])
    assert ((loud - codes)[:, 4] == 8 - tokenizer.sliders(codes)[:, 4]).all()
    assert tokenizer.decode(codes).shape == (len(codes), FEATURES)


def test_wrong_elements_levels_and_bars_are_refused(tokenizer, tmp_path):
    codes = np.zeros((3, 6), np.int64)
    with pytest.raises(UsageError, match="unknown element"):
        swapped(codes, codes, ["tune"])
    with pytest.raises(UsageError, match="0 to 8"):
        tokenizer.slid(codes, "pitch", 9)
    with pytest.raises(UsageError, match="give as many"):
        swapped(codes, codes[:2], ["pitch"])
    with pytest.raises(UsageError, match="bar_features"):
        tokenizer.encode(np.zeros((2, 5), np.float32))
    with pytest.raises(InvalidInputError, match="no MIDI files"):
        read_bars(tmp_path)
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="no words"):
        read_bars(tmp_path / "x.npz")


def test_training_on_midi_files_resumes_and_reports_what_the_file_gives(tmp_path):
    for seed in range(6):
        save_midi(tmp_path / f"{seed}.mid", piece(seed))
    output, recipe = tmp_path / "t.safetensors", DisentangledRecipe(network=SMALL, batch=64)
    first = train_music_tokenizer(tmp_path, output, seconds=0.5, recipe=recipe)
    report = train_music_tokenizer(tmp_path, output, seconds=2.0, recipe=recipe, resume=True)
    assert report["steps"] > first["steps"]
    tokenizer = DisentangledMusicTokenizer.from_pretrained(output, device="cpu")
    scores = disentangled_scores(tokenizer, read_bars(tmp_path)[1])
    assert scores.summary()["usage"] == report["usage"]
    assert np.isfinite(scores.correlation).all()
    assert scores.swaps.moved.shape == (6, 6)


def test_songs_of_a_data_file_keep_its_split(tmp_path):
    songs = [encode(piece(seed, bars=5)) for seed in range(3)]
    words = np.concatenate([each.ids for each in songs])
    edges = np.cumsum([0, *(len(each) for each in songs)])
    np.savez(tmp_path / "d.npz", words=words, song_words=edges, splits=np.array([0, 1, 2]))
    train, test = read_bars(tmp_path / "d.npz")
    whole = bar_features(songs[0])
    assert np.array_equal(train, whole[whole.any(axis=1)])
    assert 0 < len(test) <= 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_gives_the_codes_of_the_cpu(tokenizer):
    network = DisentangledNetwork(SMALL)
    network.load_state_dict(tokenizer.network.state_dict())
    bars = bar_features(encode(piece(3)))
    there = DisentangledMusicTokenizer(network.to("cuda")).encode(bars)
    assert (there == tokenizer.encode(bars)).mean() > 0.98


def test_the_shipped_tokenizer_slides_and_keeps_elements_apart():
    tokenizer = DisentangledMusicTokenizer.from_pretrained("embedded", device="cpu")
    bars = np.concatenate([bar_features(encode(piece(seed))) for seed in range(8)])
    scores = disentangled_scores(tokenizer, bars[bars.any(axis=1)])
    assert scores.monotone[:5].min() > 0.9
    assert scores.swaps.diagonal_dominant
