"""Every fault that batches must bear, with counts: `python benchmarks/reliability.py [DATA] [--quick] [--write docs/reliability.md]`.

The drills are those of `tests/apps/batch/drills.py`, at full size (about ten minutes on two cores), the last ones with the
real generators. Ray's run where Ray is installed, those that need a file system of their own where `mount` may be used. With
DATA, the folder that holds `speech/`, also how the marks hold (`marks.py`) and which files verify (`verify_all.py`).
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the drills live with the tests
import marks
import verify_all

from affetto.apps.batch.executor import LocalExecutor
from affetto.apps.batch.plan import plan_job
from affetto.apps.batch.runner import Runner
from affetto.apps.batch.specs import JOB
from affetto.apps.batch.store import JobStore
from affetto.apps.cli.demo import photograph
from affetto.media.audio import load_audio, save_audio
from affetto.provenance import audio_mark, picture_mark
from affetto.runtime.progress import CancelToken
from affetto.scene.model import OUTPUTS
from tests.apps.batch import drills
from tests.apps.batch.drills import STUBBORN, Verdict, resident_mib, workers_of
from tests.apps.batch.fake import FakeWorkshop, job

FaultRow = tuple[str, str, Verdict]


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own, this small."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], check=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["mount", "-o", "remount,rw", place], check=False)
            subprocess.run(["umount", place], check=True)


def affetto(*arguments: str | Path) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-c",
        "import sys; from affetto.apps.cli import main; sys.exit(main())",
        *arguments,
    ]
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


@cache
def speech() -> str:
    """The first seconds of the recording that comes with affetto."""
    whole = load_audio(Path(str(resources.files("affetto.media") / "data" / "hello.flac")))
    place = Path(tempfile.mkdtemp(prefix="affetto-speech-")) / "short.wav"
    return str(save_audio(place, replace(whole, samples=whole.samples[:, : 3 * whole.rate])))


def rows_of(kind: str, count: int) -> list[dict[str, object]]:
    """Cheap real jobs: a face for the recording that comes with affetto, another emotion each, or a short piece."""
    if kind == "music":
        return [
            {"generator": "music", "emotion": "calm", "seconds": 2.0, "seed": n, "output": f"{n}.mid"}
            for n in range(count)
        ]
    return [
        {
            "generator": "face",
            "audio": speech(),
            "emotion": f"happy@{0.1 + 0.8 * n / count:.4f}",
            "output": f"{n}.csv",
        }
        for n in range(count)
    ]


@cache
def scene() -> str:
    """A small scene: a head that says a second and a half, over music."""
    place = Path(tempfile.mkdtemp(prefix="affetto-scene-"))
    save_audio(place / "speech.wav", load_audio(speech()).sliced(0.0, 1.5))
    document = {
        "size": 64,
        "speech": {"audio": "speech.wav", "text": "Hello, I am so happy.", "emotion": "happy"},
        "music": {"tail": 0.2},
        "outputs": [name for name in OUTPUTS if name != "talking"],
    }
    (place / "scene.json").write_text(json.dumps(document))
    return str(place / "scene.json")


def manifest(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def hashes(folder: Path) -> dict[str, str]:
    """The outputs of a batch by name; recipes hold the same for the same outputs, whatever happened."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".affetto" not in path.parts)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.suffix != ".json"
    }


