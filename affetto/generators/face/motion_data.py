"""What the motion networks learn from: speech of known phones, imperfect readings of it, and any emotion, by rule.

Nobody recorded these faces: the targets come from `rules` and `expression`, so that the same speech can be had with
every emotion, exactly (the content-emotion exchange of EMOTE with its answer known).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import convolve1d, gaussian_filter1d
from torch import Tensor

from affetto.conditioning.anchors import ANCHORS_8, anchor_weights
from affetto.conditioning.lexicon import lookup
from affetto.generators.face.adapter import FaceEmotion
from affetto.generators.face.content import CONTENT_FPS, SpeechContent
from affetto.generators.face.expression import express, hann, paced
from affetto.generators.face.phones import (
    PHONE_INDEX,
    PHONES,
    SILENCE,
    VISEME_INDEX,
    TimedPhone,
    phone_frames,
)
from affetto.generators.face.rules import viseme_curves
from affetto.runtime.errors import InvalidInputError

_GAP_S = (0.25, 1.2)  # silence put between clips
_ANCHOR_VAD = np.array([(0, 0, 0), *(lookup(name).vad for name in ANCHORS_8[1:])], np.float64)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One utterance: what was said when, and how readers heard it (the first reading is the perfect one)."""

    name: str
    split: str
    phones: tuple[TimedPhone, ...]
    readings: tuple[SpeechContent, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.readings[0].seconds


def read_clips(folder: Path) -> list[Clip]:
    """The clips of `folder`: files `SOURCE-NAME-READER.npz` grouped by what is before the last dash.

    Raises InvalidInputError when there are none, or when they were made for another phone inventory.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.npz")):
        groups.setdefault(path.stem.rpartition("-")[0], []).append(path)
    clips = [_read_clip(name, paths) for name, paths in groups.items()]
    if not clips:
        raise InvalidInputError(
            f"{folder}: holds no .npz readings, nor the corpora (speech/emodb): name a folder of either"
        )
    return clips


def _read_clip(name: str, paths: Sequence[Path]) -> Clip:
    oracle = [path for path in paths if path.stem.endswith("-oracle")]
    with np.load((oracle or paths)[0], allow_pickle=False) as file:
        if tuple(file["inventory"]) != PHONES:
            raise InvalidInputError(f"{paths[0]}: was made for another phone inventory: make it again")
        columns = (
            file[key].tolist() for key in ("phone_names", "starts", "ends", "stress", "releases", "closes")
        )
        phones = tuple(
            TimedPhone(label, start, end, stress, None if np.isnan(release) else release, closes)
            for label, start, end, stress, release, closes in zip(*columns, strict=True)
        )
        split, seconds = str(file["split"]), float(file["seconds"])
    perfect = SpeechContent.from_phones(phones, seconds, _read_content((oracle or paths)[0]).loudness)
    heard = [_read_content(path) for path in paths if path not in oracle]
    if any(len(reading) != len(perfect) for reading in heard):
        raise InvalidInputError(f"{paths[0]}: the readings of {name} differ in length: make them again")
    return Clip(name=name, split=split, phones=phones, readings=(perfect, *heard))


def _read_content(path: Path) -> SpeechContent:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key].astype(np.float32) for key in ("phones", "closure", "loudness", "speaking")}
    return SpeechContent(fps=CONTENT_FPS, **arrays)


def content_rows(content: SpeechContent) -> Float[np.ndarray, "frame width"]:
    """What the network hears of each frame: posteriors, closure, loudness, speaking."""
    sides = np.stack([content.closure, content.loudness, content.speaking], axis=1)
    return np.concatenate([content.phones, sides], axis=1).astype(np.float32)


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
    confusion = _confusions()
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


def _confusions() -> Float[np.ndarray, "phone phone"]:
    """How likely a reader takes one phone for another: often one of the same viseme, sometimes any."""
    visemes = np.array(VISEME_INDEX)
    same = (visemes[:, None] == visemes[None, :]).astype(np.float64)
    return 0.7 * same / same.sum(axis=1, keepdims=True) + 0.3 / len(PHONES)


def spoil(
    rows: Float[np.ndarray, "frame width"],
    confusion: Float[np.ndarray, "phone phone"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "frame width"]:
    """A perfect reading as a real reader might give it: soft shifted edges, doubts, slips, a missed closure."""
    count, frames = len(PHONES), len(rows)
    labels = rows[:, :count].argmax(axis=1)
    edges = np.flatnonzero(np.diff(labels)) + 1
    moved = np.sort(np.clip(edges + np.round(rng.normal(0.0, 0.8, len(edges))).astype(int), 1, frames - 1))
    segment = np.searchsorted(moved, np.arange(frames), side="right")
    said = labels[np.concatenate([[0], edges])]
    heard = np.where(rng.random(len(said)) < 0.12, _slips(said, confusion, rng), said)[segment]
    doubt = np.clip(rng.beta(1.2, 4.0, len(said)), 0.0, 0.9)[segment]
    posteriors = (1 - doubt)[:, None] * np.eye(count)[heard] + doubt[:, None] * confusion[heard]
    posteriors = gaussian_filter1d(posteriors, rng.uniform(0.4, 1.2), axis=0, mode="nearest")
    spoilt = rows.astype(np.float64)
    spoilt[:, :count] = posteriors / posteriors.sum(axis=1, keepdims=True)
    spoilt[:, count] = _spoilt_closure(rows[:, count], rng)
    gain = rng.uniform(0.9, 1.1)
    spoilt[:, count + 1] = np.clip(gain * rows[:, count + 1] + rng.normal(0, 0.02, frames), 0, 1)
    spoilt[:, count + 2] = gaussian_filter1d(
        rows[:, count + 2].astype(np.float64), rng.uniform(0.5, 2.0), mode="nearest"
    )
    return spoilt.astype(np.float32)


def _slips(
    segments: Int[np.ndarray, "segment"],
    confusion: Float[np.ndarray, "phone phone"],
    rng: np.random.Generator,
) -> Int[np.ndarray, "segment"]:
    drawn = rng.random(len(segments))[:, None]
    return (np.cumsum(confusion[segments], axis=1) < drawn).sum(axis=1).clip(0, len(PHONES) - 1)


def _spoilt_closure(
    closure: Float[np.ndarray, "frame"], rng: np.random.Generator
) -> Float[np.ndarray, "frame"]:
    bounds = np.flatnonzero(np.diff(np.concatenate([[0.0], closure, [0.0]])))
    spoilt = np.zeros(len(closure))
    for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
        sure = 0.15 if rng.random() < 0.05 else rng.uniform(0.7, 1.0)
        first, last = start + round(rng.normal(0, 0.6)), stop + round(rng.normal(0, 0.6))
        spoilt[max(first, 0) : max(last, first + 1, 1)] = sure
    soft = gaussian_filter1d(spoilt, rng.uniform(0.3, 0.8), mode="nearest")
    return np.clip(soft + np.abs(rng.normal(0, 0.02, len(closure))), 0, 1)


def random_emotion(frames: int, rng: np.random.Generator) -> FaceEmotion:
    """An emotion track at 50 Hz as users write them: none, one, blends, VAD points, changes, overdrive."""
    keys = rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15])
    rows = [_random_key(rng) for _ in range(keys)]
    anchors, vad = (np.stack(part) for part in zip(*rows, strict=True))
    if keys == 1:
        held, point = np.repeat(anchors, frames, axis=0), np.repeat(vad, frames, axis=0)
    else:
        moments = np.sort(rng.uniform(0, frames, keys))
        if rng.random() < 0.5:  # steps
            at = np.clip(np.searchsorted(moments, np.arange(frames), side="right") - 1, 0, keys - 1)
            held, point = anchors[at], vad[at]
        else:
            clock = np.arange(frames)
            held = np.stack([np.interp(clock, moments, column) for column in anchors.T], axis=1)
            point = np.stack([np.interp(clock, moments, column) for column in vad.T], axis=1)
        held = paced(held, CONTENT_FPS)
        point = convolve1d(point, hann(0.4, CONTENT_FPS), axis=0, mode="nearest")
    emotions = held[:, 1:]
    neutral = np.maximum(1.0 - emotions.sum(axis=1, keepdims=True), 0.0)
    return FaceEmotion(anchors=np.concatenate([neutral, emotions], axis=1), vad=np.clip(point, -1.0, 1.0))


def _random_key(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Anchor weights and effective VAD of one random emotion."""
    kind = rng.choice(5, p=[0.14, 0.44, 0.18, 0.16, 0.08])
    strength = rng.choice([rng.uniform(0.1, 1.0), 1.0, rng.uniform(1.0, 2.0)], p=[0.6, 0.28, 0.12])
    anchors = np.zeros(len(ANCHORS_8))
    if kind == 0:
        anchors[0] = 1.0
        return anchors, np.zeros(3)
    if kind == 3:  # a point in VAD space
        point = rng.uniform(-0.9, 0.9, 3)
        anchors = anchor_weights(point)
        vad = strength * point
    else:
        if kind == 2:  # a blend
            pair = rng.choice(np.arange(1, 8), 2, replace=False)
            anchors[pair] = (share := rng.uniform(0.2, 0.8)), 1 - share
        else:
            anchors[rng.integers(1, 8)] = 1.0
        vad = strength * (anchors @ _ANCHOR_VAD)
        if kind == 4:  # a label put at a place of its own
            vad = vad + rng.normal(0.0, 0.25, 3)
    return strength * anchors, np.clip(vad, -1.0, 1.0)


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
