"""Where a conversion leads, and the residual of each piece on the way there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.fft import dct, idct
from scipy.ndimage import gaussian_filter1d

from affetto.conditioning.encoders.speech import TERMS
from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES
from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder
from affetto.conditioning.track import EmotionTrack
from affetto.generators.voice.adapter import VoiceCourse, voice_course
from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.controls import BANDS, WIDTH, VoiceControls
from affetto.generators.voice.limits import keep_loudness, limited
from affetto.generators.voice.pairs import GROUPS
from affetto.generators.voice.pieces import Window, part_of
from affetto.generators.voice.residual_flow import ResidualFlow
from affetto.generators.voice.residual_net import EMBEDDING
from affetto.generators.voice.speaker import SEMITONE, SpeakerStatistics
from affetto.runtime.errors import UsageError

GAINS: Mapping[str, float] = {"sad": 1.2, "fear": 1.15, "bored": 1.15, "disgusted": 1.1}
"""By how much the residual of full strength is multiplied, 1 for others; chosen on the validation speakers."""

GROUP_GAINS = (1.1, 1.3, 1.5, 1.5, 1.3)
"""The same for pitch, energy, envelope, noise and rate: what alignment blurs most in training is made up for most."""

COLOUR_GAINS: Mapping[str, tuple[float, float]] = {
    "angry": (1.5, 1.3),
    "happy": (1.5, 1.3),
    "sad": (1.35, 1.3),
}
"""Gains of envelope and noise of single emotions: as much as they need to be heard, since colour also tells who speaks."""

RIVALS: Mapping[str, tuple[str, float]] = {"angry": ("happy", 2.0), "happy": ("angry", 2.0)}
"""What an emotion is mistaken for, and how hard the flow is pushed away from it; chosen on the validation speakers."""

_BROAD, _SLOW = 6, 6.0
"""Cepstra of the envelope that the flow may move, and the frames over which; chosen on the validation speakers."""

_STRETCH = (0.83, 1.5)  # how far the range of a melody is put right
_FEW = 20  # voiced frames that tell no range
_OVERDRIVE = 0.6  # how much of a strength beyond 1 is let through
_CLEAR = (0.65, 0.95)  # probability that a source is emotional: below it counts as neutral, above as fully so
_LEAVES = 0.9  # how much of its own emotion a source loses on the way to another
_FADE = 0.1  # strength below which loudness is corrected only in part


@dataclass(frozen=True, kw_only=True)
class VoiceOptions:
    """How a conversion is made.

    `strength` 0..2 multiplies the track's intensities, `level` 0..2 says how much of the emotion's loudness is let
    through (0 keeps the loudness of the source), `variety` 0..1 how far the flow strays from its likeliest course.
    """

    strength: float = 1.0
    level: float = 0.0
    keep_timing: bool = False
    seed: int = 0
    steps: int = 6
    variety: float = 0.5

    def __post_init__(self) -> None:
        for name, low, high in (("strength", 0.0, 2.0), ("level", 0.0, 2.0), ("variety", 0.0, 1.0)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} must lie in {low:g}..{high:g}, got {value:g}")
        if not 1 <= self.steps <= 64:
            raise UsageError(f"steps must lie in 1..64, got {self.steps}")
        if self.seed < 0:
            raise UsageError(f"the seed must be 0 or more, got {self.seed}")


def felt_already(
    embedder: VoiceEmbedder, place: Float[np.ndarray, "256"], names: Sequence[str]
) -> Float[np.ndarray, "name"]:
    """How much of each emotion a source has before anything is done to it, 0..1; all zero unless that is clear.

    Boredom is not judged: calm readers sound like it.
    """
    probability = embedder.read(torch.from_numpy(place.astype(np.float32))[None])[0][0].numpy()
    felt = np.zeros(len(names))
    for column, klass in enumerate(SPEECH_CLASSES):
        if klass not in ("neutral", "boredom"):
            felt[list(names).index(TERMS[klass])] = probability[column]
    total = float(felt.sum())
    clear = float(np.clip((total - _CLEAR[0]) / (_CLEAR[1] - _CLEAR[0]), 0.0, 1.0))
    return _LEAVES * clear * felt / max(total, 1e-6)


class Guide:
    """One conversion's emotions over time, and their place and directions in embedding space.

    `flow` None is the linear engine: the bank's mean residual and nothing else.
    """

    def __init__(
        self, bank: VoiceBank, flow: ResidualFlow | None, track: EmotionTrack, options: VoiceOptions
    ) -> None:
        self.bank, self.flow, self.track, self.options = bank, flow, track, options
        self.place = np.zeros(EMBEDDING, np.float32)
        self.felt = np.zeros(len(bank.names))
        self._directions = np.zeros((len(bank.names), EMBEDDING))

    def settle(self, place: Float[np.ndarray, "256"], felt: Float[np.ndarray, "name"] | None = None) -> None:
        """Take `place` as the embedding of the source from now on, and `felt` as the emotion it already has."""
        self.place = place.astype(np.float32)
        self.felt = np.zeros(len(self.bank.names)) if felt is None else felt
        rows = np.eye(len(self.bank.names))
        self._directions = np.stack([self.bank.direction(row, self.place) for row in rows])

    def course(self, start: int, frames: int) -> VoiceCourse:
        """What is asked for in the frames from `start` on."""
        return voice_course(self.track, self.bank, strength=self.options.strength, start=start, frames=frames)

    def target(self, course: VoiceCourse) -> Float[np.ndarray, "frame 256"]:
        """e_ir of each frame: e_s moved along the directions by the strength, away from what it feels already."""
        return self.place + course.strength[:, None] * ((course.shares - self.felt) @ self._directions)

    def rival(self, course: VoiceCourse) -> tuple[Float[np.ndarray, "frame 256"], Float[np.ndarray, "frame"]]:
        """Where each frame would stand if it felt what it is mistaken for, and how hard to push away from there."""
        names = list(self.bank.names)
        swap, push = np.eye(len(names)), np.zeros(len(names))
        for name, (other, strength) in RIVALS.items():
            swap[names.index(name)] = np.eye(len(names))[names.index(other)]
            push[names.index(name)] = strength
        way = (course.shares @ swap - self.felt) @ self._directions
        return self.place + course.strength[:, None] * way, course.shares @ push

    def mean(
        self, controls: VoiceControls, course: VoiceCourse, speaker: SpeakerStatistics
    ) -> Float32[np.ndarray, "frame 30"]:
        """The prior mean at full strength: the bank's linear engine, less what the source feels already."""
        asked = self.bank.linear_residual(controls, course.shares, speaker=speaker).stack()
        if not self.felt.any():
            return asked
        there = np.broadcast_to(self.felt, course.shares.shape)
        return asked - self.bank.linear_residual(controls, there, speaker=speaker).stack()

    def gain(self, course: VoiceCourse) -> Float[np.ndarray, "frame"]:
        """What the residual of full strength is multiplied by; rises with the strength from 0."""
        full = course.shares @ np.array([GAINS.get(name, 1.0) for name in self.bank.names])
        over = np.maximum(course.strength - 1.0, 0.0)
        return full * (np.minimum(course.strength, 1.0) + _OVERDRIVE * over)

    def column_gains(self, course: VoiceCourse) -> Float[np.ndarray, "frame 30"]:
        """What each control is multiplied by besides."""
        table = np.tile(GROUP_GAINS, (len(self.bank.names), 1))
        for name, gains in COLOUR_GAINS.items():
            table[list(self.bank.names).index(name), 2:4] = gains
        none = 1.0 - course.shares.sum(axis=1, keepdims=True)
        sizes = [columns.stop - columns.start for columns in GROUPS]
        return np.repeat(course.shares @ table + none * np.array(GROUP_GAINS), sizes, axis=1)

    def rows(
        self,
        controls: VoiceControls,
        course: VoiceCourse,
        speaker: SpeakerStatistics,
        window: Window,
        *,
        first: int = 0,
    ) -> Float32[np.ndarray, "frame 30"]:
        """The residual of the frames that a window decides; frame 0 of `controls` is frame `first` of the recording."""
        if course.part(window.start, window.stop).idle:
            return np.zeros((window.stop - window.start, WIDTH), np.float32)
        near = course.part(window.low, window.high)
        part = part_of(controls, window.low, window.high)
        full = self.mean(part, near, speaker)
        if self.flow is not None:
            mean = full
            away, push = self.rival(near)
            full = self.flow(
                part,
                speaker,
                mean=mean,
                place=self.place,
                target=self.target(near),
                away=away,
                push=push,
                seed=self.options.seed,
                start=first + window.low,
                steps=self.options.steps,
                temperature=self.options.variety,
            )
            full = keep_range(mean + broad(full - mean), mean, part)
        rows = limited(full * self.gain(near)[:, None] * self.column_gains(near), part, speaker)
        amount = np.minimum(near.strength / _FADE, 1.0)
        rows = keep_loudness(rows, part, amount, self.options.level * self.bank.level(near.weights))
        return rows[window.start - window.low : window.stop - window.low]


