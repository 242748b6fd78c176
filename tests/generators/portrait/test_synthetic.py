"""Pictures of faces that nobody has: labels fit the pixels, seeds decide, and a network learns from them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from affetto.generators.portrait.landmark_data import SHARD, ShardStore, as_batch, row_type, write_shard
from affetto.generators.portrait.landmark_net import LandmarkConfig, LandmarkNet
from affetto.generators.portrait.synthetic_shots import Photographer
from affetto.generators.portrait.train_landmarks import (
    LandmarkRecipe,
    fit,
    landmark_loss,
    measure,
)
from affetto.head.landmarks68 import MIRROR_68, VERTICES_68
from affetto.head.model import HeadModel
from affetto.weights.store import read_arrays

CPU = torch.device("cpu")
SMALL = LandmarkConfig(side=48, widths=(8, 12, 16, 24), maps=12)


@pytest.fixture(scope="module")
def photographer():
    return Photographer(HeadModel.load(), size=64)


@pytest.fixture(scope="module")
def shard(photographer, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("faces") / "shard-000.npy"
    write_shard(path, photographer, count=12, seed=3)
    return path


def test_the_68_vertices_mirror_onto_each_other():
    head = HeadModel.load()
    assert len(set(VERTICES_68.tolist())) == 68
    assert (head.mirror[VERTICES_68] == VERTICES_68[MIRROR_68]).all()


def test_lips_and_lids_lie_on_their_own_edges():
    head = HeadModel.load()
    weights = np.zeros(52, np.float32)
    rest = head.deform(weights)[0][VERTICES_68]
    weights[[head.mesh.names.index(name) for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight")]] = 1.0
    moved = head.deform(weights)[0][VERTICES_68]
    assert moved[62, 1] - moved[66, 1] > 0.02  # the inner lips part
    assert np.linalg.norm(rest[62] - rest[66]) < 0.001
    assert (moved[[37, 38, 43, 44], 1] < rest[[37, 38, 43, 44], 1] - 0.002).all()  # upper lids fall


def test_the_same_seed_gives_the_same_picture_and_another_does_not(photographer):
    shots = []
    for seed in (1, 1, 2):
        rng = np.random.default_rng(seed)
        shots.append(photographer.shot(photographer.person(rng), rng))
    assert (shots[0].picture == shots[1].picture).all()
    assert (shots[0].points == shots[1].points).all()
    assert (shots[0].picture != shots[2].picture).any()


def test_faces_fill_their_share_of_the_picture_and_points_lie_in_it(photographer):
    rng = np.random.default_rng(5)
    for _ in range(4):
        shot = photographer.shot(photographer.person(rng), rng)
        extent = (shot.points.max(axis=0) - shot.points.min(axis=0)).max()
        assert 0.5 < extent / photographer.size < 0.68
        assert (shot.points > 0).all()
        assert (shot.points < photographer.size).all()
        assert shot.visible[[27, 30, 33]].all()  # the nose's ridge is never hidden by the head itself


def test_a_turned_head_hides_its_far_jaw(photographer):
    rng = np.random.default_rng(0)
    person = photographer.person(rng)
    turned = photographer.shot(person, rng)
    while abs(turned.pose[0]) < np.radians(35):
        turned = photographer.shot(person, rng)
    far, near = (slice(12, 17), slice(0, 5)) if turned.pose[0] > 0 else (slice(0, 5), slice(12, 17))
    # Turned to the subject's left, the left side (points 12 to 16) faces away from the camera.
    assert turned.visible[far].sum() < turned.visible[near].sum()


def test_a_centred_cut_keeps_points_and_a_mirrored_one_swaps_sides(shard):
    rows = np.load(shard)
    rows = rows[rows["face"]]
    plain = as_batch(rows, 64, None, CPU)
    assert plain.pictures.shape == (len(rows), 3, 64, 64)
    centre = (plain.points.amin(1) + plain.points.amax(1)) / 2
    assert torch.allclose(centre, torch.full_like(centre, 0.5), atol=1e-4)
    varied = as_batch(np.repeat(rows[:1], 40, axis=0), 64, np.random.default_rng(0), CPU)
    right_of_left = varied.points[:, 36, 0] < varied.points[:, 45, 0]
    assert right_of_left.all()  # the subject's right eye stays left in the picture, mirrored or not


def test_turning_the_cut_turns_the_pose_with_it(shard):
    rows = np.load(shard)
    row = rows[rows["face"]][:1]
    varied = as_batch(np.repeat(row, 30, axis=0), 64, np.random.default_rng(1), CPU)
    eyes = varied.points[:, 45] - varied.points[:, 36]
    seen = torch.atan2(-eyes[:, 1], eyes[:, 0])  # a raised left eye is a positive roll
    slope = np.polyfit(varied.pose[:, 2].numpy(), seen.numpy(), 1)[0]
    assert 0.8 < slope < 1.25  # in the cut, of a head that is also turned and seen from near


def test_the_network_learns_and_says_how_sure_it_is(shard):
    rows = np.load(shard)[:4]
    batch = as_batch(rows, SMALL.side, None, CPU)
    torch.manual_seed(0)
    network = LandmarkNet(SMALL)
    recipe = LandmarkRecipe(config=SMALL)
    optimiser = torch.optim.AdamW(network.parameters(), lr=6e-3)
    errors = []
    for _ in range(40):
        output = network(batch.pictures)
        loss, parts = landmark_loss(output, batch, recipe)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(parts["nme %"])
    assert errors[-1] < 0.5 * errors[0]
    assert torch.isfinite(output.log_scale).all()


def test_hidden_faces_teach_only_their_absence(shard):
    rows = np.load(shard)[:4].copy()
    rows["face"] = False
    batch = as_batch(rows, SMALL.side, None, CPU)
    network = LandmarkNet(SMALL)
    loss, _ = landmark_loss(network(batch.pictures), batch, LandmarkRecipe(config=SMALL))
    loss.backward()
    assert network.correct[0].weight.grad.abs().max() == 0  # nothing is learnt about points
    assert network.global_.weight.grad[3].abs().max() > 0


def test_a_short_run_leaves_weights_that_load_and_can_be_resumed(shard, tmp_path):
    recipe = LandmarkRecipe(config=SMALL, batch=4, first_shards=1, sides=((0.0, 48),))
    part = tmp_path / "part.safetensors"
    first = list(fit(shard.parent, recipe, seconds=0.01, seed=0, part=part, resume=False, device=CPU))
    spent = float(read_arrays(part)[1]["spent"])
    again = fit(shard.parent, recipe, seconds=spent + 0.6, seed=0, part=part, resume=True, device=CPU)
    steps = [int(run[-1][0].message.split()[1].rstrip(",")) for run in (first, list(again))]
    assert steps[1] > steps[0] > 0
    loaded = LandmarkNet.from_pretrained(part)
    report = measure(loaded, np.load(shard), device=CPU)
    assert 0 < report["nme_percent"] < 200
    assert loaded.config == SMALL


def test_shards_that_appear_later_are_noticed(shard, tmp_path):
    store = ShardStore(tmp_path)
    assert store.notice() == 0
    rows = np.zeros(3, row_type(64))
    np.save(tmp_path / "shard-000.npy", rows)
    assert store.notice() == 1
    assert len(store) == 3
    assert store.rows(np.random.default_rng(0), 5).shape == (5,)
    assert SHARD > 100


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_network_runs_under_autocast_on_cuda(shard):
    network = LandmarkNet(SMALL).cuda().eval()
    batch = as_batch(np.load(shard)[:4], SMALL.side, None, torch.device("cuda"))
    with torch.autocast("cuda", torch.bfloat16), torch.inference_mode():
        output = network(batch.pictures)
    assert output.points.dtype == torch.float32
    assert torch.isfinite(output.points).all()
