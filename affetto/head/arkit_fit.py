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
    """How strongly each wish counts when all shapes are scaled to the same size, so that small ones are not starved."""

    sparse: float = (
        0.01  # L1: one shape rather than several; of the usual size, a shape alone loses half of this
    )
    smooth: float = 0.1  # squared change from frame to frame
    even: float = 0.02  # squared difference of left and right
    steps: int = 200


class ArkitFit:
    """Solves for weights 0..1 with `mouthClose` at most `jawOpen`; gaze and tongue stay 0, FLAME has neither.

    min |B w - d|^2 + a sum w + b |w_t - w_t-1|^2 + c |w_left - w_right|^2, every shape scaled to the same size, by
    accelerated projected gradients (Beck and Teboulle 2009) over all frames of a clip at once.
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
        share = (count / max(count.sum(), 1e-12)).astype(np.float32)
        self._basis = deltas * share[None, :, None]
        gram = einsum(self._basis, deltas, "a v xyz, b v xyz -> a b").astype(np.float64)
        self._size = np.sqrt(np.diag(gram))
        self._allowed = self._size > 1e-4 * max(float(self._size.max()), 1e-30)
        self._allowed[list(_ALONE)] = False
        self._usual = float(np.median(self._size[self._allowed])) if self._allowed.any() else 0.0
        self._size[~self._allowed] = 1.0
        scaled = gram / self._size[:, None] / self._size
        scaled[~self._allowed] = scaled[:, ~self._allowed] = 0.0
        self._quadratic = scaled + self.options.even * _evenness()
        self._rate = 1.0 / (float(np.linalg.eigvalsh(self._quadratic)[-1]) + 4.0 * self.options.smooth)

    def project(self, moved: Float[np.ndarray, "frame vertex 3"]) -> Float[np.ndarray, "frame 52"]:
        """The scalar products with every shape: all that the solution needs to know of a stretch of frames."""
        flat = rearrange(self._basis, "shape v xyz -> (v xyz) shape")
        return rearrange(moved, "frame v xyz -> frame (v xyz)").astype(np.float32) @ flat

    def solve(self, projected: Float[np.ndarray, "frame 52"]) -> Float32[np.ndarray, "frame 52"]:
        """The weights of consecutive frames."""
        options = self.options
        wish = np.asarray(projected, np.float64) / self._size - options.sparse / 2.0 * self._usual
        amounts = np.zeros_like(wish)  # weights times the sizes of their shapes
        ahead, momentum = amounts, 1.0
        for _ in range(options.steps):
            slope = ahead @ self._quadratic - wish + options.smooth * _roughness(ahead)
            new = self._bounded(ahead - self._rate * slope)
            following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
            ahead = new + (momentum - 1.0) / following * (new - amounts)
            amounts, momentum = new, following
        weights = amounts / self._size
        weights[:, _CLOSE] = np.minimum(weights[:, _CLOSE], weights[:, _OPEN])
        return weights.astype(np.float32)

    def _bounded(self, amounts: Float[np.ndarray, "frame 52"]) -> Float[np.ndarray, "frame 52"]:
        """Close to the nearest allowed amounts: within 0..1, and the lips no more closed than the jaw is open."""
        bounded = np.where(self._allowed, amounts, 0.0)
        if self._allowed[_CLOSE] and self._allowed[_OPEN]:
            normal = np.array([1.0 / self._size[_CLOSE], -1.0 / self._size[_OPEN]])
            over = np.maximum(bounded[:, [_CLOSE, _OPEN]] @ normal, 0.0) / (normal @ normal)
            bounded[:, [_CLOSE, _OPEN]] -= over[:, None] * normal
        return np.clip(bounded, 0.0, self._size)


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
