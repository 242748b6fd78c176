"""`affetto weights`: which weight files there are, what their licences allow, whether they are whole; getting more."""

import importlib
import inspect
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError

if TYPE_CHECKING:
    from affetto.weights.registry import WeightFile

CONVERTERS: Mapping[str, tuple[str, str]] = {
    # id: (module, function); each takes the published tensors (and `source`, their file) and gives ours with metadata
    "dac-44khz": ("affetto.tokenizers.codec", "convert_dac"),
    "diffvc-libritts": ("affetto.generators.voice.full.convert", "convert_diffvc"),
    "diffvc-vctk": ("affetto.generators.voice.full.convert", "convert_diffvc"),
    "encodec-24khz": ("affetto.tokenizers.codec", "convert_encodec_24khz"),
    "encodec-48khz": ("affetto.tokenizers.codec", "convert_encodec_48khz"),
    "hifigan-universal": ("affetto.generators.voice.full.convert", "convert_hifigan"),
    "mimi": ("affetto.tokenizers.codec", "convert_mimi"),
    "muser": ("affetto.generators.music.full.muser_weights", "convert_muser"),
    "muser-prior": ("affetto.generators.music.full.muser_weights", "convert_muser_prior"),
    "vocos-mel-24khz": ("affetto.generators.voice.full.convert", "convert_vocos"),
}
"""How published files become ours; a file without an entry must be safetensors already and is kept as it is."""

