"""Pictures: both renderers agree, repeat themselves, light the right side and keep shoulders still."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affetto.head.prepare import default_follow, display_curve, display_table, prepare_surface, seam_classes
from affetto.head.render import gl_works, open_renderer, render_curves
from affetto.head.rotation import euler_matrix, rotation_vector, vector_matrix
from affetto.head.stage import STUDIO, Background, Camera, Light, Lighting
from affetto.media.animation.curves import FaceCurves
from affetto.runtime.errors import UsageError
from tests.head.shapes import bust, joined, moved, sphere

needs_gl = pytest.mark.skipif(not gl_works(), reason="no OpenGL context opens through EGL here")
BLUE = Background.plain((0.0, 0.0, 255.0))
PIVOT = np.array([0.0, -0.07, -0.05])
SMALL = (96, 96)
angles = st.floats(-3.1, 3.1)


@pytest.fixture(scope="module")
def head():
    return bust()


@pytest.fixture(scope="module")
def numba_renderer(head):
    return open_renderer(head, size=(128, 128), backend="numba")


def turned(yaw: float) -> np.ndarray:
    return euler_matrix(np.array([yaw, 0.0, 0.0]))


def subject(picture: np.ndarray) -> np.ndarray:
    """Which pixels show the subject before a blue wall."""
    return picture[..., 0] > 20


@needs_gl
@pytest.mark.parametrize("yaw", [0.0, 0.5])
def test_both_renderers_give_the_same_picture(head, numba_renderer, yaw):
    other = open_renderer(head, size=(128, 128), backend="moderngl")
    first = numba_renderer.frame(head.positions, turned(yaw), PIVOT)
    second = other.frame(head.positions, turned(yaw), PIVOT)
    other.close()
    difference = np.abs(first.astype(int) - second.astype(int))
    assert difference.mean() <= 2.0
    assert (difference.max(axis=2) <= 12).mean() >= 0.99


@pytest.mark.parametrize("backend", ["numba", pytest.param("moderngl", marks=needs_gl)])
def test_a_picture_repeats_bit_for_bit(head, backend):
    renderers = [open_renderer(head, size=SMALL, backend=backend) for _ in range(2)]
    pictures = [
        renderer.frame(head.positions, turned(0.3), PIVOT) for renderer in renderers for _ in range(2)
    ]
    for renderer in renderers:
        renderer.close()
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


def test_a_sphere_covers_the_disc_that_geometry_predicts():
    camera = Camera(target=(0.0, 0.0, 0.0), distance=1.0)
    ball = sphere(rings=48)
    picture = open_renderer(ball, size=SMALL, backend="numba", camera=camera, background=BLUE).frame(
        ball.positions
    )
    radius = camera.focal(96) * 0.1 / np.sqrt(1.0 - 0.1**2)
    assert subject(picture).sum() == pytest.approx(np.pi * radius**2, rel=0.03)


def test_edges_are_antialiased():
    ball = sphere()
    camera = Camera.around(ball.positions)
    black = Background.plain((0.0, 0.0, 0.0))
    white = Lighting(
        lights=(Light(direction=(0.0, 0.0, 1.0), colour=(0.1,) * 3),), sky=(4.0,) * 3, ground=(4.0,) * 3
    )
    picture = open_renderer(
        ball, size=SMALL, backend="numba", camera=camera, lights=white, background=black
    ).frame(ball.positions)
    inside = int(picture[48, 48, 0])
    between = (picture[..., 0] > 0.15 * inside) & (picture[..., 0] < 0.85 * inside)
    assert between.sum() > 40


def test_a_light_brightens_the_side_it_comes_from():
    ball = sphere()
    lights = Lighting(
        lights=(Light(direction=(1.0, 0.0, 0.3), colour=(1.0, 1.0, 1.0)),), sky=(0.1,) * 3, ground=(0.1,) * 3
    )
    renderer = open_renderer(
        ball, size=SMALL, backend="numba", camera=Camera.around(ball.positions), lights=lights
    )
    picture = renderer.frame(ball.positions)
    assert picture[48, 70].sum() > picture[48, 26].sum() + 100


def test_gloss_adds_a_glint():
    ball = sphere(colour=(60, 60, 60))
    shiny = dataclasses.replace(ball, gloss=np.full(len(ball.positions), 1.0, np.float32))
    camera = Camera.around(ball.positions)
    pictures = [
        open_renderer(s, size=SMALL, backend="numba", camera=camera).frame(s.positions) for s in (ball, shiny)
    ]
    assert int(pictures[1].max()) > int(pictures[0].max()) + 60


def test_the_inside_of_the_mouth_darkens_towards_the_throat():
    mouth = joined(skin=moved(sphere(rings=8), (0, 0.5, 0), (1, 1, 1)), teeth=sphere())
    openness = prepare_surface(mouth, Camera(), 128).attributes[:, 4]
    depth = mouth.positions[-1000:, 2]
    assert openness[-1000:][depth > 0.09].min() > 0.8
    assert openness[-1000:][depth < -0.05].max() < 0.2


def test_a_hollow_is_darker_than_what_lies_open():
    crossing = joined(skin=sphere(), other=moved(sphere(), (0.15, 0.0, 0.0), (1, 1, 1)))
    openness = prepare_surface(crossing, Camera(), 128).attributes[:, 4]
    between, outside = crossing.positions[:, 0] == 0.1, crossing.positions[:, 0] < -0.09
    seam = np.linalg.norm(crossing.positions - [0.075, 0.066, 0.0], axis=1) < 0.012
    assert openness[outside].mean() > 0.95
    assert openness[seam].mean() < 0.85
    assert not between.all()


def test_an_open_shell_shows_its_inside():
    ball = sphere()
    bowl = dataclasses.replace(
        ball, triangles=ball.triangles[ball.positions[ball.triangles][:, :, 2].max(1) < 0.03]
    )
    renderer = open_renderer(
        bowl, size=SMALL, backend="numba", camera=Camera.around(ball.positions), background=BLUE
    )
    assert subject(renderer.frame(ball.positions))[48, 48]


def test_normals_are_smooth_across_a_texture_seam():
    ball = sphere()
    classes = seam_classes(ball)
    columns = 2 * 24 + 1
    left, right = classes[::columns], classes[columns - 1 :: columns]
    assert np.array_equal(left[1:-1], right[1:-1])  # the poles belong to one side only


def test_touching_surfaces_that_face_each_other_stay_apart():
    lower = sphere(rings=8)
    both = joined(lower=lower, upper=moved(lower, (0.0, 0.2, 0.0), (1.0, 1.0, 1.0)))
    top = int(np.argmax(lower.positions[:, 1]))
    touching = len(lower.positions) + int(np.argmin(lower.positions[:, 1]))
    assert seam_classes(both)[top] != seam_classes(both)[touching]


def test_shoulders_stay_planted_while_the_head_turns(head, numba_renderer):
    still = numba_renderer.frame(head.positions, np.eye(3), PIVOT).astype(int)
    moving = numba_renderer.frame(head.positions, turned(0.5), PIVOT).astype(int)
    difference = np.abs(still - moving).max(axis=2)
    assert difference[30:60].max() > 60
    assert difference[118:].max() <= 3


def test_the_neck_follows_smoothly(head):
    share = default_follow(head.positions, PIVOT)
    start, stop = head.groups["skin"]
    front = head.positions[:, 2] > 0.0
    assert share[head.triangles[start:stop]][front[head.triangles[start:stop]]].min() > 0.9
    start, stop = head.groups["shoulders"]
    assert share[head.triangles[start:stop]].max() < 0.2
    start, stop = head.groups["neck"]
    assert 0.2 < share[head.triangles[start:stop]].mean() < 0.8


def test_without_a_rotation_a_pivot_changes_nothing(head, numba_renderer):
    assert np.array_equal(
        numba_renderer.frame(head.positions), numba_renderer.frame(head.positions, np.eye(3), PIVOT)
    )


def test_a_performance_renders_frame_by_frame(head, numba_renderer):
    curves = dataclasses.replace(FaceCurves.neutral(70, 25.0), head=np.linspace(0, 0.6, 210).reshape(70, 3))
    puppet = SimpleNamespace(
        mesh=SimpleNamespace(head_pivot=PIVOT),
        head_weights=default_follow(head.positions, PIVOT),
        deform=lambda weights, eyes: np.repeat(head.positions[None], len(weights), axis=0),
    )
    frames = list(render_curves(puppet, curves, numba_renderer))
    assert len(frames) == 70
    assert frames[0].shape == (128, 128, 3)
    assert np.array_equal(
        frames[40], numba_renderer.frame(head.positions, euler_matrix(curves.head[40]), PIVOT)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "vulkan"}, "unknown renderer 'vulkan'"),
        ({"size": (8, 512)}, "picture size 8x512"),
    ],
)
def test_a_wrong_option_is_named(head, options, message):
    with pytest.raises(UsageError, match=message):
        open_renderer(head, **{"backend": "numba", **options})


def test_vertices_of_another_mesh_are_refused(numba_renderer):
    with pytest.raises(UsageError, match=r"vertices have shape \(5, 3\)"):
        numba_renderer.frame(np.zeros((5, 3), np.float32))


def test_given_shares_decide_what_turns(head, numba_renderer):
    still = numba_renderer.frame(head.positions)
    none = np.zeros(len(head.positions), np.float32)
    assert np.array_equal(numba_renderer.frame(head.positions, turned(0.5), PIVOT, none), still)
    with pytest.raises(UsageError, match="follow has 3 values"):
        numba_renderer.frame(head.positions, turned(0.5), PIVOT, none[:3])


def test_geometry_behind_the_camera_is_skipped(head, numba_renderer):
    picture = numba_renderer.frame(head.positions + np.array([0.0, 0.0, 5.0], np.float32))
    empty = open_renderer(head, size=(128, 128), backend="numba").frame(head.positions + np.float32(100.0))
    assert np.array_equal(picture, empty)


def test_highlights_roll_off_and_the_table_follows_the_curve():
    light = np.linspace(0.0, 4.0, 1000, dtype=np.float32)
    shown = display_curve(light)
    assert (np.diff(shown) > 0).all()
    assert shown[-1] < 255.0
    index = np.minimum(np.sqrt(light / 4.0) * 4095, 4095).astype(int)
    assert np.abs(display_table()[index] - shown).max() < 0.6


@given(st.tuples(angles, angles, angles))
def test_euler_matrices_are_rotations_that_their_vectors_rebuild(turn):
    matrix = euler_matrix(np.array(turn))
    assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    assert np.allclose(vector_matrix(rotation_vector(matrix)), matrix, atol=1e-6)


def test_positive_yaw_turns_to_the_subjects_left_and_positive_pitch_looks_down():
    forward = np.array([0.0, 0.0, 1.0])
    assert (euler_matrix(np.array([0.2, 0.0, 0.0])) @ forward)[0] > 0
    assert (euler_matrix(np.array([0.0, 0.2, 0.0])) @ forward)[1] < 0
    left_ear = np.array([1.0, 0.0, 0.0])
    assert (euler_matrix(np.array([0.0, 0.0, 0.2])) @ left_ear)[1] > 0


def test_half_a_turn_has_a_vector():
    vector = rotation_vector(np.diag([-1.0, 1.0, -1.0]))
    assert np.abs(vector) == pytest.approx([0.0, np.pi, 0.0])


def test_a_camera_that_walks_left_sees_the_subjects_left():
    camera = Camera(yaw=90.0, target=(0.0, 0.0, 0.0))
    assert camera.orientation() @ np.array([1.0, 0.0, 0.0]) == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)


def test_the_studio_has_three_lights():
    assert len(STUDIO.lights) == 3
