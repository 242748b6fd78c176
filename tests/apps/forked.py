"""The real command line, run in forks of one process that has everything imported: cheap, and each call measured.

`python forked.py` reads one JSON line for each call: arguments, working folder and limits; it answers with the exit code, what
was printed, the processor seconds and the peak memory. Processor seconds and `ru_maxrss` are those that the kernel counted
for the fork alone (wait4); a fork starts with its parent's resident memory, so the peak of one that does nothing is taken off
first: what remains is what the call itself needed. Being started and importing libraries are in neither figure.
"""

import errno
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WARM = (
    "affetto.apps.cli.face", "affetto.apps.cli.talk", "affetto.apps.cli.voice", "affetto.apps.cli.music", "affetto.apps.cli.batch",
    "affetto.apps.cli.weights", "affetto.apps.cli.verify", "affetto.apps.cli.render", "affetto.generators.face.pipeline",
    "affetto.generators.voice.pipeline", "affetto.generators.music.pipeline", "affetto.generators.portrait.pipeline",
    "affetto.generators.portrait.detect", "affetto.provenance.verifying", "affetto.scene.director", "affetto.apps.batch.runner",
    "affetto.media.animation.files", "affetto.weights.tensors",
)  # fmt: skip


class Call:
    """What one call of the command line gave and took."""

    def __init__(self, *, code: int, out: str, err: str, seconds: float, mib: float) -> None:
        self.code, self.out, self.err, self.seconds, self.mib = code, out, err, seconds, mib

    @property
    def lines(self) -> list[str]:
        return self.err.strip().splitlines()


class CommandLine:
    """A process with the command line imported that forks for each call; close it at the end."""

    def __init__(self, home: Path) -> None:
        environment = dict(os.environ, AFFETTO_HOME=str(home), AFFETTO_SIGN="never", OMP_NUM_THREADS="1")
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )  # fmt: skip
        self._base = 0.0
        self._base = self("--version").mib

    def __call__(self, *arguments: object, folder: Path | None = None, full_disk: bool = False) -> Call:
        """Run one command in `folder`; with `full_disk` nothing can be brought to the disk."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {
            "arguments": [str(each) for each in arguments],
            "folder": str(folder or Path.cwd()),
            "full": full_disk,
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Call(**answer | {"mib": answer["mib"] - self._base})

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)


def _serve() -> None:
    from affetto.apps.cli import main

    for name in WARM:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                _child(main, order, out.fileno(), err.fileno())
            _, status, used = os.wait4(child, 0)
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode())
        answer = {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}
        answer |= {"seconds": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _child(main, order: dict, out: int, err: int) -> None:
    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdin = io.StringIO()
        os.chdir(order["folder"])
        if order["full"]:
            os.fsync = _no_room
        code = main(order["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _no_room(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


if __name__ == "__main__":
    _serve()
