"""Portraits: a photograph or drawing with the face in it found, chosen, framed, and the head model laid over it."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from affetto.generators.portrait.fit import FaceFit, fit_face
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.head.model import HeadModel
from affetto.media.image import load_image
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path

Photo = str | Path | UInt8[np.ndarray, "row column 3"]
Finder = Callable[[UInt8[np.ndarray, "row column 3"]], list[FaceLandmarks]]

FRAMES = {"whole": None, "9:16": 9 / 16, "16:9": 16 / 9, "1:1": 1.0, "4:5": 4 / 5}
"""How a portrait can be cut: the whole picture, or width over height."""

MIN_FACE = 96  # pixels from hairline to chin
MAX_TURN = 40.0  # degrees that the face may be turned aside
MAX_RMS = 0.022  # of the face's height: above it the points make no face of ours
_HAIRLINE = 1.33  # from hairline to chin, in sides of the box about the 68 points
_MAIN = 2.0  # how many times larger than all others the main face of a picture is
_WIDEST = 3.4  # sides of the box about the points: what a cut shows at most on its shorter side
_PEOPLE_LISTED = 8


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """A picture that can speak: its pixels, the points of the chosen face, and the head model fitted to them."""

    image: UInt8[np.ndarray, "row column 3"]
    landmarks: FaceLandmarks
    fit: FaceFit
    name: str

    def framed(self, frame: str) -> "Portrait":
        """The portrait cut about the face to a shape of `FRAMES`; `whole` keeps all of it."""
        if frame not in FRAMES:
            raise UsageError(f"no frame is called {frame!r}: use {', '.join(FRAMES)}")
        shape = FRAMES[frame]
        if shape is None:
            return self
        left, top, width, height = _cut(self.image.shape[:2], self.landmarks, shape)
        corner = np.array([left, top], np.float32)
        landmarks = dataclasses.replace(self.landmarks, points=self.landmarks.points - corner)
        image = np.ascontiguousarray(self.image[top : top + height, left : left + width])
        camera = self.fit.camera.shifted(left, top)
        fit = dataclasses.replace(self.fit, camera=camera, points=self.fit.points - corner)
        return Portrait(image=image, landmarks=landmarks, fit=fit, name=self.name)


def read_portrait(
    photo: Photo,
    finder: Finder,
    head: HeadModel,
    *,
    face: int | None = None,
    landmarks: FaceLandmarks | None = None,
    cache_key: str | None = None,
    name: str | None = None,
) -> Portrait:
    """The portrait in a picture or its file. `face` counts from 1, the largest first; `landmarks` replace the search.

    With a `cache_key` (what the finder depends on) the faces of a picture are remembered in the user's cache; `name` stands
    in messages. Raises
    `InvalidInputError` when no face, or none that can speak, is found, and when several are and none is chosen.
    """
    image = photo if isinstance(photo, np.ndarray) else load_image(photo)
    name = name or ("the picture" if isinstance(photo, np.ndarray) else str(photo))
    if landmarks is None:
        faces = find_faces(image, finder, cache_key=cache_key)
        landmarks = choose_face(faces, name, face=face)
    elif face is not None:
        raise UsageError("a face is chosen by number or by its landmarks, not by both")
    fit = checked_fit(landmarks, head, image, name)
    return Portrait(image=image, landmarks=landmarks, fit=fit, name=name)


def choose_face(faces: Sequence[FaceLandmarks], name: str, *, face: int | None = None) -> FaceLandmarks:
    """The face asked for, or the only or by far the largest one; raises `InvalidInputError` with the list otherwise."""
    if not faces:
        raise InvalidInputError(
            f"{name}: no face found: use a picture with one clear face, or give its points with --landmarks"
        )
    if face is not None:
        if not 1 <= face <= len(faces):
            raise InvalidInputError(f"{name}: there is no face {face}: {describe_faces(faces)}")
        return faces[face - 1]
    if len(faces) > 1 and faces[0].size < _MAIN * faces[1].size:
        raise InvalidInputError(f"{name}: {describe_faces(faces)}: choose one with --face N")
    return faces[0]


def face_height(face: FaceLandmarks) -> float:
    """Pixels from hairline to chin, reckoned from the box about the points."""
    return _HAIRLINE * face.size


def describe_faces(faces: Sequence[FaceLandmarks]) -> str:
    """One line that lists faces with their numbers, sizes and places."""
    places = []
    for number, each in enumerate(faces[:_PEOPLE_LISTED], 1):
        x, y = each.points.mean(axis=0)
        places.append(f"{number} at ({x:.0f}, {y:.0f}), {face_height(each):.0f} px")
    more = ", ..." if len(faces) > _PEOPLE_LISTED else ""
    count = "1 face" if len(faces) == 1 else f"{len(faces)} faces"
    return f"{count} found ({'; '.join(places)}{more})"


def checked_fit(
    landmarks: FaceLandmarks, head: HeadModel, image: UInt8[np.ndarray, "row column 3"], name: str
) -> FaceFit:
    """The head model on the face; raises `InvalidInputError` when the face is too small, turned away, or none of ours."""
    height = face_height(landmarks)
    if height < MIN_FACE:
        raise InvalidInputError(
            f"{name}: the face is {height:.0f} pixels tall, {MIN_FACE} are needed: use a larger picture"
        )
    try:
        fit = fit_face(landmarks, head, (image.shape[1], image.shape[0]))
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: {error}") from error
    turned = float(np.degrees(np.arccos(np.clip(fit.rotation[2, 2], -1.0, 1.0))))
    if turned > MAX_TURN:
        raise InvalidInputError(
            f"{name}: the face is turned {turned:.0f} degrees aside: use a picture within {MAX_TURN:.0f}"
        )
    if fit.rms > MAX_RMS * height:
        raise InvalidInputError(
            f"{name}: the points found do not make a face (off by {fit.rms:.1f} pixels): give them with --landmarks"
        )
    return fit


def find_faces(
    image: UInt8[np.ndarray, "row column 3"], finder: Finder, *, cache_key: str | None = None
) -> list[FaceLandmarks]:
    """The faces of a picture, remembered by its pixels' hash when there is a `cache_key`."""
    if cache_key is None:
        return finder(image)
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
    digest.update(f"{image.shape} {cache_key}".encode())
    path = faces_folder() / f"{digest.hexdigest()[:32]}.npz"
    known = _remembered(path)
    if known is None:
        known = finder(image)
        _remember(path, known)
    return known


