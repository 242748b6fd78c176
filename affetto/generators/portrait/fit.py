"""Our head laid over the face in a picture: pose, identity and expression from 68 points."""

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.optimize import lsq_linear

from affetto.generators.portrait.camera import Camera
from affetto.generators.portrait.contour import CURVES, JawContour, across, tangents
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.head.landmarks68 import VERTICES_68
from affetto.head.model import HeadModel
from affetto.head.rotation import euler_matrix, vector_matrix
from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX
from affetto.runtime.errors import InvalidInputError

ITERATIONS = 9
MIN_EYE_DISTANCE = 8.0  # pixels
_DISTANCE = 1.0  # metres to the camera: what a portrait is usually taken from
_UNSEEN = ("eyeLook", "tongueOut", "mouthClose", "cheekPuff", "jawForward")  # 68 points tell nothing of these
_MOVING = np.array([not name.startswith(_UNSEEN) for name in ARKIT_52])
_PASSING = ("jawOpen", "mouthSmile", "mouthDimple", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthFunnel",
            "mouthPucker", "browInnerUp", "browOuterUp", "cheekSquint", "mouthLeft", "mouthRight")  # fmt: skip
PASSING = np.array([name.startswith(_PASSING) for name in ARKIT_52])
"""What a photograph's expression may be freed of. The rest (thin or pressed lips, low corners, heavy lids) is the person
at rest as far as one picture tells."""

_GAIN = 2.0  # how much more points count than the priors
EXPRESSIONS = np.flatnonzero(_MOVING)
_SIGMA_BY_START = {"brow": 0.12, "eyeWide": 0.25, "eyeSquint": 0.3, "eyeBlink": 0.4, "noseSneer": 0.15, "cheek": 0.25,
                   "mouthShrug": 0.2, "jawL": 0.06, "jawR": 0.06, "mouthLeft": 0.06, "mouthRight": 0.06, "mouthFrown": 0.3,
                   "mouthPress": 0.3, "mouthRoll": 0.3}  # fmt: skip
_SIGMAS = np.array(
    [
        next((s for start, s in _SIGMA_BY_START.items() if ARKIT_52[i].startswith(start)), 0.6)
        for i in EXPRESSIONS
    ]
)
_ALONG_JAW, _ALONG_BROW = 0.15, 0.4  # weight of sliding along outlines, against 1 across them
_FLOOR = 0.006  # of the eyes' distance: what no mark is better than


@dataclass(frozen=True, kw_only=True)
class FaceFit:
    """Where a face of the picture is and how it looks: `camera` and pose, who it is, what expression it has.

    A head vertex x (metres) lies at `rotation @ x + translation` before the camera. `identity` are standard deviations,
    `weights` the 52 blend shapes of the source's own expression, which the renderer takes off. `offsets` (68, 3) are what
    is still missing between head and landmarks, in the head's frame (metres). `rms` is the error before them, in pixels.
    """

    camera: Camera
    rotation: Float32[np.ndarray, "3 3"]
    translation: Float32[np.ndarray, "3"]
    identity: Float32[np.ndarray, "mode"]
    weights: Float32[np.ndarray, "52"]
    offsets: Float32[np.ndarray, "68 3"]
    points: Float32[np.ndarray, "68 2"]
    rms: float

    def scaled(self, factor: float) -> "FaceFit":
        """The same fit for the picture resized by `factor`."""
        return dataclasses.replace(
            self,
            camera=self.camera.scaled(factor),
            points=self.points * np.float32(factor),
            rms=self.rms * factor,
        )

    def shifted(self, left: int, top: int) -> "FaceFit":
        """The same fit for the part of the picture that begins `left` and `top` pixels in."""
        moved = self.points - np.array([left, top], np.float32)
        return dataclasses.replace(self, camera=self.camera.shifted(left, top), points=moved)

    def before_camera(
        self, vertices: Float[np.ndarray, "*frame vertex 3"]
    ) -> Float32[np.ndarray, "*frame vertex 3"]:
        """Vertices of the head in the camera's frame: +X right, +Y up, the camera at the origin looking along -Z."""
        return (vertices @ self.rotation.T + self.translation).astype(np.float32)

    def project(
        self, vertices: Float[np.ndarray, "*frame vertex 3"]
    ) -> Float32[np.ndarray, "*frame vertex 2"]:
        """Pixels (x right, y down) at which vertices of the head are seen."""
        return self.camera.project(self.before_camera(vertices))

    @property
    def pixels_per_metre(self) -> float:
        """The scale of the picture at the face."""
        return self.camera.focal / -float(self.translation[2])


