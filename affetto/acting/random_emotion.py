"""Emotion tracks drawn at random as users write them, for training."""

import numpy as np
from scipy.ndimage import convolve1d

from affetto.acting.adapter import FaceEmotion
from affetto.acting.expression import hann, paced
from affetto.conditioning.anchors import ANCHORS_8, anchor_weights
from affetto.conditioning.lexicon import lookup

_RATE = 50.0
_ANCHOR_VAD = np.array([(0, 0, 0), *(lookup(name).vad for name in ANCHORS_8[1:])], np.float64)


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
        held = paced(held, _RATE)
        point = convolve1d(point, hann(0.4, _RATE), axis=0, mode="nearest")
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
