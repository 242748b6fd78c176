"""The whole way from a photo and sound to files, with marked points and given motion in the place of networks."""

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from affetto.generators.portrait.landmark_files import given_landmarks
from affetto.generators.portrait.pipeline import TalkingHead, TalkOptions, calmed, of_length
from affetto.generators.portrait.portrait import read_portrait
from affetto.generators.portrait.saving import drawn_ahead
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.media.animation.files import load_curves, save_curves
from affetto.media.audio import Audio
from affetto.media.video import probe_video, read_frames
from affetto.runtime.errors import CancelledError, InvalidInputError, UsageError
from affetto.runtime.progress import CancelToken

MARKS = Path(__file__).parent / "marks" / "astronaut.json"
LEFT, TOP, SIDE = 120, 30, 200
SMALL = TalkOptions(size=256)


def _talk(seconds: float = 0.2) -> Audio:
    time = np.arange(round(seconds * 16_000)) / 16_000
    return Audio(samples=(0.3 * np.sin(2 * np.pi * 150 * time))[None].astype(np.float32), rate=16_000)


def _opening(frames: int) -> FaceCurves:
    curves = FaceCurves.neutral(frames, 25.0)
    curves.weights[:, ARKIT_INDEX["jawOpen"]] = np.linspace(0, 0.7, frames)
    curves.head[:, 0] = np.linspace(0, 0.1, frames)
    return curves


class _Motion:
    """Records what it is asked and opens the mouth."""

    def __init__(self):
        self.asked = []

    def __call__(self, speech, track, *, fps, seed, **options):
        self.asked.append((speech, track, fps, seed, options))
        return _opening(round(speech.seconds * fps) + 2)


@pytest.fixture(scope="module")
def portrait():
    points = np.array(json.loads(MARKS.read_text())["points"]) - [LEFT, TOP]
    photo = np.ascontiguousarray(data.astronaut()[TOP : TOP + SIDE, LEFT : LEFT + SIDE])
    face = given_landmarks(points)
    return read_portrait(photo, lambda _: [face], HeadModel.load())


@pytest.fixture
def speaker():
    return TalkingHead(lambda _: [], _Motion(), HeadModel.load(), device=torch.device("cpu"))


def test_a_plan_holds_exactly_the_frames_of_the_sound(speaker, portrait):
    plan = speaker.plan(portrait, _talk(0.5), "happy", options=SMALL)
    assert len(plan.curves) == 12
    (asked,) = speaker._motion.asked
    assert asked[2:4] == (25.0, 0)
    assert asked[4]["emotion_guidance"] == 1.5


def test_a_video_is_saved_whole_and_in_sync(speaker, portrait, tmp_path):
    events = []
    video = speaker(portrait, _talk(), options=SMALL)
    path = video.save(tmp_path / "out.mp4", progress=events.append)
    info = probe_video(path)
    assert (info.frames, info.size, info.has_audio) == (5, (256, 256), True)
    assert [event.done for event in events] == [1, 2, 3, 4, 5]
    frames = [frame.astype(int) for _, frame in read_frames(path)]
    mouth, corner = (slice(140, 175), slice(115, 150)), (slice(0, 24), slice(0, 24))
    assert np.abs(frames[-1][mouth] - frames[0][mouth]).mean() > 4
    assert np.abs(frames[-1][corner] - frames[0][corner]).mean() < 2


def test_one_performance_takes_every_other_form(speaker, portrait, tmp_path):
    video = speaker(portrait, _talk(0.08), options=dataclasses.replace(SMALL, alpha=True))
    for name in ("curves.csv", "head.glb", "cut.mov"):
        assert video.save(tmp_path / name).exists()
    assert len(load_curves(tmp_path / "curves.csv")) == 2
    with av.open(str(tmp_path / "cut.mov")) as container:
        picture = next(container.decode(video=0)).reformat(format="rgba").to_ndarray()
    assert picture[128, 128, 3] > 250
    assert picture[3, 3, 3] < 5
    video.save(tmp_path / "f_%03d.png")
    video.save(tmp_path / "folder")
    assert np.asarray(Image.open(tmp_path / "f_001.png")).shape == (256, 256, 4)
    assert (tmp_path / "folder" / "frame_00001.png").read_bytes() == (tmp_path / "f_001.png").read_bytes()
    with pytest.raises(UsageError, match="already exists"):
        video.save(tmp_path / "folder")
    for name in ("out.avi", "picture.png"):
        with pytest.raises(UsageError, match=r"out\.avi|frame_%05d"):
            video.save(tmp_path / name)


