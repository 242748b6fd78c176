"""A worker process: takes jobs from a pipe, one at a time, with its models kept loaded, and tells how they go."""

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from affetto.apps.batch.plan import PlannedJob
from affetto.runtime.errors import CancelledError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

BEAT_S = 1.0
_PROGRESS_S, _PREVIEW_S = 0.2, 1.0


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """What became of a job, or where it is. `lost` means that its worker died or had to be killed."""

    kind: Literal["progress", "done", "failed", "lost", "cancelled"]
    output: str
    stage: str = ""
    fraction: float | None = None
    file: dict[str, Any] | None = None
    error: str = ""
    exit_code: int = 0
    preview: dict[str, Any] | None = None  # what the stage looks or sounds like so far


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job for a worker, and where its output goes."""

    job: PlannedJob
    target: Path


@runtime_checkable
class Maker(Protocol):
    """Whatever turns jobs into files; `engines.Workshop` does."""

    def make(
        self, job: PlannedJob, target: Path, *, progress: ProgressCallback, cancel: CancelToken
    ) -> dict[str, Any]:
        """Write the output to `target`; size, time of change and hash of it."""
        ...


def serve(
    pipe: Connection,
    *,
    workshop: "Callable[..., Maker] | None",
    device: str,
    dtype: str,
    threads: int,
    previews: bool = False,
) -> None:
    """Work on `Order`s from `pipe` until it closes or None arrives; "cancel" stops the current one.

    `workshop` opens what makes the outputs, by default `engines.Workshop`; with `previews` its events tell how stages look.

    Sends `JobEvent`s, and a float (the clock) every second as a sign of life.
    """
    if "OMP_NUM_THREADS" not in os.environ:  # whoever set it knows better
        os.environ.update(
            dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
        )
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
    line = _Line(pipe)
    tokens: dict[str, CancelToken] = {}
    threading.Thread(target=_listen, args=(pipe, orders, tokens), daemon=True).start()
    threading.Thread(target=_beat, args=(line,), daemon=True).start()

    if workshop is None:
        from affetto.apps.batch.engines import Workshop  # after the thread counts are set

        workshop = Workshop
    maker = workshop(device=device, dtype=dtype)
    while (order := orders.get()) is not None:
        token = tokens.setdefault("current", CancelToken())
        line.send(worked(order, maker, line.send, token, previews=previews))
        tokens.pop("current", None)


class _Line:
    """The sending end of a pipe that several threads share."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, message: "JobEvent | float") -> None:
        with self._lock:
            try:
                self._pipe.send(message)
            except (BrokenPipeError, OSError):  # whoever gave the orders is gone: so is the reason to work
                os._exit(0)


def _listen(
    pipe: Connection, orders: "queue.SimpleQueue[Order | None]", tokens: dict[str, CancelToken]
) -> None:
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        if message == "cancel":
            tokens.setdefault("current", CancelToken()).cancel()
        else:
            orders.put(message)
            if message is None:
                return


def _beat(line: _Line) -> None:
    while True:
        line.send(time.time())
        time.sleep(BEAT_S)


def worked(
    order: Order,
    workshop: Maker,
    report: Callable[[JobEvent], None],
    token: CancelToken,
    *,
    previews: bool = False,
) -> JobEvent:
    """How one job ended; `report` hears where it is, at most five times a second, and sees each stage once a second."""
    from affetto.apps.cli import explain

    output = order.job.spec.output
    last, seen, stage = 0.0, 0.0, ""

    def progress(event: ProgressEvent) -> None:
        nonlocal last, seen, stage
        token.check()
        now, look = time.monotonic(), None
        if previews and event.preview is not None and (event.stage != stage or now - seen >= _PREVIEW_S):
            look, seen, stage = event.preview(), now, event.stage
        if look is not None or now - last >= _PROGRESS_S:
            last = now
            report(
                JobEvent(
                    kind="progress", output=output, stage=event.stage, fraction=event.fraction, preview=look
                )
            )

    try:
        file = workshop.make(order.job, order.target, progress=progress, cancel=token)
    except CancelledError:
        return JobEvent(kind="cancelled", output=output)
    except Exception as error:  # noqa: BLE001  a job's failure must not end the worker
        message, code = explain(error)
        return JobEvent(kind="failed", output=output, error=message, exit_code=code)
    return JobEvent(kind="done", output=output, file=file)
