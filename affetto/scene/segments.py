"""Which speakers a video shows when, and how large it is: light enough for plans, which draw nothing."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive frames that show the same speakers, from left to right."""

    start: int
    stop: int
    names: tuple[str, ...]


def canvas(plan: Sequence[Segment], size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the video: as wide as needed for the most people shown at once (3 : 4 each at least)."""
    most = max(len(segment.names) for segment in plan)
    width, height = size
    wide = width if most == 1 else round(width * max(most * 0.75, 1.0))
    return wide + wide % 2, height + height % 2
