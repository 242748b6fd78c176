"""From latents to frames, one chunk after the other: decode, put frames between, cut to length; memory stays flat."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from affetto.generators.portrait.full.interpolation import FrameInterpolator
from affetto.runtime.device import autocast

Picture = Float[Tensor, "3 row column"]
CHUNK = 10
"""Frames that the published code decodes together; the decoder looks along time, so that the result depends on it."""

_FACTOR = 8  # pixels in a latent


@dataclass(frozen=True, kw_only=True)
class DecodeCut:
    """How decoding is cut. Smaller chunks and tiles change the result a little: chunks see fewer neighbours."""

    chunk: int = CHUNK
    tile: int | None = None  # latents on a side
    tile_overlap: int = 8


@torch.inference_mode()
def encode_picture(
    vae: AutoencoderKLTemporalDecoder, pixels: Float[Tensor, "1 3 row column"]
) -> Float[Tensor, "4 small_row small_column"]:
    """The picture's latents (the mode, unscaled), always in fp32: in half precision this encoder overflows."""
    before = vae.dtype
    if before == torch.float32:
        return _mode(vae, pixels)
    nn.Module.to(vae, dtype=torch.float32)
    try:
        return _mode(vae, pixels)
    finally:
        nn.Module.to(vae, dtype=before)


def _mode(vae: AutoencoderKLTemporalDecoder, pixels: Tensor) -> Tensor:
    return cast(Any, vae.encode(pixels.to(vae.device, torch.float32))).latent_dist.mode()[0]


def _decode(vae: AutoencoderKLTemporalDecoder, latents: Tensor) -> Tensor:
    with autocast(vae.device, vae.dtype):
        return cast(Any, vae.decode(latents, num_frames=len(latents))).sample.float().cpu()


def decoded(
    vae: AutoencoderKLTemporalDecoder,
    latents: Float[Tensor, "frame 4 row column"],
    frames: int,
    *,
    decode: Callable[[Float[Tensor, "frame 4 row column"]], Tensor] | None = None,
    cut: DecodeCut | None = None,
) -> Iterator[Picture]:
    """The first `frames` pictures (0..1, fp32, on the CPU), chunk by chunk.

    Chunks begin where the published ones do, so that pictures equal those; the padding behind the last chunk that is
    needed is never decoded. `decode` replaces `decode_chunk`, for callers that mend failures.
    """
    cut = cut or DecodeCut()
    for start in range(0, frames, cut.chunk):
        chunk = latents[start : start + cut.chunk]
        pictures = decode_chunk(vae, chunk, cut) if decode is None else decode(chunk)
        yield from (pictures[: frames - start] * 0.5 + 0.5).clamp(0, 1)


@torch.inference_mode()
def decode_chunk(
    vae: AutoencoderKLTemporalDecoder, latents: Float[Tensor, "frame 4 row column"], cut: DecodeCut
) -> Float[Tensor, "frame 3 pixel_row pixel_column"]:
    """The pictures of some neighbouring frames, about -1..1, in fp32 on the CPU."""
    scaled = (latents / cast(Any, vae.config).scaling_factor).to(vae.device, vae.dtype)
    small = cut.tile is None or max(scaled.shape[-2:]) <= cut.tile
    return _decode(vae, scaled) if small else _tiled(vae, scaled, cut)


def _tiled(
    vae: AutoencoderKLTemporalDecoder, latents: Float[Tensor, "frame 4 row column"], cut: DecodeCut
) -> Float[Tensor, "frame 3 pixel_row pixel_column"]:
    """Square tiles decoded one by one and faded into each other where they overlap."""
    assert cut.tile is not None
    rows, columns = latents.shape[-2:]
    out = torch.zeros(len(latents), 3, rows * _FACTOR, columns * _FACTOR)
    weight = torch.zeros(rows * _FACTOR, columns * _FACTOR)
    step = cut.tile - cut.tile_overlap
    for top, left in itertools.product(_starts(rows, cut.tile, step), _starts(columns, cut.tile, step)):
        pixels = _decode(vae, latents[..., top : top + cut.tile, left : left + cut.tile])
        fade = _fade(pixels.shape[-2], cut.tile_overlap)[:, None] * _fade(pixels.shape[-1], cut.tile_overlap)
        place = (
            slice(top * _FACTOR, top * _FACTOR + pixels.shape[-2]),
            slice(left * _FACTOR, left * _FACTOR + pixels.shape[-1]),
        )
        out[(..., *place)] += pixels * fade
        weight[place] += fade
    return out / weight


def _starts(length: int, tile: int, step: int) -> list[int]:
    last = max(length - tile, 0)
    return sorted({*range(0, last, step), last})


def _fade(pixels: int, overlap: int) -> Float[Tensor, "pixel"]:
    """Rises from the edge over the overlap, stays at one, falls again; never zero."""
    place = torch.arange(pixels) + 0.5
    edge = torch.minimum(place, pixels - place)
    return (edge / max(overlap * _FACTOR, 1)).clamp(max=1.0)


def doubled(frames: Iterator[Picture], interpolator: FrameInterpolator) -> Iterator[Picture]:
    """The frames with one more between each two: 2 n - 1 of them, never more than two held."""
    before: Picture | None = None
    for frame in frames:
        if before is not None:
            yield _between(before, frame, interpolator)
        yield frame
        before = frame


@torch.inference_mode()
def _between(before: Picture, after: Picture, interpolator: FrameInterpolator) -> Picture:
    pair = (each[None].to(interpolator.device, interpolator.dtype) for each in (before, after))
    return interpolator.middle(*pair)[0].float().clamp(0, 1).cpu()


def held(frames: Iterator[Picture]) -> Iterator[Picture]:
    """Each frame twice, for previews without interpolation."""
    for frame in frames:
        yield frame
        yield frame


def to_length(frames: Iterator[Picture], count: int) -> Iterator[Picture]:
    """Exactly `count` frames: the last one stays, or those beyond are not made."""
    last: Picture | None = None
    made = 0
    for last in itertools.islice(frames, count):
        yield last
        made += 1
    if last is not None:
        yield from itertools.repeat(last, count - made)


def to_bytes(
    frame: Picture, size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "out_row out_column 3"]:
    """The picture as 8-bit RGB rows, resized when a `size` (width, height) is given."""
    if size is not None and (frame.shape[2], frame.shape[1]) != size:
        frame = F.interpolate(frame[None], size=(size[1], size[0]), mode="bicubic", antialias=True)[0]
    return (frame.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
