"""`affetto weights`: which weight files there are, what their licences allow, whether they are whole; getting more."""

import importlib
import inspect
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affetto.apps.cli import common
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError

if TYPE_CHECKING:
    from affetto.weights.origins import Origin, Part
    from affetto.weights.registry import WeightFile

Parts = Mapping[str, Path]
"""Published files by the names they have at their publisher."""

CONVERTERS: Mapping[str, tuple[str, str]] = {
    # id: (module, function); each takes the published tensors (and `source`, their file), or `parts`, the published
    # tensors by file, and gives ours with metadata
    "dac-44khz": ("affetto.tokenizers.codec", "convert_dac"),
    "dice-talk": ("affetto.generators.portrait.full.checkpoints", "convert_dice_talk"),
    "diffvc-libritts": ("affetto.generators.voice.full.convert", "convert_diffvc"),
    "diffvc-vctk": ("affetto.generators.voice.full.convert", "convert_diffvc"),
    "emote": ("affetto.generators.face.full.emote_weights", "convert_emote"),
    "emotion2vec-base": ("affetto.conditioning.encoders.emotion2vec_network", "convert_emotion2vec"),
    "emotion2vec-large": ("affetto.conditioning.encoders.emotion2vec_network", "convert_emotion2vec"),
    "empathic-insight-face": ("affetto.conditioning.encoders.empathic_network", "convert_empathic_face"),
    "empathic-insight-voice": ("affetto.conditioning.encoders.empathic_network", "convert_empathic_voice"),
    "encodec-24khz": ("affetto.tokenizers.codec", "convert_encodec_24khz"),
    "encodec-48khz": ("affetto.tokenizers.codec", "convert_encodec_48khz"),
    "hifigan-universal": ("affetto.generators.voice.full.convert", "convert_hifigan"),
    "mimi": ("affetto.tokenizers.codec", "convert_mimi"),
    "muser": ("affetto.generators.music.full.muser_weights", "convert_muser"),
    "muser-prior": ("affetto.generators.music.full.muser_weights", "convert_muser_prior"),
    "svd-xt": ("affetto.generators.portrait.full.checkpoints", "convert_svd_xt"),
    "vocos-mel-24khz": ("affetto.generators.voice.full.convert", "convert_vocos"),
}
"""How published files become ours; a file without an entry must be safetensors already and is kept as it is."""

READERS: Mapping[str, str] = {
    "flame2020": "affetto.head.flame:convert_flame",
    "flame2023-open": "affetto.head.flame:convert_flame",
}
"""Published files that are no tensors of a network: read and written by a function in a bounded process."""

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


def _described(entry: "WeightFile", *, thorough: bool = False) -> dict[str, Any]:
    """Everything known about one weight file, as plain values."""
    import dataclasses

    from affetto.weights.origins import ORIGINS
    from affetto.weights.receipts import is_accepted
    from affetto.weights.store import expected_path, file_state

    origin = ORIGINS.get(entry.id)
    return {
        **dataclasses.asdict(entry),
        "path": str(expected_path(entry)),
        "state": file_state(entry, thorough=thorough),
        "page": entry.source if origin is None else origin.page,
        "revision": "" if origin is None else origin.revision,
        "published": [] if origin is None else [part.name for part in origin.parts],
        "about_bytes": 0 if origin is None else origin.about_bytes,
        "downloadable": origin is not None and origin.downloadable,
        "accepted": entry.embedded or is_accepted(entry),
    }


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
            _size(entry),
            "yes" if entry["commercial"] else "[red]no[/]",
            f"{escape(entry['licence'])}\n[dim]{escape(entry['source'])}[/]",
        )
    Console().print(table)


def _size(entry: Mapping[str, Any]) -> str:
    """The size of a file in words, with ~ while only the publisher's total is known."""
    if entry["size"]:
        return f"{entry['size'] / 2**20:.1f} MiB"
    about = entry["about_bytes"]
    if not about:
        return "-"
    return f"~{about / 1e6:.0f} MB" if about < 1e9 else f"~{about / 1e9:.1f} GB"


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
    described = [_described(entry, thorough=True) for entry in chosen]
    if not ids:
        described = [entry for entry in described if entry["embedded"] or entry["state"] != "missing"]
    if json:
        common.print_json(
            [{key: entry[key] for key in ("id", "state", "path", "sha256")} for entry in described]
        )
    else:
        for entry in described:
            common.print_data(f"{entry['state']:<9} {entry['id']}")
    wrong = [entry for entry in described if entry["state"] in ("missing", "damaged")]
    if wrong:
        first = wrong[0]
        mend = (
            "reinstall affetto"
            if first["embedded"]
            else f"run affetto weights pull {first['id']}"
            + (" --overwrite" if first["state"] == "damaged" else "")
        )
        named = ", ".join(f"{entry['id']} ({entry['state']})" for entry in wrong)
        raise MissingResourceError(f"weights are not as registered: {named}: {mend}")


