"""The drills of `benchmarks/reliability.py`, smaller: nothing is lost, doubled or half written."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.apps.batch import drills

SHORT = {"generator": "music", "emotion": "happy", "seconds": 2.0, "seed": 3}


@pytest.mark.slow
def test_killed_a_hundred_times_at_random_nothing_is_lost_doubled_or_half_written(tmp_path):
    verdict = drills.kill_again_and_again(tmp_path, jobs=400, kills=100)
    assert verdict.is_clean, verdict
    assert sum(count for what, count in verdict.did.items() if what.startswith("kills")) == 100


def test_workers_that_hang_are_replaced(tmp_path):
    verdict = drills.hang(tmp_path, jobs=80, hangs=1)
    assert verdict.is_clean, verdict
    assert verdict.did["workers stopped"] == 1


def test_a_second_run_of_a_folder_is_turned_away(tmp_path):
    verdict = drills.run_twice(tmp_path, jobs=20)
    assert verdict.is_clean, verdict
    assert verdict.did["exit codes"] == "0 and 75"


def test_a_run_that_is_killed_in_a_shared_folder_leaves_its_jobs_to_the_others(tmp_path):
    verdict = drills.share(tmp_path, jobs=150)
    assert verdict.is_clean, verdict
    assert verdict.did["exit codes"] == "0"


def test_a_clock_that_jumps_by_up_to_a_day_changes_nothing(tmp_path):
    verdict = drills.jump_the_clock(tmp_path, jobs=60)
    assert verdict.is_clean, verdict
    assert verdict.did["exit code"] == 0
    assert verdict.did["jumps"] > 3
    assert verdict.did["workers that died"] == 3


def test_jobs_that_run_out_of_memory_are_made_with_less_at_once_and_say_so(tmp_path):
    verdict = drills.run_out_of_memory(tmp_path, jobs=20)
    assert verdict.is_clean, verdict
    assert (verdict.did["made with less at once"], verdict.did["exit code"]) == (10, 0)


def test_a_file_larger_than_allowed_leaves_nothing(tmp_path):
    """What a full disk does, without one: no file may grow beyond 100 bytes."""
    code = f"""
import resource
from pathlib import Path
from affetto.runtime.progress import CancelToken
from tests.apps.batch.fake import FakeWorkshop, job
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    FakeWorkshop(device="cpu", dtype="auto").make(
        job("a.mid"), Path({str(tmp_path)!r}) / "a.mid", progress=lambda _event: None, cancel=CancelToken())
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=drills.ROOT, capture_output=True, text=True, check=False
    )
    assert "OSError" in ran.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount")
def test_a_full_disk_stops_a_run_with_75_and_the_next_one_goes_on(tmp_path):
    (tmp_path / "small").mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path / "small"], check=False
    ).returncode:
        pytest.skip("may not mount here")
    try:
        (tmp_path / "small" / "out").mkdir()
        verdict = drills.fill_the_disk(tmp_path / "small" / "out", jobs=100)
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)
    assert verdict.is_clean, verdict
    assert verdict.did["exit codes"] == "75, then 0"


def test_the_same_music_comes_out_when_memory_lacks_for_more_than_one_version(tmp_path, monkeypatch, affetto):
    """The real composer with an injected failure: the recipe tells what was given up, and the bytes stay."""
    from affetto.apps.batch.engines import Workshop
    from affetto.apps.batch.plan import plan_job
    from affetto.apps.batch.specs import JOB
    from affetto.generators.music.sampling import BarWriter
    from affetto.runtime.progress import CancelToken

    shop, write = Workshop(device="cpu"), BarWriter.__call__

    def made(name: str) -> bytes:
        spec = JOB.validate_python({**SHORT, "output": name})
        shop.make(plan_job(spec), tmp_path / name, progress=lambda _event: None, cancel=CancelToken())
        return (tmp_path / name).read_bytes()

    def tight(self, *arguments, seeds, **options):
        if len(seeds) > 1:
            raise MemoryError
        return write(self, *arguments, seeds=seeds, **options)

    plenty = made("plenty.mid")
    monkeypatch.setattr(BarWriter, "__call__", tight)
    assert made("tight.mid") == plenty
    assert '"one at a time"' in (tmp_path / "tight.mid.recipe.json").read_text()
    assert '"memory"' not in (tmp_path / "plenty.mid.recipe.json").read_text()
