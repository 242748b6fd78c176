"""The critics of `evaluate`, by medium: what they hear or see over time, and how good they are themselves.

`held out` means that no generator here was trained, conditioned or chosen with the critic. The published critics are the
user's to pull; they are loaded when they are named.
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.charts import CHARTS
from affetto.conditioning.encoders.base import to_lexical
from affetto.conditioning.encoders.midi import MidiEncoder
from affetto.conditioning.encoders.speech import SpeechEncoder
from affetto.evaluation import published_critics
from affetto.evaluation.face_critic import FaceCritic
from affetto.evaluation.measuring import CriticCard, Measured, window_times
from affetto.evaluation.music_cues import CUES_CARD, cues_vad
from affetto.evaluation.voice_critic import Reference, VoiceCritic
from affetto.evaluation.voice_features import Heard, listen
from affetto.evaluation.voice_sets import EMOTIONS
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio
from affetto.media.midi import Score
from affetto.runtime.errors import InvalidInputError, UsageError

WINDOW_S, HOP_S = 2.0, 0.5
MUSIC_WINDOW_S, MUSIC_HOP_S = 8.0, 2.0
ENCODERS: Mapping[str, tuple[str, ...]] = {
    "voice": ("embedded", "speech-emotion", *published_critics.VOICES),
    "face": ("embedded",),
    "video": ("embedded", *published_critics.FACES),
    "music": ("embedded", "formula"),
}
"""Critics by medium: `embedded` is the held-out one that comes in the package."""

_FRAME_FPS = 80.0
VOICE_OWN = CriticCard(
    name="voice-critic",
    accuracy=".80 of 7 emotions (chance .14) on unheard speakers, their neutral voice known",
    held_out=True,
    note="acted German; joy and anger are what it confuses most",
)
VOICE_GENERIC = CriticCard(
    name="voice-critic",
    accuracy="{seven:.2f} of 7 emotions (chance .14) on unheard speakers, their neutral voice not known",
    held_out=True,
    note="give --neutral FILE, a neutral recording of the same speaker, for .80",
)
FACE = CriticCard(
    name="face-critic",
    accuracy="1.00 of 8 emotions (chance .13) on rule-made performances of unheard speakers",
    held_out=True,
    note="knows the conventions of affetto's own rules, not what a viewer sees",
)
FORMULA = CriticCard(
    name="music formula",
    accuracy=".66 of 4 quadrants (chance .25), arousal .91, valence .74 on 992 played clips",
    held_out=False,
    note="the composer is conditioned on it",
)
SPEECH = CriticCard(
    name="speech-emotion",
    accuracy="UAR .61 of 7 emotions (chance .14) on unheard speakers",
    held_out=True,
    note="chooses in --best-of, so it judges nothing that was chosen",
)


@lru_cache(maxsize=1)
def _voice_critic() -> VoiceCritic:
    return VoiceCritic.from_pretrained()


@lru_cache(maxsize=1)
def _face_critic() -> FaceCritic:
    return FaceCritic.from_pretrained()


@lru_cache(maxsize=1)
def speech_encoder() -> SpeechEncoder:
    """The embedded encoder of voices."""
    return SpeechEncoder.from_pretrained("embedded", device="cpu")


@lru_cache(maxsize=1)
def _neutral_voices() -> tuple[dict[str, Reference], float]:
    """The mean neutral voices of men and women, and how good the critic is with them."""
    text = (resources.files("affetto.evaluation") / "data" / "neutral_voices.json").read_text("utf-8")
    document = json.loads(text)
    return {
        sex: Reference(
            colour=np.array(voice["colour"], np.float32), statistics=np.array(voice["statistics"], np.float32)
        )
        for sex, voice in document["voices"].items()
    }, float(document["accuracy_seven"])


def generic_reference(heard: Heard) -> Reference:
    """The mean neutral voice of the sex that a clip's pitch suggests."""
    voices, _ = _neutral_voices()
    pitch = heard.pitch[~np.isnan(heard.pitch)]
    return voices["m" if len(pitch) == 0 or float(np.median(pitch)) < 10.0 else "f"]


def measure_voice(audio: Audio, *, neutral: Audio | None = None, encoder: str = "embedded") -> Measured:
    """A voice over time; `neutral` is the same speaker without emotion."""
    if encoder == "speech-emotion":
        return _by_speech_encoder(audio)
    if encoder in published_critics.VOICES:
        return published_critics.measure_voice(audio, encoder, window_s=WINDOW_S, hop_s=HOP_S)
    if encoder != "embedded":
        raise UsageError(f"no critic of voices is called {encoder!r}: use {', '.join(ENCODERS['voice'])}")
    heard = listen(audio)
    if not len(heard) or audio.is_silent:
        raise InvalidInputError(f"{audio.path or 'the sound'}: is silent: there is nothing to judge")
    if neutral is not None:
        reference, card = Reference.of([listen(neutral)]), VOICE_OWN
    else:
        reference = generic_reference(heard)
        _, seven = _neutral_voices()
        card = CriticCard(
            name=VOICE_GENERIC.name,
            accuracy=VOICE_GENERIC.accuracy.format(seven=seven),
            held_out=True,
            note=VOICE_GENERIC.note,
        )
    critic = _voice_critic()
    rows, times, weights = [], [], []
    for start, stop in window_times(len(heard) / _FRAME_FPS, WINDOW_S, HOP_S):
        first, last = round(start * _FRAME_FPS), max(round(stop * _FRAME_FPS), round(start * _FRAME_FPS) + 1)
        part = Heard(mels=heard.mels[first:last], pitch=heard.pitch[first:last], level_db=heard.level_db)
        rows.append(critic.probabilities(part, reference))
        times.append(0.5 * (start + stop))
        weights.append(float((~np.isnan(part.pitch)).sum()) / _FRAME_FPS)
    shares = np.stack(rows)
    return Measured(
        medium="voice",
        critic=card,
        times=np.array(times),
        vad=_places(shares, EMOTIONS, "voice"),
        names=EMOTIONS,
        shares=shares,
        weights=np.array(weights),
    )


