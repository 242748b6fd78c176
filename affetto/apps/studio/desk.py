"""The studio's jobs: they live in the store and in worker processes, not in the page, so that closing it loses nothing."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from affetto.apps.batch.executor import LocalExecutor
from affetto.apps.batch.plan import PlannedJob, cost_key, estimated_cost, plan_job
from affetto.apps.batch.runner import STORE_NAME, Runner, RunPolicy, folder_lock, prepare, state_folder
from affetto.apps.batch.specs import JOB
from affetto.apps.batch.store import JobRow, JobStore
from affetto.apps.batch.worker import JobEvent, Maker
from affetto.runtime.progress import CancelToken
from affetto.weights.store import sha256_of


class JobDesk:
    """Takes jobs from any page and works through them in the background; one desk works in a studio's home at a time."""

    def __init__(
        self,
        home: Path,
        *,
        workers: int = 1,
        device: str = "auto",
        dtype: str = "auto",
        workshop: Callable[..., Maker] | None = None,
    ) -> None:
        self.home = home
        self._lock = folder_lock(home, "-studio")
        self._lock.__enter__()
        self._local = threading.local()
        self._path = state_folder(home) / STORE_NAME
        prepare(self.store, home)
        self._looks: dict[str, dict[str, Any]] = {}  # of running jobs: stage -> how it looks
        self._stop = CancelToken()
        self._wake = threading.Event()
        self._executor_options = {
            "devices": [device] * workers,
            "dtype": dtype,
            "workshop": workshop,
            "previews": True,
        }
        self._thread = threading.Thread(target=self._work, name="studio-jobs", daemon=True)
        self._thread.start()

    @property
    def store(self) -> JobStore:
        """The connection of the calling thread to the store."""
        if not hasattr(self._local, "store"):
            self._local.store = JobStore(self._path)
        return self._local.store

    def submit(self, spec: dict[str, Any], *, priority: int = 0) -> PlannedJob:
        """Check a job and queue it; raises what its inputs deserve."""
        job = plan_job(JOB.validate_python(spec))
        self.store.add([job], priority=priority)
        self._wake.set()
        return job

    def cancel(self, output: str) -> None:
        """Stop a job; within two seconds when it runs."""
        self.store.request_cancel([output])

    def retry(self, output: str) -> None:
        """Queue a job again that failed or was cancelled."""
        self.store.retry([output])
        self._wake.set()

    def first(self, output: str) -> None:
        """Move a waiting job before all others."""
        highest = max((row.priority for row in self.store.rows(("queued", "failed"))), default=0)
        self.store.reprioritise(output, highest + 1)

    def listing(self, prefix: str = "", limit: int = 30) -> list[dict[str, Any]]:
        """The newest jobs whose output begins with `prefix`, as the page shows them."""
        rows = [row for row in self.store.rows() if row.output.startswith(prefix)]
        rows.sort(key=lambda row: (row.state != "running", row.state not in ("queued", "failed"), -row.added))
        costs = self.store.costs()
        return [self._shown(row, costs) for row in rows[:limit]]

    def newest_done(self, prefix: str, kind: str | None = None) -> JobRow | None:
        """The job that was finished last."""
        rows = [
            r
            for r in self.store.rows(("done",))
            if r.output.startswith(prefix) and kind in (None, r.job.spec.kind)
        ]
        return max(rows, key=lambda row: row.finished or 0.0, default=None)

    def close(self) -> None:
        """Stop; what is running is queued again for the next start."""
        self._stop.cancel()
        self._wake.set()
        self._thread.join(timeout=6.0)
        self._lock.__exit__(None, None, None)

    def find_recipe(self, file: Path) -> Path | None:
        """The folder of the render that a file came from: by its content, wherever it has been since."""
        digest = sha256_of(file)
        for folder in sorted(self.home.glob("projects/*/renders/*"), reverse=True):
            for candidate in folder.iterdir():
                if (
                    candidate.suffix == file.suffix
                    and candidate.stat().st_size == file.stat().st_size
                    and sha256_of(candidate) == digest
                ):
                    return folder
        return None

    def _work(self) -> None:
        """Wait for the first job, then keep worker processes until the studio closes: an idle studio stays small."""
        while not self._stop.cancelled and self.store.next_at() is None:
            self._wake.wait(timeout=1.0)
            self._wake.clear()
        if self._stop.cancelled:
            return
        executor = LocalExecutor(**self._executor_options)
        try:
            runner = Runner(
                self.store, self.home, executor, policy=RunPolicy(breaker=10**9), watch=self._watched
            )
            runner.run(stop=self._stop, forever=True)
        finally:
            executor.close()

    def _watched(self, event: JobEvent) -> None:
        """Keep the newest look of each stage while a job runs."""
        if event.kind != "progress":
            self._looks.pop(event.output, None)
        elif event.preview is not None:
            self._looks.setdefault(event.output, {})[event.stage] = event.preview

    def _shown(self, row: JobRow, costs: dict[str, float]) -> dict[str, Any]:
        eta = None
        if row.state == "running" and row.started is not None:
            cost = costs.get(cost_key(row.job.spec), estimated_cost(row.job.spec))
            expected = 4.0 + cost * row.job.media_s
            eta = max(expected - (time.time() - row.started), 1.0)
        return {
            "output": row.output, "name": row.name, "kind": row.job.spec.kind, "state": row.state, "stage": row.stage,
            "fraction": row.fraction, "eta": eta, "seconds": row.seconds, "error": row.error,
            "looks": [{"stage": stage} | look for stage, look in list(self._looks.get(row.output, {}).items())],
        }  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object, or an empty one when it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
