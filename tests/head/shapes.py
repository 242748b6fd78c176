"""Small surfaces that the tests of the head share: a sphere with a sharp seam, and a crude bust."""

import numpy as np

from affetto.media.mesh import Surface


def sphere(
    *, rings: int = 24, radius: float = 0.1, colour: tuple[int, int, int] = (200, 150, 130)
) -> Surface:
    """A UV sphere about the origin, cut along one meridian for its texture, wound outwards."""
    latitude = np.linspace(0.0, np.pi, rings + 1)
    longitude = np.linspace(0.0, 2.0 * np.pi, 2 * rings + 1)
    phi, theta = np.meshgrid(latitude, longitude, indexing="ij")
    around = np.stack([np.sin(phi) * np.sin(theta), np.cos(phi), np.sin(phi) * np.cos(theta)], axis=-1)
    around[:, -1] = around[:, 0]  # the two sides of the cut are the same points, to the last bit
    columns = 2 * rings + 1
    first = (np.arange(rings)[:, None] * columns + np.arange(2 * rings)[None, :]).ravel()
    quads = np.stack([first, first + columns, first + columns + 1, first + 1], axis=1)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    positions = (radius * around.reshape(-1, 3)).astype(np.float32)
    corners = positions[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    uvs = np.stack([theta.ravel() / (2.0 * np.pi), phi.ravel() / np.pi], axis=1).astype(np.float32)
    return Surface(
        positions=positions,
        triangles=np.ascontiguousarray(triangles[area > 1e-12], dtype=np.int32),
        uvs=uvs,
        texture=np.full((32, 32, 3), colour, np.uint8),
        gloss=np.full(len(positions), 0.3, np.float32),
    )


def joined(**parts: Surface) -> Surface:
    """Several surfaces as the named groups of one; the first one's texture serves all."""
    groups, start, offset, triangles = {}, 0, 0, []
    for name, part in parts.items():
        groups[name] = (start, start + len(part.triangles))
        triangles.append(part.triangles + np.int32(offset))
        start, offset = start + len(part.triangles), offset + len(part.positions)
    surfaces = list(parts.values())
    return Surface(
        positions=np.concatenate([part.positions for part in surfaces]),
        triangles=np.concatenate(triangles),
        uvs=np.concatenate([part.uvs for part in surfaces]),
        texture=surfaces[0].texture,
        gloss=np.concatenate([part.gloss for part in surfaces]),
        groups=groups,
    )


def moved(surface: Surface, by: tuple[float, float, float], stretch: tuple[float, float, float]) -> Surface:
    """The surface scaled by axis, then shifted."""
    positions = surface.positions * np.array(stretch, np.float32) + np.array(by, np.float32)
    return Surface(
        positions=positions.astype(np.float32),
        triangles=surface.triangles,
        uvs=surface.uvs,
        texture=surface.texture,
        gloss=surface.gloss,
        groups=surface.groups,
    )


def bust() -> Surface:
    """A head of ellipsoids with eyes, a nose and shoulders, in the head's units and place."""
    unit = sphere(rings=20, radius=1.0)
    small = sphere(rings=8, radius=1.0)
    return joined(
        skin=moved(unit, (0.0, -0.01, -0.04), (0.08, 0.115, 0.10)),
        nose=moved(small, (0.0, -0.03, 0.06), (0.012, 0.025, 0.02)),
        neck=moved(unit, (0.0, -0.15, -0.06), (0.05, 0.10, 0.05)),
        shoulders=moved(unit, (0.0, -0.26, -0.06), (0.20, 0.07, 0.09)),
        eyes=joined(
            left=moved(small, (0.0315, 0.0, 0.045), (0.013, 0.013, 0.013)),
            right=moved(small, (-0.0315, 0.0, 0.045), (0.013, 0.013, 0.013)),
        ),
    )
