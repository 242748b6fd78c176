"""Calling functions of ours that touch untrusted files in a process of its own, bounded in memory and time.

The process is started when it is first needed, answers call after call, ends itself when nobody has called for a minute, and
is started again after it was killed or crashed. Requests and answers are lines of JSON: nothing that comes back is run. What
its system can bound is in `runtime.limits`; time by the clock is watched from outside, on every system.
"""

import atexit
import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from affetto.runtime.errors import AffettoError, InvalidInputError, error_of
from affetto.runtime.limits import allow, limit
from affetto.runtime.memory import ran_out

START_S = 120.0  # a busy machine may take long to begin
_LONGEST_ANSWER = 1 << 20
_PLENTY = 1 << 40
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGHUP")
_PASSED_ON = (
    "PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "WINDIR", "TMPDIR", "TEMP", "TMP", "LANG", "LC_ALL", "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH", "AFFETTO_HOME",
)  # fmt: skip
_LEAN = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one call may take beyond what its process had: bytes of memory, processor seconds, seconds by the clock."""

    memory: int = 1 << 29
    seconds: int = 20
    clock_s: float = 60.0


class LimitedProcess:
    """A process that calls functions for whoever asks, one at a time; threads may share it."""

    def __init__(self, *, file_size: int = 0, idle_s: float = 60.0) -> None:
        """Files that the process writes have at most `file_size` bytes; it ends after `idle_s` without a call."""
        self._options = (file_size, idle_s)
        self._child: _Child | None = None
        self._lock, self._owner = threading.Lock(), os.getpid()

    def start(self) -> None:
        """Begin to start the process, without waiting for it: whoever will call soon saves the wait."""
        with self._mine():
            self._fresh()

    @property
    def bounds(self) -> tuple[str, ...]:
        """What the system bounds in the process (`as` is memory); () where it bounds nothing but time by the clock."""
        with self._mine():
            return self._fresh().ready()

    def call(
        self, function: str, *arguments: Any, limits: Limits, subject: str, mend: str = "export it again"
    ) -> Any:
        """What `MODULE:FUNCTION` gives for plain arguments, as plain values (what JSON can say).

        Raises the affetto error that it raised; `InvalidInputError` that names `subject` and ends with `mend` when it
        took more than `limits` or its process crashed; `AffettoError` when no process can be started.
        """
        request = json.dumps([function, arguments, limits.memory, limits.seconds]).encode() + b"\n"
        with self._mine():
            child, answer = self._asked(request, limits.clock_s)
            if answer is None and child.ended() == 0:  # it had just ended for want of calls
                child, answer = self._asked(request, limits.clock_s)
        if answer is not None and "value" in answer:
            return answer["value"]
        if answer is not None and "failed" in answer:
            code, message = answer["failed"]
            raise error_of(int(code), str(message))
        reason = child.reason(limits) if answer is None else _too_much(limits)
        raise InvalidInputError(f"{subject}: {reason}: {mend}")

    def close(self) -> None:
        """End the process; a later call starts another."""
        with self._mine():
            if self._child is not None:
                self._child.end()
                self._child = None

    @property
    def pid(self) -> int | None:
        """The process that answers at present, if there is one."""
        return None if self._child is None else self._child.process.pid

    def _asked(self, request: bytes, clock_s: float) -> "tuple[_Child, dict[str, Any] | None]":
        child = self._fresh()
        child.ready()
        answer = child.ask(request, clock_s)
        if answer is None:
            self._child = None
        return child, answer

    def _fresh(self) -> "_Child":
        if self._child is None or self._child.process.poll() is not None:
            self._child = _Child(*self._options)
        return self._child

    @contextlib.contextmanager
    def _mine(self) -> Iterator[None]:
        """Hold the lock; a fork of the process that made this object begins anew: the pipes are its parent's."""
        if self._owner != os.getpid():
            self._lock, self._owner, self._child = threading.Lock(), os.getpid(), None
        with self._lock:
            yield


