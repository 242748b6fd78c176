import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.speech.content import (
    ClosureRule,
    SpeechContent,
    closure_events,
    hysteresis,
    loudness_curve,
)
from affetto.speech.content_net import ContentConfig, ContentEncoder, normalise
from affetto.speech.phones import PHONE_INDEX, PHONES, TimedPhone
from affetto.speech.reader import LIVE_PLAN, ContentReader, WindowPlan, loud_level
from affetto.speech.train_content import (
    ContentRecipe,
    content_loss,
    load_checkpoint,
    rate_at,
    save_checkpoint,
)

TINY = ContentConfig(width=16, layers=1, heads=2, reach_s=0.2)


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ContentEncoder(TINY).eval()


@pytest.fixture(scope="module")
def reader(encoder):
    return ContentReader(encoder, device=torch.device("cpu"), batch=2)


def _babble(seconds, seed=0):
    rng = np.random.default_rng(seed)
    syllables = np.repeat(rng.uniform(0.05, 1.0, int(seconds * 8) + 1), 2_000)[: int(seconds * 16_000)]
    return (0.1 * syllables * rng.normal(size=len(syllables))).astype(np.float32)


def _content(closure):
    frames = len(closure)
    still = np.zeros(frames, np.float32)
    return SpeechContent(
        fps=50.0,
        phones=np.zeros((frames, len(PHONES)), np.float32),
        closure=np.asarray(closure, np.float32),
        loudness=still,
        speaking=still,
    )


def test_known_phones_give_the_content_a_perfect_reader_would():
    phones = [TimedPhone("a", 0.1, 0.2), TimedPhone("m", 0.2, 0.3)]
    content = SpeechContent.from_phones(phones, 0.5)
    assert len(content) == 25
    assert content.phones.sum(1) == pytest.approx(np.ones(25))
    assert content.closure[10:15].all()
    assert not content.closure[:10].any()
    assert content.speaking.sum() == 10
    assert content.phones[7, PHONE_INDEX["a"]] == 1.0


def test_pieces_join_to_the_whole():
    content = SpeechContent.from_phones([TimedPhone("a", 0.1, 0.2)], 0.5)
    whole = SpeechContent.joined([content.sliced(0, 7), content.sliced(7, 25)])
    assert np.array_equal(whole.phones, content.phones)
    assert len(whole) == 25


def test_posteriors_over_another_inventory_are_refused():
    still = np.zeros(3, np.float32)
    with pytest.raises(UsageError, match=f"need {len(PHONES)} columns"):
        SpeechContent(
            fps=50.0, phones=np.zeros((3, 7), np.float32), closure=still, loudness=still, speaking=still
        )


def test_loudness_is_relative_to_the_clip_and_zero_in_silence():
    sound = _babble(2.0)
    sound[16_000:] = 0.0
    curve = loudness_curve(sound)
    assert curve.shape == (100,)
    assert curve[:45].mean() > 0.6
    assert curve[55:].max() == 0.0
    assert loudness_curve(0.1 * sound) == pytest.approx(curve, abs=0.01)
    assert not loudness_curve(np.zeros(1_000, np.float32)).any()


def test_a_brief_dip_of_certainty_does_not_open_the_lips():
    assert hysteresis(np.array([0.1, 0.9, 0.4, 0.9, 0.4, 0.1]), 0.5, 0.3).tolist() == [
        False, True, True, True, True, False,
    ]  # fmt: skip
    assert not hysteresis(np.full(5, 0.4), 0.5, 0.3).any()


def test_one_frame_of_closure_grows_towards_the_likelier_side():
    shut = closure_events(_content([0, 0.1, 0.9, 0.2, 0, 0]), ClosureRule(shut=0.5, open=0.35))
    assert shut.tolist() == [False, False, True, True, False, False]


@given(st.lists(st.floats(0, 1, width=32), max_size=40))
def test_every_certain_frame_is_shut_and_no_closure_is_shorter_than_asked(closure):
    shut = closure_events(_content(closure), ClosureRule())
    assert shut[np.asarray(closure, np.float32) >= 0.3].all()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shut, [False]]).astype(int)))
    lengths = edges[1::2] - edges[::2]
    assert len(closure) < 2 or (lengths >= 2).all()


def test_normalising_removes_the_channel(encoder):
    mels = torch.randn(1, 80, 200)
    colour = torch.linspace(-2.0, 3.0, 80)[None, :, None]
    present = torch.ones(1, 200, dtype=torch.bool)
    plain, tinted = normalise(mels, present)[:, :80], normalise(mels + colour, present)[:, :80]
    assert (plain - tinted).abs().mean() < 0.15
    assert (plain - (mels + colour) / 3.0).abs().mean() > 0.3


def test_padding_changes_nothing(encoder):
    mels = torch.randn(1, 80, 120)
    padded = torch.cat([mels, torch.full((1, 80, 60), 9.0)], dim=2)
    present = torch.arange(180)[None] < 120
    with torch.inference_mode():
        alone, beside = encoder(mels), encoder(padded, present)
    for short, long in zip(alone, beside, strict=True):
        assert torch.allclose(short, long[:, :60], atol=1e-4)


