"""Portraits on the timeline of a scene: the picture that a speaker gave, moved like the 3D head or by its own network."""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8

from affetto.generators.portrait.detect import FaceFinder
from affetto.generators.portrait.landmark_files import read_landmarks
from affetto.generators.portrait.pipeline import MAX_SIDE, MIN_SIDE, TalkingHead, TalkOptions
from affetto.generators.portrait.portrait import Portrait, read_portrait
from affetto.generators.portrait.renderer import PortraitRenderer
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves
from affetto.media.image import load_image
from affetto.scene.performers import fitted
from affetto.weights.registry import REGISTRY

if TYPE_CHECKING:
    from affetto.scene.director import Director
    from affetto.scene.performance import Performance

MODELS = tuple(
    sorted(name for name, weight in REGISTRY.items() if weight.embedded and name.startswith("portrait-"))
)
"""The weights that a portrait runs."""

_FRAME = "1:1"


class PortraitPerformer:
    """A portrait that plays the timeline; any stretch of frames can be drawn at any time."""

    def __init__(self, portrait: Portrait, curves: FaceCurves, side: int) -> None:
        self.portrait, self.curves = portrait, curves
        self._renderer = PortraitRenderer(portrait.image, portrait.fit, HeadModel.load(), size=side)

    @classmethod
    def of(cls, director: "Director", performance: "Performance", name: str) -> "PortraitPerformer":
        """The portrait of one speaker of a scene, found and fitted, with what moves it."""
        side = int(np.clip(director.scene.size, MIN_SIDE, MAX_SIDE))
        portrait = _portrait(director, name).framed(_FRAME)
        settings = director.scene.speakers[name].portrait
        assert settings is not None
        if settings.motion == "own":
            curves = _own_motion(director, performance, name, portrait)
        else:
            curves = _motion_of_the_face(director, performance, name)
        frames = round(performance.timeline.seconds * director.scene.fps)
        return cls(portrait, fitted(curves, frames), side)

    def frames(
        self, start: int, stop: int, size: tuple[int, int]
    ) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
        """The frames from `start` to `stop`, one by one, in the portrait's own size."""
        part = self.curves.sliced(start, stop)
        for weights, head, eyes in zip(part.weights, part.head, part.eyes, strict=True):
            yield np.array(self._renderer.frame(weights, head, eyes))

    def close(self) -> None:
        """Free what the renderer holds."""
        self._renderer.close()


def _portrait(director: "Director", name: str) -> Portrait:
    """The picture of a speaker with its face found, or with the points that the scene gives, and the head fitted to it."""
    settings = director.scene.speakers[name].portrait
    assert settings is not None
    path = director.loaded.base / settings.image
    image = load_image(path)
    if settings.landmarks is not None:
        marks = read_landmarks(director.loaded.base / settings.landmarks, (image.shape[1], image.shape[0]))
        return read_portrait(image, lambda _: [], HeadModel.load(), landmarks=marks, name=str(path))
    chosen = settings.face if settings.face > 1 else None
    return read_portrait(image, face_finder(director.device), HeadModel.load(), face=chosen, name=str(path))


def _own_motion(
    director: "Director", performance: "Performance", name: str, portrait: Portrait
) -> FaceCurves:
    """What the portrait's own network does with the speaker's stem and course."""
    scene, timeline = director.scene, performance.timeline
    face = scene.speakers[name].face
    options = TalkOptions(
        fps=scene.fps,
        frame="whole",
        seed=scene.seed + timeline.speakers.index(name),
        articulation=face.articulation,
        head_motion=face.head_motion,
        blinks=face.blinks,
        gaze=face.gaze,
    )
    talking = talking_head(director.device, director.troupe.dtype)
    course = timeline.tracks[name, "portrait"]
    return talking.plan(portrait, performance.stems[name], course, options=options).curves


def _motion_of_the_face(director: "Director", performance: "Performance", name: str) -> FaceCurves:
    """The face's own curves; played again where the portrait shall feel otherwise (its gain, lag or lane)."""
    tracks = performance.timeline.tracks
    felt = tracks[name, "portrait"]
    if str(felt) == str(tracks[name, "face"]):
        return performance.curves[name]
    return director.replay(performance, name, felt)


@lru_cache(maxsize=2)
def face_finder(device: torch.device) -> FaceFinder:
    """The network that finds faces, loaded once for each device."""
    return FaceFinder.from_pretrained(device=device)


@lru_cache(maxsize=2)
def talking_head(device: torch.device, dtype: str | torch.dtype) -> TalkingHead:
    """The networks that find and move portraits, loaded once for each device."""
    return TalkingHead.from_pretrained("embedded", device=device, dtype=dtype)
