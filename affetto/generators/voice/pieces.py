"""Long recordings in pieces: where to cut them, and what to refuse."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from affetto.generators.voice.controls import CONTROL_FPS, VoiceControls
from affetto.generators.voice.residual_net import FACTOR
from affetto.generators.voice.speaker import SEMITONE, SpeakerStatistics
from affetto.media.audio import MAX_CHANNELS, SILENCE_PEAK, Audio
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.memory import shorter

MIN_SECONDS = 0.2
RATES_HZ = (8_000, 192_000)
SHORTEST_S, LONGEST_S = 8.0, 24.0
"""A long recording is cut at its quietest moment between these two, sooner where memory is short."""

MARGIN = 50 * FACTOR  # frames of context on both sides of a piece
_VOICED_S = 0.1  # less voice than this is none
_STILL = 0.19  # share of voiced frames that hold their pitch, beyond which nobody speaks
_JUDGED_S = 1.5  # seconds of voice before that is judged
_CLIPPED = 1e-4  # share of samples at full scale that deserves a warning


@dataclass(frozen=True, kw_only=True)
class Window:
    """Frames `start` to `stop` are decided, `low` to `high` are looked at; all but the last are multiples of four."""

    start: int
    stop: int
    low: int
    high: int


def part_of(controls: VoiceControls, start: int, stop: int) -> VoiceControls:
    """The frames from `start` to `stop`."""
    return VoiceControls.from_stack(controls.stack()[start:stop])


def cut_at(energy: Float[np.ndarray, "frame"]) -> int:
    """The frame, a multiple of four, at which to end a piece that begins at frame 0: all frames when they are few."""
    longest, shortest = (round(shorter(seconds) * CONTROL_FPS) for seconds in (LONGEST_S, SHORTEST_S))
    if len(energy) <= longest:
        return len(energy)
    smooth = gaussian_filter1d(energy[:longest].astype(np.float64), 8.0, mode="nearest")
    return (shortest + int(np.argmin(smooth[shortest:]))) // FACTOR * FACTOR


def windows(controls: VoiceControls) -> list[Window]:
    """The pieces of a recording, cut where it is quiet, with margins."""
    total, start = len(controls), 0
    found: list[Window] = []
    while start < total:
        stop = start + cut_at(controls.energy[start:])
        found.append(
            Window(start=start, stop=stop, low=max(0, start - MARGIN), high=min(total, stop + MARGIN))
        )
        start = stop
    return found


def check_speech(audio: Audio) -> None:
    """Raise InvalidInputError unless the sound can be converted: finite, long and loud enough, of a usual rate."""
    where = audio.path or "the sound"
    if audio.samples.shape[0] > MAX_CHANNELS:
        raise InvalidInputError(
            f"{where}: {audio.samples.shape[0]} channels exceed {MAX_CHANNELS}: mix it down"
        )
    if not RATES_HZ[0] <= audio.rate <= RATES_HZ[1]:
        raise InvalidInputError(
            f"{where}: {audio.rate} Hz is outside {RATES_HZ[0]}..{RATES_HZ[1]} Hz: resample it"
        )
    if not np.isfinite(audio.samples).all():
        raise InvalidInputError(f"{where}: holds NaN or infinite samples: export it again")
    check_found(audio.path, audio.seconds, float(np.abs(audio.samples).max(initial=0.0)))


def check_found(path: Path | None, seconds: float, peak: float) -> None:
    """Raise InvalidInputError for sound that is too short or silent."""
    where = path or "the sound"
    if seconds < MIN_SECONDS:
        raise InvalidInputError(f"{where}: lasts {seconds:.3f} s: give at least {MIN_SECONDS} s of speech")
    if peak < SILENCE_PEAK:
        raise InvalidInputError(f"{where}: is silent (below -80 dB throughout): check the recording")


def check_voiced(path: Path | None, speaker: SpeakerStatistics) -> None:
    """Raise InvalidInputError where hardly anything has a pitch."""
    if speaker.voiced_seconds < _VOICED_S:
        raise InvalidInputError(
            f"{path or 'the sound'}: holds no voice with a pitch: give a recording of speech"
        )


def check_spoken(path: Path | None, controls: VoiceControls) -> None:
    """Raise InvalidInputError where the pitch stands still as only instruments hold it: music, a steady tone.

    Of natural speech at most a ninth of the voiced frames keep their pitch within a fiftieth of a semitone (EMO-DB and
    readers of three languages), of notes a fifth and more.
    """
    voiced = controls.voiced > 0.5
    follows = voiced[1:] & voiced[:-1]
    if np.count_nonzero(follows) < _JUDGED_S * CONTROL_FPS:
        return
    moves = np.abs(np.diff(controls.log_f0.astype(np.float64)))[follows] * SEMITONE
    still = float(np.mean(moves < 0.02))
    if still > _STILL:
        raise InvalidInputError(
            f"{path or 'the sound'}: sounds like music or a steady tone ({100 * still:.0f} % of its pitch stands still):"
            " give a recording of speech alone"
        )


def clipping_warning(audio: Audio) -> str | None:
    """A line about samples at full scale, when they are many enough to be heard."""
    share = float(np.mean(np.abs(audio.samples) >= 0.999))
    if share < _CLIPPED:
        return None
    return f"{audio.path or 'the sound'}: {100 * share:.2f} % of its samples are clipped: record it softer"
