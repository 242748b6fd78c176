"""The composer's network: a causal transformer over compound words that sees the plan of every bar.

Two levels of decoding as in MusER (Ji & Yang 2023, arXiv 2312.10307): the transformer decides how the piece goes on,
small heads then fill one word, each seeing what the word holds already: family, position or pitch, duration, velocity.
Rotary attention turns with the word's index and with musical time, at periods of 2, 4, 8, 16 sixteenths and of 2 to 32
bars, so that "the same place four bars ago" is one fixed angle.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from affetto.generators.music.grammar import (
    BAR_INDEX,
    BEAT,
    DURATION,
    FAMILY,
    PITCH,
    POSITION,
    SIZES,
    VELOCITY,
)

FADERS = ("rhythm", "density", "polyphony", "register", "velocity", "mode")
LEVELS = 9
CHORD_SLOTS = 4
"""Chords in a bar, one for each quarter of it."""
ROOTS, QUALITIES = 14, 13  # 0 = unknown, 1 = no chord, then the classes

BAR_COLUMNS: Mapping[str, int] = {
    # name: how many classes; class 0 is always "not told"
    **{f"fader_{name}": LEVELS + 1 for name in FADERS},
    "mode": 3,
    "tempo": 17,
    "remaining": 18,
    "shift": 13,  # semitones - 6 from C major or A minor, in which everything is written, to the key that sounds
    "metre": 5,
    "melody": 3,  # 1 = the tune rests, 2 = it sounds
    "lag": 8,
    "likeness": 5,
    **{f"root_{slot}": ROOTS for slot in range(CHORD_SLOTS + 1)},  # the last is the next bar's first
    **{f"quality_{slot}": QUALITIES for slot in range(CHORD_SLOTS + 1)},
}
COLUMN_INDEX = {name: index for index, name in enumerate(BAR_COLUMNS)}
LAGS = (0, 1, 2, 4, 8, 16, -1)
"""What `lag` 1.. stand for: nothing is repeated, the bar so many bars ago, or some other bar."""
METRE_STEPS = (16, 16, 12, 8, 20)
"""Sixteenths in a bar by metre class: not told, 4/4, 3/4, 2/4, longer."""
BAR_TURN = 16  # musical time between bar lines, for the rotary angles
SEGMENTS = 3  # what is being written, what comes before a gap, what comes after it
HEADS = ("family", "position", "pitch", "duration", "velocity")


@dataclass(frozen=True, kw_only=True)
class ComposerConfig:
    """Sizes of the network."""

    width: int = 160
    layers: int = 5
    heads: int = 4
    hidden: int = 432
    index_pairs: int = 10  # rotary pairs that turn with the word's index; the others turn with musical time

    def to_metadata(self) -> dict[str, str]:
        """The sizes as text, for the header of a weight file."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ComposerConfig":
        """The sizes that a weight file's header tells."""
        return cls(**{name: int(metadata[name]) for name in asdict(cls()) if name in metadata})


