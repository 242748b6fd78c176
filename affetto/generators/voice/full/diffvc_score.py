"""DiffVC's score network: a two-dimensional U-Net over (mel band, frame), told the time, the voice and the average mel.

After Popov et al. (ICLR 2022), under the published parameter names. The 256-d voice vector is where EmoReg
(arXiv 2412.20359) puts its emotion embedding.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affetto.generators.voice.full.norms import Mask, SpanGroupNorm

Plane = Float[Tensor, "batch channel band frame"]
Inside = Float[Tensor, "batch 1 1 frame"]
Mel = Float[Tensor, "batch band frame"]


class Block(nn.Module):
    """3x3 convolution, group normalisation, Mish."""

    def __init__(self, channels: int, out: int, groups: int = 8) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), SpanGroupNorm(groups, out))

    def forward(
        self, plane: Plane, inside: Inside, span: Mask | None
    ) -> Float[Tensor, "batch out band frame"]:
        """The transformed plane, zero outside the mask."""
        return F.mish(self.block[1](self.block[0](plane * inside), span)) * inside


class ResnetBlock(nn.Module):
    """Two blocks with the time added between them, beside a short cut."""

    def __init__(self, channels: int, out: int, time_width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time_width, out))
        self.block1 = Block(channels, out)
        self.block2 = Block(out, out)
        self.res_conv = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(
        self, plane: Plane, inside: Inside, span: Mask | None, time: Float[Tensor, "batch time"]
    ) -> Float[Tensor, "batch out band frame"]:
        """The refined plane; outside the mask only the short cut's bias."""
        hidden = self.block1(plane, inside, span) + rearrange(self.mlp(time), "b c -> b c 1 1")
        return self.block2(hidden, inside, span) + self.res_conv(plane * inside)


class LinearAttention(nn.Module):
    """Attention linear in the number of points: values are gathered by softmaxed keys once, then read by queries."""

    def __init__(self, channels: int, heads: int = 4, width: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Conv2d(channels, 3 * heads * width, 1, bias=False)
        self.to_out = nn.Conv2d(heads * width, channels, 1)

    def forward(self, plane: Plane, span: Mask | None) -> Plane:
        """What every point reads from all points of its clip's span."""
        query, key, value = rearrange(self.to_qkv(plane), "b (n h d) m t -> n b h d m t", n=3, h=self.heads)
        if span is not None:
            key = key.masked_fill(~rearrange(span, "b t -> b 1 1 1 t"), -math.inf)
        share = rearrange(rearrange(key, "b h d m t -> b h d (m t)").softmax(dim=-1), "b h d n -> b h n d")
        gathered = rearrange(value, "b h d m t -> b h d (m t)") @ share.to(value.dtype)
        read = gathered @ rearrange(query, "b h d m t -> b h d (m t)")
        return self.to_out(rearrange(read, "b h d (m t) -> b (h d) m t", m=plane.shape[2]))


class Rezero(nn.Module):
    """A branch scaled by one learned number that starts at zero."""

    def __init__(self, fn: LinearAttention) -> None:
        super().__init__()
        self.fn = fn
        self.g = nn.Parameter(torch.zeros(1))

    def forward(self, plane: Plane, span: Mask | None) -> Plane:
        """The scaled branch."""
        return self.fn(plane, span) * self.g


class Residual(nn.Module):
    """A plane plus what attention adds to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fn = Rezero(LinearAttention(channels))

    def forward(self, plane: Plane, span: Mask | None) -> Plane:
        """The sum."""
        return plane + self.fn(plane, span)


class Resample(nn.Module):
    """A strided convolution that halves, or a transposed one that doubles, both axes."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.conv = (
            nn.ConvTranspose2d(channels, channels, 4, 2, 1) if up else nn.Conv2d(channels, channels, 3, 2, 1)
        )

    def forward(self, plane: Plane) -> Float[Tensor, "batch channel half half_frame"]:
        """The plane at the other size."""
        return self.conv(plane)


class RefBlock(nn.Module):
    """One vector for how a reference sounds: gated convolutions with the time added, averaged over its frames."""

    def __init__(self, out: int, time_width: int) -> None:
        super().__init__()
        base = out // 4
        self.mlp1 = nn.Sequential(nn.Mish(), nn.Linear(time_width, base))
        self.mlp2 = nn.Sequential(nn.Mish(), nn.Linear(time_width, 2 * base))
        for name, channels, wide in (
            ("11", 1, 2), ("12", base, 2), ("21", base, 4), ("22", 2 * base, 4), ("31", 2 * base, 8),
            ("32", 4 * base, 8),
        ):  # fmt: skip
            norm = SpanGroupNorm(wide * base, wide * base)
            self.add_module(f"block{name}", nn.Sequential(nn.Conv2d(channels, wide * base, 3, 1, 1), norm))
        self.final_conv = nn.Conv2d(4 * base, out, 1)

    def forward(self, mel: Mel, mask: Mask, time: Float[Tensor, "batch time"]) -> Float[Tensor, "batch out"]:
        """The mean over the frames within the mask."""
        inside = rearrange(mask, "b t -> b 1 1 t").to(mel.dtype)
        span = None if bool(mask.all()) else mask
        plane = rearrange(mel, "b m t -> b 1 m t")
        for stage, shift in (("1", self.mlp1), ("2", self.mlp2), ("3", None)):
            for half in "12":
                block = self.get_submodule(f"block{stage}{half}")
                conv, norm = block.get_submodule("0"), block.get_submodule("1")
                plane = F.glu(norm(conv(plane * inside), span), dim=1)
            if shift is not None:
                plane = plane + rearrange(shift(time), "b c -> b c 1 1")
        plane = self.final_conv(plane * inside) * inside
        return plane.sum(dim=(2, 3)) / (inside.sum(dim=(2, 3)) * mel.shape[1])


