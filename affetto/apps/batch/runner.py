"""Working through a store of jobs: claiming, retrying with growing pauses, setting aside what cannot succeed, stopping in time."""

import contextlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affetto.apps.batch.engines import describe_file, recipe_path
from affetto.apps.batch.executor import Executor
from affetto.apps.batch.leases import LeaseBook, is_alive
from affetto.apps.batch.plan import cost_key, estimated_cost
from affetto.apps.batch.store import JobRow, JobStore
from affetto.apps.batch.worker import JobEvent
from affetto.provenance.manifests import sidecar_path
from affetto.runtime.errors import MissingResourceError, TryAgainError
from affetto.runtime.progress import CancelToken

STATE_FOLDER = ".affetto"
STORE_NAME = "jobs.sqlite"
_TEMPORARY = re.compile(r"\.(.{1,40})-[a-z0-9_]{8}(\.[^.]+)", re.DOTALL)  # the names of `atomic_path`
_WITHIN = re.compile(
    r"\.(.{1,40})-[a-z0-9_]{1,8}", re.DOTALL
)  # such a name, cut to 40 letters: what is written into it

_ELSEWHERE_S = 5.0  # until another machine's job is asked about again
_FINAL_CODES = (2, 3, 4, 7)  # usage, input, missing weights, policy: trying again changes nothing


@dataclass(frozen=True, kw_only=True)
class RunPolicy:
    """How patient a run is. Pauses are `pause_s` times 2 to the number of attempts so far."""

    attempts: int = 3
    pause_s: float = 1.0
    patience: float = 20.0  # times the expected duration without any progress
    least_patience_s: float = 180.0
    breaker: int = 5  # the run stops when its first so many ends are the same failure
    least_free_bytes: float = 256e6


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """How a run ended: counts by state, seconds, and why it stopped early, if it did."""

    counts: dict[str, int]
    seconds: float
    stopped: str = ""
    exit_code: int = 0


class Runner:
    """Runs the jobs of a store into a folder through an executor. One runner works on a store at a time."""

    def __init__(
        self,
        store: JobStore,
        folder: Path,
        executor: Executor,
        *,
        policy: RunPolicy | None = None,
        leases: LeaseBook | None = None,
        watch: Callable[[JobEvent], None] | None = None,
    ) -> None:
        self._store = store
        self._folder = folder
        self._executor = executor
        self._policy = policy or RunPolicy()
        self._leases = leases
        self._watch = watch or (lambda _event: None)
        self._running: dict[str, JobRow] = {}
        self._ends: list[tuple[str, int]] = []
        self._costs = store.costs()

    def run(self, *, stop: CancelToken | None = None, forever: bool = False) -> RunReport:
        """Work until nothing is left to do (or, with `forever`, until told to stop); then say how it went.

        `stop` ends the run within two seconds; what was running is queued again.
        """
        began = time.monotonic()
        stop = stop or CancelToken()
        reason, code = "", 0
        while not stop.cancelled:
            for output in self._store.to_cancel():
                self._executor.cancel(output)
            if not (reason := self._no_room()):
                self._fill()
            if not self._running and (reason or (not forever and self._store.next_at() is None)):
                code = TryAgainError.exit_code if reason else 0
                break
            for event in self._executor.poll(self._wait_s()):
                self._handle(event)
            if broken := self._broken():
                reason, code = broken
                break
        if stop.cancelled:
            reason, code = "interrupted", 130
        self._give_back()
        return RunReport(
            counts=self._store.counts(), seconds=time.monotonic() - began, stopped=reason, exit_code=code
        )

    def _fill(self) -> None:
        """Give jobs to free workers; a job that another machine has is asked about again later."""
        while self._executor.free > 0 and (row := self._store.claim()) is not None:
            if self._leases is not None:
                state = self._leases.acquire(row.key)
                if state == "elsewhere":
                    self._store.hand_back(row.output, until=time.time() + _ELSEWHERE_S)
                    continue
                if isinstance(state, dict):
                    self._store.finish(row.output, state)
                    continue
            expected = row.job.media_s * self._costs.get(cost_key(row.job.spec), estimated_cost(row.job.spec))
            patience = max(self._policy.least_patience_s, self._policy.patience * expected)
            self._running[row.output] = row
            self._executor.submit(row.job, self._folder / row.output, patience_s=patience)

    def _handle(self, event: JobEvent) -> None:
        self._watch(event)
        if event.kind == "progress":
            self._store.progress(event.output, event.stage, event.fraction)
            return
        row = self._running.pop(event.output)
        if event.kind == "done":
            assert event.file is not None
            self._store.finish(event.output, event.file)
        elif event.kind == "cancelled":
            self._store.cancelled(event.output)
        else:
            if event.kind == "lost":
                sweep(self._folder, [row])
            hopeless = event.exit_code in _FINAL_CODES or row.attempts >= self._policy.attempts
            pause = self._policy.pause_s * 2.0**row.attempts
            retry_at = None if hopeless else time.time() + pause
            self._store.fail(event.output, event.error, event.exit_code, retry_at=retry_at)
        self._ends.append((_gist(event.error) if event.kind in ("failed", "lost") else "", event.exit_code))
        if self._leases is not None:
            self._leases.release(row.key, done=event.file if event.kind == "done" else None)

    def _broken(self) -> tuple[str, int] | None:
        """Why going on is pointless, if it is: the first jobs all failed alike, weights are missing, the disk is full."""
        if not self._ends:
            return None
        error, code = self._ends[-1]
        if code == MissingResourceError.exit_code:
            return error, code
        if code == TryAgainError.exit_code and "disk is full" in error:
            return error, code
        first = self._ends[: self._policy.breaker]
        if len(self._ends) == len(first) == self._policy.breaker and error and len(set(first)) == 1:
            return f"the first {len(first)} jobs all failed alike: {error}", code or 1
        return None

    def _no_room(self) -> str:
        free = shutil.disk_usage(self._folder).free
        return "" if free > self._policy.least_free_bytes else f"only {free / 1e6:.0f} MB are free: make room"

    def _wait_s(self) -> float:
        """Until something may happen: soon while jobs run, else when the next one may be tried again."""
        if self._running:
            return 0.2
        at = self._store.next_at()
        return 0.2 if at is None else min(max(at - time.time(), 0.01), 0.5)

    def _give_back(self) -> None:
        for output in self._running:
            self._executor.cancel(output)
        deadline = time.monotonic() + 3.0
        while self._running and time.monotonic() < deadline:
            for event in self._executor.poll(0.1):
                if event.kind == "done":
                    self._handle(event)
                elif event.kind != "progress":
                    row = self._running.pop(event.output)
                    self._store.hand_back(event.output)
                    if self._leases is not None:
                        self._leases.release(row.key, done=None)
        for output in self._running:
            self._store.hand_back(output)
        self._running.clear()


