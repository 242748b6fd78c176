"""Labelled speech that no embedded model has been trained on."""

from pathlib import Path

from affetto.generators.face.corpus import Utterance, read_emodb
from affetto.runtime.errors import InvalidInputError


def emodb_test(data: Path) -> list[Utterance]:
    """EMO-DB's test speakers (12 and 16) with their hand-made phone labels."""
    return [utterance for utterance in read_emodb(_folder(data, "emodb")) if utterance.split == "test"]


def _folder(data: Path, name: str) -> Path:
    folder = data / "speech" / name
    if not (folder / "index.csv").is_file():
        raise InvalidInputError(
            f"{folder}: holds no index.csv: give --data the folder that contains speech/{name}"
        )
    return folder
