"""Scores played by the program `fluidsynth` with the user's soundfont."""

import contextlib
import dataclasses
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from affetto.generators.music.synth.room import Stereo
from affetto.media.audio import stream_channels
from affetto.media.files import checked_size, first_bytes
from affetto.media.midi import Score, save_midi
from affetto.runtime.errors import InvalidInputError, MissingResourceError

MAX_BYTES = 4 * 2**30
PROGRAM = "fluidsynth"
_SECONDS_LIMIT = 1_800.0


def check_soundfont(path: Path) -> None:
    """Raise InvalidInputError unless the file begins like a soundfont (.sf2 or .sf3) and is as long as it says."""
    size = checked_size(path, MAX_BYTES, kind="soundfont")
    head = first_bytes(path, 12)
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise InvalidInputError(
            f"{path}: no soundfont (its header is not RIFF sfbk): give a .sf2 or .sf3 file"
        )
    if int.from_bytes(head[4:8], "little") + 8 > size + 1:
        raise InvalidInputError(f"{path}: is cut off: copy or download the soundfont again")


@contextlib.contextmanager
def played_by_soundfont(
    score: Score, tracks: Sequence[int], soundfont: Path, rate: int
) -> Iterator[Callable[[int], Stereo]]:
    """A function that gives the next samples of these tracks, played without the program's own reverberation.

    Raises MissingResourceError when fluidsynth is not installed, InvalidInputError when it cannot play the file.
    """
    check_soundfont(soundfont)
    program = shutil.which(PROGRAM)
    if program is None:
        raise MissingResourceError(
            f"no program {PROGRAM!r} to play {soundfont}: install it (apt install fluidsynth, brew install fluid-synth)"
        )
    with tempfile.TemporaryDirectory() as folder:
        midi, sound = Path(folder) / "score.mid", Path(folder) / "score.wav"
        save_midi(midi, dataclasses.replace(score, notes=score.notes[np.isin(score.notes["track"], tracks)]))
        _run(program, midi, sound, soundfont, rate)
        yield _Reader(stream_channels(sound, 4.0))


def _run(program: str, midi: Path, sound: Path, soundfont: Path, rate: int) -> None:
    command = [program, "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(rate), "-O", "float"]
    command += ["-T", "wav", "-F", str(sound), str(soundfont.absolute()), str(midi)]
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=_SECONDS_LIMIT
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidInputError(
            f"{soundfont}: fluidsynth took over {_SECONDS_LIMIT:.0f} s: use a smaller soundfont"
        ) from error
    if done.returncode != 0 or not sound.is_file() or b"error: " in done.stderr:
        lines = done.stderr.decode("utf8", "replace").strip().splitlines()
        told = [line for line in lines if "error: " in line] or lines[-1:]
        reason = told[0].split(": ", 2)[-1][:120] if told else f"exit status {done.returncode}"
        raise InvalidInputError(f"{soundfont}: fluidsynth cannot play it ({reason}): use another soundfont")


class _Reader:
    """Gives sound out in pieces of any length, then silence; mono comes from both sides."""

    def __init__(self, blocks: Iterator[Float32[np.ndarray, "channel sample"]]) -> None:
        self._blocks = blocks
        self._waiting = np.zeros((2, 0), np.float32)

    def __call__(self, count: int) -> Stereo:
        while self._waiting.shape[1] < count:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((2, count), np.float32)
            self._waiting = np.concatenate(
                [self._waiting, np.broadcast_to(block, (2, block.shape[1]))], axis=1
            )
        out, self._waiting = self._waiting[:, :count], self._waiting[:, count:]
        return out
