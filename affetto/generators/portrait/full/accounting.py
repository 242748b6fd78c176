"""How many operations and how much memory a network takes, counted on tensors that have no memory behind them."""

import functools
import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from affetto.generators.portrait.full.attention import Conditioning, TokenTable
from affetto.generators.portrait.full.denoiser import TalkingDenoiser


@dataclass(frozen=True, kw_only=True)
class Account:
    """What one call takes: floating-point operations (a multiply-add is two), and bytes alive at the worst moment.

    `peak_bytes` counts the tensors, without the weights and without the workspace of the kernels.
    """

    flops: float
    peak_bytes: int


class _Attention(TorchFunctionMode):
    """Stands in for `scaled_dot_product_attention`: the kernels that never write the scores, or the one that does."""

    def __init__(self, *, writes_scores: bool) -> None:
        super().__init__()
        self.flops, self._writes = 0, writes_scores

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = (
            args[:3] if len(args) >= 3 else ((kwargs or {})[name] for name in ("query", "key", "value"))
        )
        pairs = query.shape[:-1].numel() * key.shape[-2]
        self.flops += 2 * pairs * (query.shape[-1] + value.shape[-1])
        if self._writes:  # scores and their softmax are both there for a moment
            scores = [query.new_empty(*query.shape[:-1], key.shape[-2]) for _ in range(2)]
            del scores
        return query.new_empty(*query.shape[:-1], value.shape[-1])


class _Memory(TorchDispatchMode):
    """Follows the storages that come to life and die."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # What is there before belongs to the caller, views of it too: weights are counted elsewhere.
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor) and given.untyped_storage() not in self._seen:
                self._seen[given.untyped_storage()] = 0
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self._follow(each)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        size = self._seen[storage] = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.live -= size


@torch.no_grad()
def account(call: Callable[[], object], *, writes_scores: bool = False) -> Account:
    """What `call` takes; everything it touches must lie on the meta device."""
    attention, memory = _Attention(writes_scores=writes_scores), _Memory()
    with FlopCounterMode(display=False) as counter, memory, attention:
        call()
    return Account(flops=float(counter.get_total_flops() + attention.flops), peak_bytes=memory.peak)


def empty_like(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A network of the same configuration without memory."""
    assert isinstance(module, ModelMixin)
    with init_empty_weights():
        empty = type(module).from_config(module.config)  # type: ignore[attr-defined]
    return nn.Module.to(empty, dtype=dtype).eval()


def weight_bytes(module: nn.Module, dtype: torch.dtype | None = None) -> int:
    """What the weights take, as they are or in another precision."""
    each = (p.numel() * (p.element_size() if dtype is None else dtype.itemsize) for p in module.parameters())
    return sum(each)


def denoiser_account(
    denoiser: TalkingDenoiser,
    *,
    samples: int,
    frames: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    writes_scores: bool = False,
    tokens: int = 32,
) -> Account:
    """What one call of the denoiser takes for `samples` windows of latents of rows x columns."""
    key = json.dumps(dict(denoiser.config), default=str, sort_keys=True)
    return _denoiser_account(
        type(denoiser),
        key,
        samples,
        frames,
        rows,
        columns,
        dtype,
        writes_scores,
        tokens,
        _Uncompared(denoiser),
    )


class _Uncompared:
    """Carries a value past a cache that must not look at it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Uncompared)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=32)
def _denoiser_account(
    _kind: type,
    _key: str,
    samples: int,
    frames: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    writes_scores: bool,
    tokens: int,
    network: _Uncompared,
) -> Account:
    empty = empty_like(network.value, dtype)
    width = network.value.config.cross_attention_dim
    device = torch.device("meta")

    def table(count: int) -> TokenTable:
        rows_ = torch.empty(samples * frames, count, width, device=device, dtype=dtype)
        index = torch.zeros(samples, frames, dtype=torch.long, device=device)
        return TokenTable(rows=rows_, index=index)

    slots = network.value.config.adapter_slots
    conditioning = Conditioning(
        image=table(1),
        adapters=tuple(table(tokens) for _ in range(slots)),
        scales=(1.0,) * slots,
        mask=torch.empty(rows * 8, columns * 8, device=device),
    )
    sample = torch.empty(samples, frames, 8, rows, columns, device=device, dtype=dtype)
    ids = torch.empty(samples, 3, device=device)
    level = torch.empty((), device=device)
    return account(lambda: empty(sample, level, conditioning, ids), writes_scores=writes_scores)


def decoder_account(
    vae: AutoencoderKLTemporalDecoder, *, frames: int, rows: int, columns: int, dtype: torch.dtype
) -> Account:
    """What decoding `frames` latents of rows x columns together takes."""
    key = json.dumps(dict(vae.config), default=str, sort_keys=True)
    return _decoder_account(key, frames, rows, columns, dtype, _Uncompared(vae))


@functools.lru_cache(maxsize=32)
def _decoder_account(
    _key: str, frames: int, rows: int, columns: int, dtype: torch.dtype, network: _Uncompared
) -> Account:
    empty = empty_like(network.value, dtype)
    latents = torch.empty(frames, 4, rows, columns, device="meta", dtype=dtype)
    return account(lambda: empty.decode(latents, num_frames=frames))  # type: ignore[attr-defined]
