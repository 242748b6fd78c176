"""The page: the stage with its timeline, a tab for each generator, batches, the library, and the machine's health."""

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api

from affetto.apps.studio.project import PRESETS, Project, ProjectFolder, mixture_at
from affetto.apps.studio.session import Studio
from affetto.apps.studio.shelves import batch_tab, health_tab, job_functions, library_tab
from affetto.apps.studio.tabs import TABS, generator_tab
from affetto.apps.studio.widgets import widget
from affetto.provenance.consent import GROUNDS
from affetto.runtime.errors import AffettoError

Handler = Callable[..., Any]


_ONE_AT_A_TIME = threading.RLock()  # handlers read the project, change it and write it back


def told(handler: Handler) -> Handler:
    """The handler with our errors shown to the user as one line; everything else stays in the log."""

    @functools.wraps(handler)
    def safely(*arguments: Any) -> Any:
        try:
            with _ONE_AT_A_TIME:
                return handler(*arguments)
        except AffettoError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from error

    return safely


class Page:
    """Builds the page over a studio; handlers read the project from disk, change it and write it back."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def build(self) -> gr.Blocks:
        """The whole page."""
        with gr.Blocks(
            title="affetto studio", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86_400)
        ) as page:
            self.name = gr.BrowserState("", storage_key="affetto-project", secret="affetto")
            self._masthead()
            with gr.Tabs():
                with gr.Tab("Stage", id="stage"):
                    self._stage()
                for tab in TABS:
                    with gr.Tab(tab.title, id=tab.kind):
                        generator_tab(tab, self.studio, told)
                with gr.Tab("Batch", id="batch"):
                    batch_tab(self.studio, told)
                with gr.Tab("Library", id="library") as library:
                    library_tab(self.studio, told, library)
                with gr.Tab("Models & Health", id="health") as health:
                    health_tab(told, health)
            self._wire(page)
            api(self.job, api_name="job")
        return page

    def job(self, output: str) -> dict[str, Any]:
        """How a job stands: its state (queued, running, done, failed, dead or cancelled), stage, fraction done, error, and the path of what it made."""
        row = self.studio.desk.store.get(output)
        if row is None:
            raise gr.Error(f"{output[:80]!r}: there is no such job", print_exception=False)
        made = str(self.studio.home / row.output) if row.state == "done" else None
        return {
            "state": row.state,
            "stage": row.stage,
            "fraction": row.fraction,
            "error": row.error,
            "made": made,
        }

    # ---- parts

    def _masthead(self) -> None:
        with gr.Row(elem_id="masthead", equal_height=True):
            gr.HTML(
                "<h1>affetto studio</h1><p>One emotion curve directs voice, face, portrait and music.</p>"
            )
            self.projects = gr.Dropdown(
                [],
                label="Project",
                show_label=False,
                container=False,
                scale=0,
                min_width=170,
                interactive=True,
            )
            self.title = gr.Textbox(
                label="Title", show_label=False, container=False, max_length=120, scale=0, min_width=220,
                placeholder="Title", elem_id="title",
            )  # fmt: skip
            self.new = gr.Button("New project", size="sm", scale=0, min_width=112)

    def _stage(self) -> None:
        with gr.Row(elem_id="stage"):
            with gr.Column(scale=7, min_width=320):
                self.stage = widget("Stage", elem_id="stage-widget")
                self.timeline = widget("Timeline", functions=[mixture_at], elem_id="timeline-widget")
                self._words()
            with gr.Column(scale=3, min_width=300):
                with gr.Row(elem_id="render-bar"):
                    self.preview = gr.Button("Quick preview", min_width=110)
                    self.render = gr.Button("Render", variant="primary", min_width=110)
                self.jobs = self._job_list("jobs-widget")
                self._speaker()
                self._wishes()
        self.tick = gr.Timer(1.0)

    def _speaker(self) -> None:
        with gr.Accordion("Who speaks", open=True):
            self.speech = gr.Audio(
                label="Speech", sources=["upload", "microphone"], type="filepath", editable=False, buttons=["download"],
                elem_id="speech",
            )  # fmt: skip
            self.example = gr.Button("Load the example", size="sm")
            self.portrait = gr.Image(
                label="Portrait", type="filepath", sources=["upload", "webcam"], height=190, elem_id="portrait", buttons=[]
            )  # fmt: skip
            gr.HTML('<p class="note">Without a portrait, the 3D head speaks.</p>')
            with gr.Group(visible=False) as self.consent_box:
                self.consent = gr.Radio(
                    [(f"{ground}: {meaning}", ground) for ground, meaning in GROUNDS.items()],
                    label="Whose voice and face is this? Asked once for each.",
                    elem_id="consent",
                )

    def _words(self) -> None:
        with gr.Row(elem_id="words"):
            self.words = gr.Textbox(
                label="What is said", lines=4, max_length=20_000, scale=5, min_width=300,
                info="With the recording's words, lips are exact and subtitles are written.",
                placeholder="The words of the recording, or what a voice shall say",
            )  # fmt: skip
            with gr.Column(scale=3, min_width=240):
                with gr.Row():
                    self.preset = gr.Dropdown(
                        list(PRESETS), label="Preset of emotion", value=None, interactive=True, min_width=130
                    )
                    self.language = gr.Textbox(label="Language", value="en-us", max_length=20, min_width=90)
                self.suggest = gr.Button("Suggest the emotion from the words", size="sm")

    def _wishes(self) -> None:
        with gr.Accordion("What is made", open=False):
            self.convert = gr.Checkbox(label="Give the voice the emotion too", value=True)
            self.music = gr.Checkbox(label="Music beneath", value=True)
            self.key = gr.Textbox(
                label="Key of the music", placeholder="chosen by the emotion", max_length=20
            )
            self.size = gr.Slider(128, 1080, value=512, step=32, label="Picture, pixels a side")
            self.seed = gr.Number(label="Seed", value=0, precision=0, minimum=0, maximum=2**31 - 1)
            self.locked = gr.Checkbox(label="Keep the seed between renders", value=True)
        with gr.Accordion("Take it with you, or take it up again", open=False):
            self.export = gr.Button("Export the newest render as a zip", size="sm")
            self.archive = gr.File(label="Export", interactive=False, visible=False)
            self.restore = gr.File(
                label="Drop an output here to restore its settings",
                type="filepath",
                height=160,
                elem_id="restore",
            )

    def _job_list(self, elem_id: str) -> gr.HTML:
        def show_job(output: str) -> bool:
            """Put a finished render on the stage."""
            self.shown = str(output)
            return True

        self.shown: str | None = None
        return widget("Jobs", functions=[*job_functions(self.studio), show_job], elem_id=elem_id)

    # ---- behaviour

    def _wire(self, page: gr.Blocks) -> None:
        fields = [
            self.projects, self.title, self.speech, self.portrait, self.words, self.language, self.convert, self.music,
            self.key, self.size, self.seed, self.locked, self.timeline, self.stage, self.consent_box,
        ]  # fmt: skip
        page.load(told(self.on_load), [self.name], [self.name, *fields], show_progress="hidden", queue=False)
        self.projects.input(told(self.on_open), [self.projects], [self.name, *fields], show_progress="hidden")
        self.new.click(told(self.on_new), None, [self.name, *fields], show_progress="hidden")
        simple = {
            "title": self.title, "words": self.words, "language": self.language, "convert_voice": self.convert,
            "music": self.music, "music_key": self.key, "size": self.size, "seed": self.seed, "seed_locked": self.locked,
        }  # fmt: skip
        for name, component in simple.items():
            triggers = [component.release if name == "size" else component.input]
            if isinstance(component, gr.Textbox):
                triggers.append(component.blur)  # what was pasted or dictated
            handler = told(functools.partial(self.on_field, name))
            gr.on(triggers, handler, [self.name, component], None, show_progress="hidden", queue=False)
        self.speech.input(
            told(self.on_speech), [self.name, self.speech], [self.timeline, self.stage, self.consent_box]
        )
        self.speech.stop_recording(
            told(self.on_speech), [self.name, self.speech], [self.timeline, self.stage, self.consent_box]
        )
        self.portrait.input(told(self.on_portrait), [self.name, self.portrait], [self.consent_box])
        self.example.click(told(self.on_example), [self.name], [self.name, *fields])
        self.timeline.change(
            told(self.on_timeline), [self.name, self.timeline], None, show_progress="hidden", queue=False
        )
        self.suggest.click(told(self.on_suggest), [self.name], [self.timeline])
        self.preset.input(told(self.on_preset), [self.name, self.preset], [self.timeline])
        self.consent.input(told(self.on_consent), [self.name, self.consent], [self.consent_box, self.consent])
        self.preview.click(
            told(functools.partial(self.on_render, True)),
            [self.name],
            [self.jobs, self.seed, self.consent_box],
        )
        self.render.click(
            told(functools.partial(self.on_render, False)),
            [self.name],
            [self.jobs, self.seed, self.consent_box],
        )
        self.restore.upload(told(self.on_restore), [self.name, self.restore], [self.name, *fields])
        self.export.click(told(self.on_export), [self.name], [self.archive])
        self.tick.tick(
            self.on_tick, [self.name, self.jobs], [self.jobs, self.stage], show_progress="hidden", queue=False,
            api_visibility="private",
        )  # fmt: skip

    def _opened(self, name: str) -> tuple[ProjectFolder, Project]:
        folder = self.studio.folder(name or "project-1")
        return folder, folder.load()

    def _fields(self, folder: ProjectFolder, project: Project) -> list[Any]:
        """What every field shows for a project, in the order of `_wire`."""
        names = self.studio.names()
        there = [project.speech, project.portrait]
        speech, portrait = (
            str(folder.path / name) if name and (folder.path / name).is_file() else None for name in there
        )
        return [
            gr.update(choices=names if folder.name in names else [folder.name, *names], value=folder.name),
            project.title, speech, portrait, project.words, project.language, project.convert_voice, project.music,
            project.music_key, project.size, project.seed, project.seed_locked, self.studio.timeline(folder, project),
            self.studio.stage(folder, project), gr.update(visible=bool(self.studio.consent_missing(folder, project))),
        ]  # fmt: skip

    def on_load(self, name: str) -> list[Any]:
        """The project this browser worked on, else the newest, else a new one."""
        names = self.studio.names()
        wanted = name if name in names else names[0] if names else "project-1"
        return [wanted, *self._fields(*self._opened(wanted))]

    def on_open(self, name: str) -> list[Any]:
        """Another project."""
        return [name, *self._fields(*self._opened(name))]

    def on_new(self) -> list[Any]:
        """A new project."""
        name = self.studio.new_name()
        folder, project = self._opened(name)
        folder.save(project)
        return [name, *self._fields(folder, project)]

    def on_field(self, field: str, name: str, value: Any) -> None:
        """One plain field changed."""
        folder, project = self._opened(name)
        try:
            folder.save(Project.model_validate(project.model_dump() | {field: value}))
        except ValueError as error:
            raise gr.Error(
                f"{field.replace('_', ' ')}: {value!r} does not fit", print_exception=False
            ) from error

    def on_speech(self, name: str, path: str | None) -> list[Any]:
        """Another recording, or none."""
        folder, project = self._opened(name)
        if path is None:
            project = project.model_copy(update={"speech": None})
            folder.save(project)
        else:
            project = self.studio.set_speech(folder, project, Path(path))
        missing = bool(self.studio.consent_missing(folder, project))
        return [
            self.studio.timeline(folder, project),
            self.studio.stage(folder, project),
            gr.update(visible=missing),
        ]

    def on_portrait(self, name: str, path: str | None) -> Any:
        """Another picture, or none."""
        folder, project = self._opened(name)
        project = self.studio.set_portrait(folder, project, None if path is None else Path(path))
        return gr.update(visible=bool(self.studio.consent_missing(folder, project)))

    def on_example(self, name: str) -> list[Any]:
        """The ready example in this project."""
        folder, _ = self._opened(name)
        return [folder.name, *self._fields(folder, self.studio.set_example(folder))]

    def on_timeline(self, name: str, value: dict[str, Any]) -> None:
        """The emotion as drawn."""
        folder, project = self._opened(name)
        self.studio.set_timeline(folder, project, value)

    def on_suggest(self, name: str) -> dict[str, Any]:
        """The emotion that the words suggest."""
        folder, project = self._opened(name)
        return self.studio.timeline(folder, self.studio.suggest(folder, project))

    def on_preset(self, name: str, preset: str) -> dict[str, Any]:
        """A ready course of emotion."""
        folder, project = self._opened(name)
        return self.studio.timeline(folder, self.studio.set_preset(folder, project, preset))

    def on_consent(self, name: str, ground: str) -> list[Any]:
        """On what ground the voice and face may be used."""
        folder, project = self._opened(name)
        self.studio.state_consent(folder, project, ground)
        return [gr.update(visible=False), None]

    def on_render(self, preview: bool, name: str) -> list[Any]:
        """Queue a render; with an unlocked seed, of another performance each time."""
        folder, project = self._opened(name)
        if missing := self.studio.consent_missing(folder, project):
            gr.Warning(f"Say first whose {' and '.join(missing)} this is.")
            return [gr.skip(), gr.skip(), gr.update(visible=True)]
        if not project.seed_locked and not preview:
            project = project.model_copy(update={"seed": (project.seed + 1) % 2**31})
            folder.save(project)
        self.studio.render(folder, project, preview=preview)
        return [self._jobs_of(folder.name), project.seed, gr.update(visible=False)]

    def on_restore(self, name: str, path: str) -> list[Any]:
        """The settings that made a file."""
        folder, project = self._opened(name)
        restored = self.studio.restore(Path(path))
        for field in ("speech", "portrait"):  # media of another project are not taken over
            if (value := getattr(restored, field)) is not None and not (folder.path / value).is_file():
                restored = restored.model_copy(update={field: getattr(project, field)})
        folder.save(restored)
        return [folder.name, *self._fields(folder, restored)]

    def on_export(self, name: str) -> Any:
        """The newest render as one file."""
        done = self.studio.desk.newest_done(f"projects/{name}/renders/", kind="render")
        if done is None:
            raise gr.Error("There is no finished render yet.", print_exception=False)
        return gr.update(value=str(self.studio.export(done.output)), visible=True)

    def on_tick(self, name: str, jobs: Any) -> list[Any]:
        """What changed since the last second; what did not is left alone, so that nothing flickers."""
        folder, project = self._opened(name)
        now = self._jobs_of(folder.name)
        on_stage = gr.skip()
        if self.shown is not None and self.shown.startswith(f"projects/{folder.name}/"):
            on_stage = self.studio.shown_render((self.studio.home / self.shown).parent)
            self.shown = None
        elif now["newest"] != (jobs or {}).get("newest"):
            on_stage = self.studio.stage(folder, project)
        return [now if now != jobs else gr.skip(), on_stage]

    def _jobs_of(self, name: str) -> dict[str, Any]:
        done = self.studio.desk.newest_done(f"projects/{name}/renders/", kind="render")
        newest = None if done is None else [done.output, done.finished]
        return {"jobs": self.studio.desk.listing(f"projects/{name}/renders/"), "newest": newest}