@dataclass(frozen=True, kw_only=True)
class ComposerBatch:
    """Words and the bars they belong to; `bar_of` says which row of `bars` each word takes its conditions from."""

    words: Int[Tensor, "batch word 6"]
    segment: Int[Tensor, "batch word"]
    bar_of: Int[Tensor, "batch word"]
    bars: Int[Tensor, "batch bar column"]
    vad: Float[Tensor, "batch bar 3"]
    vad_known: Bool[Tensor, "batch bar"]

    def to(self, device: torch.device) -> "ComposerBatch":
        """The same on another device."""
        return ComposerBatch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The normed states, in the dtype they came in."""
        x = hidden.float()
        x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)
        return (x * self.scale).to(hidden.dtype)


def musical_angles(
    words: Int[Tensor, "batch word 6"], *, start: int = 0, index_pairs: int, pairs: int
) -> Float[Tensor, "batch word pair"]:
    """Rotary angles: the first pairs turn with the index of the word (from `start`), the others with musical time."""
    count = words.shape[1]
    index = torch.arange(start, start + count, device=words.device, dtype=torch.float32)
    slow = 0.65 ** torch.arange(index_pairs, device=words.device)
    of_index = (index[:, None] * slow).expand(words.shape[0], -1, -1)
    time = words[..., BAR_INDEX].float() * BAR_TURN + words[..., POSITION].float()
    periods = 2.0 ** torch.arange(1, pairs - index_pairs + 1, device=words.device)
    of_time = 2 * math.pi * time[..., None].remainder(1 << 20) / periods
    return torch.cat([of_index, of_time], dim=-1)


def rotate(x: Float[Tensor, "batch head word dim"], angles: Float[Tensor, "batch word pair"]) -> Tensor:
    """Turn each pair of dimensions by its angle (RoPE, Su et al. 2021)."""
    cosine, sine = angles.cos()[:, None].to(x.dtype), angles.sin()[:, None].to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each word attends to itself and all before it; all (batch, head, word, dim).

    While training on a CPU the scores are spelled out: the backward pass of the fused kernel takes twice as long there.
    """
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    count = q.shape[2]
    later = torch.ones(count, count, dtype=torch.bool, device=q.device).triu(1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.masked_fill(later, float("-inf")).softmax(dim=-1).to(v.dtype) @ v


class ComposerBlock(nn.Module):
    """Pre-norm causal attention and SwiGLU."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = RMSNorm(width), RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def heads_of(
        self, x: Float[Tensor, "batch word width"], angles: Float[Tensor, "batch word pair"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (both turned) and values of the normed states, each (batch, head, word, dim)."""
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b t (n h d) -> n b h t d", n=3, h=self.heads)
        return rotate(q, angles), rotate(k, angles), v

    def finish(
        self, x: Float[Tensor, "batch word width"], mixed: Float[Tensor, "batch head word dim"]
    ) -> Float[Tensor, "batch word width"]:
        """Add what attention found, then the MLP."""
        x = x + self.out(rearrange(mixed, "b h t d -> b t (h d)"))
        gate, up = self.gate_up(self.norm_mlp(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def forward(
        self, x: Float[Tensor, "batch word width"], angles: Float[Tensor, "batch word pair"]
    ) -> Float[Tensor, "batch word width"]:
        """The states, each having looked at all before it."""
        q, k, v = self.heads_of(x, angles)
        return self.finish(x, causal_attention(q, k, v))


class WordHead(nn.Module):
    """Scores one column of the next word from the state and from what the word holds already."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.classes = nn.Linear(width, classes)

    def forward(self, state: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch klass"]:
        """The logits in float32."""
        return self.classes(F.silu(self.inner(state)) + state).float()


class BarEncoder(nn.Module):
    """One vector for each bar: emotion, faders, mode, tempo, metre, place in the form, harmony."""

    offsets: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = torch.tensor(list(BAR_COLUMNS.values()))
        self.table = nn.Embedding(int(sizes.sum()), width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)
        self.emotion = nn.Sequential(nn.Linear(21, width), nn.SiLU(), nn.Linear(width, width))
        self.no_emotion = nn.Parameter(torch.zeros(width))

    def forward(
        self,
        bars: Int[Tensor, "batch bar column"],
        vad: Float[Tensor, "batch bar 3"],
        known: Bool[Tensor, "batch bar"],
    ) -> Float[Tensor, "batch bar width"]:
        """The vectors; where `known` is false the emotion is left open."""
        turns = math.pi * vad[..., None] * torch.tensor([0.5, 1.0, 2.0], device=vad.device)
        waves = rearrange(torch.cat([turns.sin(), turns.cos()], dim=-1), "b n a f -> b n (a f)")
        felt = self.emotion(torch.cat([vad, waves], dim=-1))
        felt = torch.where(known[..., None], felt, self.no_emotion.to(felt.dtype))
        return self.table(bars + self.offsets).sum(dim=-2) + felt


class ComposerNet(nn.Module):
    """Scores the next word of a piece, given the words so far and the plan of all bars."""

    def __init__(self, config: ComposerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ComposerConfig()
        width = config.width
        self.embed = nn.ModuleDict({name: nn.Embedding(size, width) for name, size in SIZES.items()})
        self.pitch_class = nn.Embedding(13, width)
        self.segment = nn.Embedding(SEGMENTS, width)
        self.sounding_root = nn.Embedding(ROOTS, width)
        self.sounding_quality = nn.Embedding(QUALITIES, width)
        self.bar_encoder = BarEncoder(width)
        blocks = [ComposerBlock(width, config.heads, config.hidden) for _ in range(config.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = RMSNorm(width)
        self.late = nn.Linear(width, width, bias=False)
        self.heads = nn.ModuleDict({name: WordHead(width, SIZES[name]) for name in HEADS})
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in blocks:
            for last in (block.out, block.down):
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * config.layers))

    @property
    def layers(self) -> list[ComposerBlock]:
        """The blocks, in order."""
        return [cast(ComposerBlock, block) for block in self.blocks]

    @property
    def pairs(self) -> int:
        """Rotary pairs of one head."""
        return self.config.width // self.config.heads // 2

    def angles(self, words: Int[Tensor, "batch word 6"], start: int = 0) -> Float[Tensor, "batch word pair"]:
        """The rotary angles of words of which the first has index `start`."""
        return musical_angles(words, start=start, index_pairs=self.config.index_pairs, pairs=self.pairs)

    def enter(
        self,
        words: Int[Tensor, "batch word 6"],
        segment: Int[Tensor, "batch word"],
        bars: Int[Tensor, "batch word column"],
        told: Float[Tensor, "batch word width"],
    ) -> Float[Tensor, "batch word width"]:
        """What each word brings into the transformer; `bars` and `told` are those of the word's own bar."""
        x = self.embed["family"](words[..., FAMILY]) + self.embed["position"](words[..., POSITION])
        pitch = words[..., PITCH]
        x = x + self.embed["pitch"](pitch) + self.pitch_class(torch.where(pitch > 0, pitch % 12 + 1, 0))
        x = x + self.embed["duration"](words[..., DURATION]) + self.embed["velocity"](words[..., VELOCITY])
        steps = torch.tensor(METRE_STEPS, device=words.device)[bars[..., COLUMN_INDEX["metre"]]]
        slot = (words[..., POSITION] * CHORD_SLOTS // steps).clamp(max=CHORD_SLOTS - 1)
        root = bars.gather(-1, (COLUMN_INDEX["root_0"] + slot)[..., None])[..., 0]
        quality = bars.gather(-1, (COLUMN_INDEX["quality_0"] + slot)[..., None])[..., 0]
        x = x + self.sounding_root(root) + self.sounding_quality(quality)
        return x + self.segment(segment) + told

    def forward(self, batch: ComposerBatch) -> Float[Tensor, "batch word width"]:
        """The state after each word, from which the next is scored."""
        told = self.bar_encoder(batch.bars, batch.vad, batch.vad_known)
        told = gather_bars(told, batch.bar_of)
        x = self.enter(batch.words, batch.segment, gather_bars(batch.bars, batch.bar_of), told)
        angles = self.angles(batch.words)
        for block in self.layers:
            x = block(x, angles)
        return self.norm(x) + self.late(told)

    def column_state(
        self, state: Float[Tensor, "*batch width"], word: Int[Tensor, "*batch 6"], column: str
    ) -> Float[Tensor, "*batch width"]:
        """The state that scores `column` of the next word, given the columns of `word` filled before it."""
        if column == "family":
            return state
        state = state + self.embed["family"](word[..., FAMILY])
        if column in ("duration", "velocity"):
            pitch = word[..., PITCH]
            state = state + self.embed["pitch"](pitch) + self.pitch_class(pitch % 12 + 1)
        if column == "velocity":
            state = state + self.embed["duration"](word[..., DURATION])
        return state

    def scores(
        self, state: Float[Tensor, "*batch width"], word: Int[Tensor, "*batch 6"], column: str
    ) -> Float[Tensor, "*batch klass"]:
        """The logits of one column of the next word."""
        return self.heads[column](self.column_state(state, word, column))

    def losses(
        self,
        state: Float[Tensor, "batch word width"],
        target: Int[Tensor, "batch word 6"],
        counted: Bool[Tensor, "batch word"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The summed negative log likelihood of each column and how often it occurs (`<column>_count`)."""
        found: dict[str, Tensor] = {}
        for column in HEADS:
            mask = counted & counted_words(target[..., FAMILY], column)
            logits = self.scores(state[mask], target[mask], column)
            wanted = target[mask][:, HEAD_COLUMN[column]]
            found[column] = F.cross_entropy(logits, wanted, reduction="sum")
            found[f"{column}_count"] = mask.sum()
        return found


def counted_words(family: Any, column: str) -> Any:
    """Which words say something in `column`: all a family, beats a position, notes the rest."""
    if column == "family":
        return family >= 0
    return family == BEAT if column == "position" else family > BEAT


HEAD_COLUMN = {
    "family": FAMILY,
    "position": POSITION,
    "pitch": PITCH,
    "duration": DURATION,
    "velocity": VELOCITY,
}


def gather_bars(rows: Tensor, bar_of: Int[Tensor, "batch word"]) -> Tensor:
    """For each word, the row of its bar: (batch, bar, ...) -> (batch, word, ...)."""
    return rows.gather(1, bar_of[..., None].expand(-1, -1, rows.shape[-1]))
