"""The picture size that an MP4 or MOV file claims, read from its boxes without opening a decoder.

FFmpeg decodes a first frame while opening a file, so a tiny file with an enormous picture costs its memory before any
limit can be checked (ISO/IEC 14496-12, boxes moov/trak/mdia/minf/stbl/stsd).
"""

from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from affetto.runtime.errors import InvalidInputError

_NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
MAX_BOXES = 10_000


def _boxes(file: BufferedIOBase, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, first content byte, end) of each box between two positions."""
    while start + 8 <= stop:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        length, kind, skip = int.from_bytes(header[:4], "big"), header[4:8], 8
        if length == 1 and len(header) == 16:
            length, skip = int.from_bytes(header[8:], "big"), 16
        elif length == 0:
            length = stop - start
        if length < skip:
            return
        yield kind, start + skip, min(stop, start + length)
        start += length


def largest_picture(path: Path, size: int) -> tuple[int, int]:
    """Width and height of the largest picture any sample description claims; (0, 0) when there is none.

    Raises `InvalidInputError` when the file has no index (moov): it was cut off while being written or copied.
    """
    largest, visited, has_index = (0, 0), 0, False
    with path.open("rb") as file:
        waiting = [(0, size)]
        while waiting:
            for kind, start, stop in _boxes(file, *waiting.pop()):
                visited += 1
                if visited > MAX_BOXES:
                    raise InvalidInputError(f"{path}: has over {MAX_BOXES} boxes: export the video again")
                has_index = has_index or kind == b"moov"
                if kind in _NESTED:
                    waiting.append((start, stop))
                elif kind == b"stsd":
                    for _, entry, end in _boxes(file, start + 8, stop):
                        file.seek(entry + 24)
                        numbers = file.read(4)
                        if end - entry >= 28 and len(numbers) == 4:
                            found = int.from_bytes(numbers[:2], "big"), int.from_bytes(numbers[2:], "big")
                            largest = max(largest, found, key=lambda pair: pair[0] * pair[1])
    if not has_index:
        raise InvalidInputError(f"{path}: the video is cut off (no index): copy or export it again")
    return largest
