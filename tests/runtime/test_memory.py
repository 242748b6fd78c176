import pytest
import torch

from affetto.runtime.errors import OutOfMemoryError
from affetto.runtime.memory import Layout, laid_out, ran_out, shorter, sparing, together


def failing(times, error=None):
    """Work that runs out of memory so many times and remembers how it was laid out."""
    seen = []

    def work(layout):
        seen.append((together(16), shorter(8.0), layout.device, layout.alone))
        if len(seen) <= times:
            raise error or torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    return work, seen


def test_memory_is_given_up_batch_first_then_pieces_then_the_device():
    work, seen = failing(6)
    spared = sparing("face", work, device="cuda:0")
    assert spared.result == "done"
    assert seen == [
        (16, 8.0, None, False), (16, 8.0, None, True), (4, 8.0, None, True), (1, 8.0, None, True),
        (1, 4.0, None, True), (1, 2.0, None, True), (1, 2.0, "cpu", True),
    ]  # fmt: skip
    assert len(spared.savings) == 6
    assert not spared.exact


def test_smaller_batches_alone_keep_the_result():
    work, _ = failing(2)
    spared = sparing("face", work)
    assert spared.savings == ("models that rest are let go", "one at a time")
    assert spared.exact


def test_what_has_enough_gives_up_nothing():
    work, seen = failing(0)
    assert sparing("face", work).savings == ()
    assert len(seen) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("out of memory"),
    ],
)
def test_the_end_of_the_ladder_is_one_line_and_exit_code_6(error):
    assert ran_out(error)
    work, seen = failing(99, error)
    with pytest.raises(OutOfMemoryError, match=r"out of memory in a\.csv after all savings") as caught:
        sparing("a.csv", work)
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)
    assert len(seen) == 5


def test_other_failures_are_not_repeated():
    work, seen = failing(1, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        sparing("face", work)
    assert len(seen) == 1


def test_a_layout_ends_with_its_block():
    with laid_out(Layout(together=1, shorter=2)):
        assert (together(4), shorter(8.0)) == (1, 4.0)
    assert (together(4), shorter(8.0)) == (4, 8.0)
