"""What the motion networks learn from: speech of known phones, imperfect readings of it, and any emotion, by rule.

Nobody recorded these faces: the targets come from `rules` and `expression`, so that the same speech can be had with
every emotion, exactly (the content-emotion exchange of EMOTE with its answer known).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from affetto.acting.expression import express
from affetto.acting.random_emotion import random_emotion
from affetto.acting.rules import viseme_curves
from affetto.speech.clips import Clip, content_rows
from affetto.speech.content import CONTENT_FPS, SpeechContent
from affetto.speech.phones import PHONE_INDEX, PHONES, SILENCE, VISEME_INDEX, phone_frames
from affetto.speech.spoil import confusions, spoil

_GAP_S = (0.25, 1.2)  # silence put between clips


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All clips of a split end to end, with pauses between, at 50 Hz."""

    readings: tuple[Float[np.ndarray, "frame width"], ...]  # several imperfect readings of the same speech
    speech: Float[np.ndarray, "frame 52"]  # lips by rule
    visemes: Int[np.ndarray, "frame"]
    speaking: Float[np.ndarray, "frame"]
    closure: Float[np.ndarray, "frame"]

    def __len__(self) -> int:
        return len(self.speech)


def build_timeline(clips: Iterable[Clip], *, readings: int, seed: int) -> Timeline:
    """The clips end to end; readings that a clip lacks are its perfect one, spoilt like a real reader would."""
    rng = np.random.default_rng([seed, 1])
    heard: list[list[np.ndarray]] = [[] for _ in range(readings)]
    speech, visemes, speaking, closure = [], [], [], []
    confusion = confusions()
    for clip in clips:
        perfect = _with_silence(clip.readings[0], round(rng.uniform(*_GAP_S) * CONTENT_FPS))
        frames = len(perfect)
        rows = content_rows(perfect)
        gap = frames - len(clip.readings[0])
        real = [content_rows(_with_silence(reading, gap)) for reading in clip.readings[1:]]
        for index, column in enumerate(heard):
            column.append(real[index % len(real)] if real and index % 4 != 3 else spoil(rows, confusion, rng))
        speech.append(viseme_curves(clip.phones, frames / CONTENT_FPS, CONTENT_FPS, energy=perfect.loudness))
        labels = phone_frames(clip.phones, frames, CONTENT_FPS).astype(np.int64)
        visemes.append(np.array(VISEME_INDEX)[labels])
        speaking.append(perfect.speaking)
        closure.append(perfect.closure)
    return Timeline(
        readings=tuple(np.concatenate(column) for column in heard),
        speech=np.concatenate(speech),
        visemes=np.concatenate(visemes),
        speaking=np.concatenate(speaking),
        closure=np.concatenate(closure),
    )


def _with_silence(content: SpeechContent, frames: int) -> SpeechContent:
    silence = np.zeros((frames, len(PHONES)), np.float32)
    silence[:, PHONE_INDEX[SILENCE]] = 1.0
    quiet = np.zeros(frames, np.float32)
    return SpeechContent(
        fps=content.fps,
        phones=np.concatenate([content.phones, silence]),
        closure=np.concatenate([content.closure, quiet]),
        loudness=np.concatenate([content.loudness, quiet]),
        speaking=np.concatenate([content.speaking, quiet]),
    )


@dataclass(frozen=True, kw_only=True)
class MotionBatch:
    """Tensors of one training step; the second half says what the first half says, with another's emotion."""

    content: Float[Tensor, "clip frame width"]
    emotion: Float[Tensor, "clip frame feature"]
    target: Float[Tensor, "clip frame 52"]
    visemes: Int[Tensor, "clip frame"]
    closure: Float[Tensor, "clip frame"]

    def to(self, device: torch.device) -> "MotionBatch":
        """The same on another device."""
        return MotionBatch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


def batches(
    timeline: Timeline, *, clips: int, frames: int, seed: int, start: int = 0, exchange: bool = True
) -> Iterator[MotionBatch]:
    """Endless random stretches with random emotions, each said twice when `exchange`; step n depends on seed and n."""
    step = start
    while True:
        rng = np.random.default_rng([seed, 2, step])
        yield one_batch(timeline, clips=clips, frames=frames, rng=rng, exchange=exchange)
        step += 1


def one_batch(
    timeline: Timeline, *, clips: int, frames: int, rng: np.random.Generator, exchange: bool = True
) -> MotionBatch:
    """One draw of `batches`."""
    first = rng.integers(0, len(timeline) - frames, clips)
    reading = rng.integers(0, len(timeline.readings), clips)
    emotions = [random_emotion(frames, rng) for _ in range(clips)]
    rows = [(start, which, emotion) for start, which, emotion in zip(first, reading, emotions, strict=True)]
    if exchange:  # a cyclic shift has no fixed point: every copy takes another clip's emotion
        donors = [*emotions[1:], emotions[0]]
        rows += [(start, which, donor) for start, which, donor in zip(first, reading, donors, strict=True)]
    stretches = [slice(start, start + frames) for start, _, _ in rows]
    targets = [
        express(
            timeline.speech[stretch],
            emotion.anchors,
            emotion.vad,
            speaking=timeline.speaking[stretch],
            closure=timeline.closure[stretch],
        )
        for stretch, (_, _, emotion) in zip(stretches, rows, strict=True)
    ]
    content = [
        timeline.readings[which][stretch] for stretch, (_, which, _) in zip(stretches, rows, strict=True)
    ]
    return MotionBatch(
        content=torch.from_numpy(np.stack(content).astype(np.float32)),
        emotion=torch.from_numpy(np.stack([emotion.features() for _, _, emotion in rows])),
        target=torch.from_numpy(np.stack(targets)),
        visemes=torch.from_numpy(np.stack([timeline.visemes[stretch] for stretch in stretches])),
        closure=torch.from_numpy(np.stack([timeline.closure[stretch] for stretch in stretches])),
    )
