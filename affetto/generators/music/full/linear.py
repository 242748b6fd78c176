"""Transformers with linear attention: whole sequences in chunks, or one word at a time at constant cost.

Attention with the feature map elu(x) + 1 (Katharopoulos et al. 2020, "Transformers are RNNs") is a ratio of two sums
over the past, so a decoder that keeps the sums computes exactly what the parallel form does. Layers come after
pytorch-fast-transformers, whose parameter names they keep: post-norm, a norm at the end.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

_CHUNK = 64
_EPS = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionState:
    """The two sums that stand for everything attended to: of keys times values, and of keys."""

    product: Float[Tensor, "batch head key value"]
    keys: Float[Tensor, "batch head key"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerState:
    """What one layer remembers: its own past (None before the first word), and the memory it reads, if any."""

    past: AttentionState | None = None
    memory: AttentionState | None = None


def full_attention(
    q: Float[Tensor, "batch head query key"],
    k: Float[Tensor, "batch head source key"],
    v: Float[Tensor, "batch head source value"],
) -> Float[Tensor, "batch head query value"]:
    """Every query attends to every source; features are positive already."""
    return read(q, AttentionState(product=k.transpose(-1, -2) @ v, keys=k.sum(-2)))


def read(
    q: Float[Tensor, "batch head query key"], state: AttentionState
) -> Float[Tensor, "batch head query value"]:
    """What queries find in the sums of a state."""
    norm = (q @ state.keys[..., None]) + _EPS
    return (q @ state.product) / norm


def causal_attention(
    q: Float[Tensor, "batch head word key"],
    k: Float[Tensor, "batch head word key"],
    v: Float[Tensor, "batch head word value"],
) -> Float[Tensor, "batch head word value"]:
    """Each word attends to itself and those before it; memory grows linearly with the words.

    Within chunks the masked product is formed, across chunks running sums are carried.
    """
    words = q.shape[-2]
    size = min(_CHUNK, words)
    rest = -words % size
    q, k, v = (
        rearrange(F.pad(each, (0, 0, 0, rest)), "b h (chunk word) d -> b h chunk word d", word=size)
        for each in (q, k, v)
    )
    product = k.transpose(-1, -2) @ v
    before = product.cumsum(2) - product  # of the chunks before
    total = k.sum(-2)
    keys = total.cumsum(2) - total
    inside = (q @ k.transpose(-1, -2)).tril()
    found = q @ before + inside @ v
    norm = (q @ keys[..., None]) + inside.sum(-1, keepdim=True) + _EPS
    return rearrange(found / norm, "b h chunk word d -> b h (chunk word) d")[..., :words, :]


class LinearAttention(nn.Module):
    """Multi-head linear attention; its sums are kept in float32."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        assert width % heads == 0, "the width is a multiple of the heads"
        self.heads = heads
        self.query_projection = nn.Linear(width, width)
        self.key_projection = nn.Linear(width, width)
        self.value_projection = nn.Linear(width, width)
        self.out_projection = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch word width"],
        source: Float[Tensor, "batch source width"],
        *,
        causal: bool,
    ) -> Float[Tensor, "batch word width"]:
        """What `x` finds in `source`, up to its own place when `causal`."""
        q, k, v = self._queries(x), *self._sources(source)
        with torch.autocast(x.device.type, enabled=False):
            found = causal_attention(q, k, v) if causal else full_attention(q, k, v)
        return self._out(found, x)

    def remember(
        self, source: Float[Tensor, "batch source width"], before: AttentionState | None = None
    ) -> AttentionState:
        """The state after attending to `source` too."""
        k, v = self._sources(source)
        with torch.autocast(source.device.type, enabled=False):
            product, keys = k.transpose(-1, -2) @ v, k.sum(-2)
        if before is None:
            return AttentionState(product=product, keys=keys)
        return AttentionState(product=before.product + product, keys=before.keys + keys)

    def recall(
        self, x: Float[Tensor, "batch word width"], state: AttentionState
    ) -> Float[Tensor, "batch word width"]:
        """What `x` finds in a state."""
        q = self._queries(x)
        with torch.autocast(x.device.type, enabled=False):
            found = read(q, state)
        return self._out(found, x)

    def _queries(self, x: Tensor) -> Float[Tensor, "batch head word key"]:
        return F.elu(self._heads(self.query_projection(x))) + 1.0

    def _sources(self, source: Tensor) -> tuple[Tensor, Tensor]:
        return F.elu(self._heads(self.key_projection(source))) + 1.0, self._heads(
            self.value_projection(source)
        )

    def _heads(self, x: Tensor) -> Float[Tensor, "batch head word key"]:
        return rearrange(x, "b n (h d) -> b h n d", h=self.heads).float()

    def _out(self, found: Tensor, x: Tensor) -> Float[Tensor, "batch word width"]:
        return self.out_projection(rearrange(found, "b h n d -> b n (h d)").to(x.dtype))


