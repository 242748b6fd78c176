"""What recipes list: the files that were made, by name and SHA-256. By it a file that holds nothing itself is known again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affetto.weights.store import sha256_of

RECIPE_SUFFIX = ".recipe.json"  # beside a file
RECIPE_NAME = "recipe.json"  # in the folder of a scene
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Listing:
    """That a recipe beside a file names it; `same`: with the content that the file has now."""

    recipe: str
    same: bool


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What became of the files that a recipe lists: how many are as they were, which changed, which are gone."""

    same: int
    changed: tuple[str, ...]
    gone: tuple[str, ...]


def read_recipe(path: Path) -> dict[str, Any] | None:
    """The document of a recipe's file; None for a file that is none of affetto's, or that cannot be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and "affetto" in document else None


def find_listing(path: Path) -> Listing | None:
    """The recipe beside a file, or of its folder, that names it."""
    for recipe in (path.with_name(path.name + RECIPE_SUFFIX), path.with_name(RECIPE_NAME)):
        expected = _listed(read_recipe(recipe) or {}).get(path.name) if recipe != path else None
        if expected is not None:
            return Listing(recipe=recipe.name, same=sha256_of(path) == expected)
    return None


def take_stock(path: Path) -> Inventory | None:
    """What became of the files that this recipe lists; None for other files."""
    if not path.name.endswith(RECIPE_NAME) or (document := read_recipe(path)) is None:
        return None
    listed = {path.with_name(name): expected for name, expected in _listed(document).items()}
    here = {file: expected for file, expected in listed.items() if file.is_file()}
    changed = [file.name for file, expected in here.items() if sha256_of(file) != expected]
    gone = [file.name for file in listed if file not in here]
    return Inventory(same=len(here) - len(changed), changed=tuple(changed), gone=tuple(gone))


def _listed(document: Mapping[str, Any]) -> dict[str, str]:
    """Names and SHA-256 in a recipe: `outputs` of a scene, `file` of a job; places are no names."""
    outputs, file = document.get("outputs"), document.get("file")
    pairs = list(outputs.items()) if isinstance(outputs, dict) else []
    if isinstance(file, dict):
        pairs.append((file.get("name"), file.get("sha256")))
    return {
        name: digest
        for name, digest in pairs
        if isinstance(name, str) and isinstance(digest, str) and name and Path(name).name == name
    }
