"""Work in a process with limits: every way in which it can go wrong is one error, and the next call is served."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from affetto.runtime import limited
from affetto.runtime.errors import AffettoError, InvalidInputError
from affetto.runtime.limited import LimitedProcess, Limits

SMALL = Limits(memory=64 << 20, seconds=1, clock_s=20.0)
bounded = pytest.mark.skipif(sys.platform != "linux", reason="memory and processor time are bounded on Linux")


@pytest.fixture(scope="module")
def process():
    opened = LimitedProcess()
    yield opened
    opened.close()


def call(process: LimitedProcess, function: str, *arguments: object, limits: Limits = SMALL) -> object:
    return process.call(function, *arguments, limits=limits, subject="clip.mp4")


def test_the_same_process_answers_call_after_call(process):
    assert [call(process, "math:factorial", n) for n in (3, 4, 5)] == [6, 24, 120]
    first = process.pid
    assert call(process, "os:getpid") == first != os.getpid()
    assert process.pid == first


@bounded
def test_too_much_memory_is_one_error_and_the_next_call_is_served(process):
    with pytest.raises(InvalidInputError, match=r"^clip\.mp4: reading it takes more than 64 MiB of memory: export it again$"):  # fmt: skip
        call(process, "builtins:bytearray", 1 << 30)
    assert call(process, "math:factorial", 3) == 6


@bounded
def test_memory_is_counted_from_what_the_process_has_anew_for_each_call(process):
    with pytest.raises(InvalidInputError, match="of memory"):
        call(process, "builtins:bytearray", 200 << 20)
    wide = Limits(memory=1 << 30, seconds=5, clock_s=20.0)
    for _ in range(6):  # together more than the limit
        with pytest.raises(AffettoError, match="bytearray is not JSON serializable"):
            call(process, "builtins:bytearray", 200 << 20, limits=wide)
    with pytest.raises(InvalidInputError, match="of memory"):
        call(process, "builtins:bytearray", 200 << 20)


@bounded
def test_too_much_processor_time_is_one_error(process):
    with pytest.raises(InvalidInputError, match=r"clip\.mp4: reading it takes more than 1 s of processor time"):  # fmt: skip
        call(process, "math:factorial", 10**8)
    assert call(process, "math:factorial", 3) == 6


def test_what_hangs_is_ended_by_the_clock(process):
    began = time.monotonic()
    with pytest.raises(InvalidInputError, match=r"clip\.mp4: reading it takes longer than 0\.3 s"):
        call(process, "time:sleep", 60, limits=Limits(clock_s=0.3))
    assert time.monotonic() - began < 10
    assert call(process, "math:factorial", 3) == 6


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    ("name", "told"), [("SIGSEGV", "crashed"), ("SIGABRT", "crashed"), ("SIGKILL", "was killed")]
)
def test_a_crash_is_one_error_that_names_the_signal(process, name, told):
    with pytest.raises(InvalidInputError, match=rf"^clip\.mp4: its reader {told} \({name}\): export it again$"):  # fmt: skip
        call(process, "signal:raise_signal", int(getattr(signal, name)))
    assert call(process, "math:factorial", 3) == 6


def test_a_process_that_ends_itself_is_no_answer(process):
    with pytest.raises(InvalidInputError, match=r"clip\.mp4: its reader ended with 7"):
        call(process, "os:_exit", 7)
    with pytest.raises(InvalidInputError, match=r"clip\.mp4: its reader ended with 0"):
        call(process, "os:_exit", 0)


def test_a_refusal_of_the_function_keeps_its_kind_and_words(process):
    with pytest.raises(InvalidInputError, match=r"^/nowhere/a\.wav: no such file: check the path$"):
        call(process, "affetto.media.audio:first_look", "/nowhere/a.wav", 60.0, True)


def test_a_mistake_of_ours_is_no_fault_of_the_file(process):
    with pytest.raises(AffettoError, match=r"ZeroDivisionError") as failure:
        call(process, "operator:truediv", 1, 0)
    assert type(failure.value) is AffettoError


@pytest.mark.skipif(os.name == "nt", reason="no bound on files there")
def test_the_process_can_write_no_file(process, tmp_path):
    with pytest.raises(AffettoError, match="File too large"):
        call(process, "shutil:copyfile", __file__, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists() or (tmp_path / "copy").stat().st_size == 0


def test_an_idle_process_ends_and_a_call_starts_another():
    process = LimitedProcess(idle_s=0.2)
    first = call(process, "os:getpid")
    assert process._child is not None
    process._child.process.wait(timeout=10)
    assert call(process, "os:getpid") != first
    process.close()


def test_a_process_that_ends_while_it_is_asked_is_started_again():
    process = LimitedProcess(idle_s=0.2)
    call(process, "math:factorial", 3)
    child = process._child
    assert child is not None
    child.process.wait(timeout=10)
    child.process.poll = lambda: None  # as if it had not ended when we looked
    assert call(process, "math:factorial", 3) == 6
    process.close()


def test_threads_share_one_process(process):
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(call(process, "math:factorial", n)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(answers) == sorted([1, 1, 2, 6, 24, 120, 720, 5040])


def _in_a_worker(pipe) -> None:
    process = LimitedProcess()
    pipe.send(call(process, "math:factorial", 5))
    process.close()


def test_spawned_workers_that_may_have_no_children_of_their_own_can_use_one():
    mine, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=_in_a_worker, args=(theirs,), daemon=True)
    worker.start()
    assert mine.poll(60)
    assert mine.recv() == 120
    worker.join(timeout=30)
    assert worker.exitcode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_starts_a_process_of_its_own(process):
    theirs = call(process, "os:getpid")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if call(process, "os:getpid") != theirs else 2
            process.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert call(process, "os:getpid") == theirs


PLANT = "raise SystemExit(3)\n"


def test_files_that_lie_in_the_working_folder_are_not_imported(tmp_path, monkeypatch):
    for name in ("json.py", "affetto.py", "queue.py"):
        (tmp_path / name).write_text(PLANT)
    monkeypatch.chdir(tmp_path)
    process = LimitedProcess()
    assert call(process, "math:factorial", 5) == 120
    process.close()


def test_secrets_of_the_environment_stay_outside(process, monkeypatch):
    monkeypatch.setenv("AFFETTO_SECRET_FOR_A_TEST", "x")
    process.close()
    assert call(process, "os:getenv", "AFFETTO_SECRET_FOR_A_TEST", "hidden") == "hidden"


def test_the_process_ends_with_the_one_that_started_it():
    program = (
        "from affetto.runtime.limited import *; p = LimitedProcess(); p.start(); print(p.pid, flush=True);"
        "p.call('math:factorial', 3, limits=Limits(), subject=''); import os; os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_without_bounds_of_the_system_the_clock_still_holds(process, monkeypatch):
    assert "resource" not in vars(
        limited
    )  # it is missing on Windows: only affetto.runtime.limits asks for it
    program = (
        "import sys; sys.modules['resource'] = None; from affetto.runtime import limits;"
        "print(limits.limit(file_size=0), limits.allow(memory=1, seconds=1))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "() ()"


@bounded
def test_the_bounds_that_hold_are_told(process):
    assert set(process.bounds) == {"as", "cpu", "fsize", "core"}
