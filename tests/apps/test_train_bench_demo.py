import json

import pytest

from affetto.apps.cli import bench
from affetto.apps.cli.demo import FILES


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["sparkle", "--data", ".", "-o", "{folder}/a.safetensors"], 2, "sparkle"),
        (["head", "--data", "{folder}/gone", "-o", "{folder}/a.safetensors"], 3, "gone"),
        (["head", "--data", "."], 2, "-o"),
        (["head", "--data", ".", "-o", "{folder}/a.pt"], 2, "a.pt"),
        (["head", "--data", ".", "-o", "{folder}/a.safetensors", "--resume", "{folder}/old"], 3, "old"),
    ],
)
def test_training_refuses_what_it_cannot_do_before_it_starts(affetto, tmp_path, arguments, code, named):
    outcome = affetto("train", *(argument.format(folder=tmp_path) for argument in arguments))
    assert outcome.code == code
    assert len(outcome.lines) == 1
    assert named in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_bench_and_a_missing_folder_are_refused(affetto, tmp_path):
    assert affetto("bench", "sparkle").code == 2
    assert affetto("bench", "face", "--data", tmp_path / "gone").code == 3


def test_bench_rows_become_a_table(capsys):
    rows = [
        {"what": "real-time factor", "figure": 0.0412345, "holds": True},
        {"what": "sync", "holds": False},
    ]
    bench.print_rows("face", rows)
    table = capsys.readouterr().out
    assert "0.04123" in table
    assert "yes" in table
    assert "NO" in table


def test_the_demo_keeps_what_is_there_unless_overwriting_is_asked_for(affetto, tmp_path):
    (tmp_path / "face.glb").write_text("mine")
    outcome = affetto("demo", "-o", tmp_path)
    assert outcome.code == 2
    assert "face.glb" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["face.glb"]


@pytest.mark.slow
def test_the_demo_makes_every_file_it_names(affetto, tmp_path):
    outcome = affetto("demo", "-o", tmp_path / "new", "--size", "64", "--json", "-q")
    assert outcome.code == 0, outcome.err
    made = {path.name for path in (tmp_path / "new").iterdir() if path.stat().st_size > 1000}
    assert made == set(FILES)
    assert len(json.loads(outcome.out)["files"]) == len(FILES)
