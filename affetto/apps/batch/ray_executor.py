"""Jobs on a Ray cluster: persistent actors, whole or fractional GPUs, lost nodes replaced. Needs the extra `ray`."""

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affetto.apps.batch.plan import PlannedJob
from affetto.apps.batch.worker import JobEvent, Maker, Order, worked
from affetto.runtime.errors import OutOfMemoryError, UsageError
from affetto.runtime.progress import CancelToken

CANCEL_GRACE_S = 1.5

ray: Any = importlib.import_module("ray")


class Actor:
    """One worker's life on some node. Two calls run at once, so that it can be asked and stopped while it works."""

    def __init__(self, device: str, dtype: str, workshop: Callable[..., Maker] | None) -> None:
        if workshop is None:
            from affetto.apps.batch.engines import Workshop  # on the node, not where the run was started

            workshop = Workshop
        self._workshop = workshop(device=device, dtype=dtype)
        self._token = CancelToken()
        self._last: JobEvent | None = None

    def make(self, order: Order) -> JobEvent:
        """Do one job; how it ended."""
        self._token, self._last = CancelToken(), None
        return worked(order, self._workshop, self._note, self._token)

    def last(self) -> JobEvent | None:
        """Where the current job is."""
        return self._last

    def cancel(self) -> None:
        """Stop the current job at its next step."""
        self._token.cancel()

    def _note(self, event: JobEvent) -> None:
        self._last = event


@dataclass(kw_only=True)
class _Task:
    """A job on an actor: since when it shows no progress, and when it is killed if it was asked to stop."""

    index: int
    output: str
    patience_s: float
    seen: JobEvent | None = None
    moved: float = field(default_factory=time.monotonic)
    kill_at: float | None = None


class RayExecutor:
    """An `Executor` over Ray actors, one for each of `devices`; a `cuda` device asks Ray for `gpu_share` of a GPU.

    The outputs' folder must be on storage that every node sees. A job whose node dies is lost, and the runner tries
    it again on a new actor. `workshop` opens what makes the outputs in each, by default the generators.
    """

    def __init__(
        self,
        devices: Sequence[str],
        *,
        dtype: str = "auto",
        gpu_share: float = 1.0,
        address: str | None = None,
        workshop: Callable[..., Maker] | None = None,
    ) -> None:
        if not 0.0 < gpu_share <= 1.0:
            raise UsageError(f"--gpu-share {gpu_share:g}: use more than 0 and at most 1 GPU for each worker")
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="error")
        self._options = [
            {"num_cpus": 1, "max_concurrency": 2} | ({"num_gpus": gpu_share} if "cuda" in device else {})
            for device in devices
        ]
        self._arguments = [("cuda" if "cuda" in device else device, dtype, workshop) for device in devices]
        self._waking: dict[int, Any] = {}  # actors that have no place on a node yet
        self._actors: list[Any] = [self._started(index) for index in range(len(devices))]
        self._running: dict[Any, _Task] = {}

    @property
    def free(self) -> int:
        """How many actors have a place on a node and nothing to do."""
        return len(self._idle())

    def submit(self, job: PlannedJob, target: Path, *, patience_s: float) -> None:
        """Give a job to an idle actor."""
        index = self._idle()[0]
        promise = self._actors[index].make.remote(Order(job=job, target=target.absolute()))
        self._running[promise] = _Task(index=index, output=job.spec.output, patience_s=patience_s)

    def poll(self, timeout_s: float) -> list[JobEvent]:
        """What ended, what was lost with its node, where the others are, and which of them hang."""
        if not self._running:
            time.sleep(timeout_s)
            return []
        ready, waiting = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        events = [self._ended(promise) for promise in ready]
        asked = [self._actors[self._running[promise].index].last.remote() for promise in waiting]
        told, _ = ray.wait(asked, num_returns=len(asked), timeout=0.5) if asked else ([], [])
        tasks = {answer: self._running[promise] for answer, promise in zip(asked, waiting, strict=True)}
        for answer in told:
            try:
                event = ray.get(answer)
            except ray.exceptions.RayError:
                continue  # its job is reported as lost at the next poll
            if event is not None and event != tasks[answer].seen:
                tasks[answer].seen, tasks[answer].moved = event, time.monotonic()
                events.append(event)
        return events + [self._stopped(promise) for promise in waiting if self._is_overdue(promise)]

    def cancel(self, output: str) -> None:
        """Ask an actor to stop its job, and end the actor if it does not listen."""
        for task in self._running.values():
            if task.output == output and task.kill_at is None:
                task.kill_at = time.monotonic() + CANCEL_GRACE_S
                self._actors[task.index].cancel.remote()

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def _idle(self) -> list[int]:
        if self._waking:
            ready, _ = ray.wait(list(self._waking.values()), num_returns=len(self._waking), timeout=0)
            self._waking = {index: answer for index, answer in self._waking.items() if answer not in ready}
        busy = {task.index for task in self._running.values()} | set(self._waking)
        return [index for index in range(len(self._actors)) if index not in busy]

    def _ended(self, promise: Any) -> JobEvent:
        task = self._running.pop(promise)
        try:
            event: JobEvent = ray.get(promise)
        except ray.exceptions.RayError as error:
            reason = f"its worker died ({type(error).__name__})"
            event = JobEvent(kind="lost", output=task.output, error=reason, exit_code=1)
        if event.kind == "lost" or event.exit_code == OutOfMemoryError.exit_code:
            self._replace(task.index)
        return event

    def _is_overdue(self, promise: Any) -> bool:
        task, now = self._running[promise], time.monotonic()
        return now > task.kill_at if task.kill_at is not None else now - task.moved > task.patience_s

    def _stopped(self, promise: Any) -> JobEvent:
        task = self._running.pop(promise)
        self._replace(task.index)
        if task.kill_at is not None:
            return JobEvent(kind="cancelled", output=task.output)
        reason = f"made no progress for {task.patience_s:.0f} s and was stopped"
        return JobEvent(kind="lost", output=task.output, error=reason, exit_code=1)

    def _replace(self, index: int) -> None:
        ray.kill(self._actors[index])
        self._actors[index] = self._started(index)

    def _started(self, index: int) -> Any:
        actor = ray.remote(Actor).options(**self._options[index]).remote(*self._arguments[index])
        self._waking[index] = actor.last.remote()
        return actor
