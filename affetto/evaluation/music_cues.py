"""A second reading of music that the composer is not conditioned on: how loud and busy it is, which thirds and triads it has.

The composer follows the formula of `affetto.media.music`. These cues are others, with fixed weights in the directions that
studies of musical emotion agree on (Gabrielsson & Lindstrom 2010): loud and busy is aroused, major thirds above the bass
and major triads are pleasant. Middles and spreads are round numbers near those of played pop piano; nothing is fitted.
"""

import numpy as np
from jaxtyping import Float64

from affetto.evaluation.measuring import CriticCard
from affetto.evaluation.music_features import features
from affetto.media.midi import Score

CUES_CARD = CriticCard(
    name="music cues",
    accuracy=".55 of 4 quadrants (chance .25), arousal .87, valence .64 (chance .5) on 992 played clips",
    held_out=True,
    note="fixed weights on loudness, onsets, thirds and triads; weak at valence",
)

_LOUD, _BUSY, _THIRDS, _TRIADS = (65.0, 15.0), (3.3, 1.2), (0.0, 0.15), (0.5, 0.35)  # middle, spread
_BUSY_WEIGHT, _TRIAD_WEIGHT = 0.6, 0.5
_FEWEST = 4  # notes that make a mood


def cues_vad(score: Score, start_s: float, stop_s: float) -> Float64[np.ndarray, "3"] | None:
    """Valence, arousal and dominance on the music chart of the notes that begin in a stretch; None when they are few."""
    first, last = (float(score.beats_of(second)) for second in (start_s, stop_s))
    notes = score.notes
    inside = notes[(notes["start"] >= first) & (notes["start"] < last)].copy()
    if len(inside) < _FEWEST:
        return None
    pace = 60.0 * (last - first) / max(stop_s - start_s, 1e-3)
    inside["start"] -= first
    part = Score(notes=inside, tracks=score.tracks, tempos=((0.0, float(np.clip(pace, 5.0, 900.0))),))
    if len(part.pitched().notes) < _FEWEST:
        return None
    return whole_vad(part)


def whole_vad(score: Score) -> Float64[np.ndarray, "3"]:
    """The same of a whole score."""
    found = features(score)

    def standard(value: float, scale: tuple[float, float]) -> float:
        return float(np.clip((value - scale[0]) / scale[1], -3.0, 3.0))

    arousal = standard(found["velocity mean"], _LOUD) + _BUSY_WEIGHT * standard(
        found["onsets a second"], _BUSY
    )
    valence = standard(found["thirds above the bass"], _THIRDS) + _TRIAD_WEIGHT * standard(
        found["major triads"] - found["minor triads"], _TRIADS
    )
    return np.tanh(np.array([valence, arousal, 0.5 * arousal]) / 2.0)
