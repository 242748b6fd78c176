import tracemalloc

import numpy as np
import pytest

from affetto.media.audio import Audio
from affetto.media.loudness import integrated_loudness, true_peak_db
from affetto.scene.mixing import RATE, blocks, ducking_gain, mix, stem
from tests.scene.small import hum


def noise(seconds: float, level: float = 0.05) -> Audio:
    samples = np.random.default_rng(0).standard_normal((2, round(seconds * RATE))) * level
    return Audio(samples=samples.astype(np.float32), rate=RATE)


def test_parts_lie_where_they_belong_and_overlaps_add_up():
    one = stem([(0.5, hum(1.0))], 3.0)
    assert one.samples.shape == (1, 3 * RATE)
    assert np.abs(one.samples[0, : RATE // 2 - 200]).max() < 1e-4
    two = stem([(0.5, hum(1.0)), (0.5, hum(1.0))], 3.0)
    assert np.allclose(two.samples, 2 * one.samples, atol=1e-6)


@pytest.mark.parametrize("level", [0.01, 0.9])
def test_the_mix_has_its_loudness_and_never_clips(level):
    voices = {"a": stem([(0.2, hum(4.0, level=level))], 6.0)}
    mixed, report = mix(voices, noise(6.0), volumes={}, music_db=-9, ducking_db=6, lufs=-16)
    assert integrated_loudness(blocks(mixed.samples), RATE) == pytest.approx(-16, abs=0.15)
    assert true_peak_db(mixed.samples) <= -0.9
    assert report.loudness_lufs == pytest.approx(-16, abs=0.15)


def test_music_steps_back_before_the_words_and_comes_back_after_them():
    speech = np.repeat(stem([(2.0, hum(2.0))], 6.0).samples, 2, axis=0)
    gain = ducking_gain(speech, 8.0)
    assert gain[50] == pytest.approx(0.0, abs=0.1)
    assert gain[199] < -3.0
    assert gain[300] < -6.5
    assert gain[590] > -1.0
    quiet = ducking_gain(np.zeros((2, RATE), np.float32), 8.0)
    assert np.abs(quiet).max() == 0.0


def test_speakers_of_different_levels_come_out_alike_and_panned():
    voices = {"a": stem([(0.0, hum(2.0, level=0.02))], 4.0), "b": stem([(2.0, hum(2.0, level=0.5))], 4.0)}
    volumes = {"a": (0.0, -1.0), "b": (0.0, 1.0)}
    mixed, _ = mix(voices, None, volumes=volumes, music_db=0, ducking_db=0, lufs=-20)
    first, second = mixed.samples[:, : 2 * RATE], mixed.samples[:, 2 * RATE :]
    assert np.abs(first[1]).max() < 1e-3
    assert np.abs(second[0]).max() < 1e-3
    assert np.std(first[0]) == pytest.approx(np.std(second[1]), rel=0.1)


def test_mixing_holds_few_copies_of_the_whole():
    voices, music = {"a": hum(20.0, RATE)}, noise(20.0)
    tracemalloc.start()
    try:
        mix(voices, music, volumes={}, music_db=-3, ducking_db=6, lufs=-16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4.0 * music.samples.nbytes
