"""A learned bank of emotion codes that a generator attends to (DICE-Talk, arXiv 2504.18087, generalised)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.runtime.errors import InvalidInputError, UsageError

BankMode = Literal["retrieve", "attend", "topk"]


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """Sizes of a bank."""

    inputs: int = 64  # width of the emotion embedding that asks
    width: int = 256  # width of codes and of the tokens that come out
    codes: int = 75
    tokens: int = 8  # tokens for each emotion
    heads: int = 8
    topk: int = 4
    commitment: float = 0.25

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UsageError(f"bank width {self.width} is not a multiple of heads {self.heads}")
        if not 1 <= self.topk <= self.codes:
            raise UsageError(f"topk must lie in 1..{self.codes} (the codes), got {self.topk}")


DICE_TALK = BankConfig(inputs=256, width=1024, codes=64, tokens=32, heads=8)
"""The sizes of the published DICE-Talk bank."""


@dataclass(frozen=True, kw_only=True)
class BankOutput:
    """What a bank answers: tokens for cross-attention, the nearest codes, the codebook loss."""

    tokens: Float[Tensor, "item token width"]
    indices: Int[Tensor, "item"]
    loss: Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True)
class BankUsage:
    """How often each code was the nearest one."""

    counts: Int[np.ndarray, "code"]
    perplexity: float  # effective number of codes, 1..codes (0 before any use)
    dead: tuple[int, ...]  # codes never used


def vad_grid(valence: int = 5, arousal: int = 5, dominance: int = 3) -> Float[Tensor, "code 3"]:
    """Evenly spaced points of the VAD cube, valence slowest (NeuroGaze-Distill's 5 x 5 grid, by three dominances)."""
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in (valence, arousal, dominance)]
    return torch.cartesian_prod(*axes)


