"""Frames out of latents: the published chunks, no padding, flat memory, exact length; and what lack of memory costs."""

import itertools

import pytest
import torch

from affetto.generators.portrait.full.decoding import (
    DecodeCut,
    decode_chunk,
    decoded,
    doubled,
    encode_picture,
    held,
    to_bytes,
    to_length,
)
from affetto.generators.portrait.full.interpolation import FrameInterpolator, warp
from affetto.generators.portrait.full.ladder import RUNGS, Ladder, Running, ran_out
from affetto.generators.portrait.full.sampler import Cut
from affetto.runtime.errors import OutOfMemoryError

from .small import TINY


@pytest.fixture(scope="module")
def vae():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TINY.build("vae").eval().requires_grad_(False)


def latents(frames, side=4, seed=0):
    return 0.1 * torch.randn(frames, 4, side, side, generator=torch.Generator().manual_seed(seed))


def test_chunks_are_the_published_ones_and_padding_behind_them_is_not_decoded(vae):
    held_latents, served = latents(40), []

    def decode(chunk):
        served.append(len(chunk))
        return decode_chunk(vae, chunk, DecodeCut())

    frames = list(decoded(vae, held_latents, 12, decode=decode))
    assert served == [10, 10]  # of 40
    whole = decode_chunk(vae, held_latents[10:20], DecodeCut())
    assert torch.equal(frames[11], (whole[1] * 0.5 + 0.5).clamp(0, 1))
    assert len(frames) == 12


def test_frames_come_one_by_one_so_that_length_costs_no_memory(vae):
    served = []

    def decode(chunk):
        served.append(1)
        return decode_chunk(vae, chunk, DecodeCut(chunk=4))

    frames = decoded(vae, latents(40), 40, decode=decode, cut=DecodeCut(chunk=4))
    list(itertools.islice(frames, 5))
    assert len(served) == 2


def test_tiles_are_near_the_whole_picture(vae):
    small = latents(2, side=16)
    whole = decode_chunk(vae, small, DecodeCut())
    tiled = decode_chunk(vae, small, DecodeCut(tile=12, tile_overlap=8))
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.25 * whole.std()
    assert torch.equal(decode_chunk(vae, small, DecodeCut(tile=16)), whole)


def test_the_encoder_works_in_full_precision_and_leaves_the_network_as_it_was(vae):
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    expected = encode_picture(vae, pixels)
    assert expected.shape == (4, 4, 4)
    half = TINY.build("vae").eval()
    half.load_state_dict(vae.state_dict())
    torch.nn.Module.to(half, dtype=torch.bfloat16)
    assert encode_picture(half, pixels).dtype == torch.float32
    assert half.dtype == torch.bfloat16


def test_doubling_puts_one_frame_between_each_two():
    interpolator = FrameInterpolator(width=4).eval()
    frames = [torch.full((3, 20, 36), value) for value in (0.2, 0.4, 0.8)]
    out = list(doubled(iter(frames), interpolator))
    assert len(out) == 5
    assert all(torch.equal(out[2 * k], frame) for k, frame in enumerate(frames))
    assert out[1].mean() == pytest.approx(0.3, abs=0.12)
    assert [float(frame.mean()) for frame in held(iter(frames))][:2] == pytest.approx([0.2, 0.2])


def test_warping_by_whole_pixels_moves_the_picture():
    picture = torch.arange(48.0).reshape(1, 1, 6, 8)
    flow = torch.zeros(1, 2, 6, 8)
    flow[:, 0] = 1.0
    moved = warp(picture, flow)
    assert torch.allclose(moved[..., :-1], picture[..., 1:], atol=1e-4)
    assert torch.allclose(moved[..., -1], picture[..., -1], atol=1e-4)  # the edge goes on


def test_length_is_kept_exactly():
    frames = [torch.zeros(3, 2, 2), torch.ones(3, 2, 2)]
    assert len(list(to_length(iter(frames), 1))) == 1
    longer = list(to_length(iter(frames), 5))
    assert len(longer) == 5
    assert longer[-1].mean() == 1


def test_bytes_are_rows_of_rgb_at_the_size_asked_for():
    frame = torch.rand(3, 8, 6)
    assert to_bytes(frame).shape == (8, 6, 3)
    assert to_bytes(frame, (12, 16)).shape == (16, 12, 3)
    assert to_bytes(torch.full((3, 2, 2), 2.0)).max() == 255


def failing(times, error=None):
    """Work that runs out of memory so many times and remembers the layouts it was given."""
    seen = []

    def work(running):
        seen.append(running)
        if len(seen) <= times:
            raise error or torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    return work, seen


def test_memory_is_given_up_in_order_and_what_was_is_told():
    changes = []
    ladder = Ladder(Running(cut=Cut(windows=3)), changed=changes.append)
    work, seen = failing(3)
    assert ladder.attempt("denoise", work) == "done"
    assert ladder.taken == (
        "one window at a time",
        "networks that rest leave the device",
        "branches one after the other",
    )
    assert [running.cut.windows for running in seen] == [3, 1, 1, 1]
    assert [running.cut.branches_together for running in seen] == [True, True, True, False]
    assert changes == seen[1:]
    assert ladder.exact


def test_what_has_nothing_to_give_is_passed_over():
    ladder = Ladder(Running(cut=Cut(windows=1), idle_on_device=False))
    work, _ = failing(1)
    ladder.attempt("denoise", work)
    assert ladder.taken == ("branches one after the other",)


def test_decoding_gives_up_chunks_and_then_tiles_and_says_that_pixels_change():
    ladder = Ladder(Running())
    work, seen = failing(5)
    ladder.attempt("decode", work)
    assert [(running.decode.chunk, running.decode.tile) for running in seen] == [
        (10, None), (10, None), (5, None), (2, None), (2, 32), (2, 16),
    ]  # fmt: skip
    assert not ladder.exact
    assert len(ladder.taken) == len(RUNGS["decode"])


def test_the_end_of_the_ladder_is_one_line_and_exit_code_6():
    work, _ = failing(99)
    with pytest.raises(OutOfMemoryError, match="after all savings") as caught:
        Ladder(Running()).attempt("denoise", work)
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)


def test_other_failures_go_on_at_once():
    work, seen = failing(1, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        Ladder(Running()).attempt("denoise", work)
    assert len(seen) == 1
    assert ran_out(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not ran_out(RuntimeError("shape mismatch"))
