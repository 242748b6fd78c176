"""Normalisation and masks for clips of different lengths in one batch.

The published networks normalise over whole planes, so what stands beside a clip in a batch would change it. Here every
clip has a span, the frames it would have if it were alone, and statistics are taken over that span only.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Mask = Bool[Tensor, "batch frame"]


def frame_mask(lengths: Int[Tensor, "batch"], frames: int) -> Mask:
    """True for the first `lengths` frames of each clip."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


class SpanGroupNorm(nn.GroupNorm):
    """Group normalisation whose mean and variance come from each clip's span; keys as in `nn.GroupNorm`.

    With as many groups as channels it is instance normalisation.
    """

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  the base calls it `input`
        self, hidden: Float[Tensor, "batch channel band frame"], span: Mask | None = None
    ) -> Float[Tensor, "batch channel band frame"]:
        """Normalise; without `span` every frame counts. Frames outside the span come out arbitrary."""
        if span is None:
            return super().forward(hidden)
        inside = rearrange(span, "b t -> b 1 1 1 t").float()
        with torch.autocast(hidden.device.type, enabled=False):
            grouped = rearrange(hidden.float(), "b (g c) m t -> b g c m t", g=self.num_groups)
            count = inside.sum(dim=(2, 3, 4), keepdim=True) * grouped.shape[2] * grouped.shape[3]
            mean = (grouped * inside).sum(dim=(2, 3, 4), keepdim=True) / count
            spread = ((grouped - mean) * inside).square().sum(dim=(2, 3, 4), keepdim=True) / count
            normal = (grouped - mean) * torch.rsqrt(spread + self.eps)
            flat = rearrange(normal, "b g c m t -> b (g c) m t")
            return torch.addcmul(
                rearrange(self.bias.float(), "c -> c 1 1"), flat, rearrange(self.weight.float(), "c -> c 1 1")
            )


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each frame; keys `gamma` and `beta`, eps 1e-4 as published."""

    def __init__(self, channels: int, eps: float = 1e-4) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch channel frame"]:
        """Normalise each frame on its own."""
        last = rearrange(hidden, "b c t -> b t c")
        return rearrange(
            F.layer_norm(last, (last.shape[-1],), self.gamma, self.beta, self.eps), "b t c -> b c t"
        )
