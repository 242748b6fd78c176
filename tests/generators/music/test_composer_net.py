import numpy as np
import pytest
import torch

from affetto.generators.music.composer_net import BAR_COLUMNS, HEADS, ComposerBatch, ComposerNet
from affetto.generators.music.grammar import BAR, BEAT, NOTE, BarRule, check_words
from affetto.generators.music.sampling import BarTable, BarWriter, SamplingOptions, Tint
from tests.generators.music.small import tiny_net


def stream(bars: int = 3) -> np.ndarray:
    """Bars of four chords of two notes."""
    words = []
    for bar in range(bars):
        words.append([BAR, bar, 0, 0, 0, 0])
        for place in (0, 4, 8, 12):
            words.append([BEAT, bar, place, 0, 0, 0])
            words += [[NOTE, bar, place, pitch, 4, 12] for pitch in (44 + bar, 40)]
    return np.array(words, np.int64)


def table(bars: int) -> BarTable:
    rows = np.ones((bars, len(BAR_COLUMNS)), np.int64)
    return BarTable(
        bars=rows,
        vad=np.linspace(-0.5, 0.5, bars * 3, dtype=np.float32).reshape(bars, 3),
        known=np.ones(bars, bool),
    )


def batch_of(words: np.ndarray, told: BarTable) -> ComposerBatch:
    return ComposerBatch(
        words=torch.from_numpy(words)[None],
        segment=torch.zeros(1, len(words), dtype=torch.int64),
        bar_of=torch.from_numpy(words[:, 1])[None],
        bars=torch.from_numpy(told.bars)[None],
        vad=torch.from_numpy(told.vad)[None],
        vad_known=torch.from_numpy(told.known)[None],
    )


def test_no_word_sees_a_later_one() -> None:
    net, words = tiny_net(), stream()
    changed = words.copy()
    changed[20:, 3] = np.where(changed[20:, 3] > 0, 60, 0)
    with torch.no_grad():
        first, second = net(batch_of(words, table(3))), net(batch_of(changed, table(3)))
    assert torch.equal(first[:, :20], second[:, :20])
    assert not torch.equal(first[:, 21:], second[:, 21:])


def test_spelled_out_attention_equals_the_fused_kernel() -> None:
    net = tiny_net()
    with torch.no_grad():
        fused = net(batch_of(stream(), table(3)))
    spelled = net(batch_of(stream(), table(3)))  # gradients are on
    assert torch.allclose(fused, spelled, atol=1e-5)


def test_words_written_one_by_one_are_those_that_the_whole_pass_would_draw() -> None:
    net = tiny_net()
    options = SamplingOptions(guidance=1.0, candidates=1, temperature=dict.fromkeys((*HEADS, "melody"), 1e-5))
    written = BarWriter(net)(
        stream(2),
        np.zeros(len(stream(2)), np.int64),
        table(4),
        [BarRule()] * 2,
        first_bar=2,
        seeds=[[0]],
        options=options,
    )[0]
    words = np.concatenate([stream(2), written.words])
    with torch.no_grad():
        state = net(batch_of(words, table(4)))[0]
    for index in range(len(stream(2)), len(words) - 1):
        following = torch.from_numpy(words[index + 1])
        if following[0] == NOTE:
            scores = net.scores(state[index][None], following[None], "velocity")[0]
            assert int(scores[1:].argmax()) + 1 == int(following[5])


def test_a_version_does_not_depend_on_how_many_are_written_beside_it() -> None:
    writer, empty = BarWriter(tiny_net()), np.zeros((0, 6), np.int64)
    options = SamplingOptions(guidance=1.5)

    def write(count: int) -> list[np.ndarray]:
        seeds = [[5, version] for version in range(count)]
        made = writer(
            empty, np.zeros(0, np.int64), table(2), [BarRule()] * 2, first_bar=0, seeds=seeds, options=options
        )
        return [each.words for each in made]

    alone, several = write(1), write(3)
    assert np.array_equal(alone[0], several[0])
    assert not np.array_equal(several[0], several[1])
    for words in several:
        check_words(words, [BarRule()] * 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bars_written_on_the_gpu_are_inside_the_grammar() -> None:
    device = torch.device("cuda")
    net = ComposerNet().to(device)
    writer = BarWriter(net, device=device, dtype=torch.bfloat16)
    made = writer(
        np.zeros((0, 6), np.int64),
        np.zeros(0, np.int64),
        table(4),
        [BarRule()] * 4,
        first_bar=0,
        seeds=[[0, 0], [0, 1]],
        options=SamplingOptions(),
    )
    for version in made:
        check_words(version.words, [BarRule()] * 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_states_on_the_gpu_equal_those_on_the_cpu() -> None:
    net, batch = tiny_net(), batch_of(stream(), table(3))
    with torch.no_grad():
        here = net(batch)
        there = net.to("cuda")(batch.to(torch.device("cuda"))).cpu()
    assert torch.allclose(here, there, atol=1e-4)


def test_tones_are_preferred_that_turn_a_bar_towards_its_mode() -> None:
    words = stream()  # a tone apart: neither major nor minor yet
    tint = Tint(words, 3)
    bright, dark = tint.towards(2.0), tint.towards(-2.0)
    assert bright.shape == (89,)
    assert np.ptp(bright) > 0.05
    assert np.corrcoef(bright, dark)[0, 1] < 0.0
    assert np.allclose(bright[1:13], bright[13:25])  # octaves are alike


def test_what_sounded_three_bars_ago_is_forgotten() -> None:
    old, fresh = Tint(stream(), 3), Tint(np.zeros((0, 6), np.int64), 3)
    assert not np.allclose(old.towards(1.0), fresh.towards(1.0))
    for _ in range(3):
        old.next_bar()
    assert np.allclose(old.towards(1.0), fresh.towards(1.0))
