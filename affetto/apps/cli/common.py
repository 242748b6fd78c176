"""What every command shares: options, output checks, progress on stderr, one JSON document on stdout.

Only light modules are imported here, because `affetto --help` imports this file.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.files import check_writable
from affetto.runtime.progress import ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    from affetto.runtime.memory import Layout

Result = TypeVar("Result")

_PANEL = "Common options"

EmotionOption = Annotated[
    str | None,
    typer.Option(
        "--emotion",
        "-e",
        metavar="EMOTION|TRACK|FILE",
        help="An emotion (happy@0.7), a track (0:neutral; 1.5:happy) or a track file.",
        rich_help_panel=_PANEL,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The file to write.", rich_help_panel=_PANEL),
]
OutputsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="A file to write; may be given several times.",
        rich_help_panel=_PANEL,
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="The same seed gives the same files.", rich_help_panel=_PANEL)
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda:N", help="Where models run.", rich_help_panel=_PANEL)
]
DtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype", metavar="auto|fp32|bf16|fp16", help="The precision models run in.", rich_help_panel=_PANEL
    ),
]
TierOption = Annotated[
    str,
    typer.Option(
        "--tier",
        metavar="auto|embedded|full",
        help="Which models: shipped ones, or the published ones.",
        rich_help_panel=_PANEL,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel=_PANEL)
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress on stderr.", rich_help_panel=_PANEL)
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs that exist.", rich_help_panel=_PANEL)
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PANEL)
]

ConsentOption = Annotated[
    str | None,
    typer.Option(
        "--consent",
        metavar="GROUND[:NOTE]",
        help="Whose voice or face it is: self, licensed, synthetic or public-domain; remembered for the file.",
        rich_help_panel=_PANEL,
    ),
]

TIERS = ("auto", "embedded", "full")


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON document on stdout; results become objects, paths text, and NaN is refused."""
    sys.stdout.write(
        json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    to_number = getattr(value, "item", None)  # numpy scalars have it
    return to_number() if callable(to_number) else str(value)


def print_data(text: str) -> None:
    """Print one line of data on stdout."""
    sys.stdout.write(f"{text}\n")


def note(text: str, *, quiet: bool = False) -> None:
    """Print one line for the human on stderr, unless `quiet`."""
    if not quiet:
        sys.stderr.write(f"{text}\n")


def check_range(option: str, value: float, low: float, high: float) -> None:
    """Raise unless `value` lies in [low, high]; the message names both, which typer's own does not."""
    if not low <= value <= high:
        raise UsageError(f"{option} {value:g} is out of range: use {low:g} to {high:g}")


def check_tier(tier: str, *, generator: str, weights: Sequence[str]) -> str:
    """The tier to run, `embedded` or `full` (auto is embedded); the full tier needs all of `weights`.

    Raises MissingResourceError with the command that gets the first that is not here.
    """
    if tier not in TIERS:
        raise UsageError(f"unknown --tier {tier!r}: use {', '.join(TIERS)}")
    if tier != "full":
        return "embedded"
    from affetto.weights.registry import get
    from affetto.weights.store import expected_path

    for weight_id in weights:
        if not expected_path(get(weight_id)).is_file():
            raise MissingResourceError(
                f"--tier full: {generator} needs the weights {weight_id!r}, which are not here:"
                f" run affetto weights pull {weight_id}"
            )
    return tier


def check_outputs(outputs: Sequence[Path], suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Raise unless every output has one of `suffixes`, is named once, and can be created; before any work."""
    seen: set[Path] = set()
    for output in outputs:
        if output.suffix.lower() not in suffixes:
            raise UsageError(
                f"{output}: nobody writes {output.suffix or 'a name without suffix'}: use {' '.join(suffixes)}"
            )
        if output.absolute() in seen:
            raise UsageError(f"{output}: named twice: give each output its own name")
        seen.add(output.absolute())
        check_creatable(output, overwrite=overwrite)


def check_creatable(output: Path, *, overwrite: bool) -> None:
    """Raise unless a file can really be created beside `output`: permissions alone do not tell on every file system."""
    try:
        check_writable(output, overwrite=overwrite)
        handle, name = tempfile.mkstemp(prefix=f".{output.stem[:40]}-", dir=output.parent)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror}): choose another output") from error
    os.close(handle)
    Path(name).unlink()


def check_package(module: str, message: str) -> None:
    """Raise with `message` unless an optional package can be imported."""
    if importlib.util.find_spec(module) is None:
        raise MissingResourceError(message)


def check_folder(folder: Path) -> Path:
    """The folder, created when it is missing; raises when a file is in the way or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be used as a folder ({error.strerror}): choose another -o"
        ) from error
    check_creatable(folder / "probe", overwrite=True)
    return folder


def read_text(path: Path, *, max_bytes: int = 1 << 20) -> str:
    """The text of a small UTF-8 file."""
    try:
        if path.stat().st_size > max_bytes:
            raise InvalidInputError(
                f"{path}: larger than {max_bytes} bytes: give the words of this recording only"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read ({error.strerror}): check the name") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: is not UTF-8 text: save it as UTF-8") from error


@contextlib.contextmanager
def progress(*, quiet: bool = False) -> Iterator[ProgressCallback | None]:
    """Yield a callback that draws a bar for each stage on stderr; None when quiet or when nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(event: ProgressEvent) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = bars.add_task(event.stage, total=event.total or None)
            label = f"{event.stage}  {event.message}".rstrip()
            bars.update(
                tasks[event.stage], completed=event.done, total=event.total or None, description=label
            )

        yield show


@contextlib.contextmanager
def recorded(generator: str, **fields: Any) -> Iterator[None]:
    """What is saved within the block carries these as its recipe: a line of a manifest; None is left out."""
    from affetto.provenance.recipes import recorded

    job = {"generator": generator} | {name: value for name, value in fields.items() if value is not None}
    with recorded({"job": job}):
        yield


def spared(
    stage: str, work: "Callable[[Layout], Result]", *, device: str, quiet: bool
) -> "tuple[Result, dict[str, Any]]":
    """What `work` gives, repeated with less at once while memory lacks (see `runtime.memory`), and what was given up.

    Each saving is a line on stderr; together they are `memory` of the command's document, which is empty without any. Work
    whose layout is lowered writes over what an earlier attempt wrote. Raises OutOfMemoryError when nothing is left.
    """
    from affetto.runtime.memory import sparing

    def told(saving: str) -> None:
        note(f"{stage}: out of memory, going on with less: {saving}", quiet=quiet)

    done = sparing(stage, work, device=device, told=told)
    memory = {"savings": list(done.savings), "exact": done.exact}
    return done.result, {"memory": memory} if done.savings else {}


def settle_consent(media: Path, stated: str | None, *, what: str, quiet: bool) -> str | None:
    """The ground on which a recording or portrait is used: as stated, as remembered, or asked for at a terminal."""
    from affetto.provenance.consent import GROUNDS, settle_consent

    consent = settle_consent(media, stated, what=what)
    if consent is None and not quiet and sys.stdin.isatty() and sys.stderr.isatty():
        choices = ", ".join(f"{ground} ({meaning})" for ground, meaning in GROUNDS.items())
        answer = typer.prompt(
            f"{media.name}: whose {what} is this? {choices}; empty to go on without",
            default="",
            err=True,
            show_default=False,
        )
        consent = settle_consent(media, answer.strip() or None, what=what)
    return None if consent is None else consent.ground
