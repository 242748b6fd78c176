"""The recipe that travels within a file: what makes it again, as JSON in the container's comment.

A file that lost what lay beside it can still be made again. It names files without folders and says nothing of the machine,
so that the same seed gives the same bytes everywhere and nobody's home is told. It is a note, not a proof: it is not signed.
"""

import contextlib
import contextvars
import json
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from affetto.media.notes import NOTED, read_note, write_note

_recipe: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar(
    "affetto_recipe", default=None
)


@contextlib.contextmanager
def recorded(recipe: Mapping[str, Any]) -> Iterator[None]:
    """All that is saved within the block carries this recipe; the innermost block counts."""
    token = _recipe.set(recipe)
    try:
        yield
    finally:
        _recipe.reset(token)


def note_recipe(path: Path, generator: str, own: Mapping[str, Any]) -> None:
    """Put the recipe in force into a finished file, with what its generator says; other formats are left alone."""
    if path.suffix.lower() not in NOTED:
        return
    recipe = {"affetto": version("affetto"), "generator": generator, **own, **(_recipe.get() or {})}
    write_note(path, json.dumps(without_places(recipe), sort_keys=True, separators=(",", ":")))


def embedded_recipe(path: Path) -> dict[str, Any] | None:
    """The recipe within a file, or None."""
    told = read_note(path)
    try:
        recipe = json.loads(told) if told is not None else None
    except (ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) and "affetto" in recipe else None


def without_places(value: Any) -> Any:
    """The same data, of every path only the file's name."""
    if isinstance(value, Mapping):
        return {str(key): without_places(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(each) for each in value]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, str) and re.match(r"(/|~/|\.\./|[A-Za-z]:[\\/]|\\\\)[^\n;]*$", value):
        return re.split(r"[\\/]", value)[-1]
    return value
