"""Attention through `scaled_dot_product_attention`, with ALiBi as an explicit float bias.

torch's TransformerEncoder fast path turns a float mask into a boolean one, which silently breaks ALiBi; calling
the kernel directly keeps it a bias.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


def alibi_slopes(heads: int) -> Float[Tensor, "head"]:
    """Geometric slopes 2^(-8/H), 2^(-16/H) ... of Press et al. 2022, one for each head."""
    return 2.0 ** (-8.0 / heads * torch.arange(1, heads + 1, dtype=torch.float32))


def symmetric_alibi(
    heads: int, frames: int, *, period: int = 1, device: torch.device | None = None
) -> Float[Tensor, "head frame frame"]:
    """The bias -slope * floor(|i - j| / period): nearer frames weigh more, on both sides (EMOTE, FaceFormer)."""
    position = torch.arange(frames, device=device)
    distance = (position[:, None] - position[None, :]).abs().div(period, rounding_mode="floor")
    return -alibi_slopes(heads).to(position.device)[:, None, None] * distance


class SelfAttention(nn.Module):
    """Multi-head self-attention whose additive bias stays in floating point on every kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        hidden: Float[Tensor, "batch frame width"],
        bias: Float[Tensor, "*batch_head frame frame"] | None = None,
    ) -> Float[Tensor, "batch frame width"]:
        """Attend over the frames of each clip; `bias` is added to the scores (minus infinity hides a frame)."""
        q, k, v = rearrange(self.qkv(hidden), "b t (n h d) -> n b h t d", n=3, h=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
        return self.out(rearrange(mixed, "b h t d -> b t (h d)"))