_WeightId = Annotated[str, typer.Argument(metavar="ID", help="Which weights; see affetto weights list.")]


def pull(
    weight_id: _WeightId,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE|DIR", help="Published files that you have already: nothing is downloaded."
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence at the source and accept it.")
    ] = False,
    sha256: Annotated[str, typer.Option(help="What the published file's SHA-256 must be.")] = "",
    revision: Annotated[
        str, typer.Option(help="Another revision of the repository than the registered one.")
    ] = "",
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Download published weights, or take them with --from, and put them where the full tier finds them.

    Source, licence and size are shown first. Nothing is downloaded before the licence was accepted, once: on a terminal
    you are asked, elsewhere give --accept-licence. A download that was interrupted goes on where it stopped.
    """
    from affetto.weights.origins import origin_of
    from affetto.weights.registry import get

    entry = get(weight_id)
    _check_pullable(entry, overwrite=overwrite)
    terms = "commercial use allowed" if entry.commercial else "NO COMMERCIAL USE"
    common.note(f"{entry.id}: {entry.source}; licence {entry.licence} ({terms})", quiet=quiet)
    if source is not None:
        parts = _given(entry.id, source)
        _install(entry, parts, sha256, source=str(source), revision="", json=json)
        return
    origin = origin_of(weight_id, entry.source)
    if not origin.downloadable:
        raise MissingResourceError(
            f"{weight_id}: open {origin.page}, save {origin.names} from there,"
            f" then run affetto weights pull {weight_id} --from FILE"
        )
    _agreed(entry, origin.page, origin.about_bytes, accept=accept)
    parts, found = _downloaded(entry.id, origin, revision, quiet=quiet)
    _install(entry, parts, sha256, source=origin.page, revision=found, json=json)
    _forget_downloads(entry.id)


def convert(
    weight_id: _WeightId,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR", help="The published file (.pt, .bin, .ckpt, .safetensors), or their folder."
        ),
    ],
    output: common.OutputOption = None,
    json: common.JsonOption = False,
    quiet: common.QuietOption = False,
    overwrite: common.OverwriteOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Turn published weights into a .safetensors file of ours, names and shapes checked, nothing in them executed."""
    from affetto.weights.registry import get

    entry = get(weight_id)
    if entry.embedded:
        raise UsageError(f"{weight_id} is shipped with affetto: there is nothing to convert")
    if output is None:
        raise UsageError("name the file to write with -o NAME.safetensors")
    common.check_outputs([output], [".safetensors"], overwrite=overwrite)
    _converted(weight_id, _given(weight_id, source), output)
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


def _agreed(entry: "WeightFile", page: str, about_bytes: int, *, accept: bool) -> None:
    """Raise unless the licence was accepted now or before; now means by option, or by answering on a terminal."""
    from affetto.weights import receipts

    if receipts.is_accepted(entry):
        return
    if not accept and sys.stdin.isatty() and sys.stderr.isatty():
        size = f", about {about_bytes / 1e9:.1f} GB" if about_bytes else ""
        warning = "" if entry.commercial else " It forbids commercial use."
        accept = typer.confirm(
            f"Read the licence at {page}{size}.{warning} Do you accept it?", default=False, err=True
        )
    if not accept:
        raise UsageError(f"{entry.id}: read the licence at {page}, then repeat with --accept-licence")
    receipts.accept(entry)


def _downloaded(weight_id: str, origin: "Origin", revision: str, *, quiet: bool) -> "tuple[Parts, str]":
    """The parts of an origin in the folder of unfinished downloads, and the revision they are of."""
    from affetto.runtime.errors import TryAgainError
    from affetto.weights.pulling import at_revision, download

    if revision and not origin.revision:
        raise UsageError(f"--revision means nothing for {weight_id}: its files have no repository")
    folder = _downloads(weight_id)
    parts: dict[str, Path] = {}
    found = revision or origin.revision
    with common.progress(quiet=quiet) as callback:
        for part in origin.parts:
            part = at_revision(part, origin.revision, revision) if revision else part
            if not part.url:
                continue
            target = folder / part.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_file():
                try:
                    found = download(part, target, progress=callback).revision or found
                except (TryAgainError, InvalidInputError) as error:
                    if not part.optional:
                        raise
                    common.note(f"{part.name} is left out: {error}", quiet=quiet)
                    continue
            parts[part.name] = target
    return parts, found


def _downloads(weight_id: str) -> Path:
    from affetto.weights.store import cache_folder

    return cache_folder() / "downloads" / weight_id


def _forget_downloads(weight_id: str) -> None:
    """Remove what was downloaded once it is converted; unfinished downloads are never removed."""
    shutil.rmtree(_downloads(weight_id), ignore_errors=True)


