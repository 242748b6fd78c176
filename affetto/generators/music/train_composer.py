"""The recipe behind `affetto train music-composer`: POP909 and the chorales in one key, then the network."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from affetto.generators.music.composer_data import (
    FaderScale,
    SongBars,
    load_song_bars,
    melody_role,
    save_song_bars,
    shifted_attributes,
    song_bars,
)
from affetto.generators.music.composer_net import (
    FADERS,
    HEAD_COLUMN,
    HEADS,
    ComposerBatch,
    ComposerConfig,
    ComposerNet,
    counted_words,
)
from affetto.generators.music.composer_windows import Windows
from affetto.generators.music.dataset import assembled
from affetto.generators.music.grammar import SIZES
from affetto.generators.music.harmony import HarmonyModel
from affetto.generators.music.model import ComposerModel
from affetto.generators.music.songs import Song, read_songs
from affetto.runtime.device import autocast, resolve_device
from affetto.runtime.errors import UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.tokenizers.compound import Words, encode
from affetto.weights.store import read_arrays

_BATCH, _WORDS = 5, 512
_WEIGHTS = {"family": 1.0, "position": 1.0, "pitch": 1.0, "duration": 0.7, "velocity": 0.4}
_RATE, _WARM = 2e-3, 60
_DECAY = 0.3  # the last share of the budget, over which the rate falls to zero
_SAVE_EVERY_S, _CHECK_EVERY_S = 60.0, 400.0  # of processor time
_FEW_NOTES = 24  # in a song worth learning from


@dataclass(frozen=True, kw_only=True)
class ComposerScores:
    """Mean negative log likelihood in nats for each column where it occurs, on held-out songs.

    `unigram` and `bigram` are what counting the training words reaches (the bigram: given the same column of the word
    before).
    """

    network: Mapping[str, float]
    unigram: Mapping[str, float]
    bigram: Mapping[str, float]
    words: int  # that the network has seen, with repetitions


def train_composer(
    data: Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> ComposerScores:
    """Train on the songs in `data` for `seconds` of processor time, write `output`, return scores on held-out songs.

    `data` holds pop909.zip and chorales_and_tunes.zip. The rate is held and falls at the end; `resume` goes on from
    `output`, with the rate falling from the start.
    """
    if seconds <= 0:
        raise UsageError(f"training needs a positive time budget, got {seconds:g} s")
    songs, held_out = load_songs(data, output.with_name(f"{output.stem}-songs.npz"), progress=progress)
    trainer = ComposerTrainer(songs, held_out, seed=seed, device=resolve_device(device))
    trainer.progress, trainer.cancel = progress, cancel
    if resume and output.exists():
        trainer.load(output)
    trainer.train(seconds, decay=1.0 if resume else _DECAY, save=lambda: trainer.save(output))
    scores = trainer.scores()
    trainer.save(output, {"scores": json.dumps(dataclasses.asdict(scores), sort_keys=True)}, half=True)
    return scores


def load_songs(
    data: Path, cache: Path, *, progress: ProgressCallback | None = None
) -> tuple[list[SongBars], list[SongBars]]:
    """The songs to learn from and those held out for validation, read from the archives once and kept in `cache`."""
    if not cache.exists():
        pairs: list[tuple[Song, Words]] = []
        for song in read_songs(data):
            words = encode(song.score)
            if words.is_note.sum() >= _FEW_NOTES:
                pairs.append((song, words))
            if progress is not None and len(pairs) % 50 == 0:
                progress(ProgressEvent(stage="songs", done=len(pairs), total=1291, message=song.name))
        splits = assembled(pairs).splits
        bars = [
            song_bars(words, melody_role(song.score, words), name=song.name, source=song.source)
            for song, words in pairs
        ]
        save_song_bars(cache, bars, splits)
    songs, splits = load_song_bars(cache)
    return (
        [song for song, split in zip(songs, splits, strict=True) if split == 0],
        [song for song, split in zip(songs, splits, strict=True) if split == 1],
    )


def fit_scale(songs: list[SongBars], *, seed: int = 0) -> FaderScale:
    """Fader levels that hold equally many bars of `songs`, as the training windows change them."""
    rng = np.random.default_rng(seed)
    moved = [
        shifted_attributes(
            song.attributes,
            semitones=float(rng.integers(-6, 6)),
            louder=4.0 * int(rng.integers(-11, 4)),
            faster=float(np.exp(rng.uniform(-0.25, 0.25))),
        )
        for song in songs
        if song.source == "pop909"
        for _ in range(4)
    ]
    return FaderScale.fit(np.concatenate(moved)[:, : len(FADERS)])


class ComposerTrainer:
    """Holds the network and its data and runs the optimisers: Muon for the matrices of the blocks, AdamW for the rest."""

    def __init__(
        self,
        songs: list[SongBars],
        held_out: list[SongBars],
        *,
        seed: int,
        device: torch.device,
        config: ComposerConfig | None = None,
        batch: int = _BATCH,
        words: int = _WORDS,
    ) -> None:
        self.songs, self.seed, self.device, self.batch = songs, seed, device, batch
        self.progress: ProgressCallback | None = None
        self.cancel: CancelToken | None = None
        self.scale = fit_scale(songs)
        self.harmony = HarmonyModel.fit(
            [(song.chords, song.mode) for song in songs if song.source == "pop909"]
        )
        self.windows = Windows(songs, self.scale, words=words)
        self.checks = Windows([song for song in held_out if song.source == "pop909"], self.scale, words=words)
        self.seen = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = ComposerNet(config).to(device)

    def load(self, path: Path) -> None:
        """Go on from the network in `path`."""
        arrays, metadata = read_arrays(path)
        own = self.net.state_dict()
        self.net.load_state_dict(
            {name: torch.from_numpy(arrays[name]).to(value.dtype) for name, value in own.items()}
        )
        self.seen = int(metadata.get("words", 0))

    def save(self, path: Path, metadata: Mapping[str, str] | None = None, *, half: bool = False) -> None:
        """Write the model; `half` as it is shipped, else in full precision to go on from."""
        model = ComposerModel(net=self.net, scale=self.scale, harmony=self.harmony)
        known = {"seed": str(self.seed), "words": str(self.seen)}
        model.save(path, {**known, **(metadata or {})}, half=half)

    def train(self, seconds: float, *, decay: float, save: Callable[[], None]) -> None:
        """Run for `seconds` of processor time; the rate falls over the last `decay` of it."""
        optimisers = self._optimisers()
        rng = np.random.default_rng([self.seed, 1, self.seen])
        began, step, saved, checked, recent = time.process_time(), 0, 0.0, 0.0, math.nan
        while (done := (time.process_time() - began) / seconds) < 1.0:
            share = min(1.0, (step + 1) / _WARM) * min(1.0, (1.0 - done) / decay)
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = _RATE * share
            loss = self._step(optimisers, rng)
            recent = loss if math.isnan(recent) else 0.95 * recent + 0.05 * loss
            step += 1
            if self.cancel is not None:
                self.cancel.check()
            message = f"step {step} loss {recent:.4f}"
            if done * seconds > saved + _SAVE_EVERY_S:
                saved = done * seconds
                save()
            if done * seconds > checked + _CHECK_EVERY_S:
                checked = done * seconds
                found = self.network_scores(rounds=4)
                message += " | " + " ".join(f"{name} {value:.3f}" for name, value in found.items())
            if self.progress is not None and (step % 20 == 0 or "|" in message):
                self.progress(
                    ProgressEvent(stage="composer", done=round(1000 * done), total=1000, message=message)
                )

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        matrices = [value for value in self.net.blocks.parameters() if value.ndim == 2]
        others = [value for value in self.net.parameters() if all(value is not matrix for matrix in matrices)]
        return [
            torch.optim.Muon(matrices, lr=_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=_RATE, betas=(0.9, 0.97), weight_decay=0.0),
        ]

    def _step(self, optimisers: list[torch.optim.Optimizer], rng: np.random.Generator) -> float:
        batch, counted = self.windows.batch(self.batch, rng)
        batch, counted = batch.to(self.device), counted.to(self.device)
        with autocast(self.device, torch.bfloat16):
            found = self._losses(batch, counted)
        words = int(found["family_count"])
        loss = sum((_WEIGHTS[name] * found[name] for name in HEADS), torch.zeros(())) / words
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.seen += words
        return float(loss.detach())

    def _losses(self, batch: ComposerBatch, counted: Tensor) -> dict[str, Tensor]:
        state = self.net(batch)
        return self.net.losses(state[:, :-1], batch.words[:, 1:], counted)

    @torch.inference_mode()
    def network_scores(self, rounds: int = 24) -> dict[str, float]:
        """Mean negative log likelihood of each column over fixed windows of the held-out songs."""
        totals = dict.fromkeys(HEADS, 0.0)
        counts = dict.fromkeys(HEADS, 0)
        for index in range(rounds):
            batch, counted = self.checks.batch(4, np.random.default_rng([7, index]), plain=True)
            found = self._losses(batch.to(self.device), counted.to(self.device))
            for name in HEADS:
                totals[name] += float(found[name])
                counts[name] += int(found[f"{name}_count"])
        return {name: totals[name] / max(counts[name], 1) for name in HEADS}

    def scores(self) -> ComposerScores:
        """The network's scores beside those of counting, on the held-out songs."""
        train = np.concatenate([song.words for song in self.songs]).astype(np.int64)
        checks = np.concatenate([song.words for song in self.checks.songs]).astype(np.int64)
        return ComposerScores(
            network=self.network_scores(),
            unigram={name: counted_score(train, checks, name, context=False) for name in HEADS},
            bigram={name: counted_score(train, checks, name, context=True) for name in HEADS},
            words=self.seen,
        )


def counted_score(train: np.ndarray, checks: np.ndarray, column: str, *, context: bool) -> float:
    """The negative log likelihood that counting reaches for a column, alone or given that of the word before it."""
    size, index = SIZES[column], HEAD_COLUMN[column]

    def pairs(words: np.ndarray) -> np.ndarray:
        chosen = words[counted_words(words[:, 0], column)][:, index]
        before = np.concatenate([[0], chosen[:-1]]) * context
        return before * size + chosen

    counts = np.bincount(pairs(train), minlength=size * size).reshape(size, size) + 0.1
    table = np.log(counts / counts.sum(axis=1, keepdims=True))
    return -float(table.reshape(-1)[pairs(checks)].mean())
