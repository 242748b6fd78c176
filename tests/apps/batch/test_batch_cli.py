"""`affetto batch` with the real generators, on small jobs."""

import json

import pytest

from tests.apps.batch.test_manifest import lines

SHORT = {"generator": "music", "emotion": "happy", "seconds": 2.0}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which a batch of music ran, and the manifest."""
    from affetto.apps.cli import main

    folder = tmp_path_factory.mktemp("batch")
    manifest = lines(folder / "jobs.jsonl", {**SHORT, "output": "one.mid", "id": "first", "seed": 3})
    assert main(["batch", "run", str(manifest), "-o", str(folder / "out"), "--quiet"]) == 0
    return folder


def test_a_batch_makes_the_file_and_the_recipe_that_makes_it_again(ran, tmp_path, affetto):
    recipe = json.loads((ran / "out" / "one.mid.recipe.json").read_text())
    again = lines(tmp_path / "again.jsonl", recipe["job"])
    assert affetto("batch", "run", again, "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "one.mid").read_bytes() == (ran / "out" / "one.mid").read_bytes()


def test_status_is_one_json_document(ran, affetto):
    outcome = affetto("batch", "status", ran / "out", "--json")
    document = json.loads(outcome.out)
    assert document["counts"]["done"] == 1
    assert document["jobs"][0]["id"] == "first"


def test_planning_lists_all_errors_and_leaves_with_3(tmp_path, affetto):
    manifest = lines(tmp_path / "jobs.jsonl", "{", {"generator": "opera"}, {**SHORT, "output": "a.mid"})
    outcome = affetto("batch", "plan", manifest)
    assert outcome.code == 3
    assert "line 1" in outcome.out
    assert "line 2" in outcome.out
    assert "1 jobs" in outcome.out
    assert len(outcome.lines) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "gone.jsonl", "-o", "."), 3, "gone.jsonl"),
        (("run", "jobs.txt", "-o", "."), 3, "no manifest"),
        (("status", "."), 3, "no batch ran here"),
        (("merge", "."), 3, "no shards"),
        (("plan", "jobs.jsonl", "--shard", "3/2"), 2, "--shard '3/2'"),
        (("run", "jobs.jsonl", "-o", ".", "--gpus", "first"), 2, "--gpus"),
        (("run", "jobs.jsonl", "-o", ".", "--engine", "dask"), 2, "--engine"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path, monkeypatch, affetto, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "jobs.jsonl", {**SHORT, "output": "a.mid"})
    outcome = affetto("batch", *arguments)
    assert outcome.code == code
    assert words in outcome.err
    assert len(outcome.lines) == 1
