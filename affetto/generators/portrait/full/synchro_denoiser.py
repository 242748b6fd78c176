"""The denoiser of SynchroRaMa: DICE-Talk's with a third adapter slot for the scene, and attention to a ReferenceNet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.generators.portrait.full.attention import Conditioning, TokenTable
from affetto.generators.portrait.full.clip import ClipConditions, FrameTokens
from affetto.generators.portrait.full.denoiser import Denoised, TalkingDenoiser
from affetto.generators.portrait.full.guidance import Branch
from affetto.generators.portrait.full.synchro_reference import (
    Features,
    ReferenceAttention,
    ReferenceStore,
    moved_features,
)
from affetto.runtime.errors import InvalidInputError

SLOTS = 3  # speech, emotion, scene
_SCENE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class SynchroConditioning(Conditioning):
    """Also what the ReferenceNet saw, and which of its rows each frame takes (None: nothing)."""

    references: Features | None = None
    reference_index: Int[Tensor, "sample frame"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SynchroClip(ClipConditions):
    """A clip's conditions with words about the scene and reference features; both are told with the picture."""

    scene: FrameTokens
    references: Features = field(default_factory=dict)
    reference_index: Int[Tensor, "frame"]
    scales: tuple[float, ...] = (1.0, 1.0, 1.0)  # speech, emotion, scene

    def moved(self, device: torch.device, dtype: torch.dtype) -> "SynchroClip":
        """On another device; the mask stays in fp32."""
        plain = super().moved(device, dtype)
        kept = {each.name: getattr(plain, each.name) for each in fields(ClipConditions)}
        return SynchroClip(
            **kept,
            scene=self.scene.moved(device, dtype),
            references=moved_features(self.references, device, dtype),
            reference_index=self.reference_index.to(device),
        )

    def conditioning(
        self, frames: Int[Tensor, "sample frame"], branches: Sequence[Branch]
    ) -> SynchroConditioning:
        """What the denoiser attends to; branches that are not told the picture see no scene and no reference."""
        plain = super().conditioning(frames, branches)
        told = torch.tensor([branch.image for branch in branches], device=frames.device)
        index = torch.where(told[:, None], self.scene.index[frames], self.scene.null)
        scene = TokenTable(rows=self.scene.rows, index=index)
        rows = torch.where(told[:, None], self.reference_index[frames] + 1, 0)
        return SynchroConditioning(
            image=plain.image,
            adapters=(*plain.adapters, scene),
            scales=self.scales,
            mask=plain.mask,
            references=self.references or None,
            reference_index=rows if self.references else None,
        )


class SynchroDenoiser(TalkingDenoiser):
    """`TalkingDenoiser` with three slots; its spatial self-attentions also look at reference features."""

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        num_attention_heads: Sequence[int] = (5, 10, 20, 20),
        cross_attention_dim: int = 1024,
        sample_size: int = 96,
        num_frames: int = 25,
        adapter_slots: int = SLOTS,
    ) -> None:
        super().__init__(
            block_out_channels=block_out_channels,
            num_attention_heads=num_attention_heads,
            cross_attention_dim=cross_attention_dim,
            sample_size=sample_size,
            num_frames=num_frames,
            adapter_slots=adapter_slots,
        )
        self.store = ReferenceStore()
        for name, module in self.named_modules():
            if name.endswith(".attn1") and ".transformer_blocks." in f".{name}":
                cast(Any, module).set_processor(ReferenceAttention(name, self.store))

    @classmethod
    def from_dice(cls, dice: TalkingDenoiser) -> "SynchroDenoiser":
        """DICE-Talk's denoiser with an empty third slot and shut gates: the same results until these are trained."""
        config = {
            key: dice.config[key]
            for key in (
                "block_out_channels",
                "num_attention_heads",
                "cross_attention_dim",
                "sample_size",
                "num_frames",
            )
        }
        made = cls(**config)
        missing, unexpected = made.load_state_dict(dice.state_dict(), strict=False)
        if unexpected or not all(is_new(key) for key in missing):
            raise InvalidInputError(f"this denoiser is none of DICE-Talk ({(unexpected or missing)[0]!r})")
        for _, site in made.sites():
            nn.init.zeros_(cast(nn.Linear, site.to_v_ip[_SCENE]).weight)
        return cast(nn.Module, made).to(dice.device, dice.dtype)  # type: ignore[return-value]

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
        """The prediction for a window, see `TalkingDenoiser`."""
        references = getattr(conditioning, "references", None)
        index = getattr(conditioning, "reference_index", None)
        padded = None if references is None else _with_nothing(references)
        self.store.put(padded, None if index is None else index.flatten())
        made = super().forward(sample, timestep, conditioning, time_ids, spatial, deep=deep)
        if not torch.is_grad_enabled():  # while training, gradient checkpointing will want them again
            self.store.put(None, None)
        return made


def is_new(key: str) -> bool:
    """Whether a name belongs to what SynchroRaMa adds to DICE-Talk's denoiser."""
    return key.endswith((f"_ip.{_SCENE}.weight", ".attn1.processor.gate"))


def _with_nothing(references: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A row of zeros in front, for frames that are not told the picture."""
    return {site: torch.cat([torch.zeros_like(rows[:1]), rows]) for site, rows in references.items()}
