"""How fast a photograph speaks, from curves to a finished H.264 file, beside a naive jaw warp.

    python benchmarks/portrait_render.py [--frames 100] [--marks tests/generators/portrait/marks]

The naive baseline has no face model: it stretches the rows below the mouth by the energy of the sound.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from skimage import data

from affetto.generators.portrait.fit import FaceFit, PointModel, fit_face
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.generators.portrait.renderer import PortraitRenderer, resized
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.media.video_writer import VideoWriter


def performance(frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, head and eyes of somebody who talks, nods, looks about and blinks."""
    t = np.arange(frames) / 25.0
    weights = np.zeros((frames, 52), np.float32)
    energy = np.clip(np.sin(2 * np.pi * 4.1 * t) * np.sin(2 * np.pi * 0.7 * t), 0, 1)
    weights[:, ARKIT_INDEX["jawOpen"]] = 0.45 * energy
    weights[:, ARKIT_INDEX["mouthPucker"]] = 0.4 * np.clip(np.sin(2 * np.pi * 1.3 * t), 0, 1)
    for side in ("Left", "Right"):
        weights[:, ARKIT_INDEX[f"mouthLowerDown{side}"]] = 0.25 * energy
        weights[:, ARKIT_INDEX[f"mouthSmile{side}"]] = 0.3
        weights[:, ARKIT_INDEX[f"eyeBlink{side}"]] = np.clip(1 - np.abs((t % 2.0) - 1.0) / 0.08, 0, 1)
    head = 0.08 * np.stack([np.sin(0.9 * t), np.sin(1.7 * t), 0.5 * np.sin(0.6 * t)], axis=1)
    eyes = np.broadcast_to(0.1 * np.sin(0.8 * t)[:, None, None], (frames, 2, 2))
    return weights, head, eyes


def jaw_warp(photo: np.ndarray, points: np.ndarray, energy: float) -> np.ndarray:
    """The naive baseline: rows below the lips' line are pulled down by the sound's energy."""
    top, bottom = int(points[62, 1]), min(len(photo) - 1, int(points[8, 1] + 0.2 * np.ptp(points[:, 1])))
    drop = round(0.12 * energy * np.ptp(points[:, 1]))
    if drop == 0 or bottom - top <= drop:
        return photo
    left, right = int(points[48, 0]), int(points[54, 0])
    rows = top + np.arange(bottom - top) * (bottom - top - drop) / (bottom - top)
    frame = photo.copy()
    frame[top:bottom, left:right] = photo[rows.astype(int), left:right]
    frame[top : top + drop, left:right] = 20
    return frame


def timed(
    path: Path, size: tuple[int, int], count: int, frame: Callable[[int], np.ndarray]
) -> tuple[float, float]:
    """Frames a second by the clock, and processor milliseconds a frame, encoding included."""
    clock, cpu = time.perf_counter(), time.process_time()
    with VideoWriter(path, size, 25) as video:
        for index in range(count):
            video.write(frame(index))
    return count / (time.perf_counter() - clock), 1000.0 * (time.process_time() - cpu) / count


def measure(short_side: int, frames: int, fit: FaceFit, head: HeadModel, folder: Path) -> None:
    image = data.astronaut()
    start = time.process_time()
    renderer = PortraitRenderer(image, fit, head, size=short_side)
    prepared = time.process_time() - start
    weights, turns, eyes = performance(frames)
    renderer.frame(weights[0], turns[0], eyes[0])  # compile
    ours = timed(
        folder / "ours.mp4", renderer.size, frames, lambda i: renderer.frame(weights[i], turns[i], eyes[i])
    )
    photo, factor = resized(image, short_side)
    jaw = weights[:, ARKIT_INDEX["jawOpen"]] / 0.45
    naive = timed(
        folder / "naive.mp4",
        renderer.size,
        frames,
        lambda i: jaw_warp(photo, factor * fit.points, float(jaw[i])),
    )
    print(
        f"{short_side} px: {ours[0]:.1f} fps, {ours[1]:.1f} CPU ms a frame, prepared in {prepared:.1f} CPU s"
        f" | naive jaw warp {naive[0]:.1f} fps, {naive[1]:.1f} CPU ms"
    )
    renderer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--marks", type=Path, default=Path("tests/generators/portrait/marks"))
    options = parser.parse_args()
    head = HeadModel.load()
    points = np.array(json.loads((options.marks / "astronaut.json").read_text())["points"], np.float32)
    landmarks = FaceLandmarks(
        points=points, variance=np.full((68, 2), 0.1, np.float32), pose=(0.0, 0.0, 0.0), confidence=1.0
    )
    fit = fit_face(landmarks, head, (512, 512), model=PointModel(head))
    with tempfile.TemporaryDirectory() as folder:
        for short_side in (256, 512):
            measure(short_side, options.frames, fit, head, Path(folder))


if __name__ == "__main__":
    main()
