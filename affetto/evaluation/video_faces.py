"""The face in a video, frame by frame: found, fitted with our head, read as curves that a critic can judge."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from affetto.generators.portrait.detect import FaceFinder
from affetto.generators.portrait.fit import PointModel, fit_face
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves
from affetto.media.video import probe_video, read_frames
from affetto.runtime.errors import InvalidInputError

MOST_FPS = 12.5
"""Frames a second that are looked at: expressions are slower."""

Frame = UInt8[np.ndarray, "row column 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenFaces:
    """What was seen: curves over time, the identity of each fit, and the share of frames with a face."""

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
    frames: Iterable[tuple[float, Frame]], *, name: str = "the video", fps: float = 25.0, finder: Any = None
) -> SeenFaces:
    """The largest face of each frame, fitted; frames without one repeat what was seen before."""
    head = HeadModel.load()
    model = PointModel(head)
    weights, identities, crops, crop_times = [], [], [], []
    hits = total = 0
    for time, frame in frames:
        total += 1
        faces = _faces(frame)
        if faces:
            hits += 1
            fit = fit_face(faces[0], head, (frame.shape[1], frame.shape[0]))
            weights.append(np.asarray(fit.weights, np.float32))
            identities.append(np.asarray(fit.identity, np.float32))
            if hits % 6 == 1:
                crops.append(_crop(frame, faces[0]))
                crop_times.append(time)
        elif weights:
            weights.append(weights[-1])
    if not total or hits < 0.3 * total:
        raise InvalidInputError(f"{name}: shows a face in {hits} of {total} frames: give a video of one face")
    curves = FaceCurves.neutral(len(weights), fps)
    del model
    return SeenFaces(
        curves=FaceCurves(fps=fps, weights=np.stack(weights), head=curves.head, eyes=curves.eyes),
        identity=np.stack(identities),
        found=hits / total,
        crops=tuple(crops),
        crop_times=tuple(crop_times),
    )


def _faces(frame: Frame) -> list[FaceLandmarks]:
    return _finder()(frame)


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
