"""What a converted voice is measured by: its words, its speaker, its cues of emotion, and how strength moves them.

Every function takes clips as the judges hear them (`voice_features.listen`), so that converters, baselines and recordings
are scored alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from affetto.evaluation.face_metrics import spearman
from affetto.evaluation.voice_features import Heard, cepstra, tilt_db

_CEPSTRA = 13
_TIMBRE = 20


@dataclass(frozen=True, kw_only=True)
class Cues:
    """What is known to carry emotion in a voice, each as one number for a clip."""

    pitch: float  # mean, semitones above 100 Hz
    pitch_spread: float  # standard deviation, semitones
    seconds: float  # from the first to the last sound
    tilt_db: float  # treble against bass of voiced frames
    level_db: float  # of the speaking frames


def cues(heard: Heard, fps: float = 80.0) -> Cues:
    """The cues of a clip; NaN pitch when nothing is voiced."""
    voiced = ~np.isnan(heard.pitch)
    pitch = heard.pitch[voiced]
    return Cues(
        pitch=float(pitch.mean()) if len(pitch) else float("nan"),
        pitch_spread=float(pitch.std()) if len(pitch) else float("nan"),
        seconds=len(heard) / fps,
        tilt_db=tilt_db(heard.mels[voiced]),
        level_db=heard.level_db,
    )


def rising(strengths: Sequence[float], measured: Sequence[float]) -> float:
    """Spearman's rank correlation of asked strength and what is measured; 0 when nothing moves."""
    return spearman(strengths, measured) if np.ptp(measured) > 1e-9 else 0.0


def content(heard: Heard) -> Float[np.ndarray, "frame 13"]:
    """What is said, as far as cepstra tell: 13 of them, mean and spread removed, of the frames that are not silent."""
    speaking = heard.energy > -3.0 * np.log(10.0)
    values = cepstra(heard.mels)[speaking if speaking.sum() > 5 else slice(None), 1 : _CEPSTRA + 1]
    return ((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)).astype(np.float64)


def content_distance(first: Float[np.ndarray, "frame 13"], second: Float[np.ndarray, "other 13"]) -> float:
    """Mean distance of two contents along the best time alignment (dynamic time warping); 0 for the same sound."""
    return float(_warp(cdist(first, second)))


@numba.njit(cache=True)
@no_type_check
def _warp(distance: np.ndarray) -> float:  # pragma: no cover  compiled
    rows, columns = distance.shape
    cost = np.full((rows + 1, columns + 1), np.inf)
    steps = np.zeros((rows + 1, columns + 1))
    cost[0, 0] = 0.0
    for i in range(rows):
        for j in range(columns):
            best, count = cost[i, j], steps[i, j]
            if cost[i, j + 1] < best:
                best, count = cost[i, j + 1], steps[i, j + 1]
            if cost[i + 1, j] < best:
                best, count = cost[i + 1, j], steps[i + 1, j]
            cost[i + 1, j + 1], steps[i + 1, j + 1] = best + distance[i, j], count + 1
    return cost[rows, columns] / steps[rows, columns]


def nearest_content(
    clip: Float[np.ndarray, "frame 13"], references: Sequence[Float[np.ndarray, "other 13"]]
) -> int:
    """The index of the reference that says what the clip says."""
    return int(np.argmin([content_distance(clip, reference) for reference in references]))


def timbre(heard: Heard) -> Float[np.ndarray, "feature"]:
    """Who speaks, as far as cepstra tell: mean and spread of 20 of them over voiced frames; no pitch, no level."""
    voiced = ~np.isnan(heard.pitch)
    values = cepstra(heard.mels)[voiced if voiced.sum() > 5 else slice(None), 1 : _TIMBRE + 1]
    return np.concatenate([values.mean(axis=0), values.std(axis=0)]).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class SpeakerReader:
    """Tells known speakers apart: linear discriminant analysis with one shrunken covariance for all."""

    names: tuple[str, ...]
    centres: Float[np.ndarray, "speaker feature"]
    whiten: Float[np.ndarray, "feature feature"]

    @classmethod
    def fit(
        cls, features: Float[np.ndarray, "clip feature"], speakers: Sequence[str], *, shrink: float = 0.05
    ) -> "SpeakerReader":
        """A reader of the speakers of these clips."""
        names = tuple(sorted(set(speakers)))
        labels = np.array([names.index(speaker) for speaker in speakers])
        centres = np.stack([features[labels == index].mean(axis=0) for index in range(len(names))])
        spread = np.cov((features - centres[labels]).T)
        spread = (1 - shrink) * spread + shrink * np.diag(np.diag(spread))
        whiten = np.linalg.inv(np.linalg.cholesky(spread)).T
        return cls(names=names, centres=centres @ whiten, whiten=whiten)

    def name(self, features: Float[np.ndarray, "feature"]) -> str:
        """The speaker whose voice is nearest."""
        return self.names[int(np.square(self.centres - features @ self.whiten).sum(axis=1).argmin())]
