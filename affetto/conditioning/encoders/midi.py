"""Notes -> emotion, by musical attributes: loudness, density, articulation, register, mode and how clear the key is."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from affetto.conditioning.charts import CHARTS
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading, to_lexical
from affetto.conditioning.track import EmotionTrack, Keyframe
from affetto.media.midi import Score, SymusicScore, load_midi, score_from_symusic
from affetto.media.music import MusicAttributes, attributes_of
from affetto.runtime.errors import UsageError


class MidiEncoder:
    """Reads the emotion that notes express, from a MIDI file or a score, ours or symusic's.

    Arousal rises with loudness, density, short notes and wide leaps; valence with major mode, a clear key, and notes
    that are not too dense; dominance with dynamic range and spread. Fixed weights on attributes in standard deviations
    of pop piano clips, nothing learned. On 992 labelled clips of EMOPIA the quadrant is right for 66 %, the sign of
    arousal for 91 % and of valence for 74 %.
    """

    modality = "music"

    @property
    def taxonomy(self) -> tuple[str, ...]:
        """The classes of the music chart."""
        return CHARTS["music"].names

    def __call__(
        self, source: str | Path | Score | SymusicScore, *, window: float = 8.0, hop: float = 4.0
    ) -> EmotionTrack:
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
            emotion = _reading(attributes_of(inside, min(window, max(end, 0.1)))).emotion
            keyframes.append(Keyframe(time=float(start + min(window, end) / 2), emotion=emotion))
        return EmotionTrack(keyframes=tuple(keyframes))

    def overall(self, source: str | Path | Score | SymusicScore) -> Emotion:
        """The emotion of the whole piece."""
        return self.read(source).emotion

    def read(self, source: str | Path | Score | SymusicScore) -> Reading:
        """The emotion of the whole piece with its uncertainty; no notes are neutral with confidence 0."""
        return _reading(attributes_of(_notes(source)))


def _reading(found: MusicAttributes | None) -> Reading:
    if found is None:
        return Reading(
            modality="music",
            vad=np.zeros(3),
            variance=np.full(3, 1.0),
            mixture={"neutral": 1.0},
            confidence=0.0,
        )
    vad = found.vad()
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


def _notes(source: str | Path | Score | SymusicScore) -> Float64[np.ndarray, "note 4"]:
    """Start and duration in seconds, pitch and velocity of all notes but drums, in time order."""
    if isinstance(source, (str, Path)):
        source = load_midi(source)
    elif not isinstance(source, Score):
        source = score_from_symusic(source)
    return source.timed_notes()
