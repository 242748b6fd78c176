"""Every network and the sampler against the published code's outputs."""

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from affetto.generators.portrait.full.attention import Conditioning, TokenTable
from affetto.generators.portrait.full.checkpoints import fill
from affetto.generators.portrait.full.clip import ClipConditions, FrameTokens, WindowPlan
from affetto.generators.portrait.full.decoding import encode_picture
from affetto.generators.portrait.full.denoiser import TalkingDenoiser
from affetto.generators.portrait.full.guidance import Guidance
from affetto.generators.portrait.full.projections import EmotionDiscriminator, PoseGuider
from affetto.generators.portrait.full.sampler import Cut, Denoising, Schedule
from affetto.generators.portrait.full.sizes import DiceSizes, scheduler
from affetto.generators.portrait.full.speech import speech_windows
from affetto.generators.portrait.full.workers import DevicePool, Worker

from . import parity

TOLERANCE, SAMPLER_TOLERANCE = 1e-4, 1e-3
SIZES = DiceSizes()


@pytest.fixture(scope="module", autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def emotion_model():
    return fill("emotion_model", SIZES, parity.official("emo_model"))


@pytest.fixture(scope="module")
def audio_linear():
    return fill("audio_linear", SIZES, parity.official("audio_linear"))


@pytest.fixture(scope="module")
def denoiser():
    return parity.filled(
        TalkingDenoiser(block_out_channels=(32, 64, 64, 64), num_attention_heads=(2, 4, 4, 4), sample_size=8)
    )


def face_mask():
    mask = torch.zeros(64, 64)
    mask[16:48, 16:48] = 1
    return mask


def test_parity_of_emotion_tokens_and_bank(emotion_model):
    prior = parity.tensor("input.emotion_prior", (1, 1, 1, 1, 256)).reshape(1, 256)
    for mode in ("attend", "retrieve"):
        output = emotion_model(prior, mode)
        assert parity.differs(output.tokens, parity.golden(f"emotion_tokens.{mode}")) < TOLERANCE
        assert parity.differs(output.loss, parity.golden("emotion_tokens.vq_loss")) < TOLERANCE
    assert output.indices.item() == int(parity.golden("emotion_bank.index").item())
    quantized = emotion_model.bank.codes[output.indices]
    assert parity.differs(quantized, parity.golden("emotion_bank.quantized")) < TOLERANCE


def test_parity_of_the_emotion_discriminator(emotion_model):
    middle = parity.tensor("input.unet_mid", (2, 1280, 8, 8))
    assert isinstance(emotion_model.classifier, EmotionDiscriminator)
    assert parity.differs(emotion_model.classifier(middle), parity.golden("emotion_classifier")) < TOLERANCE


def test_parity_of_audio_tokens(audio_linear):
    tokens = audio_linear(parity.tensor("input.audio", (1, 3, 10, 5, 384)))
    assert parity.differs(tokens, parity.golden("audio_tokens")) < TOLERANCE


def test_parity_of_pose_features():
    guider = fill("pose_guider", SIZES, parity.official("pose_guider"))
    pictures = parity.tensor("input.pose", (1, 3, 2, 64, 64)).abs()[0].transpose(0, 1)
    features = guider(pictures).transpose(0, 1)
    assert parity.differs(features, parity.golden("pose_features")) < TOLERANCE


def test_parity_of_frame_interpolation():
    interpolator = fill("interpolator", SIZES, parity.official("rife"))
    frames = parity.tensor("input.frames", (1, 6, 64, 64)).abs().clamp(0, 1)
    middle, flow = interpolator(frames[:, :3], frames[:, 3:])
    assert parity.differs(middle, parity.golden("rife.middle")) < TOLERANCE
    assert parity.differs(flow, parity.golden("rife.flow")) < TOLERANCE


@pytest.mark.parametrize("keeps_keys", [False, True])
def test_parity_of_the_denoiser_with_and_without_kept_keys(denoiser, keeps_keys):
    def table(name, tokens):
        rows = parity.tensor(f"input.{name}", (4, tokens, 1024))
        return TokenTable(rows=rows, index=torch.arange(4)[None])

    given = {
        "image": table("image", 1),
        "adapters": (table("audio_tokens", 32), table("emotion_tokens", 32)),
        "scales": (1.0, 1.0),
        "mask": face_mask(),
    }
    conditioning = Conditioning(**given)
    if keeps_keys:
        conditioning = Conditioning(**given, known=denoiser.known(conditioning))
    sample = parity.tensor("input.sample", (1, 4, 8, 8, 8))
    spatial = parity.tensor("input.spatial", (1, 4, 32, 8, 8))
    output = denoiser(sample, 1.25, conditioning, torch.tensor([[12.5, 8.0, 16.0]]), spatial)
    assert parity.differs(output.sample, parity.golden("unet.out")) < TOLERANCE


def sampler_conditions(emotion_model, audio_linear):
    vae = parity.filled(
        AutoencoderKLTemporalDecoder(
            block_out_channels=(32,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=1,
            sample_size=64,
        )
    )
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, patch_size=14,
        image_size=224, projection_dim=1024, hidden_act="gelu",
    )  # fmt: skip
    image = parity.filled(CLIPVisionModelWithProjection(vision))(
        parity.tensor("input.clip_image", (1, 3, 224, 224))
    ).image_embeds
    states = parity.tensor("input.whisper", (1, 40, 5, 384))[0]
    speech = torch.stack([states[4 * frame : 4 * frame + 10] for frame in range(6)])
    prior = parity.tensor("input.emotion_prior", (1, 1, 1, 1, 256)).reshape(1, 256)
    rows = torch.cat([emotion_model(prior).tokens, emotion_model.bank.null()])
    guider = parity.filled(PoseGuider(32, (8, 8, 8, 8)))
    return ClipConditions(
        image=image,
        latents=encode_picture(vae, parity.tensor("input.reference", (1, 3, 64, 64)).clamp(-1, 1)),
        audio=FrameTokens.of_frames(audio_linear(speech), audio_linear(torch.zeros_like(speech[0]))).padded(
            4
        ),
        emotion=FrameTokens(rows=rows, index=torch.zeros(6, dtype=torch.long), null=1).padded(4),
        spatial=guider(face_mask().expand(1, 3, 64, 64))[0],
        mask=face_mask(),
        time_ids=torch.tensor([12.5, 8.0, 16.0]),
    )


@pytest.mark.parametrize(
    ("guidance", "cut"),
    [
        (Guidance(image=3.0, audio=6.0), Cut()),
        (Guidance(image=3.0, audio=6.0, emotion=6.0), Cut(windows=2, branches_together=False)),
    ],
)
def test_parity_of_the_sampler_however_its_passes_are_cut(
    denoiser, emotion_model, audio_linear, guidance, cut
):
    clip = sampler_conditions(emotion_model, audio_linear)
    schedule = Schedule(steps=2, windows=WindowPlan(length=4, shift=2), guidance=guidance)
    noise = parity.tensor("input.noise", (1, 10, 4, 8, 8))[0]
    denoising = Denoising.from_noise(schedule, scheduler(), clip.latents * 0.18215, noise)
    pool = DevicePool([Worker(denoiser, clip, keep_keys=True, dtype=torch.float32)])
    for step in range(2):
        latents = denoising.step(step, pool, cut)
    assert parity.differs(latents, parity.golden("sampler.latents")) < SAMPLER_TOLERANCE


def test_parity_of_speech_windows_starts_eighty_milliseconds_early():
    states = torch.arange(1.0, 25.0)[:, None, None].expand(24, 5, 2).contiguous()
    windows = speech_windows(states, 6)
    padded = torch.cat([torch.zeros(4, 5, 2), states, torch.zeros(6, 5, 2)])
    for frame in range(6):
        assert torch.equal(windows[frame], padded[4 * frame : 4 * frame + 10])
