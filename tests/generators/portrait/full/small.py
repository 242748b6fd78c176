"""A DICE-Talk so small that a run takes a moment, filled with fixed numbers."""

import numpy as np
import torch

from affetto.generators.portrait.full.pipeline import DiceTalkPipeline
from affetto.generators.portrait.full.sizes import DiceSizes
from affetto.media.audio import Audio

WIDTH = 32
TINY = DiceSizes(
    unet={
        "block_out_channels": (32, 32, 32, 32),
        "num_attention_heads": (2, 2, 2, 2),
        "cross_attention_dim": WIDTH,
        "sample_size": 8,
    },
    audio_linear={"channels": 16, "width": WIDTH, "tokens": 4, "layers": 3},
    emotion_model={"inputs": 8, "width": WIDTH, "codes": 6, "tokens": 4, "heads": 4, "features": 0},
    pose_guider={"channels": 32, "widths": (4, 4, 4, 4)},
    interpolator={"width": 4},
    speech={"width": 16, "layers": 2, "heads": 2, "feed_forward": 16, "positions": 100},
    vae={"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "sample_size": 64},
    image_encoder={
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "patch_size": 56, "image_size": 224, "projection_dim": WIDTH, "hidden_act": "gelu",
    },
)  # fmt: skip
BOX = (40.0, 30.0, 90.0, 95.0)


def tiny_pipeline(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = DiceTalkPipeline.fresh(TINY)
        for name in ("conv_out",):
            torch.nn.init.normal_(pipe.pose_guider.get_submodule(name).weight, std=0.1)
        pipe.emotion_model.priors.normal_()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def photo():
    rows, columns = np.mgrid[0:128, 0:128]
    return np.stack([rows * 2, columns * 2, (rows + columns)], axis=-1).clip(0, 255).astype(np.uint8)


def speech(seconds=0.5, rate=16_000):
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 180 * time) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * time))
    return Audio(samples=tone.astype(np.float32)[None], rate=rate)
