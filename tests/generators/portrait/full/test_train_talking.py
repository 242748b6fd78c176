"""From videos to trained adapters: preparing, seeing, the losses, and both recipes on a video made here."""

import csv
import json

import numpy as np
import pytest
import torch

from affetto.apps.cli import main
from affetto.generators.portrait.full.guidance import ALL
from affetto.generators.portrait.full.options import DiceTalkOptions
from affetto.generators.portrait.full.pipeline import DiceTalkPipeline
from affetto.generators.portrait.full.prepare_videos import (
    PrepareOptions,
    prepare_videos,
    read_labels,
    sampled,
    track,
)
from affetto.generators.portrait.full.synchro_pipeline import SynchroRaMaPipeline
from affetto.generators.portrait.full.synchro_weights import SynchroWeights
from affetto.generators.portrait.full.talking_data import read_prepared
from affetto.generators.portrait.full.talking_objectives import discriminator_class
from affetto.generators.portrait.full.train_talking import (
    TalkingRecipe,
    save_activations,
    train_portrait_dice,
    train_portrait_synchro,
)
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.head.landmarks68 import landmarks_of
from affetto.head.model import HeadModel
from affetto.media.video import probe_video, read_sound
from affetto.media.video_writer import VideoWriter
from affetto.runtime.errors import InvalidInputError, UsageError

from .small import BOX, photo, speech, tiny_pipeline

SMALL = PrepareOptions(size=64, least_s=0.5)


def face_at(x: float, y: float) -> FaceLandmarks:
    """The 68 points of our head about a place, forty pixels wide."""
    points = landmarks_of(HeadModel.load().mesh.surface.positions)[:, :2] * np.array([300.0, -300.0])
    points = (points - points.mean(axis=0) + np.array([x, y])).astype(np.float32)
    return FaceLandmarks(
        points=points, variance=np.ones((68, 2), np.float32), pose=(0.0, 0.0, 0.0), confidence=0.9
    )


def finder(picture):
    """Finds the bright square that the test's videos show."""
    rows, columns = np.nonzero(picture[..., 0] > 180)
    return [face_at(columns.mean(), rows.mean())] if len(rows) > 50 else []


def video(path, seconds=1.6, audio=True, face=True):
    sound = speech(seconds) if audio else None
    with VideoWriter(path, (128, 128), 25, sound) as writer:
        for number in range(round(seconds * 25)):
            frame = np.full((128, 128, 3), 40, np.uint8)
            if face:
                frame[44:84, 40 + number // 2 : 80 + number // 2] = 230
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "inner").mkdir()
    video(folder / "inner" / "a.mp4")
    video(folder / "mute.mp4", audio=False)
    video(folder / "empty.mp4", face=False)
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"0" * 200)
    (folder / "labels.csv").write_text(
        'video,emotion,level,transcript,scene\ninner/a.mp4,happy,2,"What a lovely day","a square, smiling"\n'
    )
    return folder


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    return prepare_videos(videos, output, finder=finder, options=SMALL), output


