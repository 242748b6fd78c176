"""SynchroRaMa on top of DICE-Talk: nothing changes before training, and each addition reaches the picture after."""

import dataclasses

import numpy as np
import pytest
import torch

from affetto.conditioning.anchors import ANCHORS_8
from affetto.generators.portrait.full.denoiser import TalkingDenoiser
from affetto.generators.portrait.full.framing import FaceBox
from affetto.generators.portrait.full.options import DiceTalkOptions
from affetto.generators.portrait.full.pipeline import DiceTalkPipeline
from affetto.generators.portrait.full.synchro_denoiser import SynchroDenoiser, is_new
from affetto.generators.portrait.full.synchro_emotion import (
    EmotionFusion,
    Evidence,
    evidence_of_label,
    read_evidence,
)
from affetto.generators.portrait.full.synchro_judge import LatentJudge, judge_terms
from affetto.generators.portrait.full.synchro_pipeline import (
    SceneAsked,
    SceneText,
    SynchroRaMaPipeline,
    face_points,
    reference_for,
)
from affetto.generators.portrait.full.synchro_reference import draw_motion, reference_rows
from affetto.generators.portrait.full.synchro_weights import SynchroWeights
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.weights.store import save_tensors

from .small import BOX, TINY, WIDTH, photo, speech, tiny_pipeline

FAST = DiceTalkOptions(size=64, steps=1)


def opened(seed=1):
    """A SynchroRaMa on the tiny DICE-Talk whose own parts have been moved by chance."""
    dice = tiny_pipeline()
    pipe = on(dice)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.nn.init.normal_(pipe.fusion.out.weight, std=2.0)
        for name, value in pipe.unet.named_parameters():
            if is_new(name):
                torch.nn.init.normal_(value, std=1.0)
    return dice, pipe


def on(dice: DiceTalkPipeline) -> SynchroRaMaPipeline:
    unet = SynchroDenoiser.from_dice(dice.unet)
    weights = SynchroWeights.of(
        unet, dice.audio_linear, dice.emotion_model, EmotionFusion(width=8, outputs=8), reference_for(unet)
    )
    pipe = SynchroRaMaPipeline.on(tiny_pipeline(), weights)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_before_training_the_result_is_dice_talks_own():
    dice = tiny_pipeline()
    pipe = on(dice)
    scene = torch.randn(5, WIDTH)
    made = [
        each(photo(), speech(), "angry", box=BOX, options=FAST, **more).latents
        for each, more in ((dice, {}), (pipe, {"asked": SceneAsked(transcript="I hate this!", scene=scene)}))
    ]
    assert torch.allclose(made[0], made[1], atol=1e-4)


@pytest.fixture(scope="module")
def trained():
    return opened()[1]


def latents(pipe, **asked):
    asked = SceneAsked(**{"evidence": 0.0, **asked})
    return pipe(photo(), speech(), "happy@0.5", box=BOX, options=FAST, asked=asked).latents


def test_words_scene_and_motion_each_reach_the_picture(trained):
    plain = latents(trained)
    curves = FaceCurves.neutral(4, 12.5)
    curves.weights[:, ARKIT_INDEX["jawOpen"]] = 1.0
    others = {
        "evidence": latents(trained, evidence=1.0, transcript="What a wonderful day!"),
        "scene": latents(trained, scene=torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))),
        "motion": latents(trained, motion=curves),
    }
    for name, value in others.items():
        assert (value - plain).abs().max() > 1e-4, name
    assert torch.equal(latents(trained), plain)


def test_dice_talks_names_stay_and_only_slots_and_gates_are_new():
    config = TINY.unet
    dice, synchro = TalkingDenoiser(**config), SynchroDenoiser(**config)
    new = set(synchro.state_dict()) - set(dice.state_dict())
    assert set(dice.state_dict()) <= set(synchro.state_dict())
    assert all(is_new(key) for key in new)
    assert sum(key.endswith("gate") for key in new) == 16
    assert sum("_ip.2." in key for key in new) == 64
    wrong = TalkingDenoiser(**{**config, "adapter_slots": 1})
    with pytest.raises(InvalidInputError, match="is none of DICE-Talk"):
        SynchroDenoiser.from_dice(wrong)


def test_at_the_published_size_the_reference_fits_every_site():
    from accelerate import init_empty_weights

    with init_empty_weights():
        denoiser = SynchroDenoiser()
        reference = reference_for(denoiser)
    widths = {
        name: module.to_q.in_features for name, module in denoiser.named_modules() if name in reference.sites
    }
    theirs = {
        name: module.to_q.in_features for name, module in reference.unet.named_modules() if name in widths
    }
    assert len(reference.sites) == 16
    assert widths == theirs
    assert set(widths) == set(reference.sites)


def test_without_evidence_the_fusion_takes_no_step():
    torch.manual_seed(0)
    fusion = EmotionFusion(width=8, outputs=4)
    torch.nn.init.normal_(fusion.out.weight)
    nothing = fusion(*Evidence.none(3).tensors(torch.device("cpu"), torch.float32))
    assert torch.equal(nothing, torch.zeros(3, 4))
    sure = fusion(*evidence_of_label("angry", 1.0, 3).tensors(torch.device("cpu"), torch.float32))
    half = fusion(*evidence_of_label("angry", 0.5, 3).tensors(torch.device("cpu"), torch.float32))
    assert float(sure.detach().abs().max()) > float(half.detach().abs().max()) > 0


