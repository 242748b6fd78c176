"""Keyframes as arrays: what an emotion track does when it is sampled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from affetto.conditioning.anchors import ANCHORS_8, anchor_weights
from affetto.conditioning.batch import EmotionBatch
from affetto.conditioning.emotion import MAX_INTENSITY, Emotion
from affetto.conditioning.interpolation import Ease, ease_weights, hermite, parse_ease, slerp
from affetto.conditioning.lexicon import LEXICON


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyArrays:
    """Keyframes as one matrix, so that a track is sampled without a loop over frames.

    The columns of `stacked` are effective VAD, intensity, confidence, raw VAD, effective names, raw names. Effective
    values are what is interpolated; raw ones only tell what an emotion of intensity 0 would be.
    """

    VAD = slice(0, 3)
    INTENSITY = 3
    CONFIDENCE = 4
    RAW_VAD = slice(5, 8)

    times: Float[np.ndarray, "key"]
    stacked: Float[np.ndarray, "key channel"]
    names: tuple[str, ...]
    eases: tuple[Ease, ...]
    ease_of: Any  # (key,) index into eases
    rising: Any  # (key,) whether the emotion grows on the way to the next keyframe

    @property
    def mixture(self) -> slice:
        """The columns of the effective names."""
        return slice(8, 8 + len(self.names))

    @property
    def raw_mixture(self) -> slice:
        """The columns of the raw names."""
        return slice(8 + len(self.names), 8 + 2 * len(self.names))

    @classmethod
    def of(
        cls,
        *,
        times: Sequence[float],
        emotions: Sequence[Emotion],
        eases: Sequence[str],
        also: Sequence[Emotion] = (),
        with_anchors: bool = False,
    ) -> "KeyArrays":
        """Keyframes as arrays whose names also cover the emotions in `also`, and the anchors if asked to."""
        names = _names_of([*emotions, *also], with_anchors=with_anchors)
        texts = sorted(set(eases))
        stacked = cls._stack_all(emotions, names)
        size = np.linalg.norm(stacked[:, cls.VAD], axis=1)
        return cls(
            times=np.array(times, np.float64),
            stacked=stacked,
            names=names,
            eases=tuple(parse_ease(text) for text in texts),
            ease_of=np.array([texts.index(ease) for ease in eases]),
            rising=np.append(size[1:] >= size[:-1], True),
        )

    def between(
        self, times: Float[np.ndarray, "frame"], *, space: str, route: str
    ) -> Float[np.ndarray, "frame channel"]:
        """The rows at `times`, travelling between keyframes as their eases and `space` say."""
        if len(self.times) == 1:
            return self.stacked[np.zeros(len(times), np.int64)]
        segment = np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, len(self.times) - 2)
        length = self.times[segment + 1] - self.times[segment]
        u = np.clip((times - self.times[segment]) / length, 0, 1)
        w = np.empty_like(u)
        for number, ease in enumerate(self.eases):
            mine = self.ease_of[segment] == number
            if mine.any():
                w[mine] = ease_weights(ease, u[mine], length[mine], self.rising[segment[mine]])
        a, b = self.stacked[segment], self.stacked[segment + 1]
        row = a + w[:, None] * (b - a)
        curved = np.array([ease.kind == "catmull-rom" for ease in self.eases])[self.ease_of[segment]]
        if curved.any():
            row[curved] = hermite(self.times, self.stacked, segment[curved], u[curved])
        if space == "slerp":
            self._turn(row, a, b, w, route=route)
        return row

    def fade_to(
        self, row: Float[np.ndarray, "frame channel"], emotion: Emotion, w: Float[np.ndarray, "frame"]
    ) -> None:
        """Move each row, in place, a share `w` of the way to one emotion."""
        row += w[:, None] * (self._stack_all([emotion], self.names) - row)

    def _turn(
        self, row: np.ndarray, a: np.ndarray, b: np.ndarray, w: Float[np.ndarray, "frame"], *, route: str
    ) -> None:
        strength = row[:, self.INTENSITY]
        effective = slerp(a[:, self.VAD], b[:, self.VAD], w, route=route, strength=strength)
        row[:, self.VAD] = effective
        if self.names:
            # Names hold at the keyframes; between them they tell where the turn leads.
            intensity = np.maximum(strength, 1e-9)[:, None]
            passing = np.zeros_like(row[:, self.mixture])
            passing[:, [self.names.index(name) for name in ANCHORS_8]] = anchor_weights(effective / intensity)
            share = (4 * np.clip(w, 0, 1) * (1 - np.clip(w, 0, 1)))[:, None]
            row[:, self.mixture] = (1 - share) * row[:, self.mixture] + share * intensity * passing

    @staticmethod
    def _stack_all(emotions: Sequence[Emotion], names: tuple[str, ...]) -> Float[np.ndarray, "key channel"]:
        column = {name: index for index, name in enumerate(names)}
        mixture = np.zeros((len(emotions), len(names)))
        if names:
            for row, emotion in zip(mixture, emotions, strict=True):
                for name, share in emotion.named().items():
                    row[column[name]] = share
        return KeyArrays.stack(
            np.array([e.vad for e in emotions], np.float64),
            mixture,
            np.array([e.intensity for e in emotions]),
            np.array([e.confidence for e in emotions]),
        )

    @staticmethod
    def stack(
        vad: np.ndarray, mixture: np.ndarray, intensity: np.ndarray, confidence: np.ndarray
    ) -> np.ndarray:
        """Rows for frames given as full-strength values and intensities."""
        scale = intensity[:, None].astype(np.float64)
        return np.concatenate(
            [vad * scale, scale, confidence[:, None], vad.astype(np.float64), mixture * scale, mixture],
            axis=1,
        )

    def unstack(self, row: Float[np.ndarray, "frame channel"], *, from_names: bool) -> EmotionBatch:
        """The emotions that rows stand for; `from_names` places each where its names are."""
        intensity = np.clip(row[:, self.INTENSITY], 0, MAX_INTENSITY)[:, None]
        has_any = intensity > 1e-6
        safe = np.where(has_any, intensity, 1.0)
        vad = np.where(has_any, row[:, self.VAD] / safe, row[:, self.RAW_VAD])
        mixture = np.where(has_any, row[:, self.mixture] / safe, row[:, self.raw_mixture])
        mixture = np.maximum(mixture, 0.0)
        if self.names:
            mixture = mixture / np.maximum(mixture.sum(axis=1, keepdims=True), 1e-12)
            if from_names:
                vad = mixture @ np.array([LEXICON[name].vad for name in self.names])
        return EmotionBatch(
            vad=np.clip(vad, -1, 1).astype(np.float32),
            mixture=mixture.astype(np.float32),
            names=self.names,
            intensity=intensity.astype(np.float32),
            confidence=np.clip(row[:, self.CONFIDENCE], 0, 1).astype(np.float32),
        )


def _names_of(emotions: Sequence[Emotion], *, with_anchors: bool) -> tuple[str, ...]:
    found = dict.fromkeys(name for emotion in emotions for name in emotion.mixture)
    if not found:
        return ()
    unnamed = any(not emotion.mixture for emotion in emotions)
    first = ANCHORS_8 if with_anchors or unnamed else ("neutral",)
    return tuple(dict.fromkeys((*first, *found)))


def stand_at(batch: EmotionBatch, wanted: np.ndarray, limited: np.ndarray) -> EmotionBatch:
    """The batch standing at `limited` instead of `wanted` (effective VAD, frame by frame).

    Names and intensity lag as the point does: the same share of the way is left to go.
    """
    intensity = batch.intensity.astype(np.float64)
    names = batch.mixture.astype(np.float64) * intensity
    for frame in range(1, len(wanted)):
        whole = float(np.linalg.norm(wanted[frame] - limited[frame - 1]))
        went = float(np.linalg.norm(limited[frame] - limited[frame - 1]))
        share = 1.0 if whole <= 1e-12 else min(went / whole, 1.0)
        intensity[frame] = intensity[frame - 1] + share * (intensity[frame] - intensity[frame - 1])
        names[frame] = names[frame - 1] + share * (names[frame] - names[frame - 1])
    safe = np.where(intensity > 1e-6, intensity, 1.0)
    mixture = np.where(intensity > 1e-6, names / safe, batch.mixture)
    vad = np.where(intensity > 1e-6, limited / safe, batch.vad)
    return replace(
        batch,
        vad=np.clip(vad, -1, 1).astype(np.float32),
        mixture=(mixture / np.maximum(mixture.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32),
        intensity=intensity.astype(np.float32),
    )
