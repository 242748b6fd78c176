"""What is given up, in which order, when the device runs out of memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import torch

from affetto.generators.portrait.full.decoding import DecodeCut
from affetto.generators.portrait.full.sampler import Cut
from affetto.runtime.errors import OutOfMemoryError

Stage = Literal["denoise", "decode"]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Running:
    """How work is laid out at the moment."""

    cut: Cut = field(default_factory=Cut)
    decode: DecodeCut = field(default_factory=DecodeCut)
    keeps_keys: bool = True
    slices_feed_forward: bool = False
    idle_on_device: bool = True
    features_on_device: bool = True


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One concession: what it is called, and the layout after it (the same layout when it has nothing to give)."""

    name: str
    apply: Callable[[Running], Running]
    exact: bool = True  # whether the result stays the same but for rounding


def _fewer_windows(running: Running) -> Running:
    return replace(running, cut=replace(running.cut, windows=1))


def _branch_by_branch(running: Running) -> Running:
    return replace(running, cut=replace(running.cut, branches_together=False))


def _shorter_chunks(running: Running) -> Running:
    return replace(running, decode=replace(running.decode, chunk=max(2, running.decode.chunk // 2)))


def _tiles(running: Running) -> Running:
    tile = 32 if running.decode.tile is None else max(16, running.decode.tile // 2)
    return replace(running, decode=replace(running.decode, tile=tile))


_IDLE = Rung(
    name="networks that rest leave the device", apply=lambda running: replace(running, idle_on_device=False)
)

RUNGS: dict[Stage, tuple[Rung, ...]] = {
    "denoise": (
        Rung(name="one window at a time", apply=_fewer_windows),
        _IDLE,
        Rung(name="branches one after the other", apply=_branch_by_branch),
        Rung(
            name="kept features leave the device",
            apply=lambda running: replace(running, features_on_device=False),
        ),
        Rung(name="keys are not kept", apply=lambda running: replace(running, keeps_keys=False)),
        Rung(
            name="feed-forward layers in slices",
            apply=lambda running: replace(running, slices_feed_forward=True),
        ),
    ),
    "decode": (
        _IDLE,
        Rung(name="half as many frames decoded together", apply=_shorter_chunks, exact=False),
        Rung(name="a quarter as many frames decoded together", apply=_shorter_chunks, exact=False),
        Rung(name="decoding in tiles", apply=_tiles, exact=False),
        Rung(name="decoding in smaller tiles", apply=_tiles, exact=False),
    ),
}
"""What each stage gives up, first to last: first what costs time only, then what changes pixels a little."""


class Ladder:
    """Repeats work that ran out of memory with less and less of it, and remembers what was given up."""

    def __init__(self, running: Running, *, changed: Callable[[Running], None] | None = None) -> None:
        self.running, self.taken = running, tuple[str, ...]()
        self.exact = True
        self._changed = changed
        self._left: dict[Stage, list[Rung]] = {stage: list(rungs) for stage, rungs in RUNGS.items()}

    def attempt(self, stage: Stage, work: Callable[[Running], Result]) -> Result:
        """What `work` gives; raises OutOfMemoryError when nothing is left to give up."""
        while True:
            try:
                return work(self.running)
            except Exception as error:
                if not ran_out(error):
                    raise
                reason = " ".join(str(error).split())[:120]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._descend(stage, reason)

    def _descend(self, stage: Stage, reason: str) -> None:
        left = self._left[stage]
        while left:
            rung = left.pop(0)
            lower = rung.apply(self.running)
            if lower != self.running:
                self.running, self.taken = lower, (*self.taken, rung.name)
                self.exact = self.exact and rung.exact
                if self._changed is not None:
                    self._changed(lower)
                return
        raise OutOfMemoryError(
            f"out of memory in {stage} after all savings ({reason}): use a smaller --size or --preset preview"
        )


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory is short, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error).lower()
