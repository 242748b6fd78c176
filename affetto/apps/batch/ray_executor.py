"""Jobs on a Ray cluster: persistent actors, whole or fractional GPUs, lost nodes replaced. Needs the extra `ray`."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affetto.apps.batch.plan import PlannedJob
from affetto.apps.batch.worker import JobEvent, Order, worked
from affetto.runtime.progress import CancelToken

ray: Any = importlib.import_module("ray")


class Actor:
    """One worker's life on some node. Two calls run at once, so that it can be asked and stopped while it works."""

    def __init__(self, device: str, dtype: str) -> None:
        from affetto.apps.batch.engines import Workshop

        self._workshop = Workshop(device=device, dtype=dtype)
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


class RayExecutor:
    """An `Executor` over Ray actors, one for each of `devices`; a `cuda` device asks Ray for `gpu_share` of a GPU.

    The outputs' folder must be on storage that every node sees. A job whose node dies is lost, and the runner tries
    it again on a new actor.
    """

    def __init__(
        self,
        devices: Sequence[str],
        *,
        dtype: str = "auto",
        gpu_share: float = 1.0,
        address: str | None = None,
    ) -> None:
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        self._options = [
            {"num_cpus": 1, "max_concurrency": 2} | ({"num_gpus": gpu_share} if "cuda" in device else {})
            for device in devices
        ]
        self._arguments = [("cuda" if "cuda" in device else device, dtype) for device in devices]
        self._actors: list[Any] = [self._started(index) for index in range(len(devices))]
        self._running: dict[Any, tuple[int, str]] = {}

    @property
    def free(self) -> int:
        """How many actors have nothing to do."""
        return len(self._actors) - len(self._running)

    def submit(self, job: PlannedJob, target: Path, *, patience_s: float) -> None:
        """Give a job to an idle actor; Ray itself notices dead nodes, so patience is left to it."""
        busy = {index for index, _ in self._running.values()}
        index = next(index for index in range(len(self._actors)) if index not in busy)
        promise = self._actors[index].make.remote(Order(job=job, target=target.absolute()))
        self._running[promise] = (index, job.spec.output)

    def poll(self, timeout_s: float) -> list[JobEvent]:
        """What ended, what was lost with its node, and where the others are."""
        events: list[JobEvent] = []
        if not self._running:
            return events
        ready, waiting = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        for promise in ready:
            index, output = self._running.pop(promise)
            try:
                events.append(ray.get(promise))
            except ray.exceptions.RayError as error:
                self._actors[index] = self._started(index)
                reason = f"its worker died ({type(error).__name__})"
                events.append(JobEvent(kind="lost", output=output, error=reason, exit_code=1))
        asked = [self._actors[self._running[promise][0]].last.remote() for promise in waiting]
        told, _ = ray.wait(asked, num_returns=len(asked), timeout=0.5) if asked else ([], [])
        for promise in told:
            try:
                event = ray.get(promise)
            except ray.exceptions.RayError:
                continue  # its job is reported as lost at the next poll
            if event is not None:
                events.append(event)
        return events

    def cancel(self, output: str) -> None:
        """Ask an actor to stop its job."""
        for index, name in self._running.values():
            if name == output:
                self._actors[index].cancel.remote()

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def _started(self, index: int) -> Any:
        device, dtype = self._arguments[index]
        return ray.remote(Actor).options(**self._options[index]).remote(device, dtype)
