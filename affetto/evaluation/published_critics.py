"""Critics that others have published: the user pulls their weights, and they are loaded when they are named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affetto.conditioning.encoders.base import Reading
from affetto.evaluation.measuring import CriticCard, Measured, window_times
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError

CARDS: Mapping[str, CriticCard] = {
    "audeering": CriticCard(
        name="audeering wav2vec2",
        accuracy="published CCC on MSP-Podcast: arousal .75, dominance .66, valence .64",
        held_out=True,
        note="weights CC BY-NC-SA",
    ),
    "emotion2vec-base": CriticCard(
        name="emotion2vec+ base",
        accuracy="its authors give no figure of its nine classes (chance .11), only a picture of four",
        held_out=True,
        note="does not know contempt",
    ),
    "emotion2vec-large": CriticCard(
        name="emotion2vec+ large",
        accuracy="its authors give no figure of its nine classes (chance .11), only a picture of four",
        held_out=True,
        note="does not know contempt",
    ),
    "empathic-insight-voice": CriticCard(
        name="Empathic Insight voice",
        accuracy="correlation with experts published for each label (arXiv 2506.09827), no accuracy of classes",
        held_out=True,
        note="trained on synthetic voices and on some from the wild",
    ),
    "hsemotion-b0": CriticCard(
        name="hsemotion-b0", accuracy="published .62 of 8 emotions on AffectNet (chance .13)", held_out=True
    ),
    "cage-maxvit": CriticCard(
        name="cage-maxvit",
        accuracy="published F1 .62 of 8 emotions on AffectNet, RMSE .33 valence, .31 arousal",
        held_out=True,
    ),
    "empathic-insight-face": CriticCard(
        name="Empathic Insight face",
        accuracy="published agreement with experts on drawn faces (arXiv 2505.20033), no accuracy of classes",
        held_out=True,
        note="trained on synthetic faces",
    ),
}
"""Critics by the name that `--encoder` knows."""

VOICES = ("audeering", "emotion2vec-base", "emotion2vec-large", "empathic-insight-voice")
FACES = ("hsemotion-b0", "cage-maxvit", "empathic-insight-face")


def measure_voice(audio: Audio, name: str, *, window_s: float, hop_s: float) -> Measured:
    """A voice over time by one of `VOICES`; raises MissingResourceError with the way to get weights that are not here."""
    encoder = _voice_encoder(name)
    windows = window_times(audio.seconds, window_s, hop_s)
    readings = [encoder.read(audio.sliced(start, stop)) for start, stop in windows]
    return _measured("voice", name, [0.5 * (start + stop) for start, stop in windows], readings)


def measure_pictures(crops: Sequence[Any], times: Sequence[float], path: Path, name: str) -> Measured:
    """Faces cut out of a video by one of `FACES`; raises InvalidInputError when there is none."""
    if not crops:
        raise InvalidInputError(f"{path}: shows no face: there is nothing to judge")
    encoder = _face_encoder(name)
    return _measured("face", name, times, [encoder.read(crop) for crop in crops])


def _voice_encoder(name: str) -> Any:
    if name == "audeering":
        from affetto.conditioning.encoders.audeering import AudeeringEncoder

        return AudeeringEncoder.from_pretrained()
    if name == "empathic-insight-voice":
        from affetto.conditioning.encoders.empathic import EmpathicVoiceEncoder

        return EmpathicVoiceEncoder.from_pretrained()
    from affetto.conditioning.encoders.emotion2vec import Emotion2vecEncoder

    return Emotion2vecEncoder.from_pretrained(name)


def _face_encoder(name: str) -> Any:
    if name == "empathic-insight-face":
        from affetto.conditioning.encoders.empathic import EmpathicFaceEncoder

        return EmpathicFaceEncoder.from_pretrained()
    from affetto.conditioning.encoders.faces import FaceEncoder

    return FaceEncoder.from_pretrained(name)


def _measured(medium: str, name: str, times: Sequence[float], readings: Sequence[Reading]) -> Measured:
    """Readings as a course; every name that one of them gives has a share in all."""
    names = tuple(dict.fromkeys(each for reading in readings for each in sorted(reading.mixture)))
    shares = np.array([[reading.mixture.get(each, 0.0) for each in names] for reading in readings])
    return Measured(
        medium=medium,
        critic=CARDS[name],
        times=np.array(times),
        vad=np.array([reading.vad for reading in readings]),
        names=names,
        shares=shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9),
    )
