import json

import numpy as np
import pytest
import torch

from affetto.generators.music.full.muser_weights import MuserIds, MuserWeights
from affetto.media.midi import load_midi
from tests.generators.music.full.small import tiny, tiny_prior


def test_one_call_writes_a_piece_of_the_length_asked(affetto, tmp_path):
    outcome = affetto(
        "music", "-e", "0:sad; 4:happy", "--seconds", "8", "--seed", "2", "-o", tmp_path / "a.mid", "--json"
    )
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["seconds"] == pytest.approx(8.0, abs=0.002)
    assert told["copy"]["longest"] <= 24
    assert load_midi(tmp_path / "a.mid").seconds == pytest.approx(8.0, abs=0.01)


def test_stems_lie_beside_the_sound_and_are_not_written_over(affetto, tmp_path):
    arguments = (
        "music",
        "--bars",
        "1",
        "--tempo",
        "200",
        "--ensemble",
        "-e",
        "excited",
        "-o",
        tmp_path / "a.wav",
    )
    outcome = affetto(*arguments, "--stems")
    assert outcome.code == 0, outcome.err
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[-1] == "a.wav"
    assert {"a-melody.wav", "a-chords.wav"} <= set(names)
    assert outcome.out.split() == [str(tmp_path / "a.wav"), *outcome.out.split()[1:]]
    (tmp_path / "a.wav").unlink()
    again = affetto(*arguments, "--stems")
    assert again.code == 2
    assert "a-" in again.err
    assert affetto("music", "--bars", "1", "-o", tmp_path / "a.mid", "--stems").code == 2


def test_an_infilled_file_keeps_its_other_bars(affetto, tmp_path):
    assert affetto("music", "--bars", "4", "--key", "D", "-o", tmp_path / "a.mid").code == 0
    outcome = affetto(
        "music", "-e", "sad", "--like", tmp_path / "a.mid", "--infill", "2-3", "-o", tmp_path / "b.mid"
    )
    assert outcome.code == 0, outcome.err
    before, after = (load_midi(tmp_path / name).notes for name in ("a.mid", "b.mid"))
    assert (before[before["start"] >= 12] == after[after["start"] >= 12]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to make"),
        (("-o", "a.mp3"), "nobody writes .mp3"),
        (("--fader", "density=9", "-o", "a.mid"), "from 0 to 8"),
        (("--fader", "loud=3", "-o", "a.mid"), "no fader is called"),
        (("--metre", "7/8", "-o", "a.mid"), "no music is composed in"),
        (("--key", "H", "-o", "a.mid"), "unknown key"),
        (("--infill", "2-3", "-o", "a.mid"), "needs the piece"),
        (("--bars", "100", "--seconds", "5", "-o", "a.mid"), "give other --bars or --seconds"),
        (("--mode", "explode", "--like", "x.mid", "-o", "a.mid"), "unknown mode"),
        (("-e", "hapy", "-o", "a.mid"), "happy"),
    ],
)
def test_a_wrong_wish_is_one_line_and_code_2(affetto, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    outcome = affetto("music", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"garbage that is no music", b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0"]
)
def test_a_broken_midi_file_is_code_3(affetto, tmp_path, content):
    (tmp_path / "bad.mid").write_bytes(content)
    outcome = affetto("music", "--like", tmp_path / "bad.mid", "-o", tmp_path / "a.mid")
    assert outcome.code == 3, outcome.err
    assert "bad.mid" in outcome.err
    assert not (tmp_path / "a.mid").exists()


def test_the_full_tier_composes_with_muser_and_tells_its_sections(affetto, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("AFFETTO_HOME", str(home))
    (home / "weights").mkdir(parents=True)
    network = tiny()
    with torch.no_grad():  # an untrained network that writes notes
        network.predict_type.bias.copy_(torch.tensor([-3.0, 0.0, 0.0, 1.0]))
    muser = MuserWeights(network=network, ids=MuserIds(), prior=tiny_prior(), compact=np.arange(20) + 2)
    muser.save(home / "weights" / "muser.safetensors")
    told = affetto(
        "music", "--tier", "full", "-e", "0:sad; 8:happy", "--bars", "6", "-o", tmp_path / "a.mid", "--json"
    )
    assert told.code == 0, told.err
    piece = json.loads(told.out)
    assert piece["bars"] == 6
    assert piece["notes"] == len(load_midi(tmp_path / "a.mid").notes) > 0
    assert {section["quadrant"] for section in piece["sections"]} <= {1, 2, 3, 4}
    for refused in (
        ["-o", tmp_path / "a.png"],
        ["-o", tmp_path / "b.wav", "--stems"],
        ["-o", tmp_path / "b.mid", "--key", "C"],
    ):
        outcome = affetto("music", "--tier", "full", *refused)
        assert outcome.code == 2
        assert len(outcome.lines) == 1
    assert not (tmp_path / "b.mid").exists()


def test_the_full_tier_without_weights_says_how_to_get_them(affetto, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    outcome = affetto("music", "--tier", "full", "-o", tmp_path / "a.mid")
    assert outcome.code == 4
    assert "affetto weights pull muser" in outcome.err
