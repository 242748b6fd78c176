"""Trains the beat tracker: `affetto train beat-tracker`.

POP909's notes lie on their beats like clockwork, so each excerpt is played anew: tempo bends and breathes, chords are
spread, fingers stray, notes are left out; the beats bend with it.
"""

import dataclasses
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from affetto.generators.music.dataset import part_of_split
from affetto.generators.music.songs import read_beats
from affetto.media.midi import parse_midi
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.tokenizers.beat_tracker import (
    FRAMES,
    BeatNetwork,
    BeatNetworkConfig,
    BeatTracker,
    best_bars,
    best_beats,
    onset_features,
    snapped,
)
from affetto.weights.store import read_arrays, save_tensors

TOLERANCE_S = 0.07  # of a beat that counts as found


@dataclass(frozen=True, kw_only=True)
class BeatRecipe:
    """Settings of the training; the defaults made the shipped weights."""

    network: BeatNetworkConfig = field(default_factory=BeatNetworkConfig)
    crop_s: float = 20.0
    batch: int = 12
    rate: float = 3e-3
    warmup_share: float = 0.05
    downbeat_weight: float = 1.5
    played_share: float = 0.9  # of the excerpts; the others stay as they are


@dataclass(frozen=True, kw_only=True, eq=False)
class Performance:
    """Notes (start s, duration s, pitch, velocity) and where their beats and bars lie."""

    notes: Float64[np.ndarray, "note 4"]
    beats: Float64[np.ndarray, "beat"]
    downbeats: Bool[np.ndarray, "beat"]


@dataclass(frozen=True, kw_only=True)
class BeatScores:
    """F-measures within 70 ms, means over songs; and the share of songs whose beats are nearly all right."""

    beat: float
    downbeat: float
    median: float  # of the songs' beat F
    songs: int


def read_performances(data: Path, split: str) -> list[Performance]:
    """The songs of POP909 in one part of the split, with their beats."""
    folder = data / "music" if (data / "music").is_dir() else data
    archive = folder / "pop909.zip"
    if not archive.is_file():
        raise InvalidInputError(f"{archive}: no such file: put the archive there")
    found = []
    with zipfile.ZipFile(archive) as files:
        for entry in sorted(name for name in files.namelist() if name.endswith(".mid")):
            if part_of_split(Path(entry).stem) != split:
                continue
            grid = read_beats(files.read(f"{entry.rsplit('/', 1)[0]}/beat_midi.txt"))
            notes = parse_midi(files.read(entry), name=entry).timed_notes()
            found.append(Performance(notes=notes, beats=grid.times, downbeats=grid.downbeats))
    return found


def played(piece: Performance, rng: np.random.Generator) -> Performance:
    """The piece as somebody might play it: another tempo that drifts, sways and slows, spread chords, stray fingers."""
    count = len(piece.beats)
    drift = np.zeros(count)
    noise = rng.normal(0.0, rng.uniform(0.0, 0.03), count)
    for index in range(1, count):
        drift[index] = 0.93 * drift[index - 1] + noise[index]
    phrase = rng.integers(8, 33)
    sway = rng.uniform(0.0, 0.1) * np.sin(2 * np.pi * (np.arange(count) / phrase + rng.random()))
    held = np.where(rng.random(count) < 0.02, rng.uniform(0.0, 0.3), 0.0)  # a breath between phrases
    gaps = np.diff(piece.beats) * np.exp(rng.uniform(-0.35, 0.35) + (drift + sway + held)[1:])
    beats = np.concatenate([[0.0], np.cumsum(gaps)]) + 0.5

    def warped(seconds: np.ndarray) -> np.ndarray:
        before = np.minimum(seconds - piece.beats[0], 0.0) * gaps[0] / (piece.beats[1] - piece.beats[0])
        return np.interp(seconds, piece.beats, beats) + before

    notes = piece.notes[rng.random(len(piece.notes)) >= rng.uniform(0.0, 0.25)].copy()
    start, end = warped(notes[:, 0]), warped(notes[:, 0] + notes[:, 1])
    # chords from the bottom up, the melody a little early
    order = np.lexsort((notes[:, 2], np.round(notes[:, 0], 3)))
    together = np.diff(np.round(notes[order, 0], 3), prepend=-1.0) == 0
    rank = np.arange(len(notes)) - np.maximum.accumulate(np.where(together, 0, np.arange(len(notes))))
    spread = np.empty(len(notes))
    spread[order] = rank * rng.uniform(0.0, 0.012)
    start = start + spread + rng.normal(0.0, rng.uniform(0.002, 0.022), len(notes))
    length = np.maximum((end - start) * np.exp(rng.uniform(-0.5, 0.6)), 0.03)
    velocity = (
        64.0
        + rng.uniform(0.0, 1.2) * (notes[:, 3] - notes[:, 3].mean())
        + rng.normal(0, rng.uniform(1, 10), len(notes))
    )
    pitch = notes[:, 2] + rng.integers(-6, 7)
    moved = np.stack([start, length, pitch, np.clip(velocity, 5.0, 127.0)], axis=1)
    moved = moved[(start > 0) & (pitch >= 0) & (pitch <= 127)]
    return Performance(
        notes=moved[np.argsort(moved[:, 0], kind="stable")], beats=beats, downbeats=piece.downbeats
    )


