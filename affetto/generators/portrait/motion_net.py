"""The network of the portrait's motion: a velocity field over windows of curves, and the emotion embedding that steers it.

After DICE-Talk (arXiv 2504.18087) in coefficient space: an emotion embedding that is Gaussian and blind to who performs,
a bank of emotion codes read by cross-attention, and a discriminator on features half-way through. Speech enters token
by token; the end of the window before enters as known frames. Everything the paper does not tell (sizes, weights of the
losses) is our choice.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from affetto.acting.adapter import WIDTH as FEATURES
from affetto.acting.expression import PROFILE_POSES
from affetto.acting.visemes import PHONE_TARGETS, VISEME_TARGETS
from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.bank import BankConfig, EmotionBank
from affetto.generators.portrait.motion_space import (
    CHANNELS,
    MARGIN,
    ROWS_PER_FRAME,
    SHAPES,
    STYLE,
    WINDOW,
    noise_mixer,
)
from affetto.media.animation.curves import ARKIT_52
from affetto.runtime.attention import SelfAttention, symmetric_alibi
from affetto.speech.phones import PHONES, VISEME_OF

PATCH = 4  # frames in a token
TOKENS = WINDOW // PATCH
CONTENT_WIDTH = len(PHONES) + 3  # posteriors, closure, loudness, speaking
POINTS = 4  # moments of a window at which the bank is asked


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Sizes."""

    width: int = 160
    layers: int = 5
    heads: int = 5
    modulation: int = 80  # width of what scales and shifts the norms
    embedding: int = 32  # of an emotion
    bank: int = 128
    codes: int = 64

    def to_metadata(self) -> dict[str, str]:
        """The sizes as text, for the header of a weight file."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "MotionConfig":
        """The sizes that a weight file's header tells."""
        return cls(**{name: int(metadata[name]) for name in asdict(cls()) if name in metadata})


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a window is generated from, ready for the blocks."""

    guide: Float[Tensor, "window 64 58"]
    heard: Float[Tensor, "window token width"]
    felt: Float[Tensor, "window token modulation"]
    bank: Float[Tensor, "window key bank"]
    style: Float[Tensor, "window modulation"]

    @classmethod
    def joined(cls, parts: "list[Conditions]") -> "Conditions":
        """Several as one batch."""
        return cls(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in cls.__annotations__}
        )


class EmotionEmbedding(nn.Module):
    """Emotions as Gaussians: the mean of each (`prior`), and what a performance shows (`embed`), whoever gives it."""

    def __init__(self, width: int, hidden: int = 96) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Linear(FEATURES, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, width),
        )
        self.look = nn.Sequential(
            nn.Conv1d(CHANNELS, hidden, 5, stride=2, padding=2), nn.SiLU(),
            nn.Conv1d(hidden, hidden, 5, stride=2, padding=2), nn.SiLU(),
            nn.Conv1d(hidden, hidden, 3, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.gaussian = nn.Linear(2 * hidden, 2 * width)

    def prior(self, features: Float[Tensor, "*item 12"]) -> Float[Tensor, "*item embedding"]:
        """The mean embedding of an emotion as `FaceEmotion.features` tells it; its variance is 1."""
        return self.mean(features)

    def embed(
        self, motion: Float[Tensor, "window frame 58"]
    ) -> tuple[Float[Tensor, "window embedding"], Float[Tensor, "window embedding"]]:
        """Mean and log variance of the emotion that normalised motion shows."""
        seen = self.look(rearrange(motion, "b t c -> b c t"))
        pooled = torch.cat([seen.mean(dim=-1), seen.amax(dim=-1)], dim=-1)
        mean, log_variance = self.gaussian(pooled).chunk(2, dim=-1)
        return mean, log_variance.clamp(-6.0, 2.0)


class _Block(nn.Module):
    """Attention over the window, attention to the emotion bank, and an MLP, all scaled and shifted by `modulate`."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norms = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(3)])
        self.attention = SelfAttention(width, config.heads)
        self.ask = nn.Linear(width, width)
        self.answer = nn.Linear(config.bank, 2 * width)
        self.take = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulate = nn.Linear(config.modulation, 7 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(
        self,
        hidden: Float[Tensor, "window token width"],
        modulation: Float[Tensor, "window token modulation"],
        bank: Float[Tensor, "window key bank"],
        bias: Float[Tensor, "head token token"],
    ) -> Float[Tensor, "window token width"]:
        """The hidden states after the block; at initialisation what came in."""
        scale, shift, gate, cross, scale2, shift2, gate2 = self.modulate(modulation).chunk(7, dim=-1)
        hidden = hidden + gate * self.attention(self.norms[0](hidden) * (1 + scale) + shift, bias)
        hidden = hidden + cross * self._ask_bank(self.norms[1](hidden), bank)
        return hidden + gate2 * self.mlp(self.norms[2](hidden) * (1 + scale2) + shift2)

    def _ask_bank(
        self, hidden: Float[Tensor, "window token width"], bank: Float[Tensor, "window key bank"]
    ) -> Float[Tensor, "window token width"]:
        q = rearrange(self.ask(hidden), "b t (h d) -> b h t d", h=self.heads)
        k, v = rearrange(self.answer(bank), "b k (n h d) -> n b h k d", n=2, h=self.heads)
        return self.take(rearrange(F.scaled_dot_product_attention(q, k, v), "b h t d -> b t (h d)"))


class MotionNet(nn.Module):
    """The velocity of noisy windows of normalised motion at noise level sigma, given speech, emotion, style, known frames."""

    mean: Tensor
    scale: Tensor
    live: Tensor
    mixer: Tensor
    mouths: Tensor
    faces: Tensor

    def __init__(self, config: MotionConfig | None = None) -> None:
        super().__init__()
        self.config = sizes = config or MotionConfig()
        width, modulation = sizes.width, sizes.modulation
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("scale", torch.ones(CHANNELS))
        self.register_buffer("live", torch.ones(CHANNELS))  # 0 for channels that never move
        self.register_buffer("mixer", torch.from_numpy(noise_mixer()), persistent=False)
        self.register_buffer("mouths", torch.from_numpy(phone_poses()), persistent=False)
        self.register_buffer("faces", torch.from_numpy(PROFILE_POSES.astype(np.float32)), persistent=False)
        self.hear = nn.Sequential(
            nn.Conv1d(CONTENT_WIDTH, 96, 5), nn.GELU(), nn.Conv1d(96, 128, 5, stride=2), nn.GELU(),
            nn.Conv1d(128, width, 5, stride=2), nn.GELU(), nn.Conv1d(width, width, 4, stride=2),
        )  # fmt: skip
        self.silence = nn.Parameter(torch.zeros(width))  # heard where speech is withheld
        self.emotion = EmotionEmbedding(sizes.embedding)
        self.bank = EmotionBank(
            BankConfig(inputs=sizes.embedding, width=sizes.bank, codes=sizes.codes, tokens=4, heads=4)
        )
        self.feel = nn.Sequential(
            nn.Linear(sizes.embedding, modulation), nn.SiLU(), nn.Linear(modulation, modulation)
        )
        self.numb = nn.Parameter(torch.zeros(modulation))  # felt where emotion is withheld
        self.wear = nn.Sequential(
            nn.Linear(len(STYLE), modulation), nn.SiLU(), nn.Linear(modulation, modulation)
        )
        self.anyone = nn.Parameter(torch.zeros(modulation))  # worn where style is withheld
        self.clock = nn.Sequential(nn.Linear(64, modulation), nn.SiLU(), nn.Linear(modulation, modulation))
        self.enter = nn.Linear(PATCH * (3 * CHANNELS + 1), width)
        self.blocks = nn.ModuleList([_Block(sizes) for _ in range(sizes.layers)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.last = nn.Linear(modulation, 2 * width)
        self.leave = nn.Linear(width, PATCH * CHANNELS)
        self.discern = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, len(ANCHORS_8)))
        for layer in (self.last, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def normalised(self, motion: Float[Tensor, "*item 58"]) -> Float[Tensor, "*item 58"]:
        """Motion as the network sees it: zero mean and unit variance where it lives, 0 elsewhere."""
        return (motion - self.mean) / self.scale * self.live

    def noise(self, white: Float[Tensor, "window 64 58"]) -> Float[Tensor, "window 64 58"]:
        """What the flow starts from, made of white noise: as slow as each channel moves, nothing where none moves."""
        return torch.einsum("cts,bsc->btc", self.mixer, white) * self.live

    def restored(self, motion: Float[Tensor, "*item 58"]) -> Float[Tensor, "*item 58"]:
        """The inverse of `normalised`; channels that never move rest at their mean."""
        return motion * self.live * self.scale + self.mean

    def conditions(
        self,
        content: Float[Tensor, "window row width"],
        features: Float[Tensor, "window 64 12"],
        embedding: Float[Tensor, "window 64 embedding"],
        style: Float[Tensor, "window 11"],
        *,
        speech_kept: Bool[Tensor, "window"] | None = None,
        emotion_kept: Bool[Tensor, "window"] | None = None,
        style_kept: Bool[Tensor, "window"] | None = None,
    ) -> Conditions:
        """What the blocks need; windows whose `..._kept` is false get what stands for its absence."""
        heard = rearrange(self.hear(rearrange(content, "b r c -> b c r")), "b w t -> b t w")
        spare = (heard.shape[1] - TOKENS) // 2
        heard = heard[:, spare : spare + TOKENS]
        felt = self.feel(rearrange(embedding, "b (t n) e -> b t n e", n=PATCH).mean(dim=2))
        asked = rearrange(embedding, "b (p n) e -> b p n e", p=POINTS).mean(dim=2)
        worn = self.wear(style)
        lips, face = self._guides(content, features)
        if speech_kept is not None:
            heard = torch.where(speech_kept[:, None, None], heard, self.silence)
            lips = lips * speech_kept[:, None, None]
        if emotion_kept is not None:
            felt = torch.where(emotion_kept[:, None, None], felt, self.numb)
            face = face * emotion_kept[:, None, None]
            asked = asked * emotion_kept[:, None, None]  # the bank's own null is an embedding of zeros
        if style_kept is not None:
            worn = torch.where(style_kept[:, None], worn, self.anyone)
        tokens = self.bank(rearrange(asked, "b p e -> (b p) e")).tokens
        return Conditions(
            guide=lips + face,
            heard=heard,
            felt=felt,
            bank=rearrange(tokens, "(b p) k w -> b (p k) w", p=POINTS),
            style=worn,
        )

    def _guides(
        self, content: Float[Tensor, "window row width"], features: Float[Tensor, "window 64 12"]
    ) -> tuple[Float[Tensor, "window 64 58"], Float[Tensor, "window 64 58"]]:
        """The mouths of the phones as they are likely, and the face of the emotion at rest, in normalised motion.

        Neither coarticulates or gives way to the other: that is what there is to learn.
        """
        inside = content[:, MARGIN : MARGIN + WINDOW * ROWS_PER_FRAME, : len(PHONES)]
        likely = rearrange(inside, "b (t n) p -> b t n p", n=ROWS_PER_FRAME).mean(dim=2)
        scale = self.live[SHAPES] / self.scale[SHAPES]
        rest = (0, CHANNELS - len(ARKIT_52))
        lips = (likely @ self.mouths - self.mean[SHAPES]) * scale
        return F.pad(lips, rest), F.pad(features[..., : len(ANCHORS_8)] @ self.faces * scale, rest)

    def forward(
        self,
        noisy: Float[Tensor, "window 64 58"],
        sigma: Float[Tensor, "window"],
        conditions: Conditions,
        known: Float[Tensor, "window 64 58"],
        is_known: Bool[Tensor, "window 64"],
    ) -> tuple[Float[Tensor, "window 64 58"], Float[Tensor, "window 8"]]:
        """Velocity (noise minus motion, the guide taken for the motion to begin with) and which of ANCHORS_8 the features half-way look like (logits).

        `known` holds normalised motion where `is_known`, and is not looked at elsewhere.
        """
        flags = is_known[..., None].to(noisy.dtype)
        entering = torch.cat([noisy, known * flags, conditions.guide.to(noisy.dtype), flags], dim=-1)
        hidden = self.enter(rearrange(entering, "b (t n) c -> b t (n c)", n=PATCH)) + conditions.heard
        moment = self.clock(_waves(sigma, 64).to(hidden.dtype)) + conditions.style
        modulation = F.silu(moment[:, None] + conditions.felt)
        bias = symmetric_alibi(self.config.heads, TOKENS, device=noisy.device)
        logits = None
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, modulation, conditions.bank, bias)
            if index == len(self.blocks) // 2:
                logits = self.discern(hidden.mean(dim=1))
        assert logits is not None
        scale, shift = self.last(modulation).chunk(2, dim=-1)
        velocity = self.leave(self.norm(hidden) * (1 + scale) + shift)
        velocity = rearrange(velocity, "b t (n c) -> b (t n) c", n=PATCH) * self.live
        return velocity - conditions.guide, logits


def phone_poses() -> Float[np.ndarray, "phone 52"]:
    """What the mouth does for each phone, said alone."""
    poses = [PHONE_TARGETS.get(phone, VISEME_TARGETS[VISEME_OF[phone]]) for phone in PHONES]
    return np.stack(poses).astype(np.float32)


def content_span() -> int:
    """Rows of speech content that a window hears, its margins included."""
    return WINDOW * ROWS_PER_FRAME + 2 * MARGIN


def _waves(sigma: Float[Tensor, "window"], width: int) -> Float[Tensor, "window {width}"]:
    frequency = torch.exp(torch.linspace(0.0, 6.9, width // 2, device=sigma.device))
    angle = sigma.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
