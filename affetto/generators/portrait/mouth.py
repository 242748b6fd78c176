"""The lips' line on our head, and what lies behind it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from affetto.head.landmarks68 import PARTS, VERTICES_68
from affetto.head.model import HeadModel

_INNER = slice(*PARTS["inner_lips"])


@dataclass(frozen=True, kw_only=True)
class Lips:
    """Where the lips touch (`upper` and `lower`, vertices from the subject's right to left) and the vertices behind it.

    A vertex `inside[i]` lies behind the line at vertex `nearest[i]`, `depth[i]` metres in along the surface.
    """

    upper: Int[np.ndarray, "upper"]
    lower: Int[np.ndarray, "lower"]
    inside: Int[np.ndarray, "inside"]
    nearest: Int[np.ndarray, "inside"]
    depth: Float[np.ndarray, "inside"]


def find_lips(head: HeadModel) -> Lips:
    """The loop through the inner lips' landmarks along the mesh's edges, and everything behind it."""
    surface = head.mesh.surface
    spans = [surface.groups[name] for name in ("skin", "mouth")]
    triangles = np.concatenate([surface.triangles[start:stop] for start, stop in spans])
    graph = edge_graph(triangles, surface.positions)
    marks = VERTICES_68[_INNER]
    path = [_shortest(graph, int(a), int(b)) for a, b in zip(marks, np.roll(marks, -1), strict=True)]
    upper = np.concatenate([part[:-1] for part in path[:4]] + [marks[4:5]])
    lower = np.concatenate([part[:-1] for part in path[4:]] + [marks[:1]])[::-1]
    loop = np.unique(np.concatenate([upper, lower]))
    start, stop = surface.groups["mouth"]
    cavity = np.setdiff1d(np.unique(surface.triangles[start:stop]), loop)
    skin = surface.triangles[slice(*surface.groups["skin"])]
    inside = np.union1d(cavity, enclosed(graph, loop, np.setdiff1d(cavity, skin)))
    distance, _, source = dijkstra(graph, indices=loop, min_only=True, return_predecessors=True)
    return Lips(upper=upper, lower=lower, inside=inside, nearest=source[inside], depth=distance[inside])


def enclosed(graph: sparse.csr_matrix, loop: np.ndarray, seeds: np.ndarray) -> Int[np.ndarray, "inside"]:
    """The vertices that `seeds` reach along edges without crossing the loop, the loop itself left out."""
    free = np.ones(len(graph.indptr) - 1)
    free[loop] = 0
    passable = sparse.diags(free) @ graph @ sparse.diags(free)
    passable = passable.tocsr()
    passable.eliminate_zeros()
    reach = dijkstra(passable, indices=seeds, unweighted=True, min_only=True)
    return np.flatnonzero(np.isfinite(reach))


def edge_graph(
    triangles: Int[np.ndarray, "triangle 3"], positions: Float[np.ndarray, "vertex 3"]
) -> sparse.csr_matrix:
    """The mesh's edges with their lengths as a symmetric matrix over all vertices."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    lengths = np.linalg.norm(positions[edges[:, 0]] - positions[edges[:, 1]], axis=1) + 1e-7
    size = len(positions)
    half = sparse.coo_matrix((lengths, (edges[:, 0], edges[:, 1])), shape=(size, size))
    return (half + half.T).tocsr()


def _shortest(graph: sparse.csr_matrix, start: int, stop: int) -> np.ndarray:
    _, before = dijkstra(graph, indices=start, return_predecessors=True)
    path = [stop]
    while path[-1] != start:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])


@dataclass(frozen=True, kw_only=True)
class MouthColours:
    """Colours (sRGB, 0..255) of what lips hide, and the picture's own teeth: RGB with confidence (0..1)."""

    tooth: Float32[np.ndarray, "3"]
    gum: Float32[np.ndarray, "3"]
    tongue: Float32[np.ndarray, "3"]
    cavity: Float32[np.ndarray, "3"]
    ivory: Float32[np.ndarray, "row column 4"]
    teeth_seen: bool


def mouth_colours(
    picture: Float32[np.ndarray, "row column 3"],
    points: Float[np.ndarray, "68 2"],
    white: Float[np.ndarray, "3"],
    gap: Bool[np.ndarray, "row column"],
    lip: Bool[np.ndarray, "row column"],
    skin: Bool[np.ndarray, "row column"],
) -> MouthColours:
    """Colours for the inside of the mouth, from what the picture shows.

    `gap` marks the open mouth between the inner lips, `lip` and `skin` samples of both, `white` is the eyes' white.
    Visible teeth give their own colour; else teeth are the eyes' white, warmed a little, in the light of the skin.
    """
    skin_colour = np.median(picture[skin], axis=0) if skin.any() else np.array([190.0, 150.0, 130.0])
    lip_colour = np.median(picture[lip], axis=0) if lip.any() else skin_colour * [0.85, 0.65, 0.65]
    level, light = picture.mean(axis=-1), float(skin_colour.mean())
    height = np.ptp(points[_INNER, 1])
    seen = np.zeros(gap.shape, np.float32)
    # Eyes that show no clear white (shadow, tinted lenses) tell nothing: then teeth are a pale tint in the skin's light.
    clear = np.clip((0.38 - (white.max() - white.min()) / max(float(white.max()), 1.0)) / 0.2, 0, 1)
    teeth = clear * white * [1.0, 0.965, 0.90] + (1 - clear) * light * np.array([1.14, 1.03, 0.88])
    teeth *= np.clip(1.45 * light, 120.0, 235.0) / max(float(teeth.mean()), 1.0)
    shown = False
    if gap.sum() > 20 and height > 3:
        bright = np.clip((level - 0.62 * light) / (0.25 * light), 0, 1)
        redness = picture[..., 0] / np.maximum(level, 1.0)
        pale = np.clip(
            (1.0 + 0.6 * (lip_colour[0] / max(lip_colour.mean(), 1.0) - 1.0) - redness) / 0.06 + 0.5, 0, 1
        )
        seen = ndimage.gaussian_filter(ndimage.grey_opening(gap * bright * pale, (2, 2)), 0.6).astype(
            np.float32
        )
        shown = bool(seen.sum() > 0.15 * gap.sum())
        if shown:
            teeth = np.percentile(picture[seen > 0.5], 70, axis=0)
    ivory = np.concatenate([picture, seen[..., None] if shown else np.zeros((*gap.shape, 1))], axis=2)
    return MouthColours(
        tooth=np.clip(teeth, 0, 250).astype(np.float32),
        gum=(0.62 * lip_colour + 0.2 * skin_colour).astype(np.float32),
        tongue=(0.92 * lip_colour * [1.0, 0.9, 0.92]).astype(np.float32),
        cavity=(0.22 * lip_colour * [1.0, 0.55, 0.5]).astype(np.float32),
        ivory=ivory.astype(np.float32),
        teeth_seen=shown,
    )
