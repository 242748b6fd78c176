"""A tiny head for file tests: a ball with two eyeballs and 52 morph targets."""

import numpy as np
import pytest

from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.media.mesh import AnimatedMesh, Surface


def ball(rings: int, sectors: int, radius: float, centre: tuple[float, float, float]):
    """Vertices, outward triangles and texture coordinates of a UV sphere."""
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sectors + 1), indexing="ij"
    )
    points = np.stack(
        [np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)], axis=-1
    )
    uvs = np.stack([around / (2 * np.pi), polar / np.pi], axis=-1).reshape(-1, 2)
    triangles = []
    for ring in range(rings):
        for sector in range(sectors):
            a, b = ring * (sectors + 1) + sector, (ring + 1) * (sectors + 1) + sector
            triangles += [(a, b, b + 1)] * (ring < rings - 1) + [(a, b + 1, a + 1)] * (ring > 0)
    return points.reshape(-1, 3) * radius + centre, np.array(triangles), uvs


@pytest.fixture(scope="session")
def small_head() -> AnimatedMesh:
    """A ball of 10 cm with eyeballs at +-3 cm; each target lifts its own patch by up to 5 mm."""
    centres = np.array([[0.03, 0.0, 0.0], [-0.03, 0.0, 0.0]])
    balls = [ball(16, 24, 0.1, (0, -0.03, -0.08)), *(ball(6, 8, 0.012, tuple(centre)) for centre in centres)]
    starts = np.cumsum([0] + [len(points) for points, _, _ in balls])
    positions = np.concatenate([points for points, _, _ in balls]).astype(np.float32)
    triangles = np.concatenate(
        [corners + start for (_, corners, _), start in zip(balls, starts, strict=False)]
    )
    rng = np.random.default_rng(1)
    deltas = np.zeros((52, len(positions), 3), np.float32)
    face = slice(0, starts[1])
    for shape in range(52):
        patch = np.exp(-((positions[face] - positions[rng.integers(starts[1])]) ** 2).sum(axis=1) / 0.03**2)
        deltas[shape, face] = 0.005 * np.where(patch > 0.01, patch, 0)[:, None] * rng.normal(size=3)
    texture = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
    surface = Surface(
        positions=positions,
        triangles=triangles.astype(np.int32),
        uvs=np.concatenate([uvs for _, _, uvs in balls]).astype(np.float32),
        texture=texture,
        gloss=np.full(len(positions), 0.2, np.float32),
    )
    return AnimatedMesh(
        surface=surface,
        names=ARKIT_52,
        deltas=deltas,
        eye_centres=centres,
        eye_vertices=(np.arange(starts[1], starts[2]), np.arange(starts[2], starts[3])),
        head_pivot=np.array([0.0, -0.08, -0.09]),
        head_weights=np.clip((positions[:, 1] + 0.12) / 0.05, 0, 1).astype(np.float32),
    )


@pytest.fixture(scope="session")
def performance() -> FaceCurves:
    """75 frames at 25 per second with every channel in motion."""
    rng = np.random.default_rng(2)
    return FaceCurves(
        fps=25.0,
        weights=rng.uniform(0, 1, (75, 52)).astype(np.float32),
        head=rng.normal(0, 0.1, (75, 3)).astype(np.float32),
        eyes=rng.normal(0, 0.1, (75, 2, 2)).astype(np.float32),
        meta={"seed": 7, "emotion": [{"t": 0.0, "label": "happy"}]},
    )
