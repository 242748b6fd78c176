"""What is seen: the frames of each speaker, and which of them a shot shows, in constant memory for any length."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from affetto.head.model import HeadModel
from affetto.head.render import open_renderer, render_curves
from affetto.media.animation.curves import FaceCurves
from affetto.scene.timeline import Timeline

Frame = UInt8[np.ndarray, "row column 3"]


@runtime_checkable
class Performer(Protocol):
    """Someone who can be seen: any stretch of frames of the timeline."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    def frames(self, start: int, stop: int) -> Iterator[Frame]:
        """The frames from `start` to `stop`, one by one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive frames that show the same speakers, from left to right."""

    start: int
    stop: int
    names: tuple[str, ...]


class HeadPerformer:
    """A 3D head that plays curves."""

    def __init__(self, head: HeadModel, curves: FaceCurves, size: tuple[int, int], *, backend: str = "auto") -> None:
        self.head, self.curves = head, curves
        self.size = size
        self._renderer = open_renderer(head.mesh.surface, size=size, backend=backend)

    def frames(self, start: int, stop: int) -> Iterator[Frame]:
        """The frames from `start` to `stop`, one by one."""
        yield from render_curves(self.head, self.curves.sliced(start, stop), self._renderer)

    def close(self) -> None:
        """Free what the renderer holds."""
        self._renderer.close()


def segments(timeline: Timeline, fps: float, *, everyone: Sequence[str]) -> list[Segment]:
    """Who is seen when, over all frames of the timeline.

    `speaking` cuts to whoever speaks, half-way through the pause before; who speaks over another is not cut to.
    """
    found: list[Segment] = []
    for shot in timeline.shots:
        first, last = round(shot.start * fps), round(shot.stop * fps)
        if shot.view == "all":
            _add(found, Segment(start=first, stop=last, names=tuple(everyone)))
        elif shot.view != "speaking":
            _add(found, Segment(start=first, stop=last, names=(shot.view,)))
        else:
            for each in _cuts(timeline, shot.start, shot.stop, fps):
                _add(found, each)
    return found


def _cuts(timeline: Timeline, start: float, stop: float, fps: float) -> Iterator[Segment]:
    lines = [line for line in timeline.lines if start <= line.start < stop]
    now, cursor, ended = lines[0].speaker, round(start * fps), lines[0].stop
    for line in lines[1:]:
        if line.speaker != now and line.start >= ended - 0.5:
            cut = round(max(0.5 * (ended + line.start), line.start - 0.4) * fps)
            if cut > cursor:
                yield Segment(start=cursor, stop=cut, names=(now,))
                cursor = cut
            now = line.speaker
        ended = max(ended, line.stop)
    yield Segment(start=cursor, stop=round(stop * fps), names=(now,))


def _add(found: list[Segment], each: Segment) -> None:
    if each.stop <= each.start:
        return
    if found and found[-1].names == each.names and found[-1].stop == each.start:
        found[-1] = Segment(start=found[-1].start, stop=each.stop, names=each.names)
    else:
        found.append(each)


def picture_frames(
    performers: Mapping[str, Performer], plan: Sequence[Segment], size: tuple[int, int]
) -> Iterator[Frame]:
    """All frames of a plan as pictures of `size` (width, height): one speaker fills it, several stand side by side."""
    for segment in plan:
        streams = [performers[name].frames(segment.start, segment.stop) for name in segment.names]
        for together in zip(*streams, strict=True):
            yield placed(together, size)
        for stream in streams:
            close = getattr(stream, "close", contextlib.nullcontext)
            close()


def placed(pictures: Sequence[Frame], size: tuple[int, int]) -> Frame:
    """Pictures side by side, each cut in the middle to its share of the width and brought to its size."""
    width, height = size
    edges = np.round(np.linspace(0, width, len(pictures) + 1)).astype(int)
    out = np.zeros((height, width, 3), np.uint8)
    for picture, left, right in zip(pictures, edges, edges[1:], strict=False):
        out[:, left:right] = _cover(picture, int(right - left), height)
    return out


def _cover(picture: Frame, width: int, height: int) -> Frame:
    """The picture scaled to cover the place, its middle kept."""
    rows, columns = picture.shape[:2]
    if (columns, rows) != (width, height):
        scale = max(width / columns, height / rows)
        kept_w, kept_h = min(round(width / scale), columns), min(round(height / scale), rows)
        left, top = (columns - kept_w) // 2, (rows - kept_h) // 2
        picture = picture[top : top + kept_h, left : left + kept_w]
        if picture.shape[:2] != (height, width):
            from PIL import Image  # only where sizes differ

            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    return picture


def canvas(plan: Sequence[Segment], size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the video: as wide as needed for the most people shown at once (3 : 4 each at least)."""
    most = max(len(segment.names) for segment in plan)
    width, height = size
    wide = width if most == 1 else round(width * max(most * 0.75, 1.0))
    return wide + wide % 2, height + height % 2