def _gist(error: str) -> str:
    """An error without the file it begins with, so that the same failure of two jobs compares equal."""
    return error.split(": ", 1)[-1]


def prepare(
    store: JobStore, folder: Path, *, verify: bool = False, attempts: int = 3, shared: bool = False
) -> dict[str, int]:
    """Make the store agree with the folder after whatever happened: how many jobs were recovered, files missing or swept.

    A done job is believed when its file has the recorded size and time of change, with `verify` the recorded hash. A
    job that was running at `attempts` crashes is given up. In a `shared` folder only files of this store's own
    interrupted jobs are swept: the others may be being written.
    """
    interrupted = store.rows(("running",))
    counts = {"recovered": store.recover(attempts=attempts), "missing": 0}
    for row in store.rows(("done",)):
        if not _stands(folder / row.output, row, verify=verify):
            store.requeue(row.output)
            counts["missing"] += 1
    return counts | {"swept": sweep(folder, interrupted if shared else store.rows())}


def sweep(folder: Path, rows: Iterable[JobRow]) -> int:
    """Remove what writers of these jobs' files left when they were killed (see `runtime.files`); how many files."""
    wanted: dict[Path, set[tuple[str, str]]] = {}
    whole: set[Path] = set()  # folders that are a job's own
    for row in rows:
        target = folder / row.output
        files = wanted.setdefault(target.parent, set())
        for path in (target, recipe_path(target)):
            for each in (path, sidecar_path(path)):
                files.update((stem[:40], each.suffix) for stem in (each.stem, f".{each.stem[:40]}-"))
        if row.job.spec.kind == "render":
            whole.add(target.parent)
    swept = 0
    for place, files in wanted.items():
        for left in place.glob(".*-????????.*") if place.is_dir() else ():
            match = _TEMPORARY.fullmatch(left.name)
            if match and (place in whole or not files.isdisjoint(_meant(*match.groups()))):
                left.unlink(missing_ok=True)
                swept += 1
    return swept


def _meant(stem: str, suffix: str) -> Iterator[tuple[str, str]]:
    """For which files a temporary one can be: for one, or for another temporary one."""
    yield stem, suffix
    if within := _WITHIN.fullmatch(stem):
        yield within[1], suffix


def _stands(path: Path, row: JobRow, *, verify: bool) -> bool:
    if row.file is None or not path.is_file():
        return False
    if verify:
        return describe_file(path)["sha256"] == row.file["sha256"]
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns) == (row.file["size"], row.file["mtime_ns"])


def state_folder(folder: Path) -> Path:
    """Where a batch keeps its store, lock and leases, created when missing."""
    state = folder / STATE_FOLDER
    state.mkdir(parents=True, exist_ok=True)
    return state


@contextlib.contextmanager
def folder_lock(folder: Path, label: str = "") -> Iterator[str]:
    """Hold a batch's folder, or the part of it called `label`; raises TryAgainError while a living process holds it.

    Gives the label, which the store of that part has in its name.
    """
    lock = state_folder(folder) / f"run{label}.lock"
    mine = json.dumps(
        {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    )
    for _ in range(2):
        try:
            with lock.open("x", encoding="utf-8") as file:
                file.write(mine)
            break
        except FileExistsError:
            holder = _holder(lock)
            if holder is not None:
                raise TryAgainError(
                    f"{folder}: in use by process {holder['pid']} on {holder['host']} since {holder['since']}: wait or stop it"
                ) from None
            lock.unlink(missing_ok=True)
    else:
        raise TryAgainError(f"{folder}: another run took it just now: try again")
    try:
        yield label
    finally:
        lock.unlink(missing_ok=True)


@contextlib.contextmanager
def machine_lock(folder: Path) -> Iterator[str]:
    """Hold one of this machine's own places in a shared folder: each run there has a store of its own."""
    number = 1
    while _holder(state_folder(folder) / f"run-on-{socket.gethostname()}-{number}.lock") is not None:
        number += 1
    with folder_lock(folder, f"-on-{socket.gethostname()}-{number}") as label:
        yield label


def _holder(lock: Path) -> dict[str, Any] | None:
    """Who holds a lock, or None when its process is gone."""
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        pid, host = int(holder["pid"]), str(holder["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if host != socket.gethostname():
        return holder
    return holder if is_alive(pid) else None