def excerpt(
    piece: Performance, seconds: float, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "channel frame"], Float[np.ndarray, "2 frame"]]:
    """Features and targets of some seconds from anywhere in a piece; frames beside a beat count for half."""
    frames = round(seconds * FRAMES)
    begin = rng.uniform(-2.0, max(float(piece.beats[-1]) - seconds, 0.0) + 2.0)
    notes = piece.notes[(piece.notes[:, 0] >= begin) & (piece.notes[:, 0] < begin + seconds)].copy()
    notes[:, 0] -= begin
    targets = np.zeros((2, frames), np.float32)
    for row, times in enumerate((piece.beats, piece.beats[piece.downbeats])):
        middle = np.round((times - begin) * FRAMES).astype(np.int64)
        for shift, value in ((-1, 0.5), (1, 0.5), (0, 1.0)):
            inside = (middle + shift >= 0) & (middle + shift < frames)
            targets[row, middle[inside] + shift] = np.maximum(targets[row, middle[inside] + shift], value)
    return onset_features(notes, frames), targets


def beat_loss(
    logits: Float[Tensor, "clip 2 frame"], targets: Float[Tensor, "clip 2 frame"], recipe: BeatRecipe
) -> Tensor:
    """Binary cross-entropy of beats plus that of down-beats, rare frames weighing more."""
    weight = 1.0 + 4.0 * targets
    each = F.binary_cross_entropy_with_logits(logits.float(), targets, weight=weight, reduction="none").mean(
        dim=(0, 2)
    )
    return each[0] + recipe.downbeat_weight * each[1]


def train_beat_tracker(
    data: Path,
    output: Path,
    *,
    seconds: float = 900.0,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "cpu",
    recipe: BeatRecipe | None = None,
    progress: ProgressCallback | None = None,
) -> Mapping[str, object]:
    """Train on POP909 in `data` for `seconds`, write the tracker to `output`, return its scores on the test songs.

    About every minute the averaged network and the clock go to `<output>.checkpoint.safetensors`; `resume` goes on from it
    with a fresh optimiser. The scores stand beside those of the same search on bare onsets.
    """
    recipe, place = recipe or BeatRecipe(), resolve_device(device)
    pieces = read_performances(data, "train")
    checkpoint = output.with_suffix(".checkpoint.safetensors")
    kept = torch.random.get_rng_state()
    torch.manual_seed(seed)
    network, average = BeatNetwork(recipe.network).to(place), BeatNetwork(recipe.network).to(place)
    torch.random.set_rng_state(kept)
    spent, step = 0.0, 0
    if resume and checkpoint.exists():
        arrays, metadata = read_arrays(checkpoint)
        network.load_state_dict({name: torch.from_numpy(values).float() for name, values in arrays.items()})
        spent, step = float(metadata["spent"]), int(metadata["step"])
    average.load_state_dict(network.state_dict())
    rng = np.random.default_rng([seed, step])
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=0.01)
    begun, saved, tick, running = step, spent, time.monotonic(), 0.0
    network.train()
    while spent < seconds:
        rate = recipe.rate * min(1.0, (step - begun + 1) / 50) * _schedule(spent / seconds, recipe)
        for group in optimiser.param_groups:
            group["lr"] = rate
        features, targets = _batch(pieces, recipe, rng)
        loss = beat_loss(network(features.to(place)), targets.to(place), recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            decay = min(0.995, (1 + step) / (10 + step))
            for mean, newest in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(newest, 1.0 - decay)
        running = loss.item() if running == 0 else 0.98 * running + 0.02 * loss.item()
        now = time.monotonic()
        spent, tick = spent + now - tick, now
        if spent - saved > 60.0 or spent >= seconds:
            saved = spent
            _save(checkpoint, average, {"spent": f"{spent:.2f}", "step": str(step)})
            if progress is not None:
                done = round(100 * min(spent / seconds, 1.0))
                progress(
                    ProgressEvent(stage="beats", done=done, total=100, message=f"step {step}: {running:.4f}")
                )
    _save(output, average, {"songs": str(len(pieces)), "seed": str(seed)})
    return {
        "steps": step,
        "loss": running,
        **tracker_scores(data, BeatTracker.from_pretrained(output), seed=seed),
    }


def _schedule(fraction: float, recipe: BeatRecipe) -> float:
    if fraction < recipe.warmup_share:
        return max(fraction / recipe.warmup_share, 0.05)
    along = (fraction - recipe.warmup_share) / (1 - recipe.warmup_share)
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * min(along, 1.0))))


