"""The lip opening as a linear map of the blend shapes, for losses and directions that must be cheap."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from affetto.acting.closure import LipGap
from affetto.acting.visemes import pose


class LinearGap(nn.Module):
    """The lip opening of a head, linearised about an open mouth, as a fraction of the inter-pupil distance."""

    gain: Tensor

    def __init__(self, gain: Float[np.ndarray, "52"], bias: float) -> None:
        super().__init__()
        self.register_buffer("gain", torch.from_numpy(gain.astype(np.float32)))
        self.bias = bias

    @classmethod
    def of(cls, head: LipGap) -> "LinearGap":
        """The linear part of `head.lip_gap` about jawOpen .35."""
        about = pose({"jawOpen": 0.35})
        step = 0.1
        probes = np.concatenate([about[None], about + step * np.eye(len(about))]).astype(np.float32)
        gaps = np.asarray(head.lip_gap(probes), np.float64)
        gain = (gaps[1:] - gaps[0]) / step
        return cls(gain, float(gaps[0] - about @ gain))

    def forward(self, curves: Float[Tensor, "batch frame 52"]) -> Float[Tensor, "batch frame"]:
        """The opening, at least 0."""
        return torch.relu(curves @ self.gain + self.bias)
