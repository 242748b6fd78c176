"""Emotion in subtitles: `[emotion: happy 0.8]` in an SRT or VTT cue, or a VTT class span `<c.happy>`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.formats.reading import KeyframeList, blaming
from affetto.conditioning.lexicon import find_term
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import InvalidInputError

_FADE_S = 0.2  # between cues that touch
_STAMP = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?")
_MARK = re.compile(r"\[\s*emotion\s*:\s*([^\]]{1,2000})\]", re.IGNORECASE)
_CLASS = re.compile(r"<c\.([\w.-]{1,200})>")
_WORD_AND_NUMBER = re.compile(r"(.*\S)\s+([0-9.]+)")
_MAX_LAST_S = 2.0


@dataclass(frozen=True, kw_only=True)
class _Cue:
    line: int
    start: float
    end: float
    text: str


def read(path: Path, text: str) -> EmotionTrack:
    """The track that the marked cues of an SRT or VTT file give.

    A mark sets the emotion for its cue, with a short fade to one that touches it and a straight way over gaps;
    cues without a mark change nothing. A mark that names its ease (`[emotion: happy@0.8~cosine]`) is a lone keyframe.
    """
    keys = KeyframeList(path)
    pending: tuple[_Cue, Emotion] | None = None  # a cue whose end still waits for where the next begins
    for cue in _cues(path, text):
        with blaming(path, cue.line):
            found = _mark(cue.text)
        if found is None:
            continue
        emotion, ease = found
        _close(keys, pending, before=cue.start)
        keys.add(cue.line, cue.start, emotion, ease or "linear")
        pending = (cue, emotion) if ease is None else None
    _close(keys, pending, before=None)
    if not keys.keys:
        raise InvalidInputError(
            f"{path}: no cue names an emotion: write [emotion: happy 0.8] in the cue text"
        )
    return keys.track()


def write_srt(track: EmotionTrack) -> str:
    """The keyframes as SRT cues, each lasting until the next."""
    blocks = [
        f"{number}\n{_stamp(start, ',')} --> {_stamp(stop, ',')}\n{mark}\n"
        for number, (start, stop, mark) in enumerate(_written(track), start=1)
    ]
    return "\n".join(blocks)


def write_vtt(track: EmotionTrack) -> str:
    """The keyframes as WebVTT cues, each lasting until the next."""
    blocks = [
        f"{_stamp(start, '.')} --> {_stamp(stop, '.')}\n{mark}\n" for start, stop, mark in _written(track)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _cues(path: Path, text: str) -> Iterator[_Cue]:
    lines = text.splitlines()
    index = 0
    while index < len(lines):
        match = _TIMING.fullmatch(lines[index]) if "-->" in lines[index] else None
        if match is None:
            if "-->" in lines[index]:
                raise InvalidInputError(
                    f"{path}:{index + 1}: cannot read the cue times: write 00:00:01,500 --> 00:00:03,000"
                )
            index += 1
            continue
        start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
        if end < start:
            raise InvalidInputError(f"{path}:{index + 1}: the cue ends before it starts")
        first = index + 1
        index = first
        while index < len(lines) and lines[index].strip() and "-->" not in lines[index]:
            index += 1
        yield _Cue(line=first, start=start, end=end, text="\n".join(lines[first:index]))


def _mark(text: str) -> tuple[Emotion, str | None] | None:
    match = _MARK.search(text)
    if match:
        body, tilde, ease = match[1].partition("~")
        spaced = _WORD_AND_NUMBER.fullmatch(body.strip())
        emotion = Emotion.parse(f"{spaced[1]}@{spaced[2]}" if spaced and "@" not in body else body)
        return emotion, (ease.strip() if tilde else None)
    for classes in _CLASS.findall(text):
        for name in classes.split("."):
            if find_term(name):
                return Emotion.from_label(name), None
    return None


def _close(keys: KeyframeList, pending: tuple[_Cue, Emotion] | None, *, before: float | None) -> None:
    if pending is None:
        return
    cue, emotion = pending
    end = cue.end
    if before is not None and before - end < _FADE_S:
        end = before - min(_FADE_S, (before - cue.start) / 2)
    if cue.start < end and (before is None or end < before):
        keys.add(cue.line, end, emotion)


def _written(track: EmotionTrack) -> Iterator[tuple[float, float, str]]:
    keys = [replace(key, time=round(key.time, 3)) for key in track.keyframes]
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        stop = key.time + _MAX_LAST_S if following is None else following.time
        yield key.time, stop, f"[emotion: {key.emotion}~{key.ease}]"


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return whole + int((fraction or "0").ljust(3, "0")) / 1000


def _stamp(seconds: float, mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{mark}{ms % 1000:03d}"
