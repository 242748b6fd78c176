"""The denoiser: Stable Video Diffusion's network as diffusers has it, with DICE-Talk's conditions built in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_utils import (
    ModelMixin as ModelMixin,  # a pipeline looks for it beside the class
)
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from affetto.generators.portrait.full.attention import (
    Conditioning,
    DecoupledAttention,
    KeysValues,
    SiteContext,
    mask_at,
)
from affetto.runtime.errors import UsageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Denoised:
    """The prediction, and what came into the last block on the way up (see `deep` of the denoiser)."""

    sample: Float[Tensor, "sample frame 4 row column"]
    deep: Float[Tensor, "sample frame channel row column"]


class WindowTransformer(TransformerSpatioTemporalModel):
    """diffusers' transformer of a video block, reading `Conditioning`: per frame in space, its mean in time."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: Float[Tensor, "item channel row column"],
        encoder_hidden_states: Conditioning,
        image_only_indicator: Float[Tensor, "sample frame"],
        return_dict: bool = False,
    ) -> tuple[Float[Tensor, "item channel row column"]]:
        """The new features, as a tuple of one because diffusers' blocks ask so."""
        frames, (_, _, rows, columns) = image_only_indicator.shape[1], hidden_states.shape
        conditioning = encoder_hidden_states
        mask = None if conditioning.mask is None else mask_at(conditioning.mask, rows, columns)
        in_space = SiteContext(conditioning=conditioning, temporal=False, mask=mask)
        in_time = SiteContext(conditioning=conditioning, temporal=True)
        hidden = self.proj_in(rearrange(self.norm(hidden_states), "b c h w -> b (h w) c"))
        places = torch.arange(frames, device=hidden.device)
        place = self.time_pos_embed(self.time_proj(places).to(hidden.dtype))
        place = repeat(place, "f c -> (s f) 1 c", s=len(hidden) // frames)
        for block, over_time in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            hidden = block(hidden, encoder_hidden_states=in_space)
            moved = over_time(hidden + place, num_frames=frames, encoder_hidden_states=in_time)
            hidden = self.time_mixer(hidden, moved, image_only_indicator)
        hidden = rearrange(self.proj_out(hidden), "b (h w) c -> b c h w", h=rows)
        return (hidden.contiguous() + hidden_states,)


class TalkingDenoiser(UNetSpatioTemporalConditionModel):
    """Noisy latents of a window in, v-prediction out.

    The default configuration is DICE-Talk's: SVD-xt's sizes and two adapter slots, speech and emotion. Its state dict has
    exactly the published names, so that published files load as they are; further slots only add entries.
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        num_attention_heads: Sequence[int] = (5, 10, 20, 20),
        cross_attention_dim: int = 1024,
        sample_size: int = 96,
        num_frames: int = 25,
        adapter_slots: int = 2,
    ) -> None:
        own = self._internal_dict
        super().__init__(
            sample_size=sample_size,
            block_out_channels=block_out_channels,  # type: ignore[arg-type]
            num_attention_heads=num_attention_heads,  # type: ignore[arg-type]
            cross_attention_dim=cross_attention_dim,  # type: ignore[arg-type]
            num_frames=num_frames,
        )
        self._internal_dict = own  # without the base's options, which cannot be chosen here
        for name, module in self.named_modules():
            if type(module) is TransformerSpatioTemporalModel:
                module.__class__ = WindowTransformer  # the same parts, another way through them
            if name.endswith("attn2"):
                attention = cast(Attention, module)
                site = DecoupledAttention(
                    attention.inner_dim, cross_attention_dim, adapter_slots, site=f"{name}.processor"
                )
                attention.set_processor(cast(Any, site))

    def sites(self) -> list[tuple[Attention, DecoupledAttention]]:
        """Every cross-attention with its processor."""
        modules = (module for name, module in self.named_modules() if name.endswith("attn2"))
        return [(cast(Attention, each), cast(DecoupledAttention, each.processor)) for each in modules]

    @torch.no_grad()
    def known(self, conditioning: Conditioning) -> dict[str, list[KeysValues]]:
        """Keys and values of all rows at every site: computed once, they serve each window of each step."""
        return {
            processor.site: processor.project(attention, conditioning.tables)
            for attention, processor in self.sites()
        }

    def known_bytes(self, conditioning: Conditioning) -> int:
        """How much memory `known` would take."""
        rows = sum(table.rows.shape[0] * table.rows.shape[1] for table in conditioning.tables)
        widths = sum(attention.inner_dim for attention, _ in self.sites())
        return 2 * rows * widths * self.conv_in.weight.element_size()

    def slice_feed_forward(self, window: int) -> None:
        """Feed-forward layers work on a share of a window's frames at a time: the same numbers, less memory.

        The share is the smallest divisor of the window's length above one, because layers are cut evenly.
        """
        size = next((n for n in range(2, window) if window % n == 0), 1)
        for module in self.modules():
            if isinstance(module, (BasicTransformerBlock, TemporalBasicTransformerBlock)):
                module.set_chunk_feed_forward(size, dim=0)

    def forward(  # type: ignore[override]
        self,
        sample: Float[Tensor, "sample frame 8 row column"],
        timestep: Tensor | float,
        conditioning: Conditioning,
        time_ids: Float[Tensor, "sample 3"],
        spatial: Float[Tensor, "#sample #frame channel row column"] | None = None,
        *,
        deep: Float[Tensor, "sample frame wide row column"] | None = None,
    ) -> Denoised:
        """The prediction for a window; `spatial` is added after the first convolution.

        With `deep`, an earlier call's features before the last block on the way up, only the outer blocks run (the
        idea of DeepCache, arXiv 2312.00858). Raises UsageError for sizes that are no multiple of eight.
        """
        samples, frames, _, rows, columns = sample.shape
        divisor = 2**self.num_upsamplers
        if rows % divisor or columns % divisor:
            raise UsageError(
                f"latents of {rows}x{columns} cannot be halved {self.num_upsamplers} times: use multiples of {divisor}"
            )
        embedding = self._time(sample, timestep, time_ids)
        hidden = self.conv_in(sample.flatten(0, 1))
        if spatial is not None:
            hidden = hidden + spatial.expand(samples, frames, *spatial.shape[2:]).flatten(0, 1)
        video = torch.zeros(samples, frames, dtype=hidden.dtype, device=hidden.device)
        shared = {"temb": embedding, "image_only_indicator": video}
        skips, hidden = self._down(hidden, conditioning, shared, whole=deep is None)
        last = cast(Any, self.up_blocks[-1])
        if deep is None:
            hidden = cast(Any, self.mid_block)(hidden, encoder_hidden_states=conditioning, **shared)
            for block in cast(Any, self.up_blocks[:-1]):
                hidden, skips = self._up(block, hidden, skips, conditioning, shared)
        else:
            hidden = deep.flatten(0, 1)
        inner = hidden
        hidden, _ = self._up(last, hidden, skips, conditioning, shared)
        out = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return Denoised(
            sample=out.unflatten(0, (samples, frames)), deep=inner.unflatten(0, (samples, frames))
        )

    def _time(self, sample: Tensor, timestep: Tensor | float, time_ids: Tensor) -> Tensor:
        """The embedding of noise level, frame rate and motion buckets, for each frame of each sample."""
        samples, frames = sample.shape[:2]
        level = torch.as_tensor(timestep, device=sample.device, dtype=torch.float32).expand(samples)
        embedding = self.time_embedding(self.time_proj(level).to(sample.dtype))
        ids = self.add_time_proj(time_ids.flatten()).reshape(samples, -1).to(sample.dtype)
        return (embedding + self.add_embedding(ids)).repeat_interleave(frames, 0)

    def _down(
        self, hidden: Tensor, conditioning: Conditioning, shared: dict[str, Tensor], *, whole: bool
    ) -> tuple[list[Tensor], Tensor]:
        """The features kept on the way down, and the last of them; without `whole` only what the last block needs."""
        skips = [hidden]
        if not whole:
            block = cast(Any, self.down_blocks[0])
            for resnet, transformer in zip(block.resnets, block.attentions, strict=True):
                hidden = resnet(hidden, **shared)
                hidden = transformer(hidden, conditioning, shared["image_only_indicator"])[0]
                skips.append(hidden)
            return skips, hidden
        for block in self.down_blocks:
            attending = {"encoder_hidden_states": conditioning} if getattr(block, "attentions", None) else {}
            hidden, kept = block(hidden, **attending, **shared)
            skips.extend(kept)
        return skips, hidden

    def _up(
        self,
        block: Any,
        hidden: Tensor,
        skips: list[Tensor],
        conditioning: Conditioning,
        shared: dict[str, Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        count = len(block.resnets)
        attending = {"encoder_hidden_states": conditioning} if getattr(block, "attentions", None) else {}
        taken, left = tuple(skips[-count:]), skips[:-count]
        return block(hidden, res_hidden_states_tuple=taken, **attending, **shared), left
