"""DiffVC: published layout, published numbers, batches, masks."""

import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from affetto.generators.voice.full.diffvc import DiffVC, DiffVCConfig, Reference, load_diffvc
from affetto.generators.voice.full.norms import SpanGroupNorm, frame_mask
from affetto.runtime.errors import InvalidInputError

TINY = DiffVCConfig(bands=16, channels=16, filters=24, layers=2, postnet=16, width=16, condition=16)


def _normal(name, shape, scale=1.0):
    """Fixed normal numbers for a name, from numpy's frozen MT19937 stream."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) * scale


def _filled(network):
    state = network.state_dict()
    for key, value in state.items():
        base = 1.0 if value.ndim == 1 and key.endswith(("weight", "gamma")) else 0.0
        scale = int(np.prod(value.shape[1:])) ** -0.5 if value.ndim > 1 else 0.05
        state[key] = base + _normal(key, tuple(value.shape), scale)
    network.load_state_dict(state)
    return network.eval()


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    network = DiffVC(TINY).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("fn.g"):
            torch.nn.init.constant_(parameter, 0.1)  # attention that starts at zero would hide mistakes
    return network


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return DiffVC()


def test_the_default_size_has_the_published_number_of_tensors_and_parameters(published):
    state = published.state_dict()
    assert len(state) == 346
    assert sum(p.numel() for p in published.encoder.parameters()) == pytest.approx(8.46e6, rel=1e-3)
    assert sum(p.numel() for p in published.decoder.parameters()) == pytest.approx(117.79e6, rel=1e-4)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("encoder.encoder.init_proj.weight", (192, 80, 1)),
        ("encoder.encoder.prenet.conv_layers.2.weight", (192, 192, 5)),
        ("encoder.encoder.prenet.norm_layers.1.gamma", (192,)),
        ("encoder.encoder.encoder.attn_layers.5.emb_rel_k", (1, 9, 96)),
        ("encoder.encoder.encoder.attn_layers.0.conv_o.bias", (192,)),
        ("encoder.encoder.encoder.ffn_layers.3.conv_1.weight", (768, 192, 3)),
        ("encoder.encoder.encoder.norm_layers_2.0.beta", (192,)),
        ("encoder.postnet.res_block.block2.block.0.weight", (128, 128, 7, 7)),
        ("encoder.postnet.res_block.res.weight", (128, 128, 1, 1)),
        ("decoder.estimator.mlp.2.weight", (256, 1024)),
        ("decoder.estimator.ref_block.mlp2.1.weight", (64, 256)),
        ("decoder.estimator.ref_block.block11.0.weight", (64, 1, 3, 3)),
        ("decoder.estimator.ref_block.block32.1.bias", (256,)),
        ("decoder.estimator.cond_block.0.weight", (512, 640)),
        ("decoder.estimator.downs.0.0.block1.block.0.weight", (256, 130, 3, 3)),
        ("decoder.estimator.downs.1.2.fn.fn.to_qkv.weight", (384, 512, 1, 1)),
        ("decoder.estimator.downs.1.3.conv.weight", (512, 512, 3, 3)),
        ("decoder.estimator.ups.0.0.res_conv.weight", (512, 2048, 1, 1)),
        ("decoder.estimator.ups.1.3.conv.weight", (256, 256, 4, 4)),
        ("decoder.estimator.mid_attn.fn.g", (1,)),
        ("decoder.estimator.final_conv.weight", (1, 256, 1, 1)),
    ],
)
def test_keys_and_shapes_are_the_published_ones(published, key, shape):
    assert tuple(published.state_dict()[key].shape) == shape


@pytest.mark.parametrize(
    "absent", ["downs.2.3.conv.weight", "downs.0.1.res_conv.weight", "ups.2.0.mlp.1.weight"]
)
def test_layers_that_the_published_network_lacks_are_absent(published, absent):
    assert f"decoder.estimator.{absent}" not in published.state_dict()


def test_the_numbers_are_those_of_the_published_code():
    """Golden values from the authors' own modules (their repository at 7782c7a), filled as `_filled` fills ours."""
    network = _filled(DiffVC(TINY))
    mel, reference = _normal("mel", (1, 16, 24)), _normal("reference", (1, 16, 20))
    with torch.no_grad():
        mean = network.encoder(mel, torch.tensor([24]))
        score = network.decoder.estimator(
            mel, frame_mask(torch.tensor([24]), 24), mean, reference, frame_mask(torch.tensor([20]), 20),
            _normal("embedding", (1, 256)), torch.tensor([0.5]),
        )  # fmt: skip
    assert mean[0, ::5, ::9].flatten().tolist() == pytest.approx(
        [-0.0692, -0.365, 0.5729, 0.3315, 0.3836, 0.3176, 0.3974, 0.4125, 0.1767, 0.0903, -0.2013, -0.0248], abs=1e-4
    )  # fmt: skip
    assert score[0, ::5, ::9].flatten().tolist() == pytest.approx(
        [-0.5513, -0.0831, 0.2685, -0.7959, 0.0369, -1.6908, -0.308, -1.5666, 0.0181, -0.2514, 0.4663, -0.9738], abs=2e-4
    )  # fmt: skip


