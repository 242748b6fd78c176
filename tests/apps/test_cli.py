import errno
import io
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

import affetto as package
from affetto.apps.cli import COMMANDS, common, explain
from affetto.runtime import errors
from affetto.runtime.errors import CancelledError, InvalidInputError, UsageError
from affetto.runtime.progress import ProgressEvent

HEAVY = (
    "torch",
    "numpy",
    "scipy",
    "matplotlib",
    "numba",
    "transformers",
    "diffusers",
    "av",
    "soundfile",
    "gradio",
)
REPORT = (
    "import json, resource, sys; from affetto.apps.cli import main; code = main(sys.argv[1:]);"
    "used = resource.getrusage(resource.RUSAGE_SELF);"
    "sys.stderr.write(json.dumps([code, used.ru_utime + used.ru_stime, sorted(sys.modules)]))"
)


def report(*arguments: str) -> tuple[int, float, set[str]]:
    """Exit code, CPU seconds and imported modules of one call in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    code, seconds, modules = json.loads(done.stderr.strip().splitlines()[-1])
    return code, seconds, set(modules)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["face", "--help"], []], ids=" ".join)
def test_help_answers_at_once_and_imports_nothing_heavy(arguments):
    tries = [report(*arguments) for _ in range(3)]
    assert not tries[0][2] & set(HEAVY)
    # The least of three, since other processes share the caches; a torch import alone takes over one second.
    assert min(seconds for _, seconds, _ in tries) < 0.5


def test_a_usage_error_is_found_before_anything_heavy_is_imported():
    code, _, modules = report("face", "speech.wav", "-o", "face.fbx")
    assert code == 2
    assert not modules & {"torch", "scipy", "numba", "av"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(affetto, command):
    outcome = affetto(command.replace("_", "-"), "--help")
    assert outcome.code == 0
    assert "Usage:" in outcome.out
    assert outcome.err == ""


def test_the_version_is_the_package_version(affetto):
    assert affetto("--version").out == f"affetto {package.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["paint"], ["face"], ["face", "a.wav", "--paint"]])
def test_wrong_usage_exits_with_two(affetto, arguments):
    assert affetto(*arguments).code == 2


def test_an_unknown_command_suggests_the_nearest(affetto):
    assert "face" in affetto("facee").err


CODES = {
    errors.AffettoError: 1,
    errors.UsageError: 2,
    errors.InvalidInputError: 3,
    errors.MissingResourceError: 4,
    errors.JobsFailedError: 5,
    errors.OutOfMemoryError: 6,
    errors.PolicyError: 7,
    errors.TryAgainError: 75,
    errors.CancelledError: 130,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_every_error_type_has_its_exit_code(kind, code):
    assert explain(kind("first\nsecond")) == ("first second", code)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (MemoryError(), 6),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), 6),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 6),
        (OSError(errno.ENOSPC, "No space left on device", "face.mp4"), 75),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "words.txt"), 3),
        (RuntimeError("something else"), 1),
        (KeyError("bug"), 1),
    ],
    ids=repr,
)
def test_other_failures_have_their_exit_code_too(error, code):
    line, status = explain(error)
    assert status == code
    assert line
    assert "\n" not in line


def test_a_terminated_command_cleans_up(tmp_path):
    program = (
        "import signal, sys, time, typer; from pathlib import Path; from affetto.apps import cli;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # background shells ignore it
        "from affetto.runtime.files import atomic_path\n"
        "def wait(target: Path):\n"
        "    with atomic_path(target) as temporary:\n"
        "        temporary.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
        "app = typer.Typer(); app.command('wait')(wait); app.command('other')(lambda: None)\n"
        "cli.build_app = lambda: app\n"
        "sys.exit(cli.main(['wait', sys.argv[1]]))"
    )
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        command = [sys.executable, "-c", program, str(tmp_path / "out.txt")]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            assert len(list(tmp_path.iterdir())) == 1
            process.send_signal(number)
            assert process.wait(timeout=30) == code
        assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_early_is_no_error():
    command = f'{sys.executable} -c \'from affetto.apps.cli import main; raise SystemExit(main(["face", "--help"]))\''
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""


class Screen(io.StringIO):
    """A text stream that claims to be, or not to be, a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def test_progress_is_drawn_for_a_terminal_only(monkeypatch):
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    with common.progress() as show:
        show(ProgressEvent(stage="listening", done=1, total=2))
    assert "listening" in screen.getvalue()
    for quiet, terminal in ((True, True), (False, False)):
        monkeypatch.setattr(sys, "stderr", Screen(terminal=terminal))
        with common.progress(quiet=quiet) as show:
            assert show is None


def test_json_is_strict_and_one_document(capsys):
    common.print_json({"path": os.PathLike, "name": "é"})
    assert json.loads(capsys.readouterr().out)["name"] == "é"
    with pytest.raises(ValueError, match="JSON compliant"):
        common.print_json({"figure": float("nan")})


def test_a_creatable_check_leaves_no_file(tmp_path):
    common.check_creatable(tmp_path / "new.csv", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_small_texts_are_read_and_large_ones_refused(tmp_path):
    words = tmp_path / "words.txt"
    words.write_bytes(b"\xef\xbb\xbfhello")
    assert common.read_text(words) == "hello"
    with pytest.raises(InvalidInputError, match="larger than 3 bytes"):
        common.read_text(words, max_bytes=3)
    words.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        common.read_text(words)


def test_an_output_folder_is_made_and_a_file_in_its_place_refused(tmp_path):
    assert common.check_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be used as a folder"):
        common.check_folder(tmp_path / "file")


def test_cancelling_is_an_interruption():
    assert explain(CancelledError("cancelled on request"))[1] == 130
