"""Pairs of takes as batches: cropped, with virtual speakers, and with every strength between none and beyond full."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float, Float32
from torch import Tensor

from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.controls import BANDS, VoiceControls, band_centres
from affetto.generators.voice.pairs import ENVELOPE, GROUPS, Take, align, pair_residual
from affetto.generators.voice.residual_net import FACTOR
from affetto.generators.voice.speaker import STATISTICS, SpeakerStatistics, normalised, speaker_statistics

HINTED = 0.5
"""Share of training clips whose prior mean the network is told; else it must read the emotion off the embeddings."""


@dataclass(frozen=True, kw_only=True)
class PairExample:
    """One ordered pair of takes, ready to be drawn from."""

    source: Float[np.ndarray, "frame 30"]  # normalised controls
    residual: Float[np.ndarray, "frame 30"]
    trust: Float[np.ndarray, "frame 5"]
    mean: Float[np.ndarray, "frame 30"]  # the prior mean: what the linear bank would do
    speaker: Float[np.ndarray, "31"]
    place: Float[np.ndarray, "256"]  # e_s
    taken: Float[np.ndarray, "256"]  # from e_s to the embedding of the target take
    known: Float[np.ndarray, "256"]  # from e_s along the bank's direction
    kind: tuple[str, str]  # emotions of source and target
    weight: float = 1.0

    def trust_columns(self) -> Float[np.ndarray, "frame 30"]:
        """The trust of each column."""
        return _columns(self.trust) * self.weight


@dataclass(frozen=True, kw_only=True)
class ResidualBatch:
    """Crops of pairs as tensors; `mean` is the prior mean of each frame."""

    source: Float[Tensor, "clip frame 30"]
    residual: Float[Tensor, "clip frame 30"]
    trust: Float[Tensor, "clip frame 30"]
    mean: Float[Tensor, "clip frame 30"]
    speaker: Float[Tensor, "clip 31"]
    place: Float[Tensor, "clip 256"]
    target: Float[Tensor, "clip 1 256"]
    hint: Float[Tensor, "clip"]  # 1 where the network is told the prior mean, else 0

    def to(self, device: torch.device) -> "ResidualBatch":
        """The same batch on a device."""
        return ResidualBatch(**{f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)})

    def told(self) -> dict[str, Tensor]:
        """What the network is told besides the noisy residual."""
        tokens = self.source.shape[1] // FACTOR
        return {
            "source": self.source,
            "mean": self.hint[:, None, None] * reduce(self.mean, "b (t n) c -> b t c", "mean", n=FACTOR),
            "speaker": self.speaker,
            "place": self.place,
            "target": self.target.expand(-1, tokens, -1),
        }


def build_examples(
    takes: Sequence[Take], bank: VoiceBank, *, neutral_only: bool = False
) -> list[PairExample]:
    """Every ordered pair of takes of one sentence by one speaker; `neutral_only` keeps those from neutral to an emotion."""
    groups: dict[tuple[str, str], list[Take]] = {}
    for take in takes:
        groups.setdefault((take.speaker, take.text), []).append(take)
    return [
        example
        for group in groups.values()
        for source in group
        for target in group
        if not neutral_only or (source.emotion == "neutral" != target.emotion)
        if (example := _example(source, target, bank)) is not None
    ]


def one_hot(bank: VoiceBank, emotion: str) -> Float[np.ndarray, "name"]:
    """Weight 1 for an emotion of the bank, all zeros for neutral."""
    return np.array([float(name == emotion) for name in bank.names], np.float64)


def prior_mean(
    bank: VoiceBank,
    controls: VoiceControls,
    speaker: SpeakerStatistics,
    weights: Float[np.ndarray, "*frame name"],
) -> Float32[np.ndarray, "frame 30"]:
    """What the bank's linear engine would do to each frame: where the flow starts."""
    rows = np.broadcast_to(weights, (len(controls), len(bank.names)))
    return bank.linear_residual(controls, rows, speaker=speaker).stack()


def _example(source: Take, target: Take, bank: VoiceBank) -> PairExample | None:
    found = pair_residual(source, target, align(source, target))
    if found.trust[:, 1].sum() < 40:
        return None
    here, there = one_hot(bank, source.emotion), one_hot(bank, target.emotion)
    known = bank.direction(there, source.embedding) - bank.direction(here, source.embedding)
    speaker = speaker_statistics(source.controls)
    mean = prior_mean(bank, source.controls, speaker, there) - prior_mean(
        bank, source.controls, speaker, here
    )
    return PairExample(
        source=normalised(source.controls, speaker),
        residual=found.residual,
        trust=found.trust,
        mean=mean.astype(np.float32),
        speaker=speaker.vector(),
        place=source.embedding.astype(np.float32),
        taken=(target.embedding - source.embedding).astype(np.float32),
        known=known.astype(np.float32),
        kind=(source.emotion, target.emotion),
        weight=float(np.sqrt(source.weight * target.weight)),
    )


def _columns(trust: Float[np.ndarray, "frame 5"]) -> Float[np.ndarray, "frame 30"]:
    sizes = [columns.stop - columns.start for columns in GROUPS]
    return np.repeat(trust, sizes, axis=1)


