import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.runtime.errors import UsageError
from affetto.tokenizers.perturbed import PerturbedQuantizer, kmeans, nearest_codes
from affetto.tokenizers.quantizers import (
    FSPQuantizer,
    FSQuantizer,
    JointQuantizer,
    Quantizer,
    RVQuantizer,
    SimVQuantizer,
    VQQuantizer,
    code_statistics,
)
from affetto.tokenizers.relevance import AxisPrior, axis_relevance

DIM = 6


def latents(*shape, seed=0, dim=DIM):
    return torch.randn(*shape, dim, generator=torch.Generator().manual_seed(seed))


def perturbed():
    quantizer = PerturbedQuantizer(DIM, 16, cell=4)
    quantizer.fit_codebook()
    return quantizer


MAKE = {
    "fsq": lambda: FSQuantizer((8, 5, 5), dim=DIM),
    "fsq, two books": lambda: FSQuantizer((9, 5, 5), books=2),
    "fsp": lambda: FSPQuantizer((8, 5, 5), dim=DIM),
    "fsp normal": lambda: FSPQuantizer((5,) * DIM, act="normal"),
    "vq": lambda: VQQuantizer(DIM, 16),
    "vq, small cosine codes": lambda: VQQuantizer(DIM, 16, code_dim=3),
    "rvq": lambda: RVQuantizer(DIM, 16, books=3),
    "simvq": lambda: SimVQuantizer(DIM, 32),
    "vp": perturbed,
    "joint": lambda: JointQuantizer((5, 5, 5), DIM, books=2),
}


def trained(name):
    torch.manual_seed(0)
    made = MAKE[name]()
    made.train()
    for seed in range(2):
        made(latents(4, 24, seed=seed))
    return made


every = pytest.mark.parametrize("name", MAKE)


@every
@pytest.mark.parametrize("low", [False, True])
def test_codes_decode_to_exactly_what_was_quantised(name, low):
    quantizer = trained(name)
    quantizer.eval()
    assert isinstance(quantizer, Quantizer)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        given_latents = latents(3, 50, seed=5)
        out = quantizer(given_latents.bfloat16() if low else given_latents)
        assert torch.equal(quantizer.decode(out.indices), out.z)
        again = quantizer(given_latents.bfloat16().float() if low else given_latents)
    assert out.z.dtype == torch.float32
    assert torch.equal(again.indices, out.indices)
    assert out.indices.shape == (3, 50, quantizer.books)
    assert 0 <= int(out.indices.min()) <= int(out.indices.max()) < quantizer.codes


@every
def test_gradients_pass_and_the_loss_is_finite(name):
    quantizer = trained(name)
    given_latents = latents(4, 16, seed=3).requires_grad_()
    out = quantizer(given_latents)
    (out.z.square().sum() + out.loss).backward()
    assert torch.isfinite(out.loss)
    assert float(given_latents.grad.abs().sum()) > 0


@every
def test_saved_quantisers_give_the_same_codes(name):
    quantizer, other = trained(name).eval(), MAKE[name]()
    other.load_state_dict(quantizer.state_dict())
    probe = latents(30, seed=7)
    assert torch.equal(other.eval()(probe).indices, quantizer(probe).indices)


def test_wrong_sizes_and_codes_are_refused():
    quantizer = FSQuantizer((5, 5))
    with pytest.raises(UsageError, match="2 dimensions"):
        quantizer(torch.zeros(3, 4))
    with pytest.raises(UsageError, match=r"0\.\.24"):
        quantizer.decode(torch.full((2, 1), 25))
    with pytest.raises(UsageError, match="three or more"):
        FSQuantizer((2, 5))
    with pytest.raises(UsageError, match="activation"):
        FSPQuantizer((5, 5), act="relu")
    with pytest.raises(UsageError, match="fit_codebook"):
        PerturbedQuantizer(2, 4).eval()(torch.zeros(3, 2))


@given(st.lists(st.integers(3, 9), min_size=1, max_size=4), st.integers(1, 3))
@settings(deadline=None, max_examples=10)
def test_digits_of_a_code_spell_it(levels, books):
    quantizer = FSQuantizer(levels, books=books)
    codes = torch.randint(quantizer.codes, (20, books), generator=torch.Generator().manual_seed(1))
    digits = quantizer.digits(codes)
    assert torch.equal(quantizer.from_digits(digits), codes)
    raised = digits.clone()
    raised[..., 0] = (raised[..., 0] + 1).clamp_max(levels[0] - 1)
    change = quantizer.decode(quantizer.from_digits(raised)) - quantizer.decode(codes)
    assert bool((change >= 0).all())


