from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from affetto.acting.closure import CLOSED_GAP, close_lips, closing_ease
from affetto.acting.visemes import pose
from affetto.media.animation.curves import ARKIT_INDEX


@dataclass(frozen=True)
class LinearHead:
    """Lips whose gap is linear in the weights, with the signs and sizes of a real head."""

    def lip_gap(self, weights):
        gain = pose(
            {
                "jawOpen": 0.62,
                "mouthClose": -0.62,
                "mouthUpperUp": 0.08,
                "mouthLowerDown": 0.06,
                "mouthFunnel": 0.12,
            }
        ) + pose({"mouthSmile": 0.02, "mouthPress": -0.03, "mouthRollLower": -0.03, "mouthRollUpper": -0.03})
        return np.maximum(weights.astype(np.float64) @ gain, 0.0).astype(np.float32)


HEAD = LinearHead()
faces = hnp.arrays(np.float32, (40, 52), elements=st.floats(0, 1, width=32))
CLOSURE = np.zeros(40, np.float32)
CLOSURE[15:20] = 1.0


@settings(max_examples=25, deadline=None)
@given(faces)
def test_lips_shut_inside_every_closure_whatever_the_face_does(weights):
    closed = close_lips(weights, CLOSURE, HEAD)
    assert HEAD.lip_gap(closed)[15:20].max() < 0.015
    assert closed.min() >= 0
    assert closed.max() <= 1 + 1e-6
    assert closed.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(faces)
def test_no_frame_opens_wider_and_far_frames_are_untouched(weights):
    closed = close_lips(weights, CLOSURE, HEAD)
    assert (HEAD.lip_gap(closed) <= np.maximum(HEAD.lip_gap(weights), CLOSED_GAP) + 2e-3).all()
    assert np.array_equal(closed[:12], weights[:12])
    assert np.array_equal(closed[23:], weights[23:])


def test_without_closures_the_very_curves_come_back():
    weights = np.full((40, 52), 0.3, np.float32)
    assert close_lips(weights, np.full(40, 0.5, np.float32), HEAD) is weights


def test_a_smile_survives_a_closure_in_the_corners_but_not_between_the_lips():
    weights = np.repeat(pose({"mouthSmile": 0.7, "mouthUpperUp": 0.2, "jawOpen": 0.12})[None], 40, 0).astype(
        np.float32
    )
    closed = close_lips(weights, CLOSURE, HEAD)
    smile, upper = ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["mouthUpperUpLeft"]
    assert closed[17, smile] > 0.5
    assert closed[17, upper] < 0.05


def test_the_ease_is_smooth_and_full_inside():
    ease = closing_ease(CLOSURE > 0.5, 50.0)
    assert (ease[15:20] == 1).all()
    assert ease[14] == pytest.approx(ease[20])
    assert 0 < ease[13] < ease[14] < 1
    assert ease[10] == 0
