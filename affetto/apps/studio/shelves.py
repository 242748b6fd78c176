"""The tabs beside stage and generators: batches, the library, and the health of this machine."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from affetto.apps.studio.project import loudness_peaks
from affetto.apps.studio.session import Studio
from affetto.apps.studio.stage import RESULT_SOUNDS, RESULT_VIDEOS, url
from affetto.apps.studio.widgets import widget
from affetto.provenance.manifests import SIDECAR_SUFFIX, sidecar_path

Told = Callable[..., Callable[..., Any]]

EXAMPLE_MANIFEST = """\
{"generator": "voice", "audio": "/data/hello.wav", "emotion": "angry@0.8", "output": "angry.wav"}
{"generator": "face", "audio": "/data/hello.wav", "emotion": "happy", "output": "happy.mp4"}
{"generator": "music", "emotion": "0:calm; 8:happy", "seconds": 24, "output": "piece.wav"}"""
_SHOWN = 60  # outputs in the library


def job_functions(studio: Studio) -> list[Callable[[str], bool]]:
    """What a list of jobs may ask for."""
    desk = studio.desk

    def cancel_job(output: str) -> bool:
        """Stop a job."""
        desk.cancel(str(output))
        return True

    def retry_job(output: str) -> bool:
        """Try a failed or cancelled job again."""
        desk.retry(str(output))
        return True

    def job_first(output: str) -> bool:
        """Move a waiting job to the front."""
        desk.first(str(output))
        return True

    return [cancel_job, retry_job, job_first]


def batch_tab(studio: Studio, told: Told, opened: gr.Tab) -> None:
    """A manifest, what it would do, and its jobs."""
    empty = {"example": EXAMPLE_MANIFEST}
    with gr.Row(elem_classes="generator"):
        with gr.Column(scale=7, min_width=320):
            plan = widget("Plan", elem_id="batch-plan")
            jobs = widget("Jobs", functions=job_functions(studio), elem_id="batch-jobs")
        with gr.Column(scale=3, min_width=300):
            go = gr.Button("Run these jobs", variant="primary", interactive=False)
            manifest = gr.File(
                label="Manifest: JSONL, CSV or YAML, as for affetto batch", file_types=[".jsonl", ".csv", ".yaml", ".yml"],
                type="filepath", height=170,
            )  # fmt: skip
    timer = gr.Timer(1.0)

    def look(path: str | None) -> list[Any]:
        if path is None:
            return [empty, gr.update(interactive=False)]
        from affetto.apps.batch.manifest import read_manifest
        from affetto.apps.batch.plan import plan_batch

        planned = plan_batch(read_manifest(path))
        value = {
            "manifest": Path(path).name, "jobs": len(planned.jobs), "media": planned.media_s, "seconds": planned.seconds(),
            "bytes": planned.bytes, "errors": [{"line": error.line, "message": error.message} for error in planned.errors],
        }  # fmt: skip
        return [value, gr.update(interactive=bool(planned.jobs) and not planned.errors)]

    def run(path: str) -> dict[str, Any]:
        from affetto.apps.batch.manifest import read_manifest

        for spec in read_manifest(path).checked():
            row = spec.model_dump(mode="json", exclude_none=True)
            studio.desk.submit(row | {"output": f"batch/{Path(path).stem}/{spec.output}"}, priority=-1)
        return {"jobs": studio.desk.listing("batch/")}

    def tick(shown: Any) -> Any:
        now = {"jobs": studio.desk.listing("batch/")}
        return now if now != shown else gr.skip()

    manifest.change(told(look), [manifest], [plan, go], api_visibility="private", show_progress="hidden")
    opened.select(told(look), [manifest], [plan, go], api_visibility="private", show_progress="hidden")
    go.click(told(run), [manifest], [jobs], api_visibility="private")
    timer.tick(tick, [jobs], [jobs], show_progress="hidden", queue=False, api_visibility="private")


def library_tab(studio: Studio, told: Told, tab: gr.Tab) -> None:
    """Everything made, to be seen, compared and taken along; read when the tab is opened."""
    with gr.Row(elem_classes="bar"):
        about = gr.Markdown("All that was made, the newest first.", elem_classes="about")
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=100)
    shelf = widget("Library", elem_id="library")

    def look() -> list[Any]:
        items = library_items(studio)
        size = sum(path.stat().st_size for path in studio.home.rglob("*") if path.is_file())
        return [
            {"items": items},
            f"All that was made, the newest first: {size / 1e6:.0f} MB in `{studio.home}`.",
        ]

    gr.on(
        [tab.select, refresh.click],
        told(look),
        None,
        [shelf, about],
        show_progress="hidden",
        api_visibility="private",
    )


def library_items(studio: Studio) -> list[dict[str, Any]]:
    """The newest finished outputs: name, kind, when, what plays, and the files, as the library's widget shows them."""
    rows = sorted(studio.desk.store.rows(("done",)), key=lambda row: -(row.finished or 0.0))
    items = []
    for row in rows[:_SHOWN]:
        target = studio.home / row.output
        if row.job.spec.kind == "render" and target.parent.is_dir():  # manifests come along in its zip
            beside = [path for path in target.parent.iterdir() if path.suffix != SIDECAR_SUFFIX]
        else:
            beside = [target, sidecar_path(target)]
        files = [path for path in sorted(beside) if path.is_file() and not path.name.startswith(".")]
        if not files:
            continue  # its files were deleted
        plays = {
            "video": _plays(files, RESULT_VIDEOS, (".mp4",)),
            "audio": _plays(files, RESULT_SOUNDS, (".wav", ".flac")),
            "picture": _plays(files, (), (".png", ".jpg")),
        }
        items.append({
            "output": row.output, "name": row.name, "kind": row.job.spec.kind, "finished": row.finished or 0.0,
            "files": [{"name": path.name, "url": url(path), "size": path.stat().st_size} for path in files],
            **{what: url(path) for what, path in plays.items() if path is not None},
            **({} if plays["video"] or not plays["audio"] else {"peaks": _peaks(plays["audio"], plays["audio"].stat().st_mtime_ns)}),
        })  # fmt: skip
    return items


