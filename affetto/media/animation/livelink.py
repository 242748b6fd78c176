"""Live Link Face: its CSV recordings and its UDP datagrams.

Unreal Engine, Blender, Maya, MotionBuilder and Houdini tools read both. Two traps: the CSV header names right before
left for the jaw and the mouth (JawRight, JawLeft; MouthRight, MouthLeft) where the datagram has left first, so files
are read by column name; and the timecode counts frames, not milliseconds, after its third colon.
Angles are radians in the sense of `FaceCurves`; sources disagree on the app's unit, so both functions take it.
"""

import csv
import io
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.media.files import checked_size
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path

MAX_BYTES = 512 * 2**20
ANGLES = tuple(
    f"{part}{angle}" for part in ("Head", "LeftEye", "RightEye") for angle in ("Yaw", "Pitch", "Roll")
)
CHANNELS = len(ARKIT_52) + len(ANGLES)


def _swapped(names: tuple[str, ...]) -> tuple[str, ...]:
    pairs = {"jawLeft": "jawRight", "mouthLeft": "mouthRight"}
    swap = pairs | {right: left for left, right in pairs.items()}
    return tuple(swap.get(name, name) for name in names)


CSV_SHAPES = tuple(name[0].upper() + name[1:] for name in _swapped(ARKIT_52))
"""The 52 blend shapes as the CSV header orders and spells them."""

CSV_HEADER = ("Timecode", "BlendShapeCount", *CSV_SHAPES, *ANGLES)
"""The 63 columns of a Live Link Face recording."""

_RATES = (24, 25, 30, 48, 50, 60, 100, 120)
_TIMECODE = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:\.\d+)?)")


