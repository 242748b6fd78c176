"""A short text within a finished media file, where players and editors look for a comment; nothing else of it changes.

WAV: LIST-INFO ICMT (and ISFT, the program); FLAC: the Vorbis comment COMMENT; MP4, M4V and MOV: moov/udta/meta/ilst, the atom
(c)cmt that ffmpeg and players show; PNG: tEXt or iTXt "Comment"; MIDI: a text event at the beginning of the first track; GLB:
`asset.extras.comment`; NPZ: the archive's comment, where it has room; USDA and WebVTT: a comment below the first line. The
same file and text give the same bytes. Readers look at headers only, and at most at a mebibyte.
"""

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from affetto.media.mp4_notes import KEY, MAX_BYTES, MAX_PARTS, note_mp4, read_mp4
from affetto.runtime.errors import InvalidInputError

_PNG = b"\x89PNG\r\n\x1a\n"


def write_note(path: Path, text: str) -> None:
    """Put `text` into a file in one of `NOTED`; raises InvalidInputError when the file is not what its name says."""
    if len(text.encode()) > MAX_BYTES:
        raise InvalidInputError(f"{path}: a note of {len(text)} letters is too long: shorten it")
    suffix = path.suffix.lower()
    try:
        if suffix in _IN_PLACE:
            _IN_PLACE[suffix](path, text)
        else:
            path.write_bytes(_WRITERS[suffix](path.read_bytes(), text))
    except (struct.error, IndexError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"{path}: no note can be written into it ({error}): write the file again"
        ) from error


