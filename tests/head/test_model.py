import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.head.model import HeadModel, gaze_angles
from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX
from affetto.runtime.errors import UsageError

IPD = 0.063


@functools.cache
def head() -> HeadModel:
    return HeadModel.load()


def pose(**weights):
    """One frame of weights; a name without a side means both sides."""
    frame = np.zeros((1, 52), np.float32)
    for name, value in weights.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in ARKIT_INDEX:
                frame[0, ARKIT_INDEX[full]] = value
    return frame


def mirror_name(name):
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


def cross(u, v):
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def in_front_of(point_xy, vertices, triangles):
    """Nearest-to-viewer depth of a mesh over points of the frontal plane, -inf where it has none."""
    corners = vertices[triangles]
    depth = np.full(len(point_xy), -np.inf)
    a, b, c = (corners[:, i, :2] for i in range(3))
    area = cross(b - a, c - a)
    for i, p in enumerate(point_xy):
        w = np.stack([cross(b - p, c - p), cross(c - p, a - p), cross(a - p, b - p)], 1)
        w /= np.where(np.abs(area) < 1e-14, 1e-14, area)[:, None]
        inside = w.min(axis=1) >= 0
        if inside.any():
            depth[i] = (w[inside] * corners[inside][:, :, 2]).sum(axis=1).max()
    return depth


def test_the_head_is_whole_and_within_its_budget():
    mesh = head().mesh
    assert mesh.names == ARKIT_52
    assert 8_000 <= len(mesh.surface.positions) <= 16_000
    assert len(head().identity) >= 40
    assert np.isfinite(mesh.deltas).all()
    assert mesh.surface.uvs.min() >= 0
    assert mesh.surface.uvs.max() <= 1
    assert set(mesh.surface.groups) >= {"skin", "mouth", "eyes", "teeth", "tongue", "hair"}


def test_pupils_are_one_inter_pupil_distance_apart_and_look_ahead():
    left, right = head().mesh.eye_centres
    assert left[0] - right[0] == pytest.approx(IPD, abs=1e-4)
    assert left[0] > 0  # the subject's left
    assert np.allclose((left + right) / 2, 0, atol=1e-6)


@pytest.mark.parametrize("name", ARKIT_52)
def test_each_shape_mirrors_its_other_side(name):
    model = head()
    skin = np.unique(model.mesh.surface.triangles[slice(*model.mesh.surface.groups["skin"])])
    ours = model.mesh.deltas[ARKIT_INDEX[name]][model.mirror[skin]] * [-1, 1, 1]
    other = model.mesh.deltas[ARKIT_INDEX[mirror_name(name)]][skin]
    assert np.abs(ours - other).max() < 2e-5  # the 16-bit step of the largest shape


def test_every_shape_moves_something_and_no_shape_moves_an_eyeball():
    model = head()
    size = np.abs(model.mesh.deltas).max(axis=(1, 2))
    assert size.min() > 1e-3
    eyes = np.concatenate(model.mesh.eye_vertices)
    assert not model.mesh.deltas[:, eyes].any()


def test_lips_are_closed_at_rest_open_with_the_jaw_and_closed_again_by_mouth_close():
    gap = head().lip_gap
    assert gap(pose())[0] == 0
    assert gap(pose(jawOpen=1.0))[0] > 0.3
    assert gap(pose(jawOpen=0.2))[0] > 0.05
    for jaw in (0.1, 0.3, 0.6, 1.0):
        assert gap(pose(jawOpen=jaw, mouthClose=jaw))[0] <= 0.01


def test_lip_gap_grows_with_the_jaw():
    jaws = np.linspace(0, 1, 11)
    gaps = head().lip_gap(np.concatenate([pose(jawOpen=float(jaw)) for jaw in jaws]))
    assert (np.diff(gaps) > 0).all()


def test_mouth_close_alone_changes_nothing_because_the_jaw_is_shut():
    assert np.array_equal(head().deform(pose(mouthClose=1.0)), head().deform(pose()))


@pytest.mark.parametrize("blink", [0.95, 1.0])
@pytest.mark.parametrize("side", [0, 1])
def test_a_blink_covers_the_iris(blink, side):
    model = head()
    vertices = model.deform(pose(eyeBlink=blink))[0]
    surface = model.mesh.surface
    centre = model.mesh.eye_centres[side]
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1)
    points = centre[:2] + 0.0056 * np.concatenate([ring, 0.5 * ring, [[0, 0]]])
    skin = surface.triangles[slice(*surface.groups["skin"])]
    near = skin[(np.linalg.norm(vertices[skin].mean(axis=1) - centre, axis=1) < 0.03)]
    ball = model.mesh.eye_vertices[side]
    eye = surface.triangles[np.isin(surface.triangles, ball).all(axis=1)]
    covered = in_front_of(points, vertices, near) > in_front_of(points, vertices, eye)
    assert covered.mean() >= 0.95


def test_open_eyes_show_the_pupil():
    model = head()
    vertices = model.deform(pose())[0]
    skin = model.mesh.surface.triangles[slice(*model.mesh.surface.groups["skin"])]
    for centre in model.mesh.eye_centres:
        near = skin[(np.linalg.norm(vertices[skin].mean(axis=1) - centre, axis=1) < 0.03)]
        assert in_front_of(centre[None, :2], vertices, near)[0] == -np.inf


