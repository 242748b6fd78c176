"""FLAME's curves as values: expression and jaw frame by frame, at any rate, and as ARKit weights."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

from affetto.head.arkit_fit import ArkitFit
from affetto.head.flame import FlameModel
from affetto.head.flame_points import flame_expressions
from affetto.head.model import HeadModel
from affetto.provenance.manifests import Origin
from affetto.provenance.sealing import sealed
from affetto.runtime.errors import InvalidInputError, UsageError

_CHUNK = 50  # frames whose vertices are held at once
_TENDER = 4.0  # how much more the vertices near mouth and eyes count


@dataclass(frozen=True, kw_only=True)
class FlameCurves:
    """A performance in FLAME's space: `expression` coefficients and the `jaw`'s axis-angle in radians."""

    fps: float
    expression: Float32[np.ndarray, "frame mode"]
    jaw: Float32[np.ndarray, "frame 3"]
    shape: Float32[np.ndarray, "identity"] | None = None

    def __len__(self) -> int:
        return len(self.expression)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self) / self.fps

    def resampled(self, fps: float) -> "FlameCurves":
        """The same performance at another rate: cubic splines for expressions, the shortest turn for the jaw."""
        if fps <= 0:
            raise UsageError(f"fps must be positive, got {fps}")
        if fps == self.fps or len(self) < 2:
            return replace(self, fps=fps)
        times = np.arange(len(self)) / self.fps
        wanted = np.clip(np.arange(round(self.seconds * fps)) / fps, 0.0, times[-1])
        turned = Slerp(times, Rotation.from_rotvec(self.jaw))(wanted).as_rotvec()
        return replace(
            self,
            fps=fps,
            expression=CubicSpline(times, self.expression)(wanted).astype(np.float32),
            jaw=turned.astype(np.float32),
        )

    def poses(self) -> Float[np.ndarray, "frame 5 3"]:
        """The five joints' axis-angles: all at rest but the jaw."""
        poses = np.zeros((len(self), 5, 3))
        poses[:, 2] = self.jaw
        return poses

    def save(self, path: str | Path) -> Path:
        """Write an .npz with exp, jaw_pose, global_pose, shape and fps, as FLAME's users name them."""
        path = Path(path)
        if path.suffix.lower() != ".npz":
            raise UsageError(f"{path}: FLAME curves are written as .npz")
        arrays = {
            "exp": self.expression, "jaw_pose": self.jaw, "global_pose": np.zeros((len(self), 3), np.float32),
            "shape": np.zeros(0, np.float32) if self.shape is None else self.shape,
            "fps": np.float32(self.fps),
        }  # fmt: skip
        with sealed(path, Origin(generator="face")) as temporary:
            np.savez(temporary, **arrays)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "FlameCurves":
        """Read what `save` wrote; raises InvalidInputError for another file."""
        try:
            with np.load(path, allow_pickle=False) as held:
                shape = np.asarray(held["shape"], np.float32) if "shape" in held else np.zeros(0, np.float32)
                curves = cls(
                    fps=float(held["fps"]) if "fps" in held else 25.0,
                    expression=np.asarray(held["exp"], np.float32),
                    jaw=np.asarray(held["jaw_pose"], np.float32),
                    shape=shape.reshape(-1) if shape.size else None,
                )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InvalidInputError(f"{path}: holds no FLAME curves (exp, jaw_pose, fps): {error}") from error
        if curves.jaw.shape != (len(curves), 3) or curves.expression.ndim != 2 or not curves.fps > 0:
            raise InvalidInputError(f"{path}: exp must be (frame, mode) and jaw_pose (frame, 3)")
        if not (np.isfinite(curves.expression).all() and np.isfinite(curves.jaw).all()):
            raise InvalidInputError(f"{path}: the curves hold values that are not finite")
        return curves


class FlameToArkit:
    """FLAME's curves as 52 ARKit weights, by constrained least squares on the vertices of the user's FLAME."""

    def __init__(self, flame: FlameModel, head: HeadModel) -> None:
        self._flame = flame
        mesh = flame_expressions(flame, head)
        self._rest = flame.v_template
        moving = np.linalg.norm(mesh.deltas, axis=-1).max(axis=0)
        skin = flame.weights[:, 3:].sum(axis=1) < 0.5
        weight = np.where(skin & (moving > 0.02 * moving.max()), 1.0, 0.0)
        weight *= 1.0 + (_TENDER - 1.0) * np.clip(moving / np.quantile(moving[weight > 0], 0.95), 0.0, 1.0)
        self._fit = ArkitFit(mesh.deltas, weight)

    def __call__(self, curves: FlameCurves) -> Float32[np.ndarray, "frame 52"]:
        """The weights of every frame; identity does not matter, only motion counts."""
        if not len(curves):
            return np.zeros((0, 52), np.float32)
        poses, parts = curves.poses(), []
        for start in range(0, len(curves), _CHUNK):
            part = slice(start, start + _CHUNK)
            moved = self._flame.vertices(expression=curves.expression[part], pose=poses[part])
            parts.append(self._fit.project(moved - self._rest))
        return self._fit.solve(np.concatenate(parts))
