import json

import numpy as np
import pytest
import soundfile

from affetto.generators.voice.time_map import TimeMap

from .conftest import tone, write_wav
from .test_bad_inputs import BAD_SOUND, silent


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_one_call_writes_the_voice_its_picture_and_its_time_map(affetto, speech, out):
    outcome = affetto(
        "voice", speech, "-e", "0:neutral; 0.4:sad", "-o", out / "sad.wav", "--report", out / "sad.png",
        "--time-map", out / "sad.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.out.split() == [str(out / name) for name in ("sad.wav", "sad.json", "sad.png")]
    assert sorted(path.name for path in out.iterdir()) == ["sad.json", "sad.png", "sad.wav"]
    converted = soundfile.info(str(out / "sad.wav"))
    assert converted.samplerate == 16_000
    ends = TimeMap.load(out / "sad.json")
    assert float(ends.to_output(1.0)) == pytest.approx(converted.duration, abs=0.05)
    assert (out / "sad.png").read_bytes()[:4] == b"\x89PNG"


def test_strength_zero_returns_the_same_samples_as_wav_and_flac(affetto, speech, out):
    source, _ = soundfile.read(speech, dtype="int16")
    for name in ("same.wav", "same.flac"):
        assert affetto("voice", speech, "-e", "angry", "--strength", "0", "-o", out / name).code == 0
        got, _ = soundfile.read(out / name, dtype="int16")
        assert np.abs(got.astype(int) - source).max() <= 1  # one step of 16 bits: 32767 against 32768


def test_the_same_seed_gives_the_same_bytes(affetto, speech, out):
    for name in ("a.wav", "b.wav"):
        assert affetto("voice", speech, "-e", "happy", "-o", out / name, "--seed", "4").code == 0
    assert (out / "a.wav").read_bytes() == (out / "b.wav").read_bytes()


def test_kept_timing_keeps_the_length_and_stereo_stays_stereo(affetto, out, tmp_path):
    stereo = np.stack([tone(), 0.3 * tone()], axis=1)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, stereo, 16_000)
    outcome = affetto("voice", path, "-e", "sad", "--keep-timing", "-o", out / "a.wav", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert (report["channels"], report["rate"]) == (2, 16_000)
    assert report["seconds_converted"] == pytest.approx(report["seconds"], abs=1e-3)


@pytest.mark.parametrize("make", BAD_SOUND, ids=lambda make: make.__name__)
def test_bad_sound_is_refused_in_one_line_and_leaves_nothing(affetto, tmp_path, out, make):
    given = make(tmp_path)
    outcome = affetto("voice", given, "-e", "happy", "-o", out / "v.wav", "--report", out / "v.png")
    assert (outcome.code, outcome.out) == (3, "")
    assert len(outcome.lines) == 1
    assert given.name in outcome.err
    assert list(out.iterdir()) == []


def chords() -> np.ndarray:
    """Six seconds of chords: pitch everywhere, none of it spoken."""
    time = np.arange(6 * 16_000) / 16_000
    sound = np.zeros_like(time)
    for step, root in enumerate([262.0, 330.0, 392.0, 262.0, 220.0, 294.0]):
        since = time - step
        gate = (since >= 0) * np.exp(-1.5 * np.clip(since, 0, None))
        for ratio in (0.5, 1.0, 1.26, 1.498):
            for harmonic in range(1, 7):
                sound += gate * np.sin(2 * np.pi * root * ratio * harmonic * since) / harmonic
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


VOICELESS = {
    "noise": (lambda: np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32), "voice"),
    "music": (chords, "music"),
    "clipped": (lambda: np.clip(30 * tone(2.0), -1, 1), "clipped"),
    "a twentieth of a second": (lambda: tone(0.05), "0.05"),
}


@pytest.mark.parametrize("name", VOICELESS)
def test_what_is_no_clean_speech_is_refused(affetto, tmp_path, out, name):
    make, said = VOICELESS[name]
    outcome = affetto("voice", write_wav(tmp_path / "in.wav", make()), "-e", "sad", "-o", out / "v.wav")
    assert (outcome.code, outcome.out) == (3, ""), outcome.err
    assert len(outcome.lines) == 1
    assert "in.wav" in outcome.err
    assert said in outcome.err
    assert list(out.iterdir()) == []


