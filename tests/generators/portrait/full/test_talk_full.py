"""`affetto talk --tier full`: what it makes, and the one line it ends with when it cannot."""

import dataclasses
import json

import pytest
from PIL import Image

from affetto.apps.cli import main
from affetto.generators.portrait.full import pipeline as full
from affetto.generators.portrait.full import presets
from affetto.generators.portrait.pipeline import TalkingHead
from affetto.media.audio import save_audio
from affetto.media.video import probe_video
from affetto.runtime.errors import MissingResourceError

from .small import photo, speech, tiny_pipeline


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    Image.fromarray(photo()).save(tmp_path / "face.png")
    save_audio(tmp_path / "speech.wav", speech(0.2))
    points = [[45.0 + 40 * (k % 8) / 7, 40.0 + 50 * (k // 8) / 8] for k in range(68)]
    (tmp_path / "points.json").write_text(json.dumps(points))
    return tmp_path


def talk(folder, *more, out="out.mp4"):
    return main(
        [
            "talk",
            str(folder / "face.png"),
            str(folder / "speech.wav"),
            "--tier",
            "full",
            "-o",
            str(folder / out),
            *more,
        ]
    )


def test_without_weights_it_ends_with_exit_code_4_and_the_command(files, capsys):
    assert talk(files) == 4
    line = capsys.readouterr().err
    assert "affetto weights pull dice-talk" in line
    assert line.count("\n") == 1
    with pytest.raises(MissingResourceError, match="affetto weights pull svd-xt"):
        TalkingHead.from_pretrained("dice-talk", device="cpu")


def test_with_weights_it_writes_the_video_and_tells_how(files, monkeypatch, capsys):
    (files / "home" / "weights").mkdir(parents=True)
    for name in ("dice-talk", "svd-xt", "whisper-tiny"):
        (files / "home" / "weights" / f"{name}.safetensors").touch()
    monkeypatch.setattr(full.DiceTalkPipeline, "from_pretrained", lambda **_: tiny_pipeline())
    small = dataclasses.replace(presets.PREVIEW, size=64, steps=1, reuse_every=1)
    monkeypatch.setitem(presets.PRESETS, "preview", small)
    marks = ("--landmarks", str(files / "points.json"))
    assert talk(files, *marks, "--preset", "preview", "-e", "happy", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["preset"] == "preview"
    assert document["frames"] == 5
    assert document["passes"] == 6  # three branches of two windows of 25
    assert probe_video(files / "out.mp4").frames == 5


def test_what_only_the_embedded_tier_can_is_refused(files, capsys):
    (files / "home" / "weights").mkdir(parents=True)
    for name in ("dice-talk", "svd-xt", "whisper-tiny"):
        (files / "home" / "weights" / f"{name}.safetensors").touch()
    for asked, said in (
        (("--frame", "9:16"), "--frame 9:16"),
        (("--alpha",), "--alpha"),
        (("--fps", "30"), "--fps"),
        (("--preset", "turbo"), "unknown preset"),
    ):
        assert talk(files, *asked) == 2
        assert said in capsys.readouterr().err
    assert talk(files, out="out.csv") == 2
    assert "gives pixels" in capsys.readouterr().err