def time_features(time: Float[Tensor, "batch"], width: int) -> Float[Tensor, "batch {width}"]:
    """Sines and cosines of 1000 times the diffusion time at geometric frequencies."""
    half = width // 2
    pace = torch.exp(torch.arange(half, device=time.device).float() * (-math.log(10_000.0) / (half - 1)))
    angle = 1000.0 * rearrange(time.float(), "b -> b 1") * pace
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class GradLogPEstimator(nn.Module):
    """Estimates the gradient of the log-density of noised mels."""

    def __init__(
        self, width: int, condition: int, embedding: int, multiples: Sequence[int] = (1, 2, 4)
    ) -> None:
        super().__init__()
        self.width = width
        sizes = [2 + condition, *(width * multiple for multiple in multiples)]
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.ref_block = RefBlock(condition, width)
        self.cond_block = nn.Sequential(
            nn.Linear(width + condition + embedding, 4 * condition),
            nn.Mish(),
            nn.Linear(4 * condition, condition),
        )
        self.downs = nn.ModuleList()
        for level, (channels, out) in enumerate(itertools.pairwise(sizes)):
            last = level == len(multiples) - 1
            self.downs.append(
                nn.ModuleList([
                    ResnetBlock(channels, out, width),
                    ResnetBlock(out, out, width),
                    Residual(out),
                    nn.Identity() if last else Resample(out, up=False),
                ])
            )  # fmt: skip
        self.mid_block1 = ResnetBlock(sizes[-1], sizes[-1], width)
        self.mid_attn = Residual(sizes[-1])
        self.mid_block2 = ResnetBlock(sizes[-1], sizes[-1], width)
        self.ups = nn.ModuleList(
            nn.ModuleList([
                ResnetBlock(2 * channels, out, width),
                ResnetBlock(out, out, width),
                Residual(out),
                Resample(out, up=True),
            ])
            for channels, out in zip(sizes[:1:-1], sizes[-2:0:-1], strict=True)
        )  # fmt: skip
        self.final_block = Block(width, width)
        self.final_conv = nn.Conv2d(width, 1, 1)

    @property
    def stride(self) -> int:
        """Lengths must be multiples of this."""
        return 2 ** (len(self.downs) - 1)

    def forward(
        self,
        noised: Mel,
        mask: Mask,
        mean: Mel,
        reference: Float[Tensor, "batch band reference"],
        reference_mask: Bool[Tensor, "batch reference"],
        embedding: Float[Tensor, "batch embedding"] | Float[Tensor, "batch frame embedding"],
        time: Float[Tensor, "batch"],
        span: Mask | None = None,
    ) -> Mel:
        """The score of `noised` at `time`, zero outside the mask.

        `reference` is the noised reference at the same time. `embedding` may change from frame to frame. `span` marks
        the frames that each clip would have alone (its length rounded up to `stride`); None when that is all of them.
        """
        features = time_features(time, self.width)
        clock = self.mlp(features)
        voice = torch.cat([features, self.ref_block(reference, reference_mask, clock)], dim=1)
        if embedding.ndim == 2:
            embedding = rearrange(embedding, "b e -> b 1 e")
        voice = rearrange(voice, "b c -> b 1 c").expand(-1, embedding.shape[1], -1)
        condition = rearrange(self.cond_block(torch.cat([voice, embedding], dim=-1)), "b t c -> b c 1 t")
        plane = torch.stack([mean, noised], dim=1)
        plane = torch.cat([plane, condition.expand(-1, -1, *plane.shape[2:]).to(plane.dtype)], dim=1)
        inside = rearrange(mask, "b t -> b 1 1 t").to(plane.dtype)
        return rearrange(self._unet(plane, inside, span, clock), "b 1 m t -> b m t")

    def _unet(
        self, plane: Plane, inside: Inside, span: Mask | None, clock: Float[Tensor, "batch time"]
    ) -> Float[Tensor, "batch 1 band frame"]:
        hidden: list[Tensor] = []
        levels: list[tuple[Tensor, Tensor | None]] = [(inside, span)]
        for first, second, attend, shrink in self.downs:  # pyright: ignore[reportGeneralTypeIssues]
            at, whole = levels[-1]
            plane = attend(second(first(plane, at, whole, clock), at, whole, clock), whole)
            hidden.append(plane)
            plane = shrink(plane * at)
            levels.append((at[..., ::2], None if whole is None else whole[:, ::2]))
        levels.pop()
        at, whole = levels[-1]
        plane = self.mid_block2(
            self.mid_attn(self.mid_block1(plane, at, whole, clock), whole), at, whole, clock
        )
        for first, second, attend, grow in self.ups:  # pyright: ignore[reportGeneralTypeIssues]
            at, whole = levels.pop()
            plane = torch.cat([plane, hidden.pop()], dim=1)
            plane = attend(second(first(plane, at, whole, clock), at, whole, clock), whole)
            plane = grow(plane * at)
        return self.final_conv(self.final_block(plane, inside, span) * inside) * inside
