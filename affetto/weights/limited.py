"""Running one of our own readers of untrusted files in a process bounded in memory and time.

`python -m affetto.weights.limited MODULE:FUNCTION INPUT OUTPUT` calls the function with both paths.
"""

import importlib
import subprocess
import sys
from pathlib import Path

from affetto.runtime.errors import AffettoError, InvalidInputError
from affetto.weights.unpickle import limit

MEMORY = 6 << 30
"""Bytes of address space: enough for numpy, its threads and a gigabyte of arrays."""


def run_limited(function: str, source: Path, target: Path) -> None:
    """Call `MODULE:FUNCTION` with both paths in a process of its own; raises InvalidInputError with its reason."""
    command = [sys.executable, "-B", "-m", "affetto.weights.limited", function, str(source), str(target)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode == 0:
        return
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == InvalidInputError.exit_code and lines:
        raise InvalidInputError(lines[-1])
    raise InvalidInputError(f"{source}: it takes more memory or time than it may: download it again")


def main(arguments: list[str]) -> int:
    """Do the work of the child; a refusal is one line on stderr."""
    function, source, target = arguments
    module, name = function.split(":")
    size = Path(source).stat().st_size
    limit(MEMORY, 300, 4 * size + (1 << 28))
    try:
        getattr(importlib.import_module(module), name)(Path(source), Path(target))
    except AffettoError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
