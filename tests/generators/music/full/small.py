"""Tiny MusER networks and clips for the tests of the full tier."""

import dataclasses

import numpy as np
import torch

from affetto.generators.music.full.muser import VARIANTS, Muser, MuserPrior
from affetto.media.midi import Score, note_array, save_midi

SIZES = {
    "widths": (6, 6, 4, 4, 8, 4, 4, 4), "encoder_layers": 1, "global_layers": 2, "element_layers": 1,
    "attention_heads": 2, "encoder_width": 16, "decoder_width": 16, "codes": 24, "slice_width": 4,
    "regulariser_layers": 1, "regulariser_heads": 2, "length": 48, "dropout": 0.0,
}  # fmt: skip
TINY = dataclasses.replace(VARIANTS["MusER_TRANS_CA_GE"], **SIZES)


def tiny(variant="MusER_TRANS_CA_GE", seed=0, **changes):
    torch.manual_seed(seed)
    return Muser(dataclasses.replace(VARIANTS[variant], **{**SIZES, **changes})).eval()


def tiny_prior(codes=20, seed=0):
    torch.manual_seed(seed)
    return MuserPrior(codes, width=16, layers=2, heads=2, dropout=0.0).eval()


def random_words(config, batch=2, words=12, seed=0):
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, size, (batch, words)) for size in config.sizes]
    return torch.from_numpy(np.stack(columns, axis=-1))


def little_score(seed=0, bars=2, velocity=80):
    rng = np.random.default_rng(seed)
    rows = [
        (beat / 2, 0.5, int(rng.integers(48, 80)), int(velocity + 4 * rng.integers(0, 3)), 0)
        for beat in range(8 * bars)
    ]
    return Score(notes=note_array(rows), tempos=((0.0, 110.0),))


def write_corpus(folder, clips=8):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(clips):
        quadrant = 1 + index % 4
        save_midi(folder / f"Q{quadrant}_clip{index}_0.mid", little_score(index, velocity=50 + 10 * quadrant))
    return folder
