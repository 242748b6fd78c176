"""The photograph taken apart once, before anything moves: person, background, eyes, mouth, light."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage
from skimage.draw import polygon2mask

from affetto.generators.portrait import kernels as k
from affetto.generators.portrait.depth import GROUPS, SourceView
from affetto.generators.portrait.eyes import EyeLayers, eye_layers
from affetto.generators.portrait.fill import filled, outside_distance
from affetto.generators.portrait.fit import FaceFit
from affetto.generators.portrait.glasses import Glasses
from affetto.generators.portrait.light import face_light, samples_at
from affetto.generators.portrait.mouth import MouthColours, mouth_colours
from affetto.generators.portrait.rig import FaceRig, smooth
from affetto.media.mesh import vertex_normals

_NEAR, _FAR = 0.007, 0.016  # metres from the person


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What the frames are composed of; all pictures cover the region that can change, sRGB 0..255 in float32.

    `person` is premultiplied RGBA (alpha 0..1) over `plate`, the background with the person taken out: together they
    are the photograph again. `light` is direction (camera frame) and ambient share.
    """

    person: Float32[np.ndarray, "row column 4"]
    plate: Float32[np.ndarray, "row column 3"]
    eyes: EyeLayers
    mouth: MouthColours
    light: Float32[np.ndarray, "4"]
    normals: Float32[np.ndarray, "vertex 3"]  # of the rig as photographed, camera frame


def take_apart(
    picture: UInt8[np.ndarray, "row column 3"],
    mask: Float32[np.ndarray, "row column"],
    fit: FaceFit,
    rig: FaceRig,
    view: SourceView,
    glasses: Glasses,
) -> Layers:
    """The layers of a picture whose person is `mask`; fit, rig, view and glasses are in its pixels."""
    photo = picture.astype(np.float32)
    plate = _background(photo, mask, fit)
    person = np.concatenate([photo - (1 - mask[..., None]) * plate, mask[..., None]], axis=2)
    metre = fit.pixels_per_metre
    opening = view.group == GROUPS.index("eyes")
    eyes = eye_layers(photo, fit.points, metre, opening, glasses.rims)
    inner, outer = fit.points[60:68], fit.points[48:60]
    shape = mask.shape
    gap = polygon2mask(shape, inner[:, ::-1] - 0.5)
    lip = polygon2mask(shape, outer[:, ::-1] - 0.5) & ~np.asarray(
        ndimage.binary_dilation(gap, iterations=2), bool
    )
    face = polygon2mask(
        shape, np.concatenate([fit.points[1:16], fit.points[[26, 24, 19, 17]]])[:, ::-1] - 0.5
    )
    holes = polygon2mask(shape, (outer.mean(0) + 1.25 * (outer - outer.mean(0)))[:, ::-1] - 0.5) | opening
    mouth = mouth_colours(photo, fit.points, eyes.white_colour, gap, lip, face & ~holes)
    normals = (vertex_normals(rig.source, rig.triangles) @ fit.rotation.T).astype(np.float32)
    skin = (rig.kind == k.SKIN) & (rig.trust > 0.5)
    light = face_light(samples_at(photo.mean(axis=-1), rig.uv[skin]), normals[skin], rig.trust[skin])
    return Layers(
        person=np.ascontiguousarray(person, dtype=np.float32),
        plate=plate,
        eyes=eyes,
        mouth=mouth,
        light=light,
        normals=normals,
    )


def _background(photo: np.ndarray, mask: np.ndarray, fit: FaceFit) -> Float32[np.ndarray, "row column 3"]:
    """The picture without the person: what surrounds them, continued behind them, with the grain of the rest."""
    if mask.min() >= 1.0:
        return photo.copy()
    # Near the person the picture belongs to both: what differs from the smooth background moves with the person.
    near, far = (metres * fit.pixels_per_metre for metres in (_NEAR, _FAR))
    away = outside_distance(mask >= 0.02)
    if away.max() <= near:
        return photo.copy()
    plate = filled(photo, (away > near).astype(np.float32))
    own = smooth(away, near, max(far, near + 2))[..., None]
    return (photo * own + plate * (1 - own)).astype(np.float32)
