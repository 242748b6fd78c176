"""What a clip's denoising is given, once for all steps, and the windows it is cut into."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from affetto.generators.portrait.full.attention import Conditioning, TokenTable
from affetto.generators.portrait.full.guidance import NOTHING, Branch
from affetto.runtime.errors import UsageError

FPS = 12.5
"""Frames the denoiser makes in a second; interpolation doubles them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTokens:
    """Tokens of each frame, each different set held once; row `null` says nothing."""

    rows: Float[Tensor, "row token width"]
    index: Int[Tensor, "frame"]
    null: int

    def padded(self, frames: int) -> "FrameTokens":
        """The same with `frames` frames at the end that say nothing."""
        more = torch.full((frames,), self.null, dtype=self.index.dtype, device=self.index.device)
        return FrameTokens(rows=self.rows, index=torch.cat([self.index, more]), null=self.null)

    @classmethod
    def of_frames(
        cls, tokens: Float[Tensor, "frame token width"], null: Float[Tensor, "token width"]
    ) -> "FrameTokens":
        """Frames that each have tokens of their own."""
        rows = torch.cat([tokens, null[None]])
        index = torch.arange(len(tokens), device=tokens.device)
        return cls(rows=rows, index=index, null=len(tokens))

    def moved(self, device: torch.device, dtype: torch.dtype) -> "FrameTokens":
        """On another device."""
        return FrameTokens(rows=self.rows.to(device, dtype), index=self.index.to(device), null=self.null)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipConditions:
    """Everything the denoiser is told about a clip; frames count the padding at the end."""

    image: Float[Tensor, "1 width"]  # the picture's embedding
    latents: Float[Tensor, "4 row column"]  # of the picture, unscaled
    audio: FrameTokens
    emotion: FrameTokens
    spatial: Float[Tensor, "channel row column"]  # where the face is
    mask: Float[Tensor, "pixel_row pixel_column"]  # 0..1
    time_ids: Float[Tensor, "3"]  # frames a second, motion bucket, expression bucket
    scales: tuple[float, ...] = (1.0, 1.0)  # of the adapters: speech, emotion

    @property
    def frames(self) -> int:
        """How many frames are denoised."""
        return len(self.audio.index)

    def moved(self, device: torch.device, dtype: torch.dtype) -> "ClipConditions":
        """On another device; the mask stays in fp32."""
        return ClipConditions(
            image=self.image.to(device, dtype),
            latents=self.latents.to(device, dtype),
            audio=self.audio.moved(device, dtype),
            emotion=self.emotion.moved(device, dtype),
            spatial=self.spatial.to(device, dtype),
            mask=self.mask.to(device),
            time_ids=self.time_ids.to(device),
            scales=self.scales,
        )

    def everything(self) -> Conditioning:
        """All rows of all tables, for projecting them; no frame is meant."""
        none = torch.zeros(1, 1, dtype=torch.long, device=self.image.device)
        return self.conditioning(none, [NOTHING])

    def conditioning(self, frames: Int[Tensor, "sample frame"], branches: Sequence[Branch]) -> Conditioning:
        """What the denoiser attends to at `frames` of each sample, told what its branch tells."""
        rows = torch.cat([torch.zeros_like(self.image)[None], self.image[None]])
        told = torch.tensor([branch.image for branch in branches], device=frames.device)
        image = TokenTable(rows=rows, index=told.long()[:, None].expand_as(frames))
        adapters = []
        for name in ("audio", "emotion"):
            tokens: FrameTokens = getattr(self, name)
            says = torch.tensor([getattr(branch, name) for branch in branches], device=frames.device)
            index = torch.where(says[:, None], tokens.index[frames], tokens.null)
            adapters.append(TokenTable(rows=tokens.rows, index=index))
        return Conditioning(image=image, adapters=tuple(adapters), scales=self.scales, mask=self.mask)


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """Windows of `length` frames that together cover a clip and move on by `shift` frames with every step."""

    length: int = 25
    shift: int = 7
    overlap: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.length:
            raise UsageError(
                f"windows of {self.length} frames cannot overlap by {self.overlap}: use 0..{self.length - 1}"
            )

    def windows(self, frames: int, step: int) -> list[list[int]]:
        """The frames of each window at a step; they wrap around, so that the first and the last may overlap."""
        moved = (step * self.shift) % self.length
        starts = range(0, frames, self.length - self.overlap)
        return [[(start - moved + i) % frames for i in range(self.length)] for start in starts]
