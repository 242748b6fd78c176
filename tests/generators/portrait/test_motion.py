import numpy as np
import pytest
import torch

from affetto.acting.closure import CLOSED_GAP
from affetto.acting.lip_gap import LinearGap
from affetto.acting.pieces import join
from affetto.conditioning.track import as_track
from affetto.generators.portrait.motion import MotionGenerator, MotionOptions
from affetto.generators.portrait.motion_limits import Course, Limits, LinearLimits
from affetto.generators.portrait.motion_net import MotionConfig, MotionNet
from affetto.generators.portrait.motion_sampling import FlowSampler, Guidance, guided
from affetto.generators.portrait.motion_space import (
    BLINK,
    CHANNELS,
    FPS,
    GAZE,
    HEAD,
    SHAPES,
    WINDOW,
    Amounts,
    drawn_style,
    noise_mixer,
    to_curves,
)
from affetto.generators.portrait.motion_vae import FlowVae, VaeConfig, VaeSampler, load_vae, save_vae
from affetto.generators.portrait.motion_weights import load_net, save_net
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.media.audio import Audio
from affetto.runtime.errors import CancelledError, InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.progress import CancelToken
from affetto.speech.content import SpeechContent
from affetto.speech.content_net import ContentConfig, ContentEncoder
from affetto.speech.phones import TimedPhone, closure_windows
from affetto.speech.reader import ContentReader

CPU = torch.device("cpu")
SMALL = MotionConfig(width=32, layers=2, heads=2, modulation=16, embedding=8, bank=16, codes=8)


@pytest.fixture(scope="module")
def head():
    return HeadModel.load()