def test_videos_become_clips_and_those_that_cannot_be_used_are_named(prepared):
    made, output = prepared
    assert made.clips == ("inner_a_000",)
    reasons = {path.rsplit("/", 1)[1]: reason for path, reason in made.refused.items()}
    assert "no sound" in reasons["mute.mp4"]
    assert "a face is seen in 0" in reasons["empty.mp4"]
    assert set(reasons) == {"mute.mp4", "empty.mp4", "broken.mp4"}
    info = probe_video(output / "inner_a_000.mp4")
    assert (info.size, info.fps) == ((64, 64), 12.5)
    with (output / "index.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["emotion"], row["level"], row["frames"]) == ("happy", "2", "20")


def test_the_face_stays_inside_the_crop_and_moves_with_the_video(prepared):
    from affetto.weights.store import read_arrays

    arrays, _ = read_arrays(prepared[1] / "inner_a_000.safetensors")
    points = arrays["points"]
    assert points.shape == (20, 68, 2)
    assert 0 <= points.min() < points.max() <= 64
    assert (np.diff(points[:, :, 0].mean(axis=1)) >= -0.5).all()
    assert points[-1, 0, 0] > points[0, 0, 0] + 2
    assert arrays["text"][0, 2] > 0  # a lovely day


def test_the_sound_of_a_video_is_read(videos):
    sound = read_sound(videos / "inner" / "a.mp4")
    assert abs(sound.seconds - 1.6) < 0.1
    assert not sound.is_silent
    assert read_sound(videos / "mute.mp4") is None


def test_frames_are_taken_at_the_rate_of_the_denoiser(videos):
    assert len(list(sampled(videos / "inner" / "a.mp4", 12.5))) == 20
    assert len(list(sampled(videos / "inner" / "a.mp4", 25.0))) == 40


def test_the_same_face_is_followed_where_there_are_several():
    frames = [np.zeros((128, 128, 3), np.uint8)] * 4
    answers = iter([[face_at(40, 60)], [face_at(100, 60), face_at(42, 60)]] * 2)
    points = track(frames, lambda _: next(answers), PrepareOptions(track_every=1), "a video")
    assert points[:, :, 0].mean(axis=1).max() < 60


def test_wrong_labels_and_folders_are_named(tmp_path):
    (tmp_path / "labels.csv").write_text("video,emotion\na.mp4,joyous\n")
    with pytest.raises(InvalidInputError, match="line 2: unknown emotion 'joyous'"):
        read_labels(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text("video,level\na.mp4,9\n")
    with pytest.raises(InvalidInputError, match="level '9'"):
        read_labels(tmp_path / "labels.csv")
    with pytest.raises(InvalidInputError, match="holds no videos"):
        prepare_videos(tmp_path, tmp_path / "out", finder=finder)
    video(tmp_path / "mute.mp4", audio=False)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(InvalidInputError, match="no video can be used, the first because"):
        prepare_videos(tmp_path, tmp_path / "out", finder=finder, options=SMALL)
    with pytest.raises(UsageError, match="multiple of 64"):
        PrepareOptions(size=100)
    with pytest.raises(InvalidInputError, match="run affetto prepare-videos first"):
        read_prepared(tmp_path)


def test_the_command_prepares_a_folder(videos, tmp_path, capsys, monkeypatch):
    from affetto.generators.portrait.full import prepare_videos as module

    monkeypatch.setattr(module, "_own_finder", lambda: finder)
    assert (
        main(["prepare-videos", str(videos), "-o", str(tmp_path / "out"), "--size", "64", "--json", "-q"])
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["clips"] == ["inner_a_000"]
    assert len(said["refused"]) == 3
    assert main(["prepare-videos", str(videos / "inner" / "a.mp4"), "-o", str(tmp_path / "out")]) == 3
    assert main(["prepare-videos", str(videos), "-o", str(tmp_path / "out"), "--size", "65"]) == 2


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dice") / "tiny"
    tiny_pipeline().save_pretrained(str(folder))
    return folder


def recipe(start, **more) -> TalkingRecipe:
    given = {
        "start": str(start),
        "frames": 3,
        "batch": 2,
        "accumulate": 1,
        "steps": 2,
        "judge_width": 8,
        "precision": "no",
    }
    return TalkingRecipe(**{**given, **more})


def test_synchrorama_trains_goes_on_and_speaks(prepared, start, tmp_path):
    output = tmp_path / "s.safetensors"
    made = train_portrait_synchro(
        prepared[1], output, seconds=600.0, seed=1, device="cpu", recipe=recipe(start, rate=1e-2)
    )
    assert (made["judge_steps"], made["talk_steps"]) == (2, 2)
    assert np.isfinite([made["judge_last"], made["talk_last"]]).all()
    weights = SynchroWeights.load(output)
    assert weights.is_synchrorama
    assert weights.slots == 3
    pipe = SynchroRaMaPipeline.on(DiceTalkPipeline.from_pretrained(start, device="cpu"), weights)
    pipe.set_progress_bar_config(disable=True)
    gates = [float(value.detach()) for name, value in pipe.unet.named_parameters() if name.endswith("gate")]
    assert any(abs(gate) > 0 for gate in gates)
    more = train_portrait_synchro(
        prepared[1],
        output,
        seconds=600.0,
        seed=1,
        device="cpu",
        recipe=recipe(start, steps=3, rate=1e-2),
        resume=True,
    )
    assert (more["judge_steps"], more["talk_steps"]) == (3, 3)
    checkpointed = sum(path.stat().st_size for path in (output.parent / "s-work" / "state").rglob("*"))
    assert checkpointed < 4 * output.stat().st_size  # what does not learn is not written again and again


def test_dice_talks_adapters_train_alone(prepared, start, tmp_path):
    output = tmp_path / "d.safetensors"
    made = train_portrait_dice(
        prepared[1],
        output,
        seconds=600.0,
        device="cpu",
        recipe=recipe(start, shares=(0.0, 1.0), checkpointing=False),
    )
    assert made["talk_steps"] == 2
    assert "judge_steps" not in made
    weights = SynchroWeights.load(output)
    assert (weights.slots, weights.is_synchrorama) == (2, False)
    before = tiny_pipeline().unet.state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in weights.adapters.items())


def test_computing_activations_again_changes_no_gradient():
    dice = tiny_pipeline()
    kept = {}
    options = DiceTalkOptions(size=64, steps=1)
    original, gradients = dice._conditions, []
    dice._conditions = lambda *given: kept.setdefault("clip", original(*given))
    dice(photo(), speech(), box=BOX, options=options)
    for again in (False, True):
        pipe = tiny_pipeline()
        if again:
            save_activations(pipe.unet)
        sample = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
        clip = kept["clip"]
        frames = torch.tensor([[0, 1, 2]])
        out = pipe.unet(
            sample.clone(),
            0.3,
            clip.conditioning(frames, [ALL]),
            clip.time_ids[None],
            clip.spatial[None, None].clone(),
        )
        out.sample.square().mean().backward()
        gradients.append(
            {
                name: value.grad.clone()
                for name, value in pipe.unet.named_parameters()
                if value.grad is not None
            }
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        assert torch.allclose(value, gradients[1][name], atol=1e-6), name


def test_the_discriminators_classes_are_neutral_and_seven_times_three():
    labels = torch.tensor([[emotion, level] for emotion in range(8) for level in (1, 2, 3)])
    classes = discriminator_class(labels)
    assert set(classes.tolist()) == set(range(22))
    assert (classes[:3] == 0).all()
    assert classes[3:].tolist() == list(range(1, 22))


def test_the_recipe_file_is_read_strictly(tmp_path):
    assert TalkingRecipe.beside(tmp_path) == TalkingRecipe()
    (tmp_path / "talking.json").write_text('{"frames": 8, "weights": {"sync": 0.5}, "shares": [0.2, 0.8]}')
    read = TalkingRecipe.beside(tmp_path)
    assert (read.frames, read.weights.sync, read.weights.bank, read.shares) == (8, 0.5, 0.25, (0.2, 0.8))
    (tmp_path / "talking.json").write_text('{"wings": 2}')
    with pytest.raises(InvalidInputError, match="is no recipe"):
        TalkingRecipe.beside(tmp_path)
    with pytest.raises(UsageError, match="at least 2 frames"):
        TalkingRecipe(frames=1)
