"""How an emotion track becomes EMOTE's style: 8 emotions, 3 intensities and 32 people, all soft and frame by frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Float32

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import UsageError

EMOTIONS = ("neutral", "happy", "sad", "surprised", "fear", "disgusted", "angry", "contempt")
"""The order of the published checkpoints, which is AffectNet's."""

LEVELS = (0.45, 0.7, 1.0)
"""The intensities that MEAD's three levels stand for."""

PEOPLE: tuple[str, ...] = (
    "M003", "M005", "M007", "M009", "M011", "M012", "M013", "M019", "M022", "M023", "M024", "M025", "M026", "M027",
    "M028", "M029", "M030", "M031", "W009", "W011", "W014", "W015", "W016", "W018", "W019", "W021", "W023", "W024",
    "W025", "W026", "W028", "W029",
)  # fmt: skip
"""Whose speaking styles the checkpoints know: actors of MEAD."""

WIDTH = len(EMOTIONS) + len(LEVELS) + len(PEOPLE)
_ORDER = [ANCHORS_8.index(name) for name in EMOTIONS]


@dataclass(frozen=True, kw_only=True)
class StyleOptions:
    """Whose style: a person's name, or shares of several (`{}`: all alike)."""

    people: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, people: "str | Mapping[str, float] | StyleOptions | None") -> "StyleOptions":
        """From a name, shares, or nothing."""
        if isinstance(people, StyleOptions):
            return people
        return cls(people={people: 1.0} if isinstance(people, str) else dict(people or {}))

    def row(self, known: Sequence[str] = PEOPLE) -> Float32[np.ndarray, "person"]:
        """The shares of the people a network knows; they sum to one."""
        row = np.zeros(len(known), np.float32)
        for name, share in self.people.items():
            if name not in known:
                raise UsageError(f"no speaking style {name!r}: use one of {', '.join(known)}")
            if not share >= 0:
                raise UsageError(f"the share of style {name!r} is {share}: use 0 or more")
            row[known.index(name)] = share
        return row / row.sum() if row.sum() > 0 else np.full(len(known), 1 / len(known), np.float32)


def style_rows(
    track: EmotionTrack,
    times: Float[np.ndarray, "frame"],
    options: StyleOptions | None = None,
    people: Sequence[str] = PEOPLE,
) -> Float32[np.ndarray, "frame width"]:
    """The conditions [emotions, intensities, people] of each frame, what `EmoteStyle` maps to its embedding.

    Up to intensity 0.45 the emotion fades in at MEAD's first level; above, the level rises. Beyond 1 the step from
    neutral is extrapolated. Intensity 0 is exactly neutral at level 1.
    """
    batch = track.for_modality("face").sample(times)
    anchors = np.asarray(batch.anchors(), np.float64)[:, _ORDER]
    felt = anchors[:, 1:]
    strength = felt.sum(axis=1, keepdims=True)
    shares = np.divide(felt, strength, out=np.zeros_like(felt), where=strength > 1e-9)
    shown = np.minimum(strength / LEVELS[0], 1.0)
    emotion = np.concatenate([1.0 - shown, shares * shown], axis=1)
    rows = np.concatenate([emotion, _levels(strength[:, 0])], axis=1)
    calm = np.eye(rows.shape[1])[0] + np.eye(rows.shape[1])[len(EMOTIONS)]
    rows = calm + np.maximum(strength, 1.0) * (rows - calm)
    whose = np.broadcast_to((options or StyleOptions()).row(people), (len(rows), len(people)))
    return np.concatenate([rows, whose], axis=1).astype(np.float32)


def label_row(
    emotion: str, level: int, person: str | None, people: Sequence[str] = PEOPLE
) -> Float32[np.ndarray, "width"]:
    """The one-hot condition of a labelled recording; `level` is 1, 2 or 3."""
    if emotion not in EMOTIONS:
        raise UsageError(f"unknown emotion {emotion!r}: use {', '.join(EMOTIONS)}")
    if level not in (1, 2, 3):
        raise UsageError(f"level {level} is out of range: use 1, 2 or 3")
    row = np.zeros(len(EMOTIONS) + len(LEVELS), np.float32)
    row[EMOTIONS.index(emotion)] = row[len(EMOTIONS) + level - 1] = 1.0
    return np.concatenate([row, StyleOptions.of(person).row(people)])


def _levels(strength: Float[np.ndarray, "frame"]) -> Float[np.ndarray, "frame 3"]:
    """Soft membership in MEAD's levels: linear between neighbours."""
    corners = np.eye(len(LEVELS))
    return np.stack([np.interp(strength, LEVELS, corners[:, level]) for level in range(len(LEVELS))], axis=1)
