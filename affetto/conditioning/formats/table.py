"""CSV tables: `time,valence,arousal,dominance,intensity,label`, also as DEAM, PMEmo or Aff-Wild exports write them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.formats.reading import KeyframeList, blaming, names_text, number
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import InvalidInputError

COLUMNS = ("time", "valence", "arousal", "dominance", "intensity", "label", "confidence", "ease")
MAX_CELL = 2_000  # characters
_MAX_COLUMNS = 256
_SYNONYMS = {
    "seconds": "time", "t": "time", "frametime": "time", "timestamp": "time", "time_s": "time", "start": "time",
    "v": "valence", "pleasure": "valence", "a": "arousal", "d": "dominance", "emotion": "label", "conf": "confidence",
}  # fmt: skip


def read(path: Path, text: str, *, scale: tuple[float, float] = (-1.0, 1.0)) -> EmotionTrack:
    """The track in a CSV table with a header; `scale` is the range of its valence, arousal and dominance columns."""
    lines = text.splitlines()
    delimiter = ";" if ";" in lines[0] and "," not in lines[0] else "\t" if "\t" in lines[0] else ","
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    keys = KeyframeList(path)
    try:
        header = [_SYNONYMS.get(name.strip().lower(), name.strip().lower()) for name in next(rows)]
        _check_header(path, header)
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            line = rows.line_num
            with blaming(path, line):
                if len(cells) != len(header):
                    raise InvalidInputError(f"{len(cells)} cells under a header of {len(header)}")
                if max(len(cell) for cell in cells) > MAX_CELL:
                    raise InvalidInputError(f"a cell is longer than {MAX_CELL} characters")
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
                time, emotion = number(row["time"], "time"), _emotion(row, scale)
            keys.add(line, time, emotion, row.get("ease") or "linear")
    except csv.Error as error:
        raise InvalidInputError(f"{path}:{rows.line_num}: not a CSV table ({error})") from error
    return keys.track()


def write(track: EmotionTrack) -> str:
    """The keyframes as a CSV table; numbers keep all their digits."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for key in track.keyframes:
        emotion = key.emotion
        numbers = [key.time, *emotion.vad, emotion.intensity]
        table.writerow([*map(repr, numbers), names_text(emotion), repr(emotion.confidence), key.ease])
    return out.getvalue()


def _check_header(path: Path, header: Sequence[str]) -> None:
    if len(header) > _MAX_COLUMNS:
        raise InvalidInputError(f"{path}:1: {len(header)} columns, at most {_MAX_COLUMNS} are read")
    doubled = [name for name in header if header.count(name) > 1 and name in COLUMNS]
    if doubled:
        raise InvalidInputError(f"{path}:1: two columns mean {doubled[0]}: keep one")
    if "time" not in header or not ("label" in header or {"valence", "arousal"} <= set(header)):
        raise InvalidInputError(
            f"{path}:1: the header must name time and either label or valence,arousal: the columns are "
            f"{','.join(COLUMNS)}"
        )


def _emotion(row: dict[str, str], scale: tuple[float, float]) -> Emotion:
    label = row.get("label", "")
    intensity = number(row["intensity"], "intensity") if row.get("intensity") else None
    confidence = number(row["confidence"], "confidence") if row.get("confidence") else None
    if row.get("valence") and row.get("arousal"):
        middle, half = (scale[0] + scale[1]) / 2, (scale[1] - scale[0]) / 2
        v, a = (_axis(row, name, middle, half) for name in ("valence", "arousal"))
        d = _axis(row, "dominance", middle, half) if row.get("dominance") else None
        emotion = Emotion.from_vad(v, a, d)
        if label:
            named = Emotion.parse(label)
            emotion = replace(
                emotion, mixture=named.mixture, intensity=named.intensity, confidence=named.confidence
            )
    elif label:
        emotion = Emotion.parse(label)
    else:
        raise InvalidInputError("neither a label nor valence and arousal in this row")
    intensity = emotion.intensity if intensity is None else intensity
    return replace(
        emotion, intensity=intensity, confidence=emotion.confidence if confidence is None else confidence
    )


def _axis(row: dict[str, str], name: str, middle: float, half: float) -> float:
    value = number(row[name], name)
    if abs(value - middle) > half + 1e-9:
        raise InvalidInputError(
            f"{name} {value:g} is outside {middle - half:g}..{middle + half:g}: give the scale of the file (--scale LOW,HIGH)"
        )
    return value if (middle, half) == (0, 1) else (value - middle) / half