def timecode(frame: int, fps: float) -> str:
    """The `HH:MM:SS:FF.mmm` of a frame counted from 0: FF is the frame within its second, mmm its fraction."""
    seconds = math.floor(frame / fps + 1e-9)
    thousandths = max(0, round((frame - seconds * fps) * 1000))
    if thousandths >= round(fps * 1000):
        seconds, thousandths = seconds + 1, 0
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{clock}:{thousandths // 1000:02d}.{thousandths % 1000:03d}"


def _rows(curves: FaceCurves, unit: float) -> Float[np.ndarray, "frame channel"]:
    """Weights and angles of every frame in the datagram's order; eyes do not roll."""
    frames = len(curves)
    eyes = np.concatenate([curves.eyes, np.zeros((frames, 2, 1), np.float32)], axis=2).reshape(frames, 6)
    return np.concatenate([curves.weights, curves.head * unit, eyes * unit], axis=1)


def _unit(angles: str) -> float:
    if angles not in ("radians", "degrees"):
        raise UsageError(f"angles must be radians or degrees, got {angles!r}")
    return 1.0 if angles == "radians" else 180.0 / math.pi


def write_csv(
    path: str | Path, curves: FaceCurves, *, angles: str = "radians", overwrite: bool = True
) -> Path:
    """Write a Live Link Face recording (63 columns, one row a frame, first frame at 00:00:00:00.000)."""
    order = [ARKIT_52.index(name) for name in _swapped(ARKIT_52)] + list(range(len(ARKIT_52), CHANNELS))
    values = _rows(curves, _unit(angles))[:, order] + 0.0  # no minus zero
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("w", newline="\n") as file:
        file.write(",".join(CSV_HEADER) + "\n")
        for frame, row in enumerate(values):
            numbers = ",".join(f"{value:.10f}" for value in row)
            file.write(f"{timecode(frame, curves.fps)},{CHANNELS},{numbers}\n")
    return Path(path)


def read_csv(path: str | Path, *, fps: float | None = None, angles: str = "radians") -> FaceCurves:
    """The performance in a Live Link Face recording, at a steady rate from its first row.

    Columns are found by name, in any order and case; missing angle columns count as zero. `fps` is the app's frame rate;
    without it, it is told from the highest frame number, or is 60 (the app's default) when no second is complete.
    Dropped frames are filled by linear interpolation. Raises `InvalidInputError` naming the line that cannot be read.
    """
    path = Path(path)
    checked_size(path, MAX_BYTES, kind="recording")
    stamps: list[tuple[int, float]] = []
    rows: list[list[float]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            columns = _columns(path, next(reader, []))
            for number, row in enumerate(reader, start=2):
                if row:
                    stamps.append(_stamp(path, number, row[columns[0]] if len(row) > columns[0] else ""))
                    rows.append(_numbers(path, number, row, columns[1:]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path}: not a CSV text file: export the recording again") from error
    if not rows:
        raise InvalidInputError(f"{path}: has a header but no frames: record it again")
    rate = fps or _guess_rate(stamps)
    values = _steady(path, stamps, np.array(rows, np.float32), rate)
    values[:, len(ARKIT_52) :] /= _unit(angles)
    eyes = values[:, 55:].reshape(len(values), 2, 3)[:, :, :2]
    return FaceCurves(
        fps=rate, weights=values[:, :52], head=values[:, 52:55], eyes=np.ascontiguousarray(eyes)
    )


def _columns(path: Path, header: list[str]) -> list[int]:
    """Where the timecode and the 61 channels (datagram order) stand; -1 for a missing angle."""
    places = {name.strip().lower(): place for place, name in enumerate(header)}
    if "timecode" not in places:
        raise InvalidInputError(
            f"{path}: not a Live Link Face recording (no Timecode column): export it as CSV"
        )
    missing = [name for name in ARKIT_52 if name.lower() not in places]
    if missing:
        raise InvalidInputError(
            f"{path}: has no column {missing[0]} ({len(missing)} missing): export all shapes"
        )
    shapes = [places[name.lower()] for name in ARKIT_52]
    return [places["timecode"], *shapes, *(places.get(name.lower(), -1) for name in ANGLES)]


def _stamp(path: Path, number: int, text: str) -> tuple[int, float]:
    match = _TIMECODE.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(
            f"{path}: line {number}: timecode {text[:20]!r} is not HH:MM:SS:FF.mmm: export it again"
        )
    hours, minutes, seconds = (int(part) for part in match.groups()[:3])
    return hours * 3600 + minutes * 60 + seconds, float(match[4])


def _numbers(path: Path, number: int, row: list[str], columns: list[int]) -> list[float]:
    try:
        values = [0.0 if column < 0 else float(row[column]) for column in columns]
    except (ValueError, IndexError) as error:
        raise InvalidInputError(
            f"{path}: line {number} is cut off or holds no number: export it again"
        ) from error
    if not all(map(math.isfinite, values)):
        raise InvalidInputError(f"{path}: line {number} holds NaN or infinity: export it again")
    return values


def _guess_rate(stamps: list[tuple[int, float]]) -> float:
    """The standard rate just above the highest frame number, once a whole second was seen."""
    if stamps[-1][0] == stamps[0][0]:
        return 60.0
    highest = max(int(frame) for _, frame in stamps)
    return float(next((rate for rate in _RATES if rate > highest), highest + 1))


def _steady(
    path: Path, stamps: list[tuple[int, float]], values: Float[np.ndarray, "row channel"], rate: float
) -> Float[np.ndarray, "frame channel"]:
    """The rows at exactly `rate` frames per second; rows that already stand there pass through untouched."""
    ticks = np.array([seconds * rate + frame for seconds, frame in stamps])
    ticks += np.cumsum(np.diff(ticks, prepend=ticks[0]) < -43_200 * rate) * 86_400 * rate  # midnight
    ticks -= ticks[0]
    if (np.diff(ticks) <= 0).any():
        later = int(np.argmax(np.diff(ticks) <= 0)) + 3
        raise InvalidInputError(
            f"{path}: line {later} is not later than the line before: sort or record it again"
        )
    if np.abs(ticks - np.arange(len(ticks))).max() < 0.02:
        return values
    frames = np.arange(int(ticks[-1] + 0.02) + 1)
    if len(frames) > 50 * len(ticks) + 600:
        raise InvalidInputError(f"{path}: leaves out most of {ticks[-1] / rate:.0f} s: record it again")
    return np.stack([np.interp(frames, ticks, channel) for channel in values.T], axis=1).astype(np.float32)


PORT = 11_111
DEVICE = "AFFETTO0-0000-4000-8000-000000000001"


@dataclass(frozen=True, kw_only=True)
class LiveLinkFrame:
    """One datagram: who sends it, which frame it is, and 61 channels (52 weights, then 9 angles in radians)."""

    device: str
    subject: str
    frame: int
    subframe: float
    fps: tuple[int, int]  # numerator, denominator
    values: Float[np.ndarray, "61"]


def encode_packet(frame: LiveLinkFrame) -> bytes:
    """The datagram (version 6, big-endian): device, subject, frame time, frame rate, count, 61 floats."""
    device, subject = frame.device.encode(), frame.subject.encode()
    if len(frame.values) != CHANNELS:
        raise UsageError(f"a Live Link datagram carries {CHANNELS} values, got {len(frame.values)}")
    if max(len(device), len(subject)) > 255:
        raise UsageError("Live Link names have at most 255 bytes")
    buffer = io.BytesIO()
    buffer.write(struct.pack(">B", 6))
    for name in (device, subject):
        buffer.write(struct.pack(">i", len(name)) + name)
    buffer.write(struct.pack(">ifiiB", frame.frame, frame.subframe, *frame.fps, CHANNELS))
    buffer.write(np.asarray(frame.values, ">f4").tobytes())
    return buffer.getvalue()


def decode_packet(data: bytes) -> LiveLinkFrame:
    """What a datagram says; raises `InvalidInputError` unless it is a whole one of version 6 with 61 values."""
    reason = "not a Live Link Face datagram (version 6, 61 values)"
    try:
        (version,) = struct.unpack_from(">B", data)
        names, place = [], 1
        for _ in range(2):
            (length,) = struct.unpack_from(">i", data, place)
            if not 0 <= length <= 255:
                raise InvalidInputError(f"{reason}: a name of {length} bytes")
            names.append(data[place + 4 : place + 4 + length].decode())
            place += 4 + length
        number, subframe, numerator, denominator, count = struct.unpack_from(">ifiiB", data, place)
    except (struct.error, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{reason}: {len(data)} bytes") from error
    place += 17
    if version != 6 or count != CHANNELS or len(data) != place + 4 * CHANNELS:
        raise InvalidInputError(f"{reason}: version {version}, {count} values, {len(data)} bytes")
    values = np.frombuffer(data, ">f4", CHANNELS, place).astype(np.float32)
    return LiveLinkFrame(
        device=names[0],
        subject=names[1],
        frame=number,
        subframe=subframe,
        fps=(numerator, denominator),
        values=values,
    )


def packet_values(curves: FaceCurves, *, angles: str = "radians") -> Float[np.ndarray, "frame 61"]:
    """What a datagram carries for each frame: 52 weights, head yaw/pitch/roll, left eye and right eye the same."""
    return _rows(curves, _unit(angles)).astype(np.float32)
