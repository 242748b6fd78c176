"""Emotions frame by frame, as arrays."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from affetto.conditioning.anchors import anchor_rows, anchor_weights
from affetto.conditioning.emotion import Emotion, Mixture, mean_vad, scale_to_neutral


@dataclass(frozen=True, kw_only=True, eq=False)
class EmotionBatch:
    """One emotion per frame: what it is (`vad`, `mixture` over `names`) and how much of it (`intensity`, 0..2).

    `names` is empty when no frame has named emotions; otherwise each row of `mixture` sums to one.
    """

    vad: Float32[np.ndarray, "frame 3"]
    mixture: Float32[np.ndarray, "frame name"]
    names: tuple[str, ...]
    intensity: Float32[np.ndarray, "frame 1"]
    confidence: Float32[np.ndarray, "frame"]

    def __len__(self) -> int:
        return len(self.vad)

    def __getitem__(self, frame: int) -> Emotion:
        """One frame as a value, its digits rounded to six so that float32 noise does not show."""
        shares = {n: _tidy(p) for n, p in zip(self.names, self.mixture[frame], strict=True) if p > 5e-7}
        mixture = Mixture(shares)
        v, a, d = (_tidy(axis) for axis in np.clip(self.vad[frame], -1, 1))
        if mixture:
            named = mean_vad(mixture)
            if max(abs(v - named[0]), abs(a - named[1]), abs(d - named[2])) < 5e-6:
                v, a, d = named
        return Emotion(
            vad=(v, a, d),
            mixture=mixture,
            intensity=_tidy(self.intensity[frame, 0]),
            confidence=_tidy(np.clip(self.confidence[frame], 0, 1)),
        )

    @property
    def effective_vad(self) -> Float32[np.ndarray, "frame 3"]:
        """Where the frames really are: intensity times vad, kept within [-1, 1]."""
        return np.clip(self.vad * self.intensity, -1, 1)

    @property
    def effective_mixture(self) -> Float32[np.ndarray, "frame name"]:
        """The mixture scaled by intensity, neutral taking the rest; rows sum to one."""
        if not self.names:
            return self.mixture
        scaled = self.mixture * self.intensity
        scaled[:, self.names.index("neutral")] += 1 - self.intensity[:, 0]
        return scaled

    def anchors(self) -> Float32[np.ndarray, "frame 8"]:
        """Weights over `ANCHORS_8`, rows summing to one.

        From the named emotions when there are any, else from the VAD posterior. At intensity 0 a row is exactly one-hot
        neutral; overdriven, the named weights pass one and neutral's turns negative (an extrapolation).
        """
        shares = self.mixture @ anchor_rows(self.names) if self.names else anchor_weights(self.vad)
        return scale_to_neutral(shares.astype(np.float64), self.intensity.astype(np.float64))


def _tidy(value: np.floating) -> float:
    return round(float(value), 6)
