import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.media.loudness import integrated_loudness, k_weighting, limited, true_peak_db


def sine(hertz, rate, seconds, level_db=0.0, channels=1):
    wave = 10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def test_the_filters_are_those_of_the_standard_at_48_khz():
    shelf, high_pass = k_weighting(48_000)
    printed = [
        1.53512485958697,
        -2.69169618940638,
        1.19839281085285,
        1.0,
        -1.69065929318241,
        0.73248077421585,
    ]
    assert shelf == pytest.approx(printed, abs=1e-6)
    assert high_pass == pytest.approx([1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621], abs=1e-6)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000])
def test_a_full_sine_in_one_channel_has_minus_three_lufs(rate):
    assert integrated_loudness([sine(997.0, rate, 3.0)], rate) == pytest.approx(-3.01, abs=0.05)
    assert integrated_loudness([sine(997.0, rate, 3.0, -20.0, 2)], rate) == pytest.approx(-20.0, abs=0.05)


def test_pauses_do_not_count_and_blocks_make_no_difference():
    rate = 16_000
    tone = sine(997.0, rate, 4.0, -20.0, 2)
    paused = np.concatenate([tone, np.zeros((2, 8 * rate), np.float32), tone], axis=1)
    found = integrated_loudness([paused], rate)
    assert found == pytest.approx(-20.0, abs=0.3)
    pieces = np.array_split(paused, 37, axis=1)
    assert integrated_loudness(pieces, rate) == pytest.approx(found, abs=1e-6)


def test_silence_has_no_loudness_and_short_sound_has_one():
    assert integrated_loudness([np.zeros((2, 48_000), np.float32)], 48_000) == -math.inf
    assert integrated_loudness([], 48_000) == -math.inf
    assert integrated_loudness([sine(997.0, 48_000, 0.2)], 48_000) == pytest.approx(-3.0, abs=1.0)
    assert true_peak_db(np.zeros((1, 10), np.float32)) == -math.inf


def test_peaks_between_samples_are_seen():
    rate = 48_000
    wave = np.sin(2 * np.pi * 12_000 * np.arange(rate) / rate + np.pi / 4).astype(np.float32)[None]
    assert np.abs(wave).max() < 0.71
    assert true_peak_db(wave[:, 100:-100]) == pytest.approx(0.0, abs=0.5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), gain=st.floats(0.1, 8.0), cuts=st.integers(1, 9))
def test_the_limiter_keeps_length_and_ceiling_whatever_the_blocks(seed, gain, cuts):
    rate = 16_000
    rng = np.random.default_rng(seed)
    sound = (gain * 0.2 * rng.standard_normal((2, rate // 2))).astype(np.float32)
    sound[:, 3000:3200] *= 4.0
    whole = np.concatenate(list(limited([sound], rate)), axis=1)
    pieces = np.concatenate(list(limited(np.array_split(sound, cuts, axis=1), rate)), axis=1)
    assert whole.shape == pieces.shape == sound.shape
    assert np.allclose(whole, pieces, atol=0.03)
    assert true_peak_db(whole) < -0.8
    assert (np.abs(whole) <= np.abs(sound) + 1e-6).all()


def test_soft_sound_passes_the_limiter_untouched():
    sound = sine(440.0, 16_000, 1.0, -6.0, 2)
    assert np.array_equal(np.concatenate(list(limited([sound], 16_000)), axis=1), sound)
    assert list(limited([], 16_000)) == []
