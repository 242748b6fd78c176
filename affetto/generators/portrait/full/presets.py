"""How much time and memory a portrait takes: three presets, and the settings they differ in."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from affetto.generators.portrait.full.kernels import Kernel
from affetto.runtime.device import resolve_dtype
from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DicePreset:
    """Settings of a run. Those after `reuse_every` change nothing but time, memory and rounding."""

    name: str
    size: int = 512  # pixels of the shorter side
    steps: int = 25
    interpolate: bool = True  # else each of the 12.5 frames a second is shown twice
    reuse_every: int = 1  # steps that share the denoiser's deep features
    dtype: str = "auto"
    windows_at_once: int = 1
    branches_together: bool = True
    channels_last: bool = False
    compiled: bool = False
    kernel: Kernel = "auto"
    offload: Literal["none", "idle"] = "none"  # idle: a network lies on the device only while it works
    key_bytes: int = 2**30  # for keys and values that are kept over all steps

    def precision(self, device: torch.device) -> torch.dtype:
        """The precision on a GPU, fp16 unless told otherwise; on the CPU always fp32."""
        if device.type == "cpu":
            return torch.float32
        return torch.float16 if self.dtype == "auto" else resolve_dtype(self.dtype, device)


EXACT = DicePreset(name="exact", branches_together=False, offload="idle")
"""The published result in half its memory: 25 steps of every feature, fp16 on a GPU, branches in turn."""

FAST = replace(EXACT, name="fast", reuse_every=2, dtype="bf16", branches_together=True, channels_last=True)
"""Deep features are shared by two steps; bf16. `compiled=True` adds torch.compile, a minute before the first step."""

PREVIEW = replace(FAST, name="preview", size=256, steps=12, interpolate=False, reuse_every=3)
"""To see the acting: a quarter of the pixels, half the steps, no frames in between."""

PRESETS = {preset.name: preset for preset in (EXACT, FAST, PREVIEW)}


def get_preset(preset: str | DicePreset) -> DicePreset:
    """The preset called so, or the one given; raises UsageError for an unknown name."""
    if isinstance(preset, DicePreset):
        return preset
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: use {', '.join(PRESETS)}")
    return PRESETS[preset]
