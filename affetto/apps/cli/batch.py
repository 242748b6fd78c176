"""`affetto batch`: many renders from a manifest, that can be stopped, killed and spread over machines."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, JobsFailedError, UsageError

if TYPE_CHECKING:
    from affetto.apps.batch.executor import Executor
    from affetto.apps.batch.manifest import ManifestError
    from affetto.apps.batch.plan import BatchPlan, PlannedJob
    from affetto.apps.batch.runner import RunReport
    from affetto.apps.batch.store import JobRow, JobStore
    from affetto.apps.batch.worker import JobEvent

Jobs = Annotated[
    Path, typer.Argument(metavar="JOBS", help="The manifest: .jsonl, .csv or .yaml.", show_default=False)
]
Folder = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder of the outputs.")]
Shard = Annotated[str | None, typer.Option(metavar="I/N", help="Only the I-th of N shares of the jobs.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[JOB]...", help="Ids or outputs; all when left out.")
]
BatchSeed = Annotated[int, typer.Option("--seed", min=0, help="Draws the seeds of jobs that have none.")]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    group = typer.Typer(
        no_args_is_help=True, help="Render many jobs: plan, run, resume, spread over machines."
    )
    for command in (plan, run, status, retry, cancel, export, merge, schema):
        group.command(command.__name__)(command)
    app.add_typer(group, name="batch")


def plan(
    jobs: Jobs,
    seed: BatchSeed = 0,
    shard: Shard = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="For the estimate of time.")] = 1,
    json: common.JsonOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Check every job, without making anything: all errors with their lines, count, media, time, disk."""
    from affetto.apps.batch.manifest import read_manifest
    from affetto.apps.batch.plan import plan_batch

    planned = plan_batch(read_manifest(jobs), batch_seed=seed, shard=_shard(shard))
    document = _plan_document(jobs, planned, workers)
    if json:
        common.print_json(document)
    else:
        for error in planned.errors:
            common.print_data(f"{jobs}: {error}")
        common.print_data(
            f"{document['jobs']} jobs, {planned.media_s:.0f} s of media, about {document['seconds']:.0f} s on"
            f" {workers} worker{'s' if workers > 1 else ''} and {planned.bytes / 1e6:.0f} MB"
        )
        for weight in planned.missing_weights:
            common.print_data(f"missing weights: {weight}")
    _refuse(jobs, planned.errors)


def run(
    jobs: Jobs,
    output: Folder,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Worker processes on this machine.")] = 1,
    gpus: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="GPUs to use; the workers are spread over them.")
    ] = None,
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Who runs the workers.")] = "local",
    gpu_share: Annotated[
        float, typer.Option(help="GPU that each worker on Ray asks for: 0.5 puts two on one.")
    ] = 1.0,
    shard: Shard = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Other machines work on the same folder now.")
    ] = False,
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Go on with every recording that arrives there, by the manifest's template."
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Believe finished files by their hash, not size and time.")
    ] = False,
    attempts: Annotated[int, typer.Option(min=1, max=20, help="Tries of a job before it is set aside.")] = 3,
    seed: BatchSeed = 0,
    device: common.DeviceOption = "auto",
    dtype: common.DtypeOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Run a manifest, or go on where it stopped: what stands already is not made again."""
    from affetto.apps.batch.leases import LeaseBook
    from affetto.apps.batch.manifest import read_manifest
    from affetto.apps.batch.plan import plan_batch
    from affetto.apps.batch.runner import Runner, RunPolicy, folder_lock, machine_lock, prepare, state_folder
    from affetto.apps.batch.store import JobStore

    share, devices = _shard(shard), _devices(device, gpus, workers)
    if engine not in ("local", "ray"):
        raise UsageError(f"unknown --engine {engine!r}: use local or ray")
    if shared and share is not None:
        raise UsageError("--shared and --shard divide the jobs in two ways: use one of them")
    common.check_folder(output)
    if watch is not None:
        _watch(jobs, watch, output, devices, dtype, quiet=quiet)
        return
    planned = plan_batch(read_manifest(jobs), batch_seed=seed, shard=share, folder=output)
    _refuse(jobs, planned.errors)
    label = "" if share is None else f"-{share[0]}-of-{share[1]}"
    with (
        machine_lock(output) if shared else folder_lock(output, label) as label,
        JobStore(state_folder(output) / f"jobs{label}.sqlite") as store,
    ):
        counts = store.add(planned.jobs)
        counts |= prepare(store, output, verify=verify, attempts=attempts, shared=shared)
        common.note(_begun(counts), quiet=quiet)
        leases = LeaseBook(state_folder(output) / "leases") if shared else None
        executor = _executor(engine, devices, dtype, gpu_share)
        try:
            with _shown(store, quiet=quiet) as show:
                runner = Runner(
                    store, output, executor, policy=RunPolicy(attempts=attempts), leases=leases, watch=show
                )
                report = _interruptible(runner)
        finally:
            executor.close()
            if leases is not None:
                leases.close()
        _conclude(output, store, report, json=json, quiet=quiet)


def status(
    output: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the outputs.")],
    json: common.JsonOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Tell how a batch stands, running or not."""
    with _store(output) as store:
        counts, troubles = store.counts(), store.rows(("failed", "dead", "running"))
        document = {
            "folder": str(output),
            "counts": counts,
            "jobs": [_row_document(row) for row in (store.rows() if json else troubles)],
        }
    if json:
        common.print_json(document)
        return
    common.print_data(", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no jobs")
    for row in troubles:
        detail = row.error or f"{row.stage} {row.fraction or 0:.0%}".strip()
        common.print_data(f"{row.state}: {row.name}: {detail}")


