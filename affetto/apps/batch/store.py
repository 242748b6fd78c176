"""Where jobs stand, in an SQLite file that survives being killed at any moment and that several processes may read.

States: queued, running, done, failed (will be tried again), dead (given up), cancelled. Write order of a job: the
output, then its sidecar, then its row; whoever resumes trusts a file only when it is the one the row describes.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affetto.apps.batch.plan import PlannedJob, cost_key, spec_from_json
from affetto.runtime.errors import InvalidInputError, TryAgainError

STATES = ("queued", "running", "done", "failed", "dead", "cancelled")
OPEN = ("queued", "failed")

_DUE = "(not_before <= ? OR finished > ?)"
"""Whether a job may run by now: its pause is over, or the clock was put back since and the pause means nothing any more."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    output TEXT PRIMARY KEY, name TEXT NOT NULL, key TEXT NOT NULL, spec TEXT NOT NULL, seed INTEGER NOT NULL,
    media_s REAL NOT NULL, cost_key TEXT NOT NULL, priority INTEGER NOT NULL DEFAULT 0, added REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued', attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0, stage TEXT NOT NULL DEFAULT '', fraction REAL, error TEXT, exit_code INTEGER,
    started REAL, finished REAL, file TEXT);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, priority, added);
PRAGMA user_version = 1;
"""


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One job as the store knows it; times are seconds since the epoch, `file` tells size, mtime and hash of the output."""

    output: str
    name: str
    key: str
    job: PlannedJob
    state: str
    attempts: int
    stage: str
    fraction: float | None
    error: str | None
    exit_code: int | None
    added: float
    started: float | None
    finished: float | None
    file: Mapping[str, Any] | None
    cancel: bool
    priority: int

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took."""
        return None if self.started is None or self.finished is None else self.finished - self.started


class JobStore:
    """The jobs of one folder. Every method is one transaction; open one store per process and thread."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._db = sqlite3.connect(self.path, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise _explained(self.path, error) from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> "JobStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, jobs: Iterable[PlannedJob], *, priority: int = 0) -> dict[str, int]:
        """Enter jobs: new ones and those whose key changed are queued, the others stay as they are. Counts of each."""
        counts = {"new": 0, "changed": 0, "known": 0}
        with self._transaction():
            for job in jobs:
                found = self._db.execute(
                    "SELECT key FROM jobs WHERE output = ?", (job.spec.output,)
                ).fetchone()
                what = "new" if found is None else "known" if found["key"] == job.key else "changed"
                counts[what] += 1
                if what != "known":
                    self._db.execute(
                        "INSERT OR REPLACE INTO jobs (output, name, key, spec, seed, media_s, cost_key, priority, added)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            job.spec.output, job.name, job.key, job.spec.model_dump_json(), job.seed, job.media_s,
                            cost_key(job.spec), priority, time.time(),
                        ),
                    )  # fmt: skip
        return counts

    def claim(self, now: float | None = None) -> JobRow | None:
        """The next job that may run, now marked as running, or None."""
        now = time.time() if now is None else now
        with self._transaction():
            row = self._db.execute(
                f"SELECT output FROM jobs WHERE state IN ('queued', 'failed') AND cancel = 0 AND {_DUE}"
                " ORDER BY priority DESC, added, rowid LIMIT 1",
                (now, now),
            ).fetchone()
            if row is None:
                return None
            self._db.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ?, finished = NULL, error = NULL,"
                " exit_code = NULL, stage = '', fraction = NULL WHERE output = ?",
                (now, row["output"]),
            )
        return self.get(row["output"])

    def progress(self, output: str, stage: str, fraction: float | None) -> None:
        """Note where a running job is."""
        self._run("UPDATE jobs SET stage = ?, fraction = ? WHERE output = ?", (stage, fraction, output))

    def finish(self, output: str, file: Mapping[str, Any]) -> None:
        """Note that a job's output stands, and what it is."""
        self._run(
            "UPDATE jobs SET state = 'done', finished = ?, file = ?, fraction = 1, stage = '', cancel = 0 WHERE output = ?",
            (time.time(), json.dumps(dict(file)), output),
        )

    def fail(self, output: str, error: str, exit_code: int, *, retry_at: float | None) -> None:
        """Note a failure: tried again from `retry_at` on, or given up when that is None."""
        self._run(
            "UPDATE jobs SET state = ?, finished = ?, error = ?, exit_code = ?, not_before = ? WHERE output = ?",
            (
                "dead" if retry_at is None else "failed",
                time.time(),
                error,
                exit_code,
                retry_at or 0.0,
                output,
            ),
        )

    def cancelled(self, output: str) -> None:
        """Note that a job was stopped on request."""
        self._run(
            "UPDATE jobs SET state = 'cancelled', finished = ?, cancel = 0 WHERE output = ?",
            (time.time(), output),
        )

    def hand_back(self, output: str, *, until: float = 0.0) -> None:
        """Queue a running job again as if it had not been tried (not before `until`): the interruption was not its fault."""
        self._run(
            "UPDATE jobs SET state = 'queued', attempts = MAX(attempts - 1, 0), not_before = ?, finished = ?"
            " WHERE output = ? AND state = 'running'",
            (until, time.time(), output),
        )

    def recover(self, *, attempts: int = 3) -> int:
        """Queue what a killed run left running; how many. A job that was running at so many crashes is given up."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET state = 'dead', error = 'its worker or the whole run was killed each time it ran',"
                " exit_code = 1 WHERE state = 'running' AND attempts >= ?",
                (attempts,),
            )
            return self._db.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'").rowcount

    def request_cancel(self, names: Iterable[str] | None = None) -> int:
        """Ask that jobs (by output or name; all when None) stop; those not yet running are cancelled at once. How many."""
        with self._transaction():
            where, values = self._named(names)
            waiting = self._db.execute(
                f"UPDATE jobs SET state = 'cancelled', finished = ? WHERE state IN ('queued', 'failed') AND {where}",
                (time.time(), *values),
            ).rowcount
            running = self._db.execute(
                f"UPDATE jobs SET cancel = 1 WHERE state = 'running' AND {where}", values
            ).rowcount
        return waiting + running

    def retry(self, names: Iterable[str] | None = None) -> int:
        """Queue failed, dead and cancelled jobs anew, as if never tried; how many."""
        where, values = self._named(names)
        return self._run(
            "UPDATE jobs SET state = 'queued', attempts = 0, not_before = 0, cancel = 0, error = NULL"
            f" WHERE state IN ('failed', 'dead', 'cancelled') AND {where}",
            tuple(values),
        )

    def requeue(self, output: str) -> None:
        """Queue a done job again, because its file is gone or is another."""
        self._run("UPDATE jobs SET state = 'queued', attempts = 0, file = NULL WHERE output = ?", (output,))

    def reprioritise(self, output: str, priority: int) -> None:
        """Move a job before (higher) or behind others."""
        self._run("UPDATE jobs SET priority = ? WHERE output = ?", (priority, output))

    def get(self, output: str) -> JobRow | None:
        """One job by its output."""
        row = self._db.execute("SELECT * FROM jobs WHERE output = ?", (output,)).fetchone()
        return None if row is None else _row(row)

    def rows(self, states: Iterable[str] = STATES) -> list[JobRow]:
        """The jobs in these states, in the order they run."""
        wanted = tuple(states)
        marks = ",".join("?" * len(wanted))
        found = self._db.execute(
            f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY priority DESC, added, rowid", wanted
        )
        return [_row(row) for row in found]

    def to_cancel(self) -> list[str]:
        """The running jobs that were asked to stop."""
        found = self._db.execute("SELECT output FROM jobs WHERE state = 'running' AND cancel = 1")
        return [row["output"] for row in found]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        found = self._db.execute("SELECT state, COUNT(*) AS jobs FROM jobs GROUP BY state")
        return dict.fromkeys(STATES, 0) | {row["state"]: row["jobs"] for row in found}

    def next_at(self) -> float | None:
        """When the next job may run, or None when none is waiting."""
        row = self._db.execute(
            "SELECT MIN(not_before) AS at FROM jobs WHERE state IN ('queued', 'failed')"
        ).fetchone()
        return row["at"]

    def costs(self) -> dict[str, float]:
        """Measured seconds for a second of media, by `cost_key`: the median of up to fifty done jobs of each."""
        found = self._db.execute(
            "SELECT cost_key, (finished - started) / media_s AS cost FROM jobs"
            " WHERE state = 'done' AND media_s > 0 AND finished > started ORDER BY finished DESC LIMIT 2000"
        )
        by_key: dict[str, list[float]] = {}
        for row in found:
            by_key.setdefault(row["cost_key"], []).append(row["cost"])
        return {key: sorted(values[:50])[len(values[:50]) // 2] for key, values in by_key.items()}

    def merge(self, other: "JobStore") -> int:
        """Take over the jobs that another store has done, or that are not known here; how many."""
        taken = 0
        with self._transaction():
            for row in other._db.execute("SELECT * FROM jobs"):
                mine = self._db.execute(
                    "SELECT state FROM jobs WHERE output = ?", (row["output"],)
                ).fetchone()
                if mine is None or (row["state"] == "done" and mine["state"] != "done"):
                    names = row.keys()
                    self._db.execute(
                        f"INSERT OR REPLACE INTO jobs ({','.join(names)}) VALUES ({','.join('?' * len(names))})",
                        tuple(row),
                    )
                    taken += 1
        return taken

    @staticmethod
    def _named(names: Iterable[str] | None) -> tuple[str, list[str]]:
        if names is None:
            return "1", []
        wanted = list(names)
        marks = ",".join("?" * len(wanted))
        return f"(output IN ({marks}) OR name IN ({marks}))", [*wanted, *wanted]

    def _run(self, statement: str, values: tuple[Any, ...]) -> int:
        with self._transaction():
            return self._db.execute(statement, values).rowcount

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise _explained(self.path, error) from error


def _explained(path: Path, error: sqlite3.DatabaseError) -> Exception:
    text = str(error)
    if "locked" in text or "busy" in text:
        return TryAgainError(f"{path}: is busy: try again")
    if "disk is full" in text:
        return TryAgainError(f"{path}: the disk is full: make room and try again")
    if "not a database" in text or "malformed" in text:
        return InvalidInputError(f"{path}: is not a store of jobs: move it away and run the batch again")
    return TryAgainError(f"{path}: cannot be used ({text}): check the folder")


def _row(row: sqlite3.Row) -> JobRow:
    job = PlannedJob(
        spec=spec_from_json(row["spec"]), key=row["key"], seed=row["seed"], media_s=row["media_s"]
    )
    return JobRow(
        output=row["output"], name=row["name"], key=row["key"], job=job, state=row["state"], attempts=row["attempts"],
        stage=row["stage"], fraction=row["fraction"], error=row["error"], exit_code=row["exit_code"], added=row["added"],
        started=row["started"], finished=row["finished"], file=json.loads(row["file"]) if row["file"] else None,
        cancel=bool(row["cancel"]), priority=row["priority"],
    )  # fmt: skip
