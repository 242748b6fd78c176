"""Writing bars with the composer's network: several candidates at once, each word inside the grammar.

Keys and values of what is already there are computed once and shared; each further word costs one small step. Every
candidate has its own random stream, so that it does not depend on how many others are written beside it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor

from affetto.generators.music.composer_net import (
    BAR_COLUMNS,
    COLUMN_INDEX,
    FADERS,
    HEAD_COLUMN,
    ComposerNet,
    gather_bars,
)
from affetto.generators.music.grammar import (
    BAR,
    BAR_INDEX,
    BEAT,
    DURATION,
    FAMILY,
    LENGTHS,
    LOWEST,
    MELODY,
    NOTE,
    PITCH,
    POSITION,
    SIZES,
    VELOCITY,
    BarRule,
    BarState,
)
from affetto.media.music import mode_valence
from affetto.runtime.device import autocast
from affetto.tokenizers.attributes import KEY_NEAR

_MOST_WORDS = 96  # in one bar; what would be more is a stuck sampler
_TINT_SHARE, _TINT_LEAST = 0.2, 2.0  # how much of a tone is tried out: of all that sounds, and in sixteenths


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How boldly each column is drawn: temperature, and the share of probability (top-p) drawn from."""

    temperature: Mapping[str, float] = field(
        default_factory=lambda: {
            "family": 0.9, "position": 0.85, "pitch": 0.85, "melody": 0.92, "duration": 0.8, "velocity": 0.7,
        }
    )  # fmt: skip
    top_p: Mapping[str, float] = field(
        default_factory=lambda: {
            "family": 0.97, "position": 0.95, "pitch": 0.9, "melody": 0.93, "duration": 0.92, "velocity": 0.85,
        }
    )  # fmt: skip
    guidance: float = 1.5  # 1 = none; how far emotion and faders are exaggerated against leaving them open
    tint: float = (
        1.2  # 0 = none; nats for a tone that brings the mode of its bar nearer to the valence asked for
    )
    candidates: int = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class BarTable:
    """The conditions of all bars of a piece, as the network reads them."""

    bars: Int64[np.ndarray, "bar column"]
    vad: Float32[np.ndarray, "bar 3"]
    known: Bool[np.ndarray, "bar"]

    def without_feeling(self) -> "BarTable":
        """The same bars with emotion and faders left open."""
        bars = self.bars.copy()
        bars[:, [COLUMN_INDEX[f"fader_{name}"] for name in FADERS]] = 0
        return BarTable(bars=bars, vad=self.vad, known=np.zeros_like(self.known))

    def __post_init__(self) -> None:
        assert self.bars.shape[1] == len(BAR_COLUMNS), "one class for each column"


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """One candidate: its words, from the bar word that opens the first bar, and how likely the network finds them."""

    words: Int64[np.ndarray, "word 6"]
    log_likelihood: float  # nats, mean over words


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU a step is so small that threads would only wait for each other."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Memory:
    """Keys and values of all layers, grown word by word."""

    def __init__(
        self, net: ComposerNet, batch: int, room: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        heads = net.config.heads
        shape = (net.config.layers, 2, batch, heads, room, net.config.width // heads)
        self.store = torch.zeros(shape, device=device, dtype=dtype)
        self.count = 0

    def add(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new keys and values of a layer and return all of them."""
        upto = self.count + k.shape[2]
        self.store[layer, 0, :, :, self.count : upto] = k
        self.store[layer, 1, :, :, self.count : upto] = v
        return self.store[layer, 0, :, :, :upto], self.store[layer, 1, :, :, :upto]

    def grown(self, times: int, room: int) -> "_Memory":
        """Every row `times` over, with space for `room` more words."""
        kept = self.store[:, :, :, :, : self.count]
        kept = repeat(kept, "l n b h t d -> l n (b k) h t d", k=times)
        other = object.__new__(_Memory)
        other.store = F.pad(kept, (0, 0, 0, room))
        other.count = self.count
        return other


class BarWriter:
    """Writes bars after what is there, in as many versions as asked for."""

    def __init__(
        self, net: ComposerNet, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        self.net, self.dtype = net.eval(), dtype
        self.device = device or torch.device("cpu")

    @torch.inference_mode()
    def __call__(
        self,
        context: Int64[np.ndarray, "word 6"],
        segment: Int64[np.ndarray, "word"],
        table: BarTable,
        rules: Sequence[BarRule],
        *,
        first_bar: int,
        seeds: Sequence[Sequence[int]],
        options: SamplingOptions,
    ) -> list[Written]:
        """`len(seeds)` versions of bars `first_bar` .. `first_bar + len(rules) - 1`, whole and inside their rules.

        `context` are words read before, in any order, `segment` what they are (0 the same passage, 1 before a gap or far,
        2 after a gap). Bars count from the start of `table`.
        """
        with autocast(self.device, self.dtype), _one_thread(self.device):
            return _Passage(self, context, segment, table, rules, first_bar, seeds, options).write()


class _Passage:
    """The state of one call of a `BarWriter`."""

    def __init__(
        self,
        writer: BarWriter,
        context: np.ndarray,
        segment: np.ndarray,
        table: BarTable,
        rules: Sequence[BarRule],
        first_bar: int,
        seeds: Sequence[Sequence[int]],
        options: SamplingOptions,
    ) -> None:
        self.net, self.device = writer.net, writer.device
        self.rules, self.first_bar, self.options = rules, first_bar, options
        self.tints = [Tint(context, first_bar) for _ in seeds]
        self.count = len(seeds)
        self.random = [np.random.default_rng(list(seed)) for seed in seeds]
        self.sides = 1 if options.guidance == 1.0 else 2  # told, and with the feeling left open
        self._tell(table)
        opening = np.array([[BAR, first_bar, 0, 0, 0, 0]], np.int64)
        words = np.concatenate([context, opening]) if len(context) else opening
        parts = np.append(segment, 0).astype(np.int64)
        memory = _Memory(self.net, self.sides, len(words), self.device, torch.float32)
        read = repeat(torch.from_numpy(words).to(self.device), "t c -> s t c", s=self.sides)
        state = self._read(
            read, repeat(torch.from_numpy(parts).to(self.device), "t -> s t", s=self.sides), memory
        )
        self.memory = memory.grown(self.count, _MOST_WORDS * len(rules))
        self.state = repeat(state[:, -1], "s d -> (s k) d", k=self.count)
        self.bar = np.full(self.count, first_bar)
        self.states = [BarState(rules[0]) for _ in range(self.count)]
        self.words = [[opening[0]] for _ in range(self.count)]
        self.in_bar = np.ones(self.count, np.int64)
        self.likelihood = np.zeros(self.count)
        self.finished = np.zeros(self.count, bool)

    def _tell(self, table: BarTable) -> None:
        sides = [table, table.without_feeling()][: self.sides]
        self.table = torch.from_numpy(np.stack([side.bars for side in sides])).to(self.device)
        vad = torch.from_numpy(np.stack([side.vad for side in sides])).to(self.device)
        known = torch.from_numpy(np.stack([side.known for side in sides])).to(self.device)
        self.told = self.net.bar_encoder(self.table, vad, known)
        self.late = self.net.late(self.told)

    def _read(
        self, words: Int[Tensor, "row word 6"], segment: Int[Tensor, "row word"], memory: _Memory
    ) -> Float[Tensor, "row word width"]:
        """The states after new words; all words are read together when the memory is empty, else one by one."""
        net, fresh = self.net, memory.count == 0
        versions = words.shape[0] // self.sides
        bar_of = words[..., BAR_INDEX].clamp(0, self.table.shape[1] - 1)
        told, late, bars = (
            gather_bars(repeat(rows, "s n c -> (s k) n c", k=versions), bar_of)
            for rows in (self.told, self.late, self.table)
        )
        x = net.enter(words, segment, bars, told)
        angles = net.angles(words, memory.count)
        for layer, block in enumerate(net.layers):
            q, k, v = block.heads_of(x, angles)
            k, v = memory.add(layer, k, v)
            x = block.finish(
                x, F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), is_causal=fresh)
            )
        memory.count += words.shape[1]
        return net.norm(x) + late

    def write(self) -> list[Written]:
        """Draw words until every version has all its bars."""
        segment = torch.zeros(self.sides * self.count, 1, dtype=torch.int64, device=self.device)
        for _ in range(_MOST_WORDS * len(self.rules)):
            words = self._draw_words()
            if self.finished.all():
                break
            read = repeat(torch.from_numpy(words).to(self.device), "k c -> (s k) 1 c", s=self.sides)
            self.state = self._read(read, segment, self.memory)[:, 0]
        assert self.finished.all(), "every version ends within its room"
        return [
            Written(words=np.stack(words), log_likelihood=float(total / max(len(words), 1)))
            for words, total in zip(self.words, self.likelihood, strict=True)
        ]

    def _draw_words(self) -> Int64[np.ndarray, "version 6"]:
        """The next word of every version; finished ones repeat their last."""
        word = np.zeros((self.count, 6), np.int64)
        for row, state in enumerate(self.states):
            word[row, BAR_INDEX] = self.bar[row]
            word[row, POSITION] = max(state.position, 0)
        live = ~self.finished
        word[:, FAMILY] = self._column("family", word, self._family_masks(), live)
        closing = live & (word[:, FAMILY] == BAR)
        beats = live & (word[:, FAMILY] == BEAT)
        notes = live & (word[:, FAMILY] > BEAT)
        if beats.any():
            masks = np.stack([state.positions() for state in self.states])
            word[:, POSITION] = np.where(
                beats, self._column("position", word, masks, beats), word[:, POSITION]
            )
        if notes.any():
            self._fill_notes(word, notes)
        for row in np.flatnonzero(closing):
            self.bar[row] += 1
            word[row, BAR_INDEX], word[row, POSITION] = self.bar[row], 0
            self.in_bar[row] = 0
            if self.bar[row] == self.first_bar + len(self.rules):
                self.finished[row] = True
            else:
                self.states[row] = BarState(self.rules[self.bar[row] - self.first_bar])
                self.tints[row].next_bar()
        for row in np.flatnonzero(live & ~self.finished):
            self.words[row].append(word[row].copy())
            self.states[row].advance(word[row])
            self.tints[row].add(word[row])
            self.in_bar[row] += 1
        for row in np.flatnonzero(self.finished):
            word[row] = self.words[row][-1]
        return word

    def _family_masks(self) -> Bool[np.ndarray, "version 5"]:
        masks = np.stack([state.families() for state in self.states])
        full = self.in_bar >= _MOST_WORDS - 24
        for row in np.flatnonzero(full):  # close the bar as soon as its rule lets it
            for preferred in (BAR, BEAT, MELODY, NOTE):
                if masks[row, preferred]:
                    masks[row] = np.arange(5) == preferred
                    break
        return masks

    def _fill_notes(self, word: np.ndarray, notes: np.ndarray) -> None:
        for column, index in (("pitch", PITCH), ("duration", DURATION), ("velocity", VELOCITY)):
            masks = np.zeros((self.count, SIZES[column]), bool)
            for row in range(self.count):
                family = int(word[row, FAMILY])
                if not notes[row]:
                    masks[row, 1] = True
                elif column == "pitch":
                    masks[row] = self.states[row].pitches(family)
                elif column == "duration":
                    masks[row] = self.states[row].durations(family)
                else:
                    masks[row, 1:] = True
            drawn = self._column(column, word, masks, notes)
            word[:, index] = np.where(notes, drawn, 0)

    def _column(
        self, column: str, word: np.ndarray, masks: Bool[np.ndarray, "version klass"], live: np.ndarray
    ) -> Int64[np.ndarray, "version"]:
        """One drawn class of a column for each version; forced classes cost no evaluation."""
        forced = masks.sum(axis=1) == 1
        if bool((forced | ~live).all()):
            return masks.argmax(axis=1)
        partial = repeat(torch.from_numpy(word).to(self.device), "k c -> (s k) c", s=self.sides)
        logits = rearrange(
            self.net.scores(self.state, partial, column).float(), "(s k) c -> s k c", s=self.sides
        )
        told = logits[0]
        if self.sides == 2:
            told = torch.log_softmax(logits[1], -1).lerp(torch.log_softmax(told, -1), self.options.guidance)
        scores = told.cpu().numpy().astype(np.float64)
        melody = (word[:, FAMILY] == MELODY) & (column == "pitch")
        drawn = np.zeros(self.count, np.int64)
        for row in range(self.count):
            if not live[row] or forced[row]:
                drawn[row] = masks[row].argmax()
                continue
            name = "melody" if melody[row] else column
            if column == "pitch" and self.options.tint:
                wanted = self.rules[self.bar[row] - self.first_bar].valence
                scores[row] += self.options.tint * self.tints[row].towards(wanted)
            p = _probabilities(
                scores[row], masks[row], self.options.temperature[name], self.options.top_p[name]
            )
            drawn[row] = min(int(np.searchsorted(np.cumsum(p), self.random[row].random())), len(p) - 1)
            self.likelihood[row] += float(np.log(max(p[drawn[row]], 1e-12)))
        return drawn


class Tint:
    """Which tones bring the bar that is being written nearer to a mode, after what sounds in it and before it."""

    def __init__(self, context: Int64[np.ndarray, "word 6"], first_bar: int) -> None:
        self.heard = np.zeros(
            (3, 12)
        )  # sixteenths of each pitch class in the bar and the two before, the last first
        for word in context[(context[:, BAR_INDEX] < first_bar) & (context[:, BAR_INDEX] >= first_bar - 2)]:
            self._count(first_bar - int(word[BAR_INDEX]), word)

    def next_bar(self) -> None:
        """What was the bar is now the one before."""
        self.heard = np.concatenate([np.zeros((1, 12)), self.heard[:2]])

    def add(self, word: Int64[np.ndarray, "6"]) -> None:
        """Take a word of the bar into account."""
        self._count(0, word)

    def _count(self, ago: int, word: Int64[np.ndarray, "6"]) -> None:
        if word[FAMILY] >= MELODY:
            self.heard[ago, (int(word[PITCH]) + LOWEST - 1) % 12] += LENGTHS[int(word[DURATION])]

    def towards(self, wanted: float) -> Float64[np.ndarray, "pitch"]:
        """For each pitch how much nearer the mode of the bar comes with it to the valence that is wanted of it."""
        near = KEY_NEAR[2:] @ self.heard
        longer = near + np.eye(12) * (_TINT_SHARE * near.sum() + _TINT_LEAST)
        missed = np.abs(mode_valence(longer) - wanted)
        return (missed.mean() - missed)[(np.arange(SIZES["pitch"]) + LOWEST - 1) % 12]


def _probabilities(
    scores: Float[np.ndarray, "klass"], allowed: Bool[np.ndarray, "klass"], temperature: float, top_p: float
) -> Float[np.ndarray, "klass"]:
    """The distribution to draw from: allowed classes only, sharpened, its unlikely tail cut off."""
    scores = np.where(allowed, scores, -np.inf) / temperature
    p = np.exp(scores - scores.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    p[order[before >= top_p]] = 0.0
    return p / p.sum()


assert set(HEAD_COLUMN) <= set(SamplingOptions().temperature), "every column has its temperature"
