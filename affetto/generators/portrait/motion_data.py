"""What the portrait's motion models learn from: performers who differ, saying what real recordings say, with any emotion.

Nobody recorded these faces. Lips come from timed phones by rule, expressions from profiles, head, gaze and blinks from
the rules of life between the words; but every session of some eight utterances has a performer of its own (`STYLE`), and
brow accents, wobble, sway and glances are drawn anew, so that what is to be learnt is a distribution and not one curve.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import convolve1d, gaussian_filter1d
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from affetto.acting.adapter import FaceEmotion
from affetto.acting.expression import LOWER_FACE, Mood, express, hann, mood
from affetto.acting.liveliness import enliven
from affetto.acting.random_emotion import random_emotion
from affetto.acting.rules import Articulation, viseme_curves
from affetto.acting.visemes import pose
from affetto.generators.portrait.motion_net import content_span
from affetto.generators.portrait.motion_space import (
    BLINK,
    CHANNELS,
    GAZE,
    HEAD,
    LOOKS,
    MARGIN,
    PREFIX,
    ROWS_PER_FRAME,
    SHAPES,
    STYLE,
    WINDOW,
)
from affetto.media.animation.curves import ARKIT_52
from affetto.speech.clips import Clip, content_rows
from affetto.speech.content import CONTENT_FPS, SpeechContent
from affetto.speech.phones import TimedPhone
from affetto.speech.spoil import confusions, spoil

_SESSION_CLIPS = 8
_GAP_S = (0.25, 1.2)  # silence put between clips
_EMOTIONS = 1500  # drawn once and used again and again
_SPAN = content_span()
_BROWS = pose({"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.25})
_WIDE = pose({"mouthStretch": 0.10, "mouthDimple": 0.08})
_SIDES = np.array(
    [0.1 if name.endswith("Left") else -0.1 if name.endswith("Right") else 0.0 for name in ARKIT_52]
)
_HABIT = np.deg2rad([3.0, 2.0, 2.0])  # of yaw, pitch and roll for a style of 1


@dataclass(frozen=True, kw_only=True)
class Session:
    """Some utterances by one performer, at 50 Hz."""

    style: Float[np.ndarray, "11"]
    readings: tuple[Float[np.ndarray, "row width"], ...]  # imperfect readings of the same speech
    speech: Float[np.ndarray, "row 52"]  # lips by rule, with this performer's travel and width
    speaking: Float[np.ndarray, "row"]
    closure: Float[np.ndarray, "row"]
    brows: Float[np.ndarray, "row"]  # accents, 0..1
    wobble: Float[np.ndarray, "row 52"]  # slow noise about 1, on expressions
    sway: Float[np.ndarray, "row 3"]  # of the head about its habit, at ordinary liveliness
    glances: Float[np.ndarray, "row 2"]
    blink: Float[np.ndarray, "row"]

    def __len__(self) -> int:
        return len(self.speech)


def build_sessions(clips: Sequence[Clip], *, renditions: int, seed: int) -> list[Session]:
    """Every clip in `renditions` sessions, each time among others and by another performer."""
    sessions: list[Session] = []
    for rendition in range(renditions):
        rng = np.random.default_rng([seed, 3, rendition])
        order = rng.permutation(len(clips))
        for first in range(0, len(order), _SESSION_CLIPS):
            chosen = [clips[index] for index in order[first : first + _SESSION_CLIPS]]
            session = build_session(chosen, rng)
            if len(session) >= _SPAN:
                sessions.append(session)
    return sessions


def build_session(clips: Sequence[Clip], rng: np.random.Generator) -> Session:
    """The clips one after another by a performer drawn at random."""
    style = np.clip(rng.standard_normal(len(STYLE)), -2.5, 2.5).astype(np.float32)
    trait = dict(zip(STYLE, style.tolist(), strict=True))
    whole = [_with_silence(clip, round(rng.uniform(*_GAP_S) * CONTENT_FPS)) for clip in clips]
    perfect = SpeechContent.joined([readings[0] for readings in whole])
    articulation = Articulation(jaw=1.0 + 0.15 * trait["jaw"], lip=1.0 + 0.12 * trait["lips"])
    speech = viseme_curves(
        _phones(clips, whole), perfect.seconds, CONTENT_FPS, style=articulation, energy=perfect.loudness
    )[: len(perfect)]
    speech = np.clip(speech + trait["width"] * perfect.speaking[:, None] * _WIDE, 0.0, 1.0)
    life = enliven(
        Mood.neutral(len(perfect)),
        speaking=perfect.speaking,
        loudness=perfect.loudness,
        fps=CONTENT_FPS,
        seed=int(rng.integers(1 << 31)),
        start_s=float(rng.uniform(0.0, 60.0)),
    )
    habit = _HABIT * [trait["yaw"], trait["pitch"], trait["roll"]]
    noise = gaussian_filter1d(rng.standard_normal(speech.shape), 20.0, axis=0, mode="wrap")
    heard = [content_rows(SpeechContent.joined([readings[1] for readings in whole]))]
    heard.append(spoil(content_rows(perfect), confusions(), rng))
    return Session(
        style=style,
        readings=tuple(rows.astype(np.float16) for rows in heard),
        speech=speech.astype(np.float32),
        speaking=perfect.speaking,
        closure=perfect.closure,
        brows=_accents(perfect.loudness, rng) * np.clip(0.30 + 0.22 * trait["brows"], 0.0, 1.0),
        wobble=(1.0 + 0.12 * noise / max(float(noise.std()), 1e-6)).astype(np.float32),
        sway=habit + np.exp(0.3 * trait["head"]) * life.head,
        glances=np.exp(0.3 * trait["gaze"]) * life.eyes[:, 0],
        blink=life.blink,
    )


def _with_silence(clip: Clip, rows: int) -> tuple[SpeechContent, SpeechContent]:
    """The perfect and a heard reading of a clip, with a pause after it."""
    pause = SpeechContent.from_phones((), rows / CONTENT_FPS)
    heard = clip.readings[1 % len(clip.readings)]
    return SpeechContent.joined([clip.readings[0], pause]), SpeechContent.joined([heard, pause])


def _phones(clips: Sequence[Clip], whole: Sequence[tuple[SpeechContent, SpeechContent]]) -> list[TimedPhone]:
    phones, clock = [], 0.0
    for clip, (perfect, _) in zip(clips, whole, strict=True):
        phones += [phone.shifted(clock) for phone in clip.phones]
        clock += perfect.seconds
    return phones


def _accents(loudness: Float[np.ndarray, "row"], rng: np.random.Generator) -> Float[np.ndarray, "row"]:
    """Brows that rise with some of the accents of speech: which of them, and how far, is chance."""
    quick, slow = hann(0.16, CONTENT_FPS), hann(0.9, CONTENT_FPS)
    loud = loudness.astype(np.float64)
    rise = np.maximum(convolve1d(loud, quick, mode="nearest") - convolve1d(loud, slow, mode="nearest"), 0.0)
    peaks = np.flatnonzero((rise[1:-1] > 0.08) & (rise[1:-1] >= rise[:-2]) & (rise[1:-1] > rise[2:])) + 1
    pulses = np.zeros(len(loud))
    drawn = rng.random((len(peaks), 2))
    pulses[peaks] = np.where(drawn[:, 0] < 0.5, 0.4 + 0.6 * drawn[:, 1], 0.0)
    window = hann(0.5, CONTENT_FPS)
    return np.clip(convolve1d(pulses, window / window.max(), mode="constant"), 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class MotionBatch:
    """Tensors of one training step. Windows 2k and 2k + 1 show the same emotion by two performers."""

    motion: Float[Tensor, "window 64 58"]
    content: Float[Tensor, "window row width"]
    features: Float[Tensor, "window 64 12"]
    style: Float[Tensor, "window 11"]
    closure: Float[Tensor, "window 64"]
    is_known: Bool[Tensor, "window 64"]
    is_held: Bool[Tensor, "window"]  # whether the emotion stays the same throughout

    def to(self, device: torch.device) -> "MotionBatch":
        """The same on another device."""
        return MotionBatch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


class MotionData:
    """Draws windows out of sessions, with emotions of a pool; step n depends on seed and n alone."""

    def __init__(self, sessions: Sequence[Session], *, seed: int, emotions: int = _EMOTIONS) -> None:
        self.sessions = sessions
        self.seed = seed
        self.chance = np.array([len(session) - _SPAN + 1 for session in sessions], np.float64)
        self.chance /= self.chance.sum()
        self._pool = emotions
        self._drawn: dict[int, FaceEmotion] = {}

    def emotion(self, index: int) -> FaceEmotion:
        """An emotion of the pool, drawn when it is first asked for."""
        if index not in self._drawn:
            self._drawn[index] = random_emotion(_SPAN, np.random.default_rng([self.seed, 4, index]))
        return self._drawn[index]

    def batches(self, windows: int, *, start: int = 0, workers: int = 0) -> Iterator[MotionBatch]:
        """Endless batches of an even number of windows; `workers` processes draw them ahead, in the same order."""
        steps = _Steps(self, windows)
        return iter(DataLoader(steps, batch_size=None, sampler=itertools.count(start), num_workers=workers))

    def batch(self, windows: int, rng: np.random.Generator) -> MotionBatch:
        """One draw of `batches`."""
        chosen = [self.emotion(int(index)) for index in rng.integers(self._pool, size=windows // 2)]
        drawn = [self._window(emotion, rng) for emotion in chosen for _ in range(2)]
        columns = zip(*drawn, strict=True)
        motion, content, features, style, closure, known, held = (
            torch.from_numpy(np.stack(column)) for column in columns
        )
        return MotionBatch(
            motion=motion, content=content, features=features, style=style, closure=closure,
            is_known=known, is_held=held,
        )  # fmt: skip

    def _window(self, emotion: FaceEmotion, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        session = self.sessions[rng.choice(len(self.sessions), p=self.chance)]
        first = int(rng.integers(len(session) - _SPAN + 1))
        stretch = slice(first, first + _SPAN)
        inside = slice(MARGIN, _SPAN - MARGIN)
        frames = slice(MARGIN, _SPAN - MARGIN, ROWS_PER_FRAME)
        motion = acted(session, stretch, emotion)[frames]
        rows = session.readings[rng.integers(len(session.readings))][stretch].astype(np.float32)
        known = np.zeros(WINDOW, bool)
        known[:PREFIX] = rng.random() < 0.75
        anchors = emotion.anchors[inside]
        held = bool(np.ptp(anchors, axis=0).max() < 0.05)
        features = emotion.features()[frames]
        closure = session.closure[stretch][frames].astype(np.float32)
        return motion, rows, features, session.style, closure, known, np.array(held)


class _Steps(Dataset[MotionBatch]):
    """The batch of each training step."""

    def __init__(self, data: MotionData, windows: int) -> None:
        self._data, self._windows = data, windows

    def __getitem__(self, step: int) -> MotionBatch:
        return self._data.batch(self._windows, np.random.default_rng([self._data.seed, 5, step]))


def acted(session: Session, stretch: slice, emotion: FaceEmotion) -> Float[np.ndarray, "row 58"]:
    """How the session's performer plays a stretch of it with an emotion, at 50 Hz."""
    share = max(1.0 + 0.12 * float(session.style[STYLE.index("expression")]), 0.0)
    anchors, vad = emotion.anchors * share, emotion.vad * share
    anchors[:, 0] = np.maximum(1.0 - anchors[:, 1:].sum(axis=1), 0.0)
    speech = session.speech[stretch]
    both = express(
        speech, anchors, vad, speaking=session.speaking[stretch], closure=session.closure[stretch]
    ).astype(np.float64)
    feeling = mood(anchors, vad)
    added = both - speech
    lean = 1.0 + float(session.style[STYLE.index("side")]) * _SIDES
    # wobble of the lips would smear what they say: there expressions only lean
    shaped = np.where(LOWER_FACE, lean, lean * session.wobble[stretch])
    rows = np.zeros((len(speech), CHANNELS), np.float32)
    rows[:, SHAPES] = np.clip(speech + added * shaped + session.brows[stretch, None] * _BROWS, 0.0, 1.0)
    rows[:, :52][:, LOOKS] = 0.0
    rows[:, BLINK] = session.blink[stretch]
    rows[:, HEAD] = feeling.head + session.sway[stretch] * feeling.liveliness[:, None]
    rows[:, GAZE] = feeling.gaze + session.glances[stretch]
    return rows
