import json
import runpy
from pathlib import Path

import av
import matplotlib
import mido
import numpy as np
import pytest
import soundfile
import trimesh

from affetto.media.animation.files import load_curves
from affetto.media.animation.gltf_curves import read_glb_curves
from affetto.media.loudness import integrated_loudness
from affetto.runtime.errors import CancelledError, InvalidInputError, UsageError
from affetto.runtime.progress import CancelToken
from affetto.scene.director import Director
from affetto.scene.loading import load_scene
from affetto.scene.model import Scene
from tests.scene.small import hello

OUTPUTS = [
    "voice",
    "curves",
    "mesh",
    "head",
    "score",
    "music",
    "mix",
    "subtitles",
    "timeline",
    "track",
    "sheet",
]


def document(folder: Path, **changes: object) -> dict:
    hello(folder)
    return {
        "title": "Small",
        "size": 64,
        "speech": {
            "audio": "hello.wav",
            "text": "Hello, I am so happy to meet you!",
            "emotion": "0:neutral; 0.5:neutral; 0.9:happy",
        },
        "music": {"key": "F", "tail": 0.4},
        "outputs": OUTPUTS,
        **changes,
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    (folder / "scene.json").write_text(json.dumps(document(folder)))
    events = []
    made = Director(folder / "scene.json", device="cpu").render(folder / "out", callback=events.append)
    return made, events


def test_every_output_that_is_asked_for_is_there(rendered):
    made, events = rendered
    names = {path.name for path in made.files}
    assert {"voice.wav", "face.csv", "face.glb", "head.mp4", "score.mid", "music.wav", "mix.wav", "subtitles.srt",
            "timeline.otio", "emotion.csv", "sheet.png", "sync.json", "recipe.json"} <= names  # fmt: skip
    assert all(path.stat().st_size > 60 for path in made.files)
    assert {event.stage for event in events} >= {"voice", "mix", "sync", "pictures"}
    looks = {event.stage: event.preview() for event in events if event.preview is not None}
    assert {stage: next(iter(look)) for stage, look in looks.items()}.items() >= {
        "voice": "peaks", "face": "curves", "motion": "curves", "compose": "notes", "instruments": "notes", "mix": "peaks",
        "pictures": "picture",
    }.items()  # fmt: skip
    planned = Director(made.folder.parent / "scene.json").plan()
    assert set(planned.outputs) == names


def test_voice_and_face_are_in_time_and_the_music_meets_the_turn(rendered):
    found = rendered[0].document()
    lags = {lag["what"]: lag for lag in found["sync"]["lags"]}
    assert lags["emotion in the voice"]["holds"]
    assert lags["emotion in the brows"]["holds"]
    assert lags["lips on the sound"]["holds"]
    assert all(hit["within_half_a_beat"] for hit in found["sync"]["music"])


def test_the_mix_is_as_loud_as_asked_and_as_long_as_the_picture(rendered):
    folder = rendered[0].folder
    samples, rate = soundfile.read(folder / "mix.wav", dtype="float32")
    assert integrated_loudness([samples.T], rate) == pytest.approx(-16, abs=0.2)
    assert np.abs(samples).max() < 0.95
    with av.open(str(folder / "head.mp4")) as video:
        frames = sum(1 for _ in video.decode(video=0))
    with av.open(str(folder / "head.mp4")) as video:
        sound = sum(frame.samples for frame in video.decode(audio=0))
    assert frames / 25 == pytest.approx(len(samples) / rate, abs=1e-6)
    assert sound / 48_000 == pytest.approx(frames / 25, abs=0.05)


def test_other_programs_readers_find_what_was_written(rendered):
    folder = rendered[0].folder
    assert mido.MidiFile(folder / "score.mid").length > 1.0
    assert len(trimesh.load(folder / "face.glb").geometry) >= 1
    curves = load_curves(folder / "face.csv")
    again = read_glb_curves(folder / "face.glb")
    count = min(len(curves), len(again))
    assert count > 50
    smile = again.channel("mouthSmileLeft")[:count]
    assert np.corrcoef(smile, curves.channel("mouthSmileLeft")[:count])[0, 1] > 0.99


def test_what_other_programs_read_is_what_was_made(rendered):
    folder = rendered[0].folder
    interop = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "interop.py"))
    found = interop["read"](folder, rendered[0].performance.timeline.seconds, 25.0)
    assert {each.reader for each in found} >= {
        "OpenTimelineIO", "its CMX 3600 adapter", "mido", "mido, pretty_midi", "trimesh", "pygltflib", "usd-core",
        "PyAV", "soundfile", "json",
    }  # fmt: skip
    assert [each for each in found if not each.agrees] == []


