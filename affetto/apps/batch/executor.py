"""Where jobs run: one small protocol, and the processes of this machine behind it."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from affetto.apps.batch.plan import PlannedJob
from affetto.apps.batch.worker import JobEvent, Maker, Order, serve
from affetto.runtime.errors import OutOfMemoryError

CANCEL_GRACE_S = 1.5
_SILENT_S = 30.0
_START_S = 300.0


@runtime_checkable
class Executor(Protocol):
    """Runs jobs somewhere. Events of a job end with done, failed, lost or cancelled, exactly once."""

    @property
    def free(self) -> int:
        """How many more jobs it takes at once."""
        ...

    def submit(self, job: PlannedJob, target: Path, *, patience_s: float) -> None:
        """Begin a job; without any progress for `patience_s` it counts as hung and is lost."""
        ...

    def poll(self, timeout_s: float) -> list[JobEvent]:
        """What happened since; waits up to `timeout_s` for something to happen."""
        ...

    def cancel(self, output: str) -> None:
        """Ask a job to stop; it is stopped within two seconds."""
        ...

    def close(self) -> None:
        """Stop everything."""
        ...


@dataclass(kw_only=True)
class _Worker:
    """A worker process and what it is doing."""

    process: SpawnProcess
    pipe: Connection
    device: str
    output: str | None = None
    patience_s: float = 0.0
    moved: float = field(default_factory=time.monotonic)
    beat: float = field(default_factory=time.monotonic)
    kill_at: float | None = None
    awake: bool = False  # it has spoken: libraries are loaded


class LocalExecutor:
    """Persistent worker processes on this machine, one for each of `devices`; a dead one is replaced.

    Several workers may share a device by naming it several times. `workshop` opens what makes the outputs in each, by
    default the generators. With `previews` their events tell how each stage looks.
    """

    def __init__(
        self,
        devices: Sequence[str] = ("cpu",),
        *,
        dtype: str = "auto",
        workshop: Callable[..., Maker] | None = None,
        previews: bool = False,
    ) -> None:
        self._workshop = workshop
        self._previews = previews
        self._context = multiprocessing.get_context("spawn")
        self._dtype = dtype
        self._threads = max(1, (os.cpu_count() or 1) // len(devices))
        self._workers = [self._started(device) for device in devices]

    @property
    def free(self) -> int:
        """How many workers have nothing to do."""
        return sum(worker.output is None for worker in self._workers)

    def submit(self, job: PlannedJob, target: Path, *, patience_s: float) -> None:
        """Give a job to an idle worker."""
        index = next(index for index, worker in enumerate(self._workers) if worker.output is None)
        if not self._workers[index].process.is_alive():
            self._replace(index)
        worker = self._workers[index]
        worker.output, worker.patience_s, worker.kill_at = job.spec.output, patience_s, None
        worker.moved = worker.beat = time.monotonic()
        worker.pipe.send(Order(job=job, target=target))

    def poll(self, timeout_s: float) -> list[JobEvent]:
        """What workers said, and which of them died or hang."""
        events: list[JobEvent] = []
        pipes = {worker.pipe: index for index, worker in enumerate(self._workers)}
        for pipe in wait(list(pipes), timeout=timeout_s):
            events += self._heard(pipes[cast(Connection, pipe)])
        for index, worker in enumerate(self._workers):
            if worker.output is not None and (reason := self._overdue(worker)):
                cancelled = worker.kill_at is not None
                events.append(
                    self._lost(index, "" if cancelled else reason, kind="cancelled" if cancelled else "lost")
                )
        return events

    def cancel(self, output: str) -> None:
        """Ask, and kill the worker if it does not listen."""
        for worker in self._workers:
            if worker.output == output and worker.kill_at is None:
                worker.kill_at = time.monotonic() + CANCEL_GRACE_S
                worker.pipe.send("cancel")

    def close(self) -> None:
        """End every worker; what they are doing is dropped."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _started(self, device: str) -> _Worker:
        ours, theirs = self._context.Pipe()
        options = {
            "workshop": self._workshop,
            "device": device,
            "dtype": self._dtype,
            "threads": self._threads,
            "previews": self._previews,
        }
        process = self._context.Process(target=serve, args=(theirs,), kwargs=options, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, pipe=cast(Connection, ours), device=device)

    def _replace(self, index: int) -> None:
        worker = self._workers[index]
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers[index] = self._started(worker.device)

    def _heard(self, index: int) -> list[JobEvent]:
        worker = self._workers[index]
        events: list[JobEvent] = []
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                worker.beat = time.monotonic()
                if not worker.awake:
                    worker.awake, worker.moved = True, worker.beat
                if not isinstance(message, JobEvent):
                    continue
                worker.moved = time.monotonic()
                events.append(message)
                if message.kind != "progress":
                    worker.output = worker.kill_at = None
                if message.kind == "failed" and message.exit_code == OutOfMemoryError.exit_code:
                    self._replace(index)  # what fills its memory goes with it
                    break
        except (EOFError, OSError):
            if worker.output is None:
                self._replace(index)
            else:
                worker.process.join(timeout=1.0)
                cancelled = worker.kill_at is not None
                reason = f"its worker died ({_cause(worker.process.exitcode)})"
                events.append(self._lost(index, reason, kind="cancelled" if cancelled else "lost"))
        return events

    def _lost(self, index: int, reason: str, *, kind: str) -> JobEvent:
        output = self._workers[index].output or ""
        self._replace(index)
        if kind == "cancelled":
            return JobEvent(kind="cancelled", output=output)
        return JobEvent(kind="lost", output=output, error=reason, exit_code=1)

    def _overdue(self, worker: _Worker) -> str:
        now = time.monotonic()
        if worker.kill_at is not None:
            return "cancelled" if now > worker.kill_at else ""
        if not worker.awake:
            return "its worker did not start" if now - worker.moved > _START_S else ""
        if now - worker.moved > worker.patience_s:
            return f"made no progress for {worker.patience_s:.0f} s and was stopped"
        if now - worker.beat > max(_SILENT_S, worker.patience_s):
            return "its worker stopped answering"
        return ""


def _cause(exit_code: int | None) -> str:
    if exit_code is None:
        return "its pipe closed"
    if exit_code == -9:
        return "signal 9, perhaps for want of memory"
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
