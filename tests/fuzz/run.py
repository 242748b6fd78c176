"""Fuzzing guided by coverage (atheris): `python -m tests.fuzz.run [TARGET ...] --seconds 60`, from the top of a checkout.

atheris is no dependency: `pip install atheris==3.0.0` (Linux). Each target runs in processes of its own until its time is used;
a mistake that raises is written down and the run goes on, one that kills the process is written down by libFuzzer. What breaks
a reader lies in `.work/fuzz/found/TARGET`: make it small, mend the reader, and keep it in `tests/fuzz/corpus/TARGET`.
"""

import argparse
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

from .targets import CORPUS, TARGETS, Target, survives

WORK = Path(".work/fuzz")
_WORD = re.compile(rb"[A-Za-z_][\w.:#-]{2,30}")


def main() -> None:
    """Fuzz what is asked for and print a table."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of files from outside.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.targets or list(TARGETS)
    if asked.one:
        fuzz(names[0], asked.seconds)
    _tell("| target | executions | a second | reached | broke it |\n|---|---|---|---|---|")
    for name in names:
        _tell(_row(name, asked.seconds))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _row(name: str, seconds: int) -> str:
    """Run a target until its time is used, again after each end that came early."""
    began, executions, reached = time.monotonic(), 0, 0
    found = WORK / "found" / name
    while (left := seconds - (time.monotonic() - began)) > 1:
        command = [sys.executable, "-m", "tests.fuzz.run", name, "--one", "--seconds", str(round(left))]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        executions += sum(map(int, re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)))
        reached = max([reached, *map(int, re.findall(r"cov: (\d+)", done.stderr))])
        if not executions:
            raise SystemExit(f"{name} did not run:\n{done.stderr[-2000:]}")
    took = time.monotonic() - began
    broke = sorted(found.iterdir()) if found.is_dir() else []
    return f"| {name} | {executions} | {executions / took:.0f} | {reached} | {len(broke)} |"


def fuzz(name: str, seconds: int) -> None:
    """Run one target in this process, which libFuzzer ends."""
    import atheris

    target, places = TARGETS[name], [WORK / kind / name for kind in ("grown", "found", "scratch")]
    grown, found, scratch = places
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    module = target.reader.partition(":")[0] if ":" in target.reader else ""
    with atheris.instrument_imports(include=["affetto"], enable_loader_override=False):
        if module:
            __import__(module)
        else:
            target.read(_good_file(target, scratch))
    suffixes = sorted({suffix for suffix, _ in target.good()})
    _sow(name, target, suffixes, grown)
    words = sorted({word for _, content in target.good() for word in _WORD.findall(content)})[:400]
    (scratch / "words").write_text("".join(f'"{word.decode()}"\n' for word in words))
    seen: set[str] = set()

    def once(data: bytes) -> None:
        suffix = suffixes[data[0] % len(suffixes)] if data else suffixes[0]
        path = scratch / f"a{suffix}"
        try:
            survives(target, path, data[1:])
        except BaseException as error:  # noqa: BLE001  whatever it is, it is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = re.sub(r"\W+", "-", re.sub(r"\S*/\S*|\d+", "", str(error)))[:40]
            sign = f"{type(error).__name__}-{Path(where.filename).stem}-{where.lineno}-{told}"
            if sign not in seen:
                seen.add(sign)
                (found / f"{sign}{suffix}").write_bytes(data[1:])
                (found / f"{sign}.txt").write_text("".join(traceback.format_exception(error))[-4000:])

    options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000", "-max_len=8192", "-print_final_stats=1"]  # fmt: skip
    options += [f"-artifact_prefix={found}/", f"-dict={scratch / 'words'}", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *options, str(grown)], once)
    atheris.Fuzz()


def _good_file(target: Target, folder: Path) -> Path:
    suffix, content = target.good()[0]
    path = folder / f"good{suffix}"
    path.write_bytes(content)
    return path


def _sow(name: str, target: Target, suffixes: list[str], grown: Path) -> None:
    """Good files, and what was kept, with the number of their suffix before them."""
    kept = [(path.suffix, path.read_bytes()) for path in (CORPUS / name).glob("*.*")]
    for index, (suffix, content) in enumerate([*target.good(), *kept]):
        if suffix in suffixes:
            (grown / f"seed-{index}").write_bytes(bytes([suffixes.index(suffix)]) + content)


if __name__ == "__main__":
    main()
