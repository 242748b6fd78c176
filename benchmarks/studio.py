"""Opening the studio: seconds from the start of its process until its page can be used, and its memory when idle.

Prints one JSON object. `page_ready_s` is the time until a browser that was open already shows the page with a timeline that can
be drawn on; without Chromium, until the server has given the page whole (`served_s`, the median, is always that; `served_cpu_s`
is the processor's time in it). `page_best_s` is the best of the runs. The bars are 5 s and 400 MiB, on two idle cores; `load` is the
machine's load average over the last minute, because a busy machine makes the times longer than they are.

    python benchmarks/studio.py [--times 3]
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

READY_BAR_S, IDLE_BAR_MIB, SETTLE_S = 5.0, 400.0, 5.0


@contextlib.contextmanager
def a_browser() -> Iterator[Any]:
    """Headless Chromium driven by playwright, or None where either is missing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        browser.new_page().close()
        yield browser
        browser.close()


def opened(folder: Path, browser: Any) -> tuple[float, float, float, float]:
    """Seconds until the page has been read, of them spent computing, until a browser shows it; resident MiB some seconds later."""
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
            served = ready = time.perf_counter() - began
            family = psutil.Process(process.pid)
            computing = family.cpu_times().user + family.cpu_times().system
            if browser is not None:
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                page.goto(address)
                page.wait_for_selector(".tl-chips button", timeout=60_000)
                ready = time.perf_counter() - began
                page.close()
            time.sleep(SETTLE_S)
            held = sum(each.memory_info().rss for each in [family, *family.children(recursive=True)])
        finally:
            process.terminate()
    return served, computing, ready, held / 2**20


def main() -> None:
    """Open it some times, each in a folder of its own, and print medians beside the bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3, metavar="N")
    times = parser.parse_args().times
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, a_browser() as browser:
        found = [opened(Path(folder) / str(number), browser) for number in range(times)]
        shown = browser is not None
    served, computing, ready, held = (statistics.median(values) for values in zip(*found, strict=True))
    print(json.dumps({
        "cores": os.cpu_count(), "load": round(load, 1), "times": times, "in_browser": shown,
        "page_ready_s": round(ready, 2), "page_best_s": round(min(run[2] for run in found), 2),
        "page_ready_bar_s": READY_BAR_S, "page_ready_met": ready <= READY_BAR_S,
        "served_s": round(served, 2), "served_cpu_s": round(computing, 2),
        "idle_mib": round(held), "idle_bar_mib": IDLE_BAR_MIB, "idle_met": held <= IDLE_BAR_MIB,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
