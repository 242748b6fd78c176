"""Which of torch's attention kernels runs, chosen by the caller and told in the result."""

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from affetto.runtime.errors import UsageError

Kernel = Literal["auto", "flash", "efficient", "cudnn", "math"]
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
_PREFERRED = ("flash", "efficient", "math")
_HEAD = 64  # width of the denoiser's heads


def runs(kernel: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel takes attention of the denoiser's kind on this device in this precision."""
    query = torch.zeros(1, 2, 64, _HEAD, device=device, dtype=dtype)
    try:
        with warnings.catch_warnings(), sdpa_kernel(BACKENDS[kernel]):
            warnings.simplefilter("ignore")  # torch explains each refusal in a warning
            F.scaled_dot_product_attention(query, query, query)
    except RuntimeError:
        return False
    return True


def chosen_kernel(kernel: str, device: torch.device, dtype: torch.dtype) -> str:
    """The kernel that will run: the one asked for, or the fastest that runs here.

    Raises UsageError for an unknown one, or when it does not run here.
    """
    if kernel not in get_args(Kernel):
        raise UsageError(f"unknown attention kernel {kernel!r}: use {', '.join(get_args(Kernel))}")
    if kernel == "auto":
        return next(name for name in _PREFERRED if runs(name, device, dtype))
    if not runs(kernel, device, dtype):
        short = str(dtype).removeprefix("torch.")
        raise UsageError(f"the attention kernel {kernel!r} does not run on {device} in {short}: use auto")
    return kernel


def with_kernel(kernel: Kernel) -> AbstractContextManager[object]:
    """Attention runs on this kernel inside; `auto` leaves the choice to torch, call by call.

    Where a call does not fit the kernel (a head too wide for flash), the plain one steps in.
    """
    return contextlib.nullcontext() if kernel == "auto" else _only(kernel)


@contextlib.contextmanager
def _only(kernel: str) -> Iterator[None]:
    with sdpa_kernel([BACKENDS[kernel], SDPBackend.MATH], set_priority=True):
        yield
