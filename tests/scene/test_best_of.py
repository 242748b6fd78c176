"""Of several candidates the one that the choosing critic prefers is kept, and the recipe makes that one again."""

import numpy as np
import pytest

from affetto.conditioning.track import EmotionTrack
from affetto.evaluation.choosing import ChoosingCritic
from affetto.evaluation.sweep import demo_speech
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio, save_audio
from affetto.media.midi import Score
from affetto.runtime.errors import UsageError
from affetto.scene.director import Director
from affetto.scene.loading import load_scene
from affetto.scene.model import Scene


class Recorder(ChoosingCritic):
    """The choosing critic, which remembers what it said."""

    def __init__(self) -> None:
        self.scores: dict[str, list[float]] = {"voice": [], "face": [], "music": []}

    def voice(self, audio: Audio, source: Audio, track: EmotionTrack) -> float:
        self.scores["voice"].append(super().voice(audio, source, track))
        return self.scores["voice"][-1]

    def face(self, curves: FaceCurves, track: EmotionTrack) -> float:
        self.scores["face"].append(super().face(curves, track))
        return self.scores["face"][-1]

    def music(self, score: Score, track: EmotionTrack) -> float:
        self.scores["music"].append(super().music(score, track))
        return self.scores["music"][-1]


def test_the_preferred_candidate_is_kept_remembered_and_made_again(tmp_path):
    save_audio(tmp_path / "hello.wav", demo_speech().sliced(0.6, 1.6))
    scene = Scene.model_validate(
        {
            "speech": {"audio": "hello.wav", "emotion": "happy"},
            "music": {"tail": 0.2},
            "outputs": ["voice", "curves", "score"],
        }
    )
    judge = Recorder()
    made = Director(scene, base=tmp_path, device="cpu", judge=judge, best_of=2).render(tmp_path / "best")
    assert {kind: len(scores) for kind, scores in judge.scores.items()} == {"voice": 2, "face": 2, "music": 2}
    assert all(len(set(scores)) == 2 for scores in judge.scores.values())  # candidates that do differ
    names = {"voice": "voice 1", "face": "face speaker", "music": "music"}
    wanted = {names[kind]: 1009 * int(np.argmax(scores)) for kind, scores in judge.scores.items()}
    assert dict(made.performance.chosen) == wanted
    recipe = load_scene(tmp_path / "best" / "recipe.json")
    assert dict(recipe.seeds) == wanted
    again = Director(recipe, device="cpu").render(tmp_path / "again")  # no judge is needed
    for name in ("voice.wav", "face.csv", "score.mid"):
        assert (made.folder / name).read_bytes() == (again.folder / name).read_bytes(), name


def test_choosing_needs_a_judge(tmp_path):
    save_audio(tmp_path / "hello.wav", demo_speech().sliced(0.6, 1.6))
    scene = Scene.model_validate({"speech": {"audio": "hello.wav"}})
    with pytest.raises(UsageError, match="needs a judge"):
        Director(scene, base=tmp_path, best_of=2)
    with pytest.raises(UsageError, match=r"1\.\.32"):
        Director(scene, base=tmp_path, best_of=99, judge=ChoosingCritic())
