"""`affetto weights list` and `verify`."""

import json

import pytest

from affetto.apps.cli import main
from affetto.weights.registry import REGISTRY


def test_the_list_shows_every_file_with_licence_and_source(capsys):
    assert main(["weights", "list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {entry["id"] for entry in entries} == set(REGISTRY)
    assert {"licence", "source", "commercial", "consumer", "embedded", "size", "state", "path"} <= entries[
        0
    ].keys()


def test_the_table_fits_a_narrow_terminal(capsys):
    assert main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in REGISTRY)
    assert max(map(len, out.splitlines())) <= 80


def test_what_is_here_is_whole(capsys):
    assert main(["weights", "verify", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {entry["id"] for entry in entries} >= {entry.id for entry in REGISTRY.values() if entry.embedded}
    assert {entry["state"] for entry in entries} <= {"ok", "unpinned"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["dice-talk"], 4, "dice-talk (missing)"), (["dice-tlk"], 2, "did you mean dice-talk")],
)
def test_a_missing_or_unknown_file_is_told_in_one_line(capsys, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    assert main(["weights", "verify", *arguments]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
