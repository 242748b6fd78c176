import json
from pathlib import Path

import jsonschema
import pytest

from affetto.media.audio import save_audio
from affetto.runtime.errors import InvalidInputError
from affetto.scene.loading import SceneError, check_scene, load_scene
from affetto.scene.model import OUTPUTS, Scene, schema
from affetto.scene.planning import output_names
from tests.scene.small import hum

ROOT = Path(__file__).parents[2]


def problems(folder: Path, text: str, name: str = "scene.yaml") -> list[str]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SceneError) as caught:
        load_scene(path)
    return [line.removeprefix(f"{path}:") for line in caught.value.lines]


def test_everything_that_is_wrong_is_told_at_once_with_its_line(tmp_path):
    found = problems(
        tmp_path,
        """affetto: 1
fps: 500
cast:
  ada: {voice: {gain: 9}}
turns:
  - {speaker: ada, audio: gone.wav, emotion: hapy}
  - speaker: bob
    text: hi
    emotion: "0:happy; 0:sad"
colour: red
outputs: [talking]
""",
    )
    lines = [int(line.split(":")[0]) for line in found]
    assert lines == sorted(lines)
    told = "\n".join(found)
    for line, words in (
        (2, "fps"),
        (4, "gain"),
        (6, "hapy"),
        (6, "gone.wav"),
        (7, "bob"),
        (9, "repeats"),
        (10, "colour"),
        (4, "portrait"),
    ):
        assert any(each.startswith(f"{line}:") and words in each for each in found), (line, words, told)


def test_an_unknown_output_is_told_once_and_hides_no_missing_file(tmp_path):
    found = problems(
        tmp_path,
        "affetto: 1\nspeech: {audio: nowhere.wav}\noutputs:\n  - voice\n  - movie\n  - curves\n  - opera\n",
    )
    assert [int(line.split(":")[0]) for line in found] == [2, 5, 7]
    assert "nowhere.wav" in found[0]
    assert "movie" in found[1]
    assert "opera" in found[2]


def test_files_of_another_kind_are_told_before_anything_is_made(tmp_path):
    (tmp_path / "me.jpg").write_bytes(b"RIFF" + bytes(200))
    (tmp_path / "tune.mid").write_bytes(b"no notes at all" * 20)
    (tmp_path / "c.json").write_text("{}", encoding="utf-8")
    found = problems(
        tmp_path,
        """affetto: 1
speech: {text: hello}
speaker: {portrait: {image: me.jpg}}
music: {like: tune.mid}
calibration: c.json
""",
    )
    assert [int(line.split(":")[0]) for line in found] == [3, 4, 5]
    assert "calibration" in found[2]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("speech:\n  audio: [a\n", 2, "not valid YAML"),
        ("speech: {text: hi}\nspeech: {text: ho}\n", 2, "given twice"),
        ("speech: !!python/object/apply:os.system ['true']\n", 1, "not read"),
        ("speech: {text: hi}\nturns: []\nmusic: {key: H flat}\n", 3, "unknown key"),
        ("- 1\n", 1, "mapping"),
        ("title: nothing said\n", 1, "speech, turns or shots"),
        ("speech: {}\n", 1, "audio, text or reply"),
        ("speech:\n  audio: x.wav\n  emotion: suggest\n", 3, "from words"),
        ("speech:\n  text: hi\n  reply: {to: you}\n", 3, "writes its own text"),
    ],
)
def test_a_bad_scene_is_refused_with_the_line_that_is_wrong(tmp_path, text, line, words):
    found = problems(tmp_path, text)
    assert any(each.startswith(f"{line}:") and words in each for each in found), found


def test_lines_that_yaml_cannot_read_are_all_told_and_the_rest_is_looked_at_too(tmp_path):
    found = problems(
        tmp_path,
        """affetto: 1
fps: 500
title: a: b
cast:
  ada: {voice: {gain: 2}
  bob: {head: {identity: 3}}
turns:
  - {speaker: bob, audio: gone.wav}
  - speaker ada
\tmusic: {}
emotion: *missing
speaker: !custom {a: 1}
background: !!python/name:os.system
colour: "red
""",
    )
    assert [int(line.split(":")[0]) for line in found] == [2, 3, 5, 8, 9, 10, 11, 12, 13, 14]
    told = dict(zip((int(line.split(":")[0]) for line in found), found, strict=True))
    assert "fps" in told[2]
    assert "mapping values are not allowed" in told[3]
    assert "gone.wav" in told[8]
    assert "undefined alias 'missing'" in told[11]
    assert "!custom" in told[12]
    assert "os.system" in told[13]


