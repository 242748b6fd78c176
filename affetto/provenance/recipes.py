"""The recipe that travels with a file: what makes it again, as JSON in the container's comment and in its signed manifest.

A file that lost what lay beside it can still be made again. It names files without folders and says nothing of the machine,
so that the same seed gives the same bytes everywhere and nobody's home is told. In a comment it is a note that anyone can
write, in a manifest it is signed.
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


def recipe_of(generator: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe in force, with what the generator says itself."""
    recipe = {"affetto": version("affetto"), "generator": generator, **own, **(_recipe.get() or {})}
    return without_places(recipe)


def note_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    """Put a recipe into a finished file; formats without a place for a comment are left alone."""
    if path.suffix.lower() in NOTED:
        write_note(path, json.dumps(recipe, sort_keys=True, separators=(",", ":")))


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
