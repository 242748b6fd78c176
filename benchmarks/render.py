"""Frames per second of both renderers on the embedded head, and how far their pictures lie apart.

    python benchmarks/render.py [--size 512] [--frames 100] [--head FILE.safetensors] [--out FOLDER]

Wall time is what counts on an idle machine; processor time over the number of cores is the estimate for a busy one.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from affetto.head.model import HeadModel
from affetto.head.render import gl_works, open_renderer
from affetto.head.rotation import euler_matrix
from affetto.media.animation.curves import ARKIT_INDEX
from affetto.media.image import save_png


def poses(head: HeadModel, frames: int) -> np.ndarray:
    """A talking, smiling face, every frame different."""
    time_s = np.arange(frames) / 25.0
    weights = np.zeros((frames, 52), np.float32)
    weights[:, ARKIT_INDEX["jawOpen"]] = 0.25 + 0.25 * np.sin(2 * np.pi * 3 * time_s)
    for name in ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight"):
        weights[:, ARKIT_INDEX[name]] = 0.4 + 0.3 * np.sin(2 * np.pi * 0.5 * time_s)
    return head.deform(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--head", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = HeadModel.load(options.head)
    surface, pivot = head.mesh.surface, np.asarray(head.head_pivot)
    vertices = poses(head, options.frames)
    turns = euler_matrix(
        np.stack([0.3 * np.sin(np.arange(options.frames) / 20), *np.zeros((2, options.frames))], 1)
    )
    cores = os.cpu_count() or 1
    print(
        f"{len(surface.positions)} vertices, {len(surface.triangles)} triangles, {options.size} px, {cores} cores"
    )
    print(f"{'backend':10} {'open s':>7} {'wall ms':>8} {'fps':>6} {'cpu ms':>7} {'fps by cpu':>10}")
    pictures = {}
    for backend in ("numba", "moderngl") if gl_works() else ("numba",):
        start = time.perf_counter()
        renderer = open_renderer(surface, size=(options.size, options.size), backend=backend)
        pictures[backend] = renderer.frame(vertices[0], turns[0], pivot, head.head_weights)
        opened = time.perf_counter() - start
        wall, cpu = time.perf_counter(), time.process_time()
        for frame, turn in zip(vertices, turns, strict=True):
            renderer.frame(frame, turn, pivot, head.head_weights)
        wall, cpu = (
            (time.perf_counter() - wall) / options.frames,
            (time.process_time() - cpu) / options.frames,
        )
        row = f"{opened:7.2f} {1e3 * wall:8.1f} {1 / wall:6.1f} {1e3 * cpu:7.1f} {cores / cpu:10.1f}"
        print(f"{backend:10} {row}")
        renderer.close()
        if options.out:
            save_png(options.out / f"render_{backend}.png", pictures[backend])
    if len(pictures) == 2:
        apart = np.abs(pictures["numba"].astype(int) - pictures["moderngl"])
        within = 100 * (apart.max(axis=2) <= 12).mean()
        print(f"apart: {apart.mean():.2f}/255 on average, {within:.2f} % of pixels within 12/255")


if __name__ == "__main__":
    main()
