"""The tabs of single generators: what each asks for is a table, what each does is the same."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from affetto.apps.studio.project import label_points, write_points
from affetto.apps.studio.reading import face_points
from affetto.apps.studio.session import Studio
from affetto.apps.studio.stage import url
from affetto.apps.studio.widgets import widget
from affetto.provenance.consent import GROUNDS, ConsentBook, settle_consent
from affetto.runtime.errors import InvalidInputError


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
            Field(name="articulation", make=_slider("Articulation", 0, 3, 1.1)),
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


def generator_tab(tab: GeneratorTab, studio: Studio, told: Callable[..., Callable[..., Any]]) -> None:
    """The components of one generator and what they do."""
    gr.Markdown(tab.about, elem_classes="about")
    with gr.Row(elem_classes="generator"):
        with gr.Column(min_width=300):
            files = [_file(what) for _, what in tab.files]
            points = widget("Points", elem_id=f"{tab.kind}-points") if tab.kind == "talk" else None
            emotion = gr.Textbox(
                label="Emotion", value=tab.emotion, info="happy@0.7, happy:0.6+sad:0.4, vad(0.5,0.2,0.1), 0:neutral; 2:happy",
                elem_id=f"{tab.kind}-emotion",
            )  # fmt: skip
            named = gr.Dataset(
                components=[emotion], samples=[[name] for name in label_points() if name != "neutral"],
                label="Named emotions", samples_per_page=20, elem_classes="named",
            )  # fmt: skip
            ground = gr.Radio(
                [(f"{ground}: {meaning}", ground) for ground, meaning in GROUNDS.items()],
                label="Whose voice or face is this? Asked once for each file.", visible=False,
            )  # fmt: skip
        with gr.Column(min_width=300):
            wishes = [field.make() for field in tab.fields]
            seed = gr.Number(label="Seed", value=0, precision=0, minimum=0, maximum=2**31 - 1)
            suffix = gr.Radio(list(tab.suffixes), value=tab.suffixes[0], label="As")
            go = gr.Button("Make it", variant="primary", elem_id=f"{tab.kind}-go")
        with gr.Column(min_width=300, elem_classes="result"):
            state = gr.Markdown(tab.made, elem_id=f"{tab.kind}-state", elem_classes="result-state")
            video = gr.Video(label="Result", visible=False, interactive=False, buttons=["download"])
            audio = gr.Audio(
                label="Result", visible=False, interactive=False, editable=False, buttons=["download"]
            )
            picture = gr.Image(label="Result", visible=False, interactive=False, buttons=["download"])
            download = gr.File(label="File", visible=False, interactive=False)
    waiting = gr.Textbox("", label="Output", visible=False)
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
                return [gr.skip(), gr.update(visible=True), gr.skip(), "Say first whose it is."]
            spec[name] = str(source)
        if marks and (marks.get("points") != marks.get("found") or len(marks.get("faces", ())) > 1):
            spec["landmarks"] = str(write_points(Path(spec["portrait"] + ".points.json"), marks["points"]))
        *chosen, number, ending = rest
        spec |= {
            field.name: value
            for field, value in zip(tab.fields, chosen, strict=True)
            if value not in (None, "")
        }
        if tab.kind == "talk":
            spec["size"] = int(spec["size"])
        taken = {row.output for row in studio.desk.store.rows()}
        index = next(n for n in range(1, 10**6) if f"singles/{tab.kind}-{n}{ending}" not in taken)
        job = studio.desk.submit(
            spec | {"seed": int(number or 0), "output": f"singles/{tab.kind}-{index}{ending}"}
        )
        return [job.spec.output, gr.update(visible=False), gr.Timer(active=True), "Waiting for its turn."]

    names = [name for name, _ in tab.files] + ["emotion", "consent", *(field.name for field in tab.fields)]
    names += ["seed", "suffix", *(["points"] if points is not None else [])]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    submit.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # pyright: ignore[reportFunctionMemberAccess]
    submit.__name__ = submit.__qualname__ = f"make_{tab.kind}"  # agents know it by this

    def look(output: str) -> list[Any]:
        row = studio.desk.store.get(output) if output else None
        hidden = [gr.update(visible=False)] * 4
        if row is None or row.state in ("queued", "running", "failed"):
            text = (
                "Waiting for its turn."
                if row is None or row.state == "queued"
                else f"{row.stage} {row.fraction or 0:.0%}"
            )
            return [text, *[gr.skip()] * 4, gr.skip()]
        if row.state != "done":
            return [f"**{row.state}** {row.error or ''}", *hidden, gr.Timer(active=False)]
        path = studio.home / output
        shown = [gr.update(visible=False) for _ in range(3)]
        kinds = {".mp4": 0, ".wav": 1, ".flac": 1, ".png": 2}
        if (kind := kinds.get(path.suffix)) is not None:
            shown[kind] = gr.update(value=str(path), visible=True)
        seconds = "" if row.seconds is None else f" in {row.seconds:.1f} s"
        return [f"Done{seconds}.", *shown, gr.update(value=str(path), visible=True), gr.Timer(active=False)]

    named.click(
        lambda row: f"{row[0]}@0.8", [named], [emotion], show_progress="hidden", api_visibility="private"
    )
    go.click(
        told(submit),
        [*files, emotion, ground, *wishes, seed, suffix, *([points] if points is not None else [])],
        [waiting, ground, timer, state],
        api_name=f"make_{tab.kind}",
        api_description=f"{tab.about} Queues the job; the first value returned is its output, to be asked for with `job`.",
    )
    if points is not None:
        picture = files[0]
        picture.change(
            told(lambda path: points_value(Path(path), None) if path else {}, alone=False), [picture], [points],
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip
    timer.tick(
        look,
        [waiting],
        [state, video, audio, picture, download, timer],
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )


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
        )
    if what == "portrait":
        return gr.Image(
            label="Portrait", type="filepath", sources=["upload", "webcam"], height=220, buttons=[]
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