class PointModel:
    """The 68 points of our head as a function of pose, identity and expression, with derivatives."""

    def __init__(self, head: HeadModel) -> None:
        self.head = head
        self.contour = JawContour(head)
        self.vertices = np.concatenate([VERTICES_68, self.contour.candidates])
        mesh = head.mesh
        self.rest = mesh.surface.positions[self.vertices].astype(np.float64)
        self.identity = head.identity[:, self.vertices].astype(np.float64)
        self.deltas = mesh.deltas[:, self.vertices].astype(np.float64)
        self.correctives = head.correctives[:, self.vertices].astype(np.float64)

    def shape(self, identity: np.ndarray, weights: np.ndarray) -> Float[np.ndarray, "point 3"]:
        """The points (68, then the candidates of the jaw's outline) in the head's frame, with correctives."""
        first, second = self.head.corrective_pairs.T
        both = np.clip(weights[first], 0, None) * np.clip(weights[second], 0, None)
        moved = np.tensordot(weights, self.deltas, 1) + np.tensordot(both, self.correctives, 1)
        return self.rest + np.tensordot(identity, self.identity, 1) + moved

    def keeping(self, fit: "FaceFit", rest: Float[np.ndarray, "point 3"]) -> "PointModel":
        """The points of one person: `rest` is their face without expression, `fit`'s identity included."""
        other = copy.copy(self)
        other.rest = rest - np.tensordot(fit.identity, self.identity, 1)
        return other

    def rows(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Identity modes and movable expressions of the chosen points."""
        return self.identity[:, chosen], self.deltas[EXPRESSIONS][:, chosen]


@dataclass(frozen=True, kw_only=True)
class Habit:
    """What is expected before points are seen: usual `weights` and their deviations, how much halves differ (`skew`).

    `distance` is metres from the camera. With `anyone` the identity is looked for too.
    """

    weights: Float[np.ndarray, "52"]
    sigmas: Float[np.ndarray, "expression"]
    skew: float = 0.15
    distance: float = _DISTANCE
    anyone: bool = True


PORTRAIT = Habit(weights=np.zeros(len(ARKIT_52)), sigmas=_SIGMAS)
"""Of a face that nothing is known of, in a photograph: rather at rest above the mouth."""


def fit_face(
    landmarks: FaceLandmarks, head: HeadModel, image_size: tuple[int, int], *, model: PointModel | None = None
) -> FaceFit:
    """The head that explains the landmarks of a picture of `image_size` (width, height).

    Gauss-Newton with bounded expressions: points count by their variance and less when they do not agree with the
    rest, the jaw slides along its outline, identities are normally distributed, faces rather symmetric. Raises
    InvalidInputError when the face is too small or the points do not make a face.
    """
    model = model or PointModel(head)
    points = landmarks.points.astype(np.float64)
    unit = landmarks.eye_distance
    if not np.isfinite(points).all() or unit < MIN_EYE_DISTANCE:
        raise InvalidInputError(
            f"the face is too small: {unit:.0f} pixels between the eyes' corners, {MIN_EYE_DISTANCE:.0f} are needed"
        )
    width, height = image_size
    if (points.max(axis=0) < 0).any() or (points.min(axis=0) > [width, height]).any():
        raise InvalidInputError(f"the face's points lie outside the picture of {width}x{height} pixels")
    sigma = np.sqrt(np.asarray(landmarks.variance, np.float64) + (_FLOOR * unit) ** 2)
    state = _start(points, model, landmarks.pose)
    for _ in range(ITERATIONS):
        state = step_towards(state, points, sigma, model, PORTRAIT)
    return _finished(state, points, model, head)


@dataclass(frozen=True, kw_only=True)
class FitState:
    """What is looked for, while it is looked for."""

    camera: Camera
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    identity: Float[np.ndarray, "mode"]
    weights: Float[np.ndarray, "52"]

    def seen(self, shape: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 2"]:
        """Pixels of points of the head."""
        return self.camera.project(shape @ self.rotation.T + self.translation)


def _start(points: np.ndarray, model: PointModel, pose: tuple[float, float, float]) -> FitState:
    """The mean head, turned by the coarse pose and laid over the points by scale and shift."""
    rotation = euler_matrix(np.array(pose, np.float64))
    flat = (model.rest[:68] @ rotation.T)[17:, :2] * [1, -1]
    seen = points[17:]
    away, ours = seen - seen.mean(axis=0), flat - flat.mean(axis=0)
    turn = np.arctan2((ours[:, 0] * away[:, 1] - ours[:, 1] * away[:, 0]).sum(), (ours * away).sum())
    scale = np.linalg.norm(away) / np.linalg.norm(ours)
    if not pose[2]:
        rotation = vector_matrix(np.array([0.0, 0.0, -turn])) @ rotation
    camera = Camera(
        focal=float(scale * _DISTANCE), centre=(float(seen[:, 0].mean()), float(seen[:, 1].mean()))
    )
    middle = (model.rest[17:68] @ rotation.T).mean(axis=0)
    return FitState(
        camera=camera,
        rotation=rotation,
        translation=np.array([-middle[0], -middle[1], -_DISTANCE - middle[2]]),
        identity=np.zeros(len(model.identity)),
        weights=np.zeros(len(ARKIT_52)),
    )


def step_towards(
    state: FitState,
    points: Float[np.ndarray, "68 2"],
    sigma: Float[np.ndarray, "68 2"],
    model: PointModel,
    habit: Habit,
) -> FitState:
    """One Gauss-Newton step towards `points` (pixels, with standard deviations) from what `habit` expects."""
    who = habit.anyone
    shape = model.shape(state.identity, state.weights)
    everywhere = state.seen(shape)
    chosen = model.contour.choose(everywhere, points)
    placed = shape[chosen]
    before = placed @ state.rotation.T + state.translation
    slope = state.camera.slope(before)  # (68, 2, 3)
    identities, expressions = model.rows(chosen)
    turned = np.cross(
        np.eye(3)[:, None], (placed @ state.rotation.T)[None]
    )  # the points' motion for each rotation
    moves = [turned, np.broadcast_to(np.eye(3)[:, None], (3, len(placed), 3))]
    if who:
        moves.append(identities @ state.rotation.T)
    moves.append(expressions @ state.rotation.T)
    jacobian = np.einsum("pij,kpj->pik", slope, np.concatenate(moves))
    error = points - state.camera.project(before)
    whitened, jacobian = _weighted(error, jacobian, sigma, points)
    prior, wanted = _prior(state, habit)
    low, high = _bounds(state, who=who)
    system = np.concatenate([jacobian.reshape(-1, jacobian.shape[-1]), prior])
    target = np.concatenate([whitened.ravel(), wanted])
    step = lsq_linear(system, target, bounds=(low, high), method="bvls", max_iter=60).x
    modes = len(state.identity) if who else 0
    weights = state.weights.copy()
    weights[EXPRESSIONS] += step[6 + modes :]
    return dataclasses.replace(
        state,
        rotation=vector_matrix(step[:3]) @ state.rotation,
        translation=state.translation + step[3:6],
        identity=state.identity + step[6 : 6 + modes] if who else state.identity,
        weights=np.clip(weights, 0, 1),
    )


def _weighted(
    error: np.ndarray, jacobian: np.ndarray, sigma: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and derivatives in standard deviations, outliers damped; the jaw's turned into across and along."""
    scaled = error / sigma
    trust = 1.0 / np.sqrt(
        1.0 + (scaled**2).sum(axis=1) / 18.0
    )  # Cauchy's, three deviations wide on each axis
    frame = np.broadcast_to(np.eye(2), (len(points), 2, 2)).copy()
    for curve, slack in zip(CURVES, (_ALONG_JAW, _ALONG_BROW, _ALONG_BROW), strict=True):
        along = tangents(points[curve])
        frame[curve, 0] = np.stack([-along[:, 1], along[:, 0]], axis=1)
        frame[curve, 1] = slack * along
    scale = (_GAIN * trust[:, None] / sigma)[..., None]
    error = np.einsum("pij,pj->pi", frame, error * scale[..., 0])
    return error, np.einsum("pij,pjk->pik", frame, jacobian * scale)


def _prior(state: FitState, habit: Habit) -> tuple[np.ndarray, np.ndarray]:
    """Rows that pull identity and expression towards the mean and both halves of the face towards each other."""
    modes, count = (len(state.identity) if habit.anyone else 0), len(EXPRESSIONS)
    total = 6 + modes + count
    now = state.weights[EXPRESSIONS]
    rows, wanted = [np.zeros((1, total))], [np.array([-(state.translation[2] + habit.distance) / 0.2])]
    rows[0][0, 5] = 1.0 / 0.2
    if habit.anyone:
        rows.append(np.eye(modes, total, 6))
        wanted.append(-state.identity)
    strength = 1.0 / habit.sigmas
    rows.append(np.eye(count, total, 6 + modes) * strength[:, None])
    wanted.append((habit.weights[EXPRESSIONS] - now) * strength)
    at = {int(index): place for place, index in enumerate(EXPRESSIONS)}
    for name, place in ((ARKIT_52[index], place) for index, place in at.items()):
        if (
            name.endswith("Left")
            and name[:-4] + "Right" in ARKIT_INDEX
            and not name.startswith(("jaw", "mouthLeft"))
        ):
            other = at[ARKIT_INDEX[name[:-4] + "Right"]]
            row = np.zeros((1, total))
            row[0, 6 + modes + place], row[0, 6 + modes + other] = 1.0 / habit.skew, -1.0 / habit.skew
            rows.append(row)
            wanted.append(np.array([-(now[place] - now[other]) / habit.skew]))
    return np.concatenate(rows), np.concatenate(wanted)


def _bounds(state: FitState, *, who: bool) -> tuple[np.ndarray, np.ndarray]:
    modes = len(state.identity) if who else 0
    now = state.weights[EXPRESSIONS]
    free = np.concatenate([np.full(3, 0.35), np.full(3, 0.3), np.full(modes, 8.0)])
    return np.concatenate([-free, -now - 1e-9]), np.concatenate([free, 1.0 - now + 1e-9])


def _finished(state: FitState, points: np.ndarray, model: PointModel, head: HeadModel) -> FaceFit:
    shape = model.shape(state.identity, state.weights)
    chosen = model.contour.choose(state.seen(shape), points)
    before = shape[chosen] @ state.rotation.T + state.translation
    error = points - state.camera.project(before)
    for curve in CURVES:
        error[curve] = across(error[curve], points[curve])
    depth = -before[:, 2:]
    missing = np.concatenate([error * [1, -1] * depth / state.camera.focal, np.zeros((68, 1))], axis=1)
    return FaceFit(
        camera=state.camera,
        rotation=state.rotation.astype(np.float32),
        translation=state.translation.astype(np.float32),
        identity=state.identity.astype(np.float32),
        weights=state.weights.astype(np.float32),
        offsets=(missing @ state.rotation).astype(np.float32),
        points=points.astype(np.float32),
        rms=float(np.sqrt((error**2).sum(axis=1).mean())),
    )
