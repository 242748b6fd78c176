import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.generators.voice.controls import BANDS, WIDTH, VoiceControls
from affetto.generators.voice.limits import F0_RANGE_HZ, RATE_RANGE, keep_loudness, limited, loudness_change
from affetto.generators.voice.speaker import SEMITONE, speaker_statistics


def _controls(hertz=120.0, frames=200, seed=0):
    rng = np.random.default_rng(seed)
    energy = np.where(np.arange(frames) < 150, -20.0, -90.0)
    shape = rng.standard_normal((frames, BANDS)) * 5
    return VoiceControls(
        log_f0=(np.log(hertz) + 0.1 * np.sin(np.arange(frames) / 15)).astype(np.float32),
        voiced=(energy > -50).astype(np.float32),
        energy=energy.astype(np.float32),
        envelope=(shape - shape.mean(axis=1, keepdims=True)).astype(np.float32),
        aperiodicity=np.full((frames, 3), 0.3, np.float32),
    )


@settings(max_examples=25, deadline=None)
@given(st.floats(70, 600), st.floats(-40, 40), st.integers(0, 1000))
def test_no_residual_leads_out_of_a_voice(hertz, size, seed):
    controls = _controls(hertz)
    wild = size * np.random.default_rng(seed).standard_normal((200, WIDTH))
    out = limited(wild, controls, speaker_statistics(controls))
    pitch = np.exp(controls.log_f0 + out[:, 0] / SEMITONE)
    assert pitch.min() > F0_RANGE_HZ[0]
    assert pitch.max() < F0_RANGE_HZ[1]
    rate = np.exp(out[:, 29])
    assert rate.min() > RATE_RANGE[0] - 1e-6
    assert rate.max() < RATE_RANGE[1] + 1e-6
    share = controls.aperiodicity + out[:, 26:29]
    assert share.min() > -1e-6
    assert share.max() < 1 + 1e-6
    assert np.abs(out[:, 2:26]).max() < 17


def test_silence_and_untouched_frames_stay_as_they_are():
    controls = _controls()
    rows = np.ones((200, WIDTH))
    rows[:40] = 0.0
    out = limited(rows, controls, speaker_statistics(controls))
    assert not out[:40].any()
    assert not out[170:, 1:29].any()


def test_loudness_is_kept_and_raised_as_told():
    controls = _controls()
    rows = np.zeros((200, WIDTH))
    rows[:, 2:26] = np.linspace(-8, 8, BANDS)
    speech = slice(20, 130)
    before = loudness_change(rows, controls)[speech]
    assert abs(before.mean()) > 1.0
    for level in (0.0, 6.0):
        kept = keep_loudness(rows, controls, np.ones(200), np.full(200, level))
        assert abs(loudness_change(kept, controls)[speech].mean() - level) < 0.5
    idle = keep_loudness(rows, controls, np.zeros(200), np.full(200, 6.0))
    assert np.array_equal(idle[:, 1], rows[:, 1].astype(np.float32))
