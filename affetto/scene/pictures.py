"""What is seen: the frames of each speaker, and which of them a shot shows, in constant memory for any length."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from affetto.head.model import HeadModel
from affetto.head.render import Renderer, open_renderer, render_curves
from affetto.media.animation.curves import FaceCurves
from affetto.scene.segments import Segment
from affetto.scene.timeline import Timeline

Frame = UInt8[np.ndarray, "row column 3"]


@runtime_checkable
class Performer(Protocol):
    """Someone who can be seen: any stretch of frames of the timeline."""

    def frames(self, start: int, stop: int, size: tuple[int, int]) -> Iterator[Frame]:
        """The frames from `start` to `stop`, one by one, best of `size` (width, height)."""
        ...

    def close(self) -> None:
        """Free what drawing holds."""
        ...


class HeadPerformer:
    """A 3D head that plays curves, drawn in any size."""

    def __init__(self, head: HeadModel, curves: FaceCurves, *, backend: str = "auto") -> None:
        self.head, self.curves = head, curves
        self._backend = backend
        self._renderers: dict[tuple[int, int], Renderer] = {}

    def frames(self, start: int, stop: int, size: tuple[int, int]) -> Iterator[Frame]:
        """The frames from `start` to `stop`, one by one, of `size` (width, height)."""
        if size not in self._renderers:
            self._renderers[size] = open_renderer(self.head.mesh.surface, size=size, backend=self._backend)
        yield from render_curves(self.head, self.curves.sliced(start, stop), self._renderers[size])

    def close(self) -> None:
        """Free what the renderers hold."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


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
    width, height = size
    for segment in plan:
        edges = np.round(np.linspace(0, width, len(segment.names) + 1)).astype(int)
        cells = [(int(right - left), height) for left, right in itertools.pairwise(edges)]
        streams = [
            performers[name].frames(segment.start, segment.stop, cell)
            for name, cell in zip(segment.names, cells, strict=True)
        ]
        for together in zip(*streams, strict=True):
            parts = [_cover(picture, *cell) for picture, cell in zip(together, cells, strict=True)]
            yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _cover(picture: Frame, width: int, height: int) -> UInt8[np.ndarray, "tall wide 3"]:
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
