"""The runner with real worker processes and a workshop that needs no models."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from affetto.apps.batch.executor import LocalExecutor
from affetto.apps.batch.leases import LeaseBook
from affetto.apps.batch.runner import Runner, RunPolicy, folder_lock, machine_lock, prepare
from affetto.apps.batch.store import JobStore
from affetto.runtime.errors import InvalidInputError, TryAgainError
from affetto.runtime.progress import CancelToken
from tests.apps.batch.fake import FakeWorkshop, job

QUICK = RunPolicy(pause_s=0.01, least_patience_s=2.0)


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path / "jobs.sqlite") as opened:
        yield opened


def work(store, folder, *, workers=1, policy=QUICK, **options):
    executor = LocalExecutor(["cpu"] * workers, workshop=FakeWorkshop)
    try:
        return Runner(store, folder, executor, policy=policy, **options).run()
    finally:
        executor.close()


def test_good_jobs_are_made_bad_ones_set_aside_and_crashes_survived(store, tmp_path):
    names = {
        "ok.mid": "ok",
        "sub/two.mid": "ok",
        "bad.mid": "refuses",
        "poison.mid": "dies",
        "twice.mid": "dies once",
    }
    store.add([job(output, behaviour) for output, behaviour in names.items()])
    report = work(store, tmp_path)
    assert report.counts["done"] == 3
    assert report.counts["dead"] == 2
    bad, poison = store.get("bad.mid"), store.get("poison.mid")
    assert (bad.attempts, bad.exit_code) == (1, 3)
    assert poison.attempts == 3
    assert "worker died" in poison.error
    assert store.get("twice.mid").attempts == 2
    assert (tmp_path / "sub/two.mid").is_file()


def test_what_stands_is_not_made_again_and_what_changed_is(store, tmp_path):
    jobs = [job(f"{n}.mid") for n in range(3)]
    store.add(jobs)
    work(store, tmp_path)
    times = {n: (tmp_path / f"{n}.mid").stat().st_mtime_ns for n in range(3)}
    (tmp_path / "1.mid").write_text("tampered")
    (tmp_path / ".2-left_123.mid").write_text("half a file")
    (tmp_path / "..2-left_123-into_456.mid").write_text("half a file that was to go into another")
    (tmp_path / ".2.mid-left_123.c2pa").write_text("half a manifest")
    (tmp_path / ".other-left_123.mid").write_text("somebody else's")
    assert store.add(jobs) == {"new": 0, "changed": 0, "known": 3}
    assert prepare(store, tmp_path) == {"recovered": 0, "missing": 1, "swept": 3}
    assert (tmp_path / ".other-left_123.mid").exists()
    work(store, tmp_path)
    assert (tmp_path / "0.mid").stat().st_mtime_ns == times[0]
    assert (tmp_path / "1.mid").read_text() != "tampered"


def test_a_job_that_hangs_is_stopped_and_the_next_one_runs(store, tmp_path):
    store.add([job("hang.mid", "hangs"), job("ok.mid")])
    report = work(store, tmp_path, policy=RunPolicy(attempts=1, least_patience_s=1.0, patience=0.0))
    assert report.counts["done"] == report.counts["dead"] == 1
    assert "no progress" in store.get("hang.mid").error


def test_a_run_stops_when_its_first_jobs_fail_alike(store, tmp_path):
    store.add([job(f"{n}.mid", "refuses") for n in range(9)])
    report = work(store, tmp_path)
    assert report.exit_code == 3
    assert "all failed alike" in report.stopped
    assert report.counts["queued"] >= 3


def test_missing_weights_stop_a_run_at_once(store, tmp_path):
    store.add([job(f"{n}.mid", "lacks weights") for n in range(5)])
    report = work(store, tmp_path)
    assert report.exit_code == 4
    assert report.counts["dead"] == 1


def test_cancelling_stops_a_running_job_within_two_seconds(store, tmp_path):
    store.add([job("long.mid", "steps"), job("next.mid")])
    began = {}

    def watch(event):
        if event.kind == "progress" and "asked" not in began:
            began["asked"] = time.monotonic()
            assert store.request_cancel(["long.mid"]) == 1
        if event.kind == "cancelled":
            began["stopped"] = time.monotonic()

    report = work(store, tmp_path, watch=watch)
    assert report.counts["cancelled"] == report.counts["done"] == 1
    assert began["stopped"] - began["asked"] < 4.0  # two seconds, and room for a busy machine
    assert not (tmp_path / "long.mid").exists()
    assert store.retry() == 1


def test_an_interrupted_run_queues_what_was_running_again(store, tmp_path):
    store.add([job("long.mid", "steps")])
    executor, stop = LocalExecutor(["cpu"], workshop=FakeWorkshop), CancelToken()
    seen = threading.Event()
    runner = Runner(store, tmp_path, executor, watch=lambda _event: (seen.set(), stop.cancel()))
    try:
        report = runner.run(stop=stop)
    finally:
        executor.close()
    assert seen.is_set()
    assert report.exit_code == 130
    assert (store.get("long.mid").state, store.get("long.mid").attempts) == ("queued", 0)


KILLED = """
import sys
from pathlib import Path
from affetto.apps.batch.executor import LocalExecutor
from affetto.apps.batch.runner import Runner, RunPolicy, prepare
from affetto.apps.batch.store import JobStore
from tests.apps.batch.fake import FakeWorkshop
folder = Path(sys.argv[1])
if __name__ == "__main__":
    with JobStore(folder / "jobs.sqlite") as store:
        prepare(store, folder)
        Runner(store, folder, LocalExecutor(["cpu"], workshop=FakeWorkshop), policy=RunPolicy(attempts=50)).run()
