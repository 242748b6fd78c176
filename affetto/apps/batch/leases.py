"""Sharing one output folder among machines without a server: a job belongs to whoever created its lease file.

Creating a file that must not exist yet is atomic on local and shared file systems alike, which locks in SQLite are not.
"""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Literal

from affetto.runtime.files import atomic_path

STALE_S = 60.0

_Touch = tuple[int, int]
"""Inode and time of change: no two touches of a lease are alike."""


class LeaseBook:
    """The leases of a folder: acquired by job key, kept alive by touching them, taken over when their holder has died.

    A holder has died when its process is gone (on this machine), or when its lease was not touched while this book
    watched it for `stale_s`. No two clocks are compared, so that clocks that differ or jump change nothing.
    """

    def __init__(self, folder: Path, *, stale_s: float = STALE_S) -> None:
        self._folder = folder
        self._stale_s = stale_s
        self._held: set[Path] = set()
        self._seen: dict[Path, tuple[_Touch, float]] = {}  # how a lease was when last touched, and since when
        self._guard = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._closed = threading.Event()
        threading.Thread(target=self._keep, daemon=True).start()

    def acquire(self, key: str) -> "Literal['mine', 'elsewhere'] | dict[str, Any]":
        """`mine` to go ahead, `elsewhere` while another holds it, or what the finished output is."""
        done, lease = self._folder / f"{key}.done", self._folder / f"{key}.lease"
        if done.is_file():
            return json.loads(done.read_text(encoding="utf-8"))
        if (grave := self._abandoned(lease)) is not None:
            self._break(lease, grave)
        try:
            handle = os.open(lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return "elsewhere"
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        with self._guard:
            self._held.add(lease)
        return "mine"

    def release(self, key: str, *, done: dict[str, Any] | None) -> None:
        """Let a job go; `done` tells the others what the output is."""
        lease = self._folder / f"{key}.lease"
        if done is not None:
            with atomic_path(self._folder / f"{key}.done") as temporary:
                temporary.write_text(json.dumps(done), encoding="utf-8")
        with self._guard:
            self._held.discard(lease)
        lease.unlink(missing_ok=True)

    def close(self) -> None:
        """Let everything go."""
        self._closed.set()
        with self._guard:
            for lease in self._held:
                lease.unlink(missing_ok=True)
            self._held.clear()

    def _abandoned(self, lease: Path) -> "_Touch | None":
        """The touch after which the holder of a lease has died, or None while it lives."""
        try:
            stat = lease.stat()
            text = lease.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._seen.pop(lease, None)
            return None
        touch, now = (stat.st_ino, stat.st_mtime_ns), time.monotonic()
        if _holder_is_gone(text):
            return touch
        known, since = self._seen.get(lease, (None, now))
        if known != touch:
            self._seen[lease] = (touch, now)
            return None
        return touch if now - since > self._stale_s else None

    def _break(self, lease: Path, touch: "_Touch") -> None:
        """Remove the lease that was last touched so; of several who try, only the one whose rename succeeds has done so.

        Who was late may have moved the lease that the first then took: it is another one, and goes back.
        """
        grave = lease.with_name(f"{lease.name}.{socket.gethostname()}-{os.getpid()}")
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            lease.rename(grave)
            stat = grave.stat()
            if (stat.st_ino, stat.st_mtime_ns) != touch:
                os.link(grave, lease)
            grave.unlink()
        self._seen.pop(lease, None)

    def _keep(self) -> None:
        while not self._closed.wait(self._stale_s / 6):
            with self._guard:
                for lease in self._held:
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(lease)


def _holder_is_gone(text: str) -> bool:
    """Whether a lease is of a process of this machine that no longer runs; unreadable ones may be being written."""
    try:
        holder = json.loads(text)
        return holder["host"] == socket.gethostname() and not is_alive(int(holder["pid"]))
    except (ValueError, KeyError, TypeError):
        return False


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
