"""What batches cost, measured, and what that makes elsewhere: `python benchmarks/batch.py [--jobs 24]`.

First the same jobs (curves of a face for the recording that comes with affetto, another emotion each) by a plain loop in one
process, and by the runner with one and with two workers, models loaded in all: seconds a job by the clock, the processor's
seconds of runner and workers together (which a busy machine changes less), and jobs an hour. Then what a worker's start takes,
what a second of media costs each generator, and the model of docs/scale.md with these figures in it.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import psutil

from affetto.apps.batch.engines import Workshop
from affetto.apps.batch.executor import LocalExecutor
from affetto.apps.batch.plan import PlannedJob, plan_job
from affetto.apps.batch.runner import Runner
from affetto.apps.batch.specs import JOB
from affetto.apps.batch.store import JobStore
from affetto.apps.cli.demo import photograph
from affetto.runtime.progress import CancelToken

SPEECH = str(resources.files("affetto.media") / "data" / "hello.flac")
FULL_TIER_S = 18.6
"""GPU seconds for a second of DICE-Talk at 512 x 512 with its 25 steps: docs/performance.md's 4.24 s of three steps for two
seconds of sound on an H200 (all branches together), times 25/3, with 1.8 s of preparing and decoding; random weights."""


def jobs(count: int, start: int = 0) -> list[PlannedJob]:
    rows = (
        {
            "generator": "face",
            "audio": SPEECH,
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
        make(workshop, first, Path(folder))
        began, used = time.perf_counter(), processor_s()
        for job in rest:
            make(workshop, job, Path(folder))
        return (time.perf_counter() - began) / count, (processor_s() - used) / count


def make(workshop: Workshop, job: PlannedJob, folder: Path) -> None:
    workshop.make(job, folder / job.spec.output, progress=lambda _event: None, cancel=CancelToken())


@dataclass(frozen=True, kw_only=True)
class Batched:
    """A job by the clock and in processor seconds, and what the start of a worker took before."""

    seconds: float
    used: float
    start_s: float
    start_used: float


def batched(count: int, workers: int) -> Batched:
    opened, before = time.perf_counter(), processor_s()
    executor = LocalExecutor(["cpu"] * workers)
    with tempfile.TemporaryDirectory() as folder, JobStore(Path(folder) / "jobs.sqlite") as store:
        try:
            store.add(jobs(workers, start=10_000))  # loads the models
            Runner(store, Path(folder), executor).run()
            start_s, start_used = time.perf_counter() - opened, (processor_s() - before) / workers
            store.add(jobs(count))
            began, used = time.perf_counter(), processor_s()
            report = Runner(store, Path(folder), executor).run()
            assert report.counts["done"] == count + workers, report
            seconds, spent = (time.perf_counter() - began) / count, (processor_s() - used) / count
            return Batched(
                seconds=seconds, used=spent, start_s=start_s - seconds, start_used=start_used - spent
            )
        finally:
            executor.close()


def costs() -> dict[str, float]:
    """Processor seconds of one thread for a second of media, models loaded."""
    spoken: dict[str, Any] = {"audio": SPEECH, "emotion": "happy@0.7", "seed": 1}
    talk = {"generator": "talk", **spoken, "portrait": str(photograph())}
    rows: dict[str, dict[str, Any]] = {
        "face curves": {"generator": "face", **spoken, "output": "a.csv"},
        "voice": {"generator": "voice", **spoken, "output": "a.wav"},
        "music, 30 s as notes": {
            "generator": "music",
            "emotion": "happy",
            "seconds": 30.0,
            "output": "a.mid",
        },
        "music, 30 s as sound": {
            "generator": "music",
            "emotion": "happy",
            "seconds": 30.0,
            "output": "b.wav",
        },
        "talking portrait, 256 px": {**talk, "size": 256, "output": "a.mp4"},
        "talking portrait, 512 px": {**talk, "size": 512, "output": "b.mp4"},
        "3D face video, 512 px": {"generator": "face", **spoken, "size": 512, "output": "c.mp4"},
    }
    workshop, found = Workshop(device="cpu"), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, row in rows.items():
            job = plan_job(JOB.validate_python(row))
            make(workshop, job, Path(folder))  # loads and compiles
            used = processor_s()
            make(workshop, job, Path(folder))
            found[name] = (processor_s() - used) / job.media_s
            print(f"| {name} | {found[name]:.3f} |", flush=True)
    return found


def lasts(*, work_s: float, workers: float, share: float, start_s: float) -> str:
    """The model: start, then the work over what the workers have."""
    seconds = start_s + work_s / (workers * share)
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def projected(cost: Mapping[str, float], runner_s: float, share: float, start_s: float) -> None:
    """An hour of media in clips of ten seconds, wherever it is made."""
    clips = 360
    places = {
        "a laptop, two cores": (2, share, "measured"),
        "a workstation, 16 cores": (16, 0.9, "assumed"),
        "20 such nodes": (320, 0.9, "assumed"),
    }
    names = ("face curves", "voice", "talking portrait, 512 px")
    print(f"\n| where | W | e | {' | '.join(names)} |\n|---|---|---|---|---|---|")
    for where, (workers, each, how) in places.items():
        shown = " | ".join(
            lasts(work_s=clips * (runner_s + 10 * cost[n]), workers=workers, share=each, start_s=start_s)
            for n in names
        )
        print(f"| {where} | {workers} | {each:.2f} ({how}) | {shown} |")
    print("\n| GPUs, DICE-Talk | 1 | 8 | 100 | 1,000 |\n|---|---|---|---|---|")
    for hours in (1, 100):
        work = 3600 * hours * FULL_TIER_S
        shown = " | ".join(lasts(work_s=work, workers=w, share=1.0, start_s=0.0) for w in (1, 8, 100, 1000))
        print(f"| {hours} h of video | {shown} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=24)
    count = parser.parse_args().jobs
    os.environ["AFFETTO_SIGN"] = "never"
    print("| how | seconds a job | of the processor | jobs an hour |\n|---|---|---|---|")
    loop_s, loop_used = plain(count)
    one, two = batched(count, 1), batched(count, 2)
    for name, seconds, used in (
        ("a plain loop", loop_s, loop_used),
        ("one worker", one.seconds, one.used),
        ("two workers", two.seconds, two.used),
    ):
        print(f"| {name} | {seconds:.3f} | {used:.3f} | {3600 / seconds:.0f} |", flush=True)
    runner_s, share = max(one.used - loop_used, 0.0), one.seconds / two.seconds / 2
    print(
        f"\no {1000 * runner_s:.0f} ms of the processor, e {share:.2f}; a worker's start {one.start_s:.1f} s, {one.start_used:.1f} s of the processor; load {os.getloadavg()[0]:.1f}"
    )
    print("\n| | processor seconds a second |\n|---|---|")
    projected(costs(), runner_s, share, one.start_s)
