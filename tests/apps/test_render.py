import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_dry_run_says_what_would_be_done_and_makes_nothing(affetto, tmp_path):
    outcome = affetto("render", EXAMPLES / "hello.yaml", "--dry-run", "--json", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    plan = json.loads(outcome.out)
    assert plan["seconds"] == pytest.approx(8.57, abs=0.1)
    assert {step["name"] for step in plan["steps"]} >= {
        "read",
        "voice",
        "face",
        "music",
        "mix",
        "head",
        "sync",
    }
    assert all(model["licence"] for model in plan["models"])
    assert plan["memory_mib"] > 100
    assert not (tmp_path / "out").exists()


def test_a_voice_without_consent_ends_with_the_code_of_policy_where_it_is_required(
    affetto, speech, tmp_path, monkeypatch
):
    monkeypatch.setenv("AFFETTO_CONSENT", "required")
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    (tmp_path / "s.json").write_text(json.dumps({"speech": {"audio": str(speech)}, "outputs": ["voice"]}))
    outcome = affetto("render", tmp_path / "s.json", "--dry-run")
    assert outcome.code == 7
    assert "nobody has stated" in outcome.err


def test_every_problem_of_a_scene_is_a_line_and_the_exit_code_is_three(affetto, tmp_path):
    (tmp_path / "s.yaml").write_text("fps: 900\nspeech: {audio: gone.wav}\ncolour: red\n")
    outcome = affetto("render", tmp_path / "s.yaml", "-o", tmp_path / "out")
    assert outcome.code == 3
    assert [line.split(":")[1] for line in outcome.lines[:3]] == ["1", "2", "3"]
    assert "3 problems" in outcome.lines[-1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["{scene}"], "-o DIR"),
        (["{scene}", "-o", "{folder}/out", "--best-of", "0"], "--best-of"),
        (["{scene}", "-o", "{folder}/out", "--reply", "hi"], "--reply"),
        (["{scene}", "-o", "{folder}/out", "--size", "4"], "--size"),
        (["{scene}", "-o", "{folder}/out", "--tier", "full"], "dice-talk"),
    ],
)
def test_impossible_wishes_are_refused_before_work(affetto, tmp_path, arguments, named):
    scene = EXAMPLES / "hello.yaml"
    outcome = affetto("render", *(each.format(scene=scene, folder=tmp_path) for each in arguments))
    assert outcome.code in (2, 4)
    assert named in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_evaluate_wants_files_or_a_sweep_and_knows_its_suffixes(affetto, tmp_path):
    assert affetto("evaluate").code == 2
    (tmp_path / "a.txt").write_text("words")
    assert "nobody here judges" in affetto("evaluate", tmp_path / "a.txt").err
    assert affetto("evaluate", tmp_path / "gone.wav").code == 3
    assert affetto("evaluate", "--sweep", "--generator", "sparkle").code == 2
    assert affetto("evaluate", "--sweep", "-o", tmp_path / "curves.gif").code == 2


def test_evaluate_prints_the_critics_own_accuracy_beside_each_score(affetto, speech):
    outcome = affetto("evaluate", speech, "--target", "happy", "--neutral", speech)
    assert outcome.code == 0, outcome.err
    assert "critic voice-critic (held out): .80 of 7 emotions" in outcome.out
    assert "probability of what was asked" in outcome.out
