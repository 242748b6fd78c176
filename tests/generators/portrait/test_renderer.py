"""What a customer would notice: the photograph kept, the mouth alive, no seams, the same frame twice."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from skimage.color import rgb2lab

from affetto.generators.portrait.glasses import find_glasses
from affetto.generators.portrait.renderer import PortraitRenderer
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.runtime.errors import UsageError
from tests.generators.portrait.conftest import Portrait


def weights_of(**weights: float) -> np.ndarray:
    result = np.zeros(52, np.float32)
    for name, value in weights.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in ARKIT_INDEX:
                result[ARKIT_INDEX[full]] = value
    return result


@pytest.fixture(scope="module")
def speaker(hopper: Portrait, head: HeadModel) -> Iterator[PortraitRenderer]:
    renderer = PortraitRenderer(hopper.image, hopper.fit, head, size=256)
    yield renderer
    renderer.close()


@pytest.fixture(scope="module")
def at_rest(astronaut: Portrait, head: HeadModel) -> Iterator[PortraitRenderer]:
    renderer = PortraitRenderer(astronaut.image, astronaut.fit, head, neutralise=0.0)
    yield renderer
    renderer.close()


def changed(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(frame.astype(int) - other).max(axis=-1)


def test_a_face_at_rest_is_the_photograph(at_rest: PortraitRenderer, astronaut: Portrait) -> None:
    difference = changed(at_rest.frame(np.zeros(52)), astronaut.image)
    assert difference.max() <= 3
    assert (difference > 0).mean() < 0.002


def test_taking_the_smile_off_changes_the_face_only(astronaut: Portrait, head: HeadModel) -> None:
    renderer = PortraitRenderer(astronaut.image, astronaut.fit, head)
    difference = changed(renderer.frame(np.zeros(52)), astronaut.image)
    left, top, right, bottom = 145, 40, 305, 215
    inside = difference[top:bottom, left:right]
    assert (inside > 20).sum() > 50  # lips have met
    difference[top:bottom, left:right] = 0
    assert difference.max() == 0
    renderer.close()


def test_an_open_mouth_is_dark_and_stays_in_the_lower_face(
    speaker: PortraitRenderer, hopper: Portrait
) -> None:
    shut, wide = speaker.frame(np.zeros(52)), speaker.frame(weights_of(jawOpen=0.6, mouthLowerDown=0.3))
    rows, columns = np.nonzero(changed(wide, shut) > 24)
    points = 0.5 * hopper.points
    face = np.ptp(points[:, 1])
    assert rows.min() > points[17:27, 1].min() - 0.12 * face
    assert rows.max() < points[8, 1] + 0.35 * face
    assert columns.min() > points[0, 0] - 0.25 * face
    assert columns.max() < points[16, 0] + 0.25 * face
    mouth = wide[int(points[62, 1]) : int(points[57, 1]) + 12, int(points[50, 0]) : int(points[52, 0])]
    assert mouth.mean(axis=-1).min() < 0.5 * shut[int(points[33, 1]) + 6, int(points[33, 0])].mean()


def test_lips_that_meet_hide_the_teeth(astronaut: Portrait, head: HeadModel) -> None:
    renderer = PortraitRenderer(astronaut.image, astronaut.fit, head)
    closed = renderer.frame(weights_of(mouthPress=0.3)).astype(int)
    mouth = closed[136:158, 208:240]
    redness = mouth[..., 0] - mouth[..., 1:].mean(axis=-1)
    teeth = (mouth.min(axis=-1) > 215) & (redness < 22)
    assert teeth.mean() < 0.03
    renderer.close()


def test_a_shut_eye_shows_skin(at_rest: PortraitRenderer, astronaut: Portrait) -> None:
    shut = at_rest.frame(weights_of(eyeBlink=1.0)).astype(int)
    eye = astronaut.points[36:42]
    x0, x1 = int(eye[1, 0]), int(eye[2, 0])
    y0, y1 = int(eye[1, 1]) + 1, int(eye[4, 1]) - 1
    lid, cheek = shut[y0:y1, x0:x1].mean(axis=(0, 1)), shut[112:120, 195:205].mean(axis=(0, 1))
    assert np.abs(lid - cheek).max() < 55
    assert astronaut.image[y0:y1, x0:x1].mean() < lid.mean() - 30  # the iris was dark


def test_irises_follow_the_gaze(at_rest: PortraitRenderer, astronaut: Portrait) -> None:
    eye = astronaut.points[42:48]
    box = np.s_[int(eye[:, 1].min()) : int(eye[:, 1].max()) + 1, int(eye[0, 0]) + 2 : int(eye[3, 0]) - 2]
    centres = []
    for yaw in (-0.3, 0.0, 0.3):
        frame = at_rest.frame(np.zeros(52), np.zeros(3), np.array([[yaw, 0.0], [yaw, 0.0]]))
        dark = np.clip(150 - frame[box].mean(axis=-1), 0, None)
        centres.append((dark.sum(axis=0) * np.arange(dark.shape[1])).sum() / dark.sum())
    assert centres[0] + 0.5 < centres[1] < centres[2] - 0.5  # the subject's left is the picture's right


def test_colours_of_still_skin_are_kept(speaker: PortraitRenderer, hopper: Portrait) -> None:
    from affetto.generators.portrait.renderer import resized

    photo, factor = resized(hopper.image, 256)
    frame = speaker.frame(weights_of(jawOpen=0.4), np.array([0.0, 0.0, 0.0]))
    x, y = (hopper.points[29] * factor).astype(int)
    forehead = np.s_[y - 50 : y - 35, x - 15 : x + 15]
    assert np.linalg.norm(rgb2lab(frame[forehead]) - rgb2lab(photo[forehead]), axis=-1).mean() < 1.0


def test_a_turned_head_leaves_no_holes_and_keeps_the_corners(
    speaker: PortraitRenderer, hopper: Portrait
) -> None:
    rest = speaker.frame(np.zeros(52))
    for head in ((0.26, 0.0, 0.0), (-0.26, 0.0, 0.0), (0.0, 0.17, 0.0), (0.0, -0.17, 0.0), (0.0, 0.0, 0.17)):
        frame = speaker.frame(np.zeros(52), np.array(head))
        assert changed(frame, rest)[-40:].max() == 0  # the chest
        assert changed(frame, rest)[:, :3].max() == 0
        assert (changed(frame, rest) > 10).mean() > 0.02


def test_motion_is_smooth_from_frame_to_frame(speaker: PortraitRenderer) -> None:
    steps = np.linspace(0.0, 0.5, 26)
    frames = [speaker.frame(weights_of(jawOpen=s), np.array([0.1 * s, 0.0, 0.0])).astype(int) for s in steps]
    moves = np.array([np.abs(b - a).mean() for a, b in pairwise(frames)])
    assert moves.max() < 4.0 * np.median(moves)


def test_glasses_are_found_and_stay_in_shape(
    hopper: Portrait, astronaut: Portrait, speaker: PortraitRenderer
) -> None:
    assert speaker.glasses.found
    fit = astronaut.fit
    assert not find_glasses(astronaut.image.astype(np.float32), fit.points, fit.pixels_per_metre).found
    rest, raised = speaker.frame(np.zeros(52)), speaker.frame(weights_of(browInnerUp=1.0, browOuterUp=1.0))
    bridge = (0.5 * hopper.points[27]).astype(int)
    rim = np.s_[bridge[1] - 4 : bridge[1] + 4, bridge[0] - 8 : bridge[0] + 8]
    assert changed(raised, rest)[rim].max() < 12


def test_the_same_arguments_give_the_same_pixels(
    hopper: Portrait, head: HeadModel, speaker: PortraitRenderer
) -> None:
    arguments = (weights_of(jawOpen=0.3, eyeBlink=0.4), np.array([0.1, 0.05, 0.0]), np.full((2, 2), 0.1))
    first = speaker.frame(*arguments)
    speaker.frame(weights_of(mouthSmile=1.0))
    assert np.array_equal(first, speaker.frame(*arguments))
    again = PortraitRenderer(hopper.image, hopper.fit, head, size=256)
    assert np.array_equal(first, again.frame(*arguments))
    again.close()


def test_alpha_cuts_the_person_out(astronaut: Portrait, head: HeadModel) -> None:
    renderer = PortraitRenderer(astronaut.image, astronaut.fit, head, size=256, alpha=True)
    frame = renderer.frame(weights_of(jawOpen=0.2), np.array([0.1, 0.0, 0.0]))
    assert frame.shape == (256, 256, 4)
    cover = frame[..., 3]
    face = (0.5 * astronaut.points[27:36]).astype(int)
    assert (cover[face[:, 1], face[:, 0]] == 255).all()
    assert cover[5:30, 150:250].max() < 30  # the wall behind
    assert cover[200:250, 60:100].min() > 200  # the suit
    renderer.close()


def test_sizes_scale_the_short_side_and_bad_ones_are_refused(hopper: Portrait, head: HeadModel) -> None:
    renderer = PortraitRenderer(hopper.image, hopper.fit, head, size=96)
    assert renderer.frame(np.zeros(52)).shape == (112, 96, 3)
    renderer.close()
    with pytest.raises(UsageError, match="size is 20"):
        PortraitRenderer(hopper.image, hopper.fit, head, size=20)
    with pytest.raises(UsageError, match="neutralise"):
        PortraitRenderer(hopper.image, hopper.fit, head, neutralise=2.0)


def test_a_drawing_without_shading_speaks_too(astronaut: Portrait, head: HeadModel) -> None:
    poster = (astronaut.image // 64 * 64 + 32).astype(np.uint8)
    renderer = PortraitRenderer(poster, astronaut.fit, head, size=256)
    frame = renderer.frame(weights_of(jawOpen=0.5))
    assert changed(frame, renderer.frame(np.zeros(52))).max() > 60
    renderer.close()
