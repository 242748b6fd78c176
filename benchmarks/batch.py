"""What a batch adds to the work itself: `python benchmarks/batch.py [--jobs 24]`.

The same jobs (curves of a face for the recording that comes with affetto, another emotion each) by a plain loop in one
process, and by the runner with one and with two workers, models loaded in all. Prints seconds a job by the clock, the
processor's seconds of runner and workers together (which a busy machine changes less), and jobs an hour.
"""

import argparse
import tempfile
import time
from importlib import resources
from pathlib import Path

import psutil

from affetto.apps.batch.engines import Workshop
from affetto.apps.batch.executor import LocalExecutor
from affetto.apps.batch.plan import PlannedJob, plan_job
from affetto.apps.batch.runner import Runner
from affetto.apps.batch.specs import JOB
from affetto.apps.batch.store import JobStore
from affetto.runtime.progress import CancelToken


def jobs(count: int, start: int = 0) -> list[PlannedJob]:
    speech = str(resources.files("affetto.media") / "data" / "hello.flac")
    rows = (
        {
            "generator": "face",
            "audio": speech,
            "emotion": f"happy@{0.2 + 0.7 * n / count:.4f}",
            "output": f"{start + n}.csv",
        }
        for n in range(count)
    )
    return [plan_job(JOB.validate_python(row)) for row in rows]


def processor_s() -> float:
    """What this process and the workers that live have used so far."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (me, *me.children()))


def plain(count: int) -> tuple[float, float]:
    workshop = Workshop(device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        first, *rest = jobs(count + 1)
        workshop.make(first, Path(folder) / "warm.csv", progress=lambda _event: None, cancel=CancelToken())
        began, used = time.perf_counter(), processor_s()
        for job in rest:
            workshop.make(
                job, Path(folder) / job.spec.output, progress=lambda _event: None, cancel=CancelToken()
            )
        return (time.perf_counter() - began) / count, (processor_s() - used) / count


def batched(count: int, workers: int) -> tuple[float, float]:
    executor = LocalExecutor(["cpu"] * workers)
    with tempfile.TemporaryDirectory() as folder, JobStore(Path(folder) / "jobs.sqlite") as store:
        try:
            store.add(jobs(workers, start=10_000))  # loads the models
            Runner(store, Path(folder), executor).run()
            store.add(jobs(count))
            began, used = time.perf_counter(), processor_s()
            report = Runner(store, Path(folder), executor).run()
            assert report.counts["done"] == count + workers, report
            return (time.perf_counter() - began) / count, (processor_s() - used) / count
        finally:
            executor.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=24)
    count = parser.parse_args().jobs
    print("| how | seconds a job | of the processor | jobs an hour |\n|---|---|---|---|")
    for name, (seconds, used) in (
        ("a plain loop", plain(count)),
        ("one worker", batched(count, 1)),
        ("two workers", batched(count, 2)),
    ):
        print(f"| {name} | {seconds:.3f} | {used:.3f} | {3600 / seconds:.0f} |")
