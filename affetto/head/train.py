"""The recipe behind `affetto train head`: fit our topology to the reference basis, paint it, pack it, report the fit."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.spatial import KDTree

from affetto.head.assemble import METRES, ORIGIN, Assembly, assemble
from affetto.head.fit import FitError, measure_fit
from affetto.head.reference import EYE_CENTRE, Reference, load_reference
from affetto.head.shapes import correctives, expression_fields, identity_modes, pair_index
from affetto.head.texture import paint
from affetto.runtime.files import atomic_path
from affetto.weights.store import save_tensors

TEXTURE_SIZE = 1024
HEAD_PIVOT = np.array([0.0, -1.2, -0.6])  # reference units: the joint of skull and neck
_LANDMARKS = {
    "chin": 8, "nose_tip": 30, "nose_base": 33, "brow_inner_left": 22, "brow_middle_left": 24, "brow_outer_left": 26,
    "brow_inner_right": 21, "brow_middle_right": 19, "brow_outer_right": 17, "eye_outer_right": 36,
    "eye_inner_right": 39, "eye_inner_left": 42, "eye_outer_left": 45, "mouth_corner_right": 48,
    "mouth_corner_left": 54, "upper_lip": 51, "lower_lip": 57, "inner_upper_lip": 62, "inner_lower_lip": 66,
    "ala_right": 31, "ala_left": 35, "jaw_right": 4, "jaw_left": 12,
}  # fmt: skip


def train_head(data: Path, output: Path, *, seed: int = 0, scale: float = 1.0) -> dict[str, FitError]:
    """Write `output` (safetensors) and its model card beside it; the returned errors are those in the card.

    `data` is `ict_face_basis.npz` or the folder that holds it. `scale` > 1 makes a coarser mesh.
    """
    path = data / "ict_face_basis.npz" if data.is_dir() else data
    reference = load_reference(path)
    assembly = assemble(reference, np.random.default_rng(seed), scale)
    fields = expression_fields(assembly, reference)
    pairs = correctives(assembly, fields)
    identities = identity_modes(assembly, reference)
    texture = paint(assembly, reference, TEXTURE_SIZE, np.random.default_rng(seed + 1))
    tensors = _packed_fields([*fields.values(), *(pair.field for pair in pairs)])
    tensors |= _packed_identity(identities)
    tensors |= {
        "positions": ((assembly.positions - ORIGIN) * METRES).astype(np.float32),
        "triangles": assembly.triangles.astype(np.int32),
        "uvs": assembly.uvs.astype(np.float32),
        "gloss": np.rint(assembly.gloss * 255).astype(np.uint8),
        "mirror": assembly.mirror.astype(np.int32),
        "head_weights": np.rint(255 * _head_weights(assembly)).astype(np.uint8),
        "corrective_pairs": np.array([pair_index(pair) for pair in pairs], np.int32).reshape(-1, 2),
        "texture": _encoded(texture),
    }
    errors = measure_fit(assembly, reference, fields)
    metadata = {
        "format": "affetto-head-1",
        "licence": "Apache-2.0 AND MIT",
        "layout": _layout(assembly, reference),
    }
    save_tensors(output, tensors, metadata)
    with atomic_path(output.with_suffix(".md")) as temporary:
        temporary.write_text(model_card(assembly, errors, output.stat().st_size), encoding="utf-8")
    return errors


def _packed_fields(fields: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Only vertices that move by more than 5 micrometres, as 16-bit multiples of each field's own step."""
    vertices, values, counts, scales = [], [], [], []
    for field in fields:
        metres = field * METRES
        moved = np.flatnonzero(np.abs(metres).max(axis=1) > 5e-6)
        scale = max(float(np.abs(metres).max()), 1e-9) / 32_000
        vertices.append(moved)
        values.append(np.rint(metres[moved] / scale))
        counts.append(len(moved))
        scales.append(scale)
    return {
        "field_vertices": np.concatenate(vertices).astype(np.uint16).view(np.int16),
        "field_values": np.concatenate(values).astype(np.int16),
        "field_counts": np.array(counts, np.int32),
        "field_scale": np.array(scales, np.float32),
    }


def _packed_identity(modes: Float[np.ndarray, "i v 3"]) -> dict[str, np.ndarray]:
    scale = np.abs(modes).max(axis=(1, 2)) * METRES / 127
    return {
        "identity": np.rint(modes * METRES / scale[:, None, None]).astype(np.int8),
        "identity_scale": scale.astype(np.float32),
    }


