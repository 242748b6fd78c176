"""Drawing pieces from MusER word by word: its constants, each column in turn, nothing that is no music."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from affetto.generators.music.full.muser import Muser, MuserPrior
from affetto.generators.music.full.muser_weights import MuserIds
from affetto.runtime.device import autocast
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.tokenizers.muser_words import MUSER
from affetto.tokenizers.vocabulary import (
    CHORD,
    DURATION,
    EMOTION,
    END,
    FAMILY,
    METRICAL,
    MOOD,
    NOTE_WORD,
    PITCH,
    POSITION,
    TEMPO,
    VELOCITY,
)

_BAR = 1  # our id of the bar word in the position column


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How boldly one column is drawn: temperature, and the share of probability drawn from (none: all)."""

    temperature: float = 1.0
    top_p: float | None = None


@dataclass(frozen=True, kw_only=True)
class MuserSampling:
    """The published constants of each column and of the prior."""

    columns: Mapping[int, Draw] = field(
        default_factory=lambda: {
            FAMILY: Draw(top_p=0.9),
            TEMPO: Draw(temperature=1.2, top_p=0.9),
            POSITION: Draw(temperature=1.2),
            CHORD: Draw(top_p=0.99),
            PITCH: Draw(top_p=0.9),
            DURATION: Draw(temperature=2.0, top_p=0.9),
            VELOCITY: Draw(temperature=5.0),
        }
    )
    prior: Draw = field(default_factory=lambda: Draw(top_p=0.9))  # its temperature is in its logits


