from dataclasses import replace

import numpy as np

from affetto.evaluation.portrait_bench import ReadBackCritic, seam_ratio
from affetto.evaluation.portrait_film import public_portraits
from affetto.generators.portrait.motion_space import PREFIX, WINDOW
from affetto.media.animation.curves import FaceCurves


def smooth_curves(frames):
    times = np.arange(frames)[:, None]
    return np.sin(times / np.array([5.0, 7.0, 11.0]))


def test_smooth_curves_have_no_seams():
    assert 0.85 < seam_ratio(smooth_curves(2000)) < 1.15


def test_a_jump_where_windows_meet_is_seen_and_elsewhere_is_not():
    curves = smooth_curves(2000)
    joints = np.arange(WINDOW, 2000, WINDOW - PREFIX)
    jumping, elsewhere = curves.copy(), curves.copy()
    for joint in joints:
        jumping[joint:] += 0.3
        elsewhere[joint + 20 :] += 0.3
    assert seam_ratio(jumping) > 3.0
    assert seam_ratio(elsewhere) < 1.0


def test_both_public_portraits_come_with_installed_packages():
    photos = public_portraits()
    assert set(photos) == {"astronaut", "hopper"}
    assert all(
        photo.dtype == np.uint8 and photo.shape[2] == 3 and min(photo.shape[:2]) >= 500
        for photo in photos.values()
    )


def test_the_read_back_critic_finds_the_nearest_example():
    rng = np.random.default_rng(0)
    poses = rng.uniform(0, 1, (8, 52)).astype(np.float32)

    def curves(pose):
        still = FaceCurves.neutral(10, 25.0)
        return replace(still, weights=np.repeat(pose[None], 10, axis=0))

    critic = ReadBackCritic([curves(pose) for pose in poses])
    for index, pose in enumerate(poses):
        found = critic.emotions(curves(np.clip(pose + rng.normal(0, 0.05, 52), 0, 1).astype(np.float32)))
        assert found.argmax() == index
        assert np.isclose(found.sum(), 1.0)
