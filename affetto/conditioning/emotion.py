"""One emotion as a value: a point in VAD space, a mixture of named emotions, an intensity."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float

from affetto.conditioning.anchors import ANCHORS_8, anchor_rows, anchor_weights
from affetto.conditioning.charts import CHARTS, complete_dominance
from affetto.conditioning.lexicon import EMOJI, LEXICON, Number, Vad, lookup
from affetto.runtime.errors import UsageError, quoted

__all__ = ["ANCHORS_8", "MAX_INTENSITY", "Emotion", "Mixture"]

MAX_INTENSITY = 2.0
"""Above 1 an emotion is overdriven: allowed and flagged."""

_MAX_TEXT = 2_000  # characters; more is not an emotion
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_VAD_TEXT = re.compile(rf"vad\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*(?:,\s*({_NUMBER})\s*)?\)", re.IGNORECASE)


class Mixture(Mapping[str, float]):
    """Shares of named emotions that sum to one (or nothing at all); immutable, hashable, in the order given."""

    __slots__ = ("_shares",)

    def __init__(self, shares: Mapping[str, SupportsFloat] | None = None) -> None:
        merged: dict[str, float] = {}
        for label, share in (shares or {}).items():
            value = float(share)
            if not math.isfinite(value) or value < 0:
                raise UsageError(f"the share of {label!r} must be a number >= 0, got {value}")
            if value > 0:
                name = lookup(label).name
                merged[name] = merged.get(name, 0.0) + value
        total = sum(merged.values())
        if shares and total <= 0:
            raise UsageError("a mixture needs at least one share above 0")
        if len(merged) == 1:
            merged = dict.fromkeys(merged, 1.0)
        elif merged and abs(total - 1) > 1e-9:  # shares that already sum to one keep their exact digits
            merged = {name: value / total for name, value in merged.items()}
        self._shares = merged

    def __getitem__(self, label: str) -> float:
        return self._shares[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shares)

    def __len__(self) -> int:
        return len(self._shares)

    def __hash__(self) -> int:
        return hash(frozenset(self._shares.items()))

    def __repr__(self) -> str:
        return f"Mixture({self._shares!r})"

    def __reduce__(self) -> tuple[type["Mixture"], tuple[dict[str, float]]]:
        return (Mixture, (self._shares,))


@dataclass(frozen=True, kw_only=True)
class Emotion:
    """An emotion in the lexical VAD space, each axis in [-1, 1], 0 being neutral.

    `vad` and `mixture` describe the emotion at full strength, `intensity` (0..1, up to 2 when overdriven) how much of
    it there is; `confidence` (0..1) is how sure its source was. `mixture` may be empty: then `vad` alone counts.
    The neutral emotion has intensity 0.
    """

    vad: tuple[Number, Number, Number]
    mixture: Mapping[str, float] = Mixture()
    intensity: Number = 1.0
    confidence: Number = 1.0

    def __post_init__(self) -> None:
        vad = tuple(float(axis) for axis in self.vad)
        if len(vad) != 3 or not all(math.isfinite(axis) and abs(axis) <= 1 for axis in vad):
            shown = ", ".join(f"{axis:g}" for axis in vad)
            raise UsageError(
                f"vad needs three numbers in [-1, 1], got ({shown}): scales of 1..9 convert by (s - 5) / 4"
            )
        if not (math.isfinite(self.intensity) and 0 <= self.intensity <= MAX_INTENSITY):
            raise UsageError(
                f"intensity must lie in 0..1 (up to {MAX_INTENSITY:g} overdriven), got {self.intensity:g}"
            )
        if not (math.isfinite(self.confidence) and 0 <= self.confidence <= 1):
            raise UsageError(f"confidence must lie in 0..1, got {self.confidence:g}")
        object.__setattr__(self, "vad", vad)
        object.__setattr__(self, "intensity", float(self.intensity))
        object.__setattr__(self, "confidence", float(self.confidence))
        if not isinstance(self.mixture, Mixture):
            object.__setattr__(self, "mixture", Mixture(self.mixture))

    @classmethod
    def neutral(cls) -> "Emotion":
        """No emotion at all: the origin, at intensity 0."""
        return cls(vad=(0.0, 0.0, 0.0), mixture=Mixture({"neutral": 1.0}), intensity=0.0)

    @classmethod
    def from_label(cls, label: str, intensity: Number = 1.0, *, confidence: Number = 1.0) -> "Emotion":
        """The emotion a word names, at its place in the lexicon; unknown words raise with the nearest known ones."""
        term = lookup(label)
        strength = 0.0 if term.name == "neutral" else intensity
        return cls(vad=term.vad, mixture=Mixture({term.name: 1.0}), intensity=strength, confidence=confidence)

    @classmethod
    def from_vad(
        cls,
        valence: Number,
        arousal: Number,
        dominance: Number | None = None,
        *,
        intensity: Number = 1.0,
        confidence: Number = 1.0,
    ) -> "Emotion":
        """The emotion at one point, without names; a missing dominance is completed from the other two."""
        if dominance is None:
            dominance = _expected_dominance(valence, arousal)
        return cls(vad=(valence, arousal, dominance), intensity=intensity, confidence=confidence)

    @classmethod
    def from_mixture(
        cls, mixture: Mapping[str, SupportsFloat], intensity: Number = 1.0, *, confidence: Number = 1.0
    ) -> "Emotion":
        """A blend of named emotions, shares normalised to sum to one, at the mean of their places."""
        shares = Mixture(mixture)
        if not shares:
            raise UsageError("a mixture needs at least one emotion")
        strength = 0.0 if set(shares) == {"neutral"} else intensity
        return cls(vad=mean_vad(shares), mixture=shares, intensity=strength, confidence=confidence)

    @classmethod
    def parse(cls, text: str) -> "Emotion":
        """The emotion a text names.

        `happy`, `happy@0.7` (intensity), `happy:0.6+sad:0.4@0.8` (relative shares), `vad(0.5,0.2,0.1)`, an emoji;
        `happy&vad(0.9,0.5,0.4)` gives a name its own place, a final `?0.8` the confidence.
        """
        if not text.strip():
            raise UsageError("empty emotion: write a name such as happy, happy@0.7 or vad(0.5,0.2,0.1)")
        if len(text) > _MAX_TEXT:
            raise UsageError(f"an emotion of {len(text)} characters: at most {_MAX_TEXT} are read")
        body = text.strip()
        body, confidence = _split_number(body, "?", text)
        body, intensity = _split_number(body, "@", text)
        body = body.replace("\ufe0f", "").strip()
        if body in EMOJI:
            emotion = cls.parse(EMOJI[body])
            scaled = (
                min(emotion.intensity * intensity, MAX_INTENSITY)
                if intensity is not None
                else emotion.intensity
            )
            return replace(emotion, intensity=scaled, confidence=1.0 if confidence is None else confidence)
        names, vad = _split_vad(body, text)
        mixture = _parse_mixture(names, text) if names else Mixture()
        sure = 1.0 if confidence is None else confidence
        strength = 1.0 if intensity is None else intensity
        if vad is None:
            return cls.from_mixture(mixture, strength, confidence=sure)
        return cls(vad=vad, mixture=mixture, intensity=strength, confidence=sure)

    def __str__(self) -> str:
        """The text that `parse` reads back to the same value."""
        names = [
            name if len(self.mixture) == 1 else f"{name}:{_number(p)}" for name, p in self.mixture.items()
        ]
        text = "+".join(names)
        if not self.mixture or self.vad != mean_vad(self.mixture):
            point = f"vad({','.join(_number(axis) for axis in self.vad)})"
            text = f"{text}&{point}" if text else point
        usual = 0.0 if text == "neutral" else 1.0
        if self.intensity != usual:
            text += f"@{_number(self.intensity)}"
        if self.confidence != 1:
            text += f"?{_number(self.confidence)}"
        return text

    @property
    def overdriven(self) -> bool:
        """Whether the intensity is above 1, beyond what the named emotion means."""
        return self.intensity > 1

    def effective_vad(self) -> Float[np.ndarray, "3"]:
        """The intensity times vad, kept within [-1, 1]: how far from neutral this really is."""
        return np.clip(self.intensity * np.array(self.vad, np.float32), -1, 1).astype(np.float32)

    def effective_mixture(self) -> dict[str, float]:
        """The mixture scaled by intensity, with neutral taking the rest: shares still sum to one.

        Overdriven, the named shares exceed one and neutral's is negative: an extrapolation, as generators need it.
        """
        shares = {name: self.intensity * p for name, p in self.named().items()}
        shares["neutral"] = shares.get("neutral", 0.0) + 1 - self.intensity
        return shares

    def named(self) -> Mapping[str, float]:
        """The mixture, or when there is none the anchor shares of the VAD point."""
        if self.mixture:
            return self.mixture
        weights = anchor_weights(np.array(self.vad))
        return Mixture({name: float(w) for name, w in zip(ANCHORS_8, weights, strict=True)})

    def anchors(self) -> Float[np.ndarray, "8"]:
        """Weights over `ANCHORS_8`, summing to one; exactly one-hot neutral at intensity 0."""
        if self.mixture:
            shares = np.array(list(self.mixture.values())) @ anchor_rows(tuple(self.mixture))
        else:
            shares = anchor_weights(np.array(self.vad))
        return scale_to_neutral(shares[None], np.array([[self.intensity]]))[0]

    def blend(self, other: "Emotion", w: Number) -> "Emotion":
        """The emotion a share `w` (0..1) of the way to `other`, linear in effective VAD and effective mixture."""
        if not 0 <= w <= 1:
            raise UsageError(f"a blend weight must lie in 0..1, got {w:g}")
        if w in (0, 1):
            return other if w else self
        mine, theirs = (1 - w) * self.intensity, w * other.intensity
        total = mine + theirs
        share = theirs / total if total > 0 else w  # both neutral: blend the names all the same
        vad = (1 - share) * np.array(self.vad) + share * np.array(other.vad)
        mixture: dict[str, float] = {}
        if self.mixture or other.mixture:
            for emotion, part in ((self, 1 - share), (other, share)):
                for name, p in emotion.named().items():
                    mixture[name] = mixture.get(name, 0.0) + part * p
        return Emotion(
            vad=(round(float(vad[0]), 9), round(float(vad[1]), 9), round(float(vad[2]), 9)),
            mixture=Mixture(mixture),
            intensity=min(total, MAX_INTENSITY),
            confidence=(1 - w) * self.confidence + w * other.confidence,
        )

    def scaled(self, factor: Number) -> "Emotion":
        """The same emotion at `factor` times the intensity, at most 2."""
        return replace(self, intensity=min(self.intensity * factor, MAX_INTENSITY))

    def distance(self, other: "Emotion") -> float:
        """How far apart two emotions are: the effective VADs, in standard deviations of the emotion vocabulary."""
        spread = np.array([0.51, 0.34, 0.34])
        return float(np.linalg.norm((self.effective_vad() - other.effective_vad()) / spread))

    def to_labels(self, taxonomy: str = "lexical", k: int = 3) -> list[tuple[str, float]]:
        """The `k` likeliest labels of a taxonomy (`affectnet8`, `goemotions` ...) with probabilities, best first.

        `lexical` gives the emotion's own names when it has them, else the classes of the lexical chart.
        """
        if taxonomy == "lexical":
            if self.mixture:
                return sorted(self.effective_mixture().items(), key=lambda item: -item[1])[:k]
            effective = self.effective_vad()
            return CHARTS["lexical"].labels([float(axis) for axis in effective], k)
        # taxonomies stands on this module
        from affetto.conditioning.taxonomies import get_taxonomy

        shares = get_taxonomy(taxonomy).distribution(self)
        return sorted(shares.items(), key=lambda item: -item[1])[:k]


def scale_to_neutral(
    shares: Float[np.ndarray, "frame 8"], intensity: Float[np.ndarray, "frame 1"]
) -> Float[np.ndarray, "frame 8"]:
    """Shares pulled to one-hot neutral: intensity * shares + (1 - intensity) * neutral, in float32."""
    weights = shares * intensity
    weights[:, 0] += 1 - intensity[:, 0]
    return weights.astype(np.float32)


def mean_vad(mixture: Mapping[str, float]) -> Vad:
    """The share-weighted mean of the places of a mixture's terms."""
    if len(mixture) == 1:
        return LEXICON[next(iter(mixture))].vad
    points = np.array([LEXICON[name].vad for name in mixture])
    mean = np.clip(np.array(list(mixture.values())) @ points, -1, 1)
    return round(float(mean[0]), 6), round(float(mean[1]), 6), round(float(mean[2]), 6)


