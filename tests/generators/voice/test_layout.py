from dataclasses import replace

import numpy as np
import pytest

from affetto.generators.voice.controls import ControlResidual, analyse
from affetto.generators.voice.layout import onsets
from affetto.generators.voice.render import render
from affetto.media.audio import Audio

RATE = 16_000


def voice_into_noise() -> np.ndarray:
    """Half a second of voice that passes into hiss of the same level without a pause."""
    time = np.arange(RATE // 2) / RATE
    tone = sum(np.sin(2 * np.pi * 180 * k * time + k) / k for k in range(1, 15))
    hiss = np.random.default_rng(0).normal(0, 1, RATE // 2)
    return (0.1 * np.concatenate([tone / tone.std(), hiss])).astype(np.float32)


@pytest.mark.parametrize("semitones", [-8.0, -5.0, -3.0, 4.0])
@pytest.mark.parametrize("log_rate", [-0.2, 0.0, 0.45])
def test_nothing_falls_silent_where_a_voice_passes_into_noise(semitones, log_rate):
    sound = voice_into_noise()
    controls = analyse(sound, RATE)
    frames = len(controls)
    residual = replace(
        ControlResidual.zeros(frames),
        pitch=np.full(frames, semitones, np.float32),
        log_rate=np.full(frames, log_rate, np.float32),
    )
    done = render(Audio(samples=sound[None], rate=RATE), controls, residual)
    out = done.audio.mono()[RATE // 10 : -RATE // 10].astype(np.float64)
    size = RATE // 200
    power = np.square(out[: len(out) // size * size]).reshape(-1, size).mean(axis=1)
    assert power.min() > 0.01 * np.median(power)


@pytest.mark.parametrize("log_rate", [-0.3, 0.2, 0.45, 0.7])
def test_a_burst_is_heard_once_however_slow_the_speech(log_rate):
    rng = np.random.default_rng(1)
    sound = rng.normal(0, 2e-4, RATE)
    sound[RATE // 2 : RATE // 2 + 400] += rng.normal(0, 0.2, 400) * np.exp(-np.arange(400) / 120)
    sound = sound.astype(np.float32)
    assert len(onsets(sound, RATE)) == 1
    controls = analyse(sound, RATE)
    residual = replace(
        ControlResidual.zeros(len(controls)), log_rate=np.full(len(controls), log_rate, np.float32)
    )
    done = render(Audio(samples=sound[None], rate=RATE), controls, residual)
    heard = onsets(done.audio.mono(), RATE)
    assert len(heard) == 1
    assert heard[0] / RATE == pytest.approx(float(done.time_map.to_output(0.5)), abs=0.015)


def test_steady_noise_and_silence_hold_no_burst():
    noise = np.random.default_rng(2).normal(0, 0.1, RATE).astype(np.float32)
    assert len(onsets(noise, RATE)) == 0
    assert len(onsets(np.zeros(RATE, np.float32), RATE)) == 0
    assert len(onsets(np.zeros(3, np.float32), RATE)) == 0
