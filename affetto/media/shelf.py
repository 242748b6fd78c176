"""Long sounds on disk: arrays like any other whose pages leave memory as soon as they are put away.

They lie in unnamed temporary files (in the folder that `tempfile` chooses: on a disk, or they take memory all the same).
Whoever walks along such an array takes it in blocks and puts each away when it is done, so that a scene of an hour needs no
more memory than one of a minute. Of arrays that do not lie on a shelf, `put_away` does nothing.
"""

import mmap
import tempfile
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

_FILE_BYTES = 1 << 28  # of one file: many short sounds share it, so that few files are open
_PAGE = mmap.ALLOCATIONGRANULARITY
_BLOCK = 1 << 18  # samples copied at once


class Shelf:
    """Room for sounds on disk; it is given back when the last array in it is forgotten."""

    def __init__(self) -> None:
        self._file: np.memmap | None = None
        self._used = 0

    def empty(self, channels: int, count: int) -> Float32[np.ndarray, "channel sample"]:
        """Silence of this shape, on disk."""
        wanted = -(-max(channels * count, 1) * 4 // _PAGE) * _PAGE
        if self._file is None or self._used + wanted > self._file.nbytes:
            size = max(_FILE_BYTES, wanted)  # sparse: only what is written takes room
            with tempfile.TemporaryFile() as file:
                self._file, self._used = np.memmap(file, np.uint8, "w+", shape=(size,)), 0
        part = self._file[self._used : self._used + 4 * channels * count]
        self._used += wanted
        return np.asarray(part).view(np.float32).reshape(channels, count)

    def keep(self, samples: Float32[np.ndarray, "channel sample"]) -> Float32[np.ndarray, "channel sample"]:
        """The same sound on disk."""
        kept = self.empty(*samples.shape)
        for block, copy in zip(in_blocks(samples), in_blocks(kept), strict=True):
            copy[:] = block
        return kept


def in_blocks(samples: np.ndarray, size: int = _BLOCK) -> Iterator[np.ndarray]:
    """Consecutive parts of (channel, sample), each put away when the next is asked for."""
    for start in range(0, samples.shape[1], size):
        yield samples[:, start : start + size]
        put_away(samples[:, start : start + size])


def put_away(samples: np.ndarray) -> None:
    """Let the pages of an array on a shelf leave memory; its values stay."""
    lies_in = mapping_of(samples)
    if lies_in is None or not hasattr(lies_in, "madvise") or not samples.size:
        return
    whole = np.frombuffer(lies_in, np.uint8).ctypes.data
    for channel in samples if samples.ndim > 1 else [samples]:
        first = (channel.ctypes.data - whole) // _PAGE * _PAGE
        last = channel.ctypes.data - whole + channel.nbytes
        lies_in.madvise(mmap.MADV_DONTNEED, first, last - first)


def mapping_of(samples: np.ndarray) -> mmap.mmap | None:
    """The mapped file that an array is a part of, if it lies on a shelf."""
    part: object = samples
    while isinstance(part, np.ndarray):
        part = part.base
    return part if isinstance(part, mmap.mmap) else None