def test_looking_left_turns_both_pupils_to_the_subjects_left_and_down_lowers_them():
    model = head()
    rest = model.deform(pose())[0]
    left = model.deform(pose(eyeLookOutLeft=1.0, eyeLookInRight=1.0))[0]
    down = model.deform(pose(eyeLookDown=1.0))[0]
    for index in model.mesh.eye_vertices:
        pupil = index[0]
        assert left[pupil, 0] > rest[pupil, 0] + 0.004
        assert down[pupil, 1] < rest[pupil, 1] - 0.004


def test_given_eye_angles_replace_those_of_the_look_weights():
    model = head()
    weights = pose(eyeLookOutLeft=1.0, eyeLookInRight=1.0)
    angles = gaze_angles(weights)
    assert np.allclose(model.deform(weights, eyes=angles), model.deform(weights))
    still = model.deform(weights, eyes=np.zeros((1, 2, 2), np.float32))[0]
    eyes = np.concatenate(model.mesh.eye_vertices)
    assert np.allclose(still[eyes], model.mesh.surface.positions[eyes], atol=1e-6)


def test_the_upper_teeth_stay_and_the_lower_teeth_follow_the_jaw():
    model = head()
    teeth = np.unique(model.mesh.surface.triangles[slice(*model.mesh.surface.groups["teeth"])])
    drop = model.mesh.deltas[ARKIT_INDEX["jawOpen"]][teeth, 1]
    assert (drop == 0).mean() > 0.4
    assert (drop < -0.01).mean() > 0.4


def test_teeth_rarely_pierce_the_lips_in_random_poses():
    model = head()
    surface = model.mesh.surface
    groups = surface.groups
    skin = np.concatenate([surface.triangles[slice(*groups[name])] for name in ("skin", "mouth")])
    teeth = np.unique(surface.triangles[slice(*groups["teeth"])])
    teeth = teeth[surface.positions[teeth, 2] > 0.012]  # the front teeth, which lips can meet
    mouth = [i for i, name in enumerate(ARKIT_52) if name.startswith(("mouth", "jaw"))]
    rng = np.random.default_rng(0)
    weights = np.zeros((12, 52), np.float32)
    weights[:, mouth] = rng.random((12, len(mouth))) * (rng.random((12, len(mouth))) < 0.2)
    pierced = []
    for vertices in model.deform(weights):
        outer = in_front_of(vertices[teeth, :2], vertices, skin)
        lips = np.isfinite(outer) & (outer > vertices[teeth, 2] - 0.03)
        pierced.append((vertices[teeth, 2] > outer + 0.001)[lips].mean())
    assert np.mean(pierced) < 0.05


def test_identity_modes_are_nearly_orthogonal_and_keep_the_eyes_in_their_sockets():
    model = head()
    flat = model.identity.reshape(len(model.identity), -1).astype(np.float64)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    assert np.abs(unit @ unit.T - np.eye(len(unit))).max() < 0.05
    for side, index in enumerate(model.mesh.eye_vertices):
        spread = model.identity[:, index].std(axis=1)
        assert spread.max() < 2e-4, side  # an eyeball moves as one


def test_plausible_identities_stay_human_sized():
    model = head()
    for mode in range(8):
        for sign in (-2.0, 2.0):
            coefficients = np.zeros(mode + 1, np.float32)
            coefficients[mode] = sign
            moved = model.identified(coefficients) - model.mesh.surface.positions
            assert np.abs(moved).max() < 0.06


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 51), st.integers(0, 51), st.floats(0, 1), st.floats(0, 1))
def test_frames_do_not_depend_on_their_neighbours(first, second, a, b):
    model = head()
    weights = np.zeros((2, 52), np.float32)
    weights[0, first], weights[1, second] = a, b
    both = model.deform(weights)
    assert np.allclose(both[0], model.deform(weights[0])[0], atol=1e-6)
    assert np.allclose(both[1], model.deform(weights[1:])[0], atol=1e-6)


def test_zero_weights_give_the_resting_head():
    model = head()
    assert np.allclose(model.deform(np.zeros(52, np.float32))[0], model.mesh.surface.positions, atol=1e-6)


def test_turning_the_head_keeps_the_shoulders():
    model = head()
    turned = model.turned(model.deform(pose()), np.array([[0.4, 0.1, 0.0]], np.float32))[0]
    moved = np.linalg.norm(turned - model.mesh.surface.positions, axis=1)
    assert moved[model.head_weights == 0].max() == 0
    nose = model.landmark_vertices["nose_tip"]
    assert turned[nose, 0] > model.mesh.surface.positions[nose, 0] + 0.02


def test_wrong_shapes_are_refused_in_one_line():
    with pytest.raises(UsageError, match="weights need 52 values a frame, got 51"):
        head().deform(np.zeros((3, 51), np.float32))
    with pytest.raises(UsageError, match="eyes have 1 frames, but weights 2"):
        head().deform(np.zeros((2, 52), np.float32), eyes=np.zeros((1, 2, 2), np.float32))
    with pytest.raises(UsageError, match="identity modes, got 999"):
        head().deform(np.zeros((1, 52), np.float32), identity=np.zeros(999, np.float32))
