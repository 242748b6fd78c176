"""`affetto weights`: which weight files there are, what their licences allow, and whether they are whole."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import MissingResourceError

if TYPE_CHECKING:
    from affetto.weights.registry import WeightFile

_COLOURS = {"ok": "green", "missing": "dim", "unpinned": "yellow", "damaged": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    group = typer.Typer(no_args_is_help=True, help="List weight files and their licences, and check them.")
    group.command("list")(list_weights)
    group.command("verify")(verify)
    app.add_typer(group, name="weights")


def _described(entry: "WeightFile") -> dict[str, Any]:
    """Everything known about one weight file, as plain values."""
    import dataclasses

    from affetto.weights.store import expected_path, file_state

    return {**dataclasses.asdict(entry), "path": str(expected_path(entry)), "state": file_state(entry)}


def list_weights(
    json: common.JsonOption = False, quiet: common.QuietOption = False, debug: common.DebugOption = False
) -> None:
    """Show every known weight file: size, licence, commercial use, source, who uses it, and whether it is here.

    `ok` means that the file is here and its hash matches; `missing` files are not needed by the embedded tier.
    """
    from affetto.weights.registry import REGISTRY

    described = [_described(entry) for entry in REGISTRY.values()]
    if json:
        common.print_json(described)
        return
    _print_table(described)


def _print_table(described: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("weights, used by", "state", "size", "commercial", "licence, source"):
        table.add_column(
            heading,
            overflow="fold",
            justify="right" if heading == "size" else "left",
            no_wrap=heading == "state",
        )
    for entry in described:
        shipped = ", shipped" if entry["embedded"] else ""
        table.add_row(
            f"{escape(entry['id'])}\n[dim]{escape(entry['consumer'])}{shipped}[/]",
            f"[{_COLOURS[entry['state']]}]{entry['state']}[/]",
            f"{entry['size'] / 2**20:.1f} MiB" if entry["size"] else "-",
            "yes" if entry["commercial"] else "[red]no[/]",
            f"{escape(entry['licence'])}\n[dim]{escape(entry['source'])}[/]",
        )
    Console().print(table)


def verify(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which weights; all that are here without.")
    ] = None,
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Compare weight files with their registered hashes; exit code 4 when one is damaged or a wanted one is missing."""
    from affetto.weights.registry import REGISTRY, get

    chosen = [get(name) for name in ids] if ids else list(REGISTRY.values())
    described = [_described(entry) for entry in chosen]
    if not ids:
        described = [entry for entry in described if entry["embedded"] or entry["state"] != "missing"]
    if json:
        common.print_json(
            [{key: entry[key] for key in ("id", "state", "path", "sha256")} for entry in described]
        )
    else:
        for entry in described:
            common.print_data(f"{entry['state']:<9} {entry['id']}")
    wrong = [
        f"{entry['id']} ({entry['state']})" for entry in described if entry["state"] in ("missing", "damaged")
    ]
    if wrong:
        raise MissingResourceError(
            f"weights are not as registered: {', '.join(wrong)}: reinstall affetto, or get them from the listed source"
        )
