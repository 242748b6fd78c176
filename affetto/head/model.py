"""The head that speaks: 52 ARKit expressions, correctives, identities and rotating eyes, in numpy alone."""

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int
from PIL import Image

from affetto.head.rotation import euler_matrix
from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX
from affetto.media.mesh import AnimatedMesh, Surface
from affetto.runtime.errors import UsageError
from affetto.weights.store import load_arrays, read_arrays

LOOK_DEGREES: Mapping[str, float] = {"In": 27.0, "Out": 27.0, "Up": 22.0, "Down": 27.0}
"""How far the eyeball turns when an eyeLook weight is 1."""

_JAW, _CLOSE = ARKIT_INDEX["jawOpen"], ARKIT_INDEX["mouthClose"]


@dataclass(frozen=True, kw_only=True)
class HeadModel:
    """A head at rest with everything that moves it. Metres; origin midway between the eyes; +X the subject's left.

    `correctives[c]` is added with the product of the two weights that `corrective_pairs[c]` names. `identity[k]` is one
    standard deviation of the k-th shape mode. `head_weights` is 1 on the head and 0 on the shoulders, for `turned`.
    """

    mesh: AnimatedMesh
    identity: Float32[np.ndarray, "mode vertex 3"]
    correctives: Float32[np.ndarray, "corrective vertex 3"]
    corrective_pairs: Int[np.ndarray, "corrective 2"]
    head_weights: Float32[np.ndarray, "vertex"]
    lips: tuple[Int[np.ndarray, "upper"], Int[np.ndarray, "lower"]]
    landmark_vertices: Mapping[str, int]
    lid_edges: Int[np.ndarray, "2 lid"]
    mirror: Int[np.ndarray, "vertex"]
    ipd: float = 0.063
    meta: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path | None = None) -> "HeadModel":
        """The embedded head, or the one in a safetensors file written by `affetto train head`."""
        arrays, metadata = load_arrays("head") if path is None else read_arrays(path)
        return _unpacked(arrays, metadata)

    @property
    def head_pivot(self) -> Float[np.ndarray, "3"]:
        """Where the head turns: between the ears' lower edges, at the top of the neck."""
        return self.mesh.head_pivot

    @property
    def landmarks(self) -> Mapping[str, Float32[np.ndarray, "3"]]:
        """Named points of the face at rest."""
        return {name: self.mesh.surface.positions[index] for name, index in self.landmark_vertices.items()}

    def deform(
        self,
        weights: Float[np.ndarray, "*frame shape"],
        *,
        identity: Float[np.ndarray, "mode"] | None = None,
        eyes: Float[np.ndarray, "*gaze 2 2"] | None = None,
    ) -> Float32[np.ndarray, "frame vertex 3"]:
        """Vertices of every frame (one frame for a plain vector of weights): shapes, correctives, eyeballs; head still.

        `eyes` holds (left, right) x (yaw, pitch) in radians as in `FaceCurves`; without it the eyeballs follow the
        eyeLook weights. mouthClose counts only up to jawOpen, see `effective`. `identity` may be shorter than the
        number of modes.
        """
        rows = np.atleast_2d(np.asarray(weights, np.float32))
        if rows.shape[-1] != len(ARKIT_52):
            raise UsageError(f"weights need {len(ARKIT_52)} values a frame, got {rows.shape[-1]}")
        gaze = gaze_angles(rows) if eyes is None else np.asarray(eyes, np.float32).reshape(-1, 2, 2)
        if len(gaze) != len(rows):
            raise UsageError(f"eyes have {len(gaze)} frames, but weights {len(rows)}")
        base = self.identified(identity)
        everything = self._amounts(rows)
        active = np.flatnonzero(np.abs(everything).max(axis=0, initial=0) > 0)
        shapes = len(ARKIT_52)
        total = base.size
        moved = np.tile(base.reshape(1, total), (len(rows), 1))
        plain, paired = active[active < shapes], active[active >= shapes] - shapes
        if len(plain):
            moved += everything[:, plain] @ self.mesh.deltas.reshape(shapes, total)[plain]
        if len(paired):
            moved += (
                everything[:, shapes + paired]
                @ self.correctives.reshape(len(self.correctives), total)[paired]
            )
        result = moved.reshape(len(rows), -1, 3)
        self._turn_eyes(result, base, gaze)
        return result

    def identified(self, identity: Float[np.ndarray, "mode"] | None) -> Float32[np.ndarray, "vertex 3"]:
        """The head at rest with identity coefficients, in standard deviations."""
        positions = self.mesh.surface.positions
        if identity is None:
            return positions
        if len(identity) > len(self.identity):
            raise UsageError(
                f"the head has {len(self.identity)} identity modes, got {len(identity)} coefficients"
            )
        return positions + np.tensordot(
            np.asarray(identity, np.float32), self.identity[: len(identity)], axes=1
        )

    def with_identity(self, identity: Float[np.ndarray, "mode"]) -> "HeadModel":
        """Another person: this head with its rest shape changed for good."""
        mesh = self.mesh
        positions = self.identified(identity)
        moved = positions - mesh.surface.positions
        centres = mesh.eye_centres + np.stack([moved[eye].mean(axis=0) for eye in mesh.eye_vertices])
        surface = dataclasses.replace(mesh.surface, positions=positions)
        return dataclasses.replace(self, mesh=dataclasses.replace(mesh, surface=surface, eye_centres=centres))

    def effective(self, weights: Float[np.ndarray, "frame 52"]) -> Float32[np.ndarray, "frame 52"]:
        """Weights as `deform` uses them: mouthClose never above jawOpen, since it only undoes the jaw's opening."""
        rows = np.array(weights, np.float32)
        rows[:, _CLOSE] = np.minimum(rows[:, _CLOSE], np.maximum(rows[:, _JAW], 0))
        return rows

    def lip_gap(self, weights: Float[np.ndarray, "frame 52"]) -> Float32[np.ndarray, "frame"]:
        """The opening between the lips at the middle of the mouth, as a fraction of `ipd`; 0 is closed."""
        upper, lower = self.lips
        deltas = np.concatenate([self.mesh.deltas, self.correctives])
        per_weight = (deltas[:, upper, 1].mean(axis=1) - deltas[:, lower, 1].mean(axis=1)) / self.ipd
        amounts = self._amounts(np.atleast_2d(np.asarray(weights, np.float32)))
        return np.maximum(amounts @ per_weight, 0).astype(np.float32)

    def turned(
        self, vertices: Float32[np.ndarray, "frame vertex 3"], head: Float[np.ndarray, "frame 3"]
    ) -> Float32[np.ndarray, "frame vertex 3"]:
        """The head turned by (yaw, pitch, roll) radians about its pivot while the shoulders stay and the neck follows."""
        result = np.array(vertices, np.float32)
        index = np.flatnonzero(self.head_weights > 0)
        share = self.head_weights[index]
        whole = share >= 1
        for frame, angles in zip(result, np.asarray(head, np.float32), strict=True):
            away = frame[index] - self.head_pivot.astype(np.float32)
            turned = away @ euler_matrix(angles).T
            bent = ~whole
            if bent.any():  # the neck turns by a part of the angles, so that it bends instead of shearing
                turned[bent] = _partly_turned(away[bent], share[bent], angles)
            frame[index] = turned + self.head_pivot.astype(np.float32)
        return result

    def _amounts(self, rows: np.ndarray) -> np.ndarray:
        rows = self.effective(rows)
        first, second = self.corrective_pairs.T
        both = np.clip(rows[:, first], 0, None) * np.clip(rows[:, second], 0, None)
        return np.concatenate([rows, both], axis=1)

    def _turn_eyes(self, frames: np.ndarray, base: np.ndarray, gaze: np.ndarray) -> None:
        rest = self.mesh.surface.positions
        for side, index in enumerate(self.mesh.eye_vertices):
            centre = self.mesh.eye_centres[side].astype(np.float32) + (base[index] - rest[index]).mean(axis=0)
            away = base[index] - centre
            turns = euler_matrix(np.pad(gaze[:, side], ((0, 0), (0, 1)))).astype(np.float32)
            frames[:, index] = np.einsum("vk,fjk->fvj", away, turns) + centre


