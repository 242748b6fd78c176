"""What keeps an edited voice a voice: ranges of pitch, colour and tempo, silence left alone, loudness kept."""

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import gaussian_filter1d

from affetto.generators.voice.controls import BANDS, CONTROL_FPS, VoiceControls, band_centres
from affetto.generators.voice.speaker import SEMITONE, SpeakerStatistics

F0_RANGE_HZ = (60.0, 800.0)
RATE_RANGE = (0.5, 2.2)
"""How much shorter or longer any moment may become."""

PITCH_ST, ENERGY_DB, ENVELOPE_DB, NOISE = 16.0, 14.0, 16.0, 0.45
_QUIET_DB = (38.0, 48.0)  # below the speech: there an edit begins to fade, there it is gone
_SMOOTH = 1.5  # frames
_GLIDE = 0.9  # semitones a frame: faster is a leap
_LOUDNESS_S = 1.2


def limited(
    residual: Float[np.ndarray, "frame 30"], controls: VoiceControls, speaker: SpeakerStatistics
) -> Float32[np.ndarray, "frame 30"]:
    """The residual within what a voice can do: bounded softly, smooth, and gone where nothing is said.

    Rows of zeros stay zeros.
    """
    out = np.asarray(residual, np.float64).copy()
    idle = ~np.any(out, axis=1)
    out[:, 2 : 2 + BANDS] -= out[:, 2 : 2 + BANDS].mean(axis=1, keepdims=True)
    out = gaussian_filter1d(out, _SMOOTH, axis=0, mode="nearest") if len(out) > 1 else out
    for columns, most in ((0, PITCH_ST), (1, ENERGY_DB), (slice(2, 2 + BANDS), ENVELOPE_DB)):
        out[:, columns] = most * np.tanh(out[:, columns] / most)
    out[:, 0] = _pitch(out[:, 0], controls)
    noise = slice(2 + BANDS, 5 + BANDS)
    share = controls.aperiodicity.astype(np.float64)
    out[:, noise] = np.clip(share + np.clip(out[:, noise], -NOISE, NOISE), 0.0, 1.0) - share
    out[:, 29] = np.clip(out[:, 29], *np.log(RATE_RANGE))
    out[:, 1:29] *= spoken(controls, speaker)[:, None]
    out[idle] = 0.0
    return out.astype(np.float32)


def spoken(controls: VoiceControls, speaker: SpeakerStatistics) -> Float[np.ndarray, "frame"]:
    """1 where something is said, 0 in silence, by the level of each frame and its neighbours."""
    below = speaker.level - controls.energy.astype(np.float64)
    share = np.clip((_QUIET_DB[1] - below) / (_QUIET_DB[1] - _QUIET_DB[0]), 0.0, 1.0)
    smooth = gaussian_filter1d(share, 2.0, mode="nearest") if len(share) > 1 else share
    return np.where(smooth < 1e-3, 0.0, smooth)


def _pitch(shift: Float[np.ndarray, "frame"], controls: VoiceControls) -> Float[np.ndarray, "frame"]:
    """The shift without leaps, leading to no pitch outside `F0_RANGE_HZ` (a source outside is not pushed farther)."""
    own = controls.log_f0.astype(np.float64)
    low, high = np.log(F0_RANGE_HZ[0] * 1.02), np.log(F0_RANGE_HZ[1] * 0.98)
    bounded = np.clip(
        shift, np.minimum(SEMITONE * (low - own), 0.0), np.maximum(SEMITONE * (high - own), 0.0)
    )
    if len(bounded) < 2 or np.abs(np.diff(bounded)).max() <= _GLIDE:
        return bounded
    # A slew limit run both ways and averaged is smooth and keeps slow movement.
    forth, back = _slewed(bounded), _slewed(bounded[::-1])[::-1]
    return np.clip(
        0.5 * (forth + back),
        np.minimum(SEMITONE * (low - own), 0.0),
        np.maximum(SEMITONE * (high - own), 0.0),
    )


def _slewed(course: Float[np.ndarray, "frame"]) -> Float[np.ndarray, "frame"]:
    out = course.copy()
    for frame in range(1, len(out)):
        step = out[frame] - out[frame - 1]
        if abs(step) > _GLIDE:
            out[frame] = out[frame - 1] + np.sign(step) * _GLIDE
    return out


def loudness_change(
    residual: Float[np.ndarray, "frame 30"], controls: VoiceControls
) -> Float[np.ndarray, "frame"]:
    """By how many dB each frame becomes louder to the ear, from its colour and energy before and after."""
    before = controls.envelope.astype(np.float64) + _band_weight()
    after = before + residual[:, 2 : 2 + BANDS]
    return residual[:, 1] + _power_db(after) - _power_db(before)


def keep_loudness(
    residual: Float[np.ndarray, "frame 30"],
    controls: VoiceControls,
    amount: Float[np.ndarray, "frame"],
    level_db: Float[np.ndarray, "frame"],
) -> Float32[np.ndarray, "frame 30"]:
    """The residual whose loudness over about a second is the source's, raised by `level_db`.

    `amount` (0..1) says how much each frame is edited; frames where it is 0 stay as they are.
    """
    out = np.asarray(residual, np.float64).copy()
    if not len(out):
        return out.astype(np.float32)
    power = amount * 10.0 ** ((controls.energy.astype(np.float64) + _ear(controls)) / 10.0)
    louder = power * 10.0 ** (loudness_change(out, controls) / 10.0)
    sigma = _LOUDNESS_S * CONTROL_FPS
    was = gaussian_filter1d(power, sigma, mode="reflect", truncate=3.0) + 1e-14
    now = gaussian_filter1d(louder, sigma, mode="reflect", truncate=3.0) + 1e-14
    out[:, 1] += np.clip(level_db - 10.0 * np.log10(now / was), -30.0, 30.0) * amount
    return out.astype(np.float32)


def _band_weight() -> Float[np.ndarray, "24"]:
    """DB by which each band's density counts: its width, and what the ear makes of it (about K-weighting, BS.1770)."""
    hertz = band_centres()
    width = np.gradient(hertz)
    ear = 4.0 / (1.0 + (1500.0 / hertz) ** 4) - 10.0 * np.log10(1.0 + (50.0 / hertz) ** 4)
    return 10.0 * np.log10(width / width.sum()) + ear


def _power_db(rows: Float[np.ndarray, "frame 24"]) -> Float[np.ndarray, "frame"]:
    return 10.0 * np.log10(np.sum(10.0 ** (rows / 10.0), axis=1))


def _ear(controls: VoiceControls) -> Float[np.ndarray, "frame"]:
    """By how much each frame sounds louder than its energy says, for its colour."""
    plain = 10.0 * np.log10(np.gradient(band_centres()) / np.gradient(band_centres()).sum())
    envelope = controls.envelope.astype(np.float64)
    return _power_db(envelope + _band_weight()) - _power_db(envelope + plain)