def _head_weights(assembly: Assembly) -> Float[np.ndarray, "v"]:
    """1 on the head, falling to 0 down the neck, so that nothing moves under the collar or below."""
    _, y, z = assembly.positions.T
    down = y + 0.35 * (z - 2.0)  # the neck leans: its nape is higher than its throat
    clothes = slice(*assembly.ranges["clothes"])
    still = down[clothes].max()
    share = np.clip((down - still) / (-6.0 - still), 0, 1)
    share = share * share * (3 - 2 * share)
    share[assembly.ranges["eyes"][0] :] = 1.0
    share[(y > -6.5) & (z > 4)] = 1.0
    share[clothes] = 0.0
    return share


def _encoded(texture: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(texture).save(buffer, "PNG", optimize=True)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _layout(assembly: Assembly, reference: Reference) -> str:
    skin = assembly.positions[: assembly.ranges["skin"][1]]
    tree = KDTree(skin)
    upper, lower = _lip_vertices(assembly)
    landmarks = {name: int(tree.query(reference.landmarks[index])[1]) for name, index in _LANDMARKS.items()}
    centre = (EYE_CENTRE - ORIGIN) * METRES
    return json.dumps(
        {
            "groups": assembly.groups,
            "ranges": assembly.ranges,
            "eye_centres": [centre.tolist(), (centre * [-1, 1, 1]).tolist()],
            "head_pivot": ((HEAD_PIVOT - ORIGIN) * METRES).tolist(),
            "upper_lip": upper.tolist(),
            "lower_lip": lower.tolist(),
            "landmarks": landmarks,
            "lid_edges": assembly.lid_edges.tolist(),
        },
        sort_keys=True,
    )


def _lip_vertices(assembly: Assembly) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of both lips along the line where they meet, near the middle of the mouth, on both sides."""
    edge = assembly.lip_edge
    corner = int(assembly.positions[edge, 0].argmax())
    middle = assembly.positions[edge, 0] < 0.6
    before = np.arange(len(edge)) < corner
    upper, lower = edge[middle & before], edge[middle & ~before]
    return np.union1d(upper, assembly.mirror[upper]), np.union1d(lower, assembly.mirror[lower])


def model_card(assembly: Assembly, errors: Mapping[str, FitError], size: int) -> str:
    """The model card: what it is, what it was fitted to, and the fit of every expression."""
    rows = "\n".join(f"| {name} | {e.mean:.3f} | {e.p95:.3f} | {e.max:.2f} |" for name, e in errors.items())
    expressions = [error for name, error in errors.items() if name != "neutral"]
    mean = sum(error.mean for error in expressions) / len(expressions)
    worst = max(error.max for error in expressions)
    return CARD.format(
        vertices=len(assembly.positions),
        triangles=len(assembly.triangles),
        size=size / 2**20,
        mean=mean,
        worst=worst,
        rows=rows,
    )


CARD = """# head: the talking head of affetto

A head and shoulders of our own topology: {vertices} vertices, {triangles} triangles, one 1024 px painted texture,
48 identity modes, the 52 ARKit expressions, correctives, rotating eyeballs; {size:.1f} MiB.

- **Made by** `affetto train head` (affetto/head/train.py, seed 0): points laid out anew on the reference surface with
  loops at lips and lids, relaxed to a wanted spacing and triangulated; eyes, lashes, teeth, gums, tongue and hair are
  modelled by formula; the texture is painted by formula. No photograph, scan or person went in.
- **Fitted to** the neutral face, 53 expression and 100 identity fields of ICT-FaceKit (light), MIT licence,
  (c) 2020 USC Institute for Creative Technologies. The reference's arrays and topology are not in this file. Its MIT
  notice: permission is granted, free of charge, to any person obtaining a copy of the software and associated
  documentation files to deal in it without restriction, provided that this copyright and permission notice is
  included; it is provided "as is", without warranty of any kind.
- **Changed on purpose**: lips closed at rest and under mouthClose + jawOpen, a faint smile at rest, eyeLookDown's lid
  at 62 %, blinks that close fully; these were applied to the reference before fitting, so the figures below are
  against those targets. tongueOut, eyeball rotation, lashes and correctives are ours.
- **Use**: commercial use allowed. **Limits**: one skin tone and hair style; wrinkles only as far as the reference has
  them; teeth never touch the lips by simulation.

Fit, printed by `affetto train head`: mean over expressions {mean:.3f} %, worst vertex {worst:.2f} % of the inter-pupil
distance, over the reference's face, neck and mouth cavity as far as hair and clothes leave them visible.

| shape | mean % | 95th percentile % | max % |
|---|---|---|---|
{rows}
"""
