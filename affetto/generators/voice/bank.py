"""What a corpus of acted speech teaches about each emotion: the mean change of the controls, and a way in latent space."""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.ndimage import gaussian_filter1d

from affetto.conditioning.batch import EmotionBatch
from affetto.conditioning.charts import CHARTS, transport
from affetto.conditioning.directions import DirectionalLatents
from affetto.conditioning.lexicon import lookup
from affetto.generators.voice.controls import ControlResidual, VoiceControls
from affetto.generators.voice.speaker import SEMITONE, SpeakerStatistics, speaker_statistics
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.weights.store import read_arrays, save_tensors, weight_path

WEIGHTS_ID = "voice-bank"
FORMAT = "affetto-voice-bank-1"
CRYING = "sad-crying"
NAMES = ("angry", "happy", "sad", "fear", "disgusted", "surprised", "bored", "calm", CRYING)
"""The emotions of every bank; `sad` is the low, depressed form, `sad-crying` the high one."""

ROLES = ("voiced", "unvoiced", "pause")
"""What a frame does; each emotion changes them differently."""

CRYING_VAD = (-0.55, 0.3, -0.55)
"""Where crying lies on the voice chart (ours; the chart itself has only the low form of sadness)."""

_CHART_NAMES = {"relaxed": "calm"}
_SHARES: dict[str, dict[str, float]] = {
    "neutral": {},
    "tender": {"calm": 0.6, "happy": 0.4},
    "excited": {"happy": 1.0},
    "proud": {"happy": 0.7},
    "contempt": {"disgusted": 0.6, "bored": 0.3},
}
"""What neutral and those classes of the chart that are no emotion of a bank are made of."""

_LOW_SAD, _HIGH_SAD = -0.3, 0.1  # arousal on the voice chart between which sadness turns from low to crying
_CHARGE, _NARROWNESS, _ROUNDS = 0.01, 8.0, 40
_PAUSE_DB, _PAUSE_SLOPE_DB = (
    38.0,
    10.0,
)  # how far below the speech level a frame is all pause, and over how many dB
_CONTOUR_LIMIT = 12.0  # semitones from the mean beyond which pitch is not spread further


def bank_vad() -> Float[np.ndarray, "name 3"]:
    """Where the emotions of a bank lie on the voice chart."""
    chart = CHARTS["voice"]
    places = {
        **{_CHART_NAMES.get(name, name): chart.mean_of(name) for name in chart.names},
        CRYING: CRYING_VAD,
    }
    return np.array([places[name] for name in NAMES], np.float64)


def _by_place(vad: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point name"]:
    """Weights of lexical VAD points: the emotions that together lie there on the voice chart, those of its direction first.

    Non-negative ridge regression of the point on the places of `NAMES`, each charged by how far its direction is off.
    It grows in proportion to the distance from neutral, until all weights together reach 1.
    """
    chart = CHARTS["voice"]
    rest = chart.mean_of("neutral")
    points = transport(np.asarray(vad, np.float64), "lexical", "voice") - rest
    places = bank_vad() - rest
    length = np.linalg.norm(points, axis=1, keepdims=True)
    radius = np.linalg.norm(places, axis=1)
    cosine = points @ (places / radius[:, None]).T / np.maximum(length, 1e-9)
    charge = _CHARGE * radius**2 * np.exp(_NARROWNESS * (1.0 - cosine))
    weights = np.zeros((len(points), len(NAMES)))
    rest_of = points.copy()
    for _ in range(_ROUNDS):
        for k in range(len(NAMES)):
            along = rest_of @ places[k] + weights[:, k] * radius[k] ** 2
            new = np.maximum(along / (radius[k] ** 2 + charge[:, k]), 0.0)
            rest_of += (weights[:, k] - new)[:, None] * places[k]
            weights[:, k] = new
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)


@lru_cache(maxsize=512)
def _term_row(term: str) -> tuple[float, ...]:
    name = _CHART_NAMES.get(term, term)
    shares = {name: 1.0} if name in NAMES else _SHARES.get(name)
    if shares is None:
        return tuple(_by_place(np.array([lookup(term).vad], np.float64))[0])
    return tuple(shares.get(other, 0.0) for other in NAMES)


