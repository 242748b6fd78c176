import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from affetto.apps.batch.export import openjd_template, slurm_script
from affetto.apps.batch.manifest import read_manifest
from affetto.apps.batch.plan import plan_batch, plan_job
from affetto.apps.batch.runner import STORE_NAME, state_folder
from affetto.apps.batch.specs import JOB
from affetto.apps.batch.store import JobStore
from affetto.apps.batch.watching import HotFolder
from affetto.runtime.errors import InvalidInputError, UsageError
from tests.apps.conftest import tone, write_wav


def test_a_slurm_script_is_sound_bash_and_runs_its_share(tmp_path):
    path = tmp_path / "job.sh"
    path.write_text(slurm_script(tmp_path / "my jobs.jsonl", tmp_path / "out", tasks=12, gpus=1))
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    stub = tmp_path / "affetto"
    stub.write_text('#!/bin/bash\nprintf "%s|" "$@"\nexit 5\n')
    stub.chmod(0o755)
    ran = subprocess.run(
        ["bash", str(path)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 5
    assert ran.stdout == f"batch|run|{tmp_path}/my jobs.jsonl|-o|{tmp_path}/out|--shard|3/12|"


def test_an_openjd_template_is_accepted_by_the_reference_implementation(tmp_path):
    manifest = tmp_path / "jobs.jsonl"
    manifest.touch()
    path = tmp_path / "template.yaml"
    path.write_text(openjd_template(manifest, tmp_path, tasks=3))
    checked = subprocess.run(
        [sys.executable, "-m", "openjd", "check", str(path)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_too_many_tasks_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--tasks 0"):
        slurm_script(tmp_path / "a.jsonl", tmp_path, tasks=0)


def test_a_recording_becomes_a_job_once_it_has_settled(tmp_path):
    hot = HotFolder(tmp_path, {"generator": "face", "emotion": "happy", "output": "{stem}.csv"})
    path = write_wav(tmp_path / "line 1.wav", tone(0.2))
    (tmp_path / "notes.txt").write_text("no recording")
    assert list(hot.arrived(now=0.0)) == []
    write_wav(path, tone(0.4))  # still being written
    assert list(hot.arrived(now=3.0)) == []
    assert list(hot.arrived(now=4.0)) == []
    (job,) = hot.arrived(now=5.1)
    assert (job.output, job.audio) == ("line 1.csv", path)
    assert list(hot.arrived(now=9.0)) == []


def test_a_link_out_of_the_watched_folder_does_not_arrive_and_is_told_once(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    private = write_wav(tmp_path / "private.wav", tone(0.2))
    (inbox / "link.wav").symlink_to(private)
    (inbox / "nothing.wav").symlink_to(inbox / "gone.wav")
    own = write_wav(inbox / "own.wav", tone(0.2))
    (inbox / "same.wav").symlink_to(own)
    hot = HotFolder(inbox, {"generator": "face", "output": "{stem}.csv"}, settled_s=1.0)
    with pytest.raises(InvalidInputError, match=r"^link\.wav: is a link that leads out of the folder"):
        list(hot.arrived(now=0.0))
    assert list(hot.arrived(now=1.0)) == []
    assert [job.output for job in hot.arrived(now=3.0)] == ["own.csv", "same.csv"]


def test_a_watched_folder_that_goes_is_told_and_watched_again_when_it_is_back(tmp_path):
    inbox = tmp_path / "inbox"
    hot = HotFolder(inbox, {"generator": "face", "output": "{stem}.csv"}, settled_s=0.0)
    with pytest.raises(InvalidInputError, match=r"inbox: cannot be read"):
        list(hot.arrived(now=0.0))
    inbox.mkdir()
    write_wav(inbox / "a.wav", tone(0.2))
    list(hot.arrived(now=1.0))
    assert [job.output for job in hot.arrived(now=2.0)] == ["a.csv"]


def waiting(folder: Path, *specs: dict[str, object]) -> None:
    """A store as a batch or a studio keeps it."""
    with JobStore(state_folder(folder) / STORE_NAME) as store:
        store.add([plan_job(JOB.validate_python(spec)) for spec in specs])


def test_the_queue_of_a_studio_becomes_a_manifest_that_makes_the_same_jobs(affetto, tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    speech = write_wav(home / "speech-1.wav", tone(0.5))
    specs = [
        {"generator": "face", "id": "Face", "audio": str(speech), "emotion": "happy", "output": "singles/face-1.csv"},
        {"generator": "music", "id": "Face", "seconds": 3.0, "output": "singles/music-1.mid", "seed": 7},
    ]  # fmt: skip
    waiting(home, *specs)
    outcome = affetto("batch", "export", home, "-o", tmp_path / "queue.jsonl", "--to", "jsonl")
    assert outcome.code == 0, outcome.err
    planned = plan_batch(read_manifest(tmp_path / "queue.jsonl"), folder=other)
    assert planned.errors == ()
    with JobStore(state_folder(home) / STORE_NAME) as store:
        assert [job.key for job in planned.jobs] == [row.key for row in store.rows()]
        assert [job.seed for job in planned.jobs] == [row.job.seed for row in store.rows()]
        for row in store.rows():
            store.request_cancel([row.output])
    outcome = affetto("batch", "export", home, "-o", tmp_path / "none.jsonl", "--to", "jsonl")
    assert outcome.code == 3
    assert "no job waits there" in outcome.err


def test_a_manifest_is_expanded_into_plain_lines(affetto, tmp_path):
    (tmp_path / "jobs.yaml").write_text(
        "defaults: {generator: music, seconds: 2}\nmatrix: {emotion: [happy, sad]}\ntemplate: {output: '{emotion}.mid'}\n"
    )
    outcome = affetto(
        "batch", "export", tmp_path / "jobs.yaml", "-o", tmp_path / "jobs.jsonl", "--to", "jsonl"
    )
    assert outcome.code == 0, outcome.err
    rows = [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    assert [(row["emotion"], row["output"]) for row in rows] == [("happy", "happy.mid"), ("sad", "sad.mid")]
    assert all(isinstance(row["seed"], int) for row in rows)


def test_a_folder_is_no_manifest_for_a_farm(affetto, tmp_path):
    outcome = affetto("batch", "export", tmp_path, "-o", tmp_path / "a.sh", "--folder", tmp_path)
    assert outcome.code == 2
    assert "with --to jsonl first" in outcome.err


def test_a_template_that_makes_no_job_is_explained(tmp_path):
    hot = HotFolder(tmp_path, {"generator": "face", "output": "{stem}.mid"}, settled_s=0.0)
    write_wav(tmp_path / "a.wav", tone(0.2))
    list(hot.arrived(now=0.0))
    with pytest.raises(InvalidInputError, match=r"a\.wav: the template makes no job of it: output"):
        list(hot.arrived(now=1.0))


def test_what_arrives_is_not_made_outside_the_output_folder(affetto, tmp_path, monkeypatch):
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    for folder in (inbox, out, tmp_path / "outside"):
        folder.mkdir()
    (out / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "t.yaml").write_text("template: {generator: face, output: 'link/{stem}.csv'}\n")
    write_wav(inbox / "a.wav", tone(0.3))
    queued: list[int] = []

    class Idle:
        def __init__(self, *_: object, **__: object) -> None: ...
        def close(self) -> None: ...

    class Waits(Idle):
        def __init__(self, store: JobStore, *_: object, **__: object) -> None:
            self.store = store

        def run(self, **_: object) -> None:
            time.sleep(2.5)  # some looks
            queued.append(len(self.store.rows()))

    monkeypatch.setattr("affetto.apps.batch.executor.LocalExecutor", Idle)
    monkeypatch.setattr("affetto.apps.batch.runner.Runner", Waits)
    monkeypatch.setattr("affetto.apps.batch.watching.HotFolder.__init__.__kwdefaults__", {"settled_s": 0.0})
    monkeypatch.setattr("signal.signal", lambda *_: None)
    outcome = affetto("batch", "run", tmp_path / "t.yaml", "-o", out, "--watch", inbox)
    assert outcome.code == 0, outcome.err
    assert "output 'link/a.csv': leaves the output folder through a link" in outcome.err
    assert queued == [0]
