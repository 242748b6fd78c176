"""What we depend on: every pin is known, under a licence we accept, and in no version with a known hole. Needs no network."""

import importlib.metadata
import json
import os
import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
KNOWN = json.loads((ROOT / "tests" / "licences.json").read_text(encoding="utf-8"))
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    if "==" in line and not line.startswith("#")
)


def parts(licence: str) -> set[str]:
    """The single licences of an SPDX expression."""
    return set(re.findall(r"[A-Za-z0-9.-]+", licence)) - {"AND", "OR", "WITH"}


def told(name: str) -> str:
    """The licence in an installed package's metadata, in its own words."""
    data = importlib.metadata.metadata(name)
    classifiers = [each for each in data.get_all("Classifier", []) if each.startswith("License")]
    words = " / ".join(each.split("::")[-1].strip() for each in classifiers)
    first = (data.get("License") or "").splitlines()[:1]
    return data.get("License-Expression") or words or "".join(first)


def needed_by(name: str) -> set[str]:
    """The packages that come with one, without its extras, as far as they are installed."""
    found, waiting = set(), [name]
    while waiting:
        current = waiting.pop().lower().replace("_", "-")
        if current in found:
            continue
        found.add(current)
        try:
            requires = importlib.metadata.requires(current) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted = [Requirement(each) for each in requires]
        waiting += [
            each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    return found - {name}


def test_every_pin_is_known_and_everything_known_is_pinned():
    assert set(KNOWN["packages"]) == set(PINS)


def test_every_licence_is_one_that_is_accepted():
    accepted = {*KNOWN["permissive"], *KNOWN["weak"], *KNOWN["apart"]}
    odd = {name: row for name, row in KNOWN["packages"].items() if not parts(row["licence"]) <= accepted}
    assert odd == {}


def test_what_users_install_brings_no_strong_copyleft():
    apart = {name for name, row in KNOWN["packages"].items() if parts(row["licence"]) & set(KNOWN["apart"])}
    assert apart == {"codespell", "espeakng-loader"}  # a tool, and an extra that is a program of its own
    assert not needed_by("affetto") & apart


def test_packages_still_say_the_licence_that_was_read():
    changed = {}
    for name, version in PINS.items():
        try:
            installed = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed == version and told(name) != KNOWN["packages"][name]["told"]:
            changed[name] = told(name)
    assert changed == {}


@pytest.mark.parametrize("name", KNOWN["denied"])
def test_no_pin_is_a_version_with_a_known_hole(name):
    holes, reason = KNOWN["denied"][name]
    assert PINS[name] not in SpecifierSet(holes), reason


def test_the_audit_says_so_when_its_database_cannot_be_reached(tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [str(ROOT / ".ci" / "audit")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 75
    assert "cannot reach" in done.stderr
    assert "nothing was audited" in done.stderr


def test_what_is_accepted_is_pinned_and_has_a_reason():
    assert set(KNOWN["accepted"]) <= set(PINS)
    assert all(hole and len(reason) > 20 for hole, reason in KNOWN["accepted"].values())


def judged(*dependencies: dict[str, object]) -> tuple[str, int]:
    judge = runpy.run_path(str(ROOT / ".ci" / "judge_audit.py"))["judged"]
    lines, code = judge({"dependencies": list(dependencies)}, {"b": ["CVE-2", "nobody calls it"]})
    return "\n".join(lines), code


HOLE = {"id": "PYSEC-1", "aliases": ["CVE-2"], "fix_versions": ["2"]}


def test_an_audit_fails_for_holes_but_for_those_that_are_accepted_with_a_reason():
    clean = {"name": "a", "version": "1", "vulns": []}
    assert judged(clean) == ("audit: 1 of 1 pins were looked up", 0)
    told, code = judged(clean, {"name": "b", "version": "1", "vulns": [HOLE]})
    assert code == 0
    assert "CVE-2 PYSEC-1, mended in 2 (accepted: nobody calls it)" in told
    told, code = judged({"name": "a", "version": "1", "vulns": [HOLE]})
    assert code == 1
    assert "a 1: CVE-2 PYSEC-1, mended in 2" in told


def test_pins_that_could_not_be_looked_up_are_not_called_audited():
    unknown = {"name": "a", "skip_reason": "Dependency not found"}
    told, code = judged(unknown, {"name": "c", "version": "1", "vulns": []})
    assert code == 75
    assert "1 of 2 pins were looked up" in told
    assert "not looked up: a" in told
    assert judged(unknown, {"name": "c", "version": "1", "vulns": [HOLE]})[1] == 1


def test_nobody_is_let_install_a_version_with_a_known_hole():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(each for extra in extras for each in extra)]
    floors = {
        Requirement(each).name.lower(): spec.version
        for each in asked
        for spec in Requirement(each).specifier
        if spec.operator in (">=", "==")
    }
    weak = {
        name: floors.get(name, "none")
        for name in {Requirement(each).name.lower() for each in asked} & set(KNOWN["denied"])
        if floors.get(name) is None or floors[name] in SpecifierSet(KNOWN["denied"][name][0])
    }
    assert weak == {}
