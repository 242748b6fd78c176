import numpy as np
import pytest
import torch

from affetto.generators.voice.controls import BANDS, WIDTH, VoiceControls
from affetto.generators.voice.residual_flow import ResidualFlow, frame_noise, load_net, save_net
from affetto.generators.voice.residual_net import ResidualConfig, ResidualNet
from affetto.generators.voice.speaker import SpeakerMeter, normalised, speaker_statistics
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError

TINY = ResidualConfig(width=16, style=16, code=8, blocks=2)


def _controls(frames=240, seed=0):
    rng = np.random.default_rng(seed)
    slow = np.sin(np.arange(frames) / 20)
    return VoiceControls(
        log_f0=(5.0 + 0.1 * slow).astype(np.float32),
        voiced=(slow > -0.5).astype(np.float32),
        energy=(-30 + 10 * slow).astype(np.float32),
        envelope=rng.standard_normal((frames, BANDS)).astype(np.float32),
        aperiodicity=np.full((frames, 3), 0.3, np.float32),
    )


def _net(seed=0):
    torch.manual_seed(seed)
    net = ResidualNet(TINY)
    torch.nn.init.normal_(net.leave.weight, std=0.02)
    return net


def _flow(net=None):
    return ResidualFlow(net or _net(), device=torch.device("cpu"))


def _run(flow, controls, **options):
    frames = len(controls)
    told = {"mean": np.ones((frames, WIDTH)), "place": np.zeros(256), "target": np.ones((frames, 256))}
    return flow(controls, options.pop("speaker", speaker_statistics(controls)), **{**told, **options})


def test_noise_belongs_to_a_frame_wherever_it_is_asked_for():
    whole = frame_noise(3, 0, 900)
    np.testing.assert_allclose(frame_noise(3, 250, 300), whole[250:550], atol=1e-6)
    assert abs(float(whole.std()) - 1.0) < 0.1
    assert np.abs(frame_noise(4, 0, 900) - whole).max() > 0.5


def test_the_same_seed_gives_the_same_residual():
    controls, flow = _controls(), _flow()
    first = _run(flow, controls, seed=1)
    assert np.array_equal(first, _run(flow, controls, seed=1))
    assert not np.allclose(first, _run(flow, controls, seed=2))
    assert first.shape == (240, WIDTH)
    assert np.isfinite(first).all()


def test_a_network_that_knows_nothing_gives_the_prior_mean():
    found = _run(_flow(ResidualNet(TINY)), _controls(), temperature=0.0)
    np.testing.assert_allclose(found, 1.0, atol=1e-6)


def test_a_push_leads_away_from_the_other_emotion_and_only_where_it_is_asked():
    controls, flow = _controls(), _flow()
    for block in flow.net.blocks:  # both begin at zero
        torch.nn.init.normal_(block.modulate.weight, std=0.3)
        torch.nn.init.normal_(block.mlp[-1].weight, std=0.1)
    frames = len(controls)
    other = np.linspace(-1, 1, 256) * np.ones((frames, 1))
    plain, there = _run(flow, controls), _run(flow, controls, target=other)
    assert np.array_equal(_run(flow, controls, away=other, push=np.zeros(frames)), plain)
    pushed = _run(flow, controls, away=other, push=np.full(frames, 0.5))
    way = plain - there
    assert float(((pushed - plain) * way).sum()) > 0.3 * float(np.square(way).sum())
    late = np.where(np.arange(frames) < 120, 0.0, 0.5)
    half = _run(flow, controls, away=other, push=late)
    np.testing.assert_allclose(half[:60], plain[:60], atol=1e-3)
    np.testing.assert_allclose(half[180:], pushed[180:], atol=1e-3)


def test_the_prior_mean_is_added_and_not_told():
    controls, flow = _controls(), _flow()
    frames = len(controls)
    found = [
        _run(flow, controls, mean=np.full((frames, WIDTH), level)) - np.float32(level) for level in (0.0, 3.0)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("frames", [1, 3, 4, 101])
def test_any_number_of_frames_is_taken(frames):
    controls = VoiceControls.from_stack(_controls().stack()[:frames])
    assert _run(_flow(), controls).shape == (frames, WIDTH)


def test_a_window_with_a_margin_agrees_with_the_whole():
    controls, flow = _controls(1200), _flow()
    speaker = speaker_statistics(controls)
    whole = _run(flow, controls, speaker=speaker)
    part = VoiceControls.from_stack(controls.stack()[200:1000])
    window = _run(flow, part, speaker=speaker, start=200)
    np.testing.assert_allclose(window[300:500], whole[500:700], atol=1e-3)


def test_impossible_steps_and_names_are_refused():
    with pytest.raises(UsageError, match="steps"):
        _run(_flow(), _controls(), steps=0)
    with pytest.raises(MissingResourceError, match="nobody"):
        ResidualFlow.from_pretrained("nobody")


def test_a_saved_network_comes_back(tmp_path):
    net = _net()
    save_net(tmp_path / "a.safetensors", net, {"seed": "0"})
    back = load_net(tmp_path / "a.safetensors")
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    save_net(tmp_path / "b.safetensors", ResidualNet(TINY), {"blocks": "3"})
    with pytest.raises(InvalidInputError, match=r"b\.safetensors"):
        load_net(tmp_path / "b.safetensors")


def test_statistics_gathered_in_pieces_are_those_of_the_whole():
    controls = _controls(600)
    meter = SpeakerMeter()
    for start in (0, 300):
        meter.add(VoiceControls.from_stack(controls.stack()[start : start + 300]))
    pieces, whole = meter.read(), speaker_statistics(controls)
    assert abs(pieces.log_f0 - whole.log_f0) < 1e-6
    np.testing.assert_allclose(pieces.envelope, whole.envelope, atol=1e-6)
    assert np.abs(normalised(controls, whole)).max() <= 5.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_finds_what_the_cpu_finds():
    controls = _controls()
    there = ResidualFlow(_net(), device=torch.device("cuda"))
    np.testing.assert_allclose(_run(there, controls), _run(_flow(), controls), atol=2e-3)