def emotion_weights(batch: EmotionBatch) -> Float[np.ndarray, "frame name"]:
    """How much of each of `NAMES` the frames ask for; all zero at intensity 0 and for neutral.

    Named emotions count by their names, others by where their VAD lies on the voice chart; intensity multiplies. Named
    sadness turns from its low form to crying as the arousal beside it rises.
    """
    vad = batch.vad.astype(np.float64)
    if not batch.names:
        return _by_place(vad) * batch.intensity.astype(np.float64)
    weights = batch.mixture.astype(np.float64) @ np.array(
        [_term_row(name) for name in batch.names], np.float64
    )
    arousal = transport(vad, "lexical", "voice")[:, 1]
    part = np.clip((arousal - _LOW_SAD) / (_HIGH_SAD - _LOW_SAD), 0.0, 1.0)
    crying = weights[:, NAMES.index("sad")] * part * part * (3 - 2 * part)
    weights[:, NAMES.index("sad")] -= crying
    weights[:, NAMES.index(CRYING)] += crying
    return weights * batch.intensity.astype(np.float64)


def frame_roles(controls: VoiceControls, level: float) -> Float[np.ndarray, "frame 3"]:
    """How much each frame is voiced, unvoiced and pause; rows sum to 1. `level` is that of the speech in dB."""
    loud = np.clip((controls.energy.astype(np.float64) - level + _PAUSE_DB) / _PAUSE_SLOPE_DB, 0.0, 1.0)
    voiced = controls.voiced.astype(np.float64) * loud
    roles = np.stack([voiced, loud - voiced, 1.0 - loud], axis=1)
    return gaussian_filter1d(roles, 2.0, axis=0, mode="nearest")


