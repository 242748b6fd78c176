"""Single commands that run out of memory go on with less, say so, and give up with exit code 6 only at the end.

Memory runs out by injection: the first attempts raise what torch raises.
"""

import json

import pytest
import torch

from affetto.generators.face.pipeline import FaceAnimation, FaceAnimator
from affetto.generators.music.pipeline import MusicComposer
from affetto.generators.portrait.pipeline import TalkingHead
from affetto.generators.voice.pipeline import VoiceConverter
from affetto.runtime import memory
from affetto.scene.director import Director

from . import bad_inputs as bad

ALL = ("models that rest are let go", "one at a time", "pieces half as long", "pieces a quarter as long")


@pytest.fixture
def short_of_memory(monkeypatch):
    """Makes the first calls of a method run out of memory; what was asked of each layout is kept."""

    def inject(owner: type, method: str, *, times: int) -> list[tuple[int, float]]:
        seen: list[tuple[int, float]] = []
        real = getattr(owner, method)

        def tight(self, *arguments: object, **options: object) -> object:
            seen.append((memory.together(16), memory.shorter(8.0)))
            if len(seen) <= times:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return real(self, *arguments, **options)

        monkeypatch.setattr(owner, method, tight)
        return seen

    return inject


def told(outcome) -> list[str]:
    return [line.partition("going on with less: ")[2] for line in outcome.lines if "going on with less" in line]  # fmt: skip


def test_a_face_is_made_with_one_thing_at_a_time(affetto, speech, tmp_path, short_of_memory):
    seen = short_of_memory(FaceAnimator, "__call__", times=2)
    outcome = affetto("face", speech, "-e", "happy", "-o", tmp_path / "a.csv", "--json", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert told(outcome) == list(ALL[:2])
    assert all(line.startswith("face: out of memory") for line in outcome.lines)
    assert seen == [(16, 8.0), (16, 8.0), (1, 8.0)]
    assert json.loads(outcome.out)["memory"] == {"savings": list(ALL[:2]), "exact": True}
    assert (tmp_path / "a.csv").stat().st_size > 1000


def test_what_had_been_written_before_memory_ran_out_is_written_again(affetto, speech, tmp_path, monkeypatch):
    first = tmp_path / "first.csv"
    affetto("face", speech, "-e", "happy", "-o", first, "--device", "cpu")
    real, failing = FaceAnimation.save, iter([False, True, False, False])

    def save(self, path, **options):
        if next(failing):  # the second file of the first attempt
            raise MemoryError
        return real(self, path, **options)

    monkeypatch.setattr(FaceAnimation, "save", save)
    outcome = affetto("face", speech, "-e", "happy", "-o", tmp_path / "a.csv", "-o", tmp_path / "b.json", "--device", "cpu")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert next(failing, None) is None
    assert told(outcome) == [ALL[0]]
    assert (tmp_path / "a.csv").read_bytes() == first.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("[ab].*")) == ["a.csv", "b.json"]


def test_a_command_whose_memory_never_suffices_gives_up_with_code_6_and_leaves_nothing(
    affetto, speech, tmp_path, short_of_memory
):
    short_of_memory(VoiceConverter, "__call__", times=99)
    outcome = affetto("voice", speech, "-e", "sad", "-o", tmp_path / "a.wav", "--device", "cpu")
    assert outcome.code == 6
    assert told(outcome) == list(ALL)
    assert "out of memory in voice after all savings" in outcome.lines[-1]
    assert outcome.out == ""
    assert not (tmp_path / "a.wav").exists()


def test_a_voice_is_converted_with_shorter_pieces_and_that_is_no_longer_exact(
    affetto, speech, tmp_path, short_of_memory
):
    seen = short_of_memory(VoiceConverter, "__call__", times=3)
    outcome = affetto("voice", speech, "-e", "sad", "-o", tmp_path / "a.wav", "--device", "cpu", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["memory"] == {"savings": list(ALL[:3]), "exact": False}
    assert seen[-1] == (1, 4.0)


def test_music_goes_on_with_less(affetto, tmp_path, short_of_memory):
    short_of_memory(MusicComposer, "__call__", times=1)
    outcome = affetto("music", "--bars", "1", "-e", "sad", "-o", tmp_path / "a.mid", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert told(outcome) == [ALL[0]]
    assert (tmp_path / "a.mid").is_file()


def test_a_portrait_that_speaks_goes_on_with_less(affetto, speech, tmp_path, short_of_memory):
    seen = short_of_memory(TalkingHead, "__call__", times=2)
    photo = bad.picture(tmp_path / "me.png")
    outcome = affetto("talk", photo, speech, "-e", "happy", "-o", tmp_path / "a.csv", "--device", "cpu", "-q")
    assert outcome.code == 0, outcome.err
    assert len(seen) == 3
    assert outcome.lines == []  # quiet
    assert (tmp_path / "a.csv").is_file()


def test_a_scene_goes_on_with_less_until_nothing_is_left(affetto, speech, tmp_path, short_of_memory):
    scene = speech.parent / "a.yaml"
    scene.write_text("affetto: 1\nspeech: {audio: speech.wav, emotion: happy}\noutputs: [curves]\n")
    seen = short_of_memory(Director, "render", times=99)
    outcome = affetto("render", scene, "-o", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 6, outcome.err
    assert told(outcome) == list(ALL)
    assert len(seen) == 5


def test_on_a_graphics_card_the_last_resort_is_the_processor():
    places: list[str | None] = []

    def work(layout: memory.Layout) -> str:
        places.append(layout.device)
        if layout.device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "made"

    lines: list[str] = []
    done = memory.sparing("face", work, device="cuda:0", told=lines.append)
    assert done.result == "made"
    assert places[-1] == "cpu"
    assert lines == list(done.savings)
    assert lines[-1] == "on the processor instead"