def gaze_angles(weights: Float[np.ndarray, "frame 52"]) -> Float32[np.ndarray, "frame 2 2"]:
    """(left, right) x (yaw, pitch) in radians that the eyeLook weights stand for; +yaw to the subject's left, +pitch down."""
    angles = np.zeros((len(weights), 2, 2), np.float32)
    for side, (name, sign) in enumerate((("Left", 1.0), ("Right", -1.0))):
        look = {
            way: weights[:, ARKIT_INDEX[f"eyeLook{way}{name}"]] * np.radians(LOOK_DEGREES[way])
            for way in LOOK_DEGREES
        }
        angles[:, side, 0] = sign * (look["Out"] - look["In"])
        angles[:, side, 1] = look["Down"] - look["Up"]
    return angles


def _partly_turned(
    away: Float32[np.ndarray, "vertex 3"], share: Float32[np.ndarray, "vertex"], angles: np.ndarray
) -> Float32[np.ndarray, "vertex 3"]:
    """Points turned by `share` of yaw, pitch and roll each."""
    yaw, pitch, roll = (share * angle for angle in angles)
    x, y, z = away.T
    x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    y, z = y * np.cos(pitch) - z * np.sin(pitch), y * np.sin(pitch) + z * np.cos(pitch)
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    return np.stack([x, y, z], axis=1).astype(np.float32)


