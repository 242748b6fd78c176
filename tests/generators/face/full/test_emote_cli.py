"""`affetto face --tier full`: reaches EMOTE when its weights are here, else names the command that gets them."""

import numpy as np
import pytest

from affetto.apps.cli import main
from affetto.generators.face.full.emote_weights import save_emote
from affetto.media.animation.files import load_curves
from affetto.media.audio import Audio, save_audio
from tests.head.flame_like import flame_like

from .small import tiny_emote


@pytest.fixture
def speech(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "weights").mkdir(parents=True)
    times = np.arange(16_000) / 16_000
    sound = 0.2 * np.sign(np.sin(2 * np.pi * 130 * times)) * np.clip(np.sin(2 * np.pi * 3 * times), 0, 1)
    return save_audio(tmp_path / "speech.wav", Audio(samples=sound[None].astype(np.float32), rate=16_000))


def call(capsys, *arguments: object) -> tuple[int, str]:
    code = main([str(each) for each in ("face", *arguments)])
    return code, capsys.readouterr().err.strip()


def test_without_weights_the_exact_command_is_named(speech, tmp_path, capsys):
    code, said = call(capsys, speech, "-o", tmp_path / "a.csv", "--tier", "full")
    assert code == 4
    assert said.endswith("run affetto weights pull emote")
    save_emote(tmp_path / "home" / "weights" / "emote.safetensors", tiny_emote())
    code, said = call(capsys, speech, "-o", tmp_path / "a.csv", "--tier", "full")
    assert code == 4
    assert "affetto weights pull flame2023-open --from flame2023_Open.pkl" in said
    assert not (tmp_path / "a.csv").exists()


def test_with_weights_it_writes_what_the_embedded_tier_writes(speech, tmp_path, capsys):
    save_emote(tmp_path / "home" / "weights" / "emote.safetensors", tiny_emote())
    flame_like()[0].save(tmp_path / "home" / "weights" / "flame2023-open.safetensors")
    out = tmp_path / "a.csv"
    code, said = call(
        capsys,
        speech,
        "-e",
        "angry",
        "-o",
        out,
        "--tier",
        "full",
        "--style",
        "M005",
        "--fps",
        "25",
        "--device",
        "cpu",
    )
    assert (code, said) == (0, "")
    assert len(load_curves(out)) == 25


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--style", "M003"), "--style belongs to the full tier"),
        (("--tier", "huge"), "unknown --tier 'huge'"),
    ],
)
def test_options_of_the_other_tier_are_refused(speech, tmp_path, capsys, options, said):
    code, line = call(capsys, speech, "-o", tmp_path / "a.csv", *options)
    assert code == 2
    assert said in line
