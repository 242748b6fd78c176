import json

from affetto.apps.cli import doctor
from affetto.weights.registry import REGISTRY


def test_the_report_is_one_json_document_about_every_part(affetto):
    outcome = affetto("doctor", "--json", "--cpu-only")
    report = json.loads(outcome.out)
    assert outcome.err == ""
    sections = list(dict.fromkeys(check["section"] for check in report["checks"]))
    assert sections == [
        "system",
        "torch",
        "attention",
        "media",
        "renderer",
        "optional",
        "weights",
        "full tier",
    ]
    assert {check["status"] for check in report["checks"]} <= {"ok", "absent", "warning", "failed"}
    assert outcome.code == (0 if report["healthy"] else 4)


def test_the_machine_that_runs_the_tests_is_healthy(affetto):
    outcome = affetto("doctor", "--cpu-only")
    assert outcome.code == 0, outcome.out
    for part in ("torch", "H.264 video", "numba", "usd-core", "full tier"):
        assert part in outcome.out


def test_attention_runs_on_the_cpu_and_every_weight_is_reported():
    checks = list(doctor.examine(gpu=False))
    kernels = {check.name: check.status for check in checks if check.section == "attention"}
    assert kernels["math on cpu"] == "ok"
    assert {check.name for check in checks if check.section == "weights"} == set(REGISTRY)
    assert all(check.mend for check in checks if check.status in ("failed", "warning"))


def test_absent_full_tier_weights_share_one_row():
    absent = [
        doctor.Check(section="weights", name=name, status="absent", detail="missing")
        for name in ("one", "two")
    ]
    kept = doctor.Check(section="weights", name="three", status="ok", detail="hash matches")
    rows = list(doctor._without_full_tier([*absent, kept]))
    assert rows[0] == kept
    assert "one, two" in rows[1].detail
    assert len(rows) == 2


def test_each_generator_tells_what_its_published_model_lacks(monkeypatch, tmp_path):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    checks = {check.name: check for check in doctor._full_tier()}
    assert checks["face (EMOTE)"].detail == "lacks emote, flame2023-open"
    assert checks["face (EMOTE)"].mend == "affetto weights pull emote && affetto weights pull flame2023-open"
    (tmp_path / "weights").mkdir()
    for name in ("emote", "flame2020"):
        (tmp_path / "weights" / f"{name}.safetensors").write_bytes(b"x")
    checks = {check.name: check for check in doctor._full_tier()}
    assert (checks["face (EMOTE)"].status, checks["face (EMOTE)"].mend) == ("ok", "")
    assert checks["talk (DICE-Talk)"].status == "absent"


def test_the_kernel_that_torch_takes_is_named():
    checks = {check.name: check.detail for check in doctor.examine(gpu=False)}
    assert "with a float bias" in checks["taken on cpu"]
    assert "none" not in checks["taken on cpu"]
