"""Portraits on the timeline of a scene: the picture that a speaker gave, moved like the 3D head or by its own network."""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8

from affetto.generators.portrait.pipeline import MAX_SIDE, MIN_SIDE, TalkingHead, TalkOptions, TalkPlan
from affetto.generators.portrait.renderer import PortraitRenderer
from affetto.media.animation.curves import FaceCurves
from affetto.scene.performers import fitted
from affetto.weights.registry import REGISTRY

if TYPE_CHECKING:
    from affetto.scene.director import Director
    from affetto.scene.performance import Performance

MODELS = tuple(
    sorted(name for name, weight in REGISTRY.items() if weight.embedded and name.startswith("portrait-"))
)
"""The weights that a portrait runs."""


class PortraitPerformer:
    """A portrait that plays the timeline; any stretch of frames can be drawn at any time."""

    def __init__(self, talking: TalkingHead, plan: TalkPlan, side: int) -> None:
        self.plan = plan
        self._renderer = PortraitRenderer(plan.portrait.image, plan.portrait.fit, talking.head, size=side)

    @classmethod
    def of(cls, director: "Director", performance: "Performance", name: str) -> "PortraitPerformer":
        """The portrait of one speaker of a scene, found and fitted, with what moves it."""
        scene, timeline = director.scene, performance.timeline
        settings = scene.speakers[name].portrait
        assert settings is not None
        talking = talking_head(director.device, director.troupe.dtype)
        side = int(np.clip(scene.size, MIN_SIDE, MAX_SIDE))
        face = scene.speakers[name].face
        options = TalkOptions(
            fps=scene.fps, size=side, frame="1:1", seed=scene.seed + timeline.speakers.index(name),
            head_motion=face.head_motion, blinks=face.blinks, gaze=face.gaze,
        )  # fmt: skip
        photo = director.loaded.base / settings.image
        stem = performance.stems[name]
        chosen = settings.face if settings.face > 1 else None
        if settings.motion == "own":
            plan = talking.plan(photo, stem, timeline.tracks[name, "portrait"], face=chosen, options=options)
        else:
            plan = talking.plan(
                photo, stem, face=chosen, motion=cls._motion(director, performance, name),
                options=TalkOptions(fps=scene.fps, size=side, frame="1:1"),
            )  # fmt: skip
        curves = fitted(plan.curves, round(timeline.seconds * scene.fps))
        return cls(
            talking, TalkPlan(portrait=plan.portrait, curves=curves, audio=stem, options=options), side
        )

    @staticmethod
    def _motion(director: "Director", performance: "Performance", name: str) -> FaceCurves:
        """The face's own curves; played again where the portrait shall feel otherwise (its gain, lag or lane)."""
        tracks = performance.timeline.tracks
        felt = tracks[name, "portrait"]
        if str(felt) == str(tracks[name, "face"]):
            return performance.curves[name]
        return director.replay(performance, name, felt)

    def frames(
        self, start: int, stop: int, size: tuple[int, int]
    ) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
        """The frames from `start` to `stop`, one by one, in the portrait's own size."""
        curves = self.plan.curves.sliced(start, stop)
        for weights, head, eyes in zip(curves.weights, curves.head, curves.eyes, strict=True):
            yield np.array(self._renderer.frame(weights, head, eyes))

    def close(self) -> None:
        """Free what the renderer holds."""
        self._renderer.close()


@lru_cache(maxsize=2)
def talking_head(device: torch.device, dtype: str | torch.dtype) -> TalkingHead:
    """The networks that find and move portraits, loaded once for each device."""
    return TalkingHead.from_pretrained("embedded", device=device, dtype=dtype)
