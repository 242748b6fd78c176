"""What an emotion critic heard or saw: courses of VAD and named emotions, and how good the critic itself is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from affetto.conditioning.anchors import ANCHORS_8, anchor_rows
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import measured_emotion
from affetto.conditioning.track import EmotionTrack, Keyframe


@dataclass(frozen=True, kw_only=True)
class CriticCard:
    """A critic and what is known of it: printed beside every score it gives."""

    name: str
    accuracy: str  # its own figure on data it never saw, with the chance level
    held_out: bool  # whether no generator here was conditioned, trained or chosen with it
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One medium as one critic reads it, at `times` seconds, on the lexical chart."""

    medium: str  # voice, face, music
    critic: CriticCard
    times: Float[np.ndarray, "frame"]
    vad: Float[np.ndarray, "frame 3"]
    names: tuple[str, ...]
    shares: Float[np.ndarray, "frame name"]  # probabilities, rows sum to 1
    weights: Float[np.ndarray, "frame"] | None = None  # how much each frame says (voice in it, say)
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def _weight(self) -> Float[np.ndarray, "frame"]:
        weight = np.ones(len(self.times)) if self.weights is None else self.weights + 1e-6
        return weight / weight.sum()

    @property
    def overall(self) -> Emotion:
        """The emotion of the whole."""
        return measured_emotion(np.clip(self._weight @ self.vad, -1, 1), self.mixture)

    @property
    def mixture(self) -> dict[str, float]:
        """The probability of each emotion over the whole."""
        return dict(zip(self.names, (self._weight @ self.shares).tolist(), strict=True))

    def anchors(self) -> Float[np.ndarray, "frame 8"]:
        """The named emotions told as the eight anchors."""
        return self.shares @ anchor_rows(self.names)

    def at(self, times: Float[np.ndarray, "moment"]) -> tuple[np.ndarray, np.ndarray]:
        """VAD (moment, 3) and anchors (moment, 8) between frames, ends held."""
        anchors = self.anchors()
        return (
            np.stack([np.interp(times, self.times, axis) for axis in self.vad.T], axis=1),
            np.stack([np.interp(times, self.times, column) for column in anchors.T], axis=1),
        )

    def track(self) -> EmotionTrack:
        """The measured course as a track, a keyframe a frame."""
        keys = []
        for time, vad, shares in zip(self.times, self.vad, self.shares, strict=True):
            mixture = dict(zip(self.names, shares.tolist(), strict=True))
            keys.append(
                Keyframe(time=float(max(time, 0.0)), emotion=measured_emotion(np.clip(vad, -1, 1), mixture))
            )
        return EmotionTrack(keyframes=tuple(keys))


def target_course(
    track: EmotionTrack, times: Float[np.ndarray, "frame"], *, window_s: float = 0.0
) -> tuple[Float[np.ndarray, "frame 3"], Float[np.ndarray, "frame 8"]]:
    """What is asked for at `times`: effective VAD and the eight anchors, overdrive cut at full.

    It is averaged over `window_s` seconds, as a critic with such a window reads even a perfect performance.
    """
    if window_s <= 0:
        batch = track.sample(times)
        return batch.effective_vad.astype(np.float64), _proper(batch.anchors())
    offsets = np.linspace(-0.5, 0.5, 9) * window_s
    grid = np.maximum(times[:, None] + offsets[None], 0.0)
    batch = track.sample(grid.ravel())
    vad = batch.effective_vad.astype(np.float64).reshape(*grid.shape, 3).mean(axis=1)
    return vad, _proper(batch.anchors()).reshape(*grid.shape, len(ANCHORS_8)).mean(axis=1)


def _proper(anchors: Float[np.ndarray, "frame 8"]) -> Float[np.ndarray, "frame 8"]:
    """Anchor weights as probabilities: what was overdriven is full."""
    kept = np.maximum(np.asarray(anchors, np.float64), 0.0)
    return kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-12)


def window_times(seconds: float, window_s: float, hop_s: float) -> list[tuple[float, float]]:
    """Start and stop of overlapping windows; one for what is shorter than a window."""
    starts = np.arange(0.0, max(seconds - window_s, 0.0) + 1e-6, hop_s).tolist()
    if starts[-1] + window_s < seconds - 0.25 * hop_s:
        starts.append(seconds - window_s)
    return [(start, min(start + window_s, seconds)) for start in starts]
