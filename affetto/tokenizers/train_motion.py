"""The recipe behind `affetto train motion-tokenizer`: face curves (.npz, .csv, .json) in a folder -> a motion tokenizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from affetto.media.animation.files import CURVE_SUFFIXES, load_curves
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.progress import ProgressCallback
from affetto.tokenizers.motion import (
    MOUTH,
    STEP,
    MotionAutoencoder,
    MotionTokenizer,
    MotionTokenizerConfig,
    as_curves,
    channels,
    resampled,
)
from affetto.tokenizers.quantizers import code_statistics
from affetto.tokenizers.training import Budget, held_out, train_for

_FRAMES, _CLIPS = 128, 16


def train_motion_tokenizer(
    data: Path,
    output: Path,
    *,
    seconds: float = 600.0,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "cpu",
    config: MotionTokenizerConfig | None = None,
    progress: ProgressCallback | None = None,
) -> Mapping[str, object]:
    """Train on the performances under `data` for `seconds`, write the tokenizer, return errors on performances not seen.

    About one performance in ten is held out; of a single one the last fifth.
    """
    config = config or MotionTokenizerConfig()
    train, test = read_clips(data, config.fps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MotionAutoencoder(config).to(resolve_device(device))
    place = next(network.parameters()).device

    def loss_of(rng: np.random.Generator, share: float) -> Tensor:
        del share
        target = torch.from_numpy(_batch(train, rng)).to(place)
        return motion_loss(network(target)[0], target)

    budget = Budget(output=output, seconds=seconds, seed=seed, resume=resume, stage="motion tokens")
    steps = train_for(network, loss_of, budget, progress)
    tokenizer = MotionTokenizer(network)
    tokenizer.save(output, seed=str(seed), steps=str(steps))
    return {"steps": steps, "clips": len(train), **motion_scores(tokenizer, train, test)}


def read_clips(
    data: Path, fps: float
) -> tuple[list[Float32[np.ndarray, "_ 59"]], list[Float32[np.ndarray, "_ 59"]]]:
    """The channels of all performances under `data` at one frame rate: those to train on, those held out."""
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in CURVE_SUFFIXES)
    clips = [(path, resampled(load_curves(path), fps)) for path in paths]
    clips = [(path, values) for path, values in clips if len(values) >= 5 * STEP]
    if not clips:
        raise InvalidInputError(
            f"{data}: no performances of {5 * STEP} frames or more: put .npz or .csv there"
        )
    if len(clips) == 1:
        cut = len(clips[0][1]) * 4 // 5
        return [clips[0][1][:cut]], [clips[0][1][cut:]]
    out = held_out([path.relative_to(data).as_posix() for path, _ in clips])
    return (
        [values for (_, values), kept in zip(clips, ~out, strict=True) if kept],
        [values for (_, values), kept in zip(clips, out, strict=True) if kept],
    )


def motion_loss(found: Tensor, target: Tensor) -> Tensor:
    """Absolute error of the curves and of how fast they move."""
    pace = (found.diff(dim=1) - target.diff(dim=1)).abs().mean()
    return (found - target).abs().mean() + pace


def motion_scores(
    tokenizer: MotionTokenizer,
    train: Sequence[Float32[np.ndarray, "_ 59"]],
    test: Sequence[Float32[np.ndarray, "_ 59"]],
) -> dict[str, float]:
    """Mean absolute errors on held-out performances beside those of the mean face, and how many codes are used there."""
    mean = np.concatenate(list(train)).mean(axis=0)
    fps = tokenizer.network.config.fps
    tokens = [tokenizer.encode(as_curves(values, fps)) for values in test]
    wrong = np.concatenate(
        [np.abs(channels(tokenizer.decode(each)) - values) for each, values in zip(tokens, test, strict=True)]
    )
    still = np.abs(np.concatenate(list(test)) - mean)
    spread = code_statistics(
        torch.from_numpy(np.concatenate([each.codes for each in tokens])), tokenizer.network.codes
    )
    return {
        "mouth_error": float(wrong[:, MOUTH].mean()),
        "rest_error": float(wrong[:, ~MOUTH].mean()),
        "mean_face_mouth_error": float(still[:, MOUTH].mean()),
        "mean_face_rest_error": float(still[:, ~MOUTH].mean()),
        "usage": spread.usage,
        "perplexity": spread.perplexity,
    }


def _batch(
    clips: Sequence[Float32[np.ndarray, "_ 59"]], rng: np.random.Generator
) -> Float32[np.ndarray, "clip part 59"]:
    """Stretches from anywhere in the clips, long clips more often; short ones hold their last frame."""
    weights = np.array([len(values) for values in clips], np.float64)
    drawn = []
    for index in rng.choice(len(clips), _CLIPS, p=weights / weights.sum()):
        values = clips[index]
        begin = int(rng.integers(max(len(values) - _FRAMES, 0) + 1))
        part = values[begin : begin + _FRAMES]
        drawn.append(np.pad(part, ((0, _FRAMES - len(part)), (0, 0)), mode="edge"))
    return np.stack(drawn)
