"""The transformer layer of EMOTE and FLINT: published names, attention whose ALiBi stays a float bias.

torch's own encoder layer must not be used here: in evaluation its fast path turns a float mask into a boolean one, so
that every frame sees only its nearest neighbours and the face shakes.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from affetto.runtime.attention import symmetric_alibi


class BiasedAttention(nn.Module):
    """Multi-head self-attention under the names of `nn.MultiheadAttention`, with an additive float bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, hidden: Float[Tensor, "batch frame width"], bias: Float[Tensor, "head frame frame"]
    ) -> Float[Tensor, "batch frame width"]:
        """Attend over the frames of each clip; `bias` is added to the scores."""
        mixed = F.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        q, k, v = rearrange(mixed, "b t (n h d) -> n b h t d", n=3, h=self.heads)
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)[None])
        return self.out_proj(rearrange(heard, "b h t d -> b t (h d)"))


class EncoderLayer(nn.Module):
    """A post-norm transformer layer with GELU, as `nn.TransformerEncoderLayer` names its parts."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = BiasedAttention(width, heads)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, hidden: Float[Tensor, "batch frame width"], bias: Float[Tensor, "head frame frame"]
    ) -> Float[Tensor, "batch frame width"]:
        """One layer."""
        hidden = self.norm1(hidden + self.dropout(self.self_attn(hidden, bias)))
        inner = self.linear2(self.dropout(F.gelu(self.linear1(hidden))))
        return self.norm2(hidden + self.dropout(inner))


class AlibiEncoder(nn.Module):
    """Layers that all see the symmetric ALiBi bias of a period: -slope * floor(|i - j| / period)."""

    def __init__(
        self, width: int, heads: int, hidden: int, *, layers: int, period: int, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.period = heads, period
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout) for _ in range(layers))

    def bias(self, frames: int, device: torch.device | None = None) -> Float[Tensor, "head frame frame"]:
        """The additive bias for so many frames."""
        return symmetric_alibi(self.heads, frames, period=self.period, device=device)

    def forward(self, hidden: Float[Tensor, "batch frame width"]) -> Float[Tensor, "batch frame width"]:
        """The hidden states after every layer."""
        bias = self.bias(hidden.shape[1], hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return hidden
