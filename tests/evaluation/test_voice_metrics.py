import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.evaluation.voice_features import (
    cepstra,
    level_db,
    listen,
    loudness_db,
    statistics,
    tilt_db,
    windows,
)
from affetto.evaluation.voice_metrics import (
    SpeakerReader,
    content,
    content_distance,
    cues,
    nearest_content,
    rising,
    timbre,
)
from affetto.media.audio import Audio

RATE = 16_000


def voice(
    seconds: float = 1.2, *, hertz: float = 130.0, rate: int = RATE, seed: int = 0, tilt: float = 1.0
) -> Audio:
    """Vowels of changing colour on a gliding pitch, four syllables a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    glide = hertz * (1.0 + 0.1 * np.sin(2 * np.pi * 0.8 * time))
    phase = 2 * np.pi * np.cumsum(glide) / rate
    colours = np.repeat(rng.uniform(0.2, 1.0, (int(np.ceil(4 * seconds)) + 1, 30)), rate // 4, axis=0)[
        : len(time)
    ]
    harmonics = np.arange(1, 31)
    partials = np.sin(harmonics * phase[:, None]) * colours / harmonics**tilt
    audible = harmonics * hertz * 1.2 < rate / 2
    sound = partials[:, audible].sum(axis=1) * np.clip(np.sin(2 * np.pi * 2 * time) ** 2, 0.05, 1.0)
    return Audio(samples=(0.1 * sound)[None].astype(np.float32), rate=rate)


def louder(audio: Audio, gain: float) -> Audio:
    return Audio(samples=(gain * audio.samples).astype(np.float32), rate=audio.rate)


@settings(max_examples=6, deadline=None)
@given(gain=st.floats(0.05, 4.0))
def test_what_the_judges_hear_does_not_tell_how_loud_it_was(gain: float):
    one, other = listen(voice()), listen(louder(voice(), gain))
    assert np.allclose(one.mels, other.mels, atol=2e-2)
    assert other.level_db - one.level_db == pytest.approx(20 * np.log10(gain), abs=1e-3)


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_pitch_is_found_at_any_rate(rate):
    heard = listen(voice(hertz=180.0, rate=rate))
    middle = 12 * np.log2(180.0 / 100.0)
    assert np.nanmedian(heard.pitch) == pytest.approx(middle, abs=1.0)
    assert np.isfinite(heard.pitch).mean() > 0.5


def test_brighter_speech_has_more_tilt_and_higher_speech_more_pitch():
    low, high = (cues(listen(voice(hertz=hertz))) for hertz in (120.0, 170.0))
    assert high.pitch - low.pitch == pytest.approx(12 * np.log2(170 / 120), abs=0.3)
    dark, bright = (tilt_db(listen(voice(tilt=tilt)).mels) for tilt in (1.6, 0.6))
    assert bright > dark + 3


def test_silence_and_noise_have_no_pitch_and_still_give_finite_statistics():
    noise = np.random.default_rng(0).normal(0, 0.1, (1, RATE)).astype(np.float32)
    for samples in (noise, np.zeros((1, RATE), np.float32)):
        heard = listen(Audio(samples=samples, rate=RATE))
        assert np.isfinite(heard.pitch).mean() < 0.2
        assert np.isfinite(statistics(windows(heard)[0])).all()


def test_windows_cover_a_clip_to_its_end():
    heard = listen(voice(3.3))
    cut = windows(heard)
    assert {len(window) for window in cut} == {160}
    assert np.array_equal(cut[-1].mels[-1], heard.mels[-1])
    assert len(windows(listen(voice(0.6)))) == 1


@given(gain=st.floats(0.1, 3.0))
@settings(max_examples=8, deadline=None)
def test_loudness_follows_the_gain(gain: float):
    sound = voice(0.5)
    expected = 20 * np.log10(gain)
    assert loudness_db(louder(sound, gain)) - loudness_db(sound) == pytest.approx(expected, abs=1e-2)
    assert level_db(louder(sound, gain)) - level_db(sound) == pytest.approx(expected, abs=1e-3)


def test_bass_counts_less_for_loudness_than_for_level():
    time = np.arange(RATE) / RATE
    low, high = (
        Audio(samples=(0.1 * np.sin(2 * np.pi * hertz * time))[None].astype(np.float32), rate=RATE)
        for hertz in (40.0, 3000.0)
    )
    assert level_db(low) == pytest.approx(level_db(high), abs=0.2)
    assert loudness_db(high) - loudness_db(low) > 6


def test_the_same_words_slower_are_nearer_than_other_words():
    said = content(listen(voice(seed=1)))
    slower = np.repeat(said, 2, axis=0)[: int(1.5 * len(said))]
    other = content(listen(voice(seed=2)))
    assert content_distance(said, said) == 0
    assert content_distance(said, slower) < content_distance(said, other)
    assert nearest_content(slower, [other, said]) == 1


def test_a_speaker_is_named_by_colour_and_not_by_level():
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 3, (4, 12))
    features = np.concatenate([centre + rng.normal(0, 1, (30, 12)) for centre in centres])
    reader = SpeakerReader.fit(features, [f"{index // 30}" for index in range(120)])
    fresh = [reader.name(centres[index] + rng.normal(0, 1, 12)) for index in range(4)]
    assert fresh == ["0", "1", "2", "3"]
    assert np.allclose(timbre(listen(voice())), timbre(listen(louder(voice(), 0.3))), atol=0.1)


def test_rising_is_one_for_what_only_rises_and_zero_for_what_stays():
    assert rising([0.0, 0.5, 1.0], [0.1, 0.2, 0.9]) == pytest.approx(1.0)
    assert rising([0.0, 0.5, 1.0], [0.9, 0.2, 0.1]) == pytest.approx(-1.0)
    assert rising([0.0, 0.5, 1.0], [0.4, 0.4, 0.4]) == 0.0


def test_cepstra_keep_the_energy_of_the_bands():
    mels = np.random.default_rng(0).normal(size=(5, 48))
    assert np.allclose(np.square(cepstra(mels)).sum(axis=1), np.square(mels).sum(axis=1))
