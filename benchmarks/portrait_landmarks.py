"""How far found points lie from marked ones: on photographs, and on drawn people who were never learned.

python benchmarks/portrait_landmarks.py SCRATCH [--network FILE]

The held-out pictures are drawn into the folder SCRATCH once. The photographs are public-domain portraits inside scikit-image and
matplotlib, marked by hand (tests/generators/portrait/marks).
"""

import argparse
import json
import time
from pathlib import Path

import matplotlib.cbook
import numpy as np
import torch
from PIL import Image
from skimage import data

from affetto.generators.portrait.detect import FaceFinder
from affetto.generators.portrait.fit import fit_face
from affetto.generators.portrait.landmark_net import LandmarkNet
from affetto.generators.portrait.portrait import face_height
from affetto.generators.portrait.train_landmarks import held_out, measure
from affetto.head.landmarks68 import PARTS
from affetto.head.model import HeadModel

MARKS = Path(__file__).parent.parent / "tests" / "generators" / "portrait" / "marks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--network", default="embedded")
    options = parser.parse_args()
    torch.set_num_threads(1)
    photographs(options.network)
    drawn(options.network, options.scratch)


def photographs(network: str) -> None:
    """A table of errors on each photograph, in per cent of the distance between the eyes' outer corners."""
    finder, head = FaceFinder.from_pretrained(network, device="cpu"), HeadModel.load()
    print("| photograph | all | " + " | ".join(PARTS) + " | px | confidence | fit rms, 256 px face | CPU s |")
    print("|---" * (len(PARTS) + 6) + "|")
    for name, image in pictures().items():
        marks = np.array(json.loads((MARKS / f"{name}.json").read_text())["points"])
        begun = time.process_time()
        faces = finder(image)
        spent = time.process_time() - begun
        if not faces:
            print(f"| {name} | no face found |")
            continue
        face = faces[0]
        far = np.linalg.norm(face.points - marks, axis=1)
        unit = np.linalg.norm(marks[36] - marks[45]) / 100
        parts = " | ".join(f"{far[start:stop].mean() / unit:.1f}" for start, stop in PARTS.values())
        fit = fit_face(face, head, (image.shape[1], image.shape[0]))
        rms = fit.rms * 256 / face_height(face)
        print(
            f"| {name} | {far.mean() / unit:.1f} | {parts} | {far.mean():.1f} | {face.confidence:.2f} | {rms:.2f} | {spent:.2f} |"
        )


def pictures() -> dict[str, np.ndarray]:
    """The photographs, by the name of their marks."""
    hopper = Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")).convert("RGB")
    return {"astronaut": data.astronaut(), "grace_hopper": np.asarray(hopper)}


def drawn(network: str, scratch: Path) -> None:
    """Errors on held-out drawn people, and the time that one square takes."""
    scratch.mkdir(parents=True, exist_ok=True)
    net = LandmarkNet.from_pretrained(network)
    for name, value in measure(net, held_out(scratch), device=torch.device("cpu")).items():
        print(f"{name}: {value:.3f}")
    picture = torch.zeros(1, 3, net.config.side, net.config.side)
    times = []
    with torch.inference_mode():
        for _ in range(20):
            begun = time.process_time()
            net(picture)
            times.append(time.process_time() - begun)
    print(f"CPU ms for one square: {1000 * float(np.median(times)):.1f}")
    print(f"parameters: {sum(tensor.numel() for tensor in net.parameters())}")


if __name__ == "__main__":
    main()