def test_even_codes_have_full_perplexity_and_one_code_has_one():
    even = code_statistics(torch.arange(8).repeat(4)[:, None], 8)
    assert (even.usage, even.dead) == (1.0, 0.0)
    assert even.perplexity == pytest.approx(8.0)
    assert even.bits == pytest.approx(3.0)
    single = code_statistics(torch.zeros(9, 2, dtype=torch.long), 8)
    assert (single.usage, single.dead, single.bits) == (1 / 8, 7.0, 0.0)
    assert single.perplexity == pytest.approx(1.0)
    assert FSQuantizer((5, 5))(latents(200, dim=2)).stats.usage > 0.8


def test_perturbation_leaves_the_distribution_as_it_was_and_stays_in_the_cell():
    torch.manual_seed(0)
    quantizer = PerturbedQuantizer(2, 16, cell=16)
    points = latents(2000, seed=4, dim=2)
    moved = quantizer.perturbed(points)
    assert float((moved != points).any(dim=1).float().mean()) > 0.5
    assert float((moved - points).norm(dim=1).median()) < 1.0
    assert torch.allclose(moved.std(dim=0), points.std(dim=0), atol=0.08)
    assert torch.allclose(moved.mean(dim=0), points.mean(dim=0), atol=0.08)


def test_the_codebook_lies_where_the_latents_are_and_reach_matches_its_error():
    quantizer = PerturbedQuantizer(2, 32, cell=16)
    quantizer.fit_codebook()
    points = latents(1500, seed=4, dim=2)
    out = quantizer.eval()(points)
    assert out.stats.usage > 0.9
    assert float((out.z - points).square().mean()) < 0.08
    assert 0.3 < quantizer.estimated_reach(points) < 3.0


def test_clusters_are_found_and_empty_ones_split_the_largest():
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = centres.repeat(50, 1) + 0.01 * latents(150, dim=2)
    found = kmeans(points, 3)
    assert float(torch.cdist(centres, found).min(dim=1).values.max()) < 0.1
    assert len(torch.unique(nearest_codes(points, found))) == 3
    assert bool(torch.isfinite(kmeans(torch.zeros(10, 2), 4)).all())
    with pytest.raises(UsageError, match="as many points"):
        kmeans(torch.zeros(2, 2), 4)


def test_the_joint_latent_switches_whole_items():
    torch.manual_seed(0)
    quantizer = JointQuantizer((5, 5), 2)
    quantizer.train()
    probe = latents(6, 40, dim=2)
    assert not torch.equal(quantizer(probe).z, quantizer.fsq(probe).z)
    quantizer.discrete_share = 1.0
    assert torch.allclose(quantizer(probe).z, quantizer.fsq(probe).z)
    quantizer.discrete_share = 0.5
    discrete = (quantizer(probe).z - quantizer.fsq(probe).z).abs().amax(dim=(1, 2)) < 1e-6
    assert 0 < int(discrete.sum()) < 6
    assert torch.allclose(quantizer.continuous(probe), probe, atol=1e-6)


def test_axes_that_move_nothing_are_irrelevant():
    weights = torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    found = axis_relevance(lambda z: torch.tanh(0.1 * z @ weights.T), latents(64, dim=3))
    assert found.order.tolist() == [0, 2, 1]
    assert float(found.weights[1]) == 0.0
    assert found.kept(0.99).tolist() == [0, 2]


def test_the_prior_learns_the_spread_of_each_axis():
    spread = torch.tensor([2.0, 0.5, 0.01])
    samples = latents(4000, dim=3) * spread
    prior, quiet = AxisPrior(3), torch.full((4000, 3), -14.0)
    optimiser = torch.optim.Adam(prior.parameters(), lr=0.2)
    for _ in range(120):
        optimiser.zero_grad()
        prior.divergence(samples, quiet).mean().backward()
        optimiser.step()
    learned = prior.log_variance.detach().clone()
    prior.refresh(samples)
    assert torch.allclose(learned, prior.log_variance, atol=0.1)
    assert torch.allclose(learned.exp().sqrt(), spread, rtol=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@every
def test_the_gpu_counts_the_same_codes_under_autocast(name):
    torch.manual_seed(0)
    quantizer = MAKE[name]().eval()
    probe = latents(500, seed=2)
    here = quantizer(probe)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        there = quantizer.to("cuda")(probe.to("cuda"))
        assert torch.equal(quantizer.decode(there.indices), there.z)
    assert float((there.indices.cpu() == here.indices).float().mean()) > 0.99  # ties may fall either way