def _expected_dominance(valence: Number, arousal: Number) -> float:
    if not (math.isfinite(valence) and math.isfinite(arousal)):
        raise UsageError(f"vad needs numbers in [-1, 1], got ({valence:g}, {arousal:g})")
    return float(complete_dominance(np.array(valence), np.array(arousal)))


def _number(value: Number) -> str:
    return repr(int(value)) if value == int(value) else repr(float(value))


def _read_number(word: str, what: str, text: str) -> float:
    if not re.fullmatch(_NUMBER, word.strip()):
        raise UsageError(
            f"cannot read {what} {quoted(word)} in emotion {quoted(text)}: write a number such as 0.7"
        )
    return float(word.strip())


def _split_number(body: str, mark: str, text: str) -> tuple[str, float | None]:
    head, found, tail = body.rpartition(mark)
    if not found:
        return body, None
    what = "the intensity" if mark == "@" else "the confidence"
    return head.strip(), _read_number(tail, what, text)


def _split_vad(body: str, text: str) -> tuple[str, Vad | None]:
    match = _VAD_TEXT.search(body)
    if match is None:
        if re.match(r"\s*vad\b", body, re.IGNORECASE):
            raise UsageError(
                f"cannot read {quoted(text)}: write vad(valence,arousal,dominance), each in [-1, 1]"
            )
        return body, None
    names, rest = body[: match.start()].strip(), body[match.end() :].strip()
    if rest or (names and not names.endswith("&")):
        raise UsageError(f"cannot read {quoted(text)}: write names&vad(v,a,d)@intensity")
    valence, arousal = float(match[1]), float(match[2])
    dominance = float(match[3]) if match[3] else _expected_dominance(valence, arousal)
    return names.removesuffix("&").strip(), (valence, arousal, dominance)


def _parse_mixture(names: str, text: str) -> Mixture:
    parts = names.split("+")
    shares: dict[str, float] = {}
    for part in parts:
        label, colon, share = part.partition(":")
        if not label.strip():
            raise UsageError(f"a name is missing in emotion {quoted(text)}: write happy:0.6+sad:0.4")
        value = _read_number(share, f"the share of {quoted(label)}", text) if colon else 1.0
        if colon and len(parts) == 1 and value != 1:
            raise UsageError(
                f"one emotion alone has no share: for its intensity write {quoted(label.strip() + '@' + share.strip())[1:-1]}"
            )
        name = lookup(EMOJI[label.strip()].partition("@")[0] if label.strip() in EMOJI else label).name
        shares[name] = shares.get(name, 0.0) + value
    return Mixture(shares)
