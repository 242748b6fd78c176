"""What a long dialogue takes: `python benchmarks/dialogue.py FOLDER [--minutes 1 3] [--size 96]`.

FOLDER holds recordings (.flac or .wav). Two speakers take turns with them, as many as fill the minutes, each with an emotion
of their own, over music. Every length is rendered in a process of its own: voices, curves, video of the heads, music and mix.
Prints the peak of resident memory, what each further second of the scene takes, and processor seconds.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from affetto.media.audio import probe_audio
from affetto.scene.director import Director
from affetto.scene.model import Scene

EMOTIONS = ("happy", "0:neutral; 1:sad@0.8", "surprised@0.7", "angry@0.6", "calm", "0:fear@0.5; 2:happy@0.6")


def scene_of(recordings: list[Path], seconds: float, size: int) -> Scene:
    """A dialogue of about this length."""
    turns: list[dict[str, Any]] = []
    length = 0.0
    for number, path in enumerate(itertools.cycle(recordings)):
        if length >= seconds:
            break
        emotion = EMOTIONS[number % len(EMOTIONS)]
        turns.append({"speaker": ("ada", "bert")[number % 2], "audio": str(path), "emotion": emotion})
        length += probe_audio(path).seconds + 0.3
    return Scene.model_validate(
        {
            "cast": {
                "ada": {"voice": {"pan": -0.3}},
                "bert": {"voice": {"pan": 0.3}, "head": {"identity": 11}},
            },
            "shots": [{"view": "speaking", "turns": turns}],
            "music": {},
            "size": size,
            "outputs": ["voice", "curves", "head", "music", "mix"],
        }
    )


def measured(recordings: list[Path], seconds: float, size: int, events: bool) -> dict[str, float]:
    """Render once, here: seconds of the scene, peak of resident memory in MiB, processor seconds."""
    last = ""

    def told(event: Any) -> None:
        nonlocal last
        if events and event.stage != last:
            last = event.stage
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"  {peak:6.0f} MiB at most before {event.stage}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        made = Director(scene_of(recordings, seconds, size), device="cpu").render(folder, callback=told)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": made.performance.timeline.seconds,
        "peak_mib": used.ru_maxrss / 1024,
        "compute_s": used.ru_utime + used.ru_stime,
    }


def main() -> None:
    """Each length in a process of its own, and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--events", action="store_true", help="tell the peak before each step")
    parser.add_argument("--here", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    recordings = sorted(path for path in asked.folder.iterdir() if path.suffix in (".flac", ".wav"))[:60]
    if not recordings:
        parser.error(f"{asked.folder} holds no .flac or .wav")
    if asked.here is not None:
        print(json.dumps(measured(recordings, asked.here, asked.size, asked.events)))
        return
    print("| scene | peak memory | a further second takes | processor |\n|---|---|---|---|", flush=True)
    before: dict[str, float] | None = None
    for minutes in asked.minutes:
        again = [sys.executable, *sys.argv, "--here", str(60.0 * minutes)]
        done = subprocess.run(again, stdout=subprocess.PIPE, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        more = ""
        if before is not None:
            rise = (found["peak_mib"] - before["peak_mib"]) / (found["seconds"] - before["seconds"])
            more = f"{rise:.2f} MiB"
        print(
            f"| {found['seconds']:.0f} s | {found['peak_mib']:.0f} MiB | {more} | {found['compute_s']:.0f} s |",
            flush=True,
        )
        before = found


if __name__ == "__main__":
    main()