def _batch(
    pieces: Sequence[Performance], recipe: BeatRecipe, rng: np.random.Generator
) -> tuple[Float[Tensor, "clip channel frame"], Float[Tensor, "clip 2 frame"]]:
    drawn = []
    for _ in range(recipe.batch):
        piece = pieces[int(rng.integers(len(pieces)))]
        drawn.append(
            excerpt(played(piece, rng) if rng.random() < recipe.played_share else piece, recipe.crop_s, rng)
        )
    features, targets = (torch.from_numpy(np.stack(each)) for each in zip(*drawn, strict=True))
    return features, targets


def _save(path: Path, network: BeatNetwork, clock: Mapping[str, str]) -> None:
    config = {"config": json.dumps(dataclasses.asdict(network.config))}
    tensors = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    save_tensors(path, tensors, {**config, **clock})


def f_measure(found: Float64[np.ndarray, "found"], wanted: Float64[np.ndarray, "beat"]) -> float:
    """The F-measure of times found within 70 ms of times wanted, each used once."""
    if len(found) == 0 or len(wanted) == 0:
        return float(len(found) == len(wanted))
    hits = at = 0
    for time_s in wanted:
        while at < len(found) and found[at] < time_s - TOLERANCE_S:
            at += 1
        if at < len(found) and found[at] <= time_s + TOLERANCE_S:
            hits, at = hits + 1, at + 1
    return 2.0 * hits / (len(found) + len(wanted))


def tracker_scores(
    data: Path, tracker: BeatTracker, *, split: str = "test", seed: int = 0, most: int | None = None
) -> dict[str, BeatScores]:
    """The tracker on songs it has not heard: `played` anew and as `recorded`; and the search on bare onsets."""
    pieces = read_performances(data, split)[:most]
    rng = np.random.default_rng(seed)
    sets = {"played": [played(piece, rng) for piece in pieces], "recorded": pieces}
    scores = {name: _scores(tracker, each) for name, each in sets.items()}
    return scores | {"played, onsets only": _scores(tracker, sets["played"], bare=True)}


def _scores(tracker: BeatTracker, pieces: Sequence[Performance], *, bare: bool = False) -> BeatScores:
    beats, downs = [], []
    for piece in pieces:
        if bare:
            onsets = onset_features(piece.notes)
            beat = np.clip(onsets[1] / max(float(np.percentile(onsets[1], 98)), 1e-3), 0.01, 0.95).astype(
                np.float64
            )
            frames = best_beats(beat, tracker.search)
            times, down = (
                snapped(frames / FRAMES, piece.notes),
                best_bars(beat[frames], 0.25 * beat[frames], tracker.search),
            )
        else:
            grid = tracker.track(piece.notes)
            times, down = grid.times, grid.downbeats
        heard = (piece.beats > piece.notes[0, 0] - 0.1) & (piece.beats < piece.notes[-1, 0] + 0.1)
        beats.append(f_measure(times, piece.beats[heard]))
        downs.append(f_measure(times[down], piece.beats[heard & piece.downbeats]))
    return BeatScores(
        beat=float(np.mean(beats)),
        downbeat=float(np.mean(downs)),
        median=float(np.median(beats)),
        songs=len(pieces),
    )
