"""Writing files so that nobody ever sees half of one."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from affetto.runtime.errors import InvalidInputError, UsageError


def check_writable(target: Path, *, overwrite: bool) -> None:
    """Raise unless `target` may be created: its folder exists and is writable, and nothing is there (or `overwrite`)."""
    folder = target.parent
    if not folder.is_dir():
        raise UsageError(f"{target}: the folder {folder} does not exist: create it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{target}: the folder {folder} is not writable: choose another output")
    if target.is_dir():
        raise UsageError(f"{target}: is a folder: name a file")
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: already exists: choose another name or pass --overwrite")


@contextlib.contextmanager
def atomic_path(target: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `target` that replaces it when the block ends, and vanishes when it fails.

    The temporary file keeps the target's suffix, so that writers which choose a format by suffix work.
    """
    target = Path(target)
    check_writable(target, overwrite=overwrite)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem[:40]}-", suffix=target.suffix, dir=target.parent
        )
    except OSError as error:
        raise InvalidInputError(
            f"{target}: cannot be written ({error.strerror}): choose another output"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
