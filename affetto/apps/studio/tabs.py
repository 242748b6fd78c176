"""The tabs of single generators: what each asks for is a table, what each does is the same."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from affetto.apps.batch.store import JobRow
from affetto.apps.studio.project import Project, label_points, loudness_peaks, write_points
from affetto.apps.studio.reading import face_points
from affetto.apps.studio.session import Studio
from affetto.apps.studio.shelves import job_functions
from affetto.apps.studio.stage import url
from affetto.apps.studio.widgets import widget
from affetto.provenance.consent import GROUNDS, ConsentBook, settle_consent
from affetto.runtime.errors import InvalidInputError, UsageError


@dataclass(frozen=True, kw_only=True)
class Field:
    """One wish of a job: its name in the job, and the component that asks for it."""

    name: str
    make: Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class GeneratorTab:
    """A generator on its own: files it needs (with whose identity they show), wishes, and kinds of output."""

    kind: str
    title: str
    about: str
    files: tuple[tuple[str, str], ...]  # field of the job, what it is: audio, portrait or midi
    fields: tuple[Field, ...]
    suffixes: tuple[str, ...]
    made: str  # what stands where the result will be
    emotion: str = "happy@0.8"


def _slider(label: str, low: float, high: float, value: float, step: float = 0.1) -> Callable[[], Any]:
    return functools.partial(gr.Slider, low, high, value=value, step=step, label=label)


def _moves() -> tuple[Field, ...]:
    return (
        Field(name="articulation", make=_slider("Articulation", 0, 3, 1.1)),
        Field(name="head_motion", make=_slider("Head motion", 0, 3, 1.0)),
        Field(name="blinks", make=_slider("Blinks", 0, 3, 1.0)),
        Field(name="gaze", make=_slider("Gaze", 0, 3, 1.0)),
    )


TABS: tuple[GeneratorTab, ...] = (
    GeneratorTab(
        kind="voice", title="Voice", about="The same words and the same voice, with another emotion.",
        files=(("audio", "audio"),), suffixes=(".wav", ".flac"), made="The voice you make is heard here.", emotion="angry@0.8",
        fields=(
            Field(name="strength", make=_slider("Strength", 0, 2, 1.0)),
            Field(name="level", make=_slider("Loudness of the emotion", 0, 2, 0.0)),
            Field(name="keep_timing", make=functools.partial(gr.Checkbox, label="Every word stays where it is", value=False)),
        ),
    ),
    GeneratorTab(
        kind="face", title="Face", about="Speech to a 3D face: video, curves for Unreal, or an animated mesh.",
        files=(("audio", "audio"),), suffixes=(".mp4", ".csv", ".glb", ".json"), made="The head you make speaks here.",
        fields=(
            Field(name="text", make=functools.partial(gr.Textbox, label="The words, for exact lips", value="")),
            *_moves(),
        ),
    ),
    GeneratorTab(
        kind="talk", title="Portrait", about="A photo that speaks.",
        files=(("portrait", "portrait"), ("audio", "audio")), suffixes=(".mp4", ".mov", ".csv"), made="The portrait you make speaks here.",
        fields=(
            Field(name="size", make=_slider("Pixels of the short side", 256, 1080, 512, 32)),
            Field(name="audio_guidance", make=_slider("How closely it follows the sound", 0, 5, 2.0)),
            Field(name="emotion_guidance", make=_slider("How strongly it feels", 0, 5, 1.5)),
            *_moves(),
        ),
    ),
    GeneratorTab(
        kind="music", title="Music", about="A piece that follows the emotion.",
        files=(("like", "midi"),), suffixes=(".wav", ".mid", ".png"), made="The piece you make is heard here.", emotion="0:calm; 8:happy; 16:sad",
        fields=(
            Field(name="seconds", make=_slider("Seconds", 4, 180, 24, 1)),
            Field(name="key", make=functools.partial(gr.Textbox, label="Key", value="", placeholder="chosen by the emotion")),
            Field(name="ensemble", make=functools.partial(gr.Radio, ["piano", "ensemble"], label="Instruments", value="piano")),
            Field(name="loop", make=functools.partial(gr.Checkbox, label="Ends so that it can be repeated", value=False)),
        ),
    ),
)  # fmt: skip


def generator_tab(
    tab: GeneratorTab, studio: Studio, told: Callable[..., Callable[..., Any]], opened: gr.Tab
) -> None:
    """The components of one generator and what they do; its jobs are looked at while the tab is open."""
    prefix = f"singles/{tab.kind}-"
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    with gr.Row(elem_classes="generator"):
        with gr.Column(scale=7, min_width=320):
            result = widget("Result", elem_id=f"{tab.kind}-result")
            points = widget("Points", elem_id=f"{tab.kind}-points") if tab.kind == "talk" else None
        with gr.Column(scale=3, min_width=300):
            go = gr.Button("Make it", variant="primary", elem_id=f"{tab.kind}-go")
            jobs = widget("Jobs", functions=job_functions(studio), elem_id=f"{tab.kind}-jobs")
            files = [_file(what) for _, what in tab.files]
            ground = gr.Radio(
                [(f"{ground}: {meaning}", ground) for ground, meaning in GROUNDS.items()],
                label="Whose voice or face is this? Asked once for each file.", visible=False,
            )  # fmt: skip
            emotion = gr.Textbox(
                label="Emotion", value=tab.emotion, info="happy@0.7, happy:0.6+sad:0.4, vad(0.5,0.2,0.1), 0:neutral; 2:happy",
                elem_id=f"{tab.kind}-emotion",
            )  # fmt: skip
            names = [name for name in label_points() if name != "neutral"]
            named = widget("Names", elem_id=f"{tab.kind}-names", value={"names": names})
            suffix = gr.Radio(list(tab.suffixes), value=tab.suffixes[0], label="As")
            with gr.Accordion("Fine tuning", open=False):
                wishes = [field.make() for field in tab.fields]
                seed = gr.Number(label="Seed", value=0, precision=0, minimum=0, maximum=2**31 - 1)
    waiting = gr.Textbox("", label="Output", visible=False)
    chosen = gr.State("")
    timer = gr.Timer(1.0, active=False)

    def submit(*values: Any) -> list[Any]:
        given, (feeling, stated, *rest) = values[: len(files)], values[len(files) :]
        marks = rest.pop() if points is not None else None
        spec: dict[str, Any] = {"generator": tab.kind, "emotion": feeling or None}
        for (name, what), path in zip(tab.files, given, strict=True):
            if path is None and what == "midi":
                continue
            if path is None:
                raise gr.Error(f"Give the {what} first.", print_exception=False)
            source = studio.folder("singles").path / f"{what}-{Path(path).name}"
            source.write_bytes(Path(path).read_bytes())
            if what != "midi" and _asks(source, stated):
                gr.Warning("Say first whose it is.")
                return [gr.skip(), gr.update(visible=True), gr.skip()]
            spec[name] = str(source)
        if (points_given := _points_by_hand(marks)) is not None:
            spec["landmarks"] = str(write_points(Path(spec["portrait"] + ".points.json"), points_given))
        *wished, number, ending = rest
        named_wishes = {field.name: value for field, value in zip(tab.fields, wished, strict=True)}
        spec |= {name: value for name, value in named_wishes.items() if value not in (None, "")}
        if tab.kind == "talk":
            spec["size"] = int(spec["size"])
        taken = {row.output for row in studio.desk.store.rows()}
        index = next(n for n in range(1, 10**6) if f"{prefix}{n}{ending}" not in taken)
        told_as = {
            "id": f"{tab.title} {index}: {feeling or 'neutral'}"[:200],
            "output": f"{prefix}{index}{ending}",
        }
        job = studio.desk.submit(spec | told_as | {"seed": int(number or 0)})
        return [job.spec.output, gr.update(visible=False), gr.Timer(active=True)]

    asked = {name: inspect.Parameter.empty if what != "midi" else None for name, what in tab.files}
    asked |= {"emotion": tab.emotion, "consent": None}
    asked |= {field.name: wish.value for field, wish in zip(tab.fields, wishes, strict=True)}
    asked |= {"seed": 0, "suffix": tab.suffixes[0], **({"points": None} if points is not None else {})}
    _as_function(submit, f"make_{tab.kind}", asked)

    def look(shown: Any, picked: str) -> list[Any]:
        """The tab's jobs, the output that was picked (else the newest), and whether there is something to wait for."""
        now = {"jobs": studio.desk.listing(prefix, 8), "shows": True}
        newest = studio.desk.newest_done(prefix)
        row = studio.desk.store.get(picked) if picked else newest
        value = {"made": tab.made, "hint": tab.about, "item": None if row is None else made_item(studio, row)}
        busy = any(job["state"] in ("queued", "running", "failed") for job in now["jobs"])
        before = {name: part for name, part in (shown or {}).items() if name != "wish"}
        return [now if now != before else gr.skip(), value, gr.Timer(active=busy)]

    def pick(shown: Any) -> list[Any]:
        _, output, _ = (shown or {}).get("wish") or ("", "", 0)
        return [output, *look({}, output)]

    go.click(
        told(submit), [*files, emotion, ground, *wishes, seed, suffix, *([points] if points is not None else [])],
        [waiting, ground, timer], api_name=f"make_{tab.kind}", show_progress="hidden",
        api_description=f"{tab.about} Queues the job; the first value returned is its output, to be asked for with `job`.",
    )  # fmt: skip
    go.click(lambda: "", None, [chosen], **quiet)  # what is made now is shown when it is done
    named.input(lambda value: f"{value['picked']}@0.8", [named], [emotion], queue=False, **quiet)
    if points is not None:
        found = told(lambda path: points_value(Path(path), None) if path else {}, alone=False)
        files[0].change(found, [files[0]], [points], **quiet)
    jobs.input(pick, [jobs], [chosen, jobs, result, timer], queue=False, **quiet)
    gr.on([opened.select, timer.tick], look, [jobs, chosen], [jobs, result, timer], queue=False, **quiet)


