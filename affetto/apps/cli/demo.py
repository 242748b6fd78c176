"""`affetto demo`: everything once, on a recording that comes with affetto."""

import contextlib
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affetto.apps.cli import common
from affetto.runtime.progress import ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    from affetto.media.animation.curves import FaceCurves
    from affetto.media.audio import Audio

SPEECH = "hello.flac"
WORDS = (
    "Hello, I am so happy to meet you! Maybe people and puppets can be moved. Wow, what a beautiful surprise!"
)
TRACK = "0:neutral; 0.7:happy@0.9; 2.5:happy@0.6; 4.6:happy@0.9; 5.0:surprised"
FILES = {
    "face.mp4": "the face speaks: neutral, then happy, then surprised",
    "angry-and-sad.mp4": "the same words angry (left) and sad (right)",
    "face.csv": "curves for Unreal (Live Link Face)",
    "face.glb": "animated mesh for Blender, Maya, Unity, three.js",
    "emotion.png": "the emotion track, over time and on the circumplex",
}
_FPS = 30.0
_HALF = 384  # pixels of each half of the side-by-side video


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("demo")(demo)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path(
        "affetto-demo"
    ),
    size: Annotated[int, typer.Option(help="Side of the video in pixels, 64 to 2160.")] = 512,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = "auto",
    dtype: common.DtypeOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Make a talking face with a changing emotion: two videos, curves, a 3D file and a plot."""
    started = time.monotonic()
    common.check_range("--size", float(size), 64.0, 2160.0)
    folder = common.check_folder(output)
    for name in FILES:
        common.check_creatable(folder / name, overwrite=overwrite)

    from affetto.conditioning.figure import draw_track
    from affetto.conditioning.track import EmotionTrack
    from affetto.generators.face.pipeline import FaceAnimator
    from affetto.media.audio import load_audio

    with resources.as_file(resources.files("affetto.media") / "data" / SPEECH) as path:
        speech = load_audio(path)
    track = EmotionTrack.parse(TRACK)
    animator = FaceAnimator.from_pretrained("embedded", device=device, dtype=dtype)
    with common.progress(quiet=quiet) as callback:
        animation = animator(speech, track, fps=_FPS, seed=seed, callback_on_step_end=callback)
        variants = [animator(speech, emotion, fps=_FPS, seed=seed).curves for emotion in ("angry", "sad")]
        for name in ("face.csv", "face.glb", "face.mp4"):
            animation.save(folder / name, size=size, overwrite=overwrite, progress=callback)
        _write_side_by_side(folder / "angry-and-sad.mp4", variants, speech, callback)
    draw_track(track, folder / "emotion.png", seconds=speech.seconds, overwrite=overwrite)
    _report(folder, time.monotonic() - started, json=json)


def _write_side_by_side(
    path: Path, curves: "list[FaceCurves]", speech: "Audio", callback: ProgressCallback | None
) -> None:
    import numpy as np

    from affetto.head.model import HeadModel
    from affetto.head.render import open_renderer, render_curves
    from affetto.media.video import VideoWriter

    head = HeadModel.load()
    renderer = open_renderer(head.mesh.surface, size=(_HALF, _HALF))
    views = [render_curves(head, each, renderer) for each in curves]
    with (
        contextlib.closing(renderer),
        VideoWriter(path, (_HALF * len(curves), _HALF), _FPS, speech) as video,
    ):
        for index, frames in enumerate(zip(*views, strict=True)):
            video.write(np.concatenate(frames, axis=1))
            if callback is not None:
                callback(ProgressEvent(stage="side by side", done=index + 1, total=len(curves[0])))


def _report(folder: Path, seconds: float, *, json: bool) -> None:
    if json:
        files = [{"path": str(folder / name), "what": what} for name, what in FILES.items()]
        common.print_json({"words": WORDS, "emotion": TRACK, "seconds": round(seconds, 1), "files": files})
        return
    for name, what in FILES.items():
        common.print_data(f"{folder / name}  {what}")
    common.note(f"made in {seconds:.0f} s; open {(folder / 'face.mp4').absolute()}")
