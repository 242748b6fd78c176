"""The losses by which a talking denoiser learns: denoising as SVD was trained, the bank, and four judges of the picture.

Noise follows EDM (Karras et al. 2022) as in Stable Video Diffusion: log-normal levels, v-prediction. DICE-Talk's own
objective is reconstructed from its published code; weights are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.conditioning.anchors import ANCHORS_8
from affetto.generators.portrait.full.attention import TokenTable
from affetto.generators.portrait.full.denoiser import TalkingDenoiser
from affetto.generators.portrait.full.projections import AudioProjection, EmotionModel, PoseGuider
from affetto.generators.portrait.full.synchro_denoiser import SynchroConditioning
from affetto.generators.portrait.full.synchro_emotion import AFFECT, SENTIMENT, SPOKEN, EmotionFusion
from affetto.generators.portrait.full.synchro_judge import LatentJudge, judge_terms
from affetto.generators.portrait.full.synchro_reference import Features, ReferenceNet

_LEVEL_MEAN, _LEVEL_SD = 0.7, 1.6  # of the logarithm of the noise level
_CLASSES = 22  # neutral, then seven emotions at three levels


@dataclass(frozen=True, kw_only=True)
class TalkingWeights:
    """What each term counts beside the denoising error."""

    bank: float = 0.25
    discriminator: float = 0.1
    sync: float = 0.1
    expression: float = 0.1
    emotion: float = 0.05
    looks: float = 0.05


@dataclass(frozen=True, kw_only=True)
class TalkingDropout:
    """How often a condition is withheld, so that guidance can tell with and without apart."""

    image: float = 0.05
    audio: float = 0.05
    emotion: float = 0.05
    scene: float = 0.1
    evidence: float = 0.3


class JudgeObjective(nn.Module):
    """Trains the judge on real latents."""

    def __init__(self, judge: LatentJudge, scaling: float) -> None:
        super().__init__()
        self.judge, self.scaling = judge, scaling

    def forward(self, *given: Tensor) -> Float[Tensor, ""]:
        """The loss of one batch (`TalkingBatch.tensors`)."""
        latents, _, image, speech, points, *_, label, _ = given
        terms = judge_terms(
            self.judge, self.scaling * latents, spoken(speech), points, label[:, 0], image, contrast=True
        )
        return cast(Tensor, sum(terms.values()))


class TalkingObjective(nn.Module):
    """Trains adapters, projections and bank, and with `fusion` and `reference` the whole of SynchroRaMa."""

    def __init__(
        self,
        denoiser: TalkingDenoiser,
        audio_linear: AudioProjection,
        emotion_model: EmotionModel,
        pose_guider: PoseGuider,
        *,
        fusion: EmotionFusion | None = None,
        reference: ReferenceNet | None = None,
        judge: LatentJudge | None = None,
        scaling: float = 0.18215,
        weights: TalkingWeights | None = None,
        dropout: TalkingDropout | None = None,
    ) -> None:
        super().__init__()
        self.denoiser, self.audio_linear, self.emotion_model = denoiser, audio_linear, emotion_model
        self.fusion, self.reference = fusion, reference
        self._frozen = (pose_guider, judge)  # in a tuple: they are no part of what is trained
        self.scaling = scaling
        self.weights, self.dropout = weights or TalkingWeights(), dropout or TalkingDropout()
        self._middle: list[Tensor] = []
        cast(Any, denoiser.mid_block).register_forward_hook(lambda _m, _i, out: self._middle.append(out))

    def forward(self, *given: Tensor) -> Float[Tensor, ""]:
        """The loss of one batch (`TalkingBatch.tensors`)."""
        terms = self.terms(*given)
        counts = {"denoising": 1.0, **vars(self.weights)}
        return cast(Tensor, sum(counts[name] * value for name, value in terms.items()))

    def terms(self, *given: Tensor) -> Mapping[str, Float[Tensor, ""]]:
        """Every term of the loss, unweighted."""
        latents, reference, image, speech, points, drawing, mask, evidence, label, scene = given
        clips, frames = latents.shape[:2]
        clean = self.scaling * latents
        level = (torch.randn(clips, device=clean.device) * _LEVEL_SD + _LEVEL_MEAN).exp()[
            :, None, None, None, None
        ]
        noisy = clean + level * torch.randn_like(clean)
        kept = {name: _kept(share, clips, clean.device) for name, share in vars(self.dropout).items()}
        emotion, bank_loss = self._emotion(label, evidence, kept)
        conditioning = self._conditioning(image, speech, emotion, scene, mask, kept)
        conditioning = self._with_references(conditioning, reference, drawing, image, scene, frames, kept)
        sample = torch.cat(
            [noisy / (level.square() + 1).sqrt(), (reference * kept["image"][:, None, None, None])[:, None].expand(-1, frames, -1, -1, -1)],
            dim=2,
        )  # fmt: skip
        made = self._denoised(sample, level.flatten(), conditioning, mask)
        estimate = noisy / (level.square() + 1) - made * level / (level.square() + 1).sqrt()
        error = ((1 + level.square()) / level.square() * (estimate - clean).square()).mean()
        terms = {"denoising": error, "bank": bank_loss}
        middle = self._middle.pop() if self._middle else None
        self._middle.clear()
        if self.emotion_model.classifier is not None and middle is not None:
            known = discriminator_class(label).repeat_interleave(frames)
            terms["discriminator"] = F.cross_entropy(self.emotion_model.classifier(middle.float()), known)
        return terms | self._judged(estimate, level.flatten(), speech, points, label, image)

    def _emotion(
        self,
        label: Int[Tensor, "clip 2"],
        evidence: Float[Tensor, "clip frame 16"],
        kept: Mapping[str, Tensor],
    ) -> tuple[Float[Tensor, "row token width"], Float[Tensor, ""]]:
        """A row of tokens for each clip, then one that says nothing; and the bank's loss."""
        model = self.emotion_model
        strength = (label[:, 1:].float() / 3.0) * (label[:, :1] > 0)
        neutral = model.priors[ANCHORS_8.index("neutral")]
        priors = neutral + strength * (model.priors[label[:, 0]] - neutral)
        if self.fusion is not None:
            mean = evidence.mean(1)
            text, heard, affect, sure = mean.split([SENTIMENT, SPOKEN, AFFECT, 3], dim=-1)
            priors = priors + self.fusion(text, heard, affect, sure * kept["evidence"][:, None])
        output = model(torch.cat([priors, torch.zeros_like(priors[:1])]))
        return output.tokens, output.loss

    def _conditioning(
        self,
        image: Tensor,
        speech: Tensor,
        emotion: Tensor,
        scene: Tensor,
        mask: Tensor,
        kept: Mapping[str, Tensor],
    ) -> SynchroConditioning:
        """What the denoiser attends to; rows that are withheld are those that say nothing."""
        clips, frames = speech.shape[:2]
        own = torch.arange(clips, device=image.device)

        def per_clip(rows: Tensor, told: Tensor) -> TokenTable:
            index = torch.where(told > 0, own, len(rows) - 1)
            return TokenTable(rows=rows, index=index[:, None].expand(-1, frames))

        pictures = torch.cat([image, torch.zeros_like(image[:1])])[:, None]
        windows = torch.cat([speech.flatten(0, 1), torch.zeros_like(speech[0, :1])])
        places = torch.arange(clips * frames, device=image.device).reshape(clips, frames)
        places = torch.where(kept["audio"][:, None] > 0, places, clips * frames)
        adapters = [
            TokenTable(rows=self.audio_linear(windows), index=places),
            per_clip(emotion, kept["emotion"]),
        ]
        if int(self.denoiser.config["adapter_slots"]) > len(adapters):
            said = kept["scene"] * kept["image"]
            adapters.append(per_clip(torch.cat([scene, torch.zeros_like(scene[:1])]), said))
        return SynchroConditioning(
            image=per_clip(pictures, kept["image"]),
            adapters=tuple(adapters),
            scales=(1.0,) * len(adapters),
            mask=mask[0],
        )

    def _with_references(
        self, plain: SynchroConditioning, reference: Tensor, drawing: Tensor, image: Tensor, scene: Tensor, frames: int,
        kept: Mapping[str, Tensor],
    ) -> SynchroConditioning:  # fmt: skip
        if self.reference is None:
            return plain
        tokens = torch.cat([image[:, None], scene], dim=1)
        features: Features = self.reference(self.scaling * reference, drawing, tokens)
        own = torch.arange(len(image), device=image.device) + 1
        index = torch.where(kept["image"] > 0, own, 0)[:, None].expand(-1, frames)
        return SynchroConditioning(
            image=plain.image, adapters=plain.adapters, scales=plain.scales, mask=plain.mask, references=features,
            reference_index=index,
        )  # fmt: skip

    def _denoised(
        self, sample: Tensor, level: Tensor, conditioning: SynchroConditioning, mask: Tensor
    ) -> Float[Tensor, "clip frame 4 row column"]:
        guider = cast(PoseGuider, self._frozen[0])
        with torch.no_grad():
            spatial = guider(mask[:1, None].expand(-1, 3, -1, -1).to(guider.dtype))[None].to(sample.dtype)
        ids = torch.tensor([12.5, 8.0, 16.0], device=sample.device).expand(len(sample), 3)
        return self.denoiser(sample, 0.25 * level.log(), conditioning, ids, spatial).sample.float()

    def _judged(
        self, estimate: Tensor, level: Tensor, speech: Tensor, points: Tensor, label: Tensor, image: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """The judges' terms, clip by clip less where noise hides what is judged."""
        judge = cast(LatentJudge | None, self._frozen[1])
        if judge is None:
            return {}
        clear = 1.0 / (1.0 + level.square())
        totals: dict[str, Tensor] = {}
        for clip, share in enumerate(clear):
            part = slice(clip, clip + 1)
            found = judge_terms(
                judge,
                estimate[part],
                spoken(speech[part]),
                points[part],
                label[part, 0],
                image[part],
                contrast=False,
            )
            for name, value in found.items():
                totals[name] = totals.get(name, torch.zeros((), device=level.device)) + share * value / len(
                    clear
                )
        return totals


def discriminator_class(label: Int[Tensor, "clip 2"]) -> Int[Tensor, "clip"]:
    """The discriminator's class of an emotion at a level: 0 is neutral, then three for each of the seven others."""
    return torch.where(label[:, 0] == 0, 0, 3 * (label[:, 0] - 1) + label[:, 1]).clamp(0, _CLASSES - 1)


def spoken(speech: Float[Tensor, "clip frame 10 layer width"]) -> Float[Tensor, "clip frame state"]:
    """The sound about a frame as the judge hears it: the mean over its tokens, all layers."""
    return speech.mean(2).flatten(2)


def _kept(withheld: float, clips: int, device: torch.device) -> Float[Tensor, "clip"]:
    return (torch.rand(clips, device=device) >= withheld).float()
