"""The studio's own components: plain scripts in `assets/`, mounted in `gr.HTML`, with JSON as their value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (
    "common.js", "curves.js", "lanes.js", "timeline.js", "stage.js", "jobs.js", "points.js", "result.js", "names.js", "plan.js", "library.js", "health.js", "welcome.js",
)  # fmt: skip


def head() -> str:
    """What the page's head loads: our scripts and frame, from this server; the 3D viewer comes when there is something to view."""
    served = f"/gradio_api/file={ASSETS.as_posix()}"
    scripts = "".join(f'<script src="{served}/{name}"></script>' for name in SCRIPTS)
    return f'<link rel="stylesheet" href="{served}/frame.css">{scripts}'


def widget(
    name: str,
    *,
    functions: list[Callable[..., Any]] | None = None,
    elem_id: str | None = None,
    value: dict[str, Any] | None = None,
) -> gr.HTML:
    """A component whose script is `window.Affetto<name>.mount`, whose value is a JSON object, and that may call `functions`.

    A function and not a subclass, because Gradio writes a stub file beside the source of every subclass.
    """
    script = (
        "const api = {element, props, watch, trigger: (name) => trigger(name),"
        " server: typeof server === 'undefined' ? {} : server};"
        f" const begin = () => window.Affetto{name} ? window.Affetto{name}.mount(api) : setTimeout(begin, 50);"
        " begin(); /* events: 'change' 'input' */"
    )
    return gr.HTML(
        value=value or {},
        html_template=f'<div class="affetto affetto-{name.lower()}"></div>',
        js_on_load=script,
        server_functions=functions,
        elem_id=elem_id,
    )