def test_the_recipe_makes_the_same_bytes_again(rendered, tmp_path):
    made, _ = rendered
    loaded = load_scene(made.folder / "recipe.json")
    assert loaded.scene == made.scene
    again = Director(loaded, device="cpu").render(made.folder.parent / "again")
    for path in again.files:
        assert path.read_bytes() == (made.folder / path.name).read_bytes(), path.name


def test_a_recipe_whose_input_has_changed_is_refused(rendered, tmp_path):
    made, _ = rendered
    recipe = json.loads((made.folder / "recipe.json").read_text())
    recipe["inputs"]["hello.wav"] = "0" * 64
    (made.folder.parent / "changed").mkdir(exist_ok=True)
    path = made.folder.parent / "changed" / "recipe.json"
    path.write_text(json.dumps(recipe))
    with pytest.raises(InvalidInputError, match="not the file"):
        Director(path).render(tmp_path / "out")


def test_files_that_are_there_stay_unless_overwriting_is_asked_for(rendered):
    made, _ = rendered
    with pytest.raises(UsageError, match="already exists"):
        Director(made.folder.parent / "scene.json").render(made.folder)


def test_a_cancelled_render_stops_and_leaves_no_half_written_file(tmp_path):
    cancel = CancelToken()
    cancel.cancel()
    director = Director(Scene.model_validate(document(tmp_path)), base=tmp_path, device="cpu")
    with pytest.raises(CancelledError):
        director.render(tmp_path / "out", cancel=cancel)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_stream_gives_the_scene_in_chunks_with_its_sound(rendered):
    made, _ = rendered
    director = Director(load_scene(made.folder.parent / "scene.json"), device="cpu")
    director._performance = made.performance  # motion and sound were made above
    chunks = list(director.stream())
    assert chunks[1].start_s == pytest.approx(1.0)
    total = sum(len(chunk.frames) for chunk in chunks)
    assert total == round(made.performance.timeline.seconds * 25)
    sound = np.concatenate([chunk.sound for chunk in chunks], axis=1)
    assert sound.shape[1] == made.performance.mix.samples.shape[1]
    assert chunks[0].frames.shape[1:] == (64, 64, 3)


def test_strength_zero_leaves_voice_and_face_as_if_nothing_was_felt(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_RECIPE", "off")  # which tells the wishes apart
    changes = {"outputs": ["voice", "curves"], "music": None}
    hello(tmp_path)
    files = []
    for name, emotion in (("none", "neutral"), ("zero", "angry@0")):
        plain = document(tmp_path, **changes)
        plain["speech"]["emotion"] = emotion
        made = Director(Scene.model_validate(plain), base=tmp_path, device="cpu").render(tmp_path / name)
        files.append({path.name: path.read_bytes() for path in made.files if path.suffix in (".wav", ".csv")})
    assert files[0] == files[1]


def test_a_portrait_plays_like_the_head_and_stays_itself_where_nothing_moves(tmp_path):
    picture = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    marks = Path(__file__).parents[1] / "generators" / "portrait" / "marks" / "grace_hopper.json"
    portrait = {"image": str(picture), "landmarks": str(marks)}
    hello(tmp_path, stop=1.2)
    scene = Scene.model_validate(
        {
            "size": 256,
            "fps": 12.5,
            "speech": {"audio": "hello.wav", "emotion": "happy"},
            "speaker": {"portrait": portrait, "voice": {"convert": False}},
            "outputs": ["talking"],
        }
    )
    made = Director(scene, base=tmp_path, device="cpu").render(tmp_path / "out")
    with av.open(str(tmp_path / "out" / "talking.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    assert len(frames) == round(made.performance.timeline.seconds * 12.5)
    moved = np.abs(np.stack(frames) - frames[0]).max(axis=(0, 3))
    assert moved.max() > 40  # the face
    assert np.median(moved[:40, :40]) < 12  # a corner
    assert str(marks) in json.loads((tmp_path / "out" / "recipe.json").read_text())["inputs"]
