"""The whole of DICE-Talk at a very small size: what a call, a file, a folder and a failure give."""

import dataclasses

import numpy as np
import pytest
import torch

from affetto.generators.portrait.full.clip import WindowPlan
from affetto.generators.portrait.full.guidance import Guidance
from affetto.generators.portrait.full.options import DiceTalkOptions
from affetto.generators.portrait.full.pipeline import DiceTalkPipeline
from affetto.generators.portrait.full.presets import EXACT, PREVIEW
from affetto.generators.portrait.full.sampler import Denoising
from affetto.media.audio import Audio
from affetto.media.video import probe_video
from affetto.runtime.errors import CancelledError, InvalidInputError, OutOfMemoryError, UsageError
from affetto.runtime.progress import CancelToken

from .small import BOX, photo, speech, tiny_pipeline

TOGETHER = dataclasses.replace(EXACT, branches_together=True, offload="none")
OPTIONS = DiceTalkOptions(preset=TOGETHER, size=64, steps=1, windows=WindowPlan(length=4, shift=2))
TWO_STEPS = dataclasses.replace(OPTIONS, steps=2)
SOUND = speech(0.2)  # five frames, of which three are denoised, with four of padding


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def video(pipe):
    return pipe(photo(), SOUND, "happy@0.6", box=BOX, options=OPTIONS)


def called(pipe, emotion="happy@0.6", **changes):
    options = dataclasses.replace(OPTIONS, **changes)
    return pipe(photo(), SOUND, emotion, box=BOX, options=options).latents


def test_a_video_lasts_as_long_as_its_sound(pipe, video):
    assert len(video) == 5
    frames = list(video.frames())
    assert len(frames) == 5
    assert frames[0].shape == (64, 64, 3)
    assert frames[0].dtype == np.uint8
    published = pipe(photo(), SOUND, box=BOX, options=dataclasses.replace(OPTIONS, published_length=True))
    assert len(published) == 2 * int(0.2 * 12.5) - 1


def test_the_same_seed_gives_the_same_and_another_something_else(pipe, video):
    assert torch.equal(called(pipe), video.latents)
    assert not torch.equal(called(pipe, seed=1), video.latents)


def test_intensity_zero_is_neutral_and_an_emotion_is_not(pipe):
    assert torch.equal(called(pipe, "sad@0"), called(pipe, None))
    assert (called(pipe, "sad") - called(pipe, None)).abs().max() > 1e-3


def test_the_emotion_has_a_scale_of_its_own_when_asked(pipe, video):
    same = called(pipe, guidance=Guidance(audio=6.0, emotion=6.0))
    assert torch.equal(same, video.latents)
    other = called(pipe, guidance=Guidance(audio=6.0, emotion=9.0))
    assert not torch.allclose(other, video.latents, atol=1e-2)
    assert not torch.allclose(called(pipe, emotion_scale=2.0), video.latents, atol=1e-2)


def test_the_report_says_what_was_done(video):
    report = video.report()
    assert (report.branches, report.windows, report.passes) == (3, 2, 6)
    assert report.dtype == "float32"
    assert report.kernel in ("flash", "efficient", "math")
    assert report.given_up == ()
    assert report.estimated_bytes > 0


def test_presets_and_layouts_give_the_same_but_for_rounding(pipe, video):
    for changes in (
        {"branches_together": False, "key_bytes": 0},
        {"windows_at_once": 2, "offload": "idle", "channels_last": True, "kernel": "math"},
    ):
        latents = called(pipe, preset=dataclasses.replace(TOGETHER, **changes))
        assert (latents - video.latents).abs().max() < 5e-3, changes
    assert torch.equal(called(pipe), video.latents)  # nothing of them stays behind


def test_a_preview_shows_each_frame_twice(pipe):
    preset = dataclasses.replace(PREVIEW, branches_together=True)
    options = dataclasses.replace(OPTIONS, preset=preset, steps=3)
    frames = list(pipe(photo(), SOUND, box=BOX, options=options).frames())
    assert len(frames) == 5
    assert np.array_equal(frames[0], frames[1])


def test_it_writes_video_with_sound_and_pictures(video, tmp_path):
    events = []
    path = video.save(tmp_path / "out.mp4", progress=events.append)
    found = probe_video(path)
    assert found.size == (64, 64)
    assert found.has_audio
    assert found.frames == 5
    assert events[-1].fraction == 1.0
    video.save(tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").glob("frame_*.png"))) == 5
    with pytest.raises(UsageError, match="gives pixels"):
        video.save(tmp_path / "out.csv")
    with pytest.raises(UsageError, match="already exists"):
        video.save(path)


def test_frames_stream_with_their_times(pipe):
    times = [seconds for seconds, _ in pipe.stream(photo(), SOUND, box=BOX, options=OPTIONS)]
    assert times == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16])