def broad(rows: Float[np.ndarray, "frame 30"]) -> Float[np.ndarray, "frame 30"]:
    """The rows with only the broad, slow shape of their envelope: emotion lies there, the words and who speaks in the rest."""
    envelope = slice(2, 2 + BANDS)
    slow = gaussian_filter1d(rows[:, envelope].astype(np.float64), _SLOW, axis=0, mode="nearest")
    cepstra = np.asarray(dct(slow, norm="ortho", axis=1))
    cepstra[:, _BROAD:] = 0.0
    out = rows.astype(np.float64)
    out[:, envelope] = np.asarray(idct(cepstra, norm="ortho", axis=1))
    return out


def keep_range(
    rows: Float[np.ndarray, "frame 30"], mean: Float[np.ndarray, "frame 30"], controls: VoiceControls
) -> Float[np.ndarray, "frame 30"]:
    """The rows with their melody stretched to the range that the bank's `mean` gives; the flow alone flattens it."""
    weight = controls.voiced.astype(np.float64)
    if weight.sum() < _FEW:
        return rows
    own = SEMITONE * controls.log_f0.astype(np.float64)

    def middle_and_range(melody: Float[np.ndarray, "frame"]) -> tuple[float, float]:
        middle = float(np.average(melody, weights=weight))
        return middle, float(np.average(np.square(melody - middle), weights=weight)) ** 0.5

    _, wanted = middle_and_range(own + mean[:, 0])
    middle, found = middle_and_range(own + rows[:, 0])
    out = rows.astype(np.float64)
    out[:, 0] = middle + (own + rows[:, 0] - middle) * np.clip(wanted / max(found, 0.3), *_STRETCH) - own
    return out
