"""The note within MP4 and MOV files: user data within the index; where the index lies before the media, the places it gives move along."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 1 << 20  # of a note
MAX_PARTS = 10_000  # of a file: one of nothing but empty parts is made to keep a reader busy
KEY = "affetto"
_PIECE = 1 << 22  # of what is moved at once
_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def _mp4_boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Kind, start, first content byte and end of each box."""
    for _ in range(MAX_PARTS):
        if start + 8 > stop:
            return
        size, kind, skip = struct.unpack_from(">I", data, start)[0], data[start + 4 : start + 8], 8
        if size == 1:
            size, skip = struct.unpack_from(">Q", data, start + 8)[0], 16
        size = size or stop - start
        if size < skip:
            raise ValueError("a box is damaged")
        yield kind, start, start + skip, min(start + size, stop)
        start += size


def note_mp4(path: Path, text: str) -> None:
    """Write the index with the note in place of the old one; media of any size stay where they are, or move along in pieces."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        places = {kind: (at, length) for kind, at, length in reversed([*_top_boxes(file, size)])}
        if b"moov" not in places:
            raise ValueError("no index")
        start, length = places[b"moov"]
        if length > 64 * MAX_BYTES or start + length > size:
            raise ValueError("its index is damaged")
        file.seek(start)
        grown = _noted_index(file.read(length), text)
        shift = len(grown) - length
        if places.get(b"mdat", (0, 0))[0] > start:
            grown = _moved(grown, shift)
        _make_room(file, start + length, shift)
        file.seek(start)
        file.write(grown)


def _noted_index(index: bytes, text: str) -> bytes:
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    items = b"".join(
        _box(kind, _box(b"data", struct.pack(">II", 1, 0) + value.encode()))
        for kind, value in ((b"\xa9too", KEY), (b"\xa9cmt", text))
    )
    meta = _box(b"udta", _box(b"meta", bytes(4) + handler + _box(b"ilst", items)))
    _, _, inner, end = next(_mp4_boxes(index, 0, len(index)))
    kept = b"".join(index[a:d] for kind, a, _, d in _mp4_boxes(index, inner, end) if kind != b"udta")
    return _box(b"moov", kept + meta)


def _top_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of each outermost box; the first of a kind counts."""
    at = 0
    for _ in range(MAX_PARTS):
        if at + 8 > size:
            return
        file.seek(at)
        head = file.read(16)
        length = struct.unpack(">I", head[:4])[0]
        length = struct.unpack(">Q", head[8:16])[0] if length == 1 else length or size - at
        if length < 8:
            raise ValueError("a box is damaged")
        yield head[4:8], at, length
        at += length


def _make_room(file: BinaryIO, start: int, shift: int) -> None:
    """Move all from `start` on by `shift` bytes, the last piece first (backwards: the first)."""
    end = file.seek(0, 2)
    pieces = range(start, end, _PIECE)
    for at in reversed(pieces) if shift > 0 else pieces:
        file.seek(at)
        piece = file.read(min(_PIECE, end - at))
        file.seek(at + shift)
        file.write(piece)
    file.truncate(end + shift)


def _moved(index: bytes, shift: int) -> bytes:
    """An index whose chunk offsets are `shift` bytes further."""
    moved, waiting = bytearray(index), [(0, len(index))]
    while waiting:
        for kind, _, inner, end in _mp4_boxes(index, *waiting.pop()):
            if kind in _CONTAINERS:
                waiting.append((inner, end))
            elif kind in (b"stco", b"co64"):
                size = "I" if kind == b"stco" else "Q"
                count = struct.unpack_from(">I", index, inner + 4)[0]
                places = struct.unpack_from(f">{count}{size}", index, inner + 8)
                struct.pack_into(f">{count}{size}", moved, inner + 8, *(place + shift for place in places))
    return bytes(moved)


def read_mp4(path: Path) -> str | None:
    """The note, or None; raises ValueError, struct.error and the like for damaged files."""
    with path.open("rb") as file:
        for kind, at, length in _top_boxes(file, path.stat().st_size):
            if kind == b"moov" and length <= 64 * MAX_BYTES:
                file.seek(at)
                return _mp4_comment(file.read(length))
    return None


def _mp4_comment(index: bytes) -> str | None:
    place = (8, len(index))
    for wanted, skip in ((b"udta", 0), (b"meta", 4), (b"ilst", 0)):
        found = next((box for box in _mp4_boxes(index, *place) if box[0] == wanted), None)
        if found is None:
            return None
        place = (found[2] + skip, found[3])
    items = {kind: index[inner + 16 : end] for kind, _, inner, end in _mp4_boxes(index, *place)}
    return items[b"\xa9cmt"].decode() if items.get(b"\xa9too") == KEY.encode() else None
