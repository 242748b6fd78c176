"""Faults done to batches on purpose, and a count of what they cost: lost, doubled, half-written files.

Tests run them small, `benchmarks/reliability.py` at full size. `python -m tests.apps.batch.drills FOLDER` is the run that
gets killed: the real runner, store and workers, with the workshop of `fake.py` in the place of the generators.
"""

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from affetto.apps.batch.executor import LocalExecutor
from affetto.apps.batch.leases import LeaseBook
from affetto.apps.batch.runner import Runner, RunPolicy, folder_lock, machine_lock, prepare, state_folder
from affetto.apps.batch.store import JobStore
from tests.apps.batch.fake import LOG, FakeWorkshop, content, job

ROOT = Path(__file__).resolve().parents[3]
STUBBORN = RunPolicy(attempts=1000, pause_s=0.01, least_patience_s=60.0, least_free_bytes=0.0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a drill left behind, and what it did (`did`, in words)."""

    jobs: int
    lost: int
    doubled: int
    half_written: int
    left_over: int
    did: dict[str, int | float | str] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether every job has exactly one whole output, and nothing else lies there."""
        return not (self.lost or self.doubled or self.half_written or self.left_over)


def fill(folder: Path, count: int, behaviour: Callable[[int], str] = lambda _number: "ok") -> None:
    """A store of jobs that are good in the end in the folder of a batch; how each behaves on the way, by its number."""
    for n in range(0, count, 50):
        (folder / str(n // 50)).mkdir(exist_ok=True)
        (folder / str(n // 50) / LOG).touch()
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        store.add([job(f"{n // 50}/{n}.mid", behaviour(n)) for n in range(count)])


def wrong_files(folder: Path) -> int:
    """How many files can be seen that are not whole: outputs of other content, recipes that do not tell their file."""
    wrong = 0
    for path in folder.glob("*/[!.]*.mid"):
        wrong += path.read_text() != content(str(path.relative_to(folder)))
    for path in folder.glob("*/[!.]*.json"):
        try:
            wrong += json.loads(path.read_text())["file"]["name"] + ".recipe.json" != path.name
        except (ValueError, KeyError):
            wrong += 1
    return wrong


def judged(folder: Path, count: int, *, half_written: int = 0, **did: float | str) -> Verdict:
    """What lies in the folder against what should: one output and one recipe for each of `count` jobs."""
    wanted = {f"{n // 50}/{n}.mid" for n in range(count)}
    wanted |= {f"{name}.recipe.json" for name in wanted}
    found = Counter(
        str(path.relative_to(folder)) for path in folder.glob("*/*") if ".affetto" not in path.parts
    )
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        done = store.counts()["done"]
    made = finished(folder)
    notes = [name for name in found if Path(name).name == LOG or Path(name).suffix == ".tried"]
    extra = [name for name in found if name not in wanted and name not in notes]
    return Verdict(
        jobs=count,
        lost=len(wanted - set(found)) + count - done,
        doubled=sum(not Path(name).name.startswith(".") for name in extra),
        half_written=half_written + wrong_files(folder),
        left_over=sum(Path(name).name.startswith(".") for name in extra),
        did=did | ({"made again": made - count} if made else {}),
    )


def kill_again_and_again(folder: Path, *, jobs: int, kills: int, seed: int = 0) -> Verdict:
    """Kill -9 a worker, the run, or all of them at random moments until enough kills are done, then let it finish."""
    chance = random.Random(seed)
    fill(folder, jobs)
    done, half = Counter[str](), 0
    while sum(done.values()) < kills:
        with _running(folder) as process:
            while sum(done.values()) < kills and process.poll() is None:
                _wait_for_work(folder, process)
                time.sleep(chance.uniform(0.0, 0.08))
                whom = chance.choice(("worker", "worker", "run", "all"))
                if not _killed(process, whom, chance):
                    break
                done[whom] += 1
                half += wrong_files(folder)
                if whom != "worker":
                    break
        if process.returncode == 0 and not _open_jobs(folder):
            _open_again(folder, jobs, chance)
    with _running(folder) as process:
        process.wait()
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        missing = prepare(store, folder, verify=True)["missing"]
    verdict = judged(folder, jobs, half_written=half)
    return Verdict(
        **{
            **verdict.__dict__,
            "lost": verdict.lost + missing,
            "did": {**{f"kills of {k}": n for k, n in done.items()}, **verdict.did},
        }
    )


def _killed(process: "subprocess.Popen[bytes]", whom: str, chance: random.Random) -> bool:
    """Kill one of a run's workers, the run, or all; False when it has ended by itself."""
    if process.poll() is not None:
        return False
    if whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
    elif whom == "run":
        process.kill()
    else:
        workers = workers_of(process.pid)
        if not workers:
            return False
        os.kill(chance.choice(workers), signal.SIGKILL)
        return True
    process.wait()
    return True


def finished(folder: Path) -> int:
    """How many outputs have been written, those that were made twice counted twice."""
    return sum(path.read_text().count("\n") for path in folder.glob(f"*/{LOG}"))


def _wait_for_work(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    """Until another output has been written: a kill shall strike workers that work, not processes that start."""
    before = finished(folder)
    while finished(folder) == before and process.poll() is None:
        time.sleep(0.003)


def workers_of(pid: int) -> list[int]:
    """The worker processes of a run."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    commands = {int(child): Path(f"/proc/{child}/cmdline") for child in text.split()}
    return [child for child, path in commands.items() if path.exists() and b"spawn_main" in path.read_bytes()]


def _open_jobs(folder: Path) -> bool:
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        return store.next_at() is not None


def _open_again(folder: Path, jobs: int, chance: random.Random) -> None:
    """All is done and kills are left: a tenth of the jobs is asked for anew, as if their parameters had changed."""
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        for row in chance.sample(store.rows(), max(jobs // 10, 1)):
            store.requeue(row.output)


@contextlib.contextmanager
def _running(folder: Path, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.apps.batch.drills", str(folder), *arguments],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def fill_the_disk(folder: Path, *, jobs: int) -> Verdict:
    """Let the disk be full in the middle of a run, make room, go on. `folder` is a small file system of its own."""
    fill(folder, jobs)
    ballast = folder.parent / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        free = os.statvfs(folder)
        file.write(b"\0" * max(free.f_bavail * free.f_frsize - 200 * 1024, 0))
        file.flush()
    with _running(folder) as process:
        first = process.wait()
    half = wrong_files(folder)
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        before = store.counts()["done"]
    ballast.unlink()
    with _running(folder) as process:
        second = process.wait()
    return judged(
        folder, jobs, half_written=half, **{"done before": before, "exit codes": f"{first}, then {second}"}
    )


def hang(folder: Path, *, jobs: int, hangs: int) -> Verdict:
    """Stop workers (SIGSTOP) in the middle of their jobs; they are noticed, killed and replaced."""
    fill(folder, jobs)
    stopped = 0
    with _running(folder, "--patience", "1") as process:
        while not (folder / "0" / LOG).read_text() and process.poll() is None:
            time.sleep(0.02)  # until all workers are awake
        while stopped < hangs and process.poll() is None:
            time.sleep(0.2)
            for pid in workers_of(process.pid)[:1]:
                os.kill(pid, signal.SIGSTOP)
                stopped += 1
                _wait_until_gone(pid)
        process.wait()
    return judged(folder, jobs, **{"workers stopped": stopped})


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def run_twice(folder: Path, *, jobs: int) -> Verdict:
    """Two runs of one folder at once: the second is turned away (75) and changes nothing."""
    fill(folder, jobs)
    with _running(folder) as one:
        lock = state_folder(folder) / "run.lock"
        while not lock.exists():
            time.sleep(0.01)
        with _running(folder) as two:
            codes = (two.wait(), one.wait())
    return judged(folder, jobs, **{"exit codes": f"{codes[1]} and {codes[0]}"})


def share(folder: Path, *, jobs: int, machines: int = 2) -> Verdict:
    """Several runs of one folder with leases, one of them killed: the others take over what it had."""
    fill(folder, jobs)
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(_running(folder, "--shared")) for _ in range(machines)]
        time.sleep(1.2)
        os.killpg(runs[0].pid, signal.SIGKILL)
        codes = [run.wait() for run in runs[1:]]
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        for part in state_folder(folder).glob("jobs-on-*.sqlite"):
            with JobStore(part) as other:
                store.merge(other)
        prepare(store, folder)
    return judged(folder, jobs, **{"runs": machines, "killed": 1, "exit codes": ", ".join(map(str, codes))})


def run_out_of_memory(folder: Path, *, jobs: int) -> Verdict:
    """Every second job runs out of memory until it works on one thing at a time: it is made so, and its recipe says it."""
    fill(folder, jobs, lambda n: "needs room for one" if n % 2 else "ok")
    with _running(folder) as process:
        code = process.wait()
    recipes = [json.loads(path.read_text()) for path in folder.glob("*/[!.]*.json")]
    told = sum("one at a time" in recipe.get("memory", {}).get("savings", ()) for recipe in recipes)
    return judged(folder, jobs, **{"made with less at once": told, "exit code": code})


def jump_the_clock(folder: Path, *, jobs: int) -> Verdict:
    """The clock of the run and of its workers jumps by up to a day, back and forth; some workers die, so that there are pauses."""
    fill(folder, jobs, lambda n: "dies once" if n % 20 == 7 else "ok")
    began = time.monotonic()
    with _running(folder, "--clock") as process:
        code = process.wait()
    jumps = round((time.monotonic() - began) / _JUMP_S)
    return judged(folder, jobs, **{"jumps": jumps, "workers that died": (jobs + 12) // 20, "exit code": code})


_JUMP_S, _DAY_S = 0.2, 86_400.0


class RestlessWorkshop(FakeWorkshop):
    """A workshop whose process has a clock that jumps."""

    def __init__(self, **where: str) -> None:
        super().__init__(**where)
        disturb_the_clock()


def disturb_the_clock() -> None:
    """From now on, the time of day is another by up to a day every fifth of a second; the same for all processes."""
    genuine = time.time

    def jumping() -> float:
        chance = random.Random(int(time.monotonic() / _JUMP_S))
        return genuine() + chance.uniform(-_DAY_S, _DAY_S)

    time.time = jumping


def resident_mib(pid: int) -> float:
    """The memory that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main(folder: Path, *, patience_s: float, shared: bool, clock: bool) -> int:
    """Run what the folder's store holds, as `affetto batch run` does; with `clock`, one that jumps."""
    if clock:
        disturb_the_clock()
    policy = RunPolicy(**{**STUBBORN.__dict__, "least_patience_s": patience_s, "patience": 0.0})
    with (
        machine_lock(folder) if shared else folder_lock(folder) as label,
        JobStore(state_folder(folder) / f"jobs{label}.sqlite") as store,
    ):
        if shared:
            with JobStore(state_folder(folder) / "jobs.sqlite") as common:
                store.merge(common)
        prepare(store, folder, attempts=policy.attempts, shared=shared)
        leases = LeaseBook(state_folder(folder) / "leases", stale_s=5.0) if shared else None
        executor = LocalExecutor(["cpu"] * 2, workshop=RestlessWorkshop if clock else FakeWorkshop)
        try:
            report = Runner(store, folder, executor, policy=policy, leases=leases).run()
        finally:
            executor.close()
            if leases is not None:
                leases.close()
    return report.exit_code


if __name__ == "__main__":
    from affetto.apps.cli import explain

    wanted = float(sys.argv[sys.argv.index("--patience") + 1]) if "--patience" in sys.argv else 60.0
    try:
        asked = {name: f"--{name}" in sys.argv for name in ("shared", "clock")}
        sys.exit(main(Path(sys.argv[1]), patience_s=wanted, **asked))
    except Exception as error:  # noqa: BLE001  as the command line does
        line, code = explain(error)
        sys.stderr.write(f"{line}\n")
        sys.exit(code)
