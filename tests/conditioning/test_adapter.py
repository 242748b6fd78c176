import numpy as np
import pytest
import torch

from affetto.conditioning.adapter import (
    OCTANTS,
    ConditioningAdapter,
    EmbeddedAdapter,
    TensorSpec,
    octant_weights,
)
from affetto.conditioning.anchors import ANCHORS_8
from affetto.runtime.errors import UsageError

ADAPTER = EmbeddedAdapter()


def test_the_tensor_has_what_the_schema_declares():
    spec = ADAPTER.schema["emotion"]
    given = ADAPTER("0:happy; 2:sad@0.5", length=50, fps=25.0)["emotion"]
    assert given.shape == (1, 50, 20)
    assert spec.accepts(given)
    assert spec.accepts(ADAPTER.null(3, length=7)["emotion"])
    assert not spec.accepts(given[..., :4])
    assert not spec.accepts(given.long())
    assert isinstance(ADAPTER, ConditioningAdapter)


@pytest.mark.parametrize(
    "track", [None, "neutral", "happy@0", "vad(0.5,0.9,-0.3)@0", "0:angry@0; 1:happy:0.5+sad:0.5@0"]
)
def test_intensity_zero_is_the_null_bit_for_bit(track):
    assert torch.equal(ADAPTER(track, length=40, fps=25.0)["emotion"], ADAPTER.null(length=40)["emotion"])


def test_the_first_four_features_are_effective_vad_and_intensity():
    row = ADAPTER("vad(0.5,-0.4,0.2)@0.5", length=1, fps=50.0)["emotion"][0, 0]
    assert torch.allclose(row[:4], torch.tensor([0.25, -0.2, 0.1, 0.5]))


def test_a_named_emotion_shows_in_its_anchor_and_a_drawn_one_in_its_octant():
    named = ADAPTER("angry", length=1, fps=50.0)["emotion"][0, 0]
    assert named[4 : 4 + 8].argmax() == ANCHORS_8.index("angry")
    drawn = ADAPTER("vad(0.7,-0.6,0.5)", length=1, fps=50.0)["emotion"][0, 0]
    assert drawn[12:].argmax() == OCTANTS.index("relaxed")


def test_octants_sum_to_one_and_are_even_at_the_origin():
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    assert np.allclose(octant_weights(points).sum(-1), 1.0, atol=1e-6)
    assert np.array_equal(octant_weights(np.zeros((1, 3), np.float32)), np.full((1, 8), 0.125, np.float32))


def test_frames_follow_the_track_in_time():
    valence = ADAPTER("0:sad; 1:happy", length=26, fps=25.0)["emotion"][0, :, 0]
    assert (valence.diff() > 0).all()


def test_impossible_requests_are_refused():
    with pytest.raises(UsageError, match="fps > 0"):
        ADAPTER("happy", length=3, fps=0.0)
    with pytest.raises(UsageError, match="one size for each axis"):
        TensorSpec(axes=("frame",), sizes=(1, 2))
