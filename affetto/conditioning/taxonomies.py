"""Label sets of datasets and models, mapped onto emotions and back."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.batch import EmotionBatch
from affetto.conditioning.charts import transport
from affetto.conditioning.emotion import MAX_INTENSITY, Emotion, Mixture
from affetto.conditioning.lexicon import LEXICON, read_data
from affetto.runtime.errors import UsageError

__all__ = ["ANCHORS_8", "TAXONOMIES", "Taxonomy", "get_taxonomy"]

_LEVEL_SD = 0.15  # how far apart in intensity two levels of a graded label set stand
_KIN = {
    "happy": "joyful", "joyful": "happy", "astonished": "surprised", "enraged": "angry", "terrified": "fear",
    "depressed": "sad", "calm": "relaxed", "serene": "relaxed", "contemptuous": "contempt",
}  # fmt: skip
"""Names so near that a label set which lacks one means it by the other."""

_QUADRANT_SD = 0.25  # how unsure the sign of valence or arousal is


@dataclass(frozen=True, kw_only=True, eq=False)
class Taxonomy:
    """A label set in its own order; each label has a place among the emotions, or None where VAD has none for it.

    `groups` collects labels into families. `graded` sets tell the strength by the label itself (serenity, joy,
    ecstasy), others by numbered `levels` beside it. `quadrants` sets ask only for the signs of valence and arousal.
    """

    name: str
    about: str
    labels: tuple[str, ...]
    places: tuple[Emotion | None, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    levels: tuple[float, ...] = ()
    dyads: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    opposites: Mapping[str, str] = field(default_factory=dict)
    graded: bool = False
    quadrants: bool = False

    def emotion(self, label: str, intensity: float | None = None, *, level: int | None = None) -> Emotion:
        """The emotion a label names, at an intensity or a numbered level (1, 2 ...) where the set has levels."""
        place = self.places[self._index(label)]
        if place is None:
            raise UsageError(f"{self.name} label {label!r} has no place in valence, arousal, dominance")
        if level is not None:
            if not 1 <= level <= len(self.levels):
                raise UsageError(f"{self.name} has {len(self.levels)} levels, got {level}")
            intensity = self.levels[level - 1]
        if intensity is None or place.intensity == 0:
            return place
        return replace(place, intensity=min(place.intensity * intensity, MAX_INTENSITY))

    def dyad(self, name: str) -> Emotion:
        """The emotion two neighbours make together, half of each."""
        if name not in self.dyads:
            raise UsageError(f"{self.name} has no dyad {name!r}: it has {', '.join(self.dyads) or 'none'}")
        first, second = self.dyads[name]
        return self.emotion(first).blend(self.emotion(second), 0.5)

    def from_scores(
        self, scores: Mapping[str, float] | Sequence[float], *, confidence: float = 1.0
    ) -> Emotion:
        """The emotion that scores over the labels describe (normalised here; labels without a place are left out).

        The neutral label's share lowers the intensity.
        """
        if not isinstance(scores, Mapping):
            if len(scores) != len(self.labels):
                raise UsageError(f"{self.name} has {len(self.labels)} labels, got {len(scores)} scores")
            scores = dict(zip(self.labels, scores, strict=True))
        placed = [
            (place, float(s)) for label, s in scores.items() if (place := self.places[self._index(label)])
        ]
        if any(not np.isfinite(s) or s < 0 for _, s in placed):
            raise UsageError(f"scores over {self.name} must be finite and >= 0")
        total = sum(s for _, s in placed)
        felt = (
            [(place, s / total) for place, s in placed if s > 0 and place.intensity > 0] if total > 0 else []
        )
        if not felt:
            return replace(Emotion.neutral(), confidence=confidence)
        intensity = sum(s * place.intensity for place, s in felt)
        mixture: dict[str, float] = {}
        vad = np.zeros(3)
        for place, s in felt:
            weight = s * place.intensity / intensity
            vad += weight * np.array(place.vad)
            for name, share in place.mixture.items():
                mixture[name] = mixture.get(name, 0.0) + weight * share
        v, a, d = (round(float(axis), 9) for axis in vad)
        return Emotion(
            vad=(v, a, d),
            mixture=Mixture(mixture),
            intensity=min(intensity, MAX_INTENSITY),
            confidence=confidence,
        )

    def distribution(self, emotion: Emotion) -> dict[str, float]:
        """The probability of each label, summing to one."""
        names = tuple(emotion.mixture)
        batch = EmotionBatch(
            vad=np.array([emotion.vad], np.float32),
            mixture=np.array([list(emotion.mixture.values())], np.float32).reshape(1, len(names)),
            names=names,
            intensity=np.array([[emotion.intensity]], np.float32),
            confidence=np.array([emotion.confidence], np.float32),
        )
        return {label: float(p) for label, p in zip(self.labels, self.distributions(batch)[0], strict=True)}

    def distributions(self, batch: EmotionBatch) -> Float[np.ndarray, "frame label"]:
        """The probability of each label, frame by frame.

        Named emotions go to the labels that mean them, others by the posterior of the labels' Gaussians at their place;
        what intensity leaves out goes to the neutral label, if the set has one.
        """
        if self.quadrants:
            return self._quadrant_shares(batch)
        family = batch.mixture @ self._name_rows(batch.names) if batch.names else self._posterior(batch.vad)
        shares = family @ self._membership
        if self.graded:
            gap = batch.intensity - np.array([0.0 if p is None else p.intensity for p in self.places])
            shares = shares * (np.exp(-0.5 * (gap / _LEVEL_SD) ** 2) + 1e-9)
            return shares / shares.sum(axis=1, keepdims=True)
        neutral = [i for i, place in enumerate(self.places) if place is not None and place.intensity == 0]
        if neutral:
            amount = np.minimum(batch.intensity, 1.0)
            shares = shares * amount
            shares[:, neutral[0]] += 1 - amount[:, 0]
        return shares / shares.sum(axis=1, keepdims=True)

    def grouped(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Label shares summed over the families, for sets that have them."""
        return {
            group: sum(shares.get(label, 0.0) for label in labels) for group, labels in self.groups.items()
        }

    def best(self, emotion: Emotion) -> tuple[str, int | None]:
        """The likeliest label, whatever the intensity, and the nearest level where the set has levels.

        Below half the first level it is the neutral label, if there is one.
        """
        floor = self.levels[0] / 2 if self.levels else 0.0
        felt = emotion if self.graded or emotion.intensity <= floor else replace(emotion, intensity=1.0)
        shares = self.distribution(felt)
        label = max(shares, key=lambda name: shares[name])
        if not self.levels:
            return label, None
        gaps = [abs(emotion.intensity - level) for level in self.levels]
        return label, 1 + gaps.index(min(gaps))

    def _index(self, label: str) -> int:
        if label in self.labels:
            return self.labels.index(label)
        folded = [known.lower() for known in self.labels]
        if label.lower() in folded:
            return folded.index(label.lower())
        near = difflib.get_close_matches(label.lower(), folded, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(self.labels[:8])} ..."
        raise UsageError(f"{self.name} has no label {label!r}: {hint}")

    @cached_property
    def _families(self) -> tuple[tuple[int, ...], ...]:
        if self.graded:
            return tuple(tuple(self._index(label) for label in labels) for labels in self.groups.values())
        return tuple((i,) for i, place in enumerate(self.places) if place is not None)

    @cached_property
    def _membership(self) -> Float[np.ndarray, "family label"]:
        matrix = np.zeros((len(self._families), len(self.labels)))
        for row, members in zip(matrix, self._families, strict=True):
            row[list(members)] = 1.0
        return matrix

    def _posterior(self, vad: Float[np.ndarray, "frame 3"]) -> Float[np.ndarray, "frame family"]:
        # Diagonal Gaussians at the labels' full-strength places, with the spread of the term that names them.
        density = []
        for members in self._families:
            per_label = []
            for index in members:
                place = self.places[index]
                assert place is not None
                sd = np.array(LEXICON[next(iter(place.mixture))].sd)
                z = (np.asarray(vad, np.float64) - np.array(place.vad)) / sd
                per_label.append(-0.5 * (z * z).sum(axis=-1) - np.log(sd).sum())
            density.append(np.max(per_label, axis=0))
        joint = np.stack(density, axis=-1)
        weights = np.exp(joint - joint.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def _name_rows(self, names: tuple[str, ...]) -> Float[np.ndarray, "name family"]:
        meant = [
            {name for i in members if (p := self.places[i]) for name in p.mixture}
            for members in self._families
        ]
        rows = self._posterior(np.array([LEXICON[name].vad for name in names], np.float64))
        for row, name in zip(rows, names, strict=True):
            direct = np.array([name in terms for terms in meant], np.float64)
            if not direct.any():
                direct = np.array([_KIN.get(name) in terms for terms in meant], np.float64)
            if direct.any():
                row[:] = direct / direct.sum()
        return rows

    def _quadrant_shares(self, batch: EmotionBatch) -> Float[np.ndarray, "frame label"]:
        heard = transport(batch.effective_vad.astype(np.float64), "lexical", "music")
        positive, aroused = ndtr(heard[:, 0] / _QUADRANT_SD), ndtr(heard[:, 1] / _QUADRANT_SD)
        return np.stack(
            [
                positive * aroused,
                (1 - positive) * aroused,
                (1 - positive) * (1 - aroused),
                positive * (1 - aroused),
            ],
            axis=1,
        )


def _build(name: str, entry: dict[str, Any]) -> Taxonomy:
    labels = entry["labels"]
    return Taxonomy(
        name=name,
        about=entry["about"],
        labels=tuple(labels),
        places=tuple(None if text is None else Emotion.parse(text) for text in labels.values()),
        groups={group: tuple(members) for group, members in entry.get("groups", {}).items()},
        levels=tuple(entry.get("levels", ())),
        dyads={dyad: (first, second) for dyad, (first, second) in entry.get("dyads", {}).items()},
        opposites=entry.get("opposites", {}),
        graded=entry.get("graded", False),
        quadrants=entry.get("quadrants", False),
    )


TAXONOMIES: Mapping[str, Taxonomy] = MappingProxyType(
    {name: _build(name, entry) for name, entry in read_data("taxonomies.json").items()}
)
"""Every label set by name: ekman6, ekman7, affectnet8, mead8, goemotions, plutchik, emonet-voice40, emopia4 ..."""


@lru_cache(maxsize=64)
def get_taxonomy(name: str) -> Taxonomy:
    """The label set called `name`; `UsageError` names the ones there are."""
    if name not in TAXONOMIES:
        raise UsageError(f"unknown taxonomy {name!r}: use {', '.join(TAXONOMIES)}")
    return TAXONOMIES[name]
