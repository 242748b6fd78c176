"""Labelled speech that no embedded model has been trained on."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

from affetto.runtime.errors import InvalidInputError
from affetto.speech.corpus import Utterance, read_emodb, read_sentences
from affetto.speech.phones import TimedPhone


def emodb_test(data: Path) -> list[Utterance]:
    """EMO-DB's test speakers (12 and 16) with their hand-made phone labels.

    The speakers are new to every model, their ten sentences are not.
    """
    return [utterance for utterance in read_emodb(_folder(data, "emodb")) if utterance.split == "test"]


def dutch_test(data: Path) -> list[Utterance]:
    """A Dutch speaker reading new texts, with labels of our own that two aligners agree on.

    The labels come from networks other than the embedded one, and carry their errors: of 200 bilabials the two agree
    on 189, which are the ones that count. No embedded model has seen any Dutch.
    """
    label_file = resources.files("affetto.evaluation") / "data" / "dutch_flemishguy.json"
    labels = json.loads(label_file.read_text("utf-8"))["clips"]
    clips = read_sentences(_folder(data, "dutch_flemishguy"), language="nl", held_out=0, split="test")
    return [replace(clip, phones=tuple(_timed(labels[clip.name]))) for clip in clips if clip.name in labels]


def _timed(rows: list[list]) -> Iterator[TimedPhone]:
    for phone, start, end, stress, release, confirmed in rows:
        yield TimedPhone(phone, start, end, stress, release, closes=confirmed)


def _folder(data: Path, name: str) -> Path:
    folder = data / "speech" / name
    if not (folder / "index.csv").is_file():
        raise InvalidInputError(
            f"{folder}: holds no index.csv: give --data the folder that contains speech/{name}"
        )
    return folder
