"""Scores played by the program `fluidsynth` with the user's soundfont."""

import dataclasses
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from affetto.generators.music.synth.room import Stereo
from affetto.media.audio import load_audio
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


def play_soundfont(
    score: Score, tracks: Sequence[int], soundfont: Path, rate: int
) -> Callable[[int], Stereo]:
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
        command = [
            program,
            "-n",
            "-i",
            "-q",
            "-R",
            "0",
            "-C",
            "0",
            "-g",
            "0.5",
            "-r",
            str(rate),
            "-O",
            "float",
        ]
        command += ["-T", "wav", "-F", str(sound), str(soundfont.absolute()), str(midi)]
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=_SECONDS_LIMIT
            )
        except subprocess.TimeoutExpired as error:
            raise InvalidInputError(
                f"{soundfont}: fluidsynth took over {_SECONDS_LIMIT:.0f} s: use a smaller soundfont"
            ) from error
        if done.returncode != 0 or not sound.is_file():
            lines = done.stderr.decode("utf8", "replace").strip().splitlines()
            reason = lines[-1][:120] if lines else f"exit status {done.returncode}"
            raise InvalidInputError(
                f"{soundfont}: fluidsynth cannot play it ({reason}): use another soundfont"
            )
        played = load_audio(sound, max_seconds=None).samples
    return _Reader(np.broadcast_to(played, (2, played.shape[1])))


class _Reader:
    """Gives sound out piece by piece, then silence."""

    def __init__(self, sound: Stereo) -> None:
        self._sound = sound
        self._at = 0

    def __call__(self, count: int) -> Stereo:
        out = np.zeros((2, count), np.float32)
        piece = self._sound[:, self._at : self._at + count]
        out[:, : piece.shape[1]] = piece
        self._at += count
        return out