@dataclass(frozen=True, kw_only=True, eq=False)
class VoiceBank:
    """For each of `names`, what it does to a neutral voice at full strength.

    `residual` is the mean change of the 30 controls for each role of a frame; `pitch_range` the natural log of the
    gain on the melody's excursions; `pitch_slope` the change of the pitch shift for each semitone that a speaker's mean
    pitch lies above 160 Hz; `level_db` what the emotion does to loudness (apart from `residual`, which keeps the level).
    """

    residual: Float[np.ndarray, "name 3 30"]
    role_share: Float[np.ndarray, "3"]
    pitch_slope: Float[np.ndarray, "name"]
    pitch_range: Float[np.ndarray, "name"]
    level_db: Float[np.ndarray, "name"]
    axes: Float[np.ndarray, "axis 256"]  # principal axes of the embeddings
    directions: DirectionalLatents
    derived: tuple[str, ...] = ()  # emotions that the corpus does not hold
    about: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = NAMES

    @classmethod
    def from_pretrained(cls, name: str | Path = "embedded") -> "VoiceBank":
        """The embedded bank, or one that `affetto train voice-bank` wrote; InvalidInputError for any other file."""
        path = weight_path(WEIGHTS_ID) if str(name) == "embedded" else Path(name)
        if not path.is_file():
            raise UsageError(f"no voice bank at {name}: use embedded or the path of a .safetensors file")
        arrays, metadata = read_arrays(path)
        if metadata.get("bank") != FORMAT:
            raise InvalidInputError(f"{path}: holds no voice bank: make one with `affetto train voice-bank`")
        try:
            values = {
                key.removeprefix("bank."): array.astype(np.float64)
                for key, array in arrays.items()
                if key.startswith("bank.")
            }
            bank = cls(
                **values,
                directions=DirectionalLatents.load(path),
                derived=tuple(json.loads(metadata["derived"])),
                about=json.loads(metadata["about"]),
                names=tuple(json.loads(metadata["names"])),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidInputError(f"{path}: the bank is incomplete ({error}): train it again") from error
        if bank.names != NAMES or bank.residual.shape != (len(NAMES), len(ROLES), 30):
            raise InvalidInputError(f"{path}: the bank has other emotions than this version: train it again")
        return bank

    def save(self, path: str | Path) -> Path:
        """Write the bank as safetensors; `DirectionalLatents.load` reads its directions from the same file."""
        tensors, metadata = self.directions.tensors()
        arrays = {
            f"bank.{key}": np.asarray(getattr(self, key), np.float32)
            for key in ("residual", "role_share", "pitch_slope", "pitch_range", "level_db", "axes")
        }
        metadata |= {
            "bank": FORMAT, "names": json.dumps(self.names), "derived": json.dumps(self.derived),
            "about": json.dumps(self.about, sort_keys=True),
        }  # fmt: skip
        return save_tensors(path, {**tensors, **arrays}, metadata)

    def weights(self, batch: EmotionBatch) -> Float[np.ndarray, "frame name"]:
        """How much of each emotion the frames ask for; see `emotion_weights`."""
        return emotion_weights(batch)

    def mean_residual(
        self, weights: Float[np.ndarray, "frame name"], roles: Float[np.ndarray, "frame 3"] | None = None
    ) -> Float[np.ndarray, "frame 30"]:
        """The mean change of the controls for weights over `names`: that of an average frame, or by the `roles` given."""
        if roles is None:
            return weights @ np.einsum("r,erc->ec", self.role_share, self.residual)
        return np.einsum("te,tr,erc->tc", weights, roles, self.residual, optimize=True)

    def level(self, weights: Float[np.ndarray, "frame name"]) -> Float[np.ndarray, "frame"]:
        """How much louder, in dB, the emotions would be spoken."""
        return weights @ self.level_db

    def direction(
        self, weights: Float[np.ndarray, "name"], place: Float[np.ndarray, "256"]
    ) -> Float32[np.ndarray, "256"]:
        """e_d: what to add to the embedding `place` (e_s) to give it these weights; calibrated, zero for zeros."""
        here = torch.from_numpy(np.asarray(place, np.float32))
        asked = {name: float(weight) for name, weight in zip(self.names, weights, strict=True) if weight}
        return (self.directions.apply(here, asked) - here).numpy() if asked else np.zeros(256, np.float32)

    def reference_direction(
        self, place: Float[np.ndarray, "256"], reference: Float[np.ndarray, "256"]
    ) -> Float32[np.ndarray, "256"]:
        """e_d toward the embedding of a reference recording, freed of noise by the principal axes (EmoReg)."""
        way = np.asarray(reference, np.float64) - np.asarray(place, np.float64)
        return (way @ self.axes.T @ self.axes).astype(np.float32)

    def linear_residual(
        self,
        controls: VoiceControls,
        weights: Float[np.ndarray, "frame name"],
        *,
        speaker: SpeakerStatistics | None = None,
    ) -> ControlResidual:
        """The linear engine: each frame moved by the mean change of its role, the melody stretched about the speaker's mean.

        `speaker` (default: read from `controls`) holds the level and the mean pitch. Frames of weight 0 stay as they are.
        """
        if weights.shape != (len(controls), len(self.names)):
            raise UsageError(f"weights must be ({len(controls)}, {len(self.names)}), got {weights.shape}")
        speaker = speaker or speaker_statistics(controls)
        stack = self.mean_residual(weights, frame_roles(controls, speaker.level))
        above = np.clip((speaker.log_f0 - np.log(160.0)) * SEMITONE, -9.0, 9.0)
        contour = (controls.log_f0.astype(np.float64) - speaker.log_f0) * SEMITONE
        contour = np.clip(contour, -_CONTOUR_LIMIT, _CONTOUR_LIMIT)
        # pitch is the same for all roles: a melody runs on under its unvoiced frames
        pitch = self.residual[:, ROLES.index("voiced"), 0] + above * self.pitch_slope
        stack[:, 0] = weights @ pitch + np.expm1(weights @ self.pitch_range) * contour
        return ControlResidual.from_stack(stack.astype(np.float32))
