"""Films of a portrait and what can be read off their pixels: the performance, who it is, what changed, which colours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_dilation
from scipy.spatial import ConvexHull
from skimage.color import rgb2lab
from skimage.draw import polygon2mask

from affetto.generators.portrait.detect import FaceFinder
from affetto.generators.portrait.fit import PointModel, fit_face
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.generators.portrait.portrait import Portrait, read_portrait
from affetto.generators.portrait.refit import refit_curves
from affetto.generators.portrait.renderer import PortraitRenderer, resized
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves

_SIDE = 256
_HALO = 0.45  # of the face's size: how far around its points expressions may reach
_CHEEKS = ((31, 2, 3, 48), (35, 54, 13, 14))  # of the 68 points: corners of skin that hardly moves


def public_portraits() -> dict[str, UInt8[np.ndarray, "row column 3"]]:
    """Two photographs in the public domain that come with installed packages: Eileen Collins and Grace Hopper."""
    from matplotlib import cbook
    from PIL import Image
    from skimage import data

    # asked for as a name, matplotlib gives the path
    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    with Image.open(str(path)) as picture:
        hopper = np.asarray(picture.convert("RGB"))
    return {"astronaut": data.astronaut(), "hopper": hopper}


@dataclass(frozen=True)
class Film:
    """A portrait in front of the camera, 256 pixels high and wide, at 25 frames a second."""

    portrait: Portrait
    renderer: PortraitRenderer
    finder: FaceFinder
    head: HeadModel
    model: PointModel

    @classmethod
    def of(
        cls, photo: UInt8[np.ndarray, "row column 3"], name: str, finder: FaceFinder, head: HeadModel
    ) -> "Film":
        """The film of a photograph's main face, cut square about it."""
        portrait = read_portrait(photo, finder, head, face=1, name=name).framed("1:1")
        renderer = PortraitRenderer(portrait.image, portrait.fit, head, size=_SIDE)
        return cls(portrait, renderer, finder, head, PointModel(head))

    @property
    def factor(self) -> float:
        """Pixels of the film for each of the photograph."""
        return self.renderer.size[0] / self.portrait.image.shape[1]

    @property
    def _shape(self) -> tuple[int, int]:
        columns, rows = self.renderer.size
        return rows, columns

    def frames(self, curves: FaceCurves) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
        """The frames of a performance."""
        for weights, head, eyes in zip(curves.weights, curves.head, curves.eyes, strict=True):
            yield self.renderer.frame(weights, head, eyes)

    def points(self, curves: FaceCurves) -> Iterator[Float[np.ndarray, "68 2"]]:
        """The 68 points that the landmark network sees in each frame, in pixels of the photograph."""
        start = self.portrait.landmarks.points * self.factor
        for points in self.finder.follow(self.frames(curves), start):
            yield points / self.factor

    def read_back(self, curves: FaceCurves) -> FaceCurves:
        """The performance as it can be read off the frames alone."""
        return refit_curves(
            self.points(curves), self.portrait.fit, self.head, fps=curves.fps, model=self.model
        )

    def gap(self, curves: FaceCurves) -> Float[np.ndarray, "frame"]:
        """The lip opening read off the frames, above what a shut mouth reads as on this portrait."""
        shut = self.head.lip_gap(self.read_back(FaceCurves.neutral(6, curves.fps)).weights)[2:]
        return np.maximum(self.head.lip_gap(self.read_back(curves).weights) - np.median(shut), 0.0)

    def who(self, curves: FaceCurves, every: int = 10) -> Float[np.ndarray, "mode"]:
        """The identity fitted anew to some of the frames, averaged; in standard deviations of people."""
        size = (self.portrait.image.shape[1], self.portrait.image.shape[0])
        landmarks, fits = self.portrait.landmarks, []
        for index, points in enumerate(self.points(curves)):
            if index % every == 0:
                seen = FaceLandmarks(
                    points=points.astype(np.float32),
                    variance=landmarks.variance,
                    pose=landmarks.pose,
                    confidence=1.0,
                )
                fits.append(fit_face(seen, self.head, size, model=self.model).identity)
        return np.mean(fits, axis=0)

    def changed_outside(self, curves: FaceCurves) -> float:
        """Share of the pixels beyond the face's halo that differ from the photograph by more than 2 of 255 in any frame."""
        outside = ~self._halo()
        still = self.renderer.frame(np.zeros(52, np.float32)).astype(int)
        changed = np.zeros(outside.shape, bool)
        for frame in self.frames(curves):
            changed |= np.abs(frame.astype(int) - still).max(axis=-1) > 2
        return float(changed[outside].mean())

    def colour_shift(self, curves: FaceCurves) -> float:
        """Mean CIELAB distance between the mean colours of still skin in the frames and in the photograph."""
        skin = self._skin()
        source = rgb2lab(resized(self.portrait.image, _SIDE)[0])[skin].mean(axis=0)
        frames = [rgb2lab(frame)[skin].mean(axis=0) for frame in self.frames(curves)]
        return float(np.linalg.norm(np.array(frames) - source, axis=1).mean())

    def _halo(self) -> Bool[np.ndarray, "row column"]:
        points = self.portrait.landmarks.points * self.factor
        hull = points[ConvexHull(points).vertices]
        mask = polygon2mask(self._shape, hull[:, ::-1])
        reach = round(_HALO * self.portrait.landmarks.size * self.factor)
        return binary_dilation(mask, iterations=max(reach, 1))

    def _skin(self) -> Bool[np.ndarray, "row column"]:
        points = self.portrait.landmarks.points * self.factor
        patches = [polygon2mask(self._shape, points[list(corners)][:, ::-1]) for corners in _CHEEKS]
        return np.logical_or(*patches)

    def close(self) -> None:
        """End the renderer."""
        self.renderer.close()
