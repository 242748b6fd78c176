"""The whole head: skin, eyes, mouth and hair joined into one mesh with its motion fields, in metres."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from affetto.head.hair import clothes, hair
from affetto.head.hairline import clothed, scalp
from affetto.head.parts import Part, eyeball, gums, lashes, teeth, tongue
from affetto.head.reference import EYE_CENTRE, IPD, Reference
from affetto.head.sparse import stack_rows
from affetto.head.topology import RING, HalfSkin, build_half_skin

METRES = 0.063 / IPD
ORIGIN = np.array([0.0, EYE_CENTRE[1], EYE_CENTRE[2]])
TILES = {  # where each part's texture lies in the atlas: left, top, width, height of the unit square
    "skin": (0.0, 0.0, 0.84, 0.84),
    "eye": (0.845, 0.0, 0.155, 0.155),
    "teeth": (0.845, 0.16, 0.155, 0.08),
    "gums": (0.845, 0.25, 0.155, 0.04),
    "tongue": (0.845, 0.30, 0.155, 0.10),
    "lashes": (0.845, 0.41, 0.155, 0.04),
    "hair": (0.0, 0.845, 0.80, 0.155),
    "clothes": (0.805, 0.845, 0.195, 0.155),
}
ORDER = ("skin", "eyes", "lashes", "teeth", "gums", "tongue", "hair", "clothes")


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """Our mesh in reference units with everything needed to carry fields of the reference onto it."""

    positions: Float[np.ndarray, "v 3"]
    triangles: Int[np.ndarray, "t 3"]
    uvs: Float[np.ndarray, "v 2"]
    gloss: Float[np.ndarray, "v"]
    groups: Mapping[str, tuple[int, int]]  # triangle ranges
    ranges: Mapping[str, tuple[int, int]]  # vertex ranges
    carriers: sparse.csr_matrix
    right: np.ndarray  # rows that name the left side but stand for its mirror image
    mirror: Int[np.ndarray, "v"]  # the vertex at the mirrored place, itself where there is none
    tongue_along: Float[np.ndarray, "v"]
    lid_edges: Int[np.ndarray, "2 e"]  # left, right
    lip_edge: Int[np.ndarray, "l"]  # the left half's, see HalfSkin
    patch: Int[np.ndarray, "v"]

    def carry(self, left: np.ndarray, right: np.ndarray) -> Float[np.ndarray, "v 3"]:
        """A field of the reference on our vertices; `right` is the field whose mirror image the right side shows."""
        ours = self.carriers @ left
        other = (self.carriers @ right) * [-1, 1, 1]
        return np.where(self.right[:, None], other, ours)


def assemble(reference: Reference, rng: np.random.Generator, scale: float = 1.0) -> Assembly:
    """Build every part and join them."""
    skin = build_half_skin(reference, rng, scale)
    grown, worn = hair(skin, reference), clothes(skin, reference)
    skin = skin.trimmed(hidden(skin.carriers @ reference.vertices))
    builder = _Joiner(reference)
    builder.add_skin(skin)
    builder.add_pair("eyes", eyeball(reference))
    builder.add_pair("lashes", lashes(skin, reference))
    builder.add_pair("teeth", teeth(reference))
    builder.add_pair("gums", gums(reference))
    middle, along = tongue(reference)
    builder.add("tongue", middle, right=False)
    builder.add_pair("hair", grown)
    builder.add_pair("clothes", worn)
    return builder.joined(skin, along)


def hidden(points: Float[np.ndarray, "k 3"]) -> np.ndarray:
    """Whether skin at these places lies so deep under hair or clothes that the head leaves it out."""
    return (scalp(points) > 1.6) | (clothed(points) > 1.2)


class _Joiner:
    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.parts: list[tuple[str, Part, bool]] = []
        self.count = 0
        self.starts: list[int] = []

    def add(self, group: str, part: Part, *, right: bool) -> None:
        self.parts.append((group, part, right))
        self.starts.append(self.count)
        self.count += len(part.positions)

    def add_pair(self, group: str, part: Part) -> None:
        self.add(group, part, right=False)
        self.add(group, part.mirror(), right=True)

    def add_skin(self, skin: HalfSkin) -> None:
        points = skin.carriers @ self.reference.vertices
        points[skin.midline, 0] = 0
        span = 1 + 2 * RING
        uv = (skin.chart + RING) / span
        uv[:, 1] = 1 - uv[:, 1]
        gloss = np.where(skin.patch == 2, 0.35, 0.25)
        part = Part(
            name="skin",
            positions=points,
            triangles=skin.triangles,
            uv=uv,
            gloss=gloss,
            carriers=skin.carriers,
        )
        self.add("skin", part, right=False)
        keep = np.flatnonzero(~skin.midline)
        number = np.arange(len(points))
        number[keep] = len(points) + np.arange(len(keep))
        mirrored = Part(
            name="skin",
            positions=points[keep] * [-1, 1, 1],
            triangles=number[skin.triangles[:, ::-1]] - len(points),
            uv=uv[keep] * [-1, 1] + [1, 0],
            gloss=gloss[keep],
            carriers=skin.carriers[keep],
        )
        self.add("skin", mirrored, right=True)
        self.mirror_skin = number

    def _skin_and_mouth(self, skin: HalfSkin) -> list[tuple[str, np.ndarray]]:
        """Both halves' triangles, outer skin first, then the mouth's inside."""
        inside = (skin.patch[skin.triangles] == 2).any(axis=1)
        pieces = []
        for name, chosen in (("skin", ~inside), ("mouth", inside)):
            faces = skin.triangles[chosen]
            pieces.append((name, np.concatenate([faces, self.mirror_skin[faces[:, ::-1]]])))
        return pieces

    def joined(self, skin: HalfSkin, along: np.ndarray) -> Assembly:
        mirror = np.arange(self.count)
        half = len(skin.chart)
        mirror[:half] = self.mirror_skin
        mirror[self.mirror_skin] = np.arange(half)
        groups: dict[str, tuple[int, int]] = {}
        ranges: dict[str, tuple[int, int]] = {}
        uvs, triangles, total = [], [], 0
        tongue_along = np.zeros(self.count)
        for index, ((group, part, right), start) in enumerate(zip(self.parts, self.starts, strict=True)):
            left, top, width, height = TILES[part.name]
            uvs.append(part.uv * [width, height] + [left, top])
            pieces = [(group, part.triangles)]
            if group == "skin" and not right:
                pieces = self._skin_and_mouth(skin)
            elif group == "skin":
                pieces = []
            for name, faces in pieces:
                triangles.append(faces + start)
                groups[name] = (groups.get(name, (total, 0))[0], total + len(faces))
                total += len(faces)
            ranges[group] = (ranges.get(group, (start, 0))[0], start + len(part.positions))
            if group == "tongue":
                tongue_along[start : start + len(along)] = along
            elif right and group != "skin":
                before = self.starts[index - 1]
                size = len(part.positions)
                mirror[start : start + size] = np.arange(before, before + size)
                mirror[before : before + size] = np.arange(start, start + size)
        patch = np.full(self.count, -1)
        patch[:half] = skin.patch
        patch[self.mirror_skin] = skin.patch
        return Assembly(
            positions=np.concatenate([part.positions for _, part, _ in self.parts]),
            triangles=np.concatenate(triangles),
            uvs=np.concatenate(uvs),
            gloss=np.concatenate([part.gloss for _, part, _ in self.parts]),
            groups=groups,
            ranges=ranges,
            carriers=stack_rows([part.carriers for _, part, _ in self.parts]),
            right=np.concatenate([np.full(len(part.positions), right) for _, part, right in self.parts]),
            mirror=mirror,
            tongue_along=tongue_along,
            lid_edges=np.stack([skin.lid_edge, self.mirror_skin[skin.lid_edge]]),
            lip_edge=skin.lip_edge,
            patch=patch,
        )
