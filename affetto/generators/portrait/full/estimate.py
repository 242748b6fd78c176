"""How much memory a run will take, before it begins."""

from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from torch import nn

from affetto.generators.portrait.full.accounting import decoder_account, denoiser_account, weight_bytes
from affetto.generators.portrait.full.denoiser import TalkingDenoiser
from affetto.generators.portrait.full.ladder import Running

_SPARE = (
    1.15  # workspace of kernels and fragmentation, measured by nobody yet on a GPU: see docs/performance.md
)


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes on the device, part by part; `peak` is the worst stage with 15 % to spare."""

    denoiser_weights: int
    other_weights: int
    keys: int  # keys and values kept over the steps
    features: int  # deep features kept between steps
    latents: int
    denoise: int  # tensors of one batch of passes
    decode: int  # tensors of one chunk of frames
    idle_on_device: bool

    @property
    def peak(self) -> int:
        """The most that lies on the device at once."""
        kept = self.denoiser_weights + self.keys + self.features + self.latents + self.denoise
        decoding = self.latents + self.decode
        if self.idle_on_device:
            return int(_SPARE * (self.other_weights + max(kept, self.denoiser_weights + decoding)))
        return int(_SPARE * max(kept, self.other_weights + decoding))

    def line(self) -> str:
        """For a person."""
        parts = {
            "weights": self.denoiser_weights + self.other_weights, "keys": self.keys, "features": self.features,
            "denoising": self.denoise, "decoding": self.decode,
        }  # fmt: skip
        told = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in parts.items())
        return f"about {self.peak / 2**30:.1f} GiB ({told})"


def estimate_memory(
    denoiser: TalkingDenoiser,
    vae: AutoencoderKLTemporalDecoder,
    others: list[nn.Module],
    running: Running,
    *,
    frames: int,
    window: int,
    branches: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    reuse_every: int,
    key_bytes: int,
) -> MemoryEstimate:
    """The estimate for `frames` latent frames (padding included) of rows x columns latents."""
    together = branches if running.cut.branches_together else 1
    windows = min(running.cut.windows, -(-frames // window))
    call = denoiser_account(
        denoiser, samples=windows * together, frames=window, rows=rows, columns=columns, dtype=dtype
    )
    tile = running.decode.tile
    sides = (rows, columns) if tile is None else (min(rows, tile), min(columns, tile))
    picture = decoder_account(vae, frames=running.decode.chunk, rows=sides[0], columns=sides[1], dtype=dtype)
    wide = denoiser.config.block_out_channels[1]  # type: ignore[attr-defined]
    kept = frames * branches * wide * rows * columns * dtype.itemsize if reuse_every > 1 else 0
    return MemoryEstimate(
        denoiser_weights=weight_bytes(denoiser, dtype),
        other_weights=weight_bytes(vae, dtype) + sum(weight_bytes(each, dtype) for each in others),
        keys=key_bytes if running.keeps_keys else 0,
        features=kept if running.features_on_device else 0,
        latents=frames * 4 * rows * columns * 4 * (2 + branches),
        denoise=call.peak_bytes,
        decode=picture.peak_bytes,
        idle_on_device=running.idle_on_device,
    )


def free_bytes(device: torch.device) -> int | None:
    """What is free on a GPU; None on the CPU, where nobody can say."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
