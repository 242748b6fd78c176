import resource
from pathlib import Path

import numpy as np
import pytest

from affetto.media.audio import Audio
from affetto.media.shelf import Shelf, in_blocks, put_away
from affetto.provenance.audio_mark import mark_audio


def resident_mib() -> float:
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def test_what_is_put_away_keeps_its_values():
    rng = np.random.default_rng(0)
    audio = Audio(samples=rng.standard_normal((2, 100_001)).astype(np.float32), rate=48_000)
    shelf = Shelf()
    kept, other = Audio(samples=shelf.keep(audio.samples), rate=audio.rate), shelf.empty(1, 5_000)
    put_away(kept.samples)
    assert np.array_equal(kept.samples, audio.samples)
    assert not other.any()
    other += 1.0
    assert np.array_equal(kept.samples, audio.samples)
    assert kept.sliced(0.5, 1.0).samples.shape == (2, 24_000)


def test_blocks_cover_a_sound_once_and_in_order():
    samples = Shelf().empty(2, 1_000_003)
    for index, block in enumerate(in_blocks(samples, 10_000)):
        block += index
    assert np.array_equal(samples[0], np.repeat(np.arange(101), 10_000)[:1_000_003])


def test_a_long_sound_on_a_shelf_takes_no_memory():
    before = resident_mib()
    samples = Shelf().empty(2, 20_000_000)  # 153 MiB
    for block in in_blocks(samples):
        block += 1.0
    total = sum(float(block.sum(dtype=np.float64)) for block in in_blocks(samples))
    assert total == 40_000_000
    assert resident_mib() - before < 40


def test_arrays_that_lie_in_memory_are_left_alone():
    samples = np.ones((1, 10), np.float32)
    put_away(samples)
    assert samples.all()


@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_long_sound_is_marked_in_parts_as_if_at_once(rate, monkeypatch):
    rng = np.random.default_rng(3)
    audio = Audio(samples=0.1 * rng.standard_normal((1, 60 * rate)).astype(np.float32), rate=rate)
    whole = mark_audio(audio, key=7).samples
    monkeypatch.setattr("affetto.provenance.audio_mark._PART_S", 14.0)
    parts = mark_audio(audio, key=7).samples
    assert parts.shape == whole.shape
    assert np.abs(parts - whole).max() < 1e-4
    assert np.abs(whole - audio.samples).max() > 1e-3