def retry(
    output: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the outputs.")],
    names: Names = None,
    debug: common.DebugOption = False,
) -> None:
    """Queue failed, given up and cancelled jobs again; `batch run` then makes them."""
    with _store(output) as store:
        common.print_data(f"{store.retry(names or None)} jobs queued again")


def cancel(
    output: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the outputs.")],
    names: Names = None,
    debug: common.DebugOption = False,
) -> None:
    """Stop jobs, also running ones, from another terminal; within two seconds."""
    with _store(output) as store:
        common.print_data(f"{store.request_cancel(names or None)} jobs cancelled")


def export(
    jobs: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS", help="A manifest; for jsonl also a folder with a store.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of the outputs, as the farm sees it.")
    ] = None,
    kind: Annotated[str, typer.Option("--to", metavar="slurm|openjd|jsonl", help="For whom.")] = "slurm",
    tasks: Annotated[int, typer.Option(help="Into how many tasks the jobs are divided.")] = 8,
    gpus: Annotated[int, typer.Option(min=0, max=16, help="GPUs of each Slurm task.")] = 0,
    arguments: Annotated[str, typer.Option(help="More options for each `batch run`.")] = "",
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Write a Slurm array script or an OpenJD template that runs the manifest in shares; or what still waits, as a manifest.

    With --to jsonl JOBS may be the folder of a batch or of a studio (its --home): its jobs that are not done, their seeds and the
    paths of their inputs, are written as a manifest for `batch run` elsewhere.
    """
    from affetto.apps.batch.export import manifest_of, openjd_template, slurm_script, write_text
    from affetto.apps.batch.manifest import read_manifest

    if kind not in ("slurm", "openjd", "jsonl"):
        raise UsageError(f"unknown --to {kind!r}: use slurm, openjd or jsonl")
    if jobs.is_dir() and kind != "jsonl":
        raise UsageError(
            f"{jobs}: is a folder: write its jobs with --to jsonl first, then export that manifest"
        )
    if kind == "jsonl":
        text = manifest_of(_waiting(jobs) if jobs.is_dir() else _planned(jobs))
    elif folder is None:
        raise UsageError(f"--to {kind} needs --folder: the folder of the outputs, as the farm sees it")
    else:
        read_manifest(jobs).checked()
        if kind == "slurm":
            text = slurm_script(jobs, folder, tasks=tasks, gpus=gpus, arguments=arguments)
        else:
            text = openjd_template(jobs, folder, tasks=tasks, arguments=arguments)
    common.print_data(str(write_text(output, text, overwrite=overwrite)))


def merge(
    output: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the outputs.")],
    debug: common.DebugOption = False,
) -> None:
    """Unite the stores of the shards, or of the machines with --shared, that ran into one folder."""
    from affetto.apps.batch.runner import STORE_NAME, state_folder
    from affetto.apps.batch.store import JobStore

    state = state_folder(output)
    parts = sorted(path for way in ("of", "on") for path in state.glob(f"jobs-*{way}-*.sqlite"))
    if not parts:
        raise InvalidInputError(f"{output}: holds no shards: run the batch with --shard or --shared first")
    with JobStore(state / STORE_NAME) as store:
        taken = 0
        for part in parts:
            with JobStore(part) as other:
                taken += store.merge(other)
        counts = store.counts()
    common.print_data(
        f"{taken} jobs of {len(parts)} shards: " + ", ".join(f"{n} {s}" for s, n in counts.items() if n)
    )


def schema(debug: common.DebugOption = False) -> None:
    """Print the JSON Schema of a manifest's jobs."""
    from affetto.apps.batch.specs import manifest_schema

    common.print_json(manifest_schema())


