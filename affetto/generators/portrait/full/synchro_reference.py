"""ReferenceNet: the portrait and its coming motion, seen by a picture network whose features the denoiser attends to.

After SynchroRaMa (arXiv 2509.19965) and AnimateAnyone: latents of the portrait with a drawing of the motion go through a
Stable-Diffusion-type network; its features before each spatial self-attention become keys and values of the denoiser's
attention at the same place. Here they come in through a gate of their own that starts at zero, so that a DICE-Talk
checkpoint gives its own results until the gates are trained.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange
from jaxtyping import Float, Float32
from torch import Tensor, nn

STRANDS: tuple[tuple[int, ...], ...] = (
    tuple(range(17)), tuple(range(17, 22)), tuple(range(22, 27)), tuple(range(27, 31)), tuple(range(31, 36)),
    (*range(36, 42), 36), (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60),
)  # fmt: skip
"""The lines of the 68 points: jaw, brows, nose, nostrils, eyes, outer lips, inner lips."""

_COLOURS = (1, 2, 2, 0, 0, 1, 1, 0, 2)
"""Which channel of the drawing each line goes to."""

Features = dict[str, Float[Tensor, "_row _place _width"]]


def draw_motion(
    points: Float[np.ndarray, "frame 68 2"], size: tuple[int, int], pixels: tuple[int, int]
) -> Float32[np.ndarray, "frame 3 row column"]:
    """Faces as soft lines, one drawing a frame; `points` lie in a picture of `size` (width, height), drawn at `pixels`.

    Lines are about one and a half pixels wide and fade, so that points between pixels still tell where they are.
    """
    width, height = pixels
    scale = np.array([width / size[0], height / size[1]])
    grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    drawn = np.zeros((len(points), 3, height, width), np.float32)
    for strand, channel in zip(STRANDS, _COLOURS, strict=True):
        line = points[:, list(strand)] * scale
        for start, stop in zip(line[:, :-1].swapaxes(0, 1), line[:, 1:].swapaxes(0, 1), strict=True):
            near = _distance(grid, start, stop)
            drawn[:, channel] = np.maximum(drawn[:, channel], np.exp(-((near / 0.75) ** 2)))
    return drawn


def _distance(
    grid: Float[np.ndarray, "row column 2"],
    start: Float[np.ndarray, "frame 2"],
    stop: Float[np.ndarray, "frame 2"],
) -> Float[np.ndarray, "frame row column"]:
    """From each pixel to each frame's piece of line."""
    way = (stop - start)[:, None, None]
    from_start = grid[None] - start[:, None, None]
    share = (from_start * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-9)
    return np.linalg.norm(from_start - np.clip(share, 0.0, 1.0)[..., None] * way, axis=-1)


class ReferenceNet(ModelMixin, ConfigMixin):
    """Portrait latents, a motion drawing and tokens to the features that the denoiser's self-attentions read.

    The sizes must be the denoiser's. `sites` are named as its spatial self-attentions are.
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        num_attention_heads: Sequence[int] = (5, 10, 20, 20),
        cross_attention_dim: int = 1024,
        sample_size: int = 64,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=4 + 3,
            block_out_channels=tuple(block_out_channels),
            attention_head_dim=cast(Any, num_attention_heads),
            cross_attention_dim=cross_attention_dim,
            norm_num_groups=groups,
        )
        self.motion = nn.Conv2d(3, 3, 3, padding=1)
        self._kept: Features = {}
        for name, block in self._blocks():
            block.norm1.register_forward_hook(self._keeper(name))

    def _blocks(self) -> list[tuple[str, BasicTransformerBlock]]:
        """The transformer blocks by the names that the denoiser's have."""
        blocks = [each for each in self.unet.named_modules() if isinstance(each[1], BasicTransformerBlock)]
        return [(f"{name}.attn1", cast(BasicTransformerBlock, block)) for name, block in blocks]

    @property
    def sites(self) -> list[str]:
        """Where features are taken."""
        return [name for name, _ in self._blocks()]

    def _keeper(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._kept[name] = output

        return keep

    def forward(
        self,
        latents: Float[Tensor, "row 4 high wide"],
        drawing: Float[Tensor, "row 3 high wide"],
        tokens: Float[Tensor, "row token width"],
    ) -> Features:
        """The features at every site; `tokens` are the picture's embedding and the words about the scene."""
        self._kept = {}
        time = torch.zeros(len(latents), device=latents.device)
        self.unet(torch.cat([latents, self.motion(drawing)], dim=1), time, tokens)
        kept, self._kept = self._kept, {}
        return kept


class ReferenceAttention(nn.Module):
    """An attention processor for a spatial self-attention that also looks at reference features, through a gate.

    Keys and values of both come from the same projections. The features lie in `store`, put there for each pass.
    """

    def __init__(self, site: str, store: "ReferenceStore") -> None:
        super().__init__()
        self.site = site
        self.gate = nn.Parameter(torch.zeros(()))
        self._store = [store]  # in a list: it holds no parameters of ours

    def forward(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The new hidden states (frame place width)."""
        seen = self._store[0].at(self.site)
        query = _heads(attn.to_q(hidden_states), attn.heads)
        mixed = F.scaled_dot_product_attention(query, *_keys_values(attn, hidden_states))
        if seen is not None:
            mixed = mixed + self.gate * F.scaled_dot_product_attention(query, *_keys_values(attn, seen))
        return attn.to_out[1](attn.to_out[0](rearrange(mixed, "f h p d -> f p (h d)")))


def _heads(hidden: Tensor, heads: int) -> Tensor:
    return rearrange(hidden, "f p (h d) -> f h p d", h=heads)


def _keys_values(attn: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
    return _heads(attn.to_k(hidden), attn.heads), _heads(attn.to_v(hidden), attn.heads)


class ReferenceStore:
    """Which features each frame of the pass that is going on takes."""

    def __init__(self) -> None:
        self._features: Mapping[str, Tensor] | None = None
        self._index: Tensor | None = None

    def put(self, features: Mapping[str, Tensor] | None, index: Tensor | None) -> None:
        """The features by site, a row for each drawing, and the row of each frame (flat); None: there are none."""
        self._features, self._index = features, index

    def at(self, site: str) -> Tensor | None:
        """The features of every frame at a site."""
        if self._features is None or self._index is None:
            return None
        return self._features[site][self._index]


def moved_features(features: Features, device: torch.device, dtype: torch.dtype) -> Features:
    """The features on another device."""
    return {site: rows.to(device, dtype) for site, rows in features.items()}


def reference_rows(frames: int, stride: int) -> tuple[Sequence[int], np.ndarray]:
    """Which frames are drawn, one in the middle of every `stride`, and which drawing each frame takes."""
    index = np.arange(frames) // stride
    middles = [min(row * stride + stride // 2, frames - 1) for row in range(int(index[-1]) + 1)]
    return middles, index