def _places(
    shares: Float[np.ndarray, "frame name"], names: tuple[str, ...], chart: str
) -> Float[np.ndarray, "frame 3"]:
    """Mean place of named emotions on a chart, carried to the lexical one; neutral lies at the origin."""
    centres = np.array([CHARTS[chart].mean_of(name) for name in names])
    lexical = np.stack([to_lexical(centre, chart) for centre in centres])
    lexical[[index for index, name in enumerate(names) if name == "neutral"]] = 0.0
    return shares @ lexical


def _by_speech_encoder(audio: Audio) -> Measured:
    track = speech_encoder()(audio, hop=HOP_S)
    times = np.array([key.time for key in track.keyframes])
    names = speech_encoder().taxonomy
    shares = np.zeros((len(times), len(names)))
    vad = np.zeros((len(times), 3))
    for row, key in enumerate(track.keyframes):
        effective = key.emotion.effective_mixture()
        shares[row] = [max(effective.get(name, 0.0), 0.0) for name in names]
        vad[row] = key.emotion.effective_vad()
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
    return Measured(medium="voice", critic=SPEECH, times=times, vad=vad, names=names, shares=shares)


def measure_face(curves: FaceCurves, *, encoder: str = "embedded") -> Measured:
    """A face performance over time."""
    if encoder != "embedded":
        raise UsageError(f"no critic of curves is called {encoder!r}: use {', '.join(ENCODERS['face'])}")
    if len(curves) < 2:
        raise InvalidInputError("a performance of less than two frames shows nothing: give more of it")
    critic = _face_critic()
    times, rows = [], []
    for start, stop in window_times(curves.seconds, min(WINDOW_S, curves.seconds), HOP_S):
        first, last = round(start * curves.fps), max(round(stop * curves.fps), round(start * curves.fps) + 2)
        rows.append(critic.emotions(curves.sliced(first, last)))
        times.append(0.5 * (start + stop))
    shares = np.stack(rows).astype(np.float64)
    return Measured(
        medium="face",
        critic=FACE,
        times=np.array(times),
        vad=_places(shares, ANCHORS_8, "face"),
        names=ANCHORS_8,
        shares=shares,
    )


def measure_music(score: Score, *, encoder: str = "embedded") -> Measured:
    """A piece over time: by cues that the composer is not conditioned on (`embedded`), or by its own formula."""
    notes = score.timed_notes()
    if len(notes) < 2:
        raise InvalidInputError("a score of less than two notes has no mood: give more of it")
    if encoder == "formula":
        return _by_formula(score)
    if encoder != "embedded":
        raise UsageError(f"no critic of music is called {encoder!r}: use {', '.join(ENCODERS['music'])}")
    times, vad = [], []
    for start, stop in window_times(score.seconds, min(MUSIC_WINDOW_S, score.seconds), MUSIC_HOP_S):
        found = cues_vad(score, start, stop)
        if found is not None:
            times.append(0.5 * (start + stop))
            vad.append(found)
    if not times:
        times, vad = [0.5 * score.seconds], [np.zeros(3)]
    on_chart = np.array(vad)
    return _music(np.array(times), on_chart, CUES_CARD)


def _music(times: np.ndarray, on_chart: Float[np.ndarray, "frame 3"], card: CriticCard) -> Measured:
    chart = CHARTS["music"]
    posterior = chart.posterior(on_chart)
    shares = posterior[:, :-1].copy()
    shares[:, chart.names.index("neutral")] += posterior[:, -1]
    return Measured(
        medium="music",
        critic=card,
        times=times,
        vad=to_lexical(on_chart, "music"),
        names=chart.names,
        shares=shares,
    )


def _by_formula(score: Score) -> Measured:
    track = MidiEncoder()(score, window=MUSIC_WINDOW_S, hop=MUSIC_HOP_S)
    names = CHARTS["music"].names
    times = np.array([key.time for key in track.keyframes])
    shares = np.array(
        [
            [max(key.emotion.effective_mixture().get(name, 0.0), 0.0) for name in names]
            for key in track.keyframes
        ]
    )
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
    vad = np.array([key.emotion.effective_vad() for key in track.keyframes], np.float64)
    return Measured(medium="music", critic=FORMULA, times=times, vad=vad, names=names, shares=shares)


def measure_seen(seen: Any, path: Path, *, encoder: str = "embedded") -> Measured:
    """The face of a video: fitted curves by the face critic, or its pictures by a published network (named `encoder`)."""
    if encoder == "embedded":
        found = measure_face(seen.curves)
        note = f"{found.critic.note}; curves fitted to pixels are rougher than those it knows"
        return dataclasses.replace(found, critic=dataclasses.replace(found.critic, note=note))
    if encoder not in published_critics.FACES:
        raise UsageError(f"no critic of pictures is called {encoder!r}: use {', '.join(ENCODERS['video'])}")
    return published_critics.measure_pictures(seen.crops, seen.crop_times, path, encoder)
