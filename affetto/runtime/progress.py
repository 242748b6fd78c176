"""How long work reports where it is, and how it is told to stop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from affetto.runtime.errors import CancelledError

Preview = Callable[[], dict[str, Any]]
"""Makes what there is to see or hear so far (see `affetto.media.previews`); only who shows it calls it, at once."""


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """One step of a stage: `done` of `total` units (total 0 when unknown), and perhaps a way to see how it looks."""

    stage: str
    done: int
    total: int
    message: str = ""
    preview: Preview | None = field(default=None, compare=False, repr=False)

    @property
    def fraction(self) -> float | None:
        """The share done, 0..1, or None while the total is unknown."""
        return min(self.done / self.total, 1.0) if self.total > 0 else None


ProgressCallback = Callable[[ProgressEvent], None]


class CancelToken:
    """A flag that any thread may set; work checks it between steps."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `CancelledError` once `cancel` was called."""
        if self.cancelled:
            raise CancelledError("cancelled on request")
