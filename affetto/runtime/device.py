"""Which device and precision a model runs in, decided by the caller once."""

import contextlib
from contextlib import AbstractContextManager

import torch

from affetto.runtime.errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes CUDA when there is one."""
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}: use auto, cpu or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"unsupported device {name!r}: use auto, cpu or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"no CUDA device {name!r} here ({torch.cuda.device_count()} found): use --device cpu"
        )
    return device


def resolve_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The compute dtype for `auto`, `fp32`, `bf16` or `fp16`; `auto` is bf16 on CUDA and fp32 on CPU."""
    if isinstance(name, torch.dtype):
        return name
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}: use auto, {', '.join(DTYPES)}")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("fp16 runs on CUDA only: use --dtype fp32 or bf16 on the CPU")
    return DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast to `dtype` on `device`; does nothing in fp32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
