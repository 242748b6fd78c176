"""What is got for what is asked: curves that make the strength of each generator linear.

A sweep asks a generator for an emotion at several strengths and a critic says how much of it is there. The curve from
asked to got, made monotone, is turned around: to get half of what full strength gives, ask for this much.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from affetto.conditioning.emotion import MAX_INTENSITY, Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import AffettoError, InvalidInputError
from affetto.runtime.files import atomic_path

EMBEDDED, NONE = "embedded", "none"
_MAX_BYTES = 2**20
_LEAST_SPAN = 0.05  # of the critic's scale: a curve that rises less says nothing
_STEEPEST = 4.0  # how much faster than the wish the asked strength may rise


@dataclass(frozen=True, kw_only=True, eq=False)
class AskGet:
    """One emotion of one generator: strengths asked for, and what a critic found, on its own scale."""

    asked: Float[np.ndarray, "step"]
    got: Float[np.ndarray, "step"]

    def __post_init__(self) -> None:
        if len(self.asked) < 2 or self.asked.shape != self.got.shape or np.any(np.diff(self.asked) <= 0):
            raise InvalidInputError(
                "a calibration curve needs two or more rising strengths with a finding each"
            )

    @property
    def shares(self) -> Float[np.ndarray, "step"]:
        """What is got, monotone, as a share of what full strength gives: 0 at none, 1 at full."""
        from affetto.conditioning.directions import isotonic  # torch: a scene's model is read without it

        rising = isotonic(self.got.astype(np.float64))
        span = rising[-1] - rising[0]
        return self.asked / self.asked[-1] if span < _LEAST_SPAN else (rising - rising[0]) / span

    def ask_for(self, wanted: float | int | Float[np.ndarray, "*point"]) -> Float[np.ndarray, "*point"]:
        """The strength to ask for so that `wanted` (0..1 of full) is got; beyond full, as much more as was wished."""
        shares, asked = self.shares, self.asked / self.asked[-1]
        kept = np.concatenate([[True], np.diff(shares) > 1e-6])
        wish = np.asarray(wanted, np.float64)
        found = np.interp(np.clip(wish, 0, 1), shares[kept], asked[kept])
        found = np.minimum(
            found, _STEEPEST * np.clip(wish, 0, 1)
        )  # nothing for nothing, whatever the critic says
        return np.where(wish > 1, wish, found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Ask-vs-get curves by modality (face, voice, music, portrait) and emotion."""

    curves: Mapping[str, Mapping[str, AskGet]]
    critics: Mapping[str, str]  # who judged, by modality

    def applied(self, track: EmotionTrack, modality: str) -> EmotionTrack:
        """The course whose strengths are what has to be asked for; emotions without a curve stay as they are."""
        curves = self.curves.get(modality)
        if not curves:
            return track

        def moved(emotion: Emotion) -> Emotion:
            named = {name: share for name, share in emotion.named().items() if name in curves}
            total = sum(named.values())
            if total <= 0 or emotion.intensity <= 0:
                return emotion
            asked = sum(
                share * float(curves[name].ask_for(emotion.intensity)) for name, share in named.items()
            )
            rest = 1.0 - min(total, 1.0)
            strength = asked + rest * emotion.intensity if total < 1 else asked / total
            return replace(emotion, intensity=float(np.clip(strength, 0.0, MAX_INTENSITY)))

        return replace(
            track, keyframes=tuple(replace(key, emotion=moved(key.emotion)) for key in track.keyframes)
        )

    @classmethod
    def named(cls, name: str | Path) -> "Calibration | None":
        """What comes with affetto (`embedded`), nothing (`none`), or the curves of a file."""
        if str(name) == NONE:
            return None
        if str(name) != EMBEDDED:
            return cls.load(name)
        with resources.as_file(resources.files("affetto.conditioning") / "data" / "calibration.json") as path:
            return cls.load(path)

    def save(self, path: str | Path) -> Path:
        """Write the curves as JSON."""
        document = {
            "format": "affetto-calibration",
            "version": 1,
            "critics": dict(self.critics),
            "curves": {
                modality: {
                    name: {"asked": _listed(curve.asked), "got": _listed(curve.got)}
                    for name, curve in by_name.items()
                }
                for modality, by_name in self.curves.items()
            },
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """The curves that `save` wrote; raises InvalidInputError for any other file."""
        path = Path(path)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise InvalidInputError(f"{path}: larger than {_MAX_BYTES >> 20} MiB: it is no calibration")
            document: Any = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != "affetto-calibration":
                raise KeyError("format")
            curves = {
                str(modality): {
                    str(name): AskGet(
                        asked=np.array(c["asked"], np.float64), got=np.array(c["got"], np.float64)
                    )
                    for name, c in by_name.items()
                }
                for modality, by_name in document["curves"].items()
            }
            critics = {str(name): str(told) for name, told in document["critics"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, AffettoError):
                told = str(error)
                raise InvalidInputError(told if str(path) in told else f"{path}: {told}") from error
            raise InvalidInputError(
                f"{path}: is no calibration: write one with `affetto evaluate --sweep`"
            ) from error
        return cls(curves=curves, critics=critics)


def _listed(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]