def _given(weight_id: str, source: Path) -> "Parts":
    """The parts that a user's file or folder holds, by their published names.

    In a folder a part is found by its whole published name, else by its last component, wherever it lies.
    """
    from affetto.weights.origins import ORIGINS, Part

    if not source.exists():
        raise InvalidInputError(f"{source}: no such file or folder: check the path")
    wanted = ORIGINS[weight_id].parts if weight_id in ORIGINS else (Part(name=f"{weight_id}.safetensors"),)
    needed = [part for part in wanted if not part.optional]
    if source.is_file():
        if len(needed) > 1:
            return _with_neighbours(source, wanted, weight_id)
        return {needed[0].name: source}
    parts: dict[str, Path] = {}
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for part in wanted:
        tail = Path(part.name)
        fitting = [path for path in files if path.parts[-len(tail.parts) :] == tail.parts]
        fitting = fitting or [path for path in files if path.name == tail.name]
        if not fitting and tail.suffix and len(needed) == 1 and not part.optional:
            fitting = [path for path in files if path.suffix == tail.suffix]
        if len(fitting) > 1:
            raise InvalidInputError(
                f"{source}: holds {len(fitting)} files that could be {part.name}: name one with --from FILE"
            )
        if fitting:
            parts[part.name] = fitting[0]
    if missing := [part.name for part in needed if part.name not in parts]:
        raise InvalidInputError(f"{source}: lacks {', '.join(missing)}: put the published files there")
    return parts


def _with_neighbours(source: Path, wanted: "Sequence[Part]", weight_id: str) -> "Parts":
    """A file of several, with the others beside it."""
    parts = {part.name: source.with_name(Path(part.name).name) for part in wanted}
    named = [name for name in parts if Path(name).name == source.name]
    if not named:
        raise InvalidInputError(
            f"{source}: {weight_id} is made of {', '.join(parts)}: give the folder with all of them"
        )
    found = {name: path for name, path in parts.items() if path.is_file()}
    if missing := [part.name for part in wanted if not part.optional and part.name not in found]:
        raise InvalidInputError(
            f"{source}: beside it lacks {', '.join(missing)}: put the published files together"
        )
    return found


def _install(
    entry: "WeightFile", parts: "Parts", sha256: str, *, source: str, revision: str, json: bool
) -> None:
    """Convert the parts into the user's cache, write down what they were, and say where the result went."""
    from affetto.weights.pulling import check_hash
    from affetto.weights.receipts import Receipt
    from affetto.weights.store import expected_path, sha256_of

    if sha256 and len(parts) > 1:
        raise UsageError("--sha256 is for weights in one file: leave it away, each file's hash is shown")
    published = {name: check_hash(path, sha256) for name, path in parts.items()}
    target = expected_path(entry)
    _converted(entry.id, parts, target)
    size, made = target.stat().st_size, sha256_of(target)
    Receipt(
        id=entry.id, source=source, revision=revision, licence=entry.licence, published=published, sha256=made,
        size=size,
    ).save(entry)  # fmt: skip
    if json:
        first = next(iter(published.values()))
        common.print_json(
            {
                "id": entry.id,
                "path": str(target),
                "published_sha256": first,
                "published": published,
                "revision": revision,
                "sha256": made,
                "size": size,
            }
        )
    else:
        common.print_data(f"{target}  ({len(parts)} published, sha256 {', '.join(published.values())})")


def _read_limited(function: str, source: Path, target: Path) -> None:
    """Have a reader of ours write `target` in a process bounded in memory and time."""
    from affetto.runtime.limited import LimitedProcess, Limits

    limits = Limits(memory=6 << 30, seconds=300, clock_s=1500.0)  # numpy and a gigabyte of arrays
    child = LimitedProcess(file_size=4 * source.stat().st_size + (1 << 28))
    try:
        paths = (str(source.absolute()), str(target.absolute()))
        child.call(function, *paths, limits=limits, subject=str(source), mend="download it again")
    finally:
        child.close()


def _converted(weight_id: str, parts: "Parts", target: Path) -> None:
    """Write `target` from the published parts; nothing is written when they do not fit."""
    from affetto.runtime.files import atomic_path
    from affetto.weights.architectures import check_architecture
    from affetto.weights.store import check_safetensors, read_header, save_tensors
    from affetto.weights.tensors import read_checkpoint

    file = next(iter(parts.values()))
    if weight_id in READERS:
        with atomic_path(target) as temporary:
            _read_limited(READERS[weight_id], file, temporary)
        return
    if weight_id not in CONVERTERS:
        check_safetensors(file)
        check_architecture(weight_id, read_header(file), str(file))
        with atomic_path(target) as temporary:
            shutil.copyfile(file, temporary)
        return
    module, function = CONVERTERS[weight_id]
    converter = getattr(importlib.import_module(module), function)
    takes = inspect.signature(converter).parameters
    held = {name: read_checkpoint(path) for name, path in parts.items()}
    given = {"source": file} if "source" in takes else {}
    try:
        tensors, metadata = converter(held if "parts" in takes else next(iter(held.values())), **given)
    except InvalidInputError as error:
        raise error if str(file) in str(error) else InvalidInputError(f"{file}: {error}") from error
    save_tensors(target, tensors, metadata)
