"""How an emotion track reaches the music: a point on the music chart for every bar, and what it means for tempo and faders."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from affetto.conditioning.adapter import TensorSpec
from affetto.conditioning.charts import CHARTS, transport
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.generators.music.composer_net import FADERS
from affetto.runtime.errors import UsageError

NEUTRAL_BPM = 92.0
_SPREAD = 0.35  # of a class's own spread, how far a piece may lie from the centre of what was named
_TEMPO = np.array([0.06, 0.40, 0.04])  # of ln bpm, for each of valence, arousal, dominance
_FADERS = np.array(
    [  # valence, arousal, dominance: levels 0..8 away from the middle
        [0.3, 2.4, 0.2],  # rhythm
        [0.2, 2.8, 0.4],  # density
        [-0.3, 1.0, 1.2],  # polyphony
        [1.2, 0.6, -0.6],  # register
        [0.0, 2.8, 0.9],  # velocity
        [4.6, 0.0, 0.0],  # mode
    ]
)
"""Directions that studies of musical emotion agree on (Gabrielsson & Lindstrom 2010): arousal is fast, dense and loud,
valence is major and high, dominance is full and loud."""


def music_vad(
    track: str | Emotion | EmotionTrack | None, times: Float[np.ndarray, "bar"], *, seed: int = 0
) -> Float64[np.ndarray, "bar 3"]:
    """Where the track lies on the music chart at `times` (seconds); neutral, or intensity 0, is exactly the origin.

    A name is no point: which spot of its region (a surprise may be glad or alarmed) is drawn once for each piece from
    the chart's spread, in proportion to the intensity. Points given as numbers are kept. Half of an emotion lies half-way to
    its place on this chart: the way on the lexical chart would lead past other emotions (half happy is nearly tender).
    """
    batch = as_track(track).for_modality("music").sample(np.asarray(times, np.float64))
    zero = transport(np.zeros((1, 3)), "lexical", "music")
    full = transport(batch.vad.astype(np.float64), "lexical", "music") - zero
    moved = batch.intensity.astype(np.float64) * full
    here = np.abs(batch.effective_vad).max(axis=1, keepdims=True) > 0
    if not batch.names:
        return np.where(here, np.clip(moved, -1, 1), 0.0)
    chart = CHARTS["music"]
    spread = chart.posterior(full + zero)[:, :-1] @ chart.sd
    drawn = np.random.default_rng([seed, 2]).standard_normal(3).clip(-1.5, 1.5)
    named = 1.0 - batch.mixture[:, [batch.names.index("neutral")]] if "neutral" in batch.names else 1.0
    strength = np.clip(batch.intensity.astype(np.float64), 0, 1) * named
    return np.where(here, np.clip(moved + _SPREAD * strength * spread * drawn, -1, 1), 0.0)


def tempo_of(vad: Float[np.ndarray, "bar 3"]) -> Float64[np.ndarray, "bar"]:
    """The tempo an emotion asks for, quarter notes a minute."""
    return NEUTRAL_BPM * np.exp(vad @ _TEMPO)


def faders_of(vad: Float[np.ndarray, "bar 3"]) -> Float64[np.ndarray, "bar 6"]:
    """The level 0..8 an emotion asks of each of `FADERS`."""
    return np.clip(4.0 + vad @ _FADERS.T, 0.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class MusicAdapter:
    """Gives `emotion` (1, frame, 9): valence, arousal, dominance on the music chart and the levels of six faders.

    At intensity 0 every frame is the null row, bit for bit: zeros and middle levels.
    """

    name: str = "emotion"
    seed: int = 0

    @property
    def width(self) -> int:
        """The size of the last axis."""
        return 3 + len(FADERS)

    @property
    def schema(self) -> Mapping[str, TensorSpec]:
        """One tensor (batch, frame, 9)."""
        meaning = "[V, A, D on the music chart, " + ", ".join(FADERS) + " (0..8)]"
        spec = TensorSpec(axes=("batch", "frame", "width"), sizes=(None, None, self.width), meaning=meaning)
        return MappingProxyType({self.name: spec})

    def __call__(
        self,
        track: str | Emotion | EmotionTrack | None,
        *,
        length: int,
        fps: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The features of `track` for `length` frames at `fps`; raises UsageError for an impossible rate or length."""
        if length < 0 or fps <= 0:
            raise UsageError(f"conditioning needs length >= 0 and fps > 0, got {length} frames at {fps}")
        vad = music_vad(track, np.arange(length, dtype=np.float64) / fps, seed=self.seed)
        features = np.concatenate([vad, faders_of(vad)], axis=1)
        return {self.name: torch.from_numpy(features)[None].to(device=device, dtype=dtype)}

    def null(
        self,
        batch: int = 1,
        *,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """The features of no emotion for `batch` clips of `length` frames."""
        features = torch.zeros(batch, length, self.width, device=device, dtype=dtype)
        features[..., 3:] = 4.0
        return {self.name: features}
