"""What the motion networks learn from: decided phones, right or misheard, with any emotion, by rule.

Nobody recorded these faces: the targets come from `rules` and `expression`, so that the same speech can be had with
every emotion, exactly (the content-emotion exchange of EMOTE with its answer known).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import convolve1d
from torch import Tensor

from affetto.conditioning.anchors import ANCHORS_8, anchor_weights
from affetto.conditioning.lexicon import lookup
from affetto.generators.face.adapter import FaceEmotion
from affetto.generators.face.content import CONTENT_FPS, SpeechContent
from affetto.generators.face.decide import decided, timed_phones
from affetto.generators.face.expression import express, hann, paced
from affetto.generators.face.phones import PHONES, SILENCE, VISEME_INDEX, TimedPhone
from affetto.generators.face.rules import viseme_curves
from affetto.runtime.errors import InvalidInputError

_GAP_S = (0.25, 1.2)  # silence put between clips
_RHYTHM = 0.25  # spread of ln(length) when phones are varied
_SWAPPED = 0.2  # share of the phones that become another
_ANCHOR_VAD = np.array([(0, 0, 0), *(lookup(name).vad for name in ANCHORS_8[1:])], np.float64)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One utterance as readers heard it; the first reading is the perfect one."""

    name: str
    split: str
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
    return Clip(name=name, split=split, readings=(perfect, *heard))


def _read_content(path: Path) -> SpeechContent:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key].astype(np.float32) for key in ("phones", "closure", "loudness", "speaking")}
    return SpeechContent(fps=CONTENT_FPS, **arrays)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Decided speech of a split end to end, with pauses between, at 50 Hz, and its lips by rule."""

    phones: Int[np.ndarray, "frame"]  # index into PHONES
    closure: Float[np.ndarray, "frame"]
    loudness: Float[np.ndarray, "frame"]
    speaking: Float[np.ndarray, "frame"]
    speech: Float[np.ndarray, "frame 52"]

    def __len__(self) -> int:
        return len(self.phones)

    def rows(self, stretch: slice) -> Float[np.ndarray, "frame width"]:
        """What the network hears of some frames: each phone outright, closure, loudness, speaking."""
        said = np.eye(len(PHONES), dtype=np.float32)[self.phones[stretch]]
        sides = [self.closure[stretch], self.loudness[stretch], self.speaking[stretch]]
        return np.concatenate([said, np.stack(sides, axis=1)], axis=1).astype(np.float32)


def build_timeline(clips: Iterable[Clip], *, variations: int, seed: int) -> Timeline:
    """All readings of the clips, decided, and `variations` of each clip's exact one, one after another.

    The lips are those that the rules make of the very phones that the network will hear, right or wrong.
    """
    rng = np.random.default_rng([seed, 1])
    said = []
    for clip in clips:
        varied = [vary(clip.readings[0], rng) for _ in range(variations)]
        said += [
            _with_silence(content, round(rng.uniform(*_GAP_S) * CONTENT_FPS))
            for content in (*map(decided, clip.readings), *varied)
        ]
    whole = SpeechContent.joined(said)
    lips = [
        viseme_curves(timed_phones(content), content.seconds, CONTENT_FPS, energy=content.loudness)
        for content in said
    ]
    return Timeline(
        phones=whole.phones.argmax(axis=1),
        closure=whole.closure,
        loudness=whole.loudness,
        speaking=whole.speaking,
        speech=np.concatenate(lips),
    )


def _with_silence(content: SpeechContent, frames: int) -> SpeechContent:
    silence = SpeechContent.from_phones([], frames / content.fps)
    return SpeechContent.joined([content, silence])


def vary(content: SpeechContent, rng: np.random.Generator) -> SpeechContent:
    """Decided speech at another rhythm, some of its phones exchanged for any other: what no sentence taught."""
    phones = []
    clock = 0.0
    for phone in timed_phones(content):
        length = (phone.end - phone.start) * np.exp(rng.normal(0.0, _RHYTHM))
        swapped = phone.phone != SILENCE and rng.random() < _SWAPPED
        name = PHONES[rng.integers(1, len(PHONES))] if swapped else phone.phone
        phones.append(TimedPhone(name, clock, clock + float(length)))
        clock += float(length)
    shape = SpeechContent.from_phones(phones, clock)
    loudness = np.interp(
        np.linspace(0.0, 1.0, len(shape)), np.linspace(0.0, 1.0, len(content)), content.loudness
    )
    return replace(shape, loudness=loudness.astype(np.float32))


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
    emotions = [random_emotion(frames, rng) for _ in range(clips)]
    rows = list(zip(first, emotions, strict=True))
    if exchange:  # a cyclic shift has no fixed point: every copy takes another clip's emotion
        rows += zip(first, [*emotions[1:], emotions[0]], strict=True)
    stretches = [slice(start, start + frames) for start, _ in rows]
    targets = [
        express(
            timeline.speech[stretch],
            emotion.anchors,
            emotion.vad,
            speaking=timeline.speaking[stretch],
            closure=timeline.closure[stretch],
        )
        for stretch, (_, emotion) in zip(stretches, rows, strict=True)
    ]
    visemes = np.array(VISEME_INDEX)
    return MotionBatch(
        content=torch.from_numpy(np.stack([timeline.rows(stretch) for stretch in stretches])),
        emotion=torch.from_numpy(np.stack([emotion.features() for _, emotion in rows])),
        target=torch.from_numpy(np.stack(targets)),
        visemes=torch.from_numpy(np.stack([visemes[timeline.phones[stretch]] for stretch in stretches])),
        closure=torch.from_numpy(np.stack([timeline.closure[stretch] for stretch in stretches])),
    )
