"""The page: the stage with its timeline, a tab for each generator, batches, the library, and the machine's health."""

import contextlib
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api

from affetto.apps.studio.project import PRESETS, Project, ProjectFolder, mixture_at
from affetto.apps.studio.services import services
from affetto.apps.studio.session import Studio
from affetto.apps.studio.shelves import batch_tab, health_tab, job_functions, library_tab, welcome_functions
from affetto.apps.studio.tabs import TABS, generator_tab, points_value
from affetto.apps.studio.widgets import widget
from affetto.provenance.consent import GROUNDS
from affetto.runtime.errors import AffettoError

Handler = Callable[..., Any]


_ONE_AT_A_TIME = threading.RLock()  # handlers read the project, change it and write it back


def told(handler: Handler, *, alone: bool = True) -> Handler:
    """The handler with our errors shown to the user as one line; everything else stays in the log.

    `alone` keeps other handlers waiting meanwhile, as whoever changes a project must.
    """

    @functools.wraps(handler)
    def safely(*arguments: Any) -> Any:
        try:
            with _ONE_AT_A_TIME if alone else contextlib.nullcontext():
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
            self.welcome = widget("Welcome", functions=welcome_functions(self.studio), elem_id="welcome")
            with gr.Tabs():
                with gr.Tab("Stage", id="stage"):
                    self._stage()
                for tab in TABS:
                    with gr.Tab(tab.title, id=tab.kind) as opened:
                        generator_tab(tab, self.studio, told, opened)
                with gr.Tab("Batch", id="batch") as batch:
                    batch_tab(self.studio, told, batch)
                with gr.Tab("Library", id="library") as library:
                    library_tab(self.studio, told, library)
                with gr.Tab("Models & Health", id="health") as health:
                    health_tab(told, health)
            self._wire(page)
            for service in services(self.studio):
                api(service, api_name=service.__name__)
        return page

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
                self.jobs = widget("Jobs", functions=job_functions(self.studio), elem_id="jobs-widget")
                self.showing = gr.State({})
                self._speaker()
                self._wishes()
        self.tick = gr.Timer(1.0)

    def _speaker(self) -> None:
        with gr.Accordion("Who speaks", open=True):
            self.speech = gr.Audio(
                label="Speech", sources=["upload", "microphone"], type="filepath", editable=False, buttons=["download"],
                elem_id="speech", elem_classes="speech",
            )  # fmt: skip
            self.example = gr.Button("Load the example", size="sm")
            self.portrait = gr.Image(
                label="Portrait", type="filepath", sources=["upload", "webcam"], height=190, elem_id="portrait", buttons=[]
            )  # fmt: skip
            gr.HTML('<p class="note">Without a portrait, the 3D head speaks.</p>', padding=False)
            self.find = gr.Button(
                "Check the points of the face", size="sm", visible=False, elem_id="find-points"
            )
            self.points = widget("Points", elem_id="stage-points")
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

    # ---- behaviour

    def _wire(self, page: gr.Blocks) -> None:
        fields = [
            self.projects, self.title, self.speech, self.portrait, self.words, self.language, self.convert, self.music,
            self.key, self.size, self.seed, self.locked, self.timeline, self.stage, self.consent_box, self.find, self.points,
            self.showing,
        ]  # fmt: skip
        whole = [self.name, *fields]
        quick: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        slow: dict[str, Any] = {"api_visibility": "private"}
        page.load(told(self.on_load), [self.name], [*whole, self.welcome], **quick)
        self.projects.input(told(self.on_open), [self.projects], whole, **quick)
        self.new.click(told(self.on_new), None, whole, **quick)
        simple = {
            "title": self.title, "words": self.words, "language": self.language, "convert_voice": self.convert,
            "music": self.music, "music_key": self.key, "size": self.size, "seed": self.seed, "seed_locked": self.locked,
        }  # fmt: skip
        for field, component in simple.items():
            triggers = [component.release if field == "size" else component.input]
            if isinstance(component, gr.Textbox):
                triggers.append(component.blur)  # what was pasted or dictated
            gr.on(
                triggers, told(functools.partial(self.on_field, field)), [self.name, component], None, **quick
            )
        heard = [self.timeline, self.stage, self.consent_box]
        self.speech.input(told(self.on_speech), [self.name, self.speech], heard, **slow)
        self.speech.stop_recording(told(self.on_speech), [self.name, self.speech], heard, **slow)
        seen = [self.consent_box, self.find, self.points]
        self.portrait.input(told(self.on_portrait), [self.name, self.portrait], seen, **slow)
        self.find.click(told(self.on_find, alone=False), [self.name], [self.points], **slow)
        self.points.change(told(self.on_points), [self.name, self.points], None, **quick)
        self.example.click(told(self.on_example), [self.name], whole, **slow)
        self.timeline.change(told(self.on_timeline), [self.name, self.timeline], None, **quick)
        self.suggest.click(told(self.on_suggest), [self.name], [self.timeline], **slow)
        self.preset.input(told(self.on_preset), [self.name, self.preset], [self.timeline], **quick)
        self.consent.input(
            told(self.on_consent), [self.name, self.consent], [self.consent_box, self.consent], **quick
        )
        for button, preview in ((self.preview, True), (self.render, False)):
            button.click(
                told(functools.partial(self.on_render, preview)), [self.name], [self.jobs, self.seed, self.consent_box], **slow
            )  # fmt: skip
        self.jobs.input(
            told(self.on_wish), [self.name, self.jobs, self.showing], [self.showing, self.stage], **quick
        )
        self.restore.upload(told(self.on_restore), [self.name, self.restore], whole, **slow)
        self.export.click(told(self.on_export), [self.name], [self.archive], **slow)
        self.tick.tick(
            self.on_tick, [self.name, self.jobs, self.showing], [self.jobs, self.stage, self.showing], **quick
        )

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
            gr.update(visible=portrait is not None), {}, {},
        ]  # fmt: skip

    def on_load(self, name: str) -> list[Any]:
        """The project this browser worked on, else the newest, else a new one."""
        names = self.studio.names()
        wanted = name if name in names else names[0] if names else "project-1"
        return [wanted, *self._fields(*self._opened(wanted)), {"first": self.studio.is_new}]

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

    def on_portrait(self, name: str, path: str | None) -> list[Any]:
        """Another picture, or none."""
        folder, project = self._opened(name)
        project = self.studio.set_portrait(folder, project, None if path is None else Path(path))
        missing = bool(self.studio.consent_missing(folder, project))
        return [gr.update(visible=missing), gr.update(visible=path is not None), {}]

    def on_find(self, name: str) -> dict[str, Any]:
        """The points of the face in the project's picture, those that were set by hand where there are any."""
        folder, project = self._opened(name)
        if project.portrait is None:
            raise gr.Error("There is no portrait yet.", print_exception=False)
        return points_value(folder.path / project.portrait, project.points)

    def on_points(self, name: str, value: dict[str, Any]) -> None:
        """The points as they were dragged; as found, nothing is kept."""
        folder, project = self._opened(name)
        moved = value.get("points") if value.get("points") != value.get("found") else None
        folder.save(Project.model_validate(project.model_dump() | {"points": moved}))

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

    def on_wish(self, name: str, jobs: dict[str, Any], showing: dict[str, str]) -> list[Any]:
        """Another render on this page's stage, or a second one beside it."""
        what, output, _ = (jobs or {}).get("wish") or ("", "", 0)
        home = self.studio.home
        row = self.studio.desk.store.get(str(output))
        if row is None or row.state != "done" or not row.output.startswith(f"projects/{name}/"):
            return [gr.skip(), gr.skip()]
        if what == "show":
            return [{"a": output}, self.studio.shown_render((home / output).parent)]
        newest = self.studio.desk.newest_done(f"projects/{name}/renders/", kind="render")
        first = showing.get("a") or (newest.output if newest is not None else output)
        if first == output:
            gr.Info("This render is on the stage: choose Compare on another one.")
            return [gr.skip(), gr.skip()]
        return [{"a": first, "b": output}, self._on_stage({"a": first, "b": output})]

    def _on_stage(self, showing: dict[str, str]) -> dict[str, Any]:
        """The stage with the renders a page chose."""
        home = self.studio.home
        value = self.studio.shown_render((home / showing["a"]).parent)
        return value | (
            {"other": self.studio.shown_render((home / showing["b"]).parent)} if "b" in showing else {}
        )

    def on_tick(self, name: str, jobs: Any, showing: dict[str, str]) -> list[Any]:
        """What changed since the last second; what did not is left alone, so that nothing flickers."""
        folder, project = self._opened(name)
        now, before = self._jobs_of(folder.name), {k: v for k, v in (jobs or {}).items() if k != "wish"}
        on_stage, chosen = gr.skip(), gr.skip()
        if now["newest"] != before.get("newest"):
            on_stage, chosen = self.studio.stage(folder, project), {}
        elif now["read"] != before.get("read"):
            on_stage = self._on_stage(showing) if showing.get("a") else self.studio.stage(folder, project)
        return [now if now != before else gr.skip(), on_stage, chosen]

    def _jobs_of(self, name: str) -> dict[str, Any]:
        """What the list of jobs shows, with what tells that the stage has to change: the newest render, and words read."""
        folder, project = self._opened(name)
        done = self.studio.desk.newest_done(f"projects/{name}/renders/", kind="render")
        newest = None if done is None else [done.output, done.finished]
        jobs = self.studio.desk.listing(f"projects/{name}/renders/")
        words = self.studio.words(folder, project)
        return {"jobs": jobs, "newest": newest, "read": words is not None, "shows": True, "compares": True}