def test_eight_channels_are_no_voice(affetto, tmp_path, out):
    path = tmp_path / "eight.wav"
    soundfile.write(path, np.repeat(tone()[:, None], 8, axis=1), 16_000)
    outcome = affetto("voice", path, "-e", "sad", "-o", out / "v.wav")
    assert (outcome.code, len(outcome.lines)) == (3, 1)
    assert "8 channels" in outcome.err


OUT = "{out}/v.wav"
BAD_ARGUMENTS = {
    "unknown emotion": (["-e", "hapy", "-o", OUT], {2, 3}, "hapy"),
    "no emotion": (["-o", OUT], {2}, "-e"),
    "unsorted track": (["-e", "3:happy; 1:sad", "-o", OUT], {2, 3}, "1"),
    "missing track file": (["-e", "gone.emotion.json", "-o", OUT], {2, 3}, "gone.emotion.json"),
    "no output": (["-e", "sad"], {2}, "-o"),
    "unknown suffix": (["-e", "sad", "-o", "{out}/v.mp3"], {2}, "v.mp3"),
    "missing folder": (["-e", "sad", "-o", "{out}/gone/v.wav"], {2}, "gone"),
    "a folder nobody can write to": (["-e", "sad", "-o", "/proc/v.wav"], {2}, "/proc/v.wav"),
    "report that is no picture": (["-e", "sad", "-o", OUT, "--report", "{out}/r.pdf"], {2}, "r.pdf"),
    "time map that is no json": (["-e", "sad", "-o", OUT, "--time-map", "{out}/t.txt"], {2}, "t.txt"),
    "strength": (["-e", "sad", "-o", OUT, "--strength", "3"], {2}, "3"),
    "strength nan": (["-e", "sad", "-o", OUT, "--strength", "nan"], {2}, "nan"),
    "level": (["-e", "sad", "-o", OUT, "--level", "-1"], {2}, "-1"),
    "steps": (["-e", "sad", "-o", OUT, "--steps", "0"], {2}, "0"),
    "missing bank": (["-e", "sad", "-o", OUT, "--bank", "gone.safetensors"], {2, 3}, "gone.safetensors"),
    "two sources": (["-e", "sad", "-o", OUT, "--text", "hello"], {2}, "source"),
    "full tier": (["-e", "sad", "-o", OUT, "--tier", "full"], {4}, "emoreg"),
    "unknown tier": (["-e", "sad", "-o", OUT, "--tier", "huge"], {2}, "huge"),
    "unknown device": (["-e", "sad", "-o", OUT, "--device", "tpu"], {2}, "tpu"),
    "negative seed": (["-e", "sad", "-o", OUT, "--seed", "-1"], {2}, "--seed"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_a_bad_argument_is_refused_in_one_line_and_leaves_nothing(affetto, speech, out, name):
    arguments, codes, named = BAD_ARGUMENTS[name]
    outcome = affetto("voice", speech, *(argument.format(out=out) for argument in arguments))
    assert outcome.code in codes, outcome.err
    assert outcome.out == ""
    assert len(outcome.lines) == 1
    assert named in outcome.err
    assert list(out.iterdir()) == []


def test_a_bank_that_is_none_is_refused(affetto, speech, out, tmp_path):
    bank = tmp_path / "bank.safetensors"
    bank.write_text("no bank at all, only words\n" * 9)
    outcome = affetto("voice", speech, "-e", "sad", "-o", out / "v.wav", "--bank", bank)
    assert (outcome.code, len(outcome.lines)) == (3, 1)
    assert "bank.safetensors" in outcome.err


def test_outputs_that_exist_are_kept_unless_overwriting_is_asked_for(affetto, speech, tmp_path, out):
    kept = out / "v.wav"
    kept.write_text("mine")
    assert affetto("voice", speech, "-e", "sad", "-o", kept).code == 2
    assert affetto("voice", silent(tmp_path), "-e", "sad", "-o", kept, "--overwrite").code == 3
    assert kept.read_text() == "mine"
    assert affetto("voice", speech, "-e", "sad", "-o", kept, "--overwrite").code == 0
    assert soundfile.info(str(kept)).frames > 0


def test_a_script_without_a_recording_is_spoken_or_the_missing_package_named(affetto, out):
    outcome = affetto("voice", "--text", "hello there", "-e", "happy", "-o", out / "v.wav")
    if outcome.code == 4:
        assert "affetto[tts]" in outcome.err
    else:
        assert outcome.code == 0, outcome.err
        assert soundfile.info(str(out / "v.wav")).duration > 0.4