def _as_function(function: Callable[..., Any], name: str, parameters: Mapping[str, Any]) -> None:
    """Give a function that takes what a tab's components hold the name, parameters and defaults that programs and agents call it by."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    listed = [inspect.Parameter(each, kind, default=default) for each, default in parameters.items()]
    setattr(function, "__signature__", inspect.Signature(listed))  # noqa: B010  functions have no such attribute of their own
    function.__name__ = function.__qualname__ = name


def made_item(studio: Studio, row: JobRow) -> dict[str, Any] | None:
    """A finished output as the result's widget shows it; None when its file is gone."""
    path = studio.home / row.output
    if row.state != "done" or not path.is_file():
        return None
    item: dict[str, Any] = {
        "name": row.job.spec.emotion or row.name, "file": path.name, "url": url(path), "size": path.stat().st_size,
        "took": "" if row.seconds is None else f"made in {row.seconds:.0f} s",
    }  # fmt: skip
    kind = {".mp4": "video", ".wav": "audio", ".flac": "audio", ".png": "picture"}.get(path.suffix)
    if kind is not None:
        item[kind] = item["url"]
    if kind == "audio":
        item["peaks"], item["seconds"] = loudness_peaks(path, 240)
    return item


def _points_by_hand(value: Any) -> list[tuple[float, float]] | None:
    """The points that a job shall take: those that were dragged, or those shown where a picture has several faces; else None.

    Raises `UsageError` for anything but 68 pairs of numbers.
    """
    if not isinstance(value, dict) or not value.get("points"):
        return None
    if value["points"] == value.get("found") and len(value.get("faces") or ()) < 2:
        return None  # as found: it is found again
    try:
        return Project.model_validate({"points": value["points"]}).points
    except ValidationError as error:
        raise UsageError("points: give 68 pairs of numbers, x and y in pixels") from error


