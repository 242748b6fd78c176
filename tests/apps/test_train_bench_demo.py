import importlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from affetto.apps.cli import bench, common
from affetto.apps.cli.demo import FILES
from affetto.apps.cli.train import RECIPES


@dataclass(frozen=True)
class Score:
    closure: float


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["sparkle", "--data", ".", "-o", "{folder}/a.safetensors"], 2, "sparkle"),
        (["head", "--data", "{folder}/gone", "-o", "{folder}/a.safetensors"], 3, "gone"),
        (["voice-bank", "--data", "esd:{folder}/gone", "-o", "{folder}/a.safetensors"], 3, "gone"),
        (["head", "--data", "."], 2, "-o"),
        (["head", "--data", ".", "-o", "{folder}/a.pt"], 2, "a.pt"),
        (["head", "--data", ".", "-o", "{folder}/a.safetensors", "--resume"], 2, "--resume"),
        (["head", "--data", ".", "-o", "{folder}/a.safetensors", "--seconds", "0"], 2, "--seconds"),
        (["face-motion", "--data", ".", "-o", "{folder}/a.safetensors"], 2, "--seconds"),
    ],
)
def test_training_refuses_what_it_cannot_do_before_it_starts(affetto, tmp_path, arguments, code, named):
    outcome = affetto("train", *(argument.format(folder=tmp_path) for argument in arguments))
    assert outcome.code == code
    assert len(outcome.lines) == 1
    assert named in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_exists_and_takes_data_output_and_seed(name):
    module, function = RECIPES[name]
    parameters = list(inspect.signature(getattr(importlib.import_module(module), function)).parameters)
    assert parameters[:2] == ["data", "output"]
    assert "seed" in parameters


def test_results_of_recipes_become_json(capsys):
    common.print_json({"score": Score(closure=0.5), "mean": np.float32(0.25), "path": Path("a")})
    assert json.loads(capsys.readouterr().out) == {"score": {"closure": 0.5}, "mean": 0.25, "path": "a"}


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
    made = {path.name for path in (tmp_path / "new").iterdir() if path.stat().st_size > 100}
    assert made == set(FILES)
    assert all(lag["holds"] for lag in json.loads(outcome.out)["sync"]["lags"])
    assert len(json.loads(outcome.out)["files"]) == len(FILES)