def _waiting(folder: Path) -> "list[PlannedJob]":
    """The jobs of a batch or a studio that are not done."""
    with _store(folder) as store:
        waiting = [row.job for row in store.rows(("queued", "running", "failed", "dead"))]
    if not waiting:
        raise InvalidInputError(f"{folder}: no job waits there: all are done or cancelled")
    return waiting


def _planned(jobs: Path) -> "tuple[PlannedJob, ...]":
    """The jobs of a manifest, expanded and with their seeds."""
    from affetto.apps.batch.manifest import read_manifest
    from affetto.apps.batch.plan import plan_batch

    planned = plan_batch(read_manifest(jobs))
    _refuse(jobs, planned.errors)
    return planned.jobs


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r}: write I/N with I from 1 to N, for example 1/8")
    return int(match[1]), int(match[2])


def _devices(device: str, gpus: str | None, workers: int) -> list[str]:
    """A device for each worker."""
    if gpus is None:
        return [device] * workers
    if not re.fullmatch(r"\d+(,\d+)*", gpus):
        raise UsageError(f"--gpus {gpus!r}: write numbers with commas, for example 0,1")
    numbers = gpus.split(",")
    return [f"cuda:{numbers[index % len(numbers)]}" for index in range(max(workers, len(numbers)))]


def _executor(engine: str, devices: list[str], dtype: str, gpu_share: float) -> "Executor":
    if engine == "ray":
        common.check_package("ray", "the Ray engine needs ray: run pip install 'affetto[ray]'")
        from affetto.apps.batch.ray_executor import RayExecutor

        return RayExecutor(devices, dtype=dtype, gpu_share=gpu_share)
    from affetto.apps.batch.executor import LocalExecutor

    return LocalExecutor(devices, dtype=dtype)


def _store(folder: Path) -> "JobStore":
    from affetto.apps.batch.runner import STATE_FOLDER, STORE_NAME
    from affetto.apps.batch.store import JobStore

    path = folder / STATE_FOLDER / STORE_NAME
    if not path.is_file():
        raise InvalidInputError(
            f"{folder}: no batch ran here: name the -o of `batch run` (after shards, run `batch merge`)"
        )
    return JobStore(path)


def _refuse(jobs: Path, errors: "tuple[ManifestError, ...]") -> None:
    if errors:
        more = (
            f", and {len(errors) - 1} more errors: `affetto batch plan` lists all" if len(errors) > 1 else ""
        )
        raise InvalidInputError(f"{jobs}: {next(iter(errors))}{more}")


def _plan_document(jobs: Path, planned: "BatchPlan", workers: int) -> dict[str, Any]:
    by_kind: dict[str, int] = {}
    for job in planned.jobs:
        by_kind[job.spec.kind] = by_kind.get(job.spec.kind, 0) + 1
    return {
        "manifest": str(jobs),
        "jobs": len(planned.jobs),
        "generators": by_kind,
        "media_seconds": round(planned.media_s, 3),
        "seconds": round(planned.seconds(workers), 1),
        "bytes": round(planned.bytes),
        "missing_weights": list(planned.missing_weights),
        "errors": [{"line": error.line, "message": error.message} for error in planned.errors],
    }


def _begun(counts: Mapping[str, int]) -> str:
    told = {"new": "new", "changed": "changed", "recovered": "interrupted", "missing": "to be made again"}
    return "jobs: " + (
        ", ".join(f"{counts[key]} {word}" for key, word in told.items() if counts.get(key)) or "none new"
    )


