"""EMO-DB's label files: what is said when, as its labellers marked it."""

import re
from pathlib import Path

from affetto.runtime.errors import InvalidInputError

_MARK = re.compile(r"\[?(?P<mark>[!_]?)(?P<symbol>[^\s+\-,!_\[\]]*)(?P<rest>.*)", re.DOTALL)


def read_marks(path: Path) -> list[tuple[float, str]]:
    """The label fields of one file with the second at which each begins."""
    body = path.read_text("latin-1").split("#\n", 1)
    if len(body) != 2:
        raise InvalidInputError(f"{path}: no '#' line ends the header: is it an EMO-DB label file?")
    marks: list[tuple[float, str]] = []
    for line in body[1].splitlines():
        fields = line.split(None, 2)
        if fields:
            marks.append((float(fields[0]), fields[2] if len(fields) > 2 else ""))
    return marks


def split_label(label: str) -> tuple[str, str, str]:
    """Mark (`!` burst, `_` silent closure), SAMPA symbol and modifiers of one label field."""
    match = _MARK.match(label.strip())
    assert match is not None
    return match["mark"], match["symbol"], match["rest"]
