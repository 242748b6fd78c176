"""EMOTE behind the face's call: windows, FLAME curves, ARKit weights, files, and what is told when weights lack."""

import dataclasses

import numpy as np
import pytest
import torch

from affetto.conditioning.track import as_track
from affetto.generators.face.full.emote_animator import EmoteAnimator, open_flame
from affetto.generators.face.full.emote_weights import save_emote
from affetto.generators.face.full.flame_curves import FlameCurves, FlameToArkit
from affetto.generators.face.full.speaker import EmoteMotion, Span, cross_fade, spans
from affetto.generators.face.pipeline import FaceAnimator
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.media.audio import Audio
from affetto.runtime.errors import CancelledError, InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.progress import CancelToken
from tests.head.flame_like import flame_like

from .small import tiny_emote


def tone(seconds: float) -> Audio:
    """A voiced sound that swells and pauses."""
    times = np.arange(round(seconds * 16_000)) / 16_000
    swell = np.clip(np.sin(2 * np.pi * 1.5 * times), 0, 1)
    sound = 0.3 * swell * np.sign(np.sin(2 * np.pi * 140 * times)) + 0.002 * np.sin(2 * np.pi * 900 * times)
    return Audio(samples=sound[None].astype(np.float32), rate=16_000)


@pytest.fixture(scope="module")
def animator():
    return EmoteAnimator(tiny_emote(), flame_like()[0], device=torch.device("cpu"))


@pytest.fixture(scope="module")
def animation(animator):
    return animator(tone(2.0), "0:neutral; 1:angry", fps=30.0, seed=3)


def test_a_clip_up_to_the_published_length_is_one_window():
    assert spans(550) == [Span(start=0, stop=550)]


@pytest.mark.parametrize("frames", [551, 750, 751, 1500, 90_000])
def test_windows_cover_everything_and_their_shares_sum_to_one(frames):
    windows = spans(frames)
    shares = np.zeros(frames)
    for index, window in enumerate(windows):
        assert window.stop - window.start <= 400
        shares[window.start : window.stop] += cross_fade(windows, index)
    np.testing.assert_allclose(shares, 1.0, atol=1e-9)
    assert len({window.stop - window.start for window in windows}) == 1


def test_long_sound_goes_through_in_windows_that_batches_do_not_change():
    sound = tone(26.0).mono()
    whole, batched = (
        EmoteMotion(tiny_emote(), device=torch.device("cpu"), batch=size)(sound, as_track("happy"))
        for size in (1, 2)
    )
    assert len(whole) == 650
    np.testing.assert_allclose(whole.expression, batched.expression, atol=1e-4)
    steps = np.linalg.norm(np.diff(whole.expression, axis=0), axis=1)
    (first, second) = spans(650)
    assert steps[second.start - 1 : first.stop + 1].max() <= 1.5 * steps.max()


def test_an_animation_lasts_as_long_as_the_sound_and_stays_in_bounds(animation):
    assert len(animation.curves) == 60
    assert animation.curves.weights.min() >= 0
    assert animation.curves.weights.max() <= 1
    assert len(animation.flame) == 50
    assert np.ptp(animation.curves.channel("jawOpen")) > 0


def test_the_emotion_reaches_the_flame_curves_from_where_it_begins(animator):
    plan = animator.plan(tone(2.0), "neutral")
    calm = animator.flame_curves(plan)
    felt = animator.flame_curves(dataclasses.replace(plan, track=as_track("angry")))
    none = animator.flame_curves(dataclasses.replace(plan, track=as_track("angry@0")))
    assert np.abs(felt.expression - calm.expression).max() > 1e-3
    assert np.array_equal(none.expression, calm.expression)


def test_the_same_seed_gives_the_same_curves(animator, animation):
    again = animator(tone(2.0), "0:neutral; 1:angry", fps=30.0, seed=3)
    assert np.array_equal(again.curves.weights, animation.curves.weights)


def test_every_kind_of_face_file_is_written(animation, tmp_path):
    for name in ("a.csv", "a.json", "a.npz", "a.glb"):
        assert animation.save(tmp_path / name).stat().st_size > 0
    back = FlameCurves.load(animation.flame.save(tmp_path / "flame.npz"))
    assert np.array_equal(back.expression, animation.flame.expression)
    with pytest.raises(UsageError, match=r"written as \.npz"):
        animation.flame.save(tmp_path / "flame.csv")


def test_text_is_refused_and_styles_are_checked(animator):
    with pytest.raises(UsageError, match="hears and does not read"):
        animator(tone(1.0), text="hello")
    with pytest.raises(UsageError, match="no speaking style"):
        animator(tone(1.0), style="nobody")
    with pytest.raises(InvalidInputError, match="silent"):
        animator(Audio(samples=np.zeros((1, 16_000), np.float32), rate=16_000))


