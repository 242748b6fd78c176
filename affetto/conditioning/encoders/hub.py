"""Loading published checkpoints strictly: every key accounted for, nothing unpickled, nothing downloaded.

And what those that listen share: sound as they were trained on it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from affetto.conditioning.encoders.base import Reading
from affetto.conditioning.taxonomies import get_taxonomy
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError, MissingResourceError
from affetto.weights.registry import REGISTRY
from affetto.weights.store import read_arrays, weight_path

RATE = 16_000
"""Samples a second that published networks of speech hear."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A published checkpoint on this disk: its tensors by official key and its config.json, if there is one."""

    path: Path
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None
    format: str = ""  # of a file of ours


def open_checkpoint(name: str | Path) -> Checkpoint:
    """The checkpoint of a registered id, a .safetensors file, or a folder with model.safetensors and config.json.

    Raises MissingResourceError when it is not there, with the way to get it, and InvalidInputError when it is damaged.
    """
    if str(name) in REGISTRY:
        path = weight_path(str(name))
    else:
        path = Path(name)
        path = path / "model.safetensors" if path.is_dir() else path
        if not path.is_file():
            raise MissingResourceError(f"no weights at {path}: give a .safetensors file or a model's folder")
    arrays, metadata = read_arrays(path)
    config = None
    beside = path.parent / "config.json"
    try:
        if "config" in metadata:
            config = json.loads(metadata["config"])
        elif path.name == "model.safetensors" and beside.is_file():
            config = json.loads(beside.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{beside}: is no JSON ({error}): download the model again") from error
    if config is not None and not isinstance(config, dict):
        raise InvalidInputError(f"{beside}: is no model configuration: download the model again")
    tensors = {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
    return Checkpoint(path=path, tensors=tensors, config=config, format=metadata.get("format", ""))


def load_strict(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: Path,
    renames: Iterable[tuple[str, str]] = (),
    dropped: Iterable[str] = (),
) -> None:
    """Fill `module` with the tensors, every one of them and nothing left over.

    `renames` are (pattern, replacement) pairs, the first that matches a key applies; keys that match one of `dropped`
    are left out on purpose. Raises InvalidInputError naming the first key or shape that does not fit.
    """
    rules = [(re.compile(pattern), replacement) for pattern, replacement in renames]
    useless = [re.compile(pattern) for pattern in dropped]
    state: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if any(pattern.search(key) for pattern in useless):
            continue
        name = next((rule.sub(new, key) for rule, new in rules if rule.search(key)), key)
        state[name] = tensor
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    problem = None
    if missing := sorted(set(expected) - set(state)):
        problem = f"key {missing[0]!r} is missing ({len(missing)} in all)"
    elif extra := sorted(set(state) - set(expected)):
        problem = f"key {extra[0]!r} is unknown ({len(extra)} in all)"
    else:
        wrong = next((key for key in state if tuple(state[key].shape) != expected[key]), None)
        if wrong is not None:
            problem = f"{wrong!r} is {tuple(state[wrong].shape)}, not {expected[wrong]}"
    if problem is not None:
        raise InvalidInputError(f"{source}: {problem}: these are the weights of another model")
    module.load_state_dict(state, strict=True)


def scored_reading(
    modality: str, taxonomy: str, scores: Mapping[str, float], *, confidence: float
) -> Reading:
    """The reading that scores over a taxonomy's labels make; their spread in VAD is its variance."""
    labels = get_taxonomy(taxonomy)
    emotion = labels.from_scores(scores, confidence=float(np.clip(confidence, 0.0, 1.0)))
    vad = emotion.effective_vad().astype(np.float64)
    mixture = {name: share for name, share in emotion.effective_mixture().items() if share > 0}
    weight = np.array([max(float(score), 0.0) for score in scores.values()])
    places = np.array([labels.emotion(label).effective_vad() for label in scores])
    share = weight / max(weight.sum(), 1e-12)
    spread = (share[:, None] * np.square(places - vad)).sum(0)
    return Reading(
        modality=modality, vad=vad, variance=spread + 0.03, mixture=mixture, confidence=emotion.confidence
    )


def spoken(audio: Audio) -> Float32[np.ndarray, "sample"]:
    """The sound as one channel at 16 kHz; raises InvalidInputError below 0.1 s."""
    samples = audio.resampled(RATE).mono()
    if len(samples) < RATE // 10:
        raise InvalidInputError(f"{audio.path or 'the sound'}: shorter than 0.1 s: record more")
    return np.asarray(samples, np.float32)


def in_pieces(
    samples: Float32[np.ndarray, "sample"], longest_s: float
) -> tuple[list[Float32[np.ndarray, "part"]], Float[np.ndarray, "piece"]]:
    """The sound in equal pieces of at most `longest_s` seconds, and the share of the whole that each is."""
    count = max(1, -(-len(samples) // round(longest_s * RATE)))
    pieces = np.array_split(samples, count)
    return pieces, np.array([len(piece) for piece in pieces], np.float64) / len(samples)
