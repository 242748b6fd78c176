"""A stand-in for FLAME with a real face: our own head in FLAME's layout, its expressions mixtures of our shapes."""

import functools

import numpy as np

from affetto.head.flame import FlameModel
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX

WHO = np.array([1.5, -1.0, 0.8, -1.2], np.float32)  # another face
SCALE, SHIFT = 1.04, np.array([0.0, 0.012, 0.03])  # another size and another origin than ours


@functools.cache
def flame_like() -> tuple[FlameModel, np.ndarray]:
    """The model and what each of its 100 expressions is in our weights (100, 52)."""
    head = HeadModel.load()
    surface = head.mesh.surface
    parts = [surface.triangles[slice(*surface.groups[name])] for name in ("skin", "eyes")]
    kept, triangles = np.unique(np.concatenate(parts), return_inverse=True)
    # Our seams double vertices, FLAME has none; but lips at rest touch, and what moves apart stays two points.
    jaw = head.mesh.deltas[ARKIT_INDEX["jawOpen"]][kept]
    key = np.concatenate([surface.positions[kept].round(6), jaw.round(5)], axis=1)
    _, first, merged = np.unique(key, axis=0, return_index=True, return_inverse=True)
    kept, triangles = kept[first], merged.ravel()[triangles.reshape(-1)].reshape(-1, 3).astype(np.int32)
    triangles = triangles[(triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2])
                          & (triangles[:, 0] != triangles[:, 2])]  # fmt: skip
    rest = head.identified(WHO)
    points = rest[kept] * SCALE + SHIFT
    weights = np.zeros((len(kept), 5), np.float32)
    opening = np.linalg.norm(head.mesh.deltas[ARKIT_INDEX["jawOpen"]][kept], axis=1)
    weights[:, 2] = np.clip(opening / (0.6 * opening.max()), 0.0, 1.0)
    for joint, own in zip((3, 4), head.mesh.eye_vertices, strict=True):
        ball = np.isin(kept, own)
        weights[ball], weights[ball, joint] = 0.0, 1.0
    weights[:, 1] = 1.0 - weights[:, 1:].sum(axis=1)
    rng = np.random.default_rng(5)
    known = np.array(
        [
            i
            for name, i in ARKIT_INDEX.items()
            if "Look" not in name and name not in ("tongueOut", "mouthClose")
        ]
    )
    mixes = np.zeros((100, 52), np.float32)
    for row in mixes:
        row[rng.choice(known, 3, replace=False)] = rng.uniform(0.1, 0.5, 3)
    modes = np.einsum("ks,svx->vxk", mixes, head.mesh.deltas[:, kept]) * SCALE
    regressor = np.zeros((5, len(kept)), np.float32)
    for joint in range(5):
        target = {2: (0.0, -0.035, -0.075), 3: head.mesh.eye_centres[0], 4: head.mesh.eye_centres[1]}.get(
            joint, (0.0, -0.1, -0.08)
        )
        regressor[joint] = _means_at(points, np.asarray(target) * SCALE + SHIFT)
    model = FlameModel(
        v_template=points.astype(np.float32), f=np.ascontiguousarray(triangles),
        shapedirs=np.concatenate([np.zeros((len(kept), 3, 300), np.float32), modes.astype(np.float32)], axis=2),
        posedirs=np.zeros((len(kept), 3, 36), np.float32), J_regressor=regressor, weights=weights,
        parents=np.array([-1, 0, 1, 1, 1], np.int32),
    )  # fmt: skip
    return model, mixes


def _means_at(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights of vertices, summing to one, whose mean is `target`."""
    near = np.argsort(np.linalg.norm(points - target, axis=1))[:400]
    system = np.concatenate([points[near].T, np.ones((1, 400))])
    row = np.zeros(len(points), np.float32)
    row[near] = np.linalg.lstsq(system, np.append(target, 1.0), rcond=None)[0]
    return row
