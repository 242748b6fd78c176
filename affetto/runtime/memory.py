"""Giving up speed, then exactness, when a device runs out of memory: rungs of a ladder, and the layout that work runs in.

What computes several things together asks `together` how many, and what cuts long inputs asks `shorter` how long the
pieces may be; whoever repeats work that ran out of memory lowers both with `laid_out`.
"""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from affetto.runtime.errors import OutOfMemoryError

Place = TypeVar("Place")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How work is laid out: at most so many things at once, pieces so many times shorter, on which device (None: as asked)."""

    together: int | None = None
    shorter: int = 1
    alone: bool = False  # models that rest are let go
    device: str | None = None

    @property
    def lowered(self) -> bool:
        """Whether anything was given up: then this is not the first attempt."""
        return self != Layout()


_LAYOUT: ContextVar[Layout] = ContextVar("layout", default=Layout())  # noqa: B039  frozen


@contextlib.contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Work inside the block is laid out so."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


def together(count: int) -> int:
    """How many of `count` things to compute at once."""
    most = _LAYOUT.get().together
    return count if most is None else min(count, most)


def shorter(seconds: float) -> float:
    """How long a piece may be that is `seconds` long where memory is plenty."""
    return seconds / _LAYOUT.get().shorter


@dataclass(frozen=True, kw_only=True)
class Rung(Generic[Place]):
    """One concession: what it is called, and the layout after it (the same layout when it has nothing to give)."""

    name: str
    apply: Callable[[Place], Place]
    exact: bool = True  # whether the result stays the same but for rounding


class Ladder(Generic[Place]):
    """Repeats work that ran out of memory with less and less of it, and remembers what was given up."""

    def __init__(
        self,
        place: Place,
        *,
        advice: str = "use shorter input or a smaller --size",
        changed: Callable[[Place], None] | None = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        """`changed` hears each new place, `told` what was given up for it."""
        self.place, self.taken, self.exact = place, tuple[str, ...](), True
        self._advice, self._changed, self._told = advice, changed, told

    def attempt(self, stage: str, left: Iterator[Rung[Place]], work: Callable[[Place], Result]) -> Result:
        """What `work` gives; takes from `left` as it must. Raises OutOfMemoryError when none is left."""
        while True:
            try:
                return work(self.place)
            except Exception as error:
                if not ran_out(error):
                    raise
                reason = " ".join(str(error).split())[:120] or type(error).__name__
            # Outside the except block: the traceback holds on to the tensors of the attempt.
            gc.collect()
            if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._descend(stage, left, reason)

    def _descend(self, stage: str, left: Iterator[Rung[Place]], reason: str) -> None:
        for rung in left:
            lower = rung.apply(self.place)
            if lower != self.place:
                self.place, self.taken = lower, (*self.taken, rung.name)
                self.exact = self.exact and rung.exact
                if self._changed is not None:
                    self._changed(lower)
                if self._told is not None:
                    self._told(rung.name)
                return
        raise OutOfMemoryError(f"out of memory in {stage} after all savings ({reason}): {self._advice}")


def _rungs(device: str) -> Iterator[Rung[Layout]]:
    if device == "auto":
        from affetto.runtime.device import resolve_device  # torch, which light work never needs

        device = resolve_device(device).type
    yield Rung(name="models that rest are let go", apply=lambda place: replace(place, alone=True))
    if device != "cpu":
        yield Rung(name="four at a time", apply=lambda place: replace(place, together=4))
    yield Rung(name="one at a time", apply=lambda place: replace(place, together=1))
    yield Rung(name="pieces half as long", apply=lambda place: replace(place, shorter=2), exact=False)
    yield Rung(name="pieces a quarter as long", apply=lambda place: replace(place, shorter=4), exact=False)
    if device != "cpu":
        yield Rung(
            name="on the processor instead", apply=lambda place: replace(place, device="cpu"), exact=False
        )


@dataclass(frozen=True, kw_only=True)
class Spared(Generic[Result]):
    """What came out in the end, and what it took: the savings in their order, and whether they changed more than rounding."""

    result: Result
    savings: tuple[str, ...] = ()
    exact: bool = True
    layout: Layout = field(default_factory=Layout)


def sparing(
    stage: str,
    work: Callable[[Layout], Result],
    *,
    device: str = "cpu",
    told: Callable[[str], None] | None = None,
) -> "Spared[Result]":
    """What `work` gives, repeated with smaller batches, then shorter pieces, then on the processor, while memory lacks.

    `device` is where it runs first; `told` hears each saving. Raises OutOfMemoryError when nothing is left to give up.
    """
    ladder = Ladder(Layout(), told=told)

    def laid(layout: Layout) -> Result:
        with laid_out(layout):
            return work(layout)

    result = ladder.attempt(stage, _rungs(device), laid)
    return Spared(result=result, savings=ladder.taken, exact=ladder.exact, layout=ladder.place)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory is short, on a GPU or on the CPU."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    marks = (
        "out of memory",
        "allocation on device",
        "can't allocate memory",
        "cannot allocate memory",
        "cudnn_status_not_supported",
    )
    return isinstance(error, RuntimeError) and any(mark in text for mark in marks)
