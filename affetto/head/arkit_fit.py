"""Moving vertices as 52 ARKit weights: least squares with bounds, sparse, smooth in time, even on both sides."""

from dataclasses import dataclass

import numpy as np
from einops import einsum, rearrange
from jaxtyping import Float, Float32

from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX

LOOKS = tuple(ARKIT_INDEX[name] for name in ARKIT_52 if "Look" in name)
_CLOSE, _OPEN = ARKIT_INDEX["mouthClose"], ARKIT_INDEX["jawOpen"]
_ALONE = (*LOOKS, ARKIT_INDEX["tongueOut"])


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How strongly each wish counts, as shares of the shapes' mean squared size."""

    sparse: float = 0.004  # L1: fewer shapes that say the same
    smooth: float = 0.02  # squared change from frame to frame
    even: float = 0.004  # squared difference of left and right
    steps: int = 300


class ArkitFit:
    """Solves for weights 0..1 with `mouthClose` at most `jawOpen`; gaze and tongue stay 0, FLAME has neither.

    min |B w - d|^2 + a sum w + b |w_t - w_t-1|^2 + c |w_left - w_right|^2, by accelerated projected gradients (Beck and
    Teboulle 2009) over all frames of a clip at once.
    """

    def __init__(
        self,
        deltas: Float32[np.ndarray, "52 vertex 3"],
        weight: Float[np.ndarray, "vertex"] | None = None,
        options: FitOptions | None = None,
    ) -> None:
        """`deltas` are what each shape adds to the vertices, `weight` how much each vertex counts."""
        self.options = options or FitOptions()
        count = np.ones(deltas.shape[1]) if weight is None else np.asarray(weight, np.float64)
        self._weight = (count / max(count.sum(), 1e-12)).astype(np.float32)
        self._basis = deltas * self._weight[None, :, None]
        gram = einsum(self._basis, deltas, "a v xyz, b v xyz -> a b").astype(np.float64)
        self._allowed = np.diag(gram) > 1e-12 * max(np.diag(gram).max(), 1e-30)
        self._allowed[list(_ALONE)] = False
        self._scale = float(np.diag(gram)[self._allowed].mean()) if self._allowed.any() else 1.0
        self._quadratic = gram + self.options.even * self._scale * _evenness()

    def project(self, moved: Float[np.ndarray, "frame vertex 3"]) -> Float[np.ndarray, "frame 52"]:
        """The scalar products with every shape: all that the solution needs to know of a stretch of frames."""
        flat = rearrange(self._basis, "shape v xyz -> (v xyz) shape")
        return rearrange(moved, "frame v xyz -> frame (v xyz)").astype(np.float32) @ flat

    def solve(self, projected: Float[np.ndarray, "frame 52"]) -> Float32[np.ndarray, "frame 52"]:
        """The weights of consecutive frames."""
        wish = np.asarray(projected, np.float64) - self.options.sparse * self._scale / 2
        smooth = self.options.smooth * self._scale
        rate = 1.0 / (np.linalg.eigvalsh(self._quadratic)[-1] + 4.0 * smooth)
        weights = np.zeros_like(wish)
        ahead, momentum = weights, 1.0
        for _ in range(self.options.steps):
            slope = ahead @ self._quadratic - wish + smooth * _roughness(ahead)
            new = self._bounded(ahead - rate * slope)
            following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
            ahead = new + (momentum - 1.0) / following * (new - weights)
            weights, momentum = new, following
        return weights.astype(np.float32)

    def _bounded(self, weights: Float[np.ndarray, "frame 52"]) -> Float[np.ndarray, "frame 52"]:
        """The nearest allowed weights."""
        bounded = np.where(self._allowed, weights, 0.0)
        mean = (bounded[:, _CLOSE] + bounded[:, _OPEN]) / 2.0
        crossed = bounded[:, _CLOSE] > bounded[:, _OPEN]
        if self._allowed[_CLOSE] and self._allowed[_OPEN]:
            bounded[crossed, _CLOSE] = bounded[crossed, _OPEN] = mean[crossed]
        return np.clip(bounded, 0.0, 1.0)


def _evenness() -> Float[np.ndarray, "52 52"]:
    """The quadratic form of squared differences between the left and the right shape of each pair."""
    form = np.zeros((len(ARKIT_52), len(ARKIT_52)))
    for name, left in ARKIT_INDEX.items():
        if name.endswith("Left") and (right := ARKIT_INDEX.get(f"{name[:-4]}Right")) is not None:
            form[left, left] += 1.0
            form[right, right] += 1.0
            form[left, right] -= 1.0
            form[right, left] -= 1.0
    return form


def _roughness(weights: Float[np.ndarray, "frame 52"]) -> Float[np.ndarray, "frame 52"]:
    """Half the gradient of the summed squared changes from frame to frame."""
    change = np.diff(weights, axis=0)
    slope = np.zeros_like(weights)
    slope[:-1] -= change
    slope[1:] += change
    return slope
