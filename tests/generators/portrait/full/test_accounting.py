"""Counting on tensors without memory: operations, bytes, and the estimate made of them."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from affetto.generators.portrait.full.accounting import account, denoiser_account, weight_bytes
from affetto.generators.portrait.full.estimate import estimate_memory
from affetto.generators.portrait.full.kernels import chosen_kernel, with_kernel
from affetto.generators.portrait.full.ladder import Running
from affetto.generators.portrait.full.presets import EXACT, FAST, PREVIEW, get_preset
from affetto.generators.portrait.full.sampler import Cut
from affetto.runtime.errors import UsageError

from .small import TINY

CPU = torch.device("cpu")


def test_operations_and_memory_of_a_known_computation():
    x = torch.empty(256, 512, device="meta")
    y = torch.empty(512, 128, device="meta")
    counted = account(lambda: (x @ y) @ y.T)
    assert counted.flops == 2 * 2 * 256 * 512 * 128
    assert counted.peak_bytes == 4 * (256 * 128 + 256 * 512)


def test_memory_that_was_freed_is_not_counted_again():
    x = torch.empty(1000, device="meta")

    def chain():
        y = x
        for _ in range(20):
            y = y + 1
        return y

    assert account(chain).peak_bytes == 2 * 4000


def test_scores_are_counted_where_the_kernel_writes_them():
    q = torch.empty(1, 2, 100, 8, device="meta")
    fused = account(lambda: F.scaled_dot_product_attention(q, q, q))
    plain = account(lambda: F.scaled_dot_product_attention(q, q, q), writes_scores=True)
    assert fused.flops == plain.flops == 2 * 2 * (2 * 100 * 100 * 8)
    assert plain.peak_bytes - fused.peak_bytes >= 4 * 2 * 100 * 100


@pytest.fixture(scope="module")
def networks():
    return TINY.empty("unet"), TINY.empty("vae")


def estimated(networks, running, frames=10, **more):
    given = {
        "frames": frames, "window": 4, "branches": 3, "rows": 8, "columns": 8, "dtype": torch.float32,
        "reuse_every": 1, "key_bytes": 0,
    } | more  # fmt: skip
    return estimate_memory(networks[0], networks[1], [], running, **given)


def test_the_estimate_falls_with_every_saving_and_hardly_rises_with_length(networks):
    together = estimated(networks, Running())
    apart = estimated(networks, Running(cut=Cut(branches_together=False)))
    assert apart.denoise < 0.5 * together.denoise
    assert apart.peak <= together.peak  # decoding may be the worst stage
    alone = estimated(networks, Running(idle_on_device=False))
    assert alone.peak < together.peak
    longer = estimated(networks, Running(), frames=1000)
    assert longer.denoise == together.denoise
    assert longer.peak - together.peak < 1.2 * 990 * 5 * 4 * 8 * 8 * 4
    assert "GiB" in together.line()


def test_weights_are_counted_in_the_precision_they_run_in(networks):
    count = sum(parameter.numel() for parameter in networks[0].parameters())
    assert weight_bytes(networks[0]) == 4 * count
    assert weight_bytes(networks[0], torch.float16) == 2 * count


def test_one_call_of_the_denoiser_costs_the_same_for_each_sample(networks):
    sizes = {"frames": 4, "rows": 8, "columns": 8, "dtype": torch.float32}
    one = denoiser_account(networks[0], samples=1, **sizes)
    three = denoiser_account(networks[0], samples=3, **sizes)
    assert three.flops == pytest.approx(3 * one.flops, rel=5e-3)  # the noise level is embedded once


def test_presets_differ_in_what_they_say():
    assert get_preset("exact") is EXACT
    assert EXACT.reuse_every == 1
    assert FAST.reuse_every > 1
    assert PREVIEW.size < EXACT.size
    assert EXACT.precision(CPU) == torch.float32
    with pytest.raises(UsageError, match="exact, fast, preview"):
        get_preset("turbo")
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXACT.steps = 3


@pytest.mark.parametrize("kernel", ["flash", "math"])
def test_kernels_that_run_here_agree(kernel):
    assert chosen_kernel(kernel, CPU, torch.float32) == kernel
    q = torch.randn(1, 2, 40, 16, generator=torch.Generator().manual_seed(0))
    with with_kernel("auto"):
        expected = F.scaled_dot_product_attention(q, q, q)
    with with_kernel(kernel):
        assert torch.allclose(F.scaled_dot_product_attention(q, q, q), expected, atol=1e-5)


def test_a_kernel_that_does_not_run_here_is_refused_by_name():
    assert chosen_kernel("auto", CPU, torch.float32) in ("flash", "efficient", "math")
    with pytest.raises(UsageError, match="'cudnn' does not run on cpu"):
        chosen_kernel("cudnn", CPU, torch.float32)
    with pytest.raises(UsageError, match="unknown attention kernel"):
        chosen_kernel("fastest", CPU, torch.float32)
