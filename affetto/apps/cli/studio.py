"""`affetto studio`: direct a performance in the browser, on this machine alone."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.apps.cli import common


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("studio")(studio)


def studio(
    home: Annotated[
        Path, typer.Option(metavar="DIR", help="Where projects, renders and jobs are kept.")
    ] = Path("~/affetto-studio"),
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The port; a free one when left out.")
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Open it to other machines, such as 0.0.0.0; needs --auth.")
    ] = "127.0.0.1",
    auth: Annotated[
        str | None, typer.Option(metavar="NAME:PASSWORD", envvar="AFFETTO_STUDIO_AUTH", help="Ask for these.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Renders at the same time.")] = 1,
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Offer the jobs to agents over MCP too; needs the extra mcp.")
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser", help="Open the page in this machine's browser.")
    ] = False,
    device: common.DeviceOption = "auto",
    dtype: common.DtypeOption = "auto",
    debug: common.DebugOption = False,
) -> None:
    """Open the studio, a page in the browser, until interrupted. It listens on this machine alone and calls nobody."""
    from affetto.apps.studio.server import open_studio

    if mcp:
        common.check_package("mcp", "MCP needs its package: run pip install 'affetto[mcp]'")
    opened = open_studio(
        home,
        address=listen,
        port=port,
        auth=auth,
        workers=workers,
        device=device,
        dtype=dtype,
        mcp=mcp,
        browser=browser,
    )
    common.print_data(opened.url)
    try:
        opened.wait()
    finally:
        opened.close()
