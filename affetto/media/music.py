"""What notes sound like: loudness, density, length, spread, mode; and the formula that reads an emotion from them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

# probe-tone ratings of Krumhansl & Kessler 1982, from the tonic upward
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
_PROFILES = np.stack([np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)])
_PROFILES = _PROFILES - _PROFILES.mean(axis=1, keepdims=True)
_PROFILES /= np.linalg.norm(_PROFILES, axis=1, keepdims=True)

KEYS = tuple(
    f"{tonic} {mode}"
    for mode in ("major", "minor")
    for tonic in ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
)

ATTRIBUTES = ("soft", "density", "duration", "spread", "major", "clarity", "low", "range")
"""What the formula reads: 10th percentile of velocity; notes a second; mean seconds of a note; standard deviation of
pitch, semitones; best correlation with a major key less the best with a minor one; the better of the two; mean pitch
below middle C; velocities from the 10th to the 90th percentile."""

# Where the formula sees neither one emotion nor the other, and one step away from it. Mode, clarity and range are the mean
# and deviation over the bars of POP909 and Bach's chorales; the others are round numbers for piano playing (mezzo-piano,
# seven notes a second, notes of a second, a spread of nearly an octave), since those recordings are loud and dense throughout.
CENTRE = np.array([52.0, 7.0, 1.0, 11.0, 0.05, 0.85, 50.0, 25.0])
SCALE = np.array([16.0, 3.5, 0.5, 3.0, 0.2, 0.08, 4.5, 13.0])
WEIGHTS = np.array(
    [  # soft, density, duration, spread, major, clarity, low, range
        [0.0, -0.2, -0.2, 0.0, 1.0, 0.3, 0.4, 0.0],  # valence
        [1.8, 0.7, -0.8, 0.4, 0.0, 0.0, 0.0, 0.0],  # arousal
        [0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.6],  # dominance
    ]
)

_MODE = [ATTRIBUTES.index("major"), ATTRIBUTES.index("clarity")]


def key_correlations(classes: Float[np.ndarray, "*bar 12"]) -> Float64[np.ndarray, "*bar 24"]:
    """The correlation of how long each pitch class sounds with the 24 keys of `KEYS`; 0 when all sound alike."""
    centred = classes - classes.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return (centred / np.maximum(length, 1e-9)) @ _PROFILES.T * (length > 1e-9)


def formula_vad(attributes: Float[np.ndarray, "*bar 8"]) -> Float64[np.ndarray, "*bar 3"]:
    """Valence, arousal and dominance on the music chart, each in (-1, 1), of the attributes named in `ATTRIBUTES`."""
    standard = (attributes.astype(np.float64) - CENTRE) / SCALE
    # bounded inputs: one bizarre attribute must not decide alone
    return np.tanh(np.clip(standard @ WEIGHTS.T, -6, 6) / 2)


def mode_valence(classes: Float[np.ndarray, "*bar 12"]) -> Float64[np.ndarray, "*bar"]:
    """What mode and clarity add to the formula's valence, before it saturates, where pitch classes sound so long."""
    keys = key_correlations(classes)
    major, minor = keys[..., :12].max(axis=-1), keys[..., 12:].max(axis=-1)
    read = np.stack([major - minor, np.maximum(major, minor)], axis=-1)
    return ((read - CENTRE[_MODE]) / SCALE[_MODE]) @ WEIGHTS[0, _MODE]


@dataclass(frozen=True, kw_only=True)
class MusicAttributes:
    """What a stretch of notes sounds like: the values of `ATTRIBUTES`, and how many notes say so."""

    notes: int
    soft: float
    density: float
    duration: float
    spread: float
    major: float
    clarity: float
    low: float
    range: float

    def vad(self) -> Float64[np.ndarray, "3"]:
        """Valence, arousal and dominance by `formula_vad`."""
        return formula_vad(np.array([getattr(self, name) for name in ATTRIBUTES]))


def attributes_of(
    notes: Float64[np.ndarray, "note 4"], seconds: float | None = None
) -> MusicAttributes | None:
    """The attributes of notes (start s, duration s, pitch, velocity) that fill `seconds`, or None when there are none."""
    if len(notes) == 0:
        return None
    start, duration, pitch, velocity = notes.T
    span = max(seconds if seconds is not None else float((start + duration).max() - start.min()), 0.5)
    low = pitch[pitch < 60]
    quiet, loud = np.percentile(velocity, [10, 90])
    classes = np.bincount(pitch.astype(np.int64) % 12, weights=duration + 1e-6, minlength=12)
    keys = key_correlations(classes)
    major, minor = float(keys[:12].max()), float(keys[12:].max())
    return MusicAttributes(
        notes=len(notes),
        soft=float(quiet),
        density=len(notes) / span,
        duration=float(duration.mean()),
        spread=float(pitch.std()),
        major=major - minor,
        clarity=max(major, minor),
        low=float(low.mean()) if len(low) else 60.0,
        range=float(loud - quiet),
    )
