"""What every encoder gives: an emotion read from text, sound, notes or a face, and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

from affetto.conditioning.charts import transport
from affetto.conditioning.emotion import Emotion, Mixture
from affetto.runtime.errors import UsageError

Source = TypeVar("Source", contravariant=True)

MIN_INTENSITY = 0.05  # below this a reading is neutral: dividing by it would only magnify noise


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A measured emotion with its uncertainty, ready to be fused with others.

    `vad` is what was measured (intensity included), on the lexical chart; `variance` its error along each axis;
    `mixture` a probability for each named emotion, neutral among them.
    """

    modality: str
    vad: Float[np.ndarray, "3"]
    variance: Float[np.ndarray, "3"]
    mixture: Mapping[str, float]
    confidence: float = 1.0
    embedding: Float[np.ndarray, "width"] | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.vad).all() and np.abs(self.vad).max() <= 1):
            raise UsageError(f"a reading's vad must lie in [-1, 1], got {self.vad}")
        if not (np.isfinite(self.variance).all() and (self.variance > 0).all()):
            raise UsageError(f"a reading's variance must be positive, got {self.variance}")
        object.__setattr__(self, "mixture", Mixture(self.mixture))

    @property
    def emotion(self) -> Emotion:
        """The reading as an emotion: what is not neutral is its intensity."""
        return measured_emotion(self.vad, self.mixture, confidence=self.confidence)


@runtime_checkable
class EmotionEncoder(Protocol[Source]):
    """Reads the emotion expressed in one modality."""

    @property
    def modality(self) -> str:
        """`text`, `voice`, `music` or `face`."""
        ...

    @property
    def taxonomy(self) -> tuple[str, ...]:
        """The named emotions it can tell apart."""
        ...

    def read(self, source: Source) -> Reading:
        """The emotion of the whole source with its uncertainty."""
        ...


def measured_emotion(
    vad: Float[np.ndarray, "3"], mixture: Mapping[str, float], *, confidence: float = 1.0
) -> Emotion:
    """The emotion whose effective VAD and mixture are the measured ones.

    Its intensity is the probability of anything but neutral; the mixture holds the rest, the VAD is scaled up to it.
    """
    shares = {name: float(share) for name, share in mixture.items() if name != "neutral" and share > 0}
    total = sum(mixture.values()) if mixture else 0.0
    intensity = sum(shares.values()) / total if total > 0 else float(min(np.linalg.norm(vad), 1.0))
    sure = float(np.clip(confidence, 0.0, 1.0))
    if intensity < MIN_INTENSITY:
        return Emotion(vad=(0.0, 0.0, 0.0), mixture=Mixture({"neutral": 1.0}), intensity=0.0, confidence=sure)
    full = np.clip(np.asarray(vad, np.float64) / intensity, -1, 1)
    point = (float(full[0]), float(full[1]), float(full[2]))
    return Emotion(vad=point, mixture=Mixture(shares), intensity=min(intensity, 1.0), confidence=sure)


def to_lexical(vad: Float[np.ndarray, "*point 3"], chart: str) -> Float[np.ndarray, "*point 3"]:
    """VAD measured on a modality's chart, on the lexical chart that `Emotion` uses; clipped to [-1, 1]."""
    points = np.clip(np.asarray(vad, np.float64), -1, 1)
    return points if chart == "lexical" else transport(points, chart, "lexical")