def test_a_saved_folder_loads_as_the_same_pipeline(pipe, video, tmp_path):
    pipe.save_pretrained(tmp_path / "dice")
    loaded = DiceTalkPipeline.from_pretrained(tmp_path / "dice", device="cpu")
    assert (called(loaded) - video.latents).abs().max() < 5e-3
    for name, network in pipe.components.items():
        if isinstance(network, torch.nn.Module):
            read = getattr(loaded, name).state_dict()
            assert all(torch.equal(value, read[key]) for key, value in network.state_dict().items())


def test_steps_are_reported_edited_interrupted_and_cancelled(pipe):
    events = []
    pipe(photo(), SOUND, box=BOX, options=TWO_STEPS, callback_on_step_end=events.append)
    assert [event.stage for event in events] == ["memory", "denoise", "denoise"]
    assert "GiB" in events[0].message

    zero = pipe(photo(), SOUND, box=BOX, options=OPTIONS, edit_latents=lambda _, latents: latents * 0)
    assert zero.latents.abs().max() == 0

    def stop(event):
        if event.stage == "denoise":
            pipe.interrupt()

    video = pipe(photo(), SOUND, box=BOX, options=TWO_STEPS, callback_on_step_end=stop)
    assert video.report().steps_done == 1
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        pipe(photo(), SOUND, box=BOX, options=TWO_STEPS, cancel=token)


def test_lack_of_memory_is_met_step_by_step_and_the_result_stays(pipe, monkeypatch):
    expected = called(pipe, steps=2)
    whole, failures = Denoising.step, [0]

    def short(self, number, pool, cut):
        if number == 1 and failures[0] < 2:
            failures[0] += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, number, pool, cut)

    monkeypatch.setattr(Denoising, "step", short)
    again = pipe(photo(), SOUND, "happy@0.6", box=BOX, options=TWO_STEPS)
    assert again.report().given_up == (
        "networks that rest leave the device",
        "branches one after the other",
    )
    assert again.report().same_result
    assert (again.latents - expected).abs().max() < 5e-3


def test_when_nothing_helps_the_error_says_so(pipe, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Denoising, "step", never)
    with pytest.raises(OutOfMemoryError, match="--preset preview"):
        pipe(photo(), SOUND, box=BOX, options=OPTIONS)


def test_windows_run_on_two_devices(pipe, video):
    shared = pipe(photo(), SOUND, "happy@0.6", box=BOX, options=OPTIONS, devices=("cpu", "cpu"))
    assert shared.report().devices == ("cpu", "cpu")
    assert (shared.latents - video.latents).abs().max() < 5e-3


def test_bf16_networks_run_and_stay_near(pipe, video):
    half = tiny_pipeline()
    for network in half.components.values():
        if isinstance(network, torch.nn.Module):
            torch.nn.Module.to(network, dtype=torch.bfloat16)
    found = half(photo(), SOUND, "happy@0.6", box=BOX, options=OPTIONS)
    assert found.report().dtype == "bfloat16"
    assert (found.latents - video.latents).abs().mean() < 0.3 * video.latents.abs().mean()
    assert all(frame.shape == (64, 64, 3) for frame in found.frames())
    assert half.interpolator.dtype == torch.float32


def test_input_that_cannot_be_used_is_refused(pipe):
    silent = Audio(samples=np.zeros((1, 16_000), np.float32), rate=16_000)
    with pytest.raises(InvalidInputError, match="silent"):
        pipe(photo(), silent, box=BOX, options=OPTIONS)
    long = Audio(samples=np.full((1, 8_000), 0.1, np.float32), rate=8)
    with pytest.raises(InvalidInputError, match="over 800 s"):
        pipe(photo(), long, box=BOX, options=OPTIONS)
    with pytest.raises(UsageError, match="motion_bucket"):
        DiceTalkOptions(motion_bucket=300.0)


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives(video):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pipe = tiny_pipeline().placed("cuda")
    preset = dataclasses.replace(TOGETHER, dtype="fp32")
    found = pipe(photo(), SOUND, "happy@0.6", box=BOX, options=dataclasses.replace(OPTIONS, preset=preset))
    assert (found.latents - video.latents).abs().max() < 5e-2
