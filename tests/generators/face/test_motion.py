import numpy as np
import pytest
import torch

from affetto.acting.adapter import FaceAdapter, face_emotion
from affetto.acting.lip_gap import LinearGap
from affetto.acting.visemes import pose
from affetto.conditioning.adapter import ConditioningAdapter
from affetto.conditioning.track import as_track
from affetto.generators.face.motion import MARGIN, MotionModel, load_net, save_net
from affetto.generators.face.motion_data import batches, build_timeline
from affetto.generators.face.motion_net import MotionConfig, MotionNet
from affetto.generators.face.train_motion import MotionTrainer
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.speech.clips import Clip, read_clips
from affetto.speech.content import SpeechContent
from affetto.speech.phones import PHONES, TimedPhone
from affetto.speech.spoil import spoil

CPU = torch.device("cpu")
WORDS = [
    TimedPhone(label, 0.3 + 0.1 * i, 0.4 + 0.1 * i)
    for i, label in enumerate(["m", "a", "p", "u", "s", "i", "b", "o"])
]


def speech(seconds, seed=0):
    """Random speech of any length."""
    rng = np.random.default_rng(seed)
    phones, clock = [], 0.2
    while clock < seconds - 0.3:
        length = float(rng.uniform(0.05, 0.16))
        phones.append(TimedPhone(str(rng.choice(PHONES)), clock, clock + length))
        clock += length
    return SpeechContent.from_phones(phones, seconds)


def emotion(text, frames):
    return face_emotion(as_track(text).sample(np.arange(frames) / 50.0), 50.0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = MotionNet(MotionConfig(width=32, prior_width=32, latent=8, layers=3, heads=2))
    for block in net.decoder.blocks:  # styles that matter, as after training
        torch.nn.init.normal_(block.modulate.weight, std=0.1)
    return MotionModel(net, device=CPU)


def test_the_adapter_keeps_the_protocol_and_its_schema():
    adapter = FaceAdapter()
    assert isinstance(adapter, ConditioningAdapter)
    tensors = adapter("0:happy; 1:sad@0.5", length=100, fps=50.0)
    assert adapter.schema["emotion"].accepts(tensors["emotion"])
    assert tensors["emotion"].shape == (1, 100, 12)


@pytest.mark.parametrize("text", ["happy@0", "neutral", "vad(0.5,0.5,0.5)@0", None])
def test_zero_intensity_equals_no_emotion_bit_for_bit(model, text):
    content = speech(3.0)
    adapter = FaceAdapter()
    asked = adapter(text, length=len(content), fps=50.0)
    none = adapter.null(length=len(content))
    assert torch.equal(asked["emotion"], none["emotion"])
    assert np.array_equal(model(content, asked), model(content, none))


def test_emotion_changes_the_face(model):
    content = speech(3.0)
    calm, glad = (model(content, emotion(text, len(content))) for text in (None, "happy"))
    assert np.abs(calm - glad).mean() > 1e-4


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.38, 25.0])
def test_every_frame_gets_weights_within_bounds(model, seconds):
    content = SpeechContent.from_phones(WORDS, seconds)
    curves = model(content, emotion("sad", len(content)))
    assert curves.shape == (len(content), 52)
    assert curves.dtype == np.float32
    assert curves.min() >= 0
    assert curves.max() <= 1


def test_windows_join_as_if_there_were_none(model):
    content = speech(30.0)
    feeling = emotion("0:happy; 12:angry; 20:sad@0.6", len(content))
    joined = model(content, feeling)
    rows = torch.cat(
        [
            torch.from_numpy(
                np.concatenate(
                    [content.phones, np.stack([content.closure, content.loudness, content.speaking], 1)], 1
                )
            ),
            torch.from_numpy(feeling.features()),
        ],
        dim=1,
    )
    with torch.inference_mode():
        whole = model.net(rows[None, :, :-12].float(), rows[None, :, -12:])[0].clamp(0, 1).numpy()
    assert np.abs(joined - whole).max() < 1e-5


def test_a_piece_with_its_margin_equals_the_whole(model):
    content = speech(16.0)
    feeling = emotion("happy", len(content))
    whole = model(content, feeling)
    first, last = 400 - MARGIN, 600 + MARGIN
    part = SpeechContent(
        fps=50.0,
        phones=content.phones[first:last],
        closure=content.closure[first:last],
        loudness=content.loudness[first:last],
        speaking=content.speaking[first:last],
    )
    piece = type(feeling)(anchors=feeling.anchors[first:last], vad=feeling.vad[first:last])
    assert np.abs(model(part, piece)[MARGIN : MARGIN + 200] - whole[400:600]).max() < 1e-5


