import wave
from pathlib import Path

import numpy as np
import pytest

from affetto.apps.cli import main


class Outcome:
    """What one call of the command line gave: exit code, stdout, stderr."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self) -> list[str]:
        return self.err.strip().splitlines()


@pytest.fixture
def affetto(capsys):
    """Calls the real command line in this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def tone(seconds: float = 1.0, rate: int = 16_000) -> np.ndarray:
    """A voiced-sounding tone with syllables: harmonics of 120 Hz, four bursts a second."""
    time = np.arange(round(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * 120 * harmonic * time) / harmonic for harmonic in range(1, 12))
    return (0.2 * voice * np.clip(np.sin(2 * np.pi * 4 * time), 0, 1)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture
def speech(tmp_path) -> Path:
    return write_wav(tmp_path / "speech.wav", tone())