_COLOURS = {"ok": "green", "missing": "dim", "unpinned": "yellow", "damaged": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    group = typer.Typer(
        no_args_is_help=True, help="List weight files and their licences, check them, and get more."
    )
    group.command("list")(list_weights)
    group.command("verify")(verify)
    group.command("pull")(pull)
    group.command("convert")(convert)
    app.add_typer(group, name="weights")


def _described(entry: "WeightFile") -> dict[str, Any]:
    """Everything known about one weight file, as plain values."""
    import dataclasses

    from affetto.weights.store import expected_path, file_state

    return {**dataclasses.asdict(entry), "path": str(expected_path(entry)), "state": file_state(entry)}


def list_weights(
    json: common.JsonOption = False, quiet: common.QuietOption = False, debug: common.DebugOption = False
) -> None:
    """Show every known weight file: size, licence, commercial use, source, who uses it, and whether it is here.

    `ok` means that the file is here and its hash matches; `missing` files are not needed by the embedded tier.
    """
    from affetto.weights.registry import REGISTRY

    described = [_described(entry) for entry in REGISTRY.values()]
    if json:
        common.print_json(described)
        return
    _print_table(described)


def _print_table(described: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("weights, used by", "state", "size", "commercial", "licence, source"):
        table.add_column(
            heading,
            overflow="fold",
            justify="right" if heading == "size" else "left",
            no_wrap=heading == "state",
        )
    for entry in described:
        shipped = ", shipped" if entry["embedded"] else ""
        table.add_row(
            f"{escape(entry['id'])}\n[dim]{escape(entry['consumer'])}{shipped}[/]",
            f"[{_COLOURS[entry['state']]}]{entry['state']}[/]",
            f"{entry['size'] / 2**20:.1f} MiB" if entry["size"] else "-",
            "yes" if entry["commercial"] else "[red]no[/]",
            f"{escape(entry['licence'])}\n[dim]{escape(entry['source'])}[/]",
        )
    Console().print(table)


def verify(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which weights; all that are here without.")
    ] = None,
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Compare weight files with their registered hashes; exit code 4 when one is damaged or a wanted one is missing."""
    from affetto.weights.registry import REGISTRY, get

    chosen = [get(name) for name in ids] if ids else list(REGISTRY.values())
    described = [_described(entry) for entry in chosen]
    if not ids:
        described = [entry for entry in described if entry["embedded"] or entry["state"] != "missing"]
    if json:
        common.print_json(
            [{key: entry[key] for key in ("id", "state", "path", "sha256")} for entry in described]
        )
    else:
        for entry in described:
            common.print_data(f"{entry['state']:<9} {entry['id']}")
    wrong = [
        f"{entry['id']} ({entry['state']})" for entry in described if entry["state"] in ("missing", "damaged")
    ]
    if wrong:
        raise MissingResourceError(
            f"weights are not as registered: {', '.join(wrong)}: reinstall affetto, or get them from the listed source"
        )


_WeightId = Annotated[str, typer.Argument(metavar="ID", help="Which weights; see affetto weights list.")]


def pull(
    weight_id: _WeightId,
    source_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A published file that you have already.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence at the source and accept it.")
    ] = False,
    sha256: Annotated[str, typer.Option(help="What the published file's SHA-256 must be.")] = "",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Download a published weight file, or take it with --from, and put it where the full tier finds it.

    The source and its licence are shown first; nothing is downloaded without --accept-licence.
    """
    import tempfile

    from affetto.weights.pulling import download, origin_of
    from affetto.weights.registry import get

    entry = get(weight_id)
    _check_pullable(entry, overwrite=overwrite)
    terms = "commercial use allowed" if entry.commercial else "no commercial use"
    common.note(f"{entry.id}: {entry.source}; licence {entry.licence} ({terms})", quiet=quiet)
    if source_file is not None:
        _install(entry, source_file, sha256, json=json)
        return
    origin = origin_of(weight_id, entry.source)
    if not origin.url:
        raise MissingResourceError(
            f"{weight_id}: open {origin.page}, save {origin.name} from there,"
            f" then run affetto weights pull {weight_id} --from FILE"
        )
    if not accept:
        raise UsageError(f"{weight_id}: read the licence at {origin.page}, then repeat with --accept-licence")
    with tempfile.TemporaryDirectory() as folder, common.progress(quiet=quiet) as callback:
        fetched = download(origin.url, Path(folder) / Path(origin.name).name, progress=callback)
        _install(entry, fetched, sha256, json=json)


def convert(
    weight_id: _WeightId,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The published file (.pt, .bin, .th, .safetensors).")
    ],
    output: common.OutputOption = None,
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Turn a published weight file into a .safetensors file of ours, its names and shapes checked."""
    from affetto.weights.registry import get

    entry = get(weight_id)
    if entry.embedded:
        raise UsageError(f"{weight_id} is shipped with affetto: there is nothing to convert")
    if output is None:
        raise UsageError("name the file to write with -o NAME.safetensors")
    common.check_outputs([output], [".safetensors"], overwrite=overwrite)
    _converted(weight_id, file, output)
    if json:
        common.print_json({"id": weight_id, "path": str(output)})
    else:
        common.print_data(str(output))


def _check_pullable(entry: "WeightFile", *, overwrite: bool) -> None:
    from affetto.weights.store import expected_path

    if entry.embedded:
        raise UsageError(f"{entry.id} is shipped with affetto: there is nothing to pull")
    target = expected_path(entry)
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: already exists: pass --overwrite to replace it")
    target.parent.mkdir(parents=True, exist_ok=True)


def _install(entry: "WeightFile", file: Path, sha256: str, *, json: bool) -> None:
    """Convert `file` into the user's cache and say where it went."""
    from affetto.weights.pulling import check_hash
    from affetto.weights.store import expected_path, sha256_of

    if not file.is_file():
        raise InvalidInputError(f"{file}: no such file: check the path")
    published = check_hash(file, sha256)
    target = expected_path(entry)
    _converted(entry.id, file, target)
    result = {"id": entry.id, "path": str(target), "published_sha256": published, "sha256": sha256_of(target)}
    if json:
        common.print_json(result)
    else:
        common.print_data(f"{target}  (published file sha256 {published})")


def _converted(weight_id: str, file: Path, target: Path) -> None:
    """Write `target` from the published `file`; nothing is written when it does not fit."""
    from affetto.runtime.files import atomic_path
    from affetto.weights.store import check_safetensors, save_tensors
    from affetto.weights.tensors import read_checkpoint

    if weight_id not in CONVERTERS:
        check_safetensors(file)
        with atomic_path(target) as temporary:
            shutil.copyfile(file, temporary)
        return
    module, function = CONVERTERS[weight_id]
    converter = getattr(importlib.import_module(module), function)
    given = {"source": file} if "source" in inspect.signature(converter).parameters else {}
    tensors, metadata = converter(read_checkpoint(file), **given)
    save_tensors(target, tensors, metadata)
