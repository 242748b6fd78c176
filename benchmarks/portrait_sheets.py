"""Contact sheets of the portrait's renderer: sounds, emotions, blink, gaze and turns of photographs in the public domain.

    python benchmarks/portrait_sheets.py FOLDER [astronaut glasses drawing turned]

Faces are found as for any user, no marks by hand. The drawing is the astronaut posterised, with ink where tones change; turned,
she is filmed at 20 degrees first, and that frame is given back as a photograph.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from affetto.acting.expression import PROFILES
from affetto.acting.visemes import pose
from affetto.evaluation.portrait_film import public_portraits
from affetto.generators.portrait.detect import FaceFinder
from affetto.generators.portrait.portrait import Portrait, read_portrait
from affetto.generators.portrait.renderer import PortraitRenderer
from affetto.head.model import HeadModel

COLUMNS, SIZE, WIDTH = 6, 512, 1350
SOUNDS = {
    "aa": {"jawOpen": 0.55, "mouthLowerDown": 0.25, "mouthUpperUp": 0.12},
    "oo": {"jawOpen": 0.18, "mouthPucker": 0.75, "mouthFunnel": 0.35},
    "ee": {
        "mouthStretch": 0.4,
        "mouthSmile": 0.3,
        "jawOpen": 0.12,
        "mouthUpperUp": 0.25,
        "mouthLowerDown": 0.4,
    },
    "f": {"mouthRollLower": 0.6, "mouthUpperUp": 0.3, "jawOpen": 0.06},
    "m": {"mouthPress": 0.35, "mouthRollLower": 0.25, "mouthRollUpper": 0.25},
}
EMOTIONS = ("happy", "sad", "angry", "fear", "disgusted", "surprised", "contempt")
GAZES = {"left": (20, 0), "right": (-20, 0), "up": (0, -17), "down": (0, 17)}
TURNS = {
    "turned +15": (15, 0, 0), "turned -15": (-15, 0, 0), "nod +10": (0, 10, 0), "nod -10": (0, -10, 0), "tilt +10": (0, 0, 10)
}  # fmt: skip
FEW = ("neutral", "aa", "oo", "happy", "angry", "blink")


@dataclass(frozen=True)
class Pose:
    """One cell of a sheet; head and gaze (yaw, pitch) in degrees."""

    name: str
    weights: np.ndarray
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gaze: tuple[float, float] = (0.0, 0.0)


def poses() -> Iterator[Pose]:
    """What every face is asked for."""
    yield Pose("neutral", pose({}))
    for name, shapes in SOUNDS.items():
        yield Pose(name, pose(shapes))
    for name in EMOTIONS:
        yield Pose(name, pose(PROFILES[name]))
    yield Pose("blink", pose({"eyeBlink": 1.0}))
    yield Pose("half a blink", pose({"eyeBlink": 0.5}))
    for name, gaze in GAZES.items():
        lids = {"up": {"eyeLookUp": 0.6}, "down": {"eyeLookDown": 0.6, "eyeBlink": 0.15}}.get(name, {})
        yield Pose(f"gaze {name}", pose(lids), gaze=gaze)
    for name, head in TURNS.items():
        yield Pose(name, pose({"jawOpen": 0.2, "mouthLowerDown": 0.1}), head=head)


def cells(portrait: Portrait, head: HeadModel, names: tuple[str, ...] | None = None) -> list[np.ndarray]:
    """The head of a portrait in each pose, labelled."""
    renderer = PortraitRenderer(portrait.image, portrait.fit, head, size=SIZE)
    points = portrait.fit.points * (SIZE / min(portrait.image.shape[:2]))
    centre, reach = points.mean(axis=0), 1.05 * np.ptp(points, axis=0).max()
    left, top = (int(edge) for edge in np.clip(centre - reach * np.array([0.8, 1.05]), 0, None))
    right, bottom = (int(edge) for edge in np.minimum(centre + reach * np.array([0.8, 0.75]), renderer.size))
    result = []
    for asked in poses():
        if names is None or asked.name in names:
            frame = renderer.frame(
                asked.weights, np.radians(asked.head), np.radians([asked.gaze, asked.gaze])
            )
            picture = Image.fromarray(frame[top:bottom, left:right])
            picture = picture.resize(
                (WIDTH // COLUMNS, round(picture.height * WIDTH / COLUMNS / picture.width))
            )
            ImageDraw.Draw(picture).text(
                (4, 2), asked.name, fill=(255, 255, 0), stroke_width=1, stroke_fill=(0, 0, 0)
            )
            result.append(np.asarray(picture))
    renderer.close()
    return result


def drawing(photo: np.ndarray) -> np.ndarray:
    """The photograph in a few tones, with ink lines."""
    flat = np.asarray(Image.fromarray(photo).filter(ImageFilter.MedianFilter(5)), int) // 40 * 40 + 20
    edges = np.asarray(Image.fromarray(photo).convert("L").filter(ImageFilter.FIND_EDGES), float)
    ink = np.clip(1 - np.clip(edges - 40, 0, 120) / 150, 0, 1)[..., None]
    return (flat * ink).clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("sheets", nargs="*", default=["astronaut", "glasses", "drawing", "turned"])
    asked = parser.parse_args()
    finder, head, photos = FaceFinder.from_pretrained(device="cpu"), HeadModel.load(), public_portraits()

    def found(photo: np.ndarray, name: str) -> Portrait:
        return read_portrait(photo, finder, head, face=1, name=name)

    for name in asked.sheets:
        if name == "turned":
            straight = found(photos["astronaut"], name)
            renderer = PortraitRenderer(straight.image, straight.fit, head)
            turned = [renderer.frame(pose({}), np.radians([yaw, 0.0, 0.0])) for yaw in (20.0, -20.0)]
            renderer.close()
            pictures = [cell for photo in turned for cell in cells(found(photo, name), head, FEW)]
        elif name == "drawing":
            pictures = cells(
                found(drawing(photos["astronaut"]), name),
                head,
                (*FEW, "ee", "surprised", "sad", "gaze left", "turned +15", "tilt +10"),
            )
        else:
            pictures = cells(found(photos["astronaut" if name == "astronaut" else "hopper"], name), head)
        pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % COLUMNS)
        rows = [np.hstack(pictures[start : start + COLUMNS]) for start in range(0, len(pictures), COLUMNS)]
        path = asked.folder / f"portrait_{name}.jpg"
        Image.fromarray(np.vstack(rows)).save(path, quality=82, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
