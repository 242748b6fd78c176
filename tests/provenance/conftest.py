import numpy as np
import pytest

from affetto.media.audio import Audio


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user who has never signed or stated anything."""
    for name in (
        "AFFETTO_SIGN",
        "AFFETTO_WATERMARK",
        "AFFETTO_CONSENT",
        "AFFETTO_C2PA_CERT",
        "AFFETTO_C2PA_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def voice(seconds: float = 8.0, rate: int = 24_000, seed: int = 0) -> Audio:
    """Something like speech: a wandering buzz through moving resonances, with syllables and breath."""
    chance = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 120 * 2 ** (0.3 * np.sin(2 * np.pi * 0.4 * time + seed))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = sum(np.sin(number * phase) / number for number in range(1, 30))
    samples = (0.15 * buzz + 0.02 * chance.standard_normal(len(time))) * (
        0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time)
    )
    return Audio(samples=samples[None].astype(np.float32), rate=rate)


def picture(size: int = 256, seed: int = 0) -> np.ndarray:
    """Soft shapes with some grain."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack([np.sin(9 * x + 3 * y + n) * np.cos(7 * y - n) for n in range(3)], axis=-1)
    return np.clip(128 + 60 * waves + 4 * chance.standard_normal((size, size, 1)), 0, 255).astype(np.uint8)
