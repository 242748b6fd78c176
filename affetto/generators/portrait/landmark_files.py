"""68 points that somebody else found: files of them, and other face trackers when their models are on this machine."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.media.cells import is_number
from affetto.runtime.errors import InvalidInputError, MissingResourceError

_MAX_BYTES = 1 << 20
_MARK_ERROR = 0.012  # of the eyes' distance: how exactly points in a file are believed

MEDIAPIPE_68: tuple[int, ...] = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
"""The vertex of MediaPipe's face mesh nearest to each of the 68 points."""


def given_landmarks(points: Float[np.ndarray, "68 2"], *, confidence: float = 1.0) -> FaceLandmarks:
    """Points from outside as a face; their variance is what a careful hand reaches, their pose is left to the fit."""
    points = np.asarray(points, np.float32)
    unit = max(float(np.linalg.norm(points[36] - points[45])), 1.0)
    variance = np.full((68, 2), (_MARK_ERROR * unit) ** 2, np.float32)
    return FaceLandmarks(points=points, variance=variance, pose=(0.0, 0.0, 0.0), confidence=confidence)


def read_landmarks(path: str | Path, image_size: tuple[int, int]) -> FaceLandmarks:
    """The face in a file of 68 points in pixels: JSON (a list of [x, y], or an object with `points`) or CSV (x,y lines).

    Raises `InvalidInputError` when there are not 68 of them, or they do not lie in the picture (width, height).
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidInputError(f"{path}: is larger than {_MAX_BYTES} bytes: give a file of 68 points")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read ({error.strerror}): check the name") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: is not text: give JSON or CSV") from error
    rows = _json_rows(path, text) if text.lstrip()[:1] in ("[", "{") else _csv_rows(path, text)
    try:
        points = np.array([[float(x), float(y)] for x, y in rows])
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"{path}: each point needs two numbers, x and y in pixels") from error
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise InvalidInputError(f"{path}: holds {len(points)} points: 68 are needed, as pixels x and y")
    width, height = image_size
    inside = ((points > [-0.2 * width, -0.2 * height]) & (points < [1.2 * width, 1.2 * height])).all()
    if not inside or np.linalg.norm(points[36] - points[45]) < 1:
        raise InvalidInputError(f"{path}: its points do not lie on the picture of {width}x{height} pixels")
    return given_landmarks(points)


def _json_rows(path: Path, text: str) -> Sequence[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path}: is not JSON ({error}): write a list of 68 [x, y]") from error
    rows = value.get("points") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise InvalidInputError(f"{path}: has no list of points: write a list of 68 [x, y]")
    return rows


def _csv_rows(path: Path, text: str) -> Sequence[Any]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise InvalidInputError(f"{path}: is no table ({error}): write a line x,y for each point") from error
    if rows and not is_number(rows[0][-1]):
        rows = rows[1:]  # a heading
    return [row[-2:] for row in rows]  # a number of the point may stand before


def face_alignment_finder(
    device: str = "cpu", *, module: Any = None
) -> Callable[[UInt8[np.ndarray, "row column 3"]], list[FaceLandmarks]]:
    """A finder like `FaceFinder` that asks the face-alignment package, whose models must lie in the user's cache.

    Raises `MissingResourceError` when package or models are missing. `module` stands in for the package.
    """
    if module is None:
        try:
            import face_alignment as module  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingResourceError(
                "face-alignment is not installed: run pip install 'affetto[capture]'"
            ) from error
    try:
        tracker = module.FaceAlignment(module.LandmarksType.TWO_D, device=device, flip_input=True)
    except OSError as error:
        raise MissingResourceError(
            f"face-alignment has no models here ({error}): run it once with a connection"
        ) from error

    def find(image: UInt8[np.ndarray, "row column 3"]) -> list[FaceLandmarks]:
        faces = [
            given_landmarks(np.asarray(points)[:, :2] + 0.5) for points in tracker.get_landmarks(image) or []
        ]
        return sorted(faces, key=lambda face: -face.size)

    return find


def mediapipe_finder(
    model: str | Path, *, module: Any = None
) -> Callable[[UInt8[np.ndarray, "row column 3"]], list[FaceLandmarks]]:
    """A finder like `FaceFinder` that asks MediaPipe's face landmarker with the user's `face_landmarker.task`.

    Raises `MissingResourceError` when package or file are missing. `module` stands in for the package.
    """
    path = Path(model)
    if module is None:
        try:
            import mediapipe as module  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingResourceError("mediapipe is not installed: run pip install mediapipe") from error
    if not path.is_file():
        raise MissingResourceError(
            f"{path}: MediaPipe's face_landmarker.task is not there: download it first"
        )
    vision = module.tasks.vision
    options = vision.FaceLandmarkerOptions(
        base_options=module.tasks.BaseOptions(model_asset_path=str(path)), num_faces=8
    )
    landmarker = vision.FaceLandmarker.create_from_options(options)

    def find(image: UInt8[np.ndarray, "row column 3"]) -> list[FaceLandmarks]:
        result = landmarker.detect(
            module.Image(image_format=module.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        )
        size = np.array([image.shape[1], image.shape[0]])
        faces = [
            given_landmarks(np.array([[mesh[k].x, mesh[k].y] for k in MEDIAPIPE_68]) * size)
            for mesh in result.face_landmarks
        ]
        return sorted(faces, key=lambda face: -face.size)

    return find