def drawn(
    logits: Float[np.ndarray, "id"],
    rng: np.random.Generator,
    how: Draw,
    allowed: Bool[np.ndarray, "id"] | None = None,
) -> int:
    """One id, from the fewest that together exceed `top_p`."""
    values = np.asarray(logits, np.float64)
    if allowed is not None:
        values = np.where(allowed, values, -np.inf)
    share = np.exp((values - values.max()) / how.temperature)
    share /= share.sum()
    order = np.argsort(-share, kind="stable")
    if how.top_p is not None:
        order = order[: int(np.searchsorted(np.cumsum(share[order]), how.top_p, side="right")) + 1]
    cumulated = np.cumsum(share[order])
    return int(
        order[np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right").clip(max=len(order) - 1)]
    )


class WordGrammar:
    """Which ids may come next: a bar first, complete notes, places that rise within a bar. Not in the published code."""

    def __init__(self, ids: MuserIds) -> None:
        self.ids = ids
        self.bar = ids.network_id(POSITION, _BAR)
        self.nothing = (
            [ids.network_id(column, 0) for column in range(FAMILY)]
            + [0]
            + [ids.network_id(column, 0) for column in range(PITCH, EMOTION)]
        )
        self.family = {name: ids.network_id(FAMILY, name) for name in (END, MOOD, METRICAL, NOTE_WORD)}
        self._place = np.array(ids.ours(POSITION))  # our id of each of the network's
        self._values = {
            column: np.arange(MUSER.sizes[column]) != self.nothing[column]
            for column in (TEMPO, CHORD, PITCH, DURATION, VELOCITY)
        }

    def families(self, last: int) -> Bool[np.ndarray, "id"]:
        """Families that may follow when `last` is our id of the latest place, 0 before the first bar."""
        allowed = np.zeros(MUSER.sizes[FAMILY], bool)
        allowed[self.family[METRICAL]] = True
        if last > 0:
            allowed[self.family[END]] = True
        if last > _BAR:
            allowed[self.family[NOTE_WORD]] = True
        return allowed

    def places(self, last: int) -> Bool[np.ndarray, "id"]:
        """Places that may follow: the next bar, or later in this one."""
        if last == 0:
            return self._place == _BAR
        return (self._place == _BAR) | (self._place > last)

    def values(self, column: int) -> Bool[np.ndarray, "id"]:
        """The ids of a column that say something."""
        return self._values[column]


class PieceSampler:
    """Draws whole pieces; each has its own random stream, whatever is drawn beside it."""

    def __init__(
        self,
        network: Muser,
        ids: MuserIds,
        *,
        prior: MuserPrior | None = None,
        compact: Int64[np.ndarray, "code"] | None = None,
        sampling: MuserSampling | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.network, self.ids, self.prior, self.compact = network, ids, prior, compact
        self.sampling, self.dtype = sampling or MuserSampling(), dtype
        self.grammar = WordGrammar(ids)
        self.device = next(network.parameters()).device

    @torch.inference_mode()
    def latents(
        self,
        quadrants: Sequence[int],
        rngs: Sequence[np.random.Generator],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Float[Tensor, "batch word latent"]:
        """Latents for pieces of quadrants 1..4: codes drawn from the prior, or a Gaussian vector."""
        config = self.network.config
        if config.latent == "gauss":
            z = torch.tensor(
                np.stack([rng.standard_normal(config.latent_width) for rng in rngs]), dtype=torch.float32
            )
            return self.network.drawn_latent(
                z.to(self.device), torch.tensor(list(quadrants), device=self.device)
            )
        codes = self.codes(quadrants, rngs, progress=progress, cancel=cancel)
        return torch.nn.functional.embedding(codes, self.network.VQ.codes)

    @torch.inference_mode()
    def codes(
        self,
        quadrants: Sequence[int],
        rngs: Sequence[np.random.Generator],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Int64[Tensor, "batch word"]:
        """Codes for pieces of quadrants 1..4 drawn from the prior, recurrently."""
        assert self.prior is not None, "codes are drawn from a prior"
        assert self.compact is not None, "a prior comes with the codes it knows"
        latest = torch.tensor([self.prior.start_of(each) for each in quadrants], device=self.device)
        states, found, total = self.prior.start(), [], self.network.config.length
        for place in range(total):
            with autocast(self.device, self.dtype):
                logits, states = self.prior.step(latest, place, states)
            rows = logits.float().cpu().numpy()
            picked = [drawn(row, rng, self.sampling.prior) for row, rng in zip(rows, rngs, strict=True)]
            latest = torch.tensor(picked, device=self.device)
            found.append(picked)
            _tell(progress, cancel, "codes", place + 1, total)
        return torch.from_numpy(self.compact[np.array(found).T]).to(self.device)

    @torch.inference_mode()
    def words(
        self,
        latents: Float[Tensor, "batch word latent"],
        quadrants: Sequence[int],
        rngs: Sequence[np.random.Generator],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Int64[np.ndarray, "_ 8"]]:
        """The words (the network's ids) of each piece, emotion word first, until its end or the longest sequence."""
        count, total = len(quadrants), latents.shape[1] - 1
        state = self.network.start(latents)
        first = np.zeros((count, 8), np.int64)
        first[:, :EMOTION] = self.grammar.nothing
        first[:, FAMILY] = self.grammar.family[MOOD]
        first[:, EMOTION] = [self.ids.network_id(EMOTION, quadrant) for quadrant in quadrants]
        rows, last, open_ = [first], [0] * count, [True] * count
        for place in range(total):
            with autocast(self.device, self.dtype):
                heads, state = self.network.step(torch.from_numpy(rows[-1]).to(self.device), state)
                logits = self.network.family_logits(heads)[:, 0].float().cpu().numpy()
            families = [
                drawn(row, rng, self.sampling.columns[FAMILY], self.grammar.families(where))
                if alive
                else self.grammar.family[END]
                for row, rng, where, alive in zip(logits, rngs, last, open_, strict=True)
            ]
            with autocast(self.device, self.dtype):
                known = torch.tensor(families, device=self.device)[:, None]
                others = {
                    column: values[:, 0].float().cpu().numpy()
                    for column, values in self.network.column_logits(heads, known).items()
                }
            word = np.zeros((count, 8), np.int64)
            for index, family in enumerate(families):
                given = {column: values[index] for column, values in others.items()}
                word[index], last[index] = self._word(family, given, last[index], rngs[index])
                open_[index] = open_[index] and family != self.grammar.family[END]
            rows.append(word)
            _tell(progress, cancel, "words", place + 1, total)
            if not any(open_):
                break
        return self._pieces(np.stack(rows, axis=1))

    def _word(
        self, family: int, logits: Mapping[int, np.ndarray], last: int, rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, "8"], int]:
        """One word of a family, and our id of the latest place after it."""
        grammar, how = self.grammar, self.sampling.columns
        word = np.array([*grammar.nothing, 0], np.int64)
        word[FAMILY] = family
        if family == grammar.family[NOTE_WORD]:
            for column in (PITCH, DURATION, VELOCITY):
                word[column] = drawn(logits[column], rng, how[column], grammar.values(column))
        elif family == grammar.family[METRICAL]:
            word[POSITION] = drawn(logits[POSITION], rng, how[POSITION], grammar.places(last))
            last = int(grammar.ids.ours(POSITION)[word[POSITION]])
            for column in (TEMPO, CHORD) if last > _BAR else ():
                word[column] = drawn(logits[column], rng, how[column], grammar.values(column))
        return word, last

    def _pieces(self, rows: Int64[np.ndarray, "batch word 8"]) -> list[Int64[np.ndarray, "_ 8"]]:
        end = self.grammar.family[END]
        pieces = []
        for row in rows:
            ends = np.flatnonzero(row[:, FAMILY] == end)
            closing = np.array([[*self.grammar.nothing, 0]], np.int64)
            closing[:, FAMILY] = end
            pieces.append(np.concatenate([row[: ends[0]] if len(ends) else row, closing]))
        return pieces


def _tell(
    progress: ProgressCallback | None, cancel: CancelToken | None, stage: str, done: int, total: int
) -> None:
    if cancel is not None:
        cancel.check()
    if progress is not None and (done % 16 == 0 or done == total):
        progress(ProgressEvent(stage=stage, done=done, total=total))
