"""What is given up, in which order, when the device runs out of memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from affetto.generators.portrait.full.decoding import DecodeCut
from affetto.generators.portrait.full.sampler import Cut
from affetto.runtime import memory
from affetto.runtime.memory import Rung, ran_out

Stage = Literal["denoise", "decode"]
Result = TypeVar("Result")

__all__ = ["RUNGS", "Ladder", "Running", "Stage", "ran_out"]


@dataclass(frozen=True, kw_only=True)
class Running:
    """How work is laid out at the moment."""

    cut: Cut = field(default_factory=Cut)
    decode: DecodeCut = field(default_factory=DecodeCut)
    keeps_keys: bool = True
    slices_feed_forward: bool = False
    idle_on_device: bool = True
    features_on_device: bool = True


def _fewer_windows(running: Running) -> Running:
    return replace(running, cut=replace(running.cut, windows=1))


def _branch_by_branch(running: Running) -> Running:
    return replace(running, cut=replace(running.cut, branches_together=False))


def _shorter_chunks(running: Running) -> Running:
    return replace(running, decode=replace(running.decode, chunk=max(2, running.decode.chunk // 2)))


def _tiles(running: Running) -> Running:
    tile = 32 if running.decode.tile is None else max(16, running.decode.tile // 2)
    return replace(running, decode=replace(running.decode, tile=tile))


_IDLE = Rung[Running](
    name="networks that rest leave the device", apply=lambda running: replace(running, idle_on_device=False)
)

RUNGS: dict[Stage, tuple[Rung[Running], ...]] = {
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
        advice = "use a smaller --size or --preset preview"
        self._ladder = memory.Ladder(running, advice=advice, changed=changed)
        self._left = {stage: iter(rungs) for stage, rungs in RUNGS.items()}

    @property
    def taken(self) -> tuple[str, ...]:
        """What was given up, in order."""
        return self._ladder.taken

    @property
    def exact(self) -> bool:
        """Whether the result stays the same but for rounding."""
        return self._ladder.exact

    def attempt(self, stage: Stage, work: Callable[[Running], Result]) -> Result:
        """What `work` gives; raises OutOfMemoryError when nothing is left to give up."""
        return self._ladder.attempt(stage, self._left[stage], work)