def test_what_was_left_out_is_not_said_to_be_missing(tmp_path):
    assert problems(tmp_path, "speech: {text: hi\n") == problems(tmp_path, "speech: {text: hi\n")
    assert len(problems(tmp_path, "speech: {text: hi\n")) == 1
    only = problems(tmp_path, "turns:\n  - {speaker: ada, text: hi}\ncast: ada: {}\n")
    assert [line.split(":")[0] for line in only] == ["3"]


def test_names_given_twice_and_values_of_other_kinds_are_told_together_and_lists_keep_their_lines(tmp_path):
    found = problems(
        tmp_path,
        """affetto: 1
title: one
title: two
turns:
  - !shot {speaker: ada}
  - {speaker: ada, text: hi, emotion: hapy}
cast: {ada: {}}
? [a, b]
: 1
outputs: [voice, !x opera, movie]
""",
    )
    assert [int(line.split(":")[0]) for line in found] == [3, 5, 6, 8, 10, 10]
    assert "'title' is given twice" in found[0]
    assert "hapy" in found[2]
    assert "plain text" in found[3]
    assert any("movie" in line for line in found[4:])


def test_a_large_text_with_many_mistakes_is_given_up_soon(tmp_path):
    text = "speech: {text: hi}\n" + "".join(f"a{i}: b: c\n" for i in range(20_000))
    assert len(problems(tmp_path, text)) == 1
    few = "".join(f"a{i}: b: c\n" for i in range(40))
    assert len(problems(tmp_path, few)) == 12
    assert "character #x0007" in problems(tmp_path, "title: a\x07b\nspeech: {text: hi}\n")[0]


def test_aliases_that_unfold_without_end_are_refused_quickly(tmp_path):
    bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    for before, name in zip("abcdef", "bcdefg", strict=True):
        bomb += f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    assert "values" in problems(tmp_path, bomb)[0]


def test_aliases_are_fine_where_they_help(tmp_path):
    save_audio(tmp_path / "a.wav", hum(1.0))
    (tmp_path / "s.yaml").write_text(
        "cast: {ada: &one {head: {identity: 3}}, bob: *one}\nturns: [{speaker: ada, audio: a.wav}]\n"
    )
    scene = load_scene(tmp_path / "s.yaml").scene
    assert scene.speakers["bob"].head.identity == 3


def test_json_scenes_load_and_their_errors_have_lines_too(tmp_path):
    save_audio(tmp_path / "a.wav", hum(1.0))
    (tmp_path / "s.json").write_text('{\n\t"speech": {"audio": "a.wav"},\n\t"emotion": "happy"\n}\n')
    assert load_scene(tmp_path / "s.json").scene.emotion == "happy"
    assert problems(tmp_path, '{\n"speech": {"audio": "a.wav"},\n"fps": 3\n}', "bad.json")[0].startswith(
        "3: fps"
    )
    assert problems(tmp_path, '{\n"speech": \n', "cut.json")[0].startswith("3: not valid JSON")


def test_files_of_other_kinds_and_sizes_are_refused(tmp_path):
    (tmp_path / "s.toml").write_text("a = 1")
    with pytest.raises(InvalidInputError, match="rename"):
        load_scene(tmp_path / "s.toml")
    (tmp_path / "big.yaml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(InvalidInputError, match="exceeds"):
        load_scene(tmp_path / "big.yaml")


def test_a_scene_made_in_python_is_checked_as_well(tmp_path):
    with pytest.raises(SceneError, match=r"gone\.wav"):
        check_scene(Scene.model_validate({"speech": {"audio": "gone.wav"}}), tmp_path)


def test_the_published_schema_is_that_of_the_code():
    published = json.loads((ROOT / "affetto" / "scene" / "scene.schema.json").read_text("utf-8"))
    assert published == schema()


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_load_and_fit_the_schema(path):
    import yaml

    loaded = load_scene(path)
    jsonschema.validate(yaml.safe_load(path.read_text("utf-8")), schema())
    names = output_names(loaded.scene)
    assert len(names) == len(set(names)) >= len(loaded.scene.outputs)
    assert set(loaded.scene.outputs) <= set(OUTPUTS)
