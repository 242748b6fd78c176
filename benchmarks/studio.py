"""Opening the studio: seconds from the start of its process until the page answers whole, and its memory when idle.

Prints one JSON object. The bars are 5 s and 400 MiB, on two idle cores; `load` is the machine's load average over the last
minute, because a busy machine makes the first figure worse than it is; `page_ready_cpu_s` is the processor's time in it.

    python benchmarks/studio.py [--times 3]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

READY_BAR_S, IDLE_BAR_MIB, SETTLE_S = 5.0, 400.0, 5.0


def opened(folder: Path) -> tuple[float, float, float]:
    """Seconds until the page and its description have been read, of them spent computing, and resident MiB some seconds later."""
    program = "import sys; from affetto.apps.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "studio", "--home", str(folder)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address.startswith("http"):
                raise SystemExit("the studio did not start: run `affetto studio` to see why")
            for part in ("", "config"):
                urllib.request.urlopen(address + part, timeout=30).read()
            ready = time.perf_counter() - began
            family = psutil.Process(process.pid)
            computing = family.cpu_times().user + family.cpu_times().system
            time.sleep(SETTLE_S)
            held = sum(each.memory_info().rss for each in [family, *family.children(recursive=True)])
        finally:
            process.terminate()
    return ready, computing, held / 2**20


def main() -> None:
    """Open it some times, each in a folder of its own, and print medians beside the bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3, metavar="N")
    times = parser.parse_args().times
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = [opened(Path(folder) / str(number)) for number in range(times)]
    ready, computing, held = (statistics.median(values) for values in zip(*found, strict=True))
    print(json.dumps({
        "cores": os.cpu_count(), "load": round(load, 1), "times": times,
        "page_ready_s": round(ready, 2), "page_ready_bar_s": READY_BAR_S, "page_ready_met": ready <= READY_BAR_S,
        "page_ready_cpu_s": round(computing, 2),
        "idle_mib": round(held), "idle_bar_mib": IDLE_BAR_MIB, "idle_met": held <= IDLE_BAR_MIB,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
