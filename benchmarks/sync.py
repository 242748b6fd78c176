"""Sync of many scenes: `python benchmarks/sync.py FOLDER [FOLDER ...] [--clips 4] [--seed 0]`.

Each FOLDER holds recordings (.flac or .wav) of one speaker. Every clip is said with a course of emotion drawn by lot, two
quick changes in it, over music; all but the pictures is made. Prints, for each figure of `sync.json`: how many were measured,
their mean and deviation, the share within 40 ms, and the 10th, 50th and 90th percentile; music in beats.
"""

import argparse
from pathlib import Path

import numpy as np

from affetto.media.audio import probe_audio
from affetto.scene.director import Director
from affetto.scene.model import Scene
from affetto.scene.sync import BAR_MS

EMOTIONS = ("neutral", "happy", "sad", "angry", "fear", "disgusted", "surprised", "contempt")


def course(rng: np.random.Generator, seconds: float) -> str:
    """Three emotions with two changes of .3 to .8 s between them, in the first and the last part of a clip."""
    names = [str(name) for name in rng.permutation(EMOTIONS)[:3]]
    first = float(rng.uniform(0.15, 0.3)) * seconds
    second = float(rng.uniform(0.6, 0.7)) * seconds
    ramps = rng.choice([0.3, 0.5, 0.8], 2)
    return (
        f"0:{names[0]}; {first:.2f}:{names[0]}; {first + ramps[0]:.2f}:{names[1]};"
        f" {second:.2f}:{names[1]}; {second + min(ramps[1], 0.5):.2f}:{names[2]}"
    )


def clips_of(folder: Path, count: int) -> list[Path]:
    """Some recordings of 3.5 to 8 seconds, spread over the folder."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav"))
    fit = [
        path
        for path in paths[:: max(len(paths) // (4 * count), 1)]
        if 3.5 <= probe_audio(path).seconds <= 8.0
    ]
    return fit[:count]


def main() -> None:
    """All scenes, and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="voices without conversion")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    lags: dict[str, list[float]] = {}
    worst: dict[str, list[float]] = {}
    beats: list[float] = []
    scenes = 0
    for folder in asked.folders:
        for path in clips_of(folder, asked.clips):
            text = course(rng, probe_audio(path).seconds)
            scene = Scene.model_validate(
                {
                    "speech": {"audio": path.name, "emotion": text},
                    "speaker": {"voice": {"convert": not asked.plain}},
                    "music": {},
                    "seed": scenes,
                    "outputs": ["mix"],
                }
            )
            made = Director(scene, base=folder, device="cpu").perform()
            scenes += 1
            for lag in made.sync.lags:
                lags.setdefault(lag.what, []).append(lag.milliseconds)
                worst.setdefault(lag.what, []).append(
                    lag.worst if lag.worst is not None else lag.milliseconds
                )
            beats += [key.beat_ms / (1000 * key.beat_s) for key in made.sync.keys]
    print(f"{scenes} scenes")
    print(
        "| figure | scenes | mean, ms | deviation | within 40 ms | 10 %, 50 %, 90 % | worst key within 40 ms |"
    )
    print("|---|---|---|---|---|---|---|")
    for what, found in lags.items():
        values = np.array(found)
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        print(
            f"| {what} | {len(values)} | {values.mean():+.0f} | {values.std():.0f} |"
            f" {np.mean(np.abs(values) <= BAR_MS):.2f} | {low:+.0f}, {middle:+.0f}, {high:+.0f} |"
            f" {np.mean(np.abs(worst[what]) <= BAR_MS):.2f} |"
        )
    print(
        f"music: {len(beats)} turns, {np.mean(np.array(beats) <= 0.05):.2f} on a beat (within a twentieth of one),"
        f" {np.mean(np.array(beats) <= 0.5):.2f} within half a beat"
    )


if __name__ == "__main__":
    main()
