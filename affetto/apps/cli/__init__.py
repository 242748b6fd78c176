"""The command line: `affetto COMMAND ...`.

Commands parse first and import models after, so that `affetto --help` answers at once. Each command lives in its own
module here and adds itself through `register(app)`.
"""

import contextlib
import errno
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Annotated

import typer
from typer.exceptions import TyperException

from affetto import __version__
from affetto.runtime.errors import (
    AffettoError,
    CancelledError,
    InvalidInputError,
    OutOfMemoryError,
    TryAgainError,
    UsageError,
)

COMMANDS = (
    "face",
    "talk",
    "voice",
    "music",
    "render",
    "evaluate",
    "batch",
    "emotion",
    "weights",
    "train",
    "prepare_videos",
    "bench",
    "verify",
    "studio",
    "demo",
    "doctor",
)

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


def build_app() -> typer.Typer:
    """The command line with every command registered."""
    app = typer.Typer(
        name="affetto",
        help="Generative affective media: one emotion, as a value or a curve, drives what you make.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in COMMANDS:
        importlib.import_module(f"affetto.apps.cli.{name}").register(app)
    return app


def _print_version(wanted: bool) -> bool:
    if wanted:
        sys.stdout.write(f"affetto {__version__}\n")
        raise typer.Exit
    return wanted


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code; whatever fails becomes one line on stderr (see runtime.errors)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        with _terminable():
            status = build_app()(args=arguments, prog_name="affetto", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:
        # The reader of stdout has left (`affetto ... | head`): that is not an error, and flushing would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:  # noqa: BLE001  the one place where every failure turns into a line and a code
        if debug:
            traceback.print_exc()
        line, status = explain(error)
        if line:
            sys.stderr.write(f"affetto: {line}\n")
        return status


def explain(error: BaseException) -> tuple[str, int]:
    """The one line and the exit code of a failure."""
    if isinstance(error, TyperException):
        return _usage_line(error), UsageError.exit_code
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return "interrupted", CancelledError.exit_code
    if isinstance(error, AffettoError):
        return _one_line(str(error)), error.exit_code
    if _is_out_of_memory(error):
        advice = "try shorter audio, a smaller --size or --device cpu"
        return f"out of memory ({_one_line(str(error))[:120]}): {advice}", OutOfMemoryError.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{error.filename or 'output'}: the disk is full: make room and try again",
            TryAgainError.exit_code,
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}: check the path", InvalidInputError.exit_code
    what = _one_line(f"{type(error).__name__}: {error}")
    return f"internal error, {what} (run again with --debug and report it)", AffettoError.exit_code


def _usage_line(error: TyperException) -> str:
    """What typer found wrong and where to read more; empty when it has already shown the help."""
    line = _one_line(error.format_message())
    context = getattr(error, "ctx", None)
    return f"{line} (see '{context.command_path} --help')" if line and context is not None else line


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    # torch raises its own class on CUDA and a plain RuntimeError from the CPU allocator.
    return isinstance(error, RuntimeError) and any(mark in str(error).lower() for mark in _OUT_OF_MEMORY)


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that temporary files are removed when a scheduler stops us."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
