import dataclasses

import numpy as np
import pytest

from affetto.media.audio import Audio
from affetto.provenance.audio_mark import find_audio_mark, mark_audio
from affetto.provenance.payload import from_bits, to_bits
from affetto.provenance.picture_mark import find_picture_mark, mark_frame
from affetto.provenance.settings import MarkingSettings, marking, marking_settings
from affetto.runtime.errors import UsageError

from .conftest import picture, voice


def test_a_tag_comes_back_and_one_wrong_bit_is_noticed():
    for tag in (0, 1, 1234, 4095):
        bits = to_bits(tag)
        assert from_bits(bits) == tag
        for bit in range(16):
            wrong = bits.copy()
            wrong[bit] *= -1
            assert from_bits(wrong) is None


def test_marked_sound_is_found_with_its_tag_and_unmarked_sound_is_not():
    plain = voice(12.0)
    marked = mark_audio(plain, key=5, tag=77)
    found = find_audio_mark(marked, key=5)
    assert (found.marked, found.tag) == (True, 77)
    assert not find_audio_mark(plain, key=5).marked
    assert not find_audio_mark(marked, key=6).marked


def test_the_mark_in_sound_stays_24_db_below_it_and_silence_stays_silent():
    plain = voice()
    change = mark_audio(plain, key=5).samples - plain.samples
    assert 10 * np.log10((plain.samples**2).sum() / (change**2).sum()) > 24
    silence = Audio(samples=np.zeros((2, 48_000), np.float32), rate=48_000)
    assert np.abs(mark_audio(silence, key=5).samples).max() == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_every_rate_carries_the_mark_and_keeps_its_length(rate):
    plain = voice(rate=rate)
    marked = mark_audio(plain, key=5, tag=9)
    assert marked.samples.shape == plain.samples.shape
    assert find_audio_mark(marked, key=5).marked


def test_the_mark_survives_cutting_resampling_noise_and_a_small_change_of_speed():
    marked = mark_audio(voice(10.0), key=5)
    noise = 0.003 * np.random.default_rng(1).standard_normal(marked.samples.shape).astype(np.float32)
    faster = dataclasses.replace(marked, rate=round(marked.rate * 1.01))
    assert find_audio_mark(marked.sliced(2.345, 9.0), key=5).marked
    assert find_audio_mark(marked.resampled(16_000), key=5).marked
    assert find_audio_mark(dataclasses.replace(marked, samples=marked.samples + noise), key=5).marked
    assert find_audio_mark(faster, key=5, speeds=(0.99, 1.0, 1.01)).marked


def test_too_little_sound_is_not_judged():
    found = find_audio_mark(voice(0.1), key=5)
    assert (found.score, found.marked) == (0.0, False)


def test_a_marked_picture_is_found_cropped_and_scaled_and_an_unmarked_one_is_not():
    plain = picture(384)
    marked = mark_frame(plain, key=5)
    assert find_picture_mark([marked], key=5).marked
    assert find_picture_mark([marked[37:300, 21:310]], key=5).marked
    assert not find_picture_mark([plain], key=5).marked
    assert not find_picture_mark([marked], key=6).marked


def test_the_mark_in_a_picture_hardly_changes_it():
    plain = picture()
    change = mark_frame(plain, key=5).astype(float) - plain
    assert 10 * np.log10(255**2 / (change**2).mean()) > 40
    assert np.abs(change.mean()) < 0.1


def test_transparency_is_left_alone():
    plain = np.dstack([picture(), np.arange(256, dtype=np.uint8)[None].repeat(256, 0)])
    assert np.array_equal(mark_frame(plain, key=5)[..., 3], plain[..., 3])


def test_marks_are_on_unless_someone_says_so_and_blocks_nest(monkeypatch):
    assert marking_settings() == MarkingSettings()
    with marking(watermark=False) as outer, marking(tag=4) as inner:
        assert (outer.watermark, inner.watermark, inner.tag) == (False, False, 4)
    assert marking_settings().watermark
    monkeypatch.setenv("AFFETTO_WATERMARK", "off")
    assert marking_settings().words == "watermark off, signing auto"
    monkeypatch.setenv("AFFETTO_WATERMARK", "maybe")
    with pytest.raises(UsageError, match="AFFETTO_WATERMARK=maybe"):
        marking_settings()


@pytest.mark.parametrize("wrong", [{"tag": 4096}, {"key": -1}, {"sign": "perhaps"}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        MarkingSettings(**wrong)
