import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.generators.music.full.linear import (
    LinearTransformer,
    Positions,
    causal_attention,
    full_attention,
)


def features(words, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, words, 4, generator=generator) for _ in range(3))
    return torch.nn.functional.elu(scale * q) + 1, torch.nn.functional.elu(scale * k) + 1, v


@settings(max_examples=15, deadline=None)
@given(words=st.integers(1, 200), seed=st.integers(0, 99))
def test_chunked_causal_attention_is_the_masked_ratio(words, seed):
    q, k, v = features(words, seed)
    weights = (q @ k.transpose(-1, -2)).tril()
    expected = weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)
    assert torch.allclose(causal_attention(q, k, v), expected, atol=1e-5)


def test_full_attention_is_the_normalised_sum():
    q, k, v = features(9, 0)
    weights = q @ k.transpose(-1, -2)
    expected = weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)
    assert torch.allclose(full_attention(q, k, v), expected, atol=1e-5)


def test_features_that_vanish_give_no_nan():
    q, k, v = features(70, 0, scale=200.0)
    assert causal_attention(q, k, v).isfinite().all()
    assert causal_attention(0 * q, 0 * k, v).isfinite().all()


def test_words_to_come_change_nothing_before():
    torch.manual_seed(0)
    network = LinearTransformer(layers=2, width=8, heads=2, dropout=0.0, causal=True).eval()
    x = torch.randn(1, 80, 8)
    changed = x.clone()
    changed[:, 70:] = 5.0
    with torch.no_grad():
        assert torch.equal(network(x)[:, :64], network(changed)[:, :64])
        assert torch.allclose(network(x)[:, :70], network(changed)[:, :70], atol=1e-6)


def test_steps_give_what_the_whole_sequence_gives():
    torch.manual_seed(0)
    network = LinearTransformer(layers=2, width=8, heads=2, dropout=0.0, causal=True, memory=True).eval()
    x, memory = torch.randn(2, 90, 8), torch.randn(2, 11, 8)
    with torch.no_grad():
        whole = network(x, memory)
        states, found = network.start(memory), []
        for place in range(90):
            output, states = network.step(x[:, place : place + 1], states)
            found.append(output)
    assert torch.allclose(torch.cat(found, dim=1), whole, atol=1e-5)


def test_positions_may_begin_anywhere():
    places = Positions(6, 0.0)
    x = torch.zeros(1, 20, 6)
    assert torch.equal(places(x)[:, 7:9], places(x[:, :2], 7))
