"""Bars of music as codes with one part for each musical element, each with a slider.

A bar is described six times over: where notes begin, how many together, how high, how long, how loud, and in which harmony.
One encoder reads everything and writes six groups of finite scalar codes; one decoder reads all groups. That a group speaks of
its own element only is trained (see `train_disentangled`). After MusER (arXiv 2312.10307), with ordered levels in place of its
codebook: the first digit of each group is a slider (Pati & Lerch 2020).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from affetto.media.music import key_correlations
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.tokenizers.compound import Words
from affetto.tokenizers.quantizers import FSQuantizer
from affetto.tokenizers.vocabulary import DURATION, EMBEDDED, PITCH, VELOCITY
from affetto.weights.store import read_arrays, save_tensors, weight_path

ELEMENTS = ("rhythm", "polyphony", "pitch", "duration", "velocity", "harmony")
_MOST_TOGETHER = 6
_BAND = 4  # semitones
_LOUDNESS_STEP = 2  # velocity ids
SIZES: Mapping[str, int] = {
    "rhythm": 16,  # whether a note begins in each sixteenth of the bar
    "polyphony": _MOST_TOGETHER,  # shares of the places with 1, 2 ... 6 or more notes that begin
    "pitch": -(-len(EMBEDDED.pitches) // _BAND),  # shares of the notes by height
    "duration": len(EMBEDDED.durations),  # shares of the notes by length
    "velocity": -(-len(EMBEDDED.velocities) // _LOUDNESS_STEP),  # shares of the notes by loudness
    "harmony": 12,  # shares of the sounding time by pitch class
}
FEATURES = sum(SIZES.values())
_EDGES = np.cumsum([0, *SIZES.values()])
SLICES: Mapping[str, slice] = {
    name: slice(int(low), int(high))
    for name, low, high in zip(ELEMENTS, _EDGES[:-1], _EDGES[1:], strict=True)
}
_HEIGHTS = EMBEDDED.pitches[0] + _BAND * np.arange(SIZES["pitch"]) + (_BAND - 1) / 2
_LENGTHS = np.array(EMBEDDED.durations, np.float64)
_LOUDNESS = np.array(EMBEDDED.velocities, np.float64)[::_LOUDNESS_STEP] + 2.0


def bar_features(words: Words) -> Float32[np.ndarray, "bar feature"]:
    """What each bar holds, element after element as in `SLICES`; bars without notes are 0 throughout.

    Rhythm counts sixteenths of a 4/4 bar: bars of other lengths are stretched to it.
    """
    if words.vocabulary != EMBEDDED:
        raise UsageError("these words have another vocabulary: encode the score with the embedded one")
    bars, note = len(words.bar_steps), words.is_note
    bar, ids = words.bars[note], words.ids[note].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(words.bar_steps)])
    step = words.steps[note]
    slot = (step - starts[bar]) * 16 // np.maximum(words.bar_steps[bar], 1)
    begins, together = np.unique(step, return_counts=True)
    of_place = np.searchsorted(starts, begins, side="right") - 1
    length = _LENGTHS[ids[:, DURATION] - 1]

    def counted(
        row: np.ndarray, column: np.ndarray, size: int, weight: np.ndarray | None = None
    ) -> np.ndarray:
        return np.bincount(row * size + column, weight, minlength=bars * size).reshape(bars, size)

    parts = {
        "polyphony": counted(of_place, np.minimum(together, _MOST_TOGETHER) - 1, SIZES["polyphony"]),
        "pitch": counted(bar, (ids[:, PITCH] - 1) // _BAND, SIZES["pitch"]),
        "duration": counted(bar, ids[:, DURATION] - 1, SIZES["duration"]),
        "velocity": counted(bar, (ids[:, VELOCITY] - 1) // _LOUDNESS_STEP, SIZES["velocity"]),
        "harmony": counted(bar, (ids[:, PITCH] - 1 + EMBEDDED.pitches[0]) % 12, 12, length),
    }
    rhythm = np.minimum(counted(bar, slot, 16), 1)
    shares = [part / np.maximum(part.sum(axis=1, keepdims=True), 1e-9) for part in parts.values()]
    return np.concatenate([rhythm, *shares], axis=1).astype(np.float32)


def element_values(features: Float[np.ndarray, "bar feature"]) -> Float64[np.ndarray, "bar 6"]:
    """One number for each element: what its slider moves.

    Sixteenths at which notes begin; notes that begin together; mean pitch; mean length, octaves of a sixteenth; mean velocity;
    best correlation with a major key less the best with a minor one.
    """
    part = {name: np.asarray(features[:, SLICES[name]], np.float64) for name in ELEMENTS}
    keys = key_correlations(part["harmony"])
    return np.stack(
        [
            part["rhythm"].sum(axis=1),
            part["polyphony"] @ np.arange(1.0, _MOST_TOGETHER + 1),
            part["pitch"] @ _HEIGHTS,
            part["duration"] @ np.log2(_LENGTHS),
            part["velocity"] @ _LOUDNESS,
            keys[:, :12].max(axis=1) - keys[:, 12:].max(axis=1),
        ],
        axis=1,
    )


_CENTRE = np.array(
    [6.0, 1.7, 60.0, 1.4, 70.0, 0.05], np.float32
)  # of the numbers, roughly, in recorded piano music
_SCALE = np.array([3.0, 0.7, 6.0, 0.7, 15.0, 0.2], np.float32)


class ElementValues(nn.Module):
    """`element_values` on tensors, with gradients, each less its centre and in units of its spread."""

    linear: Tensor
    profiles: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        counts = (np.ones(16), np.arange(1.0, _MOST_TOGETHER + 1), _HEIGHTS, np.log2(_LENGTHS), _LOUDNESS)
        linear = np.zeros((FEATURES, 5), np.float32)
        for own, values in enumerate(counts):
            linear[SLICES[ELEMENTS[own]], own] = values
        # correlations with a single pitch class, times the length of one less its mean, are the profiles themselves
        profiles = key_correlations(np.eye(12)) * np.sqrt(11 / 12)
        for name, values in (
            ("linear", linear), ("profiles", profiles.astype(np.float32)), ("centre", _CENTRE), ("scale", _SCALE),
        ):  # fmt: skip
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, features: Float[Tensor, "bar feature"]) -> Float[Tensor, "bar 6"]:
        """The numbers of bars."""
        classes = features[:, SLICES["harmony"]].float()
        centred = classes - classes.mean(dim=1, keepdim=True)
        keys = centred @ self.profiles / (centred.norm(dim=1, keepdim=True) + 1e-6)
        mode = keys[:, :12].amax(dim=1) - keys[:, 12:].amax(dim=1)
        found = torch.cat([features.float() @ self.linear, mode[:, None]], dim=1)
        return (found - self.centre) / self.scale


@dataclass(frozen=True, kw_only=True)
class DisentangledConfig:
    """Sizes of the network; the defaults are those of the shipped weights."""

    width: int = 192
    levels: tuple[int, ...] = (9, 5, 5, 5)


class DisentangledNetwork(nn.Module):
    """Bars -> six groups of axes, one per level -> bars."""

    def __init__(self, config: DisentangledConfig) -> None:
        super().__init__()
        self.config = config
        width, axes = config.width, len(config.levels) * len(ELEMENTS)
        self.quantizer = FSQuantizer(config.levels, books=len(ELEMENTS))
        self.values = ElementValues()
        self.encoder = nn.Sequential(
            nn.Linear(FEATURES + len(ELEMENTS), width), nn.LayerNorm(width), nn.GELU(),
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, axes),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(axes, width), nn.LayerNorm(width), nn.GELU(),
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, FEATURES),
        )  # fmt: skip

    def latents(self, features: Float[Tensor, "bar feature"]) -> Float[Tensor, "bar axis"]:
        """Axes before rounding, group after group."""
        return self.encoder(torch.cat([features, self.values(features)], dim=1))


def expected(logits: Float[Tensor, "bar feature"]) -> Float[Tensor, "bar feature"]:
    """The features that logits of the decoder speak of: chances of onsets, shares of everything else."""
    parts = [
        torch.sigmoid(logits[:, at]) if name == "rhythm" else torch.softmax(logits[:, at].float(), dim=1)
        for name, at in SLICES.items()
    ]
    return torch.cat(parts, dim=1)


def element_losses(
    logits: Float[Tensor, "bar feature"], features: Float[Tensor, "bar feature"]
) -> Float[Tensor, "6"]:
    """The cross-entropy of each element, nats: of shares for a bar, of onsets twice that for a sixteenth."""
    losses = []
    for name, at in SLICES.items():
        found, target = logits[:, at].float(), features[:, at]
        if name == "rhythm":
            losses.append(F.binary_cross_entropy_with_logits(found, target) * 2)
        else:
            losses.append(-(target * F.log_softmax(found, dim=1)).sum(dim=1).mean())
    return torch.stack(losses)


class DisentangledMusicTokenizer:
    """Bars as six codes and back: `codes = tokenizer.encode(words)`, `tokenizer.decode(codes)`.

    Codes are style, not notes: they decode to what a bar is like. A group is swapped or its slider moved on the codes.
    """

    def __init__(self, network: DisentangledNetwork) -> None:
        self.network = network.eval()

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "embedded", *, device: str | torch.device = "auto"
    ) -> "DisentangledMusicTokenizer":
        """The shipped tokenizer (`embedded`), or the one in a file of `affetto train music-tokenizer`."""
        path = weight_path("music-tokenizer") if name == "embedded" else Path(name)
        arrays, metadata = read_arrays(path)
        if metadata.get("kind") != "music-tokenizer":
            raise InvalidInputError(
                f"{path}: no music tokenizer: name a file of `affetto train music-tokenizer`"
            )
        config = json.loads(metadata["config"])
        network = DisentangledNetwork(DisentangledConfig(**{**config, "levels": tuple(config["levels"])}))
        network.load_state_dict({name: torch.from_numpy(values).float() for name, values in arrays.items()})
        return cls(network.to(resolve_device(device)))

    def save(self, path: str | Path, **metadata: str) -> Path:
        """Write the network as safetensors."""
        config = json.dumps(dataclasses.asdict(self.network.config))
        return save_tensors(
            path, self.network.state_dict(), {"kind": "music-tokenizer", "config": config, **metadata}
        )

    @torch.inference_mode()
    def encode(self, bars: Words | Float32[np.ndarray, "bar feature"]) -> Int64[np.ndarray, "bar 6"]:
        """The code of each element in each bar, columns as in `ELEMENTS`."""
        features = bar_features(bars) if isinstance(bars, Words) else bars
        if features.shape[1] != FEATURES:
            raise UsageError(
                f"bars have {FEATURES} features, got {features.shape[1]}: make them with bar_features"
            )
        place = next(self.network.parameters()).device
        latents = self.network.latents(torch.from_numpy(features).to(place))
        return self.network.quantizer(latents).indices.cpu().numpy()

    @torch.inference_mode()
    def decode(self, codes: Int64[np.ndarray, "bar 6"]) -> Float32[np.ndarray, "bar feature"]:
        """What bars with these codes are like, as `bar_features`."""
        place = next(self.network.parameters()).device
        z = self.network.quantizer.decode(torch.from_numpy(codes).to(place))
        return expected(self.network.decoder(z)).float().cpu().numpy()

    def values(self, codes: Int64[np.ndarray, "bar 6"]) -> Float64[np.ndarray, "bar 6"]:
        """The number of each element (`element_values`) that codes decode to."""
        return element_values(self.decode(codes))

    def sliders(self, codes: Int64[np.ndarray, "bar 6"]) -> Int64[np.ndarray, "bar 6"]:
        """Where the slider of each element stands."""
        return self.network.quantizer.digits(torch.from_numpy(codes))[..., 0].cpu().numpy()

    def slid(self, codes: Int64[np.ndarray, "bar 6"], element: str, level: int) -> Int64[np.ndarray, "bar 6"]:
        """The codes with one element's slider at `level`, 0 the least."""
        column, most = _column(element), self.network.config.levels[0]
        if not 0 <= level < most:
            raise UsageError(f"the slider of {element} goes from 0 to {most - 1}, got {level}")
        changed = codes.copy()
        changed[:, column] += level - self.sliders(codes)[:, column]  # the first digit counts single codes
        return changed


def swapped(
    codes: Int64[np.ndarray, "bar 6"], source: Int64[np.ndarray, "other 6"], elements: Sequence[str]
) -> Int64[np.ndarray, "bar 6"]:
    """`codes` with these elements taken from the bars of `source`."""
    if codes.shape != source.shape:
        raise UsageError(f"{len(codes)} bars cannot take elements from {len(source)}: give as many")
    changed = codes.copy()
    for element in elements:
        changed[:, _column(element)] = source[:, _column(element)]
    return changed


def _column(element: str) -> int:
    if element not in ELEMENTS:
        raise UsageError(f"unknown element {element!r}: use one of {', '.join(ELEMENTS)}")
    return ELEMENTS.index(element)
