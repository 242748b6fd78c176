"""The frame between two frames, by estimating flow from the middle to both (RIFE HDv3, arXiv 2011.06294)."""

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

_MULTIPLE = 32  # pixels that the coarsest scale needs


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(outputs))


def _upsampler(inputs: int, outputs: int) -> nn.Sequential:
    half = inputs // 2
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, half, 4, 2, 1), nn.PReLU(half), nn.ConvTranspose2d(half, outputs, 4, 2, 1)
    )


class FlowBlock(nn.Module):
    """One refinement of flow and mask at one scale."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_conv(inputs, width // 2, 2), _conv(width // 2, width, 2))
        for number in range(4):
            setattr(self, f"convblock{number}", nn.Sequential(_conv(width, width), _conv(width, width)))
        self.conv1 = _upsampler(width, 4)
        self.conv2 = _upsampler(width, 1)

    def forward(
        self,
        pictures: Float[Tensor, "item channel row column"],
        flow: Float[Tensor, "item 4 row column"],
        scale: float,
    ) -> tuple[Float[Tensor, "item 4 row column"], Float[Tensor, "item 1 row column"]]:
        """What to add to the flow (pixels) and to the mask (logit), found at 1 / scale of the size."""
        small = _resized(pictures, 1 / scale)
        hidden = self.conv0(torch.cat([small, _resized(flow, 1 / scale) / scale], 1))
        for number in range(4):
            hidden = self.get_submodule(f"convblock{number}")(hidden) + hidden
        return _resized(self.conv1(hidden), scale) * scale, _resized(self.conv2(hidden), scale)


class FrameInterpolator(ModelMixin, ConfigMixin):
    """RIFE HDv3's `IFNet`: two frames in, the one half-way between them out.

    `block_tea`, the teacher that sees the true middle, only helps training; it is kept so that published files load.
    """

    @register_to_config
    def __init__(self, width: int = 90) -> None:
        super().__init__()
        self.block0 = FlowBlock(7 + 4, width)
        self.block1 = FlowBlock(7 + 4, width)
        self.block2 = FlowBlock(7 + 4, width)
        self.block_tea = FlowBlock(10 + 4, width)

    def forward(
        self,
        first: Float[Tensor, "item 3 row column"],
        second: Float[Tensor, "item 3 row column"],
        scales: tuple[float, float, float] = (4.0, 2.0, 1.0),
    ) -> tuple[Float[Tensor, "item 3 row column"], Float[Tensor, "item 4 row column"]]:
        """The middle frame and its flow to both (pixels); frames hold 0..1, sizes are multiples of 32."""
        left, right = first, second
        flow, mask = torch.zeros_like(first[:, :1]).repeat(1, 4, 1, 1), torch.zeros_like(first[:, :1])
        for block, scale in zip((self.block0, self.block1, self.block2), scales, strict=True):
            ahead, ahead_mask = block(torch.cat([left, right, mask], 1), flow, scale)
            back, back_mask = block(torch.cat([right, left, -mask], 1), _swapped(flow), scale)
            flow = flow + (ahead + _swapped(back)) / 2
            mask = mask + (ahead_mask - back_mask) / 2
            left, right = warp(first, flow[:, :2]), warp(second, flow[:, 2:])
        share = torch.sigmoid(mask)
        return left * share + right * (1 - share), flow

    def middle(
        self, first: Float[Tensor, "item 3 row column"], second: Float[Tensor, "item 3 row column"]
    ) -> Float[Tensor, "item 3 row column"]:
        """The middle frame of pictures of any size."""
        rows, columns = first.shape[-2:]
        pad = (0, -columns % _MULTIPLE, 0, -rows % _MULTIPLE)
        if any(pad):
            first, second = F.pad(first, pad, mode="replicate"), F.pad(second, pad, mode="replicate")
        return self(first, second)[0][..., :rows, :columns]


def warp(
    picture: Float[Tensor, "item channel row column"], flow: Float[Tensor, "item 2 row column"]
) -> Float[Tensor, "item channel row column"]:
    """The picture read at each place plus its flow (x, y in pixels); outside, the edge goes on."""
    rows, columns = picture.shape[-2:]
    y = torch.linspace(-1, 1, rows, device=flow.device, dtype=flow.dtype)[:, None]
    x = torch.linspace(-1, 1, columns, device=flow.device, dtype=flow.dtype)[None, :]
    across = x + flow[:, 0] * (2 / max(columns - 1, 1))
    down = y + flow[:, 1] * (2 / max(rows - 1, 1))
    grid = torch.stack([across, down], dim=-1)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _resized(x: Float[Tensor, "item channel row column"], factor: float) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(
        x, scale_factor=factor, mode="bilinear", align_corners=False, recompute_scale_factor=False
    )


def _swapped(flow: Float[Tensor, "item 4 row column"]) -> Float[Tensor, "item 4 row column"]:
    return torch.cat([flow[:, 2:], flow[:, :2]], 1)