def _clips():
    mel, embedding = _normal("clips", (2, 16, 22)), _normal("voices", (2, 256))
    mel[1, :, 17:] = 0.0
    return mel, torch.tensor([22, 17]), embedding


def test_a_clip_sounds_the_same_alone_and_in_a_batch(tiny):
    mel, lengths, embedding = _clips()
    both = tiny.convert(mel, lengths, embedding, steps=2, solver="em", seeds=[5, 6])
    alone = tiny.convert(
        mel[1:, :, :17].contiguous(), lengths[1:], embedding[1:], steps=2, solver="em", seeds=[6]
    )
    assert torch.allclose(both[1:, :, :17], alone, atol=2e-4 * float(alone.abs().max()))
    assert not both[1, :, 17:].any()


def test_what_stands_after_the_end_of_a_clip_does_not_matter(tiny):
    mel, _, embedding = _clips()
    length = torch.tensor([22])
    longer = F.pad(mel[:1], (0, 14), value=7.0)
    short = tiny.convert(mel[:1], length, embedding[:1], steps=2, solver="pf")
    padded = tiny.convert(longer, length, embedding[:1], steps=2, solver="pf")
    assert torch.allclose(padded[..., :22], short, atol=2e-4 * float(short.abs().max()))
    assert not padded[..., 22:].any()


def test_a_constant_course_of_embeddings_equals_one_embedding(tiny):
    mel, lengths, embedding = _clips()
    course = embedding[:, None].expand(-1, mel.shape[-1], -1).contiguous()
    one = tiny.convert(mel, lengths, embedding, steps=2, solver="pf")
    many = tiny.convert(mel, lengths, course, steps=2, solver="pf")
    assert torch.allclose(one, many, atol=1e-3)


def test_the_same_seed_gives_the_same_mels_and_another_gives_others(tiny):
    mel, lengths, embedding = _clips()
    runs = [
        tiny.convert(mel, lengths, embedding, steps=2, solver="em", seeds=seeds)
        for seeds in ([1, 2], [1, 2], [1, 3])
    ]
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0][0], runs[2][0])
    assert not torch.equal(runs[0][1], runs[2][1])


def test_the_score_loss_trains_the_decoder_and_leaves_the_encoder(tiny):
    mel, lengths, embedding = _clips()
    reference = Reference(mel=mel, mean=mel, lengths=lengths)
    loss = tiny.score_loss(
        mel, lengths, reference, embedding, time=torch.tensor([0.3, 0.7]), noise=_normal("noise", (2, 16, 22)),
    )  # fmt: skip
    assert torch.isfinite(loss)
    grown = torch.autograd.grad(loss, list(tiny.parameters()), allow_unused=True)
    moved = {
        name
        for (name, _), grad in zip(tiny.named_parameters(), grown, strict=True)
        if grad is not None and grad.any()
    }
    assert any(name.startswith("decoder.") for name in moved)
    assert not any(name.startswith("encoder.") for name in moved)


def test_span_statistics_are_those_of_the_span_alone():
    norm = SpanGroupNorm(2, 4)
    torch.nn.init.normal_(norm.weight)
    plane = _normal("plane", (2, 4, 3, 10))
    normal = norm(plane, frame_mask(torch.tensor([10, 6]), 10))
    assert torch.allclose(
        normal[:1], torch.nn.functional.group_norm(plane[:1], 2, norm.weight, norm.bias), atol=1e-5
    )
    alone = torch.nn.functional.group_norm(plane[1:, ..., :6], 2, norm.weight, norm.bias)
    assert torch.allclose(normal[1:, ..., :6], alone, atol=1e-5)


def test_weights_of_another_model_are_refused_by_name():
    state = DiffVC(TINY).state_dict()
    state.pop("decoder.estimator.final_conv.bias")
    with pytest.raises(InvalidInputError, match=r"final_conv\.bias' is missing .*not the weights of DiffVC"):
        load_diffvc(state, TINY)


def test_the_configuration_survives_as_text():
    assert DiffVCConfig.from_json(TINY.to_json()) == TINY
    with pytest.raises(InvalidInputError, match="no DiffVC configuration"):
        DiffVCConfig.from_json('{"wings": 2}')


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bf16_on_the_gpu_agrees_with_fp32_on_the_cpu(tiny):
    mel, lengths, embedding = _clips()
    exact = tiny.convert(mel, lengths, embedding, steps=2, solver="pf")
    network = load_diffvc({key: value.clone() for key, value in tiny.state_dict().items()}, TINY).to("cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rough = network.convert(mel.cuda(), lengths.cuda(), embedding.cuda(), steps=2, solver="pf").cpu()
    assert float((rough - exact).abs().mean()) < 0.03 * float(exact.abs().mean())