class _Child:
    """The other end: a process, and a thread that takes its answers."""

    def __init__(self, file_size: int, idle_s: float) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _LEAN
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])  # this affetto, wherever it lies
        command = [sys.executable, "-P", "-B", "-m", "affetto.runtime.limited", str(file_size), str(idle_s)]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise AffettoError(
                f"no process can be started to read files in ({error.strerror}): close other programs"
            ) from error
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._bounds: tuple[str, ...] | None = None
        self._late = False
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self.end)

    def ready(self) -> tuple[str, ...]:
        """Wait until it has begun; what it is bounded in."""
        if self._bounds is None:
            hello = self._answer(START_S)
            if hello is None or "bounds" not in hello:
                self.end()
                raise AffettoError(
                    f"a process to read files in ended at its start ({self.process.returncode})"
                )
            self._bounds = tuple(map(str, hello["bounds"]))
        return self._bounds

    def ask(self, request: bytes, clock_s: float) -> dict[str, Any] | None:
        """Its answer; None when it ended or took too long, and then it has ended."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
        except OSError:  # it has ended; that it ended comes as its answer
            pass
        answer = self._answer(clock_s)
        if answer is None or "memory" in answer:
            self.end(kindly=answer is not None or not self._late)
        return answer

    def ended(self) -> int | None:
        """How it ended."""
        return self.process.returncode

    def reason(self, limits: Limits) -> str:
        """Why it ended, as users read it."""
        code = self.process.returncode or 0
        if self._late:
            return f"reading it takes longer than {limits.clock_s:g} s"
        if code == -getattr(signal, "SIGXCPU", 0):
            return f"reading it takes more than {limits.seconds} s of processor time"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"its reader {'was killed' if name in _FROM_OUTSIDE else 'crashed'} ({name})"
        return f"its reader ended with {code}"

    def end(self, *, kindly: bool = False) -> None:
        """Have it ended: at once, or `kindly` after a moment for its own end, which then says why."""
        if kindly:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5.0)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        atexit.unregister(self.end)

    def _answer(self, clock_s: float) -> dict[str, Any] | None:
        try:
            return self._answers.get(timeout=clock_s)
        except queue.Empty:
            self._late = True
            return None

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            while (line := answers.readline(_LONGEST_ANSWER)).endswith(b"\n"):
                try:
                    answer = json.loads(line)
                except ValueError:
                    break
                if not isinstance(answer, dict):
                    break
                self._answers.put(answer)
        self._answers.put(None)


def _too_much(limits: Limits) -> str:
    return f"reading it takes more than {limits.memory >> 20} MiB of memory"


def serve(requests: BinaryIO, answers: BinaryIO, *, file_size: int, idle_s: float) -> None:
    """Answer requests until they end, until none has come for `idle_s`, or until memory ran out."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(requests, waiting), daemon=True).start()

    def send(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    send({"bounds": (*limit(file_size=file_size), *allow(memory=_PLENTY, seconds=_PLENTY))})
    with contextlib.suppress(queue.Empty, BrokenPipeError):
        while line := waiting.get(timeout=idle_s):
            answer = _answered(*json.loads(line))
            send(answer)
            if "memory" in answer:  # what is left of this process is not to be trusted with another file
                return


def _take(requests: BinaryIO, waiting: "queue.SimpleQueue[bytes]") -> None:
    while line := requests.readline():
        waiting.put(line)
    waiting.put(b"")


def _answered(function: str, arguments: Sequence[Any], memory: int, seconds: int) -> dict[str, Any]:
    try:
        module, name = function.split(":")
        allow(memory=_PLENTY, seconds=_PLENTY)
        called = getattr(importlib.import_module(module), name)  # before the bounds: libraries take their own
        allow(memory=memory, seconds=seconds)
        value = called(*arguments)
        json.dumps(value)
    except BaseException as error:  # noqa: BLE001  everything becomes an answer
        return _failed(error)
    return {"value": value}


def _failed(error: BaseException) -> dict[str, Any]:
    cause: BaseException | None = error
    while cause is not None:
        if ran_out(cause):
            return {"memory": True}
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split())
    if isinstance(error, AffettoError):
        return {"failed": [error.exit_code, text]}
    return {"failed": [AffettoError.exit_code, f"{type(error).__name__}: {text}"]}


def main(arguments: Sequence[str]) -> None:
    """Be the child: what decoders print goes nowhere, and Ctrl-C is the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers, file_size=int(arguments[0]), idle_s=float(arguments[1]))
    os._exit(0)  # a thread still waits for requests


if __name__ == "__main__":
    main(sys.argv[1:])