def test_evidence_tells_what_words_and_voice_say():
    sound = speech(1.0)
    glad = read_evidence(sound, "I am so happy, this is wonderful!", 12, 12.5)
    bad = read_evidence(sound, "This is horrible, I hate it.", 12, 12.5)
    silent = read_evidence(sound, "", 12, 12.5)
    assert glad.text[0, 2] > 0.3 > glad.text[0, 0]
    assert bad.text[0, 0] > 0.3 > bad.text[0, 2]
    assert (silent.confidence[:, 0] == 0).all()
    assert len(glad) == 12
    np.testing.assert_allclose(glad.speech.sum(axis=1), 1.0, atol=1e-4)
    assert evidence_of_label("sad", 0.7, 2).speech[0].argmax() == ANCHORS_8.index("sad")


def test_the_drawing_shows_the_points_where_they_are():
    points = np.full((2, 68, 2), 68.0)  # in the middle of a drawn pixel
    points[1, 48:] += [[40.0, 0.0]]
    drawn = draw_motion(points, (128, 128), (16, 16))
    assert drawn.shape == (2, 3, 16, 16)
    assert drawn[0].max() > 0.7
    assert drawn[0, :, :4].max() < 0.01
    assert drawn[1, :, 8, 13].max() > 0.5 > drawn[0, :, 8, 13].max()


def test_drawings_are_spread_over_the_clip():
    middles, index = reference_rows(60, 25)
    assert list(middles) == [12, 37, 59]
    assert index.tolist() == [0] * 25 + [1] * 25 + [2] * 10


def test_an_open_jaw_moves_the_chin_down_in_the_picture():
    curves = FaceCurves.neutral(2, 12.5)
    curves.weights[1, ARKIT_INDEX["jawOpen"]] = 1.0
    face = FaceBox(left=20.0, top=20.0, right=80.0, bottom=100.0)
    points = face_points(curves, face)
    assert points[1, 8, 1] > points[0, 8, 1] + 2
    assert 19.999 <= points[0, :, 0].min() < points[0, :, 0].max() <= 80.001
    assert abs(points[0, :, 1].max() - 100) < 1e-3


def test_the_judge_learns_a_batch_and_reads_less_error_after():
    torch.manual_seed(0)
    judge = LatentJudge(width=16, states=6, embedding=5, channels=8)
    given = (torch.randn(3, 4, 4, 8, 8), torch.randn(3, 4, 6), 0.1 * torch.randn(3, 4, 136),
             torch.tensor([0, 3, 5]), torch.randn(3, 5))  # fmt: skip
    optimiser, losses = torch.optim.Adam(judge.parameters(), lr=3e-3), []
    for _ in range(60):
        loss = sum(judge_terms(judge, *given, contrast=True).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    after = judge_terms(judge, *given, contrast=False)
    assert set(after) == {"sync", "expression", "emotion", "looks"}
    assert float(after["sync"].detach()) < 0.5


def test_weights_survive_their_file_and_other_files_are_refused(tmp_path):
    _, pipe = opened()
    path = SynchroWeights.of(
        pipe.unet, pipe.audio_linear, pipe.emotion_model, pipe.fusion, pipe.reference, data="noise"
    ).save(tmp_path / "s.safetensors")
    loaded = SynchroWeights.load(path)
    assert loaded.is_synchrorama
    assert dict(loaded.about) == {"data": "noise"}
    again = SynchroRaMaPipeline.on(tiny_pipeline(), loaded)
    again.set_progress_bar_config(disable=True)
    assert torch.allclose(latents(again), latents(pipe), atol=1e-5)
    other = save_tensors(tmp_path / "x.safetensors", {"w": np.ones(2, np.float32)}, {})
    with pytest.raises(InvalidInputError, match="train them with affetto train portrait-synchro"):
        SynchroWeights.load(other)


def test_adapters_of_dice_talk_alone_go_onto_dice_talk(tmp_path):
    dice = tiny_pipeline()
    trained = SynchroWeights.of(tiny_pipeline(seed=7).unet, dice.audio_linear, dice.emotion_model)
    assert not trained.is_synchrorama
    before = dice(photo(), speech(), "sad", box=BOX, options=FAST).latents
    made = trained.put_on(dice.unet, dice.audio_linear, dice.emotion_model)
    assert made is dice.unet
    after = dice(photo(), speech(), "sad", box=BOX, options=FAST).latents
    assert (before - after).abs().max() > 1e-5


def test_what_cannot_be_is_refused_in_words(trained, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"evidence must lie in 0\.\.2"):
        trained(photo(), speech(), box=BOX, options=FAST, asked=SceneAsked(evidence=3.0))
    with pytest.raises(UsageError, match="the scene's tokens are 7 wide"):
        trained(photo(), speech(), box=BOX, options=FAST, asked=SceneAsked(scene=torch.zeros(2, 7)))
    with pytest.raises(MissingResourceError, match="holds no CLIP text model"):
        SceneText(tmp_path, device=torch.device("cpu"))
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    with pytest.raises(MissingResourceError, match="affetto train portrait-synchro"):
        SynchroRaMaPipeline.from_pretrained()


def test_a_clip_can_be_moved_with_all_it_holds(trained):
    clip = {}

    def keep(portrait, states, frames, emotion, options, original=trained._conditions):
        clip["made"] = original(portrait, states, frames, emotion, options)
        return clip["made"]

    trained._conditions = keep
    try:
        latents(trained, scene=torch.zeros(2, WIDTH))
    finally:
        del trained._conditions
    moved = clip["made"].moved(torch.device("cpu"), torch.float32)
    assert [field.name for field in dataclasses.fields(moved)] == [
        f.name for f in dataclasses.fields(clip["made"])
    ]
    assert all(torch.equal(moved.references[site], rows) for site, rows in clip["made"].references.items())
