"""The timeline for editing programs: OpenTimelineIO, and a CMX 3600 edit decision list.

Both are written as plain text by their published forms (opentimelineio 0.18's JSON schemas; the CMX 3600 list of the
adapter of that project), so that nothing has to be installed; the tests read them back with those programs' own library.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affetto.runtime.files import atomic_path
from affetto.scene.timeline import Timeline


@dataclass(frozen=True, kw_only=True)
class MediaFiles:
    """Names of the rendered files the edit refers to; None where there is none."""

    video: str | None
    voices: dict[str, str]
    music: str | None


def _time(seconds: float, rate: float) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(round(seconds * rate))}


def _range(start: float, stop: float, rate: float) -> dict[str, Any]:
    first, last = round(start * rate), round(stop * rate)
    return {
        "OTIO_SCHEMA": "TimeRange.1",
        "duration": {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(last - first)},
        "start_time": {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(first)},
    }


def _reference(file: str | None, seconds: float, rate: float) -> dict[str, Any]:
    if file is None:
        return {"OTIO_SCHEMA": "MissingReference.1", "metadata": {}, "name": "", "available_range": None}
    return {
        "OTIO_SCHEMA": "ExternalReference.1",
        "metadata": {},
        "name": "",
        "available_range": _range(0.0, seconds, rate),
        "target_url": file,
    }


def _item(schema: str, name: str, span: tuple[float, float], rate: float, **more: Any) -> dict[str, Any]:
    return {
        "OTIO_SCHEMA": schema,
        "metadata": {},
        "name": name,
        "source_range": _range(*span, rate),
        "effects": [],
        "markers": [],
        "enabled": True,
        **more,
    }


def _clip(
    name: str,
    span: tuple[float, float],
    rate: float,
    file: str | None,
    seconds: float,
    metadata: dict[str, Any],
) -> dict[str, Any]:
    return _item(
        "Clip.2",
        name,
        span,
        rate,
        metadata={"affetto": metadata},
        media_references={"DEFAULT_MEDIA": _reference(file, seconds, rate)},
        active_media_reference_key="DEFAULT_MEDIA",
    )


def _gap(seconds: float, rate: float) -> dict[str, Any]:
    return _item("Gap.1", "", (0.0, seconds), rate)


def _track(
    name: str, kind: str, children: list[dict[str, Any]], markers: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "OTIO_SCHEMA": "Track.1",
        "metadata": {},
        "name": name,
        "source_range": None,
        "effects": [],
        "markers": list(markers),
        "enabled": True,
        "children": children,
        "kind": kind,
    }


def otio_document(timeline: Timeline, files: MediaFiles, fps: float, title: str) -> dict[str, Any]:
    """An OTIO timeline: a video track of shots with the emotion's keyframes as markers, a track a voice, one of music."""
    end = timeline.seconds
    shots = [
        _clip(
            shot.name,
            (shot.start, shot.stop),
            fps,
            files.video,
            end,
            {"view": shot.view, "course": str(timeline.course)},
        )
        for shot in timeline.shots
    ]
    markers = [
        {
            "OTIO_SCHEMA": "Marker.2",
            "metadata": {"affetto": {"emotion": str(key.emotion), "ease": key.ease}},
            "name": str(key.emotion),
            "color": "YELLOW",
            "marked_range": _range(key.time, key.time, fps),
        }
        for key in timeline.course.keyframes
        if key.time <= end
    ]
    tracks = [_track("picture", "Video", shots, markers[:2000])]
    for speaker in timeline.speakers:
        children: list[dict[str, Any]] = []
        cursor = 0.0
        for line in timeline.of(speaker):
            start = max(line.start, cursor)
            if line.stop <= start:
                continue
            if round(start * fps) > round(cursor * fps):
                children.append(_gap(start - cursor, fps))
            metadata = {
                "speaker": speaker,
                "emotion": str(line.spoken.tracks["scene"]),
                "words": line.spoken.line.words,
            }
            name = (line.spoken.line.words or speaker)[:60]
            children.append(_clip(name, (start, line.stop), fps, files.voices.get(speaker), end, metadata))
            cursor = line.stop
        tracks.append(_track(speaker, "Audio", children, ()))
    if files.music is not None:
        tracks.append(_track("music", "Audio", [_clip("music", (0.0, end), fps, files.music, end, {})], ()))
    return {
        "OTIO_SCHEMA": "Timeline.1",
        "metadata": {"affetto": {"emotion": str(timeline.course)}},
        "name": title or "affetto",
        "global_start_time": _time(0.0, fps),
        "tracks": {
            "OTIO_SCHEMA": "Stack.1",
            "metadata": {},
            "name": "tracks",
            "source_range": None,
            "effects": [],
            "markers": [],
            "enabled": True,
            "children": tracks,
        },
    }


def edl_text(timeline: Timeline, files: MediaFiles, fps: float, title: str) -> str:
    """A CMX 3600 list of the shots, without drop frames; each turn and its emotion as a comment."""
    rows = [f"TITLE: {(title or 'affetto')[:60]}", "FCM: NON-DROP FRAME", ""]
    for number, shot in enumerate(timeline.shots, start=1):
        span = f"{_code(shot.start, fps)} {_code(shot.stop, fps)}"
        rows.append(f"{number:03d}  AX       V     C        {span} {span}")
        rows.append(f"* FROM CLIP NAME: {shot.name}")
        if files.video is not None:
            rows.append(f"* FROM FILE: {files.video}")
        for line in timeline.lines:
            if shot.start <= line.start < shot.stop:
                told = " ".join((line.spoken.line.words or "").split())[:60]
                rows.append(f"* {_code(line.start, fps)} {line.speaker}: {told}".rstrip(": "))
    return "\n".join([*rows, ""])


def _code(seconds: float, fps: float) -> str:
    whole = round(fps)
    frame = round(seconds * fps)
    second, part = divmod(frame, whole)
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}:{part:02d}"


def write_edit_lists(
    folder: Path, timeline: Timeline, files: MediaFiles, fps: float, title: str
) -> list[Path]:
    """timeline.otio and timeline.edl."""
    otio, edl = folder / "timeline.otio", folder / "timeline.edl"
    with atomic_path(otio) as temporary:
        document = otio_document(timeline, files, fps, title)
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with atomic_path(edl) as temporary:
        temporary.write_text(edl_text(timeline, files, fps, title), encoding="utf-8")
    return [otio, edl]
