"""The face in a video, frame by frame: found, fitted with our head, read as curves that a critic can judge."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from affetto.generators.portrait.detect import FaceFinder
from affetto.generators.portrait.fit import FaceFit, fit_face
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.generators.portrait.refit import refit_curves
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves
from affetto.media.video import probe_video, read_frames
from affetto.runtime.errors import InvalidInputError

MOST_FPS = 12.5
"""Frames a second that are looked at: expressions are slower."""

_AFRESH = 12  # frames between two looks for the face

Frame = UInt8[np.ndarray, "row column 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenFaces:
    """What was seen: curves over time, the identity at each look, and the share of looks that found a face."""

    curves: FaceCurves
    identity: Float[np.ndarray, "frame mode"]
    found: float
    crops: tuple[Frame, ...] = ()  # a few faces cut out, for critics of pictures
    crop_times: tuple[float, ...] = ()


def read_faces(path: Path) -> SeenFaces:
    """The largest face of a video over time; raises InvalidInputError when hardly any frame shows one."""
    info = probe_video(path)
    step = max(1, round(info.fps / MOST_FPS))
    frames = ((time, frame) for index, (time, frame) in enumerate(read_frames(path)) if index % step == 0)
    return see_frames(frames, name=str(path), fps=info.fps / step)


@lru_cache(maxsize=1)
def _finder() -> FaceFinder:
    import torch

    return FaceFinder.from_pretrained(device=torch.device("cpu"), dtype=torch.float32)


def see_frames(
    frames: Iterable[tuple[float, Frame]], *, name: str = "the video", fps: float = 25.0
) -> SeenFaces:
    """The largest face of the frames, followed from look to look and fitted; the first face seen is the person.

    Every second or so it is looked for afresh, which also tells whether a face is still there.
    """
    head, finder = HeadModel.load(), _finder()
    points: np.ndarray | None = None
    person: FaceFit | None = None
    held, identities, crops, crop_times = [], [], [], []
    looks = hits = 0
    for index, (time, frame) in enumerate(frames):
        if points is None or index % _AFRESH == 0:
            looks += 1
            faces = finder(frame)
            points = faces[0].points if faces else None
            if faces:
                hits += 1
                fit = fit_face(faces[0], head, (frame.shape[1], frame.shape[0]))
                person = person or fit
                identities.append(np.asarray(fit.identity, np.float32))
                crops.append(_crop(frame, faces[0]))
                crop_times.append(time)
        else:
            points = next(iter(finder.follow([frame], points)))
        if points is not None or held:
            held.append(held[-1] if points is None else points)
    if person is None or hits < 0.5 * looks:
        raise InvalidInputError(f"{name}: shows a face in {hits} of {looks} looks: give a video of one face")
    return SeenFaces(
        curves=refit_curves(held, person, head, fps=fps),
        identity=np.stack(identities),
        found=hits / looks,
        crops=tuple(crops),
        crop_times=tuple(crop_times),
    )


def _crop(frame: Frame, face: FaceLandmarks) -> Frame:
    left, top, right, bottom = face.box
    middle_x, middle_y, half = (
        0.5 * (left + right),
        0.5 * (top + bottom),
        0.75 * max(right - left, bottom - top),
    )
    rows, columns = frame.shape[:2]
    x0, x1 = int(max(middle_x - half, 0)), int(min(middle_x + half, columns))
    y0, y1 = int(max(middle_y - half, 0)), int(min(middle_y + half, rows))
    return np.ascontiguousarray(frame[y0:y1, x0:x1])
