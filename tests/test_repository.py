"""Promises about the repository itself: pins, licences, model cards, documents that name what exists."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from affetto.apps.cli import COMMANDS
from affetto.weights.registry import REGISTRY
from affetto.weights.store import expected_path, file_state

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and line[0] != "#"
]
EMBEDDED = [weight for weight in REGISTRY.values() if weight.embedded]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def normalised(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_every_dependency_of_users_and_tests_is_pinned():
    extras = PROJECT["optional-dependencies"]
    wanted = {
        normalised(name)
        for name in [*PROJECT["dependencies"], *extras["dev"], *extras["usd"], *extras["tts"]]
    }
    assert wanted <= {normalised(pin) for pin in CONSTRAINTS}


def test_pins_are_exact_and_fit_every_machine():
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in CONSTRAINTS)
    assert "torch==2.13.0" in CONSTRAINTS


def test_torchaudio_stays_away():
    assert "torchaudio" not in {normalised(pin) for pin in CONSTRAINTS}
    assert importlib.util.find_spec("torchaudio") is None


@pytest.mark.parametrize("weight", EMBEDDED, ids=lambda weight: weight.id)
def test_every_embedded_weight_is_whole_and_has_a_model_card(weight):
    assert file_state(weight) == "ok"
    card = expected_path(weight).with_suffix(".md").read_text(encoding="utf-8")
    assert "licence" in card.lower()
    assert len(card) > 400


def test_every_shipped_weight_file_is_registered():
    folder = ROOT / "affetto" / "weights" / "embedded"
    assert {path.name for path in folder.glob("*.safetensors")} == {weight.file for weight in EMBEDDED}
    assert sum(weight.size for weight in EMBEDDED) <= 64 * 2**20


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_between_documents_leads_somewhere(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


def test_the_command_line_document_explains_every_command():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [command for command in COMMANDS if f"affetto {command.replace('_', '-')}" not in text] == []