def draw_batch(
    examples: Sequence[PairExample], rng: np.random.Generator, *, clips: int, frames: int
) -> ResidualBatch:
    """Random crops of random pairs: half of them from neutral, each kind of pair as likely as another."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for index, example in enumerate(examples):
        kinds.setdefault(example.kind, []).append(index)
    names = sorted(kinds)
    odds = np.array([_odds(kind) for kind in names])
    rows = []
    for _ in range(clips):
        kind = names[rng.choice(len(names), p=odds / odds.sum())]
        rows.append(_varied(examples[kinds[kind][rng.integers(len(kinds[kind]))]], rng, frames))
    return _stacked(rows)


def _odds(kind: tuple[str, str]) -> float:
    source, target = kind
    if source == target:
        return 0.4
    return 3.0 if source == "neutral" else 1.0 if target == "neutral" else 0.5


def _varied(example: PairExample, rng: np.random.Generator, frames: int) -> dict[str, np.ndarray]:
    """One crop as another speaker at another tempo might have given it, at a random strength."""
    tempo, warp = np.exp(rng.uniform(-0.2, 0.2)), np.exp(rng.uniform(-0.13, 0.13))
    position = np.arange(round(len(example.source) * tempo)) / tempo
    start = int(rng.integers(max(len(position) - frames, 0) + 1))
    position = position[start : start + frames]
    source, residual = _resampled(example.source, position), _resampled(example.residual, position)
    trust = _resampled(example.trust, position)
    bands = _warped_bands(warp)
    source[:, 3 : 3 + BANDS] = source[:, 3 : 3 + BANDS] @ bands
    residual[:, ENVELOPE] = residual[:, ENVELOPE] @ bands
    residual[:, ENVELOPE] -= residual[:, ENVELOPE].mean(axis=1, keepdims=True)
    mean = _resampled(example.mean, position)
    mean[:, ENVELOPE] = mean[:, ENVELOPE] @ bands
    speaker = example.speaker + 0.15 * rng.standard_normal(STATISTICS).astype(np.float32)
    speaker[0] += rng.uniform(-0.5, 0.5)
    share = rng.uniform() if rng.uniform() < 0.7 else 0.0  # how much of the take's own way, beside the bank's
    strength = rng.uniform(0.2, 1.3)
    way = share * example.taken + (1 - share) * example.known
    jitter = 0.15 * rng.standard_normal(way.shape) * np.abs(example.place).mean()
    place = example.place + jitter
    return _padded(
        {
            "source": source,
            "residual": residual,
            "trust": _columns(trust) * example.weight,
            "mean": mean,
            "speaker": speaker,
            "place": place,
            "target": (place + strength * way)[None],
            "hint": np.array(float(rng.uniform() < HINTED)),
        },
        frames,
    )


def example_batch(examples: Sequence[PairExample], *, frames: int = 480) -> ResidualBatch:
    """Pairs as they are, from their beginnings, moved by the bank's directions at full strength, no prior mean told."""
    return _stacked([_padded(_plain(example, frames), frames) for example in examples])


def _plain(example: PairExample, frames: int) -> dict[str, np.ndarray]:
    return {
        "source": example.source[:frames],
        "residual": example.residual[:frames],
        "trust": example.trust_columns()[:frames],
        "mean": example.mean[:frames],
        "speaker": example.speaker,
        "place": example.place,
        "target": (example.place + example.known)[None],
        "hint": np.array(0.0),
    }


def _padded(row: dict[str, np.ndarray], frames: int) -> dict[str, np.ndarray]:
    for name in ("source", "residual", "trust", "mean"):
        missing = ((0, frames - len(row[name])), (0, 0))
        held = name in ("source", "mean")
        row[name] = np.pad(row[name], missing, mode="edge") if held else np.pad(row[name], missing)
    return row


def _stacked(rows: Sequence[dict[str, np.ndarray]]) -> ResidualBatch:
    joined = {name: np.stack([row[name] for row in rows]).astype(np.float32) for name in rows[0]}
    return ResidualBatch(**{name: torch.from_numpy(array) for name, array in joined.items()})


def _resampled(
    rows: Float[np.ndarray, "there width"], position: Float[np.ndarray, "frame"]
) -> Float[np.ndarray, "frame width"]:
    low = np.minimum(position.astype(np.int64), len(rows) - 1)
    high = np.minimum(low + 1, len(rows) - 1)
    share = (position - low)[:, None]
    return (rows[low] * (1 - share) + rows[high] * share).astype(np.float32)


def _warped_bands(factor: float) -> Float[np.ndarray, "24 24"]:
    """The matrix that reads an envelope at frequencies `factor` times as high: another length of the vocal tract."""
    centres = band_centres()
    at = np.interp(centres * factor, centres, np.arange(BANDS))
    low = np.minimum(at.astype(np.int64), BANDS - 2)
    matrix = np.zeros((BANDS, BANDS))
    matrix[low, np.arange(BANDS)] = 1 - (at - low)
    matrix[low + 1, np.arange(BANDS)] = at - low
    return matrix