def test_a_style_changes_the_motion(animator):
    plans = [animator.plan(tone(1.0), style=name) for name in ("M003", "W029")]
    first, second = (animator.flame_curves(plan).expression for plan in plans)
    assert np.abs(first - second).max() > 1e-4


def test_a_stream_gives_the_whole_clip_in_pieces(animator):
    sound = tone(11.5)
    pieces = list(animator.stream(sound, "happy"))
    assert len(pieces) > 1
    assert sum(len(piece) for _, piece in pieces) == 345
    assert [round(start * 30) for start, _ in pieces] == np.cumsum([0] + [len(p) for _, p in pieces])[
        :-1
    ].tolist()
    assert all(isinstance(piece, FaceCurves) for _, piece in pieces)


def test_work_can_be_stopped_and_is_reported(animator):
    token, seen = CancelToken(), []
    animator(tone(1.0), callback_on_step_end=seen.append)
    assert (seen[0].stage, seen[0].done, seen[0].total) == ("motion", 1, 1)
    token.cancel()
    with pytest.raises(CancelledError):
        animator(tone(1.0), cancel=token)


def test_flame_curves_change_rate_without_changing_shape():
    times = np.arange(50) / 25
    curves = FlameCurves(
        fps=25.0, expression=np.sin(2 * np.pi * times)[:, None].astype(np.float32),
        jaw=np.stack([0.2 * times, 0 * times, 0 * times], axis=1).astype(np.float32),
    )  # fmt: skip
    faster = curves.resampled(60.0)
    assert len(faster) == 120
    inner = np.arange(110) / 60
    np.testing.assert_allclose(faster.expression[:110, 0], np.sin(2 * np.pi * inner), atol=1e-3)
    np.testing.assert_allclose(faster.jaw[:110, 0], 0.2 * inner, atol=1e-6)


def test_motion_made_of_our_shapes_comes_back_as_their_weights():
    flame, mixes = flame_like()
    rng = np.random.default_rng(0)
    expression = np.zeros((30, 100), np.float32)
    chosen = rng.choice(100, 4, replace=False)
    expression[:, chosen] = np.clip(np.cumsum(rng.normal(0, 0.1, (30, 4)), axis=0), 0, 0.8)
    curves = FlameCurves(fps=25.0, expression=expression, jaw=np.zeros((30, 3), np.float32))
    arkit = FlameToArkit(flame, HeadModel.load())
    found, asked = arkit(curves), np.clip(expression @ mixes, 0, 1)
    active = asked.max(axis=0) > 0.1
    assert np.sqrt(np.mean((found - asked) ** 2)) < 0.06
    assert np.corrcoef(found[:, active].ravel(), asked[:, active].ravel())[0, 1] > 0.8
    jaw = np.zeros((10, 3), np.float32)
    jaw[:, 0] = np.linspace(0, 0.15, 10)
    opened = arkit(FlameCurves(fps=25.0, expression=np.zeros((10, 100), np.float32), jaw=jaw))
    assert (np.diff(opened[:, ARKIT_INDEX["jawOpen"]]) > 0).all()
    assert (opened[:, ARKIT_INDEX["mouthClose"]] <= opened[:, ARKIT_INDEX["jawOpen"]] + 1e-6).all()


def test_without_weights_the_user_is_told_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError, match="run affetto weights pull emote") as told:
        FaceAnimator.from_pretrained("emote")
    assert told.value.exit_code == 4
    with pytest.raises(
        MissingResourceError, match=r"affetto weights pull flame2023-open --from flame2023_Open\.pkl"
    ):
        open_flame()
    with pytest.raises(MissingResourceError, match="use 'embedded' or 'emote'"):
        FaceAnimator.from_pretrained("emot")


def test_pulled_weights_are_found_and_answer_the_same_call(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    save_emote(tmp_path / "weights" / "emote.safetensors", tiny_emote())
    flame_like()[0].save(tmp_path / "weights" / "flame2023-open.safetensors")
    face = FaceAnimator.from_pretrained("emote", device="cpu")
    assert isinstance(face, EmoteAnimator)
    assert len(face(tone(0.5), "sad", fps=24.0).curves) == 12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bf16_on_the_gpu_moves_like_fp32_on_the_cpu():
    sound, track = tone(2.0).mono(), as_track("happy")
    exact = EmoteMotion(tiny_emote(), device=torch.device("cpu"))(sound, track)
    rough = EmoteMotion(tiny_emote(), device=torch.device("cuda"), dtype=torch.bfloat16)(sound, track)
    assert np.abs(exact.expression - rough.expression).mean() < 0.05 * np.abs(exact.expression).mean()
