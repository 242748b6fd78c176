import numpy as np
import pytest

from affetto.generators.voice.controls import VoiceControls
from affetto.generators.voice.guide import broad, keep_range

FRAMES = 200


def controls(voiced: float = 1.0) -> VoiceControls:
    melody = np.log(150.0) + 0.1 * np.sin(np.arange(FRAMES) / 15)
    return VoiceControls(
        log_f0=melody.astype(np.float32),
        voiced=np.full(FRAMES, voiced, np.float32),
        energy=np.full(FRAMES, -20.0, np.float32),
        envelope=np.zeros((FRAMES, 24), np.float32),
        aperiodicity=np.zeros((FRAMES, 3), np.float32),
    )


def test_only_the_broad_and_slow_shape_of_the_envelope_stays():
    rng = np.random.default_rng(0)
    tilt = np.linspace(-4, 4, 24)
    rows = np.zeros((FRAMES, 30))
    rows[:, 2:26] = tilt + rng.normal(0, 2, (FRAMES, 24))
    rows[:, [0, 1, 26, 29]] = rng.normal(size=(FRAMES, 4))
    kept = broad(rows)
    assert np.array_equal(kept[:, [0, 1, 26, 29]], rows[:, [0, 1, 26, 29]])
    assert np.abs(kept[:, 2:26] - tilt).mean() < 0.25 * np.abs(rows[:, 2:26] - tilt).mean()
    assert not broad(np.zeros((FRAMES, 30))).any()


def test_a_flattened_melody_gets_its_range_back_and_keeps_its_middle():
    mean = np.full((FRAMES, 30), 0.0)
    mean[:, 0] = 5.0
    own = 12 / np.log(2) * controls().log_f0.astype(np.float64)
    rows = mean.copy()
    rows[:, 0] -= 0.25 * (own - own.mean())  # flattened by a quarter
    out = own + keep_range(rows, mean, controls())[:, 0]
    assert out.std() == pytest.approx(own.std(), rel=1e-3)
    assert out.mean() == pytest.approx((own + rows[:, 0]).mean(), abs=1e-6)


def test_without_voice_there_is_no_range_to_keep():
    rows = np.random.default_rng(0).normal(size=(FRAMES, 30))
    assert np.array_equal(keep_range(rows, np.zeros((FRAMES, 30)), controls(voiced=0.0)), rows)
