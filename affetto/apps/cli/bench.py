"""`affetto bench`: the figures that the documentation states, measured again."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, UsageError

BENCHES: Mapping[str, str] = {
    "face": "affetto.evaluation.face_bench",
    "portrait": "affetto.evaluation.portrait_bench",
    "voice": "affetto.evaluation.voice_bench",
    "music": "affetto.evaluation.music_bench",
}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("bench")(bench)


def bench(
    name: Annotated[
        str | None, typer.Argument(metavar="|".join(BENCHES), help="Which bench; all when left out.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder of held-out speech, for the figures that need it.")
    ] = None,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = "auto",
    dtype: common.DtypeOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Measure speed and quality and print them as a table: what, figure, bar, and whether it holds."""
    if name is not None and name not in BENCHES:
        raise UsageError(f"no bench {name!r}: use {', '.join(BENCHES)}")
    if data is not None and not data.is_dir():
        raise InvalidInputError(f"{data}: is not a folder: name the folder with held-out speech")
    results: dict[str, Any] = {}
    for each in [name] if name else BENCHES:
        run = importlib.import_module(BENCHES[each]).run
        with common.progress(quiet=quiet) as callback:
            results[each] = run(data, seed=seed, device=device, dtype=dtype, callback=callback)
    if json:
        common.print_json(results)
    else:
        for each, rows in results.items():
            print_rows(each, rows)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table whose columns are the keys of the first row."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    headings = list(rows[0]) if rows else []
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row.get(heading, ""))) for heading in headings))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
