"""What is lasting in a voice: statistics of its controls, gathered piece by piece, and controls seen against them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import gaussian_filter1d

from affetto.generators.voice.controls import BANDS, CONTROL_FPS, VoiceControls

SEMITONE = 12.0 / np.log(2.0)
STATISTICS = 2 + BANDS + 3 + 2
LOUD_DB = 30.0  # how far below the loudest frame speech may lie


@dataclass(frozen=True, kw_only=True)
class SpeakerStatistics:
    """Pitch (natural log of Hz), mean envelope and noise of the voiced frames, tempo, and the level of the speech."""

    log_f0: float
    log_f0_sd: float
    envelope: Float[np.ndarray, "24"]  # dB
    aperiodicity: Float[np.ndarray, "3"]
    voiced_share: float  # of speech
    peaks_per_second: float  # of energy, about one for each syllable
    level: float  # dB: mean power of the speech
    voiced_seconds: float

    def vector(self) -> Float32[np.ndarray, "31"]:
        """The statistics as numbers of about unit size, without the level."""
        row = [
            (self.log_f0 - np.log(160.0)) * SEMITONE / 6.0,
            self.log_f0_sd * SEMITONE / 3.0 - 1.0,
            *(self.envelope / 10.0),
            *(2.0 * self.aperiodicity - 1.0),
            2.0 * self.voiced_share - 1.0,
            self.peaks_per_second / 2.0 - 2.0,
        ]
        return np.clip(np.array(row, np.float32), -4.0, 4.0)


class SpeakerMeter:
    """Gathers `SpeakerStatistics` from controls that come piece by piece; what is said counts, pauses do not."""

    def __init__(self) -> None:
        self._top = -np.inf
        self._sums = np.zeros(2 + BANDS + 3)
        self._voiced = self._speech = self._peaks = self._power = 0.0

    def add(self, controls: VoiceControls) -> None:
        """Take in a further piece."""
        energy = controls.energy.astype(np.float64)
        if not len(energy):
            return
        self._top = max(self._top, float(energy.max()))
        loud = energy > self._top - LOUD_DB
        voiced = loud & (controls.voiced > 0.5)
        pitch = controls.log_f0.astype(np.float64)[voiced]
        rows = np.concatenate([controls.envelope, controls.aperiodicity], axis=1)[voiced].astype(np.float64)
        self._sums += np.concatenate([[pitch.sum(), np.square(pitch).sum()], rows.sum(axis=0)])
        self._voiced += int(voiced.sum())
        self._speech += int(loud.sum())
        self._power += float(np.sum(10.0 ** (energy[loud] / 10.0)))
        smooth = gaussian_filter1d(energy, 4.0, mode="nearest")
        inner = smooth[1:-1]
        self._peaks += int(((inner > smooth[:-2]) & (inner >= smooth[2:]) & loud[1:-1]).sum())

    def read(self) -> SpeakerStatistics:
        """The statistics so far; a voice of 160 Hz with a flat envelope where nothing voiced was heard."""
        count = max(self._voiced, 1.0)
        means = self._sums / count
        heard = self._voiced > 0
        speech = max(self._speech, 1.0)
        return SpeakerStatistics(
            log_f0=float(means[0]) if heard else float(np.log(160.0)),
            log_f0_sd=float(np.sqrt(max(means[1] - means[0] ** 2, 0.0))),
            envelope=means[2 : 2 + BANDS],
            aperiodicity=means[2 + BANDS :],
            voiced_share=float(self._voiced / speech),
            peaks_per_second=float(self._peaks / speech * CONTROL_FPS),
            level=float(10.0 * np.log10(max(self._power, 1e-12) / speech)),
            voiced_seconds=float(self._voiced / CONTROL_FPS),
        )


def speaker_statistics(controls: VoiceControls) -> SpeakerStatistics:
    """The statistics of one recording."""
    meter = SpeakerMeter()
    meter.add(controls)
    return meter.read()


def normalised(controls: VoiceControls, speaker: SpeakerStatistics) -> Float32[np.ndarray, "frame 30"]:
    """The controls as the network hears them: against the speaker's own, in units of about one deviation."""
    columns = [
        ((controls.log_f0 - speaker.log_f0) * SEMITONE / 4.0)[:, None],
        2.0 * controls.voiced[:, None] - 1.0,
        (controls.energy - speaker.level)[:, None] / 10.0 + 0.5,
        (controls.envelope - speaker.envelope) / 6.0,
        2.0 * controls.aperiodicity - 1.0,
    ]
    return np.clip(np.concatenate(columns, axis=1), -5.0, 5.0).astype(np.float32)
