"""Whatever is wrong with what the user gives: one line that names it, the designed exit code, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from .bad_inputs import not_finite, three_hours
from .conftest import tone, write_wav


def empty(folder: Path) -> Path:
    path = folder / "empty.wav"
    path.touch()
    return path


def truncated(folder: Path) -> Path:
    path = write_wav(folder / "cut.wav", tone(2.0))
    path.write_bytes(path.read_bytes()[:9000])
    return path


def truncated_flac(folder: Path) -> Path:
    path = folder / "cut.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), 16_000)
    path.write_bytes(path.read_bytes()[:20_000])
    return path


def silent(folder: Path) -> Path:
    return write_wav(folder / "silent.wav", np.zeros(16_000, np.float32))


def not_a_number(folder: Path) -> Path:
    return not_finite(folder / "nan.wav")


def text_as_wav(folder: Path) -> Path:
    path = folder / "text.wav"
    path.write_text("This is no sound at all, only a few words.\n" * 20)
    return path


def noise_as_flac(folder: Path) -> Path:
    path = folder / "noise.flac"
    path.write_bytes(np.random.default_rng(1).bytes(4000))
    return path


def three_hour_bomb(folder: Path) -> Path:
    return three_hours(folder / "bomb.flac")


def too_short(folder: Path) -> Path:
    return write_wav(folder / "short.wav", tone(0.01))


def no_samples(folder: Path) -> Path:
    return write_wav(folder / "nothing.wav", np.zeros(0, np.float32))


def missing(folder: Path) -> Path:
    return folder / "missing.wav"


def a_folder(folder: Path) -> Path:
    path = folder / "folder.wav"
    path.mkdir()
    return path


BAD_SOUND = [
    empty,
    truncated,
    truncated_flac,
    silent,
    not_a_number,
    text_as_wav,
    noise_as_flac,
    three_hour_bomb,
    too_short,
    no_samples,
    missing,
    a_folder,
]

OUT = "{out}/face.csv"
BAD_ARGUMENTS = {
    "unknown emotion": (["-e", "hapy", "-o", OUT], {2, 3}, "hapy"),
    "unsorted track": (["-e", "3:happy; 1:sad", "-o", OUT], {2, 3}, "1"),
    "emotion out of range": (["-e", "vad(3,0,0)", "-o", OUT], {2, 3}, "3"),
    "not a number in a track": (["-e", "nan:happy", "-o", OUT], {2, 3}, "nan"),
    "missing track file": (["-e", "gone.emotion.json", "-o", OUT], {2, 3}, "gone.emotion.json"),
    "unknown suffix": (["-o", "{out}/face.fbx"], {2}, "face.fbx"),
    "no suffix": (["-o", "{out}/face"], {2}, "face"),
    "missing folder": (["-o", "{out}/gone/face.csv"], {2}, "gone"),
    "a folder nobody can write to": (["-o", "/proc/face.csv"], {2}, "/proc/face.csv"),
    "a name too long": (["-o", "{out}/" + "n" * 300 + ".csv"], {2}, "nnn"),
    "one output twice": (["-o", OUT, "-o", OUT], {2}, "twice"),
    "no output": ([], {2}, "-o"),
    "fps too low": (["-o", OUT, "--fps", "3"], {2}, "3"),
    "fps not a number": (["-o", OUT, "--fps", "fast"], {2}, "--fps"),
    "fps nan": (["-o", OUT, "--fps", "nan"], {2}, "nan"),
    "unknown blend shape": (["-o", OUT, "--gain", "jawOpn=2"], {2}, "jawOpen"),
    "gain without a value": (["-o", OUT, "--gain", "jawOpen"], {2}, "jawOpen"),
    "gain not a number": (["-o", OUT, "--offset", "jawOpen=wide"], {2}, "wide"),
    "size": (["-o", OUT, "--size", "9"], {2}, "9"),
    "negative seed": (["-o", OUT, "--seed", "-1"], {2}, "--seed"),
    "unknown device": (["-o", OUT, "--device", "tpu"], {2}, "tpu"),
    "unknown precision": (["-o", OUT, "--dtype", "int3"], {2}, "int3"),
    "unknown tier": (["-o", OUT, "--tier", "huge"], {2}, "huge"),
    "full tier": (["-o", OUT, "--tier", "full"], {4}, "emote"),
    "unknown renderer": (["-o", OUT, "--backend", "crayon"], {2}, "crayon"),
    "stream to a web address": (["--stream", "http://localhost:1"], {2}, "http://localhost:1"),
    "stream to port zero": (["--stream", "udp://localhost:0"], {2}, "udp://localhost:0"),
    "text twice": (["-o", OUT, "--text", "a", "--text-file", "b.txt"], {2}, "--text-file"),
    "missing words": (["-o", OUT, "--text-file", "gone.txt"], {3}, "gone.txt"),
    "unknown identity mode": (["-o", OUT, "--identity", "999=1"], {2}, "999"),
    "missing identity file": (["-o", OUT, "--identity", "who.json"], {3}, "who.json"),
    "unknown option": (["-o", OUT, "--sparkle"], {2}, "--sparkle"),
}


@pytest.mark.parametrize("make", BAD_SOUND, ids=lambda make: make.__name__)
def test_bad_sound_is_refused_in_one_line_and_leaves_nothing(affetto, tmp_path, make):
    given = make(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    outcome = affetto("face", given, "-e", "happy", "-o", out / "face.csv", "-o", out / "face.json")
    assert (outcome.code, outcome.out) == (3, "")
    assert len(outcome.lines) == 1
    assert given.name in outcome.err
    assert "Traceback" not in outcome.err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_a_bad_argument_is_refused_in_one_line_and_leaves_nothing(affetto, speech, tmp_path, name):
    arguments, codes, named = BAD_ARGUMENTS[name]
    out = tmp_path / "out"
    out.mkdir()
    outcome = affetto("face", speech, *(argument.format(out=out) for argument in arguments))
    assert outcome.code in codes, outcome.err
    assert outcome.out == ""
    assert len(outcome.lines) == 1
    assert named in outcome.err
    assert "Traceback" not in outcome.err
    assert list(out.iterdir()) == []


def test_an_existing_output_is_kept_unless_overwriting_is_asked_for(affetto, speech, tmp_path):
    kept = tmp_path / "face.csv"
    kept.write_text("mine")
    outcome = affetto("face", speech, "-o", kept)
    assert outcome.code == 2
    assert "face.csv" in outcome.err
    assert "--overwrite" in outcome.err
    assert kept.read_text() == "mine"


def test_a_bad_sound_keeps_the_output_that_was_to_be_overwritten(affetto, tmp_path):
    kept = tmp_path / "face.csv"
    kept.write_text("mine")
    assert affetto("face", silent(tmp_path), "-o", kept, "--overwrite").code == 3
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("make", "more", "code"), [(three_hour_bomb, [], 3), (silent, ["--debug"], 3)], ids=["bomb", "debug"]
)
def test_a_real_process_refuses_bad_sound(tmp_path, make, more, code):
    given = make(tmp_path)
    # Not getrusage: its peak includes that of the process which started this one.
    program = "import pathlib, sys; from affetto.apps.cli import main; code = main(); "
    program += "print(pathlib.Path('/proc/self/status').read_text()); sys.exit(code)"
    command = [sys.executable, "-c", program, "face", str(given), "-o", str(tmp_path / "face.csv"), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code
    assert done.stderr.strip().splitlines()[-1].startswith("affetto: ")
    assert ("Traceback" in done.stderr) is bool(more)
    peak = next(line for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) / 1024 < 300  # MiB: the samples were never unpacked
    assert not (tmp_path / "face.csv").exists()