class LinearLayer(nn.Module):
    """A post-norm transformer layer; with `memory` it attends to a memory after its own sequence."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, *, memory: bool) -> None:
        super().__init__()
        self.attends = memory
        if memory:
            self.self_attention = LinearAttention(width, heads)
            self.cross_attention = LinearAttention(width, heads)
            self.norm3 = nn.LayerNorm(width)
        else:
            self.attention = LinearAttention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    @property
    def own(self) -> LinearAttention:
        """The attention to the sequence itself."""
        return self.self_attention if self.attends else self.attention

    def forward(
        self,
        x: Float[Tensor, "batch word width"],
        memory: Float[Tensor, "batch source width"] | None,
        *,
        causal: bool,
    ) -> Float[Tensor, "batch word width"]:
        """The sequence after this layer."""
        x = self.norm1(x + self.dropout(self.own(x, x, causal=causal)))
        if self.attends:
            assert memory is not None, "this layer reads a memory"
            x = self.norm2(x + self.dropout(self.cross_attention(x, memory, causal=False)))
        return self._transformed(x)

    def start(self, memory: Float[Tensor, "batch source width"] | None) -> LayerState:
        """The state before the first word."""
        if not self.attends:
            return LayerState()
        assert memory is not None, "this layer reads a memory"
        return LayerState(memory=self.cross_attention.remember(memory))

    def step(
        self, x: Float[Tensor, "batch 1 width"], state: LayerState
    ) -> tuple[Float[Tensor, "batch 1 width"], LayerState]:
        """The next word after this layer, and the state with it."""
        past = self.own.remember(x, state.past)
        x = self.norm1(x + self.own.recall(x, past))
        if state.memory is not None:
            x = self.norm2(x + self.cross_attention.recall(x, state.memory))
        return self._transformed(x), LayerState(past=past, memory=state.memory)

    def _transformed(self, x: Tensor) -> Float[Tensor, "batch word width"]:
        inner = self.linear2(self.dropout(F.gelu(self.linear1(x))))
        return (self.norm3 if self.attends else self.norm2)(x + self.dropout(inner))


class LinearTransformer(nn.Module):
    """A stack of layers with a norm at the end; `causal` for decoders, `memory` for those that read one."""

    def __init__(
        self,
        *,
        layers: int,
        width: int,
        heads: int,
        dropout: float,
        causal: bool,
        memory: bool = False,
    ) -> None:
        super().__init__()
        self.causal, self.heads = causal, heads
        self.layers = nn.ModuleList(
            LinearLayer(width, heads, 4 * width, dropout, memory=memory) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Float[Tensor, "batch word width"],
        memory: Float[Tensor, "batch source width"] | None = None,
    ) -> Float[Tensor, "batch word width"]:
        """The sequence after all layers."""
        for layer in self.layers:
            x = layer(x, memory, causal=self.causal)
        return self.norm(x)

    def start(self, memory: Float[Tensor, "batch source width"] | None = None) -> tuple[LayerState, ...]:
        """The states of all layers before the first word; a memory is read once, here."""
        assert self.causal, "only a causal transformer goes word by word"
        return tuple(_layer(layer).start(memory) for layer in self.layers)

    def step(
        self, x: Float[Tensor, "batch 1 width"], states: tuple[LayerState, ...]
    ) -> tuple[Float[Tensor, "batch 1 width"], tuple[LayerState, ...]]:
        """What `forward` gives for the next word, at a cost that does not grow with the words before."""
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = _layer(layer).step(x, state)
            after.append(state)
        return self.norm(x), tuple(after)


def _layer(module: nn.Module) -> LinearLayer:
    assert isinstance(module, LinearLayer)
    return module


class ScaledEmbedding(nn.Module):
    """An embedding times the square root of its width."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.lut = nn.Embedding(count, width)

    def forward(self, ids: Tensor) -> Tensor:
        """One vector for each id."""
        return self.lut(ids) * math.sqrt(self.lut.embedding_dim)


class Positions(nn.Module):
    """Adds sinusoids of the place in the sequence, up to 2000."""

    LONGEST = 2000

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        place = torch.arange(self.LONGEST, dtype=torch.float32)[:, None]
        turn = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width))
        table = torch.zeros(self.LONGEST, width)
        table[:, 0::2], table[:, 1::2] = torch.sin(place * turn), torch.cos(place * turn)
        self.register_buffer("pe", table[None])

    def forward(
        self, x: Float[Tensor, "batch word width"], first: int = 0
    ) -> Float[Tensor, "batch word width"]:
        """The sequence with its places, the first being `first`."""
        return self.dropout(x + self.get_buffer("pe")[:, first : first + x.shape[1]])


def positions(width: int, dropout: float) -> nn.Sequential:
    """`Positions` under the name they have in the published files."""
    return nn.Sequential(Positions(width, dropout))
