"""What programs and agents may ask of the studio beside its tabs' jobs: projects, renders, and how jobs stand."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from affetto.apps.studio.session import Studio
from affetto.runtime.errors import AffettoError


def services(studio: Studio) -> list[Callable[..., Any]]:
    """The functions, each an endpoint and a tool under its own name."""

    def job(output: str) -> dict[str, Any]:
        """How a job stands: its state (queued, running, done, failed, dead or cancelled), stage, fraction done, error, and the path of what it made."""
        row = studio.desk.store.get(output)
        if row is None:
            raise gr.Error(f"{output[:80]!r}: there is no such job", print_exception=False)
        made = str(studio.home / row.output) if row.state == "done" else None
        return {
            "state": row.state,
            "stage": row.stage,
            "fraction": row.fraction,
            "error": row.error,
            "made": made,
        }

    def cancel(output: str) -> bool:
        """Stop a job that waits or runs; its state is `cancelled` within two seconds."""
        studio.desk.cancel(output)
        return True

    def projects() -> list[str]:
        """The names of all projects, the one changed last first."""
        return studio.names()

    def render(project: str, preview: bool = False) -> str:
        """Queue a render of a project as it stands, small and quick with `preview`; the output, to be asked for with `job`."""
        try:
            if project not in studio.names():
                raise gr.Error(f"{project[:80]!r}: there is no such project", print_exception=False)
            folder = studio.folder(project)
            return studio.render(folder, folder.load(), preview=preview)
        except AffettoError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return [job, cancel, projects, render]
