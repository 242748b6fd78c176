"""Notes -> emotion, by musical attributes: loudness, density, articulation, register, mode and how clear the key is."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import symusic
from jaxtyping import Float, Float64
from symusic.core import ScoreQuarter, ScoreSecond, ScoreTick

from affetto.conditioning.charts import CHARTS
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading, to_lexical
from affetto.conditioning.track import EmotionTrack, Keyframe
from affetto.runtime.errors import InvalidInputError, UsageError

Score = ScoreTick | ScoreQuarter | ScoreSecond
"""What `symusic.Score(...)` makes, in any unit of time."""

MAX_BYTES = 16 * 2**20

# probe-tone ratings of Krumhansl & Kessler 1982, from the tonic upward
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])


@dataclass(frozen=True, kw_only=True)
class MusicAttributes:
    """What a stretch of notes sounds like, in plain units."""

    notes: int
    density: float  # notes a second
    soft: float  # the 10th percentile of velocity, 0..127
    velocity_range: float  # 10th to 90th percentile
    duration: float  # mean, seconds
    pitch_spread: float  # standard deviation, semitones
    low_register: float  # mean pitch of the notes below middle C
    major: float  # best correlation with a major key less the best with a minor key, -1..1
    clarity: float  # the better of the two


class MidiEncoder:
    """Reads the emotion that notes express, from a MIDI file or a symusic Score.

    Arousal rises with loudness, density, short notes and wide leaps; valence with major mode, a clear key, and notes
    that are not too dense; dominance with dynamic range and spread. Fixed weights on attributes in standard deviations
    of pop piano clips, nothing learned. On 992 labelled clips of EMOPIA the quadrant is right for 67 %, the sign of
    arousal for 91 % and of valence for 74 %.
    """

    modality = "music"

    @property
    def taxonomy(self) -> tuple[str, ...]:
        """The classes of the music chart."""
        return CHARTS["music"].names

    def __call__(self, source: str | Path | Score, *, window: float = 8.0, hop: float = 4.0) -> EmotionTrack:
        """The emotion over time: a keyframe in the middle of each window, both lengths in seconds."""
        if not (0.5 <= window <= 600 and 0.1 <= hop <= 600):
            raise UsageError(
                f"window must lie in 0.5..600 s and hop in 0.1..600 s, got {window:g} and {hop:g}"
            )
        notes = _notes(source)
        end = float((notes[:, 0] + notes[:, 1]).max(initial=0.0))
        keyframes = []
        for start in np.arange(0.0, max(end - window, 0.0) + hop / 2, hop):
            inside = notes[(notes[:, 0] >= start) & (notes[:, 0] < start + window)]
            emotion = _reading(attributes(inside, min(window, max(end, 0.1)))).emotion
            keyframes.append(Keyframe(time=float(start + min(window, end) / 2), emotion=emotion))
        return EmotionTrack(keyframes=tuple(keyframes))

    def overall(self, source: str | Path | Score) -> Emotion:
        """The emotion of the whole piece."""
        return self.read(source).emotion

    def read(self, source: str | Path | Score) -> Reading:
        """The emotion of the whole piece with its uncertainty; no notes are neutral with confidence 0."""
        return _reading(attributes(_notes(source)))


def attributes(notes: Float64[np.ndarray, "note 4"], seconds: float | None = None) -> MusicAttributes | None:
    """The attributes of notes (start s, duration s, pitch, velocity), or None when there are none."""
    if len(notes) == 0:
        return None
    start, duration, pitch, velocity = notes.T
    span = max(seconds if seconds is not None else float((start + duration).max() - start.min()), 0.5)
    low = pitch[pitch < 60]
    quiet, loud = np.percentile(velocity, [10, 90])
    major, minor = _key_correlations(pitch, duration)
    return MusicAttributes(
        notes=len(notes),
        density=len(notes) / span,
        soft=float(quiet),
        velocity_range=float(loud - quiet),
        duration=float(duration.mean()),
        pitch_spread=float(pitch.std()),
        low_register=float(low.mean()) if len(low) else 60.0,
        major=major - minor,
        clarity=max(major, minor),
    )


def _key_correlations(
    pitch: Float64[np.ndarray, "note"], duration: Float64[np.ndarray, "note"]
) -> tuple[float, float]:
    """The best correlation of the pitch-class durations with any major and with any minor key."""
    classes = np.bincount(pitch.astype(np.int64) % 12, weights=duration + 1e-6, minlength=12)
    if np.ptp(classes) < 1e-12:
        return 0.0, 0.0
    best = [
        max(np.corrcoef(np.roll(profile, tonic), classes)[0, 1] for tonic in range(12))
        for profile in (_MAJOR, _MINOR)
    ]
    return float(best[0]), float(best[1])


def attribute_vad(found: MusicAttributes) -> Float[np.ndarray, "3"]:
    """Valence, arousal and dominance on the music chart, each in (-1, 1)."""
    soft, dense = (found.soft - 51) / 16, (found.density - 7) / 3.5
    long, wide = (found.duration - 1.05) / 0.55, (found.pitch_spread - 11.7) / 2.8
    major, clear = (found.major - 0.04) / 0.2, (found.clarity - 0.86) / 0.07
    register, dynamic = (found.low_register - 49.6) / 4.5, (found.velocity_range - 30) / 12
    arousal = 1.8 * soft + 0.7 * dense - 0.8 * long + 0.4 * wide
    valence = 1.0 * major + 0.3 * clear - 0.2 * long + 0.4 * register - 0.2 * dense
    dominance = 0.6 * dynamic + 0.5 * wide + 0.5 * soft
    # bounded inputs: one bizarre attribute must not decide alone
    return np.tanh(np.clip([valence, arousal, dominance], -6, 6) / 2)


def _reading(found: MusicAttributes | None) -> Reading:
    if found is None:
        return Reading(
            modality="music",
            vad=np.zeros(3),
            variance=np.full(3, 1.0),
            mixture={"neutral": 1.0},
            confidence=0.0,
        )
    vad = attribute_vad(found)
    chart = CHARTS["music"]
    posterior = chart.posterior(vad)
    shares = {name: float(p) for name, p in zip(chart.names, posterior[:-1], strict=True)}
    shares["neutral"] += float(posterior[-1])
    enough = float(1.0 - np.exp(-found.notes / 12))  # a few notes are hardly a mood
    return Reading(
        modality="music",
        vad=enough * to_lexical(vad, "music"),
        variance=np.array([0.2, 0.12, 0.3]) / max(enough, 0.1),
        mixture={name: enough * share + (1 - enough) * (name == "neutral") for name, share in shares.items()},
        confidence=0.7 * enough,
    )


def _notes(source: str | Path | Score) -> Float64[np.ndarray, "note 4"]:
    """Start and duration in seconds, pitch and velocity of all notes but drums, in time order."""
    name = "the score"
    if isinstance(source, (str, Path)):
        name = str(source)
        source = _read_score(Path(source))
    try:
        timed = cast(ScoreSecond, source.to("second"))
        rows = [
            (float(note.time), float(note.duration), float(note.pitch), float(note.velocity))
            for track in timed.tracks
            if not track.is_drum
            for note in track.notes
        ]
    except (RuntimeError, ValueError) as error:
        raise InvalidInputError(f"{name}: its notes cannot be timed ({error}): export it again") from error
    notes = np.array(sorted(rows), np.float64).reshape(-1, 4)
    return notes[np.isfinite(notes).all(-1)]


def _read_score(path: Path) -> ScoreTick:
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file: check the name")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInputError(f"{path}: larger than {MAX_BYTES >> 20} MiB: cut it into parts")
    data = path.read_bytes()
    if data[:4] != b"MThd":
        raise InvalidInputError(f"{path}: no MIDI file (it does not begin with MThd): export it as .mid")
    try:
        return cast(ScoreTick, symusic.Score.from_midi(data))
    except (RuntimeError, ValueError, IndexError) as error:
        raise InvalidInputError(f"{path}: damaged MIDI ({error}): export it again") from error