def kill_real_jobs(base: Path, *, count: int, kills: int) -> Verdict:
    """`affetto batch run` with the face generator, killed with all its workers, against a run left alone."""
    jobs = manifest(base / "jobs.jsonl", rows_of("face", count))
    affetto("batch", "run", jobs, "-o", base / "calm", "-q").communicate()
    done = 0
    (base / "out").mkdir()
    while done < kills:
        process = affetto("batch", "run", jobs, "-o", base / "out", "-q", "--attempts", "20")
        enough = len(hashes(base / "out")) + max(count // (kills + 1), 1)
        while process.poll() is None and len(hashes(base / "out")) < enough:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        done += 1
    affetto("batch", "run", jobs, "-o", base / "out", "-q", "--attempts", "20").communicate()
    calm, killed = hashes(base / "calm"), hashes(base / "out")
    hidden = [path for path in (base / "out").glob(".*") if path.name != ".affetto"]
    return Verdict(
        jobs=count,
        lost=len(calm.keys() - killed.keys()) + count - len(calm),
        doubled=len(killed.keys() - calm.keys()),
        half_written=sum(killed.get(name, digest) != digest for name, digest in calm.items()),
        left_over=len(hidden),
        did={"kills of all": done},
    )


def read_only(base: Path) -> Verdict:
    """A folder that cannot be written: one line, nothing made; then it can, and all is."""
    jobs = manifest(base / "jobs.jsonl", rows_of("music", 2))
    with small_disk(4) as disk:
        (disk / "out").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        refused = affetto("batch", "run", jobs, "-o", disk / "out", "-q")
        told = refused.communicate()[1].strip().splitlines()
        left = len(list((disk / "out").iterdir()))
        subprocess.run(["mount", "-o", "remount,rw,size=400m", disk], check=True)
        second = affetto("batch", "run", jobs, "-o", disk / "out", "-q")
        second.communicate()
        made = hashes(disk / "out")
    did = {"exit codes": f"{refused.returncode}, then {second.returncode}", "lines": len(told)}
    return Verdict(jobs=2, lost=2 - len(made), doubled=0, half_written=0, left_over=left, did=did)


def soak(base: Path, count: int) -> tuple[str, str, str]:
    """Memory of one worker that makes `count` real jobs: after a tenth and at the end."""
    kinds = rows_of("face", count)
    for n in range(0, count, 10):
        kinds[n] = {**rows_of("music", count)[n], "output": f"{n}.mid"}
        kinds[n + 5] = {
            "generator": "voice",
            "audio": speech(),
            "emotion": "sad",
            "seed": n,
            "output": f"{n}.wav",
        }
    seen: list[float] = []
    with JobStore(base / "jobs.sqlite") as store:
        store.add([plan_job(JOB.validate_python(row)) for row in kinds])
        executor = LocalExecutor(["cpu"])

        def watch(event: object) -> None:
            if getattr(event, "kind", "") == "done":
                seen.append(sum(map(resident_mib, (os.getpid(), *workers_of(os.getpid())))))

        try:
            report = Runner(store, base, executor, policy=STUBBORN, watch=watch).run()
        finally:
            executor.close()
    early, last = seen[count // 10 - 1], seen[-1]
    held = report.counts["done"] == count and last - early < 0.1 * count
    figures = f"{early:.0f} MiB after {count // 10}, {max(seen):.0f} at most, {last:.0f} at the end ({(last - early) / (count * 0.9):+.3f} a job)"
    return (
        f"soak of {count} jobs (eight faces, a voice, a piece in turn; run and worker together)",
        figures,
        mark(held),
    )


def overhead(base: Path, count: int) -> tuple[str, str, str]:
    """What the runner adds to jobs that cost next to nothing, by the clock and in processor time of the run."""
    jobs = [job(f"{n}.mid") for n in range(count)]
    shop, folder = FakeWorkshop(device="cpu", dtype="auto"), base / "plain"
    folder.mkdir()
    began = time.perf_counter()
    for each in jobs:
        shop.make(each, folder / each.spec.output, progress=lambda _event: None, cancel=CancelToken())
    plain = (time.perf_counter() - began) / count
    executor = LocalExecutor(["cpu"], workshop=FakeWorkshop)
    with JobStore(base / "jobs.sqlite") as store:
        try:
            store.add([job("warm.mid")])
            Runner(store, base, executor, policy=STUBBORN).run()
            store.add(jobs)
            began, worked = time.perf_counter(), time.process_time()
            Runner(store, base, executor, policy=STUBBORN).run()
            added = (time.perf_counter() - began) / count - plain
            processor = (time.process_time() - worked) / count
        finally:
            executor.close()
    figures = f"{1000 * added:.1f} ms by the clock, {1000 * processor:.1f} ms of processor time (the bare call: {1000 * plain:.1f} ms)"
    return (
        f"what the runner adds to a job ({count} jobs of the test engine, one worker)",
        figures,
        mark(added <= 0.020),
    )


def same_however_divided(base: Path, count: int) -> list[tuple[str, str, str]]:
    """D0 and D2 for `affetto batch`, all generators: again, two workers, two shards, the manifest backwards."""
    talk = {"generator": "talk", "portrait": str(photograph()), "audio": speech(), "size": 256}
    rows = (
        rows_of("face", count)
        + [
            {"generator": "music", "emotion": "calm", "seconds": 2.0, "output": f"m{n}.mid", "tempo": 80 + n}
            for n in range(count)
        ]
        + [
            {
                "generator": "voice",
                "audio": speech(),
                "emotion": "happy",
                "strength": 0.5 + n / count,
                "output": f"v{n}.wav",
            }
            for n in range(count)
        ]
        + [{**talk, "emotion": "sad", "seed": n, "output": f"t{n}.mp4"} for n in range(count // 2)]
        + [
            {"generator": "render", "scene": scene(), "seed": n, "output": f"r{n}/recipe.json"}
            for n in range(count // 2)
        ]
    )
    forward = manifest(base / "f.jsonl", rows)
    backward = manifest(base / "b.jsonl", rows[::-1])
    ways: dict[str, list[tuple[Path, list[str]]]] = {
        "as a whole": [(forward, [])],
        "the same again, in other processes": [(forward, [])],
        "two workers": [(forward, ["--workers", "2"])],
        "the manifest backwards": [(backward, [])],
        "two shards": [(forward, ["--shard", "1/2"]), (forward, ["--shard", "2/2"])],
    }
    found = {}
    for way, calls in ways.items():
        folder = base / way.replace(" ", "-")
        for jobs, options in calls:
            affetto("batch", "run", jobs, "-o", folder, "-q", *options).communicate()
        found[way] = hashes(folder)
    whole = found.pop("as a whole")
    assert len({Path(name).parts[0] for name in whole}) == len(rows), "the whole run made everything"
    return [
        (
            f"same bytes: {way}",
            f"{sum(got.get(n) == d for n, d in whole.items())} of {len(whole)} files",
            mark(got == whole),
        )
        for way, got in found.items()
    ]


def mark(holds: bool) -> str:
    return "holds" if holds else "MISSED"


def faults(quick: bool) -> Iterator[FaultRow]:
    """Every drill, its name, its engine."""
    share = 10 if quick else 1
    test, real = "test engine", "face, music"
    plain: list[tuple[str, str, Callable[[Path], Verdict]]] = [
        (
            "kill -9 of workers, of the run, of all",
            test,
            lambda f: drills.kill_again_and_again(f, jobs=400 // share, kills=110 // share),
        ),
        (
            "kill -9 of `affetto batch run`",
            "face",
            lambda f: kill_real_jobs(f, count=40 // share + 4, kills=6 // share + 1),
        ),
        ("clock jumps by up to a day", test, lambda f: drills.jump_the_clock(f, jobs=400 // share)),
        ("memory runs out (injected)", test, lambda f: drills.run_out_of_memory(f, jobs=400 // share)),
        ("worker hangs (SIGSTOP)", test, lambda f: drills.hang(f, jobs=400 // share, hangs=5 // share + 1)),
        ("two runs on one folder", test, lambda f: drills.run_twice(f, jobs=200 // share)),
        ("two runs with --shared, one killed", test, lambda f: drills.share(f, jobs=400 // share + 100)),
    ]
    for name, engine, drill in plain:
        with tempfile.TemporaryDirectory() as folder:
            yield name, engine, drill(Path(folder))
    if os.geteuid() == 0:
        with small_disk(4 if quick else 8) as disk:
            (disk / "out").mkdir()
            yield "disk full (tmpfs)", test, drills.fill_the_disk(disk / "out", jobs=400 // share)
        with tempfile.TemporaryDirectory() as folder:
            yield "read-only output", real, read_only(Path(folder))
    if importlib.util.find_spec("ray") is not None:
        from tests.apps.batch import ray_drills

        with ray_drills.cluster() as made, tempfile.TemporaryDirectory() as folder:
            yield (
                "Ray against local workers",
                test,
                ray_drills.same_bytes(made, Path(folder), jobs=100 // share),
            )
        with ray_drills.cluster() as made, tempfile.TemporaryDirectory() as folder:
            yield (
                "Ray nodes killed (raylet, kill -9)",
                test,
                ray_drills.kill_nodes(made, Path(folder), jobs=400 // share, kills=3 // share + 1),
            )


def told(verdict: Verdict) -> str:
    return ", ".join(f"{what}: {count}" for what, count in verdict.did.items())


def fault_table(quick: bool) -> Iterator[str]:
    """What every drill left behind, a row as soon as it is over."""
    yield "| fault | engine | jobs | done to it | lost | doubled | half written | left over | |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, engine, v in faults(quick):
        yield (
            f"| {name} | {engine} | {v.jobs} | {told(v)} | {v.lost} | {v.doubled} | {v.half_written} | {v.left_over}"
            f" | {mark(v.is_clean)} |"
        )


def claim_table(quick: bool) -> Iterator[str]:
    """What else is claimed, measured."""
    yield "| claim | measured | |"
    yield "|---|---|---|"
    measured: list[Callable[[Path], list[tuple[str, str, str]]]] = [
        lambda f: [overhead(f, 50 if quick else 400)],
        lambda f: same_however_divided(f, 2 if quick else 4),
        lambda f: [soak(f, 50 if quick else 500)],
    ]
    for measure in measured:
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(Path(folder)):
                yield "| " + " | ".join(row) + " |"
    load = os.getloadavg()[1]
    processor = time.process_time() + _children()
    yield f"\n({os.cpu_count()} cores, load {load:.1f}, {processor:.0f} s of processor time in all)"


def mark_table(data: Path, *, keys: int) -> Iterator[str]:
    """What is claimed of the marks: how seldom they are false, and that they survive what the web does to media."""
    yield "| claim | measured | |"
    yield "|---|---|---|"
    nulls = {
        "sound": (marks.sound_null(data, keys), audio_mark.THRESHOLD),
        "pictures": (marks.picture_null(keys), picture_mark.THRESHOLD),
    }
    for name, (null, threshold) in nulls.items():
        rate = null.rate(threshold)
        seen = f"at most {rate:.1e}, highest of {len(null.highest)} unmarked {max(null.highest):.1f} of {threshold}"
        yield f"| false marks a file, {name} | {seen} | {mark(rate < 1e-6)} |"
    for name, scores, threshold in marks.survivals(data):
        found = sum(score >= threshold for score in scores)
        yield (
            f"| found after {name} | {found} of {len(scores)}, lowest score {min(scores):.1f} of {threshold}"
            f" | {mark(found == len(scores))} |"
        )


def tables(data: Path | None, *, quick: bool) -> dict[str, Callable[[], Iterator[str]]]:
    """What can be measured, by the names of the document's parts."""
    found = {"faults": lambda: fault_table(quick), "claims": lambda: claim_table(quick)}
    if data is not None:
        found["marks"] = lambda: mark_table(data, keys=80 if quick else 800)
        found["verify"] = lambda: verify_all.measured(data, size=256, places=5 if quick else 25)
    return found


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def put(document: Path, part: str, text: str) -> None:
    """The table of a part between its marks in a document."""
    begin, end = f"<!-- {part}: benchmarks/reliability.py -->", f"<!-- {part}: end -->"
    before, _, rest = document.read_text().partition(begin)
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", help="The folder that holds speech/.")
    parser.add_argument("--quick", action="store_true", help="A tenth of everything.")
    parser.add_argument("--part", help="Only one of the tables: faults, claims, marks, verify.")
    parser.add_argument("--write", type=Path, help="Put the tables into this document.")
    options = parser.parse_args()
    os.environ["AFFETTO_SIGN"] = "never"  # signatures are random: no two signed files are alike
    os.environ["OMP_NUM_THREADS"] = "1"  # workers share the cores: another count of threads rounds otherwise
    known = tables(options.data, quick=options.quick)
    if options.part not in (None, *known):
        parser.error(f"--part {options.part}: use {', '.join(known)}; marks and verify need DATA")
    for part, make in known.items():
        if options.part in (None, part):
            lines = []
            for line in make():
                print(line, flush=True)
                lines.append(line)
            if options.write is not None:
                put(options.write, part, "\n".join(lines))
