import numpy as np
import pytest
import torch

from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.media.animation.files import save_curves
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.tokenizers import motion
from affetto.tokenizers.motion import (
    MOUTH,
    MotionAutoencoder,
    MotionTokenizer,
    MotionTokenizerConfig,
    as_curves,
    channels,
    resampled,
)
from affetto.tokenizers.train_motion import train_motion_tokenizer

TINY = MotionTokenizerConfig(width=16)


def performance(frames, seed=0, fps=30.0):
    rng = np.random.default_rng(seed)
    times = np.arange(frames)[:, None] / fps
    waves = 0.5 + 0.5 * np.sin(2 * np.pi * (times * rng.uniform(0.5, 3, 59) + rng.random(59)))
    waves[:, 52:] -= 0.5
    return as_curves((waves * 0.6).astype(np.float32), fps)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return MotionTokenizer(MotionAutoencoder(TINY))


@pytest.mark.parametrize("frames", [1, 3, 4, 17, 130])
def test_any_length_comes_back_as_long_as_it_was(tokenizer, frames):
    tokens = tokenizer.encode(performance(frames))
    assert tokens.codes.shape == (-(-frames // 4), 2)
    assert tokens.codes.max() < 1000
    back = tokenizer.decode(tokens)
    assert (len(back), back.fps) == (frames, 30.0)
    assert back.weights.min() >= 0.0
    assert back.weights.max() <= 1.0


def test_long_performances_are_coded_in_spans_without_a_seam(tokenizer, monkeypatch):
    curves = performance(400)
    whole = tokenizer.encode(curves)
    decoded = tokenizer.decode(whole)
    monkeypatch.setattr(motion, "_SPAN", 96)
    parts = tokenizer.encode(curves)
    assert np.array_equal(parts.codes, whole.codes)
    assert np.allclose(tokenizer.decode(parts).weights, decoded.weights, atol=1e-6)


def test_the_mouth_and_the_rest_have_their_own_tokens(tokenizer):
    tokens = tokenizer.encode(performance(40))
    codes = tokens.codes.copy()
    codes[:, 0] = (codes[:, 0] + 137) % 1000
    here = channels(tokenizer.decode(tokens))
    there = channels(tokenizer.decode(motion.MotionTokens(codes=codes, frames=40, fps=30.0)))
    assert np.array_equal(here[:, ~MOUTH], there[:, ~MOUTH])
    assert not np.array_equal(here[:, MOUTH], there[:, MOUTH])
    assert MOUTH[ARKIT_INDEX["jawOpen"]]
    assert not MOUTH[ARKIT_INDEX["browInnerUp"]]


def test_other_frame_rates_are_resampled():
    values = resampled(performance(120, fps=60.0), 30.0)
    assert len(values) == 60
    assert np.allclose(values, channels(performance(120, fps=60.0))[::2], atol=1e-5)
    curves = performance(9)
    assert np.allclose(channels(as_curves(channels(curves), 30.0)), channels(curves), atol=1e-6)


def test_tokens_that_do_not_fit_are_refused(tokenizer):
    with pytest.raises(UsageError, match="10 frames take 3 tokens"):
        tokenizer.decode(motion.MotionTokens(codes=np.zeros((2, 2), np.int64), frames=10, fps=30.0))
    with pytest.raises(InvalidInputError, match="without frames"):
        tokenizer.encode(FaceCurves.neutral(0, 30.0))


def test_a_tokenizer_is_trained_resumed_and_comes_nearer(tmp_path):
    for index in range(3):
        save_curves(tmp_path / f"{index}.npz", performance(200))
    output = tmp_path / "motion.safetensors"
    first = train_motion_tokenizer(tmp_path, output, seconds=0.1, config=TINY)
    later = train_motion_tokenizer(tmp_path, output, seconds=4.0, config=TINY, resume=True)
    assert later["steps"] > first["steps"]
    assert later["mouth_error"] < first["mouth_error"]
    tokenizer = MotionTokenizer.from_pretrained(output, device="cpu")
    curves = performance(50)
    assert np.array_equal(tokenizer.encode(curves).codes, tokenizer.encode(curves).codes)
    with pytest.raises(InvalidInputError, match="no performances"):
        train_motion_tokenizer(tmp_path / "nothing", output)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_spells_what_the_cpu_spells(tokenizer):
    curves = performance(200)
    network = MotionAutoencoder(TINY)
    network.load_state_dict(tokenizer.network.state_dict())
    there = MotionTokenizer(network.to("cuda")).encode(curves)
    assert (there.codes == tokenizer.encode(curves).codes).mean() > 0.98
