"""The head, a rendered portrait with known truth, and the two marked photographs."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from affetto.generators.portrait.fit import FaceFit, PointModel, fit_face
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.head.model import HeadModel

MARKS = Path(__file__).parent / "marks"


def landmarks(points: np.ndarray, pose: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> FaceLandmarks:
    unit = float(np.linalg.norm(points[36] - points[45]))
    variance = np.full((68, 2), (0.004 * unit) ** 2 + 0.04, np.float32)
    return FaceLandmarks(points=points.astype(np.float32), variance=variance, pose=pose, confidence=1.0)


@dataclass(frozen=True, kw_only=True)
class Portrait:
    image: np.ndarray
    points: np.ndarray
    fit: FaceFit


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return HeadModel.load()


@pytest.fixture(scope="session")
def point_model(head: HeadModel) -> PointModel:
    return PointModel(head)


def marked(name: str, image: np.ndarray, head: HeadModel, model: PointModel) -> Portrait:
    points = np.array(json.loads((MARKS / f"{name}.json").read_text())["points"], np.float32)
    size = (image.shape[1], image.shape[0])
    return Portrait(image=image, points=points, fit=fit_face(landmarks(points), head, size, model=model))


@pytest.fixture(scope="session")
def astronaut(head: HeadModel, point_model: PointModel) -> Portrait:
    from skimage import data

    return marked("astronaut", data.astronaut(), head, point_model)


@pytest.fixture(scope="session")
def hopper(head: HeadModel, point_model: PointModel) -> Portrait:
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        image = np.asarray(Image.open(file).convert("RGB"))
    return marked("grace_hopper", image, head, point_model)
