"""Bounds on what a process may take: memory, processor seconds, size of the files it writes.

The standard library is all this file needs, so that it can run a program of ours that shall see nothing else:
`python -I -S limits.py MEMORY SECONDS FILE_SIZE PROGRAM ARGUMENT...` runs PROGRAM within them.
"""

import runpy
import sys
from collections.abc import Mapping


def limit(*, memory: int | None = None, seconds: int | None = None, file_size: int) -> tuple[str, ...]:
    """Bound this process for good, also against itself, and forbid core dumps; the bounds that hold, by name.

    `memory` is bytes of address space, `seconds` processor time, `file_size` bytes of a file that is written. A system
    without such bounds (Windows) gives (); macOS takes the one on memory and does not keep it.
    """
    wanted = {"RLIMIT_AS": memory, "RLIMIT_CPU": seconds, "RLIMIT_FSIZE": file_size, "RLIMIT_CORE": 0}
    return _bound(wanted, for_good=True)


def allow(*, memory: int, seconds: int) -> tuple[str, ...]:
    """From here on this process may take so much more memory and processor time; a later call allows anew.

    Memory is counted from the address space in use where the system tells it (Linux), else in all. The bounds that hold.
    """
    return _bound({"RLIMIT_AS": _address_space() + memory, "RLIMIT_CPU": _used() + seconds}, for_good=False)


def _bound(wanted: Mapping[str, int | None], *, for_good: bool) -> tuple[str, ...]:
    try:
        import resource
    except ImportError:  # not on Windows
        return ()
    held = []
    for name, most in wanted.items():
        kind = getattr(resource, name, None)
        if kind is None or most is None:
            continue
        _, hard = resource.getrlimit(kind)
        bounded = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (bounded, bounded if for_good else hard))
        except (ValueError, OSError):  # macOS refuses an address space below what it has given already
            continue
        held.append(name.removeprefix("RLIMIT_").lower())
    return tuple(held)


def _address_space() -> int:
    """Bytes of address space in use; 0 where the system does not tell."""
    try:
        import resource
        from pathlib import Path

        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return 0


def _used() -> int:
    """Whole processor seconds that this process has used."""
    import time

    return int(time.process_time()) + 1


if __name__ == "__main__":
    bounds, (program, *arguments) = [int(each) for each in sys.argv[1:4]], sys.argv[4:]
    limit(memory=bounds[0], seconds=bounds[1], file_size=bounds[2])
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")