def vad_embedding(vad: Float[Tensor, "*item 3"], width: int) -> Float[Tensor, "*item {width}"]:
    """V, A, D and sines of rising frequency along each axis: zero at neutral, odd, and injective on the cube."""
    if width < 3:
        raise UsageError(f"a VAD embedding needs width >= 3, got {width}")
    octaves = -(-(width - 3) // 3)
    frequency = torch.pi / 2 * (1.0 + torch.arange(octaves, device=vad.device, dtype=torch.float32))
    waves = torch.sin(vad.float()[..., None, :] * frequency[:, None]) / (1.0 + frequency[:, None])
    return torch.cat([vad.float(), rearrange(waves, "... octave three -> ... (octave three)")], dim=-1)[
        ..., :width
    ]


class TokenExpander(nn.Module):
    """One vector to `tokens` vectors: two ReLU layers, a wide one, and a layer norm on each token."""

    def __init__(self, inputs: int, width: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj1 = nn.Linear(inputs, width)
        self.proj2 = nn.Linear(width, width)
        self.proj3 = nn.Linear(width, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, vector: Float[Tensor, "*item inputs"]) -> Float[Tensor, "*item token width"]:
        """The tokens of each vector."""
        wide = self.proj3(F.relu(self.proj2(F.relu(self.proj1(vector)))))
        return self.norm(rearrange(wide, "... (token width) -> ... token width", token=self.tokens))


class EmotionBank(nn.Module):
    """Emotion embeddings in, tokens for cross-attention out, through a codebook of prototypical emotions.

    `retrieve` reads only the nearest code, `topk` the nearest few, `attend` all. With `BankConfig` `DICE_TALK` and
    `attend` it computes what the published bank computes (`from_dice_talk` reads its weights).
    """

    def __init__(self, config: BankConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.query = TokenExpander(config.inputs, width, config.tokens)
        self.expand = TokenExpander(width, width, config.tokens)
        self.encode = nn.Linear(config.inputs, width)
        self.codes = nn.Parameter(
            torch.empty(config.codes, width).uniform_(-1 / config.codes, 1 / config.codes)
        )
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.probe = nn.Linear(width, 3)
        self.used: Tensor
        self.register_buffer("used", torch.zeros(config.codes, dtype=torch.int64), persistent=False)

    @classmethod
    def on_grid(cls, config: BankConfig | None = None, *, seed: int = 0) -> "EmotionBank":
        """A fresh bank whose codes lie where the 5 x 5 x 3 VAD grid is encoded, and whose probe reads that VAD.

        Ask it with `vad_embedding(vad, config.inputs)`. The weights depend on `seed` alone.
        """
        config = config or BankConfig()
        grid = vad_grid()
        if config.codes != len(grid):
            raise UsageError(f"a grid bank has {len(grid)} codes, got codes={config.codes}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bank = cls(config)
        with torch.no_grad():
            bank.codes.copy_(bank.encode(vad_embedding(grid, config.inputs)))
        bank.fit_probe(grid)
        return bank

    @torch.no_grad()
    def fit_probe(self, vad: Float[Tensor, "code 3"], *, ridge: float = 1e-4) -> None:
        """Set the probe to the ridge regression from the codes to their `vad`."""
        codes = self.codes.detach().double()
        centre = codes.mean(0)
        centred = codes - centre
        target = vad.double().to(codes.device)
        scale = centred.square().sum(-1).mean().clamp_min(1e-12)
        gram = centred @ centred.T / scale + ridge * torch.eye(len(codes), device=codes.device)
        weight = centred.T @ torch.linalg.solve(gram.double(), target - target.mean(0)) / scale
        self.probe.weight.copy_(weight.T)
        self.probe.bias.copy_(target.mean(0) - centre @ weight)

    def code_vad(self) -> Float[Tensor, "code 3"]:
        """Where the probe sees each code on valence, arousal and dominance, clipped to [-1, 1]."""
        return self.probe(self.codes).float().clamp(-1.0, 1.0)

    def nearest(self, encoded: Float[Tensor, "item width"], k: int = 1) -> Int[Tensor, "item k"]:
        """The `k` nearest codes by Euclidean distance, nearest first."""
        with torch.autocast(encoded.device.type, enabled=False):
            return torch.cdist(encoded.float(), self.codes.float()).topk(k, dim=-1, largest=False).indices

    def memory(self) -> tuple[Float[Tensor, "code token width"], Float[Tensor, "code token width"]]:
        """Keys and values of every code; compute them once when the weights stay fixed, and pass them to `forward`."""
        expanded = self.expand(self.codes)
        return self.to_k(expanded), self.to_v(expanded)

    def forward(
        self,
        emotion: Float[Tensor, "item inputs"],
        mode: BankMode = "attend",
        *,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> BankOutput:
        """Tokens for each emotion embedding. `memory` spares the expansion of the codes (modes attend and topk)."""
        if mode not in get_args(BankMode):
            raise UsageError(f"unknown bank mode {mode!r}: use {', '.join(get_args(BankMode))}")
        encoded = self.encode(emotion)
        indices = self.nearest(encoded)[:, 0]
        chosen = self.codes[indices]
        loss = F.mse_loss(chosen.float(), encoded.detach().float())
        loss = loss + self.config.commitment * F.mse_loss(encoded.float(), chosen.detach().float())
        self.used.add_(torch.bincount(indices, minlength=self.config.codes))
        if mode == "retrieve":
            tokens = self.expand(encoded + (chosen - encoded).detach())  # straight-through
            keys, values = self.to_k(tokens), self.to_v(tokens)
        else:
            keys, values = self.memory() if memory is None else memory
            if mode == "topk":
                few = self.nearest(encoded, self.config.topk)
                keys = rearrange(keys[few], "item k token width -> item (k token) width")
                values = rearrange(values[few], "item k token width -> item (k token) width")
            else:
                return BankOutput(
                    tokens=self._attend_all(self.to_q(self.query(emotion)), keys, values),
                    indices=indices,
                    loss=loss,
                )
        tokens = self._attend(self.to_q(self.query(emotion)), keys, values)
        return BankOutput(tokens=tokens, indices=indices, loss=loss)

    def _attend(
        self,
        queries: Float[Tensor, "item token width"],
        keys: Float[Tensor, "item key width"],
        values: Float[Tensor, "item key width"],
    ) -> Float[Tensor, "item token width"]:
        q, k, v = (
            rearrange(x, "item token (head part) -> item head token part", head=self.config.heads)
            for x in (queries, keys, values)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return rearrange(mixed, "item head token part -> item token (head part)")

    def _attend_all(
        self,
        queries: Float[Tensor, "item token width"],
        keys: Float[Tensor, "code key width"],
        values: Float[Tensor, "code key width"],
    ) -> Float[Tensor, "item token width"]:
        """Every query attends to every code; as one sequence of queries, so that no code is copied for each item."""
        items = len(queries)
        queries, keys, values = (rearrange(x, "i t w -> 1 (i t) w") for x in (queries, keys, values))
        return rearrange(self._attend(queries, keys, values), "1 (i t) w -> i t w", i=items)

    def null(
        self, items: int = 1, mode: BankMode = "attend", *, memory: tuple[Tensor, Tensor] | None = None
    ) -> Float[Tensor, "item token width"]:
        """The tokens of no emotion (an embedding of zeros), for classifier-free guidance."""
        before = self.used.clone()
        tokens = self(self.codes.new_zeros(items, self.config.inputs), mode, memory=memory).tokens
        self.used.copy_(before)
        return tokens

    def usage(self) -> BankUsage:
        """Which codes were nearest since the last `reset_usage`: their perplexity and the dead ones."""
        counts = self.used.cpu().numpy().copy()
        share = counts[counts > 0] / max(int(counts.sum()), 1)
        perplexity = float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0
        return BankUsage(
            counts=counts, perplexity=perplexity, dead=tuple(int(i) for i in np.flatnonzero(counts == 0))
        )

    def reset_usage(self) -> None:
        """Forget which codes were used."""
        self.used.zero_()

    @classmethod
    def from_dice_talk(cls, state: Mapping[str, Tensor]) -> "EmotionBank":
        """The published DICE-Talk bank from its `emo_model` state dict; the discriminator in it is dropped.

        The sizes come from the tensors; heads stay 8. The probe, which is ours, is zero until `fit_probe`. Raises
        InvalidInputError when a key is missing or unknown.
        """
        renamed: dict[str, Tensor] = {}
        for key, tensor in state.items():
            name = _from_dice_key(key)
            if name is not None:
                renamed[name] = tensor
        missing = [key for key in _DICE_SIZES if key not in state]
        if missing:
            raise InvalidInputError(
                f"no DICE-Talk emotion bank: key {missing[0]!r} is missing: pull the weights again"
            )
        codes, width = state["codebook.codebook.weight"].shape
        tokens = state["emo_linear.proj3.weight"].shape[0] // width
        inputs = state["codebook.fc.weight"].shape[1]
        config = BankConfig(
            inputs=inputs, width=width, codes=codes, tokens=tokens, heads=8, topk=min(4, codes)
        )
        with torch.device("meta"):
            bank = cls(config)
        renamed["probe.weight"], renamed["probe.bias"] = torch.zeros(3, width), torch.zeros(3)
        try:
            bank.load_state_dict(renamed, strict=True, assign=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InvalidInputError(f"no DICE-Talk emotion bank: {reason}: pull the weights again") from error
        bank.used = torch.zeros(codes, dtype=torch.int64)
        return bank


_DICE_SIZES = ("codebook.codebook.weight", "codebook.fc.weight", "emo_linear.proj3.weight")
_DICE_PREFIXES = {
    "emo_linear.": "query.",
    "kv_tokens_linear.": "expand.",
    "codebook.fc.": "encode.",
    "codebook.codebook.weight": "codes",
    "attention.fc_q.": "to_q.",
    "attention.fc_k.": "to_k.",
    "attention.fc_v.": "to_v.",
}


def _from_dice_key(key: str) -> str | None:
    """Our name of a DICE-Talk key; None for its training-time discriminator, which a bank does not have."""
    if key.startswith("classifier."):
        return None
    for prefix, ours in _DICE_PREFIXES.items():
        if key.startswith(prefix):
            return ours + key[len(prefix) :]
    raise InvalidInputError(f"no DICE-Talk emotion bank: unknown key {key!r}: pull the weights again")
