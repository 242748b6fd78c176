"""What an edit makes of a voice."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.generators.voice import render as module
from affetto.generators.voice.controls import BANDS, CONTROL_FPS, ControlResidual, VoiceControls, analyse
from affetto.generators.voice.render import render, render_blocks
from affetto.media.audio import Audio
from affetto.runtime.errors import UsageError
from tests.generators.voice.sounds import talker


def residual(
    frames: int,
    pitch: float = 0.0,
    energy: float = 0.0,
    tilt: float = 0.0,
    breath: float = 0.0,
    log_rate: float = 0.0,
) -> ControlResidual:
    stack = np.zeros((frames, 30), np.float32)
    stack[:, 0], stack[:, 1], stack[:, 29] = pitch, energy, log_rate
    stack[:, 2 : 2 + BANDS] = np.linspace(-tilt / 2, tilt / 2, BANDS)
    stack[:, 26:29] = breath
    return ControlResidual.from_stack(stack)


def made(
    rate: int = 16_000, channels: int = 1, seconds: float = 2.0, hertz: float = 120.0
) -> tuple[Audio, VoiceControls]:
    sound, _ = talker(rate, seconds, hertz)
    samples = sound[None] * np.linspace(1.0, 0.4, channels, dtype=np.float32)[:, None]
    return Audio(samples=samples, rate=rate), analyse(samples.mean(0), rate)


def heard(audio: Audio, controls: VoiceControls, edit: ControlResidual) -> tuple[VoiceControls, np.ndarray]:
    """The controls of the output, and the source frame that each of its frames shows."""
    result = render(audio, controls, edit)
    found = analyse(result.audio.mono(), audio.rate)
    frames = result.time_map.to_source(np.arange(len(found)) / CONTROL_FPS) * CONTROL_FPS
    return found, np.clip(np.round(frames), 0, len(controls) - 1).astype(int)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (22_050, 2), (48_000, 3)])
def test_a_residual_of_zero_changes_no_bit(rate, channels):
    audio, controls = made(rate, channels, 1.0)
    result = render(audio, controls, ControlResidual.zeros(len(controls)))
    np.testing.assert_array_equal(result.audio.samples, audio.samples)
    assert result.time_map.is_identity


@given(
    pitch=st.sampled_from([-4.0, 0.0, 5.0]),
    tilt=st.sampled_from([0.0, 6.0]),
    breath=st.sampled_from([-0.2, 0.0, 0.3]),
    log_rate=st.sampled_from([-0.2, 0.0, 0.4]),
    rate=st.sampled_from([16_000, 22_050]),
)
@settings(max_examples=6, deadline=None)
def test_what_the_edit_leaves_alone_is_only_moved(pitch, tilt, breath, log_rate, rate):
    audio, controls = made(rate, 2, 3.0)
    curve = np.zeros(len(controls))
    curve[100:200] = np.sin(np.linspace(0, np.pi, 100))
    edit = residual(len(controls), pitch, 2.0, tilt, breath, log_rate).scaled(curve)
    result = render(audio, controls, edit)
    shift = round(float(result.time_map.shift_at(2.9)) * rate)
    early, late = round(0.93 * rate), round(2.1 * rate)
    np.testing.assert_array_equal(result.audio.samples[:, :early], audio.samples[:, :early])
    np.testing.assert_array_equal(result.audio.samples[:, late + shift :], audio.samples[:, late:])


@pytest.mark.parametrize("hertz", [100.0, 220.0])
@pytest.mark.parametrize("pitch", [-3.0, 4.0, 9.0])
def test_pitch_moves_by_the_semitones_asked_and_loudness_stays(pitch, hertz):
    audio, controls = made(hertz=hertz)
    found, frames = heard(audio, controls, residual(len(controls), pitch))
    both = (found.voiced > 0.5) & (controls.voiced[frames] > 0.5)
    moved = 12 / np.log(2) * (found.log_f0 - controls.log_f0[frames])[both]
    assert np.median(moved) == pytest.approx(pitch, abs=0.1)
    assert np.mean(np.abs(moved - pitch) > 1.0) < 0.06
    assert np.median((found.energy - controls.energy[frames])[both]) == pytest.approx(0.0, abs=0.6)
    assert both.mean() > 0.9 * controls.voiced.mean()


@pytest.mark.parametrize("log_rate", [-0.3, 0.45])
def test_duration_changes_as_asked_and_the_pitch_stays(log_rate):
    audio, controls = made()
    edit = residual(len(controls), log_rate=log_rate)
    result = render(audio, controls, edit)
    assert result.audio.seconds / audio.seconds == pytest.approx(np.exp(log_rate), rel=0.03)
    assert result.time_map.seconds == pytest.approx(result.audio.seconds, abs=0.03)
    found, frames = heard(audio, controls, edit)
    both = (found.voiced > 0.5) & (controls.voiced[frames] > 0.5)
    assert np.median(np.abs(found.log_f0 - controls.log_f0[frames])[both]) < 0.02
    assert np.mean((found.voiced > 0.5) != (controls.voiced[frames] > 0.5)) < 0.08
    same = render(audio, controls, edit, keep_timing=True)
    np.testing.assert_array_equal(same.audio.samples, audio.samples)
    assert same.time_map.is_identity


def test_colour_and_energy_move_as_asked():
    audio, controls = made()
    found, frames = heard(audio, controls, residual(len(controls), energy=4.0, tilt=6.0))
    both = (found.voiced > 0.5) & (controls.voiced[frames] > 0.5)
    assert np.median((found.energy - controls.energy[frames])[both]) == pytest.approx(4.0, abs=0.5)
    tilt = np.median((found.envelope - controls.envelope[frames])[both], axis=0)
    assert tilt[13:19].mean() - tilt[4:10].mean() == pytest.approx(6.0 * 9 / 23, abs=0.5)


def test_breath_rises_and_falls_as_asked():
    audio, controls = made()
    shares = []
    for breath in (-0.15, 0.0, 0.3):
        found, _ = heard(audio, controls, residual(len(controls), breath=breath))
        shares.append(found.aperiodicity[found.voiced > 0.5].mean(axis=0))
    assert np.all(np.diff(shares, axis=0) > 0)
    assert np.all(shares[2] - shares[1] > 0.12)


@pytest.mark.parametrize("edit", [{"pitch": 7.0}, {"log_rate": 0.4}, {"tilt": 9.0, "pitch": -4.0}])
def test_no_clicks_where_the_edit_comes_and_goes(edit):
    audio, controls = made(24_000, seconds=3.0)
    curve = (np.sin(np.arange(len(controls)) / 25) > 0).astype(float)
    result = render(audio, controls, residual(len(controls), **edit).scaled(curve))
    bends = [np.abs(np.diff(samples, n=2)).max() for samples in (audio.samples, result.audio.samples)]
    assert bends[1] < 2.0 * bends[0]


def test_all_channels_are_changed_alike():
    audio, controls = made(channels=2)
    made_two = render(audio, controls, residual(len(controls), 3.0, 1.0, 4.0, 0.2, 0.2)).audio.samples
    np.testing.assert_allclose(made_two[1], 0.4 * made_two[0], atol=2e-3)


def test_it_never_rises_beyond_full_scale():
    audio, controls = made()
    result = render(audio, controls, residual(len(controls), energy=18.0))
    assert np.abs(result.audio.samples).max() <= 1.0
    assert np.abs(result.audio.samples).max() > 0.9


def test_blocks_of_any_length_give_the_whole_and_parts_come_early(monkeypatch):
    monkeypatch.setattr(module, "PIECE_SECONDS", 3)
    monkeypatch.setattr(module, "LONGEST_PIECE_SECONDS", 4)
    sound, _ = talker(seconds=3.0)
    long = np.tile(sound, 4)[None]
    controls = analyse(long[0], 16_000)
    edit = residual(len(controls), 3.0, 1.0, 3.0, 0.0, 0.1)
    whole = render(Audio(samples=long, rate=16_000), controls, edit).audio.samples
    read = []

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, long.shape[1], 5000):
            read.append(start / 16_000)
            yield long[:, start : start + 5000]

    parts = render_blocks(blocks(), 16_000, controls, edit)
    first = next(parts)
    assert read[-1] < 4.0 + 2.0 + 0.4
    np.testing.assert_array_equal(np.concatenate([first, *parts], axis=1), whole)


def test_the_same_edit_gives_the_same_bytes():
    audio, controls = made()
    edit = residual(len(controls), 3.0, 1.0, 3.0, 0.2, 0.1)
    one, two = (render(audio, controls, edit).audio.samples for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_sound_without_a_voice_keeps_its_loudness_when_stretched():
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    audio = Audio(samples=noise[None], rate=16_000)
    controls = analyse(noise, 16_000)
    assert controls.voiced.mean() < 0.05
    result = render(audio, controls, residual(len(controls), log_rate=0.5)).audio
    parts = result.samples[0, : len(result.samples[0]) // 800 * 800].reshape(-1, 800)
    level = 20 * np.log10(np.sqrt((parts**2).mean(1)) / 0.1)
    assert np.abs(level).max() < 1.5
    spectrum = np.abs(np.fft.rfft(result.samples[0]))
    assert spectrum.max() < 6.0 * np.sqrt((spectrum**2).mean())


def test_wrong_residuals_are_refused():
    audio, controls = made(seconds=1.0)
    with pytest.raises(UsageError, match="use as many"):
        render(audio, controls, ControlResidual.zeros(7))
    with pytest.raises(UsageError, match="not finite"):
        render(audio, controls, residual(len(controls), pitch=np.nan))
