"""`affetto train`: run the recipe that made one of the embedded weights."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, UsageError

RECIPES: Mapping[str, tuple[str, str]] = {
    # name: (module, function); each takes (data, output, *, seconds, seed, resume, device, callback)
    "head": ("affetto.head.train", "train_head"),
    "face-content": ("affetto.generators.face.train_content", "train_content"),
    "face-motion": ("affetto.generators.face.train_motion", "train_motion"),
    "speech-emotion": ("affetto.conditioning.train", "train_speech_emotion"),
}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("train")(train)


def train(
    generator: Annotated[
        str, typer.Argument(metavar="|".join(RECIPES), help="What to train.", show_default=False)
    ],
    data: Annotated[Path, typer.Option(help="The folder with the training data (see docs/training.md).")],
    output: common.OutputOption = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Stop after so much time; default is the recipe's own.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on from a checkpoint this recipe wrote.")] = None,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Train one of the embedded models and write its weights as a .safetensors file."""
    if generator not in RECIPES:
        raise UsageError(f"nothing is called {generator!r}: train one of {', '.join(RECIPES)}")
    if output is None:
        raise UsageError("name the file to write with -o NAME.safetensors")
    common.check_outputs([output], [".safetensors"], overwrite=overwrite)
    if not data.is_dir():
        raise InvalidInputError(f"{data}: is not a folder: name the folder with the training data")
    if resume is not None and not resume.is_file():
        raise InvalidInputError(f"{resume}: no such checkpoint: leave --resume away to start anew")
    module, function = RECIPES[generator]
    recipe = getattr(importlib.import_module(module), function)
    with common.progress(quiet=quiet) as callback:
        report = recipe(
            data, output, seconds=seconds, seed=seed, resume=resume, device=device, callback=callback
        )
    if json:
        common.print_json({"generator": generator, "output": str(output), "seed": seed, "report": report})
    else:
        common.print_data(str(output))
