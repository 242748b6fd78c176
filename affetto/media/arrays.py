"""Reading archives of NumPy arrays (.npz) from outside: what they claim is checked before any of it is allocated."""

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from affetto.runtime.errors import InvalidInputError

_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, KeyError, ValueError, TypeError, EOFError, OSError,
    SyntaxError, OverflowError, RecursionError, NotImplementedError, RuntimeError, MemoryError,
)  # fmt: skip


def read_arrays_of(path: Path, *, what: str, most_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, nothing unpickled; `what` names in errors what the file should be.

    Raises `InvalidInputError` for a damaged archive, one that unpacks to more than `most_bytes`, and one whose arrays
    claim more numbers than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > most_bytes:
                raise InvalidInputError(f"{path}: unpacks to {unpacked / 2**20:.0f} MiB: cut it into parts")
            if not all(0 <= _claimed(archive, entry) <= entry.file_size for entry in entries):
                raise InvalidInputError(f"{path}: claims more numbers than it holds: export it again")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except InvalidInputError:
        raise
    except _DAMAGE as error:
        raise InvalidInputError(f"{path}: not {what}, or damaged: export it again") from error


def _claimed(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """How many bytes the header of an array in an archive promises: numpy allocates them before it reads any."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, kind = read(file)
    return -1 if any(length < 0 for length in shape) else math.prod(shape) * kind.itemsize