def points_value(picture: Path, moved: Sequence[Sequence[float]] | None) -> dict[str, Any]:
    """What the points' widget shows of a picture: its faces as found, and the points of the first or those `moved` by hand."""
    found = face_points(picture)
    if not found["faces"]:
        raise InvalidInputError(f"{picture.name}: no face found: use a picture with one clear face")
    return {
        "image": url(picture), "size": found["size"], "faces": found["faces"], "found": found["faces"][0],
        "points": [list(point) for point in moved] if moved else found["faces"][0],
    }  # fmt: skip


def _file(what: str) -> Any:
    if what == "audio":
        return gr.Audio(
            label="Speech",
            sources=["upload", "microphone"],
            type="filepath",
            editable=False,
            buttons=["download"],
            elem_classes="speech",
        )
    if what == "portrait":
        return gr.Image(
            label="Portrait", type="filepath", sources=["upload", "webcam"], height=190, buttons=[]
        )
    return gr.File(
        label="Start from a MIDI file (optional)",
        file_types=[".mid", ".midi"],
        type="filepath",
        height=170,
    )


def _asks(source: Path, stated: str | None) -> bool:
    """Whether consent still has to be asked; remembers what was stated."""
    book = ConsentBook()
    if book.of(source) is not None:
        return False
    if not stated:
        return True
    settle_consent(source, stated, what="voice or face", book=book)
    return False