def test_a_stream_gives_the_frames_of_the_whole_with_their_times(speaker, portrait):
    whole = list(speaker(portrait, _talk(0.12), options=SMALL).frames())
    streamed = list(speaker.stream(portrait, _talk(0.12), options=SMALL))
    assert [seconds for seconds, _ in streamed] == [0.0, 1 / 25, 2 / 25]
    assert all((a == b).all() for a, (_, b) in zip(whole, streamed, strict=True))


def test_a_motion_file_moves_the_face_and_the_generator_is_not_asked(speaker, portrait, tmp_path):
    path = save_curves(tmp_path / "motion.json", _opening(4))
    options = dataclasses.replace(SMALL, head_motion=0.5)
    plan = speaker.plan(portrait, _talk(0.4), motion=path, options=options)
    assert speaker._motion.asked == []
    assert plan.curves.channel("jawOpen")[3:] == pytest.approx(0.7, abs=0.01)  # held to the end of the sound
    assert plan.curves.head[3, 0] == pytest.approx(0.05, abs=0.005)
    assert len(plan.curves) == 10


def test_amounts_scale_their_own_motion_only():
    curves = _opening(3)
    curves.weights[:, ARKIT_INDEX["eyeBlinkLeft"]] = 0.5
    curves.eyes[:] = 0.2
    still = calmed(curves, TalkOptions(head_motion=0.0, blinks=0.0, gaze=0.0))
    assert np.abs(still.head).max() == np.abs(still.eyes).max() == still.channel("eyeBlinkLeft").max() == 0
    assert (still.channel("jawOpen") == curves.channel("jawOpen")).all()
    assert (calmed(curves, TalkOptions()).weights == curves.weights).all()


def test_curves_are_cut_or_held_to_length():
    assert len(of_length(_opening(10), 4)) == 4
    held = of_length(_opening(3), 5)
    assert held.channel("jawOpen")[[3, 4]] == pytest.approx(0.7)
    assert len(of_length(FaceCurves.neutral(0, 25.0), 3)) == 3


def test_a_cancelled_video_leaves_nothing(speaker, portrait, tmp_path):
    token = CancelToken()
    video = speaker(portrait, _talk(), options=SMALL)
    with pytest.raises(CancelledError):
        video.save(tmp_path / "out.mp4", progress=lambda event: token.cancel(), cancel=token)
    assert list(tmp_path.iterdir()) == []


def test_sound_shorter_than_a_frame_is_refused(speaker, portrait):
    with pytest.raises(InvalidInputError, match="less than one frame"):
        speaker.plan(portrait, _talk(0.01), options=SMALL)


def test_options_out_of_range_are_named():
    for wrong in ({"size": 100}, {"fps": 5.0}, {"frame": "3:7"}, {"gaze": 4.0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            TalkOptions(**wrong)


def test_a_failure_while_drawing_ahead_reaches_the_reader():
    def frames():
        yield np.zeros((2, 2, 3), np.uint8)
        raise InvalidInputError("broken")

    drawn = drawn_ahead(frames())
    assert next(drawn).shape == (2, 2, 3)
    with pytest.raises(InvalidInputError, match="broken"):
        next(drawn)


def test_a_reader_that_stops_early_stops_the_drawing():
    drawn = []

    def frames():
        for index in range(1000):
            drawn.append(index)
            yield np.zeros((2, 2, 3), np.uint8)

    ahead = drawn_ahead(frames())
    next(ahead)
    ahead.close()
    assert len(drawn) < 12
