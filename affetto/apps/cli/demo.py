"""`affetto demo`: a whole scene at once, of things that come with affetto."""

import time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from affetto.apps.cli import common

WORDS = (
    "Hello, I am so happy to meet you! Maybe people and puppets can be moved. Wow, what a beautiful surprise!"
)
TRACK = "0:neutral; 0.7:happy@0.9; 2.5:happy@0.6; 4.6:happy@0.9; 5.0:surprised"
FILES = {
    "video.mp4": "a photograph and a 3D head say the same: neutral, happy, surprised; with music",
    "sheet.png": "a contact sheet: pictures, emotion, sound, words",
    "mix.wav": "voice and music, at -16 LUFS",
    "voice.wav": "the voice with its emotion",
    "music.wav": "the music that follows it",
    "score.mid": "the same as notes",
    "face.csv": "curves for Unreal (Live Link Face)",
    "face.glb": "animated head for Blender, Maya, Unity, three.js",
    "subtitles.srt": "the words with emotion cues",
    "subtitles.vtt": "the same for the web",
    "timeline.otio": "the edit for Resolve, Premiere, Nuke",
    "timeline.edl": "the same as a CMX 3600 list",
    "emotion.csv": "the emotion frame by frame",
    "emotion.emotion.json": "the emotion as keyframes",
    "emotion.mid": "the emotion as MIDI controllers",
    "emotion.usda": "the emotion as USD attributes",
    "sync.json": "how well all of it fits in time, measured",
    "recipe.json": "makes the same bytes again: affetto render recipe.json -o again",
}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("demo")(demo)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path(
        "affetto-demo"
    ),
    size: Annotated[int, typer.Option(help="Side of each picture in pixels, 64 to 2160.")] = 384,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = "auto",
    dtype: common.DtypeOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Render a scene: a recorded voice, a photograph, a 3D head and music, all moved by one emotion track."""
    started = time.monotonic()
    common.check_range("--size", float(size), 64.0, 2160.0)
    folder = common.check_folder(output)
    for name in FILES:
        common.check_creatable(folder / name, overwrite=overwrite)

    from affetto.scene.director import Director
    from affetto.scene.model import Scene

    with resources.as_file(resources.files("affetto.media") / "data" / "hello.flac") as speech:
        director = Director(
            Scene.model_validate({**scene_document(size), "seed": seed}),
            base=speech.parent,
            device=device,
            dtype=dtype,
        )
        with common.progress(quiet=quiet) as callback:
            made = director.render(folder, overwrite=overwrite, callback=callback)
    document = made.document()
    seconds = time.monotonic() - started
    if json:
        files = [{"path": str(folder / name), "what": what} for name, what in FILES.items()]
        common.print_json(
            {
                "words": WORDS,
                "emotion": TRACK,
                "seconds": round(seconds, 1),
                "files": files,
                "sync": document["sync"],
            }
        )
        return
    for name, what in FILES.items():
        common.print_data(f"{folder / name}  {what}")
    for lag in document["sync"]["lags"]:
        common.note(f"{lag['what']}: {lag['milliseconds']:+.0f} ms", quiet=quiet)
    common.note(f"made in {seconds:.0f} s; open {(folder / 'video.mp4').absolute()}")


def scene_document(size: int) -> dict[str, Any]:
    """The demo's scene; its photograph is one that matplotlib brings along, of Grace Hopper, in the public domain."""
    return {
        "title": "Hello",
        "size": size,
        "speech": {"audio": "hello.flac", "text": WORDS, "emotion": TRACK},
        "speaker": {
            "portrait": {"image": str(photograph())},
            "consent": {
                "kind": "public-domain",
                "by": "United States Navy",
                "note": "photograph of Grace Hopper; the voice was synthesised by Flite",
            },
        },
        "music": {"key": "F", "ensemble": True},
        "outputs": [
            "voice", "curves", "mesh", "video", "score", "music", "mix", "subtitles", "timeline", "track", "sheet",
        ],
    }  # fmt: skip


def photograph() -> Path:
    """The portrait of Grace Hopper (United States Navy, public domain) in matplotlib's sample data."""
    return Path(str(resources.files("matplotlib") / "mpl-data" / "sample_data" / "grace_hopper.jpg"))
