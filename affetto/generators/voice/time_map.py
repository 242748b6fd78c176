"""Where each moment of a recording went when its timing changed."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from affetto.media.files import checked_size
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path

_MAX_BYTES = 64 * 2**20
_SAME_S = 1e-9  # knots that lie on a straight line within this need not be kept


@dataclass(frozen=True, kw_only=True)
class TimeMap:
    """Source seconds to output seconds and back, piecewise linear; both sides rise, and go on as they are outside."""

    source: Float[np.ndarray, "knot"]
    output: Float[np.ndarray, "knot"]

    def __post_init__(self) -> None:
        sides = (self.source, self.output)
        if len(self.source) < 2 or any(not np.all(np.diff(side) > 0) for side in sides):
            raise InvalidInputError(
                "a time map needs two or more knots that rise on both sides: make it again"
            )

    @classmethod
    def identity(cls, seconds: float | int) -> "TimeMap":
        """The map under which nothing moves."""
        ends = np.array([0.0, max(seconds, 1e-3)])
        return cls(source=ends, output=ends.copy())

    @classmethod
    def from_log_rate(cls, log_rate: Float[np.ndarray, "frame"], fps: float) -> "TimeMap":
        """The map along which each frame lasts exp(log_rate) times as long; the start stays at 0."""
        rate = np.asarray(log_rate, np.float64)
        if len(rate) < 2:
            return cls.identity(1.0 / fps)
        extra = np.expm1(0.5 * (rate[1:] + rate[:-1])) / fps
        source = np.arange(len(rate)) / fps
        moved = source + np.concatenate([[0.0], np.cumsum(extra)])
        kept = np.concatenate([[True], np.abs(np.diff(extra)) > _SAME_S, [True]])
        return cls(source=source[kept], output=moved[kept])

    @property
    def seconds(self) -> float:
        """How long the output lasts, in seconds, when the source lasts to the last knot."""
        return float(self.output[-1])

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return bool(np.all(self.source == self.output))

    def shift_at(self, times: Float[np.ndarray, "*time"] | float | int) -> Float[np.ndarray, "*time"]:
        """Seconds by which each source time comes later in the output; constant beyond the ends."""
        return np.asarray(np.interp(times, self.source, self.output - self.source))

    def to_output(self, times: Float[np.ndarray, "*time"] | float | int) -> Float[np.ndarray, "*time"]:
        """The output seconds of source seconds."""
        times = np.asarray(times, np.float64)
        return np.asarray(times + self.shift_at(times))

    def to_source(self, times: Float[np.ndarray, "*time"] | float | int) -> Float[np.ndarray, "*time"]:
        """The source seconds of output seconds."""
        times = np.asarray(times, np.float64)
        return np.asarray(times - np.interp(times, self.output, self.output - self.source))

    def save(self, path: str | Path) -> Path:
        """Write the knots as JSON; returns the path."""
        path = Path(path)
        knots = {"source_seconds": self.source.tolist(), "output_seconds": self.output.tolist()}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(knots, indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> "TimeMap":
        """The map that `save` wrote; raises InvalidInputError for any other file."""
        path = Path(path)
        checked_size(path, _MAX_BYTES, kind="time map")
        try:
            knots = json.loads(path.read_text(encoding="utf-8"))
            source, output = (np.array(knots[f"{side}_seconds"], np.float64) for side in ("source", "output"))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise InvalidInputError(
                f"{path}: is no time map: use the JSON written beside the sound"
            ) from error
        if source.ndim != 1 or source.shape != output.shape or not np.isfinite([source, output]).all():
            raise InvalidInputError(f"{path}: is no time map: both sides need the same count of numbers")
        try:
            return cls(source=source, output=output)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: {error}") from error