def random_net(kind=MotionNet, config=SMALL):
    """A network that reacts to all it is told, as after training, with plausible sizes of motion."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = kind(config)
        for parameter in net.parameters():
            if float(parameter.detach().abs().max()) == 0:
                torch.nn.init.normal_(parameter, std=0.1)
    net.mean[SHAPES] = 0.2
    net.scale.fill_(0.15)
    net.scale[53:] = 0.05
    return net.eval()


@pytest.fixture(scope="module")
def generator(head):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ContentEncoder(ContentConfig(width=16, layers=1, heads=2, reach_s=0.2))
    reader = ContentReader(encoder, device=CPU)
    sampler = FlowSampler.of(random_net(), LinearGap.of(head), device=CPU)
    return MotionGenerator(reader, sampler, head, device=CPU)


def said(seconds=7.0):
    """Syllables with bilabials, then silence."""
    phones, clock = [], 0.3
    for index in range(int((seconds - 1.5) / 0.2)):
        phones.append(TimedPhone("mpb"[index % 3], clock, clock + 0.08))
        phones.append(TimedPhone("aiu"[index % 3], clock + 0.08, clock + 0.2))
        clock += 0.2
    return tuple(phones), SpeechContent.from_phones(phones, seconds)


def sound(seconds, seed=0):
    times = np.arange(round(seconds * 16_000)) / 16_000
    beat = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * times + seed)
    samples = 0.2 * beat * np.sin(2 * np.pi * 150 * times)
    return Audio(samples=samples[None].astype(np.float32), rate=16_000)


def played(generator, content, emotion=None, **options):
    options = MotionOptions(**{"guidance": Guidance(steps=2), **options})
    return join(generator.perform([content], as_track(emotion), options), options.fps)


def test_guidance_of_one_is_the_model_and_the_scales_are_nested():
    chance = torch.Generator().manual_seed(0)
    free, spoken, felt = torch.randn(3, 2, WINDOW, CHANNELS, generator=chance)
    off = torch.zeros(CHANNELS)
    torch.testing.assert_close(guided(free, spoken, felt, Guidance(audio=1.0, emotion=1.0), off), felt)
    both = guided(free, spoken, felt, Guidance(audio=3.0, emotion=2.0), off)
    torch.testing.assert_close(both, free + 3.0 * (spoken - free) + 2.0 * (felt - spoken))
    mute = guided(free, spoken, felt, Guidance(audio=0.0, emotion=1.0), off)
    torch.testing.assert_close(mute, free + felt - spoken)


def test_emotion_beyond_the_data_is_kept_off_the_lip_aperture():
    chance = torch.Generator().manual_seed(1)
    free, spoken, felt = torch.randn(3, 1, WINDOW, CHANNELS, generator=chance)
    aperture = torch.nn.functional.normalize(torch.rand(CHANNELS, generator=chance), dim=0)
    plain = guided(free, spoken, felt, Guidance(audio=1.0, emotion=1.0), aperture)
    pushed = guided(free, spoken, felt, Guidance(audio=1.0, emotion=3.0), aperture)
    torch.testing.assert_close((pushed - plain) @ aperture, torch.zeros(1, WINDOW), atol=1e-4, rtol=0)
    assert float((pushed - plain).abs().max()) > 1.0


@pytest.mark.parametrize("wrong", [{"audio": -1.0}, {"emotion": 11.0}, {"steps": 0}, {"steps": 65}])
def test_impossible_guidance_is_refused(wrong):
    with pytest.raises(UsageError, match=r"lies in|must lie in"):
        Guidance(**wrong)


def test_noise_has_unit_variance_and_is_as_slow_as_the_channel():
    mixer = noise_mixer()
    np.testing.assert_allclose(np.square(mixer).sum(axis=2), 1.0, rtol=1e-5)
    white = np.random.default_rng(0).standard_normal((400, WINDOW, CHANNELS))
    noise = np.einsum("cts,bsc->btc", mixer, white)
    pace = np.diff(noise, axis=1).std(axis=(0, 1))
    assert pace[HEAD].max() < 0.3 < 0.6 < pace[ARKIT_INDEX["jawOpen"]]


def test_known_frames_come_back_untouched_and_steer_what_follows(head):
    sampler = FlowSampler.of(random_net(), LinearGap.of(head), device=CPU)
    chance = torch.Generator().manual_seed(2)
    content = torch.rand(1, 160, sampler.net.hear[0].in_channels, generator=chance)
    features, style = torch.rand(1, WINDOW, 12, generator=chance), torch.zeros(1, 11)
    white = torch.randn(1, WINDOW, CHANNELS, generator=chance)
    is_known = torch.arange(WINDOW)[None] < 10
    runs = []
    with torch.inference_mode():
        for level in (0.1, 0.6):
            known = torch.full((1, WINDOW, CHANNELS), level)
            runs.append(
                sampler(content, features, style, known, is_known, white, Guidance(steps=3), lambda x: x)
            )
    for run, level in zip(runs, (0.1, 0.6), strict=True):
        assert torch.equal(run[:, :10], torch.full((1, 10, CHANNELS), level))
    assert float((runs[0] - runs[1])[:, 10:].abs().mean()) > 1e-4


def test_zero_intensity_equals_neutral_bit_for_bit(generator):
    _, content = said()
    plain, zero, happy = (played(generator, content, text) for text in (None, "angry@0", "happy"))
    for part in ("weights", "head", "eyes"):
        assert np.array_equal(getattr(plain, part), getattr(zero, part))
    assert not np.array_equal(plain.weights, happy.weights)


@pytest.mark.parametrize("emotion", [None, "surprised@1.5"])
def test_lips_meet_on_every_bilabial_whatever_was_drawn(generator, head, emotion):
    phones, content = said()
    curves = played(generator, content, emotion, seed=3)
    gap = head.lip_gap(curves.weights)
    for start, stop in closure_windows(phones):
        frames = slice(round((start - 0.02) * FPS), round((stop + 0.02) * FPS) + 1)
        assert gap[frames].min() < 0.015


def test_another_seed_is_another_performer_with_the_same_closures(generator, head):
    phones, content = said()
    one, other = (played(generator, content, "happy", seed=seed) for seed in (1, 2))
    again = played(generator, content, "happy", seed=1)
    assert np.array_equal(one.weights, again.weights)
    assert np.array_equal(one.head, again.head)
    assert np.abs(one.head - other.head).mean() > 1e-3
    middles = [round((start + stop) / 2 * FPS) for start, stop in closure_windows(phones)]
    for curves in (one, other):
        assert (head.lip_gap(curves.weights[middles]) < 2.5 * CLOSED_GAP).all()


def test_content_in_pieces_gives_what_the_whole_gives(generator):
    _, content = said(9.0)
    options = MotionOptions(guidance=Guidance(steps=2), seed=4, fps=30.0)
    pieces = [content.sliced(start, min(start + 70, len(content))) for start in range(0, len(content), 70)]
    track = as_track("0:neutral; 3:angry; 6:sad@0.5")
    whole = join(generator.perform([content], track, options), 30.0)
    parts = join(generator.perform(pieces, track, options), 30.0)
    assert len(whole) == 270
    np.testing.assert_allclose(whole.weights, parts.weights, atol=1e-5)
    np.testing.assert_allclose(whole.head, parts.head, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.2, 1.01, 2.56, 2.57, 5.0])
@pytest.mark.parametrize("fps", [25.0, 60.0])
def test_a_performance_lasts_as_long_as_its_sound(generator, seconds, fps):
    curves = generator(sound(seconds), "happy", fps=fps, steps=1)
    assert len(curves) == round(seconds * fps)
    assert curves.fps == fps


def test_a_stream_is_the_whole_and_tells_where_it_is(generator, tmp_path):
    speech = sound(6.3)
    options = MotionOptions(guidance=Guidance(steps=1), seed=5)
    pieces = list(generator.stream(speech, "sad", options=options))
    whole = generator(speech, "sad", seed=5, steps=1)
    assert len(pieces) > 2
    starts = [start for start, _ in pieces]
    lengths = [len(piece) for _, piece in pieces]
    np.testing.assert_allclose(starts, np.cumsum([0, *lengths[:-1]]) / FPS)
    assert np.array_equal(np.concatenate([piece.weights for _, piece in pieces]), whole.weights)


def test_progress_is_told_and_cancelling_stops(generator):
    told = []
    generator(sound(4.0), steps=1, callback=told.append)
    assert told[-1].done == told[-1].total == 100
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        generator(sound(4.0), steps=1, cancel=token)


def test_speech_that_cannot_be_is_refused(generator):
    with pytest.raises(InvalidInputError, match="give at least"):
        generator(sound(0.1))
    with pytest.raises(InvalidInputError, match="silent"):
        generator(Audio(samples=np.zeros((1, 16_000), np.float32), rate=16_000))


def test_limits_lower_the_lips_without_touching_the_upper_face(head):
    gap = LinearGap.of(head)
    frames = 20
    limits = Limits(
        shut=np.arange(frames) == 10, quiet=(np.arange(frames) > 15).astype(float), rest_gap=np.zeros(frames),
        blink=np.linspace(0, 1, frames), rest_head=np.zeros((frames, 3)), rest_gaze=np.zeros((frames, 2)),
    )  # fmt: skip
    motion = torch.full((1, frames, CHANNELS), 0.3)
    limited = LinearLimits(limits, gap, CPU)(motion)
    opening = gap(limited[..., SHAPES])[0]
    assert float(gap(motion[..., SHAPES]).min()) > 0.05
    assert float(opening[10]) < 0.012
    assert float(opening[17:].max()) < 0.03
    assert torch.equal(limited[0, 3, :BLINK], motion[0, 3, :BLINK])
    brow = ARKIT_INDEX["browInnerUp"]
    assert torch.equal(limited[..., brow], motion[..., brow])
    torch.testing.assert_close(limited[0, :, BLINK], torch.linspace(0, 1, frames))


def test_amounts_scale_what_lies_beyond_the_rest():
    rows = np.zeros((4, CHANNELS), np.float32)
    rows[:, HEAD], rows[:, GAZE] = 0.3, 0.2
    rest_head, rest_gaze = np.full((4, 3), 0.1), np.full((4, 2), 0.05)
    still = to_curves(rows, rest_head, rest_gaze, Amounts(head_motion=0.0, gaze=0.0))
    np.testing.assert_allclose(still.head, 0.1, rtol=1e-6)
    np.testing.assert_allclose(still.eyes, 0.05, rtol=1e-6)
    double = to_curves(rows, rest_head, rest_gaze, Amounts(head_motion=2.0))
    np.testing.assert_allclose(double.head, 0.5, rtol=1e-6)
    with pytest.raises(UsageError, match="blinks lies in"):
        Amounts(blinks=4.0)


def test_no_blinks_when_none_are_wanted(generator):
    _, content = said(12.0)
    lid = ARKIT_INDEX["eyeBlinkLeft"]
    none = played(generator, content, amounts=Amounts(blinks=0.0)).weights[:, lid]
    many = played(generator, content, amounts=Amounts(blinks=3.0)).weights[:, lid]
    assert many.max() > 0.9 > none.max()


def test_styles_differ_by_seed_and_stay_within_reason():
    styles = np.stack([drawn_style(seed) for seed in range(200)])
    assert np.abs(styles).max() <= 1.5
    assert np.abs(styles.std(axis=0) - 0.75).max() < 0.15


def test_weights_survive_the_disk_in_half_precision(tmp_path):
    net = random_net()
    save_net(tmp_path / "net.safetensors", net, {"step": "3"})
    read, metadata = load_net(tmp_path / "net.safetensors")
    assert metadata["step"] == "3"
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    with pytest.raises(InvalidInputError, match="flow-VAE"):
        load_vae(tmp_path / "net.safetensors")
    with pytest.raises(MissingResourceError, match="no portrait motion 'grand'"):
        MotionGenerator.from_pretrained("grand")


def test_the_vae_prior_is_invertible_and_draws_windows(head, tmp_path):
    net = random_net(FlowVae, VaeConfig(width=16, latent=4, couplings=2, depth=2))
    chance = torch.Generator().manual_seed(0)
    content = torch.rand(2, 160, net.hear[0].in_channels, generator=chance)
    features, style = torch.rand(2, WINDOW, 12, generator=chance), torch.zeros(2, 11)
    known = torch.zeros(2, WINDOW, CHANNELS)
    is_known = torch.arange(WINDOW)[None].expand(2, -1) < 10
    with torch.inference_mode():
        told = net.told(content, features, style, known, is_known)
        z = torch.randn(2, 4, WINDOW // 4, generator=chance)
        torch.testing.assert_close(net.from_noise(net.to_noise(z, told), told), z, atol=1e-4, rtol=1e-4)
        white = torch.randn(2, WINDOW, CHANNELS, generator=chance)
        drawn = VaeSampler(net, CPU)(
            content, features, style, known, is_known, white, Guidance(), lambda x: x
        )
    assert drawn.shape == (2, WINDOW, CHANNELS)
    assert torch.equal(drawn[:, :10], known[:, :10])
    save_vae(tmp_path / "vae.safetensors", net, {})
    assert load_vae(tmp_path / "vae.safetensors")[0].config == net.config


@pytest.mark.gpu
def test_cuda_in_bf16_agrees_with_the_cpu(generator, head):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    where = torch.device("cuda")
    sampler = FlowSampler.of(random_net(), LinearGap.of(head), device=where, dtype=torch.bfloat16)
    fast = MotionGenerator(generator._reader, sampler, head, device=where)
    _, content = said()
    one, other = played(generator, content, "happy"), played(fast, content, "happy")
    assert np.abs(one.weights - other.weights).mean() < 0.02


@pytest.fixture(scope="module")
def shipped():
    return MotionGenerator.from_pretrained("embedded", device="cpu")


def test_shipped_lips_follow_speech_and_rest_in_silence(shipped, head):
    phones, content = said()
    gap = head.lip_gap(played(shipped, content).weights)
    vowels = [
        gap[round((phone.start + 0.03) * FPS) : round(phone.end * FPS)].max()
        for phone in phones
        if phone.phone == "a"
    ]
    assert min(vowels) > 0.06
    for start, stop in closure_windows(phones):
        assert gap[round((start - 0.02) * FPS) : round((stop + 0.02) * FPS) + 1].min() < 0.015
    quiet = SpeechContent.from_phones((), 5.0)
    assert head.lip_gap(played(shipped, quiet).weights).max() < 0.06


def test_shipped_emotions_show_and_grow_with_intensity(shipped):
    _, content = said(4.0)
    for emotion, shape in (
        ("happy", "mouthSmileLeft"),
        ("angry", "browDownLeft"),
        ("surprised", "browOuterUpLeft"),
    ):
        none, half, full = (
            played(shipped, content, f"{emotion}@{strength}").weights[:, ARKIT_INDEX[shape]].mean()
            for strength in (0, 0.5, 1)
        )
        assert none + 0.1 < half < full - 0.05


def test_shipped_heads_move_smoothly_and_differ_by_seed(shipped):
    _, content = said(9.0)
    one, other = (played(shipped, content, seed=seed).head for seed in (1, 2))
    assert np.rad2deg(np.abs(np.diff(one, n=2, axis=0)).mean()) < 0.1
    assert np.rad2deg(np.abs(one - other).mean()) > 0.5


def test_a_course_is_smooth_and_goes_on_from_known_frames_as_they_were_moving():
    chance = torch.Generator().manual_seed(0)
    known = (0.01 * torch.arange(10.0))[None, :, None].expand(1, 10, CHANNELS)
    rough = 0.5 + 0.05 * torch.randn(1, WINDOW, CHANNELS, generator=chance)
    course = Course(known.contiguous())(rough)
    assert torch.equal(course[:, :10], known)
    bend = torch.diff(course, n=2, dim=1).abs()
    assert float(bend[0, 12:, HEAD].mean()) < 0.1 * float(
        torch.diff(rough, n=2, dim=1).abs()[0, 12:, HEAD].mean()
    )
    step = course[0, 10] - course[0, 9]
    torch.testing.assert_close(step[HEAD], torch.full((3,), 0.01), atol=1e-5, rtol=0)
    torch.testing.assert_close(step[SHAPES], torch.full((52,), 0.005), atol=1e-5, rtol=0)
    assert abs(float(course[0, 40:, ARKIT_INDEX["jawOpen"]].mean()) - 0.5) < 0.03


def test_glances_leap_through_the_course_and_jitter_does_not():
    gaze = torch.zeros(1, WINDOW, CHANNELS)
    gaze[:, 30:, GAZE] = 0.1
    gaze[:, 10, GAZE] = 0.3
    course = Course(torch.zeros(1, 0, CHANNELS))(gaze)[0, :, GAZE]
    assert float(course[:29].abs().max()) == 0.0
    torch.testing.assert_close(course[30:], torch.full_like(course[30:], 0.1))