"""


def test_killed_again_and_again_nothing_is_lost_doubled_or_half_written(store, tmp_path):
    store.add([job(f"{n}.mid") for n in range(60)])
    script = tmp_path / "run.py"
    script.write_text(KILLED)
    kills = 0
    for written in (5, 20, 35, 50):
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)], env=environment, start_new_session=True
        )
        while process.poll() is None and len(list(tmp_path.glob("*.mid"))) < written:
            time.sleep(0.005)
        kills += process.poll() is None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert kills >= 2
    prepare(store, tmp_path, verify=True)
    work(store, tmp_path)
    assert store.counts()["done"] == 60
    assert prepare(store, tmp_path, verify=True)["missing"] == 0
    for n in range(60):
        assert (tmp_path / f"{n}.mid").read_text() == f"{n}.mid 7\n" * 200
    assert len(list(tmp_path.glob("*.mid"))) == 60
    assert not list(tmp_path.glob(".*.mid"))


def test_two_runs_do_not_share_a_folder_and_a_dead_ones_lock_does_not_bar(tmp_path):
    with (
        folder_lock(tmp_path),
        pytest.raises(TryAgainError, match=f"process {os.getpid()}"),
        folder_lock(tmp_path),
    ):
        pass
    (tmp_path / ".affetto" / "run.lock").write_text(
        f'{{"pid": 999999999, "host": "{os.uname().nodename}", "since": "x"}}'
    )
    with folder_lock(tmp_path):
        pass


def test_a_lease_is_held_by_one_and_taken_over_when_its_holder_died(tmp_path):
    one, two = LeaseBook(tmp_path, stale_s=0.5), LeaseBook(tmp_path, stale_s=0.5)
    assert one.acquire("k") == "mine"
    assert two.acquire("k") == "elsewhere"
    one.release("k", done={"size": 3})
    assert two.acquire("k") == {"size": 3}
    assert one.acquire("j") == "mine"
    one._closed.set()  # its heart stops
    assert two.acquire("j") == "elsewhere"
    time.sleep(0.6)
    assert two.acquire("j") == "mine"
    two.close()
    assert not list(tmp_path.glob("*.lease*"))


def test_a_lease_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path):
    (tmp_path / "k.lease").write_text(f'{{"host": "{os.uname().nodename}", "pid": 999999999}}')
    book = LeaseBook(tmp_path)
    assert book.acquire("k") == "mine"
    book.close()


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_neither_breaks_leases_nor_makes_a_pause_a_day_long(
    store, tmp_path, monkeypatch, jump_s
):
    one, two = LeaseBook(tmp_path), LeaseBook(tmp_path)
    assert one.acquire("k") == "mine"
    store.add([job("a.mid")])
    store.claim()
    store.fail("a.mid", "x", 1, retry_at=time.time() + 2.0)
    assert store.claim() is None
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert two.acquire("k") == "elsewhere"
    assert store.claim().output == "a.mid"
    one.close()
    two.close()


def test_what_filled_its_memory_is_replaced(store, tmp_path):
    store.add([job("full.mid", "runs out of memory"), job("next.mid")])
    executor = LocalExecutor(["cpu"], workshop=FakeWorkshop)
    before = executor._workers[0].process.pid
    try:
        report = Runner(store, tmp_path, executor, policy=RunPolicy(attempts=1)).run()
        assert executor._workers[0].process.pid != before
    finally:
        executor.close()
    assert (report.counts["dead"], report.counts["done"]) == (1, 1)
    assert store.get("full.mid").exit_code == 6


def test_a_job_that_runs_out_of_memory_is_made_with_less_at_once_and_its_recipe_tells(store, tmp_path):
    store.add([job("tight.mid", "needs room for one")])
    assert work(store, tmp_path).counts["done"] == 1
    recipe = json.loads((tmp_path / "tight.mid.recipe.json").read_text())
    assert recipe["memory"] == {
        "savings": ["models that rest are let go", "one at a time"],
        "exact": True,
    }


def test_runs_that_share_a_folder_each_have_a_place_of_their_own(tmp_path):
    with machine_lock(tmp_path) as one, machine_lock(tmp_path) as two:
        assert one != two


def test_a_file_that_is_no_store_is_named(tmp_path):
    (tmp_path / "jobs.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 40)
    with pytest.raises(InvalidInputError, match=r"jobs\.sqlite: is not a store of jobs"):
        JobStore(tmp_path / "jobs.sqlite")


def test_merging_takes_over_what_another_shard_has_done(store, tmp_path):
    store.add([job("a.mid"), job("b.mid")])
    with JobStore(tmp_path / "other.sqlite") as other:
        other.add([job("b.mid"), job("c.mid")])
        other.claim()
        other.finish("b.mid", {"size": 1, "mtime_ns": 1, "sha256": "x"})
        assert store.merge(other) == 2
    assert store.counts()["done"] == 1
    assert {row.output for row in store.rows()} == {"a.mid", "b.mid", "c.mid"}
