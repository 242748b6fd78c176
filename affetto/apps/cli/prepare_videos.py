"""`affetto prepare-videos`: a folder of videos of speaking people becomes training data for the talking head's full tier."""

from pathlib import Path
from typing import Annotated

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("prepare-videos")(prepare_videos)


def prepare_videos(
    folder: Annotated[
        Path, typer.Argument(help="Where the videos lie; labels.csv beside them is read.", show_default=False)
    ],
    output: common.OutputOption = None,
    size: Annotated[
        int, typer.Option(help="Side of the cropped pictures, 64 to 1024, a multiple of 64.")
    ] = 512,
    fps: Annotated[float, typer.Option(help="Frames per second; the denoiser's own is 12.5.")] = 12.5,
    longest: Annotated[
        float, typer.Option(help="Seconds after which a video is cut into another clip.")
    ] = 20.0,
    track_every: Annotated[int, typer.Option(help="Frames between two searches for the face.")] = 3,
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Crop, track, listen to and label every video in FOLDER; write clips and index.csv into the folder -o names.

    labels.csv (video, emotion, level 1..3, transcript, scene, person) is optional: without it the emotion is what the voice
    sounds like. Use only videos of people who agreed to it.
    """
    if output is None:
        raise UsageError("name the folder to write with -o DIR")
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: no such folder: name where the videos lie")
    common.check_folder(output)
    from affetto.generators.portrait.full.prepare_videos import PrepareOptions
    from affetto.generators.portrait.full.prepare_videos import prepare_videos as prepare

    options = PrepareOptions(size=size, fps=fps, longest_s=longest, track_every=track_every)
    with common.progress(quiet=quiet) as callback:
        made = prepare(folder, output, options=options, progress=callback)
    for reason in made.refused.values():
        common.note(f"left out: {reason}", quiet=quiet)
    if json:
        common.print_json({"output": str(output), "clips": list(made.clips), "refused": dict(made.refused)})
    else:
        common.print_data(f"{output}  ({len(made.clips)} clips, {len(made.refused)} videos left out)")
