"""Guidance, windows, cuts and workers, on a denoiser of random numbers."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.generators.portrait.full.attention import Conditioning, SiteContext, TokenTable, mask_at
from affetto.generators.portrait.full.clip import ClipConditions, FrameTokens, WindowPlan
from affetto.generators.portrait.full.guidance import ALL, Guidance
from affetto.generators.portrait.full.sampler import Cut, Denoising, Schedule
from affetto.generators.portrait.full.sizes import scheduler
from affetto.generators.portrait.full.workers import DevicePool, ProcessPool, Worker
from affetto.runtime.errors import UsageError

from .small import TINY, WIDTH

FRAMES = 2
PLAN = WindowPlan(length=4, shift=2)


@pytest.fixture(scope="module")
def denoiser():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TINY.build("unet").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def clip():
    draw = torch.Generator().manual_seed(1)

    def noise(*shape):
        return torch.randn(*shape, generator=draw)

    audio = FrameTokens.of_frames(noise(FRAMES, 4, WIDTH), noise(4, WIDTH)).padded(4)
    index = torch.tensor([0, 1])
    return ClipConditions(
        image=noise(1, WIDTH),
        latents=noise(4, 8, 8),
        audio=audio,
        emotion=FrameTokens(rows=noise(3, 4, WIDTH), index=index, null=2).padded(4),
        spatial=noise(32, 8, 8),
        mask=torch.ones(64, 64),
        time_ids=torch.tensor([12.5, 8.0, 16.0]),
    )


def run(denoiser, clip, *, steps=1, cut=None, pool=None, guidance=None, reuse_every=1, keep_keys=True):
    schedule = Schedule(steps=steps, windows=PLAN, guidance=guidance or Guidance(), reuse_every=reuse_every)
    noise = torch.randn(clip.frames, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    denoising = Denoising.from_noise(schedule, scheduler(), clip.latents, noise)
    pool = pool or DevicePool([Worker(denoiser, clip, keep_keys=keep_keys, dtype=torch.float32)])
    for step in range(steps):
        denoising.step(step, pool, cut or Cut())
    return denoising.latents


def close(found, expected):
    # Latents begin at 700 sigma, so that one bit of fp32 is 2.4e-4.
    return (found - expected).abs().max() < 2e-3


def test_equal_scales_are_the_published_rule_and_take_three_passes():
    published, ours = Guidance(audio=5.0), Guidance(audio=5.0, emotion=5.0)
    assert published.branches == ours.branches
    assert len(published.branches) == 3
    assert not ours.separate


@settings(deadline=None, max_examples=10)
@given(st.floats(0, 8), st.floats(0, 8), st.floats(0, 8))
def test_the_fourth_branch_continues_the_published_rule(image, audio, emotion):
    e = torch.randn(4, 1, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    rule = Guidance(image=image, audio=audio, emotion=emotion)
    three = Guidance(image=image, audio=audio).combine(e[[0, 1, 3]])
    if rule.separate:
        expected = e[0] + image * (e[1] - e[0]) + audio * (e[2] - e[1]) + emotion * (e[3] - e[2])
        assert torch.allclose(rule.combine(e), expected, atol=1e-4)
        same = e[0] + image * (e[1] - e[0]) + audio * ((e[2] - e[1]) + (e[3] - e[2]))
        assert torch.allclose(same, three, atol=1e-4)
    else:
        assert torch.allclose(rule.combine(e[[0, 1, 3]]), three)


def test_an_emotion_scale_of_zero_says_nothing_of_the_emotion(denoiser, clip):
    rows = torch.cat([-clip.emotion.rows[:2], clip.emotion.rows[2:]])
    other = dataclasses.replace(clip, emotion=dataclasses.replace(clip.emotion, rows=rows))
    silent = Guidance(emotion=0.0)
    assert close(run(denoiser, clip, guidance=silent), run(denoiser, other, guidance=silent))
    loud = Guidance(emotion=9.0)
    assert not close(run(denoiser, clip, guidance=loud), run(denoiser, other, guidance=loud))


@given(frames=st.integers(5, 60), step=st.integers(0, 30), overlap=st.integers(0, 3))
def test_windows_cover_every_frame_and_move_on(frames, step, overlap):
    plan = WindowPlan(length=4, shift=3, overlap=overlap)
    windows = plan.windows(frames, step)
    assert {frame for window in windows for frame in window} == set(range(frames))
    assert all(len(window) == 4 for window in windows)
    moved = plan.windows(frames, step + 1)
    assert moved[0][0] != windows[0][0]
    assert len(windows) == -(-frames // (4 - overlap))


def test_published_windows_of_a_clip_of_six_frames():
    assert PLAN.windows(10, 0) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert PLAN.windows(10, 1) == [[8, 9, 0, 1], [2, 3, 4, 5], [6, 7, 8, 9]]


@pytest.mark.parametrize("cut", [Cut(windows=2), Cut(windows=2, branches_together=False)])
def test_however_passes_are_cut_the_latents_are_the_same(denoiser, clip, cut):
    assert close(run(denoiser, clip, cut=cut), run(denoiser, clip))


def test_keys_that_are_kept_change_nothing(denoiser, clip):
    assert close(run(denoiser, clip, keep_keys=False), run(denoiser, clip, keep_keys=True))


def test_slices_of_feed_forward_layers_change_nothing(denoiser, clip):
    whole = run(denoiser, clip)
    sliced = TINY.build("unet").eval()
    sliced.load_state_dict(denoiser.state_dict())
    sliced.slice_feed_forward(4)
    assert close(run(sliced, clip), whole)


def test_two_devices_share_the_windows_and_give_the_same(denoiser, clip):
    workers = [Worker(denoiser, clip, keep_keys=True, dtype=torch.float32) for _ in range(2)]
    served = []
    for number, worker in enumerate(workers):
        inner = type(worker).__call__

        class Watched(Worker):
            def __call__(self, *args, _number=number, _inner=inner, **kwargs):
                served.append(_number)
                return _inner(self, *args, **kwargs)

        worker.__class__ = Watched
    shared = run(denoiser, clip, pool=DevicePool(workers))
    assert sorted(served) == [0, 1]  # two windows
    assert torch.equal(shared, run(denoiser, clip))


def test_processes_share_the_windows_and_sum_what_they_have(denoiser, clip, monkeypatch):
    worker = Worker(denoiser, clip, keep_keys=True, dtype=torch.float32)
    parts = []

    class Recorder(ProcessPool):
        def total(self, part):
            parts.append(part)
            return part

    whole = DevicePool([worker])
    schedule = Schedule(steps=1, windows=PLAN)
    noise = torch.zeros(clip.frames, 4, 8, 8)
    for pool in (Recorder(worker, rank=0, processes=2), Recorder(worker, rank=1, processes=2)):
        Denoising.from_noise(schedule, scheduler(), clip.latents, noise).step(0, pool, Cut())
    together = []
    monkeypatch.setattr(DevicePool, "total", lambda _, part: together.append(part) or part)
    Denoising.from_noise(schedule, scheduler(), clip.latents, noise).step(0, whole, Cut())
    assert torch.allclose(parts[0] + parts[1], together[0], atol=1e-5)
    assert (parts[0] == 0).any()
    assert (parts[1] == 0).any()


def test_features_of_the_same_step_give_the_same_prediction(denoiser, clip):
    frames = torch.arange(4)[None]
    conditioning = clip.conditioning(frames, [ALL])
    sample = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(3))
    ids = clip.time_ids[None]
    full = denoiser(sample, 1.0, conditioning, ids, clip.spatial[None, None])
    again = denoiser(sample, 1.0, conditioning, ids, clip.spatial[None, None], deep=full.deep)
    assert torch.equal(full.sample, again.sample)
    other = denoiser(sample + 1, 1.0, conditioning, ids, clip.spatial[None, None], deep=full.deep)
    assert not torch.equal(other.sample, full.sample)


def test_features_that_are_reused_stay_near_the_full_result(denoiser, clip):
    full = run(denoiser, clip, steps=2)
    reused = run(denoiser, clip, steps=2, reuse_every=2)
    error = (reused - full).abs().mean()
    assert 0 < error < 0.25 * full.abs().mean()


def test_a_step_that_failed_can_be_repeated(denoiser, clip):
    noise = torch.randn(clip.frames, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    denoising = Denoising.from_noise(Schedule(steps=2, windows=PLAN), scheduler(), clip.latents, noise)
    pool = DevicePool([Worker(denoiser, clip, keep_keys=True, dtype=torch.float32)])

    class Failing(DevicePool):
        def run(self, batches, run):
            for done, pair in enumerate(super().run(batches, run)):
                if done == 1:
                    raise torch.OutOfMemoryError("no room")
                yield pair

    for step in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            denoising.step(step, Failing(pool.workers), Cut())
        denoising.step(step, pool, Cut())
    assert torch.equal(denoising.latents, run(denoiser, clip, steps=2))


def test_the_mask_keeps_adapters_of_space_to_the_face(denoiser):
    generator = torch.Generator().manual_seed(0)
    attention, processor = denoiser.sites()[0]
    width = attention.to_q.in_features
    hidden = torch.randn(4, 64, width, generator=generator)
    mask = torch.zeros(64, 64)
    mask[:32] = 1.0
    index = torch.arange(4)[None]

    def out(rows):
        image = TokenTable(rows=torch.ones(4, 1, WIDTH), index=index)
        tables = tuple(TokenTable(rows=each, index=index) for each in rows)
        conditioning = Conditioning(image=image, adapters=tables, scales=(1.0, 1.0), mask=mask)
        site = SiteContext(conditioning=conditioning, temporal=False, mask=mask_at(mask, 8, 8))
        return processor(attention, hidden, site)

    one = out([torch.randn(4, 4, WIDTH, generator=generator) for _ in range(2)])
    two = out([torch.randn(4, 4, WIDTH, generator=generator) for _ in range(2)])
    inside, outside = slice(0, 24), slice(40, 64)
    assert torch.allclose(one[:, outside], two[:, outside], atol=1e-6)
    assert not torch.allclose(one[:, inside], two[:, inside], atol=1e-3)


def test_a_third_adapter_adds_entries_and_leaves_the_published_ones():
    published = set(TINY.empty("unet").state_dict())
    options = {**TINY.unet, "adapter_slots": 3}
    more = set(dataclasses.replace(TINY, unet=options).empty("unet").state_dict())
    assert published < more
    assert all(".2.weight" in name for name in more - published)


def test_latents_that_cannot_be_halved_are_refused(denoiser, clip):
    with pytest.raises(UsageError, match="multiples of 8"):
        denoiser(
            torch.zeros(1, 4, 8, 6, 8),
            1.0,
            clip.conditioning(torch.arange(4)[None], [ALL]),
            clip.time_ids[None],
        )
    with pytest.raises(UsageError, match="cannot overlap"):
        WindowPlan(length=4, overlap=4)
    with pytest.raises(UsageError, match=r"0\.\.30"):
        Guidance(audio=-1.0)
