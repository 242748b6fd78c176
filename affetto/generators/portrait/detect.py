"""Finding faces: scikit-image's cascade says where one may be, our network where its 68 points are and if it is one."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from skimage import data
from skimage.feature import Cascade

from affetto.generators.portrait.crops import Crop, Pyramid
from affetto.generators.portrait.landmark_data import CUT
from affetto.generators.portrait.landmark_net import LandmarkNet
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.head.landmarks68 import MIRROR_68
from affetto.runtime.device import autocast, resolve_device, resolve_dtype

CONFIDENCE = 0.5
"""What a face must reach to be listed."""

MIN_PIXELS = 24  # sides of faces that are looked for, in a picture made no longer than _LONGEST
_LONGEST = 800
_TURNS = (0.0, 30.0, -30.0, 60.0, -60.0)  # degrees by which the picture is turned until a face is found
_ROUNDS = 3  # times that points are found in a square about the points found before
_SHARES = (0.95, 0.65, 0.45)  # of the shorter side: squares tried when the cascade sees nothing
_AGREE = 0.07  # of the eyes' distance: how far a face and its mirror image may differ


class FaceFinder:
    """Lists the faces of a picture with their 68 points."""

    def __init__(self, network: LandmarkNet, *, device: torch.device, dtype: torch.dtype) -> None:
        self._network = network.eval().to(device)
        self._device, self._dtype = device, dtype

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> "FaceFinder":
        """The finder with the embedded network, or with one in a file of `affetto train portrait-landmarks`."""
        where = resolve_device(device)
        return cls(LandmarkNet.from_pretrained(name), device=where, dtype=resolve_dtype(dtype, where))

    def __call__(self, image: UInt8[np.ndarray, "row column 3"]) -> list[FaceLandmarks]:
        """All faces whose confidence reaches `CONFIDENCE`, the largest first; an empty list when there is none."""
        pyramid = Pyramid(image)
        shrink = max(1.0, max(image.shape[:2]) / _LONGEST)
        size = (round(image.shape[1] / shrink), round(image.shape[0] / shrink))
        small = Image.fromarray(image).convert("L").resize(size, Image.Resampling.BOX)
        for degrees in _TURNS:
            seeds = _seeds(small, degrees, shrink)
            faces = self._confirmed(pyramid, seeds)
            if faces:
                return faces
        return self._confirmed(pyramid, self._searched(pyramid, (image.shape[1], image.shape[0])))

    def refine(self, pyramid: Pyramid, crop: Crop) -> FaceLandmarks:
        """The points of the face that a square shows, found again in squares about themselves, and the confidence in it."""
        for _ in range(_ROUNDS):
            places, _, _, _ = self._see(pyramid, [crop, crop.mirror()])
            crop = _about(places.mean(axis=0))
        around = [
            Crop(centre=crop.centre, side=crop.side * scale, turn=crop.turn + turn)
            for scale, turn in ((1.0, 0.0), (0.92, 0.06), (1.1, -0.06), (1.0, -0.12))
        ]
        places, variance, presence, pose = self._see(
            pyramid, [square for each in around for square in (each, each.mirror())]
        )
        points = places.mean(axis=0)
        eyes = max(float(np.linalg.norm(points[36] - points[45])), 1e-6)
        apart = np.linalg.norm(places[0::2] - places[1::2], axis=2).mean() / eyes
        spread = np.linalg.norm(places - points, axis=2).mean() / eyes
        doubt = (max(apart, 2 * spread) / _AGREE) ** 2
        return FaceLandmarks(
            points=points.astype(np.float32),
            variance=(variance.mean(axis=0) + places.var(axis=0)).astype(np.float32),
            pose=(float(pose[0]), float(pose[1]), float(pose[2])),
            confidence=float(presence.mean() * np.exp(-doubt)),
        )

    def follow(
        self,
        frames: Iterable[UInt8[np.ndarray, "row column 3"]],
        points: Float[np.ndarray, "68 2"],
    ) -> Iterator[Float[np.ndarray, "68 2"]]:
        """The points of the face in each frame of a video that begins near `points`.

        One look a frame, straight and mirrored, in the square about the points of the frame before.
        """
        for frame in frames:
            crop = _about(points)
            places, _, _, _ = self._see(Pyramid(frame), [crop, crop.mirror()])
            points = places.mean(axis=0)
            yield points

    def _see(
        self, pyramid: Pyramid, crops: Sequence[Crop]
    ) -> tuple[
        Float[np.ndarray, "crop 68 2"],
        Float[np.ndarray, "crop 68 2"],
        Float[np.ndarray, "crop"],
        Float[np.ndarray, "3"],
    ]:
        """Points and variances in pixels of the picture, presence 0..1 of each square, and the mean pose."""
        side = self._network.config.side
        pictures = np.stack([pyramid.cut(crop, side) for crop in crops])
        with torch.inference_mode(), autocast(self._device, self._dtype):
            found = self._network(torch.from_numpy(pictures).to(self._device))
        raw, scale = found.points.double().cpu().numpy(), found.log_scale.double().exp().cpu().numpy()
        poses = found.pose.double().cpu().numpy()
        points, variance = np.empty_like(raw), np.empty_like(raw)
        for k, crop in enumerate(crops):
            order = MIRROR_68 if crop.mirrored else np.arange(68)
            points[k] = crop.to_picture(raw[k])[order]
            variance[k] = (2.0 * (scale[k] * crop.side) ** 2)[order]  # of a Laplace distribution
            sign = -1.0 if crop.mirrored else 1.0
            poses[k] = [poses[k, 0] * sign, poses[k, 1], poses[k, 2] * sign - crop.turn]
        return (
            points,
            variance,
            torch.sigmoid(found.presence.float()).double().cpu().numpy(),
            poses.mean(axis=0),
        )

    def _confirmed(self, pyramid: Pyramid, seeds: Sequence[Crop]) -> list[FaceLandmarks]:
        """The faces behind seeds, each once, the largest first."""
        faces: list[FaceLandmarks] = []
        for face in sorted((self.refine(pyramid, seed) for seed in seeds), key=lambda face: -face.confidence):
            middle = face.points.mean(axis=0)
            new = all(
                np.linalg.norm(other.points.mean(axis=0) - middle) > 0.4 * other.size for other in faces
            )
            if face.confidence >= CONFIDENCE and new:
                faces.append(face)
        return sorted(faces, key=lambda face: -face.size)

    def _searched(self, pyramid: Pyramid, size: tuple[int, int]) -> list[Crop]:
        """Squares in which the network itself sees a face, the surest first: for pictures the cascade is blind to."""
        width, height = size
        squares = []
        for share in _SHARES:
            side = share * min(size)
            xs, ys = (_steps(extent, side) for extent in (width, height))
            squares += [Crop(centre=(x, y), side=side) for y in ys for x in xs]
        surest: list[tuple[float, Crop]] = []
        for start in range(0, len(squares), 16):
            part = squares[start : start + 16]
            places, _, presence, _ = self._see(pyramid, part)
            surest += [
                (float(share), _about(points))
                for share, points in zip(presence, places, strict=True)
                if share > 0.5
            ]
        return [crop for _, crop in sorted(surest, key=lambda pair: -pair[0])[:4]]


@cache
def _cascade() -> Cascade:
    return Cascade(data.lbp_frontal_face_cascade_filename())


def _seeds(small: Image.Image, degrees: float, shrink: float) -> list[Crop]:
    """Where the cascade sees faces in the picture turned by `degrees`, as squares of the whole picture."""
    grey = np.asarray(small.rotate(degrees, Image.Resampling.BILINEAR) if degrees else small)
    longest = min(grey.shape)
    if longest < MIN_PIXELS:
        return []
    boxes = _cascade().detect_multi_scale(
        grey, scale_factor=1.2, step_ratio=1.0, min_size=(MIN_PIXELS, MIN_PIXELS), max_size=(longest, longest)
    )
    turn = np.radians(degrees)
    middle = np.array([grey.shape[1], grey.shape[0]]) / 2
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    seeds = []
    for box in sorted(boxes, key=lambda box: -box["width"])[:12]:
        side = float(box["width"])
        centre = np.array(
            [box["c"] + side / 2, box["r"] + 0.65 * side]
        )  # the points' middle lies below the box's
        x, y = (rotation @ (centre - middle) + middle) * shrink
        seeds.append(Crop(centre=(float(x), float(y)), side=0.9 * CUT * side * shrink, turn=float(turn)))
    return seeds


def _about(points: Float[np.ndarray, "68 2"]) -> Crop:
    """The square that the network expects about these points, turned so that the eyes lie level."""
    along = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
    turn = float(np.arctan2(along[1], along[0]))
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    level = points @ rotation.T
    low, high = level.min(axis=0), level.max(axis=0)
    x, y = (low + high) / 2 @ rotation
    return Crop(centre=(float(x), float(y)), side=max(float((high - low).max()) * CUT, 4.0), turn=turn)


def _steps(extent: int, side: float) -> list[float]:
    """Centres of squares that cover an extent with half their side in common."""
    count = max(int(np.ceil((extent - side) / (side / 2))) + 1, 1)
    return np.linspace(min(side, extent) / 2, extent - min(side, extent) / 2, count).tolist()
