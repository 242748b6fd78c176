"""How far away each pixel of the photograph is: the fitted head and shoulders, continued smoothly beyond their outline."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from affetto.generators.portrait.fit import FaceFit
from affetto.head import kernels
from affetto.head.model import HeadModel


@dataclass(frozen=True, kw_only=True)
class SourceView:
    """The fitted head as the photograph's camera sees it, on a grid of `step` pixels: what is nearest in each place."""

    step: float
    covered: Bool[np.ndarray, "row column"]
    depth: Float32[np.ndarray, "row column"]  # metres from the camera's plane; meaningless where not covered
    share: Float32[np.ndarray, "row column"]  # of the head's turning
    group: Float32[np.ndarray, "row column"]  # index into GROUPS, -1 for nothing


_FLATNESS = 0.42
_FRONT = -0.004  # metres: cheeks beside the nose
GROUPS = ("skin", "hair", "clothes", "eyes", "mouth")


def source_view(
    head: HeadModel,
    fit: FaceFit,
    vertices: Float32[np.ndarray, "vertex 3"],
    size: tuple[int, int],
    *,
    step: float = 1.0,
    groups: tuple[str, ...] = GROUPS,
) -> SourceView:
    """What a camera sees of the head's `vertices` in a picture of `size` (width, height), sampled every `step` pixels."""
    surface = head.mesh.surface
    spans = [surface.groups[name] for name in groups]
    triangles = np.concatenate([surface.triangles[start:stop] for start, stop in spans])
    kind = np.concatenate(
        [np.full(stop - start, GROUPS.index(name)) for name, (start, stop) in zip(groups, spans, strict=True)]
    )
    before = fit.before_camera(vertices)
    flat = fit.camera.project(before) / step
    projected = np.concatenate([flat, 1.0 / -before[:, 2:]], axis=1).astype(np.float32)
    width, height = (max(2, int(np.ceil(side / step))) for side in size)
    starts, bins = np.zeros(2, np.int32), np.empty(len(triangles) + 1, np.int32)
    bins = kernels.bin_triangles(projected, triangles, width, height, height, False, starts, bins)
    nearest = np.empty((height, width, kernels.SAMPLES), np.float32)
    owner = np.empty((height, width, kernels.SAMPLES), np.int32)
    kernels.cover_band(projected, triangles, bins, starts[0], starts[1], 0, height, nearest, owner)
    first, inverse = owner[..., 0], nearest[..., 0]
    covered = first >= 0
    corners = triangles[np.maximum(first, 0)]
    share = head.head_weights[corners].mean(axis=-1)
    return SourceView(
        step=step,
        covered=covered,
        depth=np.where(covered, 1.0 / np.maximum(inverse, 1e-6), 0.0).astype(np.float32),
        share=np.where(covered, share, 0.0).astype(np.float32),
        group=np.where(covered, kind[np.maximum(first, 0)], -1).astype(np.float32),
    )


def continued(
    values: Float32[np.ndarray, "row column"], known: Bool[np.ndarray, "row column"], blur: float
) -> np.ndarray:
    """Values continued from the nearest known place, then smoothed by `blur` grid steps."""
    nearest = np.asarray(ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True))
    whole = values[nearest[0], nearest[1]]
    return ndimage.gaussian_filter(whole, blur, mode="nearest").astype(np.float32)


def flattened(depth: Float32[np.ndarray, "*shape"], front: float) -> Float32[np.ndarray, "*shape"]:
    """Depths with what lies further back than `front` brought nearer.

    A photograph shows little of cheeks and ears from the side: a head that is less deep behind the face turns with
    less stretching, and where it turns to still looks right.
    """
    beyond = np.maximum(depth - front, 0.0)
    return (depth - (1.0 - _FLATNESS) * beyond).astype(np.float32)


def front_depth(fit: FaceFit) -> float:
    """Metres from the camera's plane to the front of the face, behind which the head is flattened."""
    return float(-(fit.rotation @ np.array([0.0, -0.02, _FRONT]) + fit.translation)[2])


def brought_nearer(fit: FaceFit, points: Float32[np.ndarray, "vertex 3"]) -> Float32[np.ndarray, "vertex 3"]:
    """Points of the head moved along the camera's rays to their flattened depth: the photograph stays the same."""
    before = fit.before_camera(points)
    scale = flattened(-before[:, 2], front_depth(fit)) / -before[:, 2]
    return ((before * scale[:, None] - fit.translation) @ fit.rotation).astype(np.float32)
