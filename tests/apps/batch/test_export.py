import subprocess
import sys

import pytest

from affetto.apps.batch.export import openjd_template, slurm_script
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


def test_a_template_that_makes_no_job_is_explained(tmp_path):
    hot = HotFolder(tmp_path, {"generator": "face", "output": "{stem}.mid"}, settled_s=0.0)
    write_wav(tmp_path / "a.wav", tone(0.2))
    list(hot.arrived(now=0.0))
    with pytest.raises(InvalidInputError, match=r"a\.wav: the template makes no job of it: output"):
        list(hot.arrived(now=1.0))
