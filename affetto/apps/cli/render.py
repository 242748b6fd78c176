"""`affetto render`: a scene in, everything it asks for out, in sync."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import UsageError

if TYPE_CHECKING:
    from affetto.runtime.memory import Layout
    from affetto.scene.loading import LoadedScene
    from affetto.scene.performance import Judge, SceneRender


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("render")(render)


def render(
    scene: Annotated[
        Path,
        typer.Argument(
            help="A scene (.yaml, .json), or the recipe.json of an earlier render.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="The folder to write to.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done: steps, seconds, memory, licences.")
    ] = False,
    best_of: Annotated[
        int, typer.Option(help="Candidates of each voice, face and piece; a critic keeps the best.")
    ] = 1,
    reply: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What someone wrote: the scene's reply answers it.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of each picture in pixels, instead of the scene's.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Instead of the scene's.", rich_help_panel="Common options"),
    ] = None,
    device: common.DeviceOption = "auto",
    dtype: common.DtypeOption = "auto",
    tier: common.TierOption = "auto",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Render SCENE: voices, faces, portraits, music, the mix, videos, subtitles and edit lists from one emotion track."""
    if output is None and not dry_run:
        raise UsageError("name the folder to write to with -o DIR, or ask for --dry-run")
    common.check_tier(tier, generator="render", weights=("dice-talk",))
    common.check_range("--best-of", float(best_of), 1.0, 32.0)
    loaded = load(scene, changes={"size": size, "seed": seed, "reply": reply}, quiet=quiet)

    from affetto.scene.permission import check_consent
    from affetto.scene.planning import plan_scene, words_can_be_read

    check_consent(loaded.scene, loaded.base)
    plan = plan_scene(loaded.scene, loaded.base, reads_words=words_can_be_read())
    if dry_run:
        _print_plan(plan.document(), json=json)
        return
    assert output is not None
    folder = common.check_folder(output)
    for warning in plan.warnings:
        common.note(warning, quiet=quiet)
    from affetto.scene.director import Director

    def rendered(layout: "Layout") -> "SceneRender":
        device_now = layout.device or device
        director = Director(loaded, device=device_now, dtype=dtype, judge=chooser(best_of), best_of=best_of)
        with common.progress(quiet=quiet) as callback:
            return director.render(folder, overwrite=overwrite or layout.lowered, callback=callback)

    made, memory = common.spared("render", rendered, device=device, quiet=quiet)
    document = made.document() | memory
    if json:
        common.print_json(document)
        return
    for path in made.files:
        common.print_data(str(path))
    for lag in document["sync"]["lags"]:
        flag = "" if lag["holds"] else f"  (beyond {document['sync']['bar_ms']:g} ms)"
        common.note(f"{lag['what']}: {lag['milliseconds']:+.0f} ms{flag}", quiet=quiet)


def load(path: Path, *, changes: dict[str, Any], quiet: bool) -> "LoadedScene":
    """The scene with what the command line changes; every problem becomes a line on stderr."""
    from dataclasses import replace

    from affetto.scene.loading import SceneError, load_scene
    from affetto.scene.model import Scene

    try:
        loaded = load_scene(path)
    except SceneError as error:
        if len(error.problems) == 1:
            raise
        for line in error.lines:
            common.note(line)
        raise type(error)(
            path, [type(error.problems[0])(0, f"{len(error.problems)} problems, listed above")]
        ) from error
    document = loaded.scene.model_dump(exclude_unset=True)
    words = changes.pop("reply")
    document.update({name: value for name, value in changes.items() if value is not None})
    if words is not None:
        speeches = [document["speech"]] if document.get("speech") else []
        speeches += [
            *document.get("turns", []),
            *(t for shot in document.get("shots", []) for t in shot["turns"]),
        ]
        answers = [speech for speech in speeches if speech.get("reply")]
        if not answers:
            raise UsageError(f"{path}: --reply needs a scene with a reply: see examples/reply.yaml")
        for speech in answers:
            speech["reply"]["to"] = words
    common.check_range("--size", float(document.get("size", 512)), 64.0, 2160.0)
    return replace(loaded, scene=Scene.model_validate(document))


def chooser(best_of: int) -> "Judge | None":
    """The critic that chooses among candidates; none when there is nothing to choose."""
    if best_of == 1:
        return None
    from affetto.evaluation.choosing import ChoosingCritic

    return ChoosingCritic()


def _print_plan(document: dict[str, Any], *, json: bool) -> None:
    if json:
        common.print_json(document)
        return
    common.print_data(
        f"{document['seconds']:.1f} s, {document['frames']} frames of {document['size'][0]}x{document['size'][1]};"
        f" about {document['compute_s']:.0f} s of one processor core, {document['memory_mib']} MiB"
    )
    for step in document["steps"]:
        after = f"  after {', '.join(step['after'])}" if step["after"] else ""
        common.print_data(
            f"  {step['name']:<8} {step['compute_s']:6.1f} s  {step['what']} ({step['shape']}){after}"
        )
    for model in document["models"]:
        common.print_data(f"  model {model['id']}: {model['licence']}")
    common.print_data(f"writes {', '.join(document['outputs'])}")
    for warning in document["warnings"]:
        common.note(warning)
