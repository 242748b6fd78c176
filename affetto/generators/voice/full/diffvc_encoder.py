"""DiffVC's average-voice encoder: mels in, the mels that an average speaker would say them with out.

After Popov et al., "Diffusion-Based Voice Conversion with Fast Maximum Likelihood Sampling Scheme" (ICLR 2022), under
the published parameter names.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from affetto.generators.voice.full.norms import ChannelNorm, Mask, SpanGroupNorm

Hidden = Float[Tensor, "batch channel frame"]
Mel = Float[Tensor, "batch band frame"]


class Prenet(nn.Module):
    """Three convolutions with normalisation and heavy dropout, added to the input through a zero-initialised layer."""

    def __init__(self, channels: int, kernel: int = 5, layers: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv_layers = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=kernel // 2) for _ in range(layers)
        )
        self.norm_layers = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.proj = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj.weight)
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)

    def forward(self, hidden: Hidden, mask: Float[Tensor, "batch 1 frame"]) -> Hidden:
        """The refined frames, zero outside the mask."""
        branch = hidden
        for conv, norm in zip(self.conv_layers, self.norm_layers, strict=True):
            branch = F.dropout(torch.relu(norm(conv(branch * mask))), self.dropout, self.training)
        return (hidden + self.proj(branch)) * mask


class RelativeAttention(nn.Module):
    """Self-attention with learned keys and values for the 2w+1 nearest relative positions, shared by all heads.

    The relative values need the attention weights themselves, which fused kernels do not give, so they are formed
    here. The encoder runs once for each clip, the score network once for each step.
    """

    def __init__(self, channels: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.window, self.dropout = heads, window, dropout
        width = channels // heads
        self.conv_q = nn.Conv1d(channels, channels, 1)
        self.conv_k = nn.Conv1d(channels, channels, 1)
        self.conv_v = nn.Conv1d(channels, channels, 1)
        self.conv_o = nn.Conv1d(channels, channels, 1)
        self.emb_rel_k = nn.Parameter(torch.randn(1, 2 * window + 1, width) * width**-0.5)
        self.emb_rel_v = nn.Parameter(torch.randn(1, 2 * window + 1, width) * width**-0.5)
        for conv in (self.conv_q, self.conv_k, self.conv_v):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, hidden: Hidden, mask: Mask) -> Hidden:
        """Attend over the frames within the mask; frames outside come out arbitrary."""
        query, key, value = (
            rearrange(conv(hidden), "b (h d) t -> b h t d", h=self.heads)
            for conv in (self.conv_q, self.conv_k, self.conv_v)
        )
        query = query / math.sqrt(query.shape[-1])
        near = query @ self.emb_rel_k[0].to(query.dtype).T  # b h t 2w+1
        scores = query @ key.transpose(-2, -1) + self._to_absolute(near)
        scores = scores.float().masked_fill(~rearrange(mask, "b t -> b 1 1 t"), -1e4)
        share = F.dropout(scores.softmax(dim=-1), self.dropout, self.training).to(value.dtype)
        mixed = share @ value + self._to_relative(share) @ self.emb_rel_v[0].to(value.dtype)
        return self.conv_o(rearrange(mixed, "b h t d -> b (h d) t"))

    def _to_absolute(
        self, near: Float[Tensor, "batch head frame near"]
    ) -> Float[Tensor, "batch head frame frame"]:
        """Scores by relative position, spread over the band of an otherwise zero square."""
        frames, window = near.shape[2], self.window
        wide = near.new_zeros(*near.shape[:3], frames + 2 * window)
        columns = torch.arange(frames, device=near.device)[:, None] + torch.arange(
            2 * window + 1, device=near.device
        )
        wide = wide.scatter(-1, columns.expand(near.shape), near)
        return wide[..., window : window + frames]

    def _to_relative(
        self, share: Float[Tensor, "batch head frame frame"]
    ) -> Float[Tensor, "batch head frame near"]:
        """The attention weights of the 2w+1 nearest relative positions, zero beyond the ends."""
        frames, window = share.shape[2], self.window
        wide = F.pad(share, (window, window))
        columns = torch.arange(frames, device=share.device)[:, None] + torch.arange(
            2 * window + 1, device=share.device
        )
        return wide.gather(-1, columns.expand(*share.shape[:3], -1))


class FeedForward(nn.Module):
    """Two convolutions over time with a ReLU between them."""

    def __init__(self, channels: int, filters: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv_1 = nn.Conv1d(channels, filters, kernel, padding=kernel // 2)
        self.conv_2 = nn.Conv1d(filters, channels, kernel, padding=kernel // 2)

    def forward(self, hidden: Hidden, mask: Float[Tensor, "batch 1 frame"]) -> Hidden:
        """The transformed frames, zero outside the mask."""
        wide = F.dropout(torch.relu(self.conv_1(hidden * mask)), self.dropout, self.training)
        return self.conv_2(wide * mask) * mask


class Transformer(nn.Module):
    """Post-norm transformer layers."""

    def __init__(
        self, channels: int, filters: int, heads: int, layers: int, kernel: int, dropout: float, window: int
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.attn_layers = nn.ModuleList(
            RelativeAttention(channels, heads, window, dropout) for _ in range(layers)
        )
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.ffn_layers = nn.ModuleList(
            FeedForward(channels, filters, kernel, dropout) for _ in range(layers)
        )
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))

    def forward(self, hidden: Hidden, mask: Mask) -> Hidden:
        """The contextualised frames, zero outside the mask."""
        inside = rearrange(mask, "b t -> b 1 t").to(hidden.dtype)
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for attend, norm_1, feed, norm_2 in layers:
            hidden = hidden * inside
            hidden = norm_1(hidden + F.dropout(attend(hidden, mask), self.dropout, self.training))
            hidden = norm_2(hidden + F.dropout(feed(hidden, inside), self.dropout, self.training))
        return hidden * inside


class MelEncoder(nn.Module):
    """A first estimate of the average voice's mels."""

    def __init__(
        self,
        bands: int,
        channels: int,
        filters: int,
        heads: int,
        layers: int,
        kernel: int,
        dropout: float,
        window: int,
    ) -> None:
        super().__init__()
        self.init_proj = nn.Conv1d(bands, channels, 1)
        self.prenet = Prenet(channels)
        self.encoder = Transformer(channels, filters, heads, layers, kernel, dropout, window)
        self.term_proj = nn.Conv1d(channels, bands, 1)

    def forward(self, mel: Mel, mask: Mask) -> Mel:
        """Mels of the same shape; frames outside the mask come out arbitrary."""
        inside = rearrange(mask, "b t -> b 1 t").to(mel.dtype)
        hidden = self.prenet(self.init_proj(mel * inside), inside)
        return self.term_proj(self.encoder(hidden, mask))


