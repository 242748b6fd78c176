import numpy as np
import pytest
import torch

from affetto.acting.lip_gap import LinearGap
from affetto.generators.portrait.motion_data import MotionData, build_session, build_sessions
from affetto.generators.portrait.motion_losses import supervised_contrast
from affetto.generators.portrait.motion_net import MotionConfig, MotionNet, content_span
from affetto.generators.portrait.motion_sampling import FlowSampler
from affetto.generators.portrait.motion_space import BLINK, HEAD, LOOKS, PREFIX, SHAPES, STYLE, WINDOW
from affetto.generators.portrait.motion_vae import FlowVae, VaeConfig
from affetto.generators.portrait.motion_weights import load_net
from affetto.generators.portrait.train_motion import sampler_of, train_motion, trainer_of, validate
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.runtime.errors import UsageError
from affetto.speech.clips import Clip
from affetto.speech.content import SpeechContent
from affetto.speech.corpus import RATE, Utterance
from affetto.speech.phones import TimedPhone
from affetto.speech.readings import write_reading

CPU = torch.device("cpu")
SMALL = MotionConfig(width=32, layers=2, heads=2, modulation=16, embedding=8, bank=16, codes=8)


def make_clip(index, split="train"):
    rng = np.random.default_rng(index)
    phones, clock = [], 0.2
    while clock < 2.5:
        length = float(rng.uniform(0.05, 0.15))
        phones.append(
            TimedPhone(str(rng.choice(["m", "a", "p", "u", "s", "i", "b", "o"])), clock, clock + length)
        )
        clock += length
    content = SpeechContent.from_phones(phones, 3.0)
    loud = content.speaking * (0.6 + 0.4 * np.sin(np.arange(len(content)) / 4)).astype(np.float32)
    content = SpeechContent.from_phones(phones, 3.0, loud)
    return Clip(name=f"clip{index}", split=split, phones=tuple(phones), readings=(content, content))


@pytest.fixture(scope="module")
def data():
    sessions = build_sessions([make_clip(index) for index in range(6)], renditions=2, seed=0)
    return MotionData(sessions, seed=0, emotions=12)


@pytest.fixture(scope="module")
def gap():
    return LinearGap.of(HeadModel.load())


def test_performers_differ_and_say_the_same():
    clips = [make_clip(index) for index in range(3)]
    one, other = (build_session(clips, np.random.default_rng(seed)) for seed in (1, 2))
    assert np.abs(one.style - other.style).max() > 0.5
    count = min(len(one), len(other), 120)
    opened = [session.speech[:count, ARKIT_INDEX["jawOpen"]] for session in (one, other)]
    assert np.corrcoef(*opened)[0, 1] > 0.95
    assert np.abs(one.sway[:count] - other.sway[:count]).mean() > 0.005


def test_a_batch_pairs_emotions_across_performers_and_is_the_same_from_another_process(data):
    batch, again = (next(data.batches(8, start=5, workers=workers)) for workers in (0, 1))
    assert torch.equal(batch.motion, again.motion)
    assert batch.content.shape[1] == content_span()
    assert torch.equal(batch.features[0::2], batch.features[1::2])
    assert not torch.equal(batch.style[0::2], batch.style[1::2])
    shapes = batch.motion[..., SHAPES]
    assert 0.0 <= float(shapes.min()) <= float(shapes.max()) <= 1.0
    assert float(shapes[..., torch.from_numpy(LOOKS)].abs().max()) == 0.0
    assert float(batch.motion[..., BLINK].max()) <= 1.0
    assert float(batch.motion[..., HEAD].abs().max()) < 0.6
    kept = batch.is_known.sum(dim=1)
    assert set(kept.tolist()) <= {0, PREFIX}


def test_contrast_is_least_when_equal_emotions_lie_together():
    features = torch.zeros(6, WINDOW, 12)
    for index, anchor in enumerate((1, 1, 2, 2, 3, 3)):
        features[index, :, anchor] = 1.0
    held = torch.ones(6, dtype=torch.bool)
    together = torch.eye(3).repeat_interleave(2, dim=0)
    apart = torch.eye(3).repeat(2, 1)
    assert float(supervised_contrast(together, features, held)) < 0.1
    assert float(supervised_contrast(apart, features, held)) > 2.0
    assert float(supervised_contrast(apart, features, ~held)) == 0.0


@pytest.mark.parametrize(
    "net",
    [MotionNet(SMALL), FlowVae(VaeConfig(width=16, latent=4, couplings=2, depth=2))],
    ids=["flow", "vae"],
)
def test_training_learns_saves_and_scores_itself(net, data, gap, tmp_path):
    trainer = trainer_of(lambda: net, data, gap, seed=0, device=CPU, windows=8)
    first = next(data.batches(8))

    def error():
        with torch.no_grad():
            losses = trainer.losses(trainer.net, first, torch.Generator().manual_seed(3))
        return float(next(iter(losses.values())))

    before = error()
    seen = []
    trainer.train(0.8, rate=3e-3, progress=seen.append)
    assert trainer.step > 3
    assert error() < before
    trainer.save(tmp_path / "net.safetensors", {"state": "training"})
    scores = validate(sampler_of(trainer.average, gap, CPU), data, gap, seed=0, rounds=1, windows=2)
    assert scores.gap_mae > 0
    assert np.isfinite(scores.roughness)


def test_scales_are_those_of_the_data_and_dead_channels_stay_still(data, gap):
    trainer = trainer_of(lambda: MotionNet(SMALL), data, gap, seed=0, device=CPU)
    net = trainer.net
    normal = net.normalised(data.batch(64, np.random.default_rng(7)).motion)
    live = net.live.bool()
    assert 0.6 < float(normal[..., live].std()) < 1.4
    assert not live[:52][torch.from_numpy(LOOKS)].any()
    torch.testing.assert_close(net.restored(normal)[..., ~live], net.mean[~live].expand(64, WINDOW, -1))
    assert isinstance(sampler_of(net, gap, CPU), FlowSampler)
    assert len(STYLE) == net.wear[0].in_features


def test_the_recipe_runs_from_readings_and_resumes(tmp_path):
    (tmp_path / "readings").mkdir()
    for index in range(9):
        clip = make_clip(index, "validation" if index > 6 else "train")
        samples = np.zeros(round(3.0 * RATE), np.float32)
        spoken = Utterance(
            name=clip.name,
            samples=samples,
            phones=clip.phones,
            split=clip.split,
            source="made",
            language="de",
        )
        for reader, content in zip(("oracle", "embedded"), clip.readings, strict=True):
            write_reading(tmp_path / "readings", spoken, content, reader)
    output = tmp_path / "motion.safetensors"
    scores = train_motion(tmp_path / "readings", output, seconds=0.5, seed=1, device="cpu", config=SMALL)
    assert scores.gap_mae > 0
    first = int(load_net(output)[1]["step"])
    train_motion(tmp_path / "readings", output, seconds=0.5, seed=1, resume=True, device="cpu", config=SMALL)
    assert int(load_net(output)[1]["step"]) > first
    with pytest.raises(UsageError, match="positive time budget"):
        train_motion(tmp_path / "readings", output, seconds=0.0)