def faces_folder() -> Path:
    """Where found faces are remembered: `$AFFETTO_HOME/faces`, else `~/.cache/affetto/faces`."""
    home = os.environ.get("AFFETTO_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "affetto") / "faces"


def _remembered(path: Path) -> list[FaceLandmarks] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            rows = [stored[name] for name in ("points", "variance", "pose", "confidence")]
    except (OSError, ValueError, KeyError, EOFError):
        return None  # never seen, or damaged: it is found again
    if rows[0].shape[1:] != (68, 2) or rows[1].shape != rows[0].shape or len(rows[2]) != len(rows[0]):
        return None
    return [
        FaceLandmarks(
            points=points.astype(np.float32),
            variance=variance.astype(np.float32),
            pose=(float(pose[0]), float(pose[1]), float(pose[2])),
            confidence=float(confidence),
        )
        for points, variance, pose, confidence in zip(*rows, strict=True)
    ]


def _remember(path: Path, faces: Sequence[FaceLandmarks]) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        points=np.array([face.points for face in faces], np.float32).reshape(-1, 68, 2),
        variance=np.array([face.variance for face in faces], np.float32).reshape(-1, 68, 2),
        pose=np.array([face.pose for face in faces], np.float64).reshape(-1, 3),
        confidence=np.array([face.confidence for face in faces], np.float64),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    except (OSError, UsageError, InvalidInputError):
        return  # a cache that cannot be written costs time, nothing else


def _cut(shape: tuple[int, int], landmarks: FaceLandmarks, ratio: float) -> tuple[int, int, int, int]:
    """Left, top, width and height of the largest cut of this width/height about the face, at most `_WIDEST` faces wide."""
    rows, columns = shape
    width = min(columns, rows * ratio)
    height = width / ratio
    most = _WIDEST * landmarks.size
    shrink = min(1.0, most / min(width, height))
    width, height = max(2, round(width * shrink)), max(2, round(height * shrink))
    left, top, right, bottom = landmarks.box
    x = (left + right) / 2 - width / 2
    y = (top + bottom) / 2 - height * (
        0.5 if ratio > 1 else 0.45
    )  # a little room below for collar and shoulders
    return (
        int(np.clip(round(x), 0, columns - width)),
        int(np.clip(round(y), 0, rows - height)),
        width,
        height,
    )