def read_note(path: Path) -> str | None:
    """The text that `write_note` put into a file, or None; damaged files and those of others have none."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        return None
    try:
        found = read(path)
    except (OSError, struct.error, IndexError, KeyError, ValueError, TypeError, zlib.error, RecursionError):
        return None
    return found if found is not None and len(found) <= MAX_BYTES else None


# WAV: the chunk goes to the end, so that sound of any length stays where it is.


def _note_wav(path: Path, text: str) -> None:
    body = b"INFO" + _riff(b"ISFT", KEY.encode() + b"\0") + _riff(b"ICMT", text.encode() + b"\0")
    with path.open("r+b") as file:
        if file.read(4) != b"RIFF":
            raise ValueError("no WAV")
        end = file.seek(0, 2)
        file.write(b"\0" * (end % 2) + _riff(b"LIST", body))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", min(size, 0xFFFFFFFF)))


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _read_wav(path: Path) -> str | None:
    with path.open("rb") as file:
        file.seek(12)
        for _ in range(MAX_PARTS):
            if len(head := file.read(8)) < 8:
                break
            size = struct.unpack("<I", head[4:])[0]
            if head[:4] == b"LIST" and 4 < size <= 2 * MAX_BYTES:
                found = dict(_riff_chunks(file.read(size)[4:]))
                if found.get(b"ISFT", b"").startswith(KEY.encode()) and b"ICMT" in found:
                    return found[b"ICMT"].rstrip(b"\0").decode()
                file.seek(size % 2, 1)
            else:
                file.seek(size + size % 2, 1)
    return None


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        size = struct.unpack_from("<I", data, at + 4)[0]
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


# FLAC: metadata blocks before the frames; the comment is added to the block of comments that is there.


def _flac_blocks(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The metadata blocks (kind, content) and everything after them."""
    if data[:4] != b"fLaC":
        raise ValueError("no FLAC")
    blocks, at, last = [], 4, False
    while not last:
        if len(blocks) > MAX_PARTS:
            raise ValueError("too many blocks")
        last, kind, size = (
            bool(data[at] & 0x80),
            data[at] & 0x7F,
            int.from_bytes(data[at + 1 : at + 4], "big"),
        )
        blocks.append((kind, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return blocks, data[at:]


def _flac_comments(block: bytes) -> tuple[bytes, list[bytes]]:
    length = struct.unpack_from("<I", block)[0]
    vendor, at = block[4 : 4 + length], 4 + length
    count, at = struct.unpack_from("<I", block, at)[0], at + 4
    comments = []
    for _ in range(min(count, 1000)):
        size = struct.unpack_from("<I", block, at)[0]
        comments.append(block[at + 4 : at + 4 + size])
        at += 4 + size
    return vendor, comments


def _note_flac(data: bytes, text: str) -> bytes:
    blocks, rest = _flac_blocks(data)
    vendor, comments = next((_flac_comments(body) for kind, body in blocks if kind == 4), (KEY.encode(), []))
    comments = [*comments, f"SOFTWARE={KEY}".encode(), b"COMMENT=" + text.encode()]
    packed = struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(comments))
    packed += b"".join(struct.pack("<I", len(each)) + each for each in comments)
    kept = [blocks[0], (4, packed), *[block for block in blocks[1:] if block[0] != 4]]
    heads = [
        bytes([kind | (0x80 if number == len(kept) - 1 else 0)]) + len(body).to_bytes(3, "big") + body
        for number, (kind, body) in enumerate(kept)
    ]
    return b"fLaC" + b"".join(heads) + rest


def _read_flac(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # signed: the manifest stands before the sound, sized in groups of seven bits
            size = sum(byte << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
            file.seek(size + 10)
        else:
            file.seek(0)
        blocks, _ = _flac_blocks(file.read(4 * MAX_BYTES))
    for kind, body in blocks:
        comments = _flac_comments(body)[1] if kind == 4 else []
        if f"SOFTWARE={KEY}".encode() in comments:
            return next((each[8:].decode() for each in comments if each.startswith(b"COMMENT=")), None)
    return None


# PNG: chunks after the header.


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _note_png(data: bytes, text: str) -> bytes:
    if data[:8] != _PNG:
        raise ValueError("no PNG")
    comment = _png_chunk(b"iTXt", b"Comment\0\0\0\0\0" + text.encode())
    if text.isascii():
        comment = _png_chunk(b"tEXt", b"Comment\0" + text.encode())
    return data[:33] + _png_chunk(b"tEXt", b"Software\0" + KEY.encode()) + comment + data[33:]


def _read_png(path: Path) -> str | None:
    found: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        if file.read(8) != _PNG:
            return None
        for _ in range(MAX_PARTS):
            if len(head := file.read(8)) < 8 or head[4:] == b"IDAT":
                break
            size = struct.unpack(">I", head[:4])[0]
            if head[4:] in (b"tEXt", b"iTXt") and size <= MAX_BYTES:
                key, _, value = file.read(size).partition(b"\0")
                found[key] = value if head[4:] == b"tEXt" else value[4:]
                file.seek(4, 1)
            else:
                file.seek(size + 4, 1)
    ours = found.get(b"Software") == KEY.encode()
    return found[b"Comment"].decode() if ours and b"Comment" in found else None


# MIDI: a text event (FF 01) before everything else.


def _note_midi(data: bytes, text: str) -> bytes:
    at = 8 + struct.unpack_from(">I", data, 4)[0]
    if data[:4] != b"MThd" or data[at : at + 4] != b"MTrk":
        raise ValueError("no MIDI")
    body = f"{KEY} {text}".encode()
    event = b"\0\xff\x01" + _variable(len(body)) + body
    size = struct.unpack_from(">I", data, at + 4)[0] + len(event)
    return data[: at + 4] + struct.pack(">I", size) + event + data[at + 8 :]


def _variable(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


def _read_midi(path: Path) -> str | None:
    with path.open("rb") as file:
        data = file.read(2 * MAX_BYTES)
    at = 8 + struct.unpack_from(">I", data, 4)[0] + 8
    if data[:4] != b"MThd" or data[at : at + 3] != b"\0\xff\x01":
        return None
    size, at = 0, at + 3
    for _ in range(4):
        size, at = size << 7 | data[at] & 0x7F, at + 1
        if data[at - 1] < 0x80:
            break
    told = data[at : at + size].decode()
    return told.removeprefix(f"{KEY} ") if told.startswith(f"{KEY} ") else None


# GLB: the JSON chunk.


def _glb_parts(data: bytes) -> tuple[dict[str, object], bytes]:
    magic, _, _, size, kind = struct.unpack_from("<IIIII", data)
    if (magic, kind) != (0x46546C67, 0x4E4F534A):
        raise ValueError("no GLB")
    document = json.loads(data[20 : 20 + size])
    if not isinstance(document, dict):
        raise ValueError("no GLB")
    return document, data[20 + size :]


def _note_glb(data: bytes, text: str) -> bytes:
    document, rest = _glb_parts(data)
    asset = document["asset"]
    if not isinstance(asset, dict):
        raise ValueError("no asset")
    asset["extras"] = {"software": KEY, "comment": text}
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    body += b" " * (-len(body) % 4)
    head = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(body) + len(rest), len(body), 0x4E4F534A)
    return head + body + rest


def _read_glb(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(20)
        document, _ = _glb_parts(head + file.read(min(struct.unpack_from("<I", head, 12)[0], 64 * MAX_BYTES)))
    asset = document.get("asset")
    extras = asset.get("extras") if isinstance(asset, dict) else None
    if not isinstance(extras, dict) or extras.get("software") != KEY:
        return None
    return extras["comment"] if isinstance(extras.get("comment"), str) else None


# NPZ: the comment at the end of the archive.


def _note_npz(path: Path, text: str) -> None:
    body = f"{KEY} {text}".encode()
    if not zipfile.is_zipfile(path):
        raise ValueError("no archive")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = body if len(body) < 1 << 16 else b""  # a longer one has no room


def _read_npz(path: Path) -> str | None:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 22 - (1 << 16), 0))
        _, found, end = file.read().rpartition(b"PK\5\6")
    comment = end[18:].decode() if found else ""
    return comment.removeprefix(f"{KEY} ") if comment.startswith(f"{KEY} ") else None


# USDA and WebVTT: lines of text.


def _note_usda(data: bytes, text: str) -> bytes:
    first, _, rest = data.partition(b"\n")
    if not first.startswith(b"#usda "):
        raise ValueError("no USDA")
    return first + f"\n# {KEY} {_in_a_line(text)}\n".encode() + rest


def _note_vtt(data: bytes, text: str) -> bytes:
    first, _, rest = data.partition(b"\n")
    if not first.startswith(b"WEBVTT"):
        raise ValueError("no WebVTT")
    told = _in_a_line(text).replace("-->", "--\\u003e")  # which would begin a cue
    return first + f"\n\nNOTE {KEY} {told}\n".encode() + rest


def _in_a_line(text: str) -> str:
    return " ".join(text.splitlines())


def _read_line(path: Path) -> str | None:
    with path.open("rb") as file:
        kind, lines = file.readline(64), [file.readline(2 * MAX_BYTES) for _ in range(2)]
    starts = {b"#usda ": f"# {KEY} ", b"WEBVTT": f"NOTE {KEY} "}
    start = next((start for magic, start in starts.items() if kind.startswith(magic)), None)
    texts = [line.decode().rstrip("\n") for line in lines]
    return next((each.removeprefix(start) for each in texts if start and each.startswith(start)), None)


_IN_PLACE: Mapping[str, Callable[[Path, str], None]] = {
    ".wav": _note_wav, ".mp4": note_mp4, ".m4v": note_mp4, ".mov": note_mp4, ".npz": _note_npz,
}  # fmt: skip
"""Writers of what may be too large for memory."""
_WRITERS: Mapping[str, Callable[[bytes, str], bytes]] = {
    ".flac": _note_flac, ".png": _note_png, ".mid": _note_midi, ".midi": _note_midi, ".glb": _note_glb,
    ".usda": _note_usda, ".vtt": _note_vtt,
}  # fmt: skip
_READERS: Mapping[str, Callable[[Path], str | None]] = {
    ".wav": _read_wav, ".flac": _read_flac, ".mp4": read_mp4, ".m4v": read_mp4, ".mov": read_mp4, ".png": _read_png,
    ".mid": _read_midi, ".midi": _read_midi, ".glb": _read_glb, ".npz": _read_npz, ".usda": _read_line, ".vtt": _read_line,
}  # fmt: skip
NOTED = tuple(_READERS)
"""Suffixes of the files that take a note."""
