"""Reading a performance back from the points of a video's frames, when the person is known."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float32

from affetto.generators.portrait.depth import brought_nearer
from affetto.generators.portrait.fit import (
    EXPRESSIONS,
    PASSING,
    FaceFit,
    FitState,
    Habit,
    PointModel,
    step_towards,
)
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves

_STEPS, _FIRST_STEPS = 3, 6
_SIGMA = 0.006  # of the eyes' distance
_SPREAD, _SKEW = 0.6, 0.25  # of weights while speaking, and between halves of the face


def refit_curves(
    frames: Iterable[Float[np.ndarray, "68 2"]],
    fit: FaceFit,
    head: HeadModel,
    *,
    fps: float,
    neutralise: float = 1.0,
    model: PointModel | None = None,
) -> FaceCurves:
    """Weights and head that explain the 68 points of every frame, relative to the photograph that `fit` belongs to.

    Points are pixels of the picture that was fitted. Identity stays; pose and expression follow from frame to frame.
    Gaze cannot be told from the points and is zero. With `neutralise` as given to the renderer, weights compare to
    those that were asked for.
    """
    person = known_person(fit, model or PointModel(head))
    unit = float(np.linalg.norm(fit.points[36] - fit.points[45]))
    sigma = np.full((68, 2), _SIGMA * unit)
    state = FitState(
        camera=fit.camera,
        rotation=fit.rotation.astype(np.float64),
        translation=fit.translation.astype(np.float64),
        identity=fit.identity.astype(np.float64),
        weights=fit.weights.astype(np.float64),
    )
    kept = fit.weights * (1.0 - neutralise * PASSING)
    habit = Habit(
        weights=kept.astype(np.float64),
        sigmas=np.full(len(EXPRESSIONS), _SPREAD),
        skew=_SKEW,
        distance=-float(fit.translation[2]),
        anyone=False,
    )
    weights, turns = [], []
    for number, points in enumerate(frames):
        for _ in range(_STEPS if number else _FIRST_STEPS):
            state = step_towards(state, points.astype(np.float64), sigma, person, habit)
        weights.append(np.clip(state.weights - kept, 0, 1))
        turns.append(euler_angles(fit.rotation.T @ state.rotation))
    count = len(weights)
    return FaceCurves(
        fps=fps,
        weights=np.array(weights, np.float32).reshape(count, 52),
        head=np.array(turns, np.float32).reshape(count, 3),
        eyes=np.zeros((count, 2, 2), np.float32),
    )


def known_person(fit: FaceFit, model: PointModel) -> PointModel:
    """The points of the person in the photograph as the renderer draws them: offsets and flattened depth included."""
    source = model.shape(fit.identity.astype(np.float64), fit.weights.astype(np.float64))
    moved = source - model.shape(fit.identity.astype(np.float64), np.zeros(52))
    source[:68] += fit.offsets
    return model.keeping(fit, brought_nearer(fit, source.astype(np.float32)).astype(np.float64) - moved)


def euler_angles(matrix: Float[np.ndarray, "3 3"]) -> Float32[np.ndarray, "3"]:
    """Yaw, pitch and roll (radians) of a rotation Ry(yaw) Rx(pitch) Rz(roll)."""
    yaw = np.arctan2(matrix[0, 2], matrix[2, 2])
    pitch = -np.arcsin(np.clip(matrix[1, 2], -1, 1))
    roll = np.arctan2(matrix[1, 0], matrix[1, 1])
    return np.array([yaw, pitch, roll], np.float32)
