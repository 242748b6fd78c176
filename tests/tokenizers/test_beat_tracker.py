import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.beat_grid import BeatGrid
from affetto.tokenizers.beat_tracker import (
    CHANNELS,
    FRAMES,
    BeatNetwork,
    BeatNetworkConfig,
    BeatSearch,
    BeatTracker,
    best_bars,
    best_beats,
    extended,
    onset_features,
    snapped,
)
from affetto.weights.store import save_tensors

SEARCH = BeatSearch()
TINY = BeatNetworkConfig(width=8, blocks=2)


def probabilities(beats, frames):
    found = np.full(frames, 0.02)
    found[np.round(np.asarray(beats) * FRAMES).astype(int)] = 0.8
    return found


@given(st.floats(50, 190), st.floats(0, 1))
@settings(deadline=None, max_examples=15)
def test_steady_beats_are_found_at_any_tempo(bpm, offset):
    beats = np.arange(offset, 12.0, 60.0 / bpm)
    found = best_beats(probabilities(beats, 620), SEARCH)
    near = np.abs(found[:, None] / FRAMES - beats[None]).min(axis=1)
    assert near.max() < 0.03
    assert abs(len(found) - len(beats)) <= 1


def test_a_beat_that_is_not_heard_is_kept_and_one_off_the_grid_is_not_taken():
    beats = np.arange(0.5, 12.0, 0.5)
    heard = probabilities(np.delete(beats, [5, 9]), 620)
    heard[round(4.27 * FRAMES)] = 0.6
    assert np.abs(best_beats(heard, SEARCH) / FRAMES - beats).max() < 0.03


def test_a_tempo_that_slows_is_followed():
    beats = 0.4 + np.cumsum(np.linspace(0.4, 0.7, 24))
    found = best_beats(probabilities(beats, 800), SEARCH) / FRAMES
    assert np.abs(found - beats).max() < 0.03


@pytest.mark.parametrize("bar", [3, 4])
def test_bars_are_counted_from_the_likeliest_first_beat(bar):
    beat = np.full(24, 0.9)
    down = np.where(np.arange(24) % bar == 1, 0.6, 0.1)
    assert np.flatnonzero(best_bars(beat, down, SEARCH)).tolist() == list(range(1, 24, bar))


def test_beats_move_to_the_onsets_near_them():
    notes = np.array([[0.96, 1, 60, 100], [1.0, 1, 64, 100], [2.3, 1, 60, 64]], np.float64)
    assert snapped(np.array([0.97, 2.0]), notes).tolist() == pytest.approx([0.98, 2.0])


def test_a_grid_is_drawn_on_over_all_notes_and_its_bars_go_on():
    grid = BeatGrid(times=np.arange(4.0, 10.0), downbeats=np.arange(6) % 3 == 1)
    notes = np.array([[1.2, 1, 60, 64], [5.0, 1, 60, 64], [12.1, 1, 60, 64]], np.float64)
    wide = extended(grid, notes)
    assert wide.times.tolist() == list(range(1, 13))
    assert wide.times[wide.downbeats].tolist() == [2.0, 5.0, 8.0, 11.0]


def test_features_say_when_notes_begin_and_how_the_harmony_changes():
    notes = np.array([[0.5, 1.0, 40, 80], [0.5, 1.0, 72, 80], [2.0, 1.0, 42, 80]], np.float64)
    features = onset_features(notes)
    assert features.shape == (CHANNELS, 200)
    assert np.flatnonzero(features[0]).tolist() == [25, 100]
    assert features[2, 25] > 0 == features[3, 25]
    assert features[4, 25] > 0
    assert features[8, 74:101].max() > 0.9
    assert np.isfinite(onset_features(np.zeros((0, 4)), 10)).all()


def test_onsets_between_frames_are_shared():
    features = onset_features(np.array([[0.51, 0.5, 60, 64]], np.float64))
    assert features[0, 25] == pytest.approx(features[0, 26])


def test_a_tracker_is_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    tracker = BeatTracker(BeatNetwork(TINY))
    tensors = tracker.network.state_dict()
    save_tensors(tmp_path / "t.safetensors", tensors, tracker.save_metadata())
    other = BeatTracker.from_pretrained(tmp_path / "t.safetensors", device="cpu")
    notes = np.array([[beat / 2, 0.4, 60, 64] for beat in range(12)], np.float64)
    assert np.allclose(tracker.probabilities(notes)[0], other.probabilities(notes)[0], atol=1e-6)


def test_too_little_to_count_is_refused(tmp_path):
    tracker = BeatTracker(BeatNetwork(TINY))
    with pytest.raises(InvalidInputError, match="no beats"):
        tracker.track(np.array([[0.0, 1, 60, 64]], np.float64))
    save_tensors(tmp_path / "x.safetensors", {"a": np.zeros(2, np.float32)}, {})
    with pytest.raises(InvalidInputError, match="no beat tracker"):
        BeatTracker.from_pretrained(tmp_path / "x.safetensors")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_finds_what_the_cpu_finds():
    torch.manual_seed(0)
    network = BeatNetwork(BeatNetworkConfig())
    notes = np.array([[beat / 2, 0.4, 60 + beat % 5, 64] for beat in range(60)], np.float64)
    here = BeatTracker(network).probabilities(notes)[0]
    there = BeatTracker(network.to("cuda")).probabilities(notes)[0]
    assert np.abs(there - here).max() < 1e-3  # cuDNN convolves in TF32 unless told otherwise
