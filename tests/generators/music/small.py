"""A composer small enough for tests: a random network, level fader scales, the chords of a few made-up songs."""

import numpy as np
import torch

from affetto.generators.music.composer_data import FaderScale
from affetto.generators.music.composer_net import FADERS, ComposerConfig, ComposerNet
from affetto.generators.music.copycheck import CopyCheck
from affetto.generators.music.harmony import HarmonyModel
from affetto.generators.music.model import ComposerModel
from affetto.generators.music.pipeline import MusicComposer
from affetto.generators.music.sampling import SamplingOptions
from affetto.media.midi import Score, note_array
from affetto.tokenizers.vocabulary import chord_id

TINY = ComposerConfig(width=32, layers=2, heads=2, hidden=32, index_pairs=4)


def tiny_net(seed: int = 0) -> ComposerNet:
    """A network that knows nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ComposerNet(TINY).eval()


def small_harmony() -> HarmonyModel:
    """Two turns in major, one in minor, often repeated."""
    names = (("C_M", "A_m", "F_M", "G_M"), ("C_M", "F_M", "D_m", "G_7"), ("A_m", "F_M", "D_m", "E_M"))
    songs = []
    for mode, line in zip((1, 1, 2), names, strict=True):
        chords = np.array([[chord_id(name)] * 4 for name in line] * 8, np.int64)
        songs.append((chords, np.full(len(chords), mode, np.int64)))
    return HarmonyModel.fit(songs, most=7)


def level_scale() -> FaderScale:
    """Levels that divide plausible ranges evenly."""
    low = np.array([0.1, 1.0, 1.0, 50.0, 40.0, -0.3])
    high = np.array([0.9, 12.0, 4.0, 72.0, 100.0, 0.3])
    middles = low[:, None] + (high - low)[:, None] * (np.arange(9) + 0.5) / 9
    return FaderScale(edges=(middles[:, 1:] + middles[:, :-1]) / 2, middles=middles)


def small_composer(
    *, candidates: int = 1, guidance: float = 1.0, check: CopyCheck | None = None
) -> MusicComposer:
    """A composer that writes nonsense inside the grammar."""
    assert len(FADERS) == 6
    return MusicComposer(
        ComposerModel(net=tiny_net(), scale=level_scale(), harmony=small_harmony()),
        device=torch.device("cpu"),
        dtype=torch.float32,
        check=check or CopyCheck.of([]),
        options=SamplingOptions(candidates=candidates, guidance=guidance),
    )


def little_song(bars: int = 4, *, metre: tuple[int, int] = (4, 4)) -> Score:
    """A tune over held chords in C."""
    beats = metre[0] * 4 // metre[1]
    rows: list[tuple[float, float, int, int, int]] = []
    for bar in range(bars):
        root = (48, 45, 41, 43)[bar % 4]
        rows.append((bar * beats, beats, root, 60, 0))
        rows += [
            (bar * beats + beat, 1.0, (72, 76, 74, 71)[(bar + beat) % 4], 80, 0) for beat in range(beats)
        ]
        rows += [
            (bar * beats, beats, root + 12 + step, 56, 0) for step in (4 if root in (48, 41, 43) else 3, 7)
        ]
    return Score(notes=note_array(rows), meters=((0.0, *metre),), tempos=((0.0, 100.0),))