def _unpacked(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> HeadModel:
    positions = arrays["positions"]
    layout = json.loads(metadata["layout"])
    picture = np.asarray(Image.open(io.BytesIO(arrays["texture"].tobytes())).convert("RGB"))
    surface = Surface(
        positions=positions,
        triangles=arrays["triangles"].astype(np.int32),
        uvs=arrays["uvs"],
        texture=picture,
        gloss=arrays["gloss"].astype(np.float32) / 255,
        groups={name: (int(span[0]), int(span[1])) for name, span in layout["groups"].items()},
    )
    fields = _sparse_fields(arrays, len(positions))
    start, stop = layout["ranges"]["eyes"]
    middle = (start + stop) // 2
    mesh = AnimatedMesh(
        surface=surface,
        names=ARKIT_52,
        deltas=fields[: len(ARKIT_52)],
        eye_centres=np.array(layout["eye_centres"]),
        eye_vertices=(np.arange(start, middle), np.arange(middle, stop)),
        head_pivot=np.array(layout["head_pivot"]),
        head_weights=arrays["head_weights"].astype(np.float32) / 255,
        correctives=fields[len(ARKIT_52) :],
        corrective_pairs=arrays["corrective_pairs"].astype(np.int64),
    )
    identity = arrays["identity"].astype(np.float32) * arrays["identity_scale"][:, None, None]
    return HeadModel(
        mesh=mesh,
        identity=identity,
        correctives=fields[len(ARKIT_52) :],
        corrective_pairs=arrays["corrective_pairs"].astype(np.int64),
        head_weights=arrays["head_weights"].astype(np.float32) / 255,
        lips=(np.array(layout["upper_lip"]), np.array(layout["lower_lip"])),
        landmark_vertices=layout["landmarks"],
        lid_edges=np.array(layout["lid_edges"]),
        mirror=arrays["mirror"].astype(np.int64),
        meta={key: value for key, value in metadata.items() if key != "layout"},
    )


def _sparse_fields(arrays: Mapping[str, np.ndarray], vertices: int) -> Float32[np.ndarray, "shape vertex 3"]:
    """Displacement fields from their moved vertices and 16-bit values."""
    counts, scale = arrays["field_counts"], arrays["field_scale"]
    fields = np.zeros((len(counts), vertices, 3), np.float32)
    stops = np.cumsum(counts)
    for field_, count, stop, factor in zip(fields, counts, stops, scale, strict=True):
        span = slice(stop - count, stop)
        field_[arrays["field_vertices"][span].view(np.uint16)] = arrays["field_values"][span] * factor
    return fields
