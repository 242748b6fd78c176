"""Cross-attention with decoupled adapters: the image, and beside it speech, emotion (and more) with weights of their own.

DICE-Talk's rule: out = image + sum over adapters of scale * attention(query, adapter), in the spatial blocks times the
face's mask (arXiv 2504.18087, as its code has it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenTable:
    """The different token sets of one condition, and which of them each frame of each sample takes."""

    rows: Float[Tensor, "row token width"]
    index: Int[Tensor, "sample frame"]

    def at(self, index: Int[Tensor, "sample frame"]) -> "TokenTable":
        """The same rows for other frames."""
        return TokenTable(rows=self.rows, index=index)


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioning:
    """Everything a block of the denoiser attends to; `known` holds keys and values that were projected before.

    `known[site]` has one (keys, values) pair for the image and one for each adapter, a row for each row of its table.
    """

    image: TokenTable
    adapters: tuple[TokenTable, ...]
    scales: tuple[float, ...]
    mask: Float[Tensor, "row column"] | None = None  # 0..1, at the size of the picture
    known: Mapping[str, Sequence[KeysValues]] | None = None

    @property
    def tables(self) -> tuple[TokenTable, ...]:
        """The image's table, then those of the adapters."""
        return (self.image, *self.adapters)


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteContext:
    """What one cross-attention sees: the conditioning, folded over time or not, and the mask at its size."""

    conditioning: Conditioning
    temporal: bool
    mask: Float[Tensor, "place"] | None = None

    @property
    def samples(self) -> int:
        """How many sets of keys there are: one a sample in time, one a frame in space."""
        index = self.conditioning.image.index
        return index.shape[0] if self.temporal else index.numel()

    def gathered(self, rows: Tensor, index: Int[Tensor, "sample frame"]) -> Tensor:
        """The rows that each frame takes; in time their mean over the window, which is what DICE-Talk attends to."""
        return rows[index].mean(1) if self.temporal else rows[index.flatten()]


class DecoupledAttention(nn.Module):
    """An attention processor for diffusers' `Attention`: keys and values of `slots` adapters beside the image's.

    In time, keys belong to the sample and not to the place: all places are folded into one long query, so that nothing is
    repeated for each pixel. One image token needs no query: a softmax over a single key is one.
    """

    def __init__(self, width: int, context: int, slots: int, *, site: str = "") -> None:
        super().__init__()
        self.site = site
        self.to_k_ip = nn.ModuleList(nn.Linear(context, width, bias=False) for _ in range(slots))
        self.to_v_ip = nn.ModuleList(nn.Linear(context, width, bias=False) for _ in range(slots))

    def project(self, attention: Attention, tables: Sequence[TokenTable]) -> list[KeysValues]:
        """Keys and values of every row of the image's table and of the adapters'."""
        image, *adapters = (table.rows for table in tables)
        to_key, to_value = cast(Any, attention.to_k), cast(Any, attention.to_v)
        pairs = [(to_key(image), to_value(image))]
        for key, value, rows in zip(self.to_k_ip, self.to_v_ip, adapters, strict=True):
            pairs.append((key(rows), value(rows)))
        return pairs

    def forward(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: SiteContext,
        attention_mask: None = None,
    ) -> Tensor:
        """The new hidden states (group place width); groups are samples times places in time, else samples x frames."""
        context = encoder_hidden_states
        groups, heads = len(hidden_states), attn.heads
        query = rearrange(
            attn.to_q(hidden_states), "(s p) q (h d) -> s h (p q) d", s=context.samples, h=heads
        )
        pairs = self._keys_values(attn, context)
        mixed = None
        for scale, (keys, values) in zip(context.conditioning.scales, pairs[1:], strict=True):
            if scale == 0:
                continue
            part = _attend(query, keys, values) * scale
            mixed = part if mixed is None else mixed + part
        if mixed is not None and context.mask is not None:
            mixed = mixed * context.mask.to(mixed.dtype)[None, :, None]
        base = pairs[0][1] if pairs[0][1].shape[1] == 1 else _attend(query, *pairs[0])
        mixed = base if mixed is None else base + mixed
        if mixed.shape[1] == 1:
            mixed = repeat(mixed, "s 1 w -> s n w", n=query.shape[2])
        out = rearrange(mixed, "s (p q) w -> (s p) q w", p=groups // context.samples)
        to_out = cast(Any, attn.to_out)
        return to_out[1](to_out[0](out))

    def _keys_values(self, attn: Attention, context: SiteContext) -> list[KeysValues]:
        conditioning = context.conditioning
        tables = conditioning.tables
        if conditioning.known is not None:
            known = conditioning.known[self.site]
            return [
                (context.gathered(keys, table.index), context.gathered(values, table.index))
                for table, (keys, values) in zip(tables, known, strict=True)
            ]
        used = [
            TokenTable(rows=context.gathered(table.rows, table.index), index=table.index) for table in tables
        ]
        return self.project(attn, used)


def _attend(
    query: Float[Tensor, "sample head query part"],
    keys: Float[Tensor, "sample key width"],
    values: Float[Tensor, "sample key width"],
) -> Float[Tensor, "sample query width"]:
    k, v = (rearrange(x, "s n (h d) -> s h n d", h=query.shape[1]) for x in (keys, values))
    return rearrange(F.scaled_dot_product_attention(query, k, v), "s h n d -> s n (h d)")


def mask_at(mask: Float[Tensor, "row column"], rows: int, columns: int) -> Float[Tensor, "place"]:
    """The mask at a block's size, place by place; bicubic, as the published code resizes it."""
    small = F.interpolate(mask[None, None].float(), size=(rows, columns), mode="bicubic")
    return small.flatten()
