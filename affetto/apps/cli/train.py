"""`affetto train`: run the recipe that made one of the embedded weights."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, UsageError

RECIPES: Mapping[str, tuple[str, str]] = {
    # name: (module, function); each takes (data, output) and those of seconds, seed, resume, device, progress it can use
    "head": ("affetto.head.train", "train_head"),
    "face-content": ("affetto.speech.train_content", "train_content"),
    "face-motion": ("affetto.generators.face.train_motion", "train_motion"),
    "portrait-motion": ("affetto.generators.portrait.train_motion", "train_motion"),
    "portrait-motion-vae": ("affetto.generators.portrait.train_motion", "train_motion_vae"),
    "face-critic": ("affetto.evaluation.face_critic", "train_face_critic"),
    "face-emote": ("affetto.generators.face.full.train_emote", "train_face_emote"),
    "voice-critic": ("affetto.evaluation.voice_critic", "train_voice_critic"),
    "voice-embedding": ("affetto.conditioning.train_voice_embedding", "train_voice_embedding"),
    "voice-emoreg": ("affetto.generators.voice.full.train_emoreg", "train_voice_emoreg"),
    "voice-bank": ("affetto.generators.voice.train_bank", "train_voice_bank"),
    "voice-residual": ("affetto.generators.voice.train_residual", "train_voice_residual"),
    "speech-emotion": ("affetto.conditioning.train", "train_speech_emotion"),
    "music-composer": ("affetto.generators.music.train_composer", "train_composer"),
    "music-muser": ("affetto.generators.music.full.train_muser", "train_music_muser"),
    "music-copycheck": ("affetto.generators.music.copycheck", "train_copycheck"),
    "music-tokenizer": ("affetto.tokenizers.train_disentangled", "train_music_tokenizer"),
    "motion-tokenizer": ("affetto.tokenizers.train_motion", "train_motion_tokenizer"),
    "portrait-dice": ("affetto.generators.portrait.full.train_talking", "train_portrait_dice"),
    "portrait-synchro": ("affetto.generators.portrait.full.train_talking", "train_portrait_synchro"),
    "portrait-landmarks": ("affetto.generators.portrait.train_landmarks", "train_portrait_landmarks"),
    "beat-tracker": ("affetto.generators.music.train_beats", "train_beat_tracker"),
}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("train")(train)


def train(
    generator: Annotated[
        str, typer.Argument(metavar="|".join(RECIPES), help="What to train.", show_default=False)
    ],
    data: Annotated[Path, typer.Option(help="Where the training data lie.", show_default=False)],
    output: common.OutputOption = None,
    seconds: Annotated[float | None, typer.Option(help="How long to train.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run stopped.")] = False,
    seed: common.SeedOption = 0,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda:N", help="Where to train.")] = None,
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
    if seconds is not None:
        common.check_range("--seconds", seconds, 1.0, 1e7)
    common.check_outputs([output], [".safetensors"], overwrite=overwrite or resume)
    kind, _, folder = str(data).partition(":")  # a voice bank is told the kind of its corpus: ravdess:FOLDER
    if not data.exists() and not (kind and folder and Path(folder).exists()):
        raise InvalidInputError(f"{data}: no such folder: name where the training data lie")
    module, function = RECIPES[generator]
    recipe = getattr(importlib.import_module(module), function)
    given = {"seconds": seconds, "resume": resume or None, "device": device}
    options = recipe_options(
        generator, recipe, {name: value for name, value in given.items() if value is not None}
    )
    with common.progress(quiet=quiet) as callback:
        shown = {"progress": callback} if "progress" in inspect.signature(recipe).parameters else {}
        report = recipe(data, output, seed=seed, **options, **shown)
    if json:
        common.print_json({"generator": generator, "output": str(output), "seed": seed, "report": report})
    else:
        common.print_data(str(output))


def recipe_options(generator: str, recipe: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options, when the recipe takes all of them and lacks none that it needs."""
    parameters = inspect.signature(recipe).parameters
    for name in given:
        if name not in parameters:
            raise UsageError(f"--{name} means nothing for {generator}: leave it away")
    if (
        "seconds" in parameters
        and parameters["seconds"].default is inspect.Parameter.empty
        and "seconds" not in given
    ):
        raise UsageError(f"{generator} trains for as long as you say: give --seconds")
    needed = [name for name, each in parameters.items() if each.default is inspect.Parameter.empty]
    return {**({"resume": False} if "resume" in needed else {}), **given}