@functools.lru_cache(maxsize=4 * _SHOWN)
def _peaks(path: Path, _changed: int) -> list[float]:
    """The waveform of a sound, read again when the file has changed."""
    return loudness_peaks(path, 72)[0]


def _plays(files: list[Path], names: tuple[str, ...], endings: tuple[str, ...]) -> Path | None:
    """The file to play: the first of these names, else the first with one of these endings."""
    there = {path.name: path for path in files}
    named = next((there[name] for name in names if name in there), None)
    return named or next((path for path in files if path.suffix in endings), None)


def health_tab(told: Told, tab: gr.Tab) -> None:
    """What `affetto doctor` finds, examined when the tab is opened."""
    gr.Markdown(
        "What this machine can do, which models are here, and under which licences. Nothing here leaves the machine.",
        elem_classes="about",
    )
    checks = widget("Health", elem_id="health")
    tab.select(told(examined), None, [checks], show_progress="hidden", api_visibility="private")


def welcome_functions(studio: Studio) -> list[Callable[..., Any]]:
    """What the report of the first start may ask for."""

    def machine(_: Any = None) -> dict[str, Any]:
        """What this machine can do, in two lines."""
        checks = examined()["checks"]
        broken = [check["name"] for check in checks if check["status"] not in ("ok", "absent")]
        found = {check["name"]: check for check in checks}
        here = sum(check["section"] == "weights" and check["status"] == "ok" for check in checks)
        card = found["cuda"]["detail"] if found["cuda"]["status"] == "ok" else ""
        where = (
            card or f"no graphics card, so it works on {found['processor cores']['detail']} processor cores"
        )
        title = "This machine is ready" if not broken else f"Look at {', '.join(broken[:3])}"
        return {"ready": not broken, "title": title, "text": f"{here} models are here; {where}."}

    def welcomed(_: Any = None) -> bool:
        """The report was read."""
        studio.welcomed()
        return True

    return [machine, welcomed]


@functools.cache
def examined() -> dict[str, Any]:
    """What `affetto doctor` finds, in a process of its own: its libraries stay out of this one."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from affetto.apps.cli import main; sys.exit(main(['doctor', '--json']))"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    try:
        return {"checks": json.loads(done.stdout)["checks"]}
    except (ValueError, KeyError) as error:
        raise gr.Error(
            "`affetto doctor` did not answer: run it in a terminal", print_exception=False
        ) from error