def _interruptible(runner: Any, **options: Any) -> "RunReport":
    """Run until done; the first Ctrl-C lets running jobs go back to the queue."""
    import signal

    from affetto.runtime.progress import CancelToken

    stop = CancelToken()
    before = signal.signal(signal.SIGINT, lambda *_: stop.cancel())
    try:
        return runner.run(stop=stop, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def _conclude(folder: Path, store: "JobStore", report: "RunReport", *, json: bool, quiet: bool) -> None:
    """Print the report and leave with the designed exit code."""
    if json:
        common.print_json(
            {
                "folder": str(folder),
                "seconds": round(report.seconds, 2),
                "counts": report.counts,
                "stopped": report.stopped,
                "jobs": [_row_document(row) for row in store.rows()],
            }
        )
    else:
        common.print_data(", ".join(f"{count} {state}" for state, count in report.counts.items() if count))
    for row in store.rows(("failed", "dead")):
        common.note(f"{row.name}: {row.error}", quiet=quiet)
    if report.exit_code:
        common.note(f"affetto: {report.stopped}")
        raise typer.Exit(report.exit_code)
    failed = report.counts["dead"] + report.counts["failed"]
    if failed:
        raise JobsFailedError(
            f"{folder}: {failed} of {sum(report.counts.values())} jobs failed: see `affetto batch status`"
        )


def _row_document(row: "JobRow") -> dict[str, Any]:
    return {
        "id": row.name, "output": row.output, "generator": row.job.spec.kind, "state": row.state, "seed": row.job.seed,
        "attempts": row.attempts, "seconds": None if row.seconds is None else round(row.seconds, 3), "error": row.error,
        "exit_code": row.exit_code, "sha256": row.file["sha256"] if row.file else None, "key": row.key,
    }  # fmt: skip


@contextmanager
def _shown(store: "JobStore", *, quiet: bool) -> "Iterator[Any]":
    """A table on stderr that lives while jobs run: counts, what runs now, time left."""
    import sys

    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    began = time.monotonic()

    def table() -> Table:
        counts = store.counts()
        done, total = counts["done"], sum(counts.values())
        left = (time.monotonic() - began) / done * (total - done) if done else None
        title = f"{done} of {total} done" + (f", about {left:.0f} s left" if left is not None else "")
        shown = Table(title=title, title_justify="left")
        for heading in ("job", "stage", "done"):
            shown.add_column(heading)
        for row in store.rows(("running",)):
            shown.add_row(row.name, row.stage, "" if row.fraction is None else f"{row.fraction:.0%}")
        return shown

    with Live(table(), console=Console(stderr=True), transient=True, auto_refresh=False) as live:

        def show(_event: "JobEvent") -> None:
            live.update(table(), refresh=True)

        yield show


def _watch(jobs: Path, hot: Path, output: Path, devices: list[str], dtype: str, *, quiet: bool) -> None:
    """Make a job of every recording that arrives in `hot`, until interrupted."""
    import signal
    import threading

    from affetto.apps.batch.executor import LocalExecutor
    from affetto.apps.batch.manifest import read_template
    from affetto.apps.batch.plan import leaving, plan_job
    from affetto.apps.batch.runner import STORE_NAME, Runner, folder_lock, prepare, state_folder
    from affetto.apps.batch.store import JobStore
    from affetto.apps.batch.watching import HotFolder
    from affetto.runtime.errors import AffettoError
    from affetto.runtime.progress import CancelToken

    if not hot.is_dir():
        raise InvalidInputError(f"{hot}: no such folder: name the one to watch")
    arrivals = HotFolder(hot, read_template(jobs))
    stop = CancelToken()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.cancel())
    with folder_lock(output), JobStore(state_folder(output) / STORE_NAME) as store:
        prepare(store, output)

        def look() -> None:
            while not stop.cancelled:
                try:
                    for spec in arrivals.arrived():
                        job = plan_job(spec)
                        for problem in leaving([job], output):
                            raise InvalidInputError(problem.message)
                        store.add([job])
                        common.note(f"arrived: {spec.output}", quiet=quiet)
                except AffettoError as error:
                    common.note(f"affetto: {error}")
                time.sleep(0.5)

        threading.Thread(target=look, daemon=True).start()
        executor = LocalExecutor(devices, dtype=dtype)
        try:
            Runner(store, output, executor, watch=lambda event: _told(event, quiet=quiet)).run(
                stop=stop, forever=True
            )
        finally:
            executor.close()


def _told(event: "JobEvent", *, quiet: bool) -> None:
    if event.kind == "done":
        common.print_data(event.output)
    elif event.kind != "progress":
        common.note(f"{event.output}: {event.error or event.kind}", quiet=quiet)
