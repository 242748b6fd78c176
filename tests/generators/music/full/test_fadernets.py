"""Music FaderNets' arousal model on toy sequences."""

import pytest
import torch

from affetto.generators.music.full.fadernets import (
    HIGH,
    LOW,
    FaderConfig,
    FaderNet,
    beta,
    faded,
    fader_order,
)
from affetto.runtime.errors import UsageError

TINY = FaderConfig(events=12, width=16, latent=6, key_width=3, rolls=(3, 4))


def clips(count=16, seed=0):
    """Events whose ids, rhythm and density rise with arousal."""
    generator = torch.Generator().manual_seed(seed)
    arousal = torch.arange(count) % 2
    events = torch.randint(1, 6, (count, 10), generator=generator) + 6 * arousal[:, None]
    rolls = [torch.randint(0, 2, (count, 8), generator=generator) + arousal[:, None] for _ in range(2)]
    attributes = torch.stack([roll.float().mean(1) for roll in rolls])
    return events, rolls, torch.zeros(count, 3), attributes, arousal


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    network = FaderNet(TINY)
    events, rolls, key, attributes, arousal = clips()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    totals = []
    for step in range(60):
        noise = torch.randn(2, len(events), TINY.latent)
        loss = network.loss(events, rolls, key, attributes, step=20_000 + step, noise=noise, arousal=arousal)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        totals.append(float(loss.total.detach()))
    return network.eval(), totals


def test_the_objective_falls(trained):
    assert trained[1][-1] < 0.7 * trained[1][0]


def test_components_tell_calm_from_excited_clips(trained):
    events, *_, arousal = clips(seed=1)
    for latent in trained[0].encode(events):
        assert (latent.component.argmax(-1) == arousal).float().mean() > 0.9


def test_moving_by_the_means_moves_clips_to_the_other_component(trained):
    network = trained[0]
    events, *_, arousal = clips(seed=1)
    latents = [each.mean[arousal == LOW] for each in network.encode(events)]
    for index, z in enumerate(network.with_arousal(latents, 1.0)):
        assert (network.components(z, index).argmax(-1) == HIGH).float().mean() > 0.9
    back = network.with_arousal(network.with_arousal(latents, 1.0), -1.0)
    assert torch.allclose(back[0], latents[0], atol=1e-5)
    assert torch.equal(network.with_arousal(latents, 0.0)[1], latents[1])


def test_faders_follow_their_attribute(trained):
    events, _, _, attributes, _ = clips(seed=1)
    for latent, attribute in zip(trained[0].encode(events), attributes, strict=True):
        together = torch.corrcoef(torch.stack([latent.mean[:, 0], attribute]))[0, 1]
        assert together > 0.7


def test_the_order_term_vanishes_for_ordered_faders_far_apart():
    z, attribute = torch.zeros(4, 3), torch.arange(4.0)
    assert fader_order(faded(z, 0.0) + 50 * attribute[:, None], attribute) < 1e-6
    assert fader_order(-50 * attribute[:, None].expand(4, 3), attribute) > 1


def test_the_weight_of_the_divergence_is_never_negative():
    weights = [beta(step) for step in range(0, 40_000, 500)]
    assert weights[0] == 0.0
    assert min(weights) == 0.0
    assert weights == sorted(weights)
    assert beta(15_000) == pytest.approx(0.1)
    assert beta(10**6) == 0.2


def test_unlabelled_clips_cost_nothing_when_they_lie_on_a_lone_mixture():
    network = FaderNet(FaderConfig(events=12, width=8, latent=2, key_width=1, rolls=(3, 4)))
    events, rolls, _, attributes, _ = clips(4)
    loss = network.loss(events, rolls, torch.zeros(4, 1), attributes, step=0, noise=torch.zeros(2, 4, 2))
    assert loss.labels == 0
    assert loss.divergence >= -1e-5


def test_a_fader_sets_the_first_dimension_only():
    z = torch.ones(2, 4)
    assert faded(z, -3.0).tolist() == [[-3.0, 1.0, 1.0, 1.0]] * 2


def test_rolls_must_match_the_attributes():
    with pytest.raises(UsageError, match="rhythm, density"):
        FaderNet(FaderConfig(rolls=(3,)))
