"""A portrait as the denoiser takes it: cropped about the face, sized, and the face's place as a mask."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from affetto.runtime.errors import InvalidInputError, UsageError

MASK_SCALE = 1.1  # of the face's box
_MULTIPLE = 64  # pixels
_CLIP_SIDE = 224
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_SD = (0.26862954, 0.26130258, 0.27577711)
_FOREHEAD = 0.25  # of the height of the 68 points' box, which ends at the brows
_EARS = 0.05  # of its width, on each side


@dataclass(frozen=True, kw_only=True)
class FaceBox:
    """Where a face is in a picture, in pixels; from the forehead to the chin and from ear to ear."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not (self.right - self.left >= 8 and self.bottom - self.top >= 8):
            raise UsageError(
                f"a face's box needs 8 pixels at least, got {self.left:g}, {self.top:g} to {self.right:g}, {self.bottom:g}"
            )

    @classmethod
    def about_points(cls, box: tuple[float, float, float, float]) -> "FaceBox":
        """The box of a face whose 68 points (which end at the brows) have the box `box`."""
        left, top, right, bottom = box
        side, up = _EARS * (right - left), _FOREHEAD * (bottom - top)
        return cls(left=left - side, top=top - up, right=right + side, bottom=bottom)

    def scaled(self, factor: float) -> "FaceBox":
        """The box about the same middle."""
        x, y = (self.left + self.right) / 2, (self.top + self.bottom) / 2
        w, h = factor * (self.right - self.left) / 2, factor * (self.bottom - self.top) / 2
        return FaceBox(left=x - w, top=y - h, right=x + w, bottom=y + h)

    def square_crop(self, width: int, height: int, margin: float = 0.5) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of a square about the box grown by `margin` of itself on each side.

        It stays within the picture: where there is too little room, it is smaller, never distorted.
        """
        grown = self.scaled(1 + 2 * margin)
        side = min(round(max(grown.right - grown.left, grown.bottom - grown.top)), width, height)
        left = round((grown.left + grown.right - side) / 2)
        top = round((grown.top + grown.bottom - side) / 2)
        left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
        return left, top, left + side, top + side

    def moved(self, left: float, top: float, scale_x: float, scale_y: float) -> "FaceBox":
        """The box in a crop that begins at (left, top) and is then scaled."""
        return FaceBox(
            left=(self.left - left) * scale_x,
            top=(self.top - top) * scale_y,
            right=(self.right - left) * scale_x,
            bottom=(self.bottom - top) * scale_y,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Framed:
    """A picture at the size it is animated in, and where its face is there."""

    picture: UInt8[np.ndarray, "row column 3"]
    mask: Float[Tensor, "row column"]  # 1 at the face, 0 elsewhere
    face: FaceBox
    crop: tuple[int, int, int, int]  # of the original: left, top, right, bottom

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.picture.shape[1], self.picture.shape[0]

    def pixels(self) -> Float[Tensor, "1 3 row column"]:
        """The picture for the autoencoder, in [-1, 1]."""
        scaled = torch.from_numpy(self.picture.copy()).permute(2, 0, 1)[None].float()
        return scaled / 127.5 - 1

    def for_clip(self) -> Float[Tensor, "1 3 224 224"]:
        """The picture for the image encoder: 224 x 224 and normalised."""
        small = Image.fromarray(self.picture).resize((_CLIP_SIDE, _CLIP_SIDE), Image.Resampling.LANCZOS)
        values = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)[None].float() / 255
        mean, sd = torch.tensor(_CLIP_MEAN)[:, None, None], torch.tensor(_CLIP_SD)[:, None, None]
        return (values - mean) / sd


def frame_portrait(
    picture: UInt8[np.ndarray, "row column 3"], face: FaceBox, *, size: int = 512, crop: bool = True
) -> Framed:
    """The picture, cropped to a square about the face when `crop`, its shorter side `size`, both multiples of 64.

    Raises UsageError for a size below 64 or above 1024, and InvalidInputError when the face lies outside.
    """
    if not _MULTIPLE <= size <= 1024:
        raise UsageError(f"--size must lie in {_MULTIPLE}..1024 pixels, got {size}")
    height, width = picture.shape[:2]
    if face.right <= 0 or face.bottom <= 0 or face.left >= width or face.top >= height:
        raise InvalidInputError(
            f"the face's box lies outside the picture of {width}x{height}: give its pixels"
        )
    cut = face.square_crop(width, height) if crop else (0, 0, width, height)
    inner = Image.fromarray(picture).crop(cut)
    factor = size / min(inner.size)
    target = tuple(max(_MULTIPLE, round(side * factor / _MULTIPLE) * _MULTIPLE) for side in inner.size)
    sized = inner.resize((target[0], target[1]), Image.Resampling.LANCZOS)
    moved = face.moved(float(cut[0]), float(cut[1]), target[0] / inner.width, target[1] / inner.height)
    mask = face_mask(face.moved(float(cut[0]), float(cut[1]), 1.0, 1.0), inner.size, sized.size)
    return Framed(picture=np.asarray(sized), mask=mask, face=moved, crop=cut)


def face_mask(face: FaceBox, drawn: tuple[int, int], size: tuple[int, int]) -> Float[Tensor, "row column"]:
    """The face's box grown by a tenth, drawn in the crop and resized as the picture is."""
    box = face.scaled(MASK_SCALE)
    mask = np.zeros((drawn[1], drawn[0]), np.uint8)
    rows = slice(max(int(box.top), 0), max(int(box.bottom), 0))
    mask[rows, max(int(box.left), 0) : max(int(box.right), 0)] = 255
    sized = Image.fromarray(mask).resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(sized).copy()).float() / 255
