"""What is measured of a voice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.generators.voice import controls as module
from affetto.generators.voice.controls import (
    CONTROL_FPS,
    ControlResidual,
    VoiceControls,
    analyse,
    band_centres,
    frame_count,
)
from tests.generators.voice.sounds import FORMANTS, talker


def pitch_at_frames(pitch: np.ndarray, rate: int, frames: int) -> np.ndarray:
    return pitch[np.minimum(np.round(np.arange(frames) * rate / CONTROL_FPS).astype(int), len(pitch) - 1)]


@pytest.mark.parametrize(("rate", "hertz"), [(16_000, 90.0), (22_050, 220.0), (48_000, 480.0)])
def test_pitch_and_voicing_are_those_that_were_made(rate, hertz):
    sound, pitch = talker(rate, 2.0, hertz)
    found = analyse(sound, rate)
    truth = pitch_at_frames(pitch, rate, len(found))
    assert len(found) == frame_count(len(sound), rate)
    assert np.mean((found.voiced > 0.5) != (truth > 0)) < 0.06
    both = (found.voiced > 0.5) & (truth > 0)
    apart = 12 * np.abs(found.log_f0[both] / np.log(2) - np.log2(truth[both]))
    assert np.median(apart) < 0.2
    assert np.mean(apart > 2) < 0.02


def test_the_envelope_peaks_at_the_formants_whatever_the_pitch():
    shapes = []
    for hertz in (100.0, 160.0, 230.0):
        sound, _ = talker(hertz=hertz, glide=1.05)
        found = analyse(sound, 16_000)
        shapes.append(np.median(found.envelope[found.voiced > 0.5], axis=0))
    centres = band_centres()
    first = centres[(centres > 300) & (centres < 1000)]
    for shape in shapes:
        peak = first[np.argmax(shape[(centres > 300) & (centres < 1000)])]
        assert abs(peak - FORMANTS[0][0]) < 130
    upper = centres > 400
    assert np.abs(shapes[0] - shapes[1])[upper].mean() < 2.5
    np.testing.assert_allclose(np.mean(shapes, axis=1), 0.0, atol=1.0)


def test_louder_sound_moves_the_energy_alone():
    sound, _ = talker()
    one, two = analyse(sound, 16_000), analyse(0.5 * sound, 16_000)
    loud = one.energy > -50
    np.testing.assert_allclose((one.energy - two.energy)[loud], 6.02, atol=0.05)
    heard = loud[:, None] & (one.envelope > -35)
    np.testing.assert_allclose(one.envelope[heard], two.envelope[heard], atol=0.5)
    assert np.mean(one.voiced != two.voiced) < 0.01


def test_breath_raises_the_share_of_noise():
    shares = []
    for breath in (0.0, 0.3, 1.0):
        found = analyse(talker(breath=breath, glide=1.02)[0], 16_000)
        shares.append(found.aperiodicity[found.voiced > 0.5].mean(axis=0))
    assert np.all(np.diff(shares, axis=0) > 0)
    assert np.all(shares[0] < 0.4)


def test_pieces_give_what_the_whole_gives(monkeypatch):
    sound, _ = talker(seconds=7.0)
    whole = analyse(sound, 16_000).stack()
    monkeypatch.setattr(module, "PIECE_SECONDS", 2)
    pieces = analyse(sound, 16_000).stack()
    np.testing.assert_allclose(pieces[:, :27], whole[:, :27], atol=0.05)


@pytest.mark.parametrize("samples", [1, 100, 8000])
def test_silence_and_scraps_have_controls_too(samples):
    found = analyse(np.zeros(samples, np.float32), 16_000)
    assert np.isfinite(found.stack()).all()
    assert not found.voiced.any()
    assert len(found) == samples // 160 + 1


@given(frames=st.integers(1, 30), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_stacking_loses_nothing(frames, seed):
    stack = np.random.default_rng(seed).standard_normal((frames, 30)).astype(np.float32)
    np.testing.assert_array_equal(ControlResidual.from_stack(stack).stack(), stack)
    np.testing.assert_array_equal(VoiceControls.from_stack(stack).stack(), stack)


@given(gain=st.floats(-2, 2), frames=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_residuals_scale_and_add_as_their_stacks_do(gain, frames):
    stack = np.random.default_rng(frames).standard_normal((frames, 30)).astype(np.float32)
    residual = ControlResidual.from_stack(stack)
    curve = np.linspace(0.0, gain, frames)
    np.testing.assert_allclose(residual.scaled(gain).stack(), np.float32(gain) * stack, rtol=1e-6)
    np.testing.assert_allclose(residual.scaled(curve).stack(), curve[:, None] * stack, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose((residual + residual).stack(), 2 * stack)
    assert residual.scaled(0.0).is_zero
    assert ControlResidual.zeros(frames).is_zero