def test_several_clips_at_once_equal_each_alone(model):
    contents = [speech(2.0, 1), speech(3.1, 2), speech(2.0, 3)]
    feelings = [emotion("fear", len(content)) for content in contents]
    together = model(contents, feelings)
    for content, feeling, curves in zip(contents, feelings, together, strict=True):
        assert np.abs(model(content, feeling) - curves).max() < 1e-5


def test_emotion_of_another_length_is_refused(model):
    with pytest.raises(UsageError, match="100 rows of 12"):
        model(speech(2.0), emotion("sad", 99))


def test_weights_survive_the_disk_in_half_precision(model, tmp_path):
    save_net(tmp_path / "net.safetensors", model.net, {"seed": "0"})
    again = MotionModel.from_pretrained(str(tmp_path / "net.safetensors"), device="cpu")
    content = speech(2.0)
    feeling = emotion("sad", len(content))
    assert np.abs(again(content, feeling) - model(content, feeling)).max() < 5e-3


def test_foreign_weights_are_refused(tmp_path):
    save_net(tmp_path / "net.safetensors", MotionNet(MotionConfig(width=32, heads=2)), {"width": "64"})
    with pytest.raises(InvalidInputError, match="not the weights of a motion model"):
        load_net(tmp_path / "net.safetensors")


def make_clips(count=3):
    contents = [SpeechContent.from_phones(WORDS, 1.6) for _ in range(count)]
    return [
        Clip(name=str(i), split="train", phones=tuple(WORDS), readings=(content,))
        for i, content in enumerate(contents)
    ]


def test_a_spoilt_reading_still_says_the_same():
    perfect = make_clips(1)[0].readings[0]
    rows = np.concatenate(
        [perfect.phones, np.stack([perfect.closure, perfect.loudness, perfect.speaking], 1)], 1
    ).astype(np.float32)
    confusion = np.full((len(PHONES), len(PHONES)), 1.0 / len(PHONES))
    spoilt = spoil(rows, confusion, np.random.default_rng(0))
    assert np.allclose(spoilt[:, : len(PHONES)].sum(axis=1), 1, atol=1e-5)
    agree = (spoilt[:, : len(PHONES)].argmax(1) == rows[:, : len(PHONES)].argmax(1)).mean()
    assert 0.5 < agree < 1.0


def test_exchange_pairs_say_the_same_with_another_emotion():
    timeline = build_timeline(make_clips(12), readings=2, seed=0)
    batch = next(batches(timeline, clips=4, frames=64, seed=0))
    assert torch.equal(batch.content[:4], batch.content[4:])
    assert torch.equal(batch.emotion[4:7], batch.emotion[1:4])
    assert torch.equal(batch.visemes[:4], batch.visemes[4:])
    again = next(batches(timeline, clips=4, frames=64, seed=0))
    assert torch.equal(batch.target, again.target)


def test_missing_readings_are_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"holds no \.npz readings"):
        read_clips(tmp_path)


def test_every_stage_of_training_runs_and_scores_itself():
    timeline = build_timeline(make_clips(12), readings=1, seed=0)
    gap = LinearGap(pose({"jawOpen": 1.0, "mouthClose": -1.0}), 0.0)
    config = MotionConfig(width=32, prior_width=32, heads=2)
    trainer = MotionTrainer(timeline, gap=gap, seed=0, device=CPU, config=config)
    trainer.train_critics(0.2)
    trainer.train_prior(0.5)
    trainer.train_decoder(0.7, rate=3e-3)
    scores = trainer.validate(timeline, rounds=1)
    assert scores.lip_l1 < 3 * scores.mean_face_lip_l1
    assert 0 <= scores.exchange_agreement <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_in_bf16_agrees_with_the_cpu(model):
    content = speech(25.0)
    feeling = emotion("angry", len(content))
    on_gpu = MotionModel(MotionNet(model.net.config), device=torch.device("cuda"), dtype=torch.bfloat16)
    on_gpu.net.load_state_dict(model.net.state_dict())
    assert np.abs(on_gpu(content, feeling) - model(content, feeling)).max() < 0.05
