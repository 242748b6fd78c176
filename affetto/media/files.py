"""First looks at a file from outside: before any decoder sees it, and with a decoder shut into a process with limits."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from affetto.runtime.errors import AffettoError, InvalidInputError
from affetto.runtime.limited import LimitedProcess, Limits

MEND = "it is damaged or made to do harm: export it again"
LOOKER = LimitedProcess()
"""Where decoders first see files of others; one for all looks of this process."""


def checked_size(path: Path, limit: int | None = None, *, kind: str) -> int:
    """The size of `path` in bytes; raise unless it is a readable file with 1..`limit` bytes."""
    if "://" in str(path) or str(path).startswith(("http:/", "https:/", "ftp:/")):
        raise InvalidInputError(f"{path}: addresses are not read: download the {kind} first")
    try:
        if not path.exists():
            raise InvalidInputError(f"{path}: no such file: check the path")
        if not path.is_file():
            raise InvalidInputError(f"{path}: not a file: name a {kind} file")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read ({error.strerror}): check its permissions"
        ) from error
    if size == 0:
        raise InvalidInputError(f"{path}: is empty (0 bytes): export the {kind} again")
    if limit is not None and size > limit:
        raise InvalidInputError(
            f"{path}: {size / 2**20:.0f} MiB exceeds {limit / 2**20:.0f} MiB: use a smaller {kind}"
        )
    return size


def first_bytes(path: Path, count: int = 64) -> bytes:
    """The first bytes of a file, to tell formats by content rather than by name."""
    with path.open("rb") as file:
        return file.read(count)


def looks_like_text(head: bytes) -> bool:
    """Whether bytes read like plain text rather than a media container."""
    return bool(head) and all(byte in b"\t\n\r\f" or 32 <= byte < 127 or byte >= 128 for byte in head)


def looked_at(path: Path, function: str, *options: Any, limits: Limits) -> Any:
    """What `MODULE:FUNCTION` finds in a file (path, then plain options), in a process bounded in memory and time.

    A file that was looked at and has not changed since is not read again. Raises what the function raises, and
    `InvalidInputError` for a file that takes more than `limits` or crashes its reader.
    """
    state = path.stat()
    absolute = str(path.absolute())
    try:
        return _found(function, absolute, state.st_size, state.st_mtime_ns, options, limits)
    except AffettoError as error:
        raise type(error)(str(error).replace(absolute, str(path))) from error


@lru_cache(maxsize=4096)
def _found(
    function: str, path: str, _size: int, _changed: int, options: tuple[Any, ...], limits: Limits
) -> Any:
    return LOOKER.call(function, path, *options, limits=limits, subject=path, mend=MEND)
