import json
import socket

import numpy as np
import pytest

from affetto.apps.cli import face
from affetto.media.animation.files import load_curves
from affetto.media.video import probe_video
from affetto.runtime.errors import InvalidInputError, UsageError


def test_one_call_writes_every_form_asked_for_and_nothing_else(affetto, speech, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    files = [
        out / name for name in ("face.csv", "face.json", "face.npz", "face.glb", "face.usda", "face.mp4")
    ]
    named = [part for file in files for part in ("-o", file)]
    outcome = affetto("face", speech, "-e", "0:neutral; 0.5:happy", *named, "--size", "64", "--fps", "25")
    assert outcome.code == 0, outcome.err
    assert outcome.out.split() == [str(file) for file in files]
    assert outcome.err == ""
    assert sorted(out.iterdir()) == sorted(files)
    assert {len(load_curves(file)) for file in files[:3]} == {25}
    assert probe_video(files[5]).fps == 25


def test_json_is_the_only_thing_on_stdout(affetto, speech, tmp_path):
    outcome = affetto("face", speech, "-e", "sad@0.5", "-o", tmp_path / "face.csv", "--seed", "3", "--json")
    report = json.loads(outcome.out)
    assert (report["frames"], report["fps"], report["seed"]) == (30, 30, 3)
    assert report["outputs"] == [str(tmp_path / "face.csv")]
    assert outcome.err == ""


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(affetto, speech, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            affetto("face", speech, "-e", "happy", "-o", tmp_path / f"{name}.csv", "--seed", seed).code == 0
        )
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_intensity_zero_is_neutral_to_the_byte(affetto, speech, tmp_path):
    for name, emotion in (("a", "neutral"), ("b", "angry@0")):
        assert affetto("face", speech, "-e", emotion, "-o", tmp_path / f"{name}.csv").code == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_gain_scales_and_an_offset_shifts_one_shape(affetto, speech, tmp_path):
    options = ["--head-motion", "0", "--blinks", "0", "--gaze", "0"]
    for name, more in (("plain", []), ("moved", ["--gain", "jawOpen=0", "--offset", "cheekPuff=0.4"])):
        assert affetto("face", speech, "-o", tmp_path / f"{name}.npz", *options, *more).code == 0
    plain, moved = (load_curves(tmp_path / f"{name}.npz") for name in ("plain", "moved"))
    assert plain.channel("jawOpen").max() > 0.01
    assert moved.channel("jawOpen").max() == 0
    assert np.allclose(moved.channel("cheekPuff") - plain.channel("cheekPuff"), 0.4, atol=1e-3)


def test_a_stream_reaches_a_live_link_receiver(affetto, speech):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        port = receiver.getsockname()[1]
        outcome = affetto("face", speech, "--stream", f"udp://127.0.0.1:{port}", "--fps", "10", "-q")
        assert outcome.code == 0, outcome.err
        packets = [receiver.recv(4096) for _ in range(10)]
    assert all(b"affetto" in packet for packet in packets)
    assert outcome.out == ""


def test_an_identity_is_a_seed_or_modes_or_a_file(tmp_path):
    seeded = face.parse_identity("7")
    assert np.array_equal(seeded, face.parse_identity("7"))
    assert not np.array_equal(seeded, face.parse_identity("8"))
    modes = face.parse_identity("0=1.5,2=-0.25")
    assert modes[:3].tolist() == [1.5, 0.0, -0.25]
    assert not modes[3:].any()
    (tmp_path / "who.json").write_text("[1.5, 0, -0.25]")
    assert np.array_equal(face.parse_identity(str(tmp_path / "who.json")), modes)


@pytest.mark.parametrize("content", ["{}", "[1, ", str([0.0] * 999), '["a"]'])
def test_a_bad_identity_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "who.json"
    path.write_text(content)
    with pytest.raises((InvalidInputError, UsageError), match=r"who\.json"):
        face.parse_identity(str(path))
