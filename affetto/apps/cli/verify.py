"""`affetto verify`: whether a file was made by affetto, and whether it was changed since."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, UsageError

if TYPE_CHECKING:
    from affetto.provenance.listings import Inventory
    from affetto.provenance.verifying import Verdict


_UNKNOWN = "nothing of affetto's found"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("verify")(verify)


def verify(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Any file that affetto writes: sound, video, pictures, curves, notes, subtitles, recipes ..."
        ),
    ],
    key: Annotated[
        int | None,
        typer.Option(min=0, help="Look for the marks of a key of your own instead of the public one."),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write the recipe of one file, found beside or within it."),
    ] = None,
    json: common.JsonOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Look for affetto's marks, signed manifests and recipes. That none is found does not prove that a file is genuine.

    "made by affetto" rests on a mark or a signature; a recipe alone only says so, and anyone could have written it.
    """
    from affetto.provenance.verifying import verify_file

    if recipe is not None:
        if len(files) != 1:
            raise UsageError("--recipe is for one file: name one")
        common.check_outputs([recipe], [".json", ".jsonl"], overwrite=overwrite)
    verdicts = [verify_file(path, key=key) for path in files]
    if recipe is not None:
        _write_recipe(verdicts[0], recipe)
    if json:
        common.print_json({"files": [verdict.document() for verdict in verdicts]})
        return
    for verdict in verdicts:
        common.print_data(f"{verdict.path}: {_sentence(verdict)}")


def _write_recipe(verdict: "Verdict", path: Path) -> None:
    """A recipe for `affetto render` (.json), or its job as a line for `affetto batch run` (.jsonl)."""
    from json import dumps

    from affetto.runtime.files import atomic_path

    recipe = verdict.recipe
    if recipe is None:
        raise InvalidInputError(f"{verdict.path}: no recipe lies beside it or within it: it cannot be told")
    if path.suffix.lower() == ".jsonl":
        if "job" not in recipe:
            raise InvalidInputError(f"{verdict.path}: was made by a scene: write its recipe as .json")
        recipe = {"output": verdict.path.name, **recipe["job"]}
    with atomic_path(path) as temporary:
        text = dumps(recipe, ensure_ascii=False, indent=None if path.suffix.lower() == ".jsonl" else 1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _sentence(verdict: "Verdict") -> str:
    found = [
        f"{name} mark (score {mark.score:g}" + (f", tag {mark.tag})" if mark.tag is not None else ")")
        for name, mark in (("sound", verdict.sound), ("picture", verdict.picture))
        if mark is not None and mark.marked
    ]
    manifest = verdict.manifest
    if manifest is None:
        found.append("manifests not looked at (pip install 'affetto[provenance]')")
    elif manifest.state == "invalid":
        found.append(f"CHANGED since it was signed ({'; '.join(manifest.problems)})")
    elif manifest.state != "none":
        found.append(
            f"{manifest.state} manifest of {manifest.software}, {manifest.generator}, {manifest.source_type}"
        )
    if verdict.recipe is not None:
        found.append("its recipe is known")
    if verdict.listing is not None:
        changed = "" if verdict.listing.same else "with other content: CHANGED since, or made again"
        found.append(f"listed in {verdict.listing.recipe} {changed}".rstrip())
    if verdict.inventory is not None:
        found.append(_stock(verdict.inventory))
    if verdict.unreadable:
        found.append(f"no mark could be looked for ({verdict.unreadable})")
    start = _UNKNOWN
    if verdict.made:
        start = "made by affetto"
    elif verdict.says_so:
        start = "says that affetto made it, which anyone can write"
    return f"{start}: {', '.join(found)}" if found else start


def _stock(inventory: "Inventory") -> str:
    """What became of the files of a recipe."""
    total = inventory.same + len(inventory.changed) + len(inventory.gone)
    told = f"{inventory.same} of {total} files are as it lists them"
    for what, names in (("changed", inventory.changed), ("not here", inventory.gone)):
        told += f"; {what}: {', '.join(names)}" if names else ""
    return told