class PostBlock(nn.Module):
    """7x7 convolution, group normalisation, Mish."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3), SpanGroupNorm(groups, channels)
        )

    def forward(
        self,
        hidden: Float[Tensor, "batch channel band frame"],
        inside: Float[Tensor, "batch 1 1 frame"],
        span: Mask | None,
    ) -> Float[Tensor, "batch channel band frame"]:
        """The transformed plane, zero outside the mask."""
        return F.mish(self.block[1](self.block[0](hidden * inside), span)) * inside


class PostResidual(nn.Module):
    """Two blocks beside a linear way."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block1 = PostBlock(channels)
        self.block2 = PostBlock(channels)
        self.res = nn.Conv2d(channels, channels, 1)

    def forward(
        self,
        hidden: Float[Tensor, "batch channel band frame"],
        inside: Float[Tensor, "batch 1 1 frame"],
        span: Mask | None,
    ) -> Float[Tensor, "batch channel band frame"]:
        """The refined plane."""
        return self.res(hidden * inside) + self.block2(self.block1(hidden, inside, span), inside, span)


class PostNet(nn.Module):
    """Refines estimated mels as a picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.init_conv = nn.Conv2d(1, channels, 1)
        self.res_block = PostResidual(channels)
        self.final_conv = nn.Conv2d(channels, 1, 1)

    def forward(self, mel: Mel, mask: Mask, span: Mask | None) -> Mel:
        """Mels of the same shape."""
        inside = rearrange(mask, "b t -> b 1 1 t").to(mel.dtype)
        plane = self.init_conv(rearrange(mel, "b m t -> b 1 m t") * inside)
        return rearrange(self.final_conv(self.res_block(plane, inside, span) * inside), "b 1 m t -> b m t")