def test_frames_beyond_the_reach_have_no_influence(encoder):
    # One layer: 0.2 s of attention, then the convolutions' few frames.
    mels = torch.randn(1, 80, 400)
    other = mels.clone()
    other[:, :, 300:] = mels[:, :, 300:].flip(2)  # the same loudness and colour
    mask = torch.ones(1, 400, dtype=torch.bool)
    with torch.inference_mode():
        normal = normalise(mels, mask)[..., :200] - normalise(other, mask)[..., :200]
        change = (encoder(mels)[0] - encoder(other)[0]).abs().amax(dim=(0, 2))
    assert normal.abs().max() < 1e-4
    assert change[:110].max() < 1e-3
    assert change[150:].max() > 1e-2


@pytest.mark.parametrize("seconds", [0.05, 0.5, 9.0, 17.3])
def test_any_length_gives_a_frame_for_every_20_ms(reader, seconds):
    content = reader(_babble(seconds))
    assert len(content) == int(np.ceil(seconds * 50 - 1e-6))
    assert content.phones.sum(1) == pytest.approx(np.ones(len(content)), abs=1e-4)
    assert ((content.closure >= 0) & (content.closure <= 1)).all()


def test_streaming_gives_what_a_call_gives_however_the_sound_is_cut(reader):
    sound = _babble(20.0)
    whole = reader(sound)
    for size in (1_600, 50_001):
        pieces = list(reader.stream(sound[at : at + size] for at in range(0, len(sound), size)))
        streamed = SpeechContent.joined(pieces)
        assert len(streamed) == len(whole)
        assert np.abs(streamed.closure - whole.closure).max() < 1e-3
        assert np.abs(streamed.loudness - whole.loudness).mean() < 0.1


def test_live_reading_answers_before_the_sound_ends(reader):
    heard = []

    def blocks():
        for at in range(0, 32_000, 1_600):
            heard.append(at)
            yield _babble(2.0)[at : at + 1_600]

    next(iter(reader.stream(blocks(), plan=LIVE_PLAN)))
    assert heard[-1] <= 0.8 * 16_000


def test_gain_does_not_matter(reader):
    sound = _babble(3.0)
    assert reader(0.01 * sound).closure == pytest.approx(reader(sound).closure, abs=1e-3)


def test_sound_that_cannot_be_read_is_refused(reader):
    with pytest.raises(InvalidInputError, match="mono"):
        reader(np.zeros((2, 100), np.float32))
    with pytest.raises(InvalidInputError, match="NaN"):
        reader(np.array([0.0, np.nan], np.float32))


def test_windows_are_whole_frames():
    with pytest.raises(UsageError, match="20 ms"):
        WindowPlan(core_s=0.333)
    assert loud_level(np.zeros(0, np.float32)) == 0.0


def test_checkpoints_come_back_in_half_precision_with_their_clock(encoder, tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", encoder, 12.0, 34)
    other = ContentEncoder(TINY)
    assert load_checkpoint(tmp_path / "a.safetensors", other) == (12.0, 34)
    restored = ContentReader.from_pretrained(tmp_path / "a.safetensors", device="cpu")
    assert restored.encoder.config == TINY
    for mine, theirs in zip(encoder.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-3)


def test_weights_for_other_phones_are_refused():
    with pytest.raises(UsageError, match="know 7 phones"):
        ContentConfig.from_metadata({"phones": "7"})


def test_uncertain_and_padded_frames_do_not_train(encoder):
    outputs = encoder(torch.randn(2, 80, 100))
    phones = torch.zeros(2, 50, dtype=torch.long)
    closed = torch.zeros(2, 50, dtype=torch.long)
    base, _ = content_loss(outputs, {"phones": phones, "closed": closed}, ContentRecipe())
    phones[1], closed[1] = 255, 255
    half, parts = content_loss(outputs, {"phones": phones, "closed": closed}, ContentRecipe())
    alone = tuple(output[:1] for output in outputs)
    first, _ = content_loss(alone, {"phones": phones[:1], "closed": closed[:1]}, ContentRecipe())
    assert half.item() == pytest.approx(first.item(), rel=1e-5)
    assert base.item() != half.item()
    assert set(parts) == {"phone", "closure", "speaking"}


def test_the_learning_rate_rises_then_falls():
    recipe = ContentRecipe()
    rates = [rate_at(at, recipe) for at in (0.0, recipe.warmup_share, 0.5, 1.0)]
    assert rates[0] < rates[1] == recipe.peak_rate > rates[2] > rates[3] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_hears_what_the_cpu_hears(encoder, reader):
    sound = _babble(30.0)
    fast = ContentReader(encoder, device=torch.device("cuda"), dtype=torch.bfloat16, batch=8)
    there = fast(sound)
    encoder.to("cpu")
    here = reader(sound)
    assert np.abs(here.closure - there.closure).max() < 0.05
    assert np.abs(here.phones - there.phones).mean() < 0.005
