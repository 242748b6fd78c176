"""The recipe behind `affetto train music-tokenizer`: songs -> six codes for each bar, one for each musical element."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Float32, Float64
from scipy.stats import rankdata
from torch import Tensor, nn

from affetto.media.midi import load_midi
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.progress import ProgressCallback
from affetto.tokenizers.compound import Words, encode
from affetto.tokenizers.disentangled import (
    ELEMENTS,
    FEATURES,
    SLICES,
    DisentangledConfig,
    DisentangledMusicTokenizer,
    DisentangledNetwork,
    bar_features,
    element_losses,
    element_values,
    expected,
)
from affetto.tokenizers.quantizers import code_statistics
from affetto.tokenizers.token_metrics import SwapMatrix, dci, mig, sap, swap_matrix
from affetto.tokenizers.training import Budget, held_out, train_for


@dataclass(frozen=True, kw_only=True)
class DisentangledRecipe:
    """Weights of the losses; the defaults made the shipped weights."""

    network: DisentangledConfig = field(default_factory=DisentangledConfig)
    batch: int = 256
    ordinal: float = 1.0  # the slider follows its element's number
    muser: float = 0.1  # and so does the mean of its group, as in MusER
    slid: float = 0.3  # with another bar's slider, a group decodes to the number of that bar
    crossed: float = 1.0  # groups of several bars decode to the elements they came from
    adversarial: float = 0.1  # other elements cannot be read from a group


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned around (Ganin & Lempitsky 2015)."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        del ctx
        return values.view_as(values)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        del ctx
        return -gradients[0]


def pair_regulariser(
    z: Float[Tensor, "item element"], values: Float[Tensor, "item element"], *, power: int = 1
) -> Float[Tensor, ""]:
    """How far pairs of items are from being ordered by `z` as by `values`: mean of |tanh(z_j - z_k) - sign(v_j - v_k)|^power.

    Power 1 is MusER's regulariser, all pairs at once where the published code loops over them; power 2 is Pati and Lerch's.
    """
    apart = torch.tanh(rearrange(z, "j e -> j 1 e") - rearrange(z, "k e -> 1 k e"))
    order = torch.sign(rearrange(values, "j e -> j 1 e") - rearrange(values, "k e -> 1 k e"))
    return ((apart - order).abs() ** power).mean()


class Adversary(nn.Module):
    """For each group a head that tries to read the elements that are not its own; the encoder learns to prevent it."""

    def __init__(self, axes: int, width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(axes, width), nn.GELU(), nn.Linear(width, FEATURES)) for _ in ELEMENTS
        )

    def forward(
        self, z: Float[Tensor, "bar element axis"], features: Float[Tensor, "bar feature"]
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of the heads; minimised by them, maximised through the reversed gradient by the encoder."""
        total = z.new_zeros(())
        for own, head in enumerate(self.heads):
            losses = element_losses(head(_Reversed.apply(z[:, own])), features)
            total = total + (losses.sum() - losses[own]) / (len(ELEMENTS) - 1)
        return total / len(ELEMENTS)


class _Training(nn.Module):
    """The network and its adversary, trained together."""

    def __init__(self, recipe: DisentangledRecipe) -> None:
        super().__init__()
        self.network = DisentangledNetwork(recipe.network)
        self.adversary = Adversary(len(recipe.network.levels))
        self.recipe = recipe

    def loss(
        self, features: Float[Tensor, "bar feature"], values: Float[Tensor, "bar 6"], order: Tensor
    ) -> Tensor:
        """All losses of a batch; `order` (bar, 6) says from which bar each crossed group comes."""
        recipe, network = self.recipe, self.network
        latents = network.latents(features)
        z = network.quantizer(latents).z
        total = element_losses(network.decoder(z), features).mean()
        groups = rearrange(z, "b (e d) -> b e d", e=len(ELEMENTS))
        raw = rearrange(latents, "b (e d) -> b e d", e=len(ELEMENTS))
        if recipe.ordinal:
            total = total + recipe.ordinal * pair_regulariser(raw[..., 0], values, power=2)
        if recipe.muser:
            total = total + recipe.muser * pair_regulariser(groups.mean(dim=-1), values)
        if recipe.slid:
            moved = groups.clone()
            moved[..., 0] = groups[order[:, 0], :, 0]
            decoded = expected(network.decoder(rearrange(moved, "b e d -> b (e d)")))
            wanted = network.values(features)[order[:, 0]]
            total = total + recipe.slid * F.smooth_l1_loss(network.values(decoded), wanted)
        if recipe.crossed:
            columns = torch.arange(len(ELEMENTS), device=order.device)
            mixed = rearrange(groups[order, columns], "b e d -> b (e d)")
            wanted = torch.cat([features[order[:, own], at] for own, at in enumerate(SLICES.values())], dim=1)
            total = total + recipe.crossed * element_losses(network.decoder(mixed), wanted).mean()
        if recipe.adversarial:
            total = total + recipe.adversarial * self.adversary(groups, features)
        return total


def train_music_tokenizer(
    data: Path,
    output: Path,
    *,
    seconds: float = 300.0,
    seed: int = 0,
    resume: bool = False,
    device: str | torch.device = "cpu",
    recipe: DisentangledRecipe | None = None,
    progress: ProgressCallback | None = None,
) -> Mapping[str, object]:
    """Train on the songs of `data` for `seconds`, write the tokenizer, return its figures on songs not trained on.

    `data` is a folder of MIDI files, or an .npz with `words` (word, 8), `song_words` (edges of songs) and, if it has them,
    `splits` (0 train, 2 test). Without splits about one song in ten is held out.
    """
    recipe = recipe or DisentangledRecipe()
    train, test = read_bars(data)
    place = resolve_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        training = _Training(recipe).to(place)

    def loss_of(rng: np.random.Generator, share: float) -> Tensor:
        del share
        rows = rng.integers(len(train), size=recipe.batch)
        order = rng.integers(recipe.batch, size=(recipe.batch, len(ELEMENTS)))
        bars = varied(train[rows], rng)
        numbers = element_values(bars).astype(np.float32)
        return training.loss(*(torch.from_numpy(each).to(place) for each in (bars, numbers, order)))

    budget = Budget(output=output, seconds=seconds, seed=seed, resume=resume, stage="music tokens")
    steps = train_for(training, loss_of, budget, progress)
    tokenizer = DisentangledMusicTokenizer(training.network)
    tokenizer.save(output, seed=str(seed), steps=str(steps), bars=str(len(train)))
    scores = disentangled_scores(tokenizer, test)
    return {
        "steps": steps,
        "bars": len(train),
        "held_out_bars": len(test),
        **scores.summary(),
    }


def varied(
    features: Float32[np.ndarray, "bar feature"], rng: np.random.Generator
) -> Float32[np.ndarray, "bar feature"]:
    """The bars in other keys, up to an octave higher or lower, softer or louder: recordings alone are all of one loudness."""
    bands = rng.integers(-3, 4, len(features))
    moves = {
        "pitch": bands,
        "velocity": rng.integers(-6, 3, len(features)),
        "harmony": 4 * bands + rng.integers(0, 4, len(features)),  # a band is four semitones
    }
    changed = features.copy()
    for name, move in moves.items():
        part, size = features[:, SLICES[name]], features[:, SLICES[name]].shape[1]
        place = np.arange(size) + move[:, None]
        place = place % size if name == "harmony" else np.clip(place, 0, size - 1)
        shifted = np.zeros_like(part)
        np.add.at(shifted, (np.arange(len(part))[:, None], place), part)
        changed[:, SLICES[name]] = shifted
    return changed


def read_bars(
    data: Path,
) -> tuple[Float32[np.ndarray, "bar feature"], Float32[np.ndarray, "held feature"]]:
    """The features of all bars with notes: of songs to train on, of songs held out."""
    songs, out = _npz_songs(data) if data.suffix.lower() == ".npz" else _midi_songs(data)
    parts = []
    for held in (False, True):
        bars = [bar_features(song) for song, where in zip(songs, out, strict=True) if where == held]
        features = np.concatenate(bars) if bars else np.zeros((0, FEATURES), np.float32)
        parts.append(features[features[:, SLICES["rhythm"]].any(axis=1)])
    if min(len(part) for part in parts) < 2:
        raise InvalidInputError(f"{data}: two songs or more with notes are needed, one of them to measure on")
    return parts[0], parts[1]


def _npz_songs(path: Path) -> tuple[list[Words], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            words, edges = file["words"].astype(np.int16), file["song_words"]
            splits = file.get("splits", None)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInputError(f"{path}: no words of songs ({error}): give words and song_words") from error
    songs = [Words(ids=words[low:high]) for low, high in itertools.pairwise(edges)]
    if splits is None:
        return songs, held_out([str(index) for index in range(len(songs))])
    kept = splits != 1  # validation songs are for whoever chooses settings
    return [song for song, use in zip(songs, kept, strict=True) if use], splits[kept] == 2


def _midi_songs(folder: Path) -> tuple[list[Words], np.ndarray]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi"))
    if not paths:
        raise InvalidInputError(f"{folder}: no MIDI files: put .mid files there")
    songs = [encode(load_midi(path)) for path in paths]
    return songs, held_out([path.relative_to(folder).as_posix() for path in paths])


@dataclass(frozen=True, kw_only=True, eq=False)
class DisentangledScores:
    """How well codes of bars hold what they should; one value per element where there are several."""

    error: Float64[np.ndarray, "6"]  # mean absolute, of `element_values` after decoding
    mean_error: Float64[np.ndarray, "6"]  # of always answering the mean of these bars
    correlation: Float64[np.ndarray, "6"]  # Spearman's, of slider and number
    monotone: Float64[
        np.ndarray, "6"
    ]  # share of single steps of the slider that do not lower the decoded number
    sweep: Float64[np.ndarray, "6 2"]  # mean decoded number with the slider at its ends
    swaps: SwapMatrix
    mig: float  # of the sliders against the numbers
    sap: float
    disentanglement: float  # DCI
    usage: float
    perplexity: float

    def summary(self) -> dict[str, object]:
        """The figures by name."""
        return {
            "error": dict(zip(ELEMENTS, self.error.round(4).tolist(), strict=True)),
            "slider_spearman": dict(zip(ELEMENTS, self.correlation.round(4).tolist(), strict=True)),
            "slider_monotone": dict(zip(ELEMENTS, self.monotone.round(4).tolist(), strict=True)),
            "swap_diagonal_dominant": self.swaps.diagonal_dominant,
            "swap_leakage": round(self.swaps.leakage, 4),
            "mig": round(self.mig, 4),
            "sap": round(self.sap, 4),
            "dci_disentanglement": round(self.disentanglement, 4),
            "usage": round(self.usage, 4),
            "perplexity": round(self.perplexity, 1),
        }


def disentangled_scores(
    tokenizer: DisentangledMusicTokenizer,
    features: Float32[np.ndarray, "bar feature"],
    *,
    most: int = 4000,
    seed: int = 0,
) -> DisentangledScores:
    """The scores on bars, at most `most` of them drawn at random; swaps and sweeps are read from decoded bars."""
    rng = np.random.default_rng(seed)
    bars = features[rng.permutation(len(features))[:most]]
    numbers, codes = element_values(bars), tokenizer.encode(bars)
    sliders, decoded = tokenizer.sliders(codes), tokenizer.values(codes)
    swept = np.stack(
        [
            np.stack(
                [
                    tokenizer.values(tokenizer.slid(codes, element, level))[:, own]
                    for level in range(tokenizer.network.config.levels[0])
                ]
            )
            for own, element in enumerate(ELEMENTS)
        ]
    )
    swaps = swap_matrix(
        lambda given: tokenizer.values(given[..., 0]), codes[..., None], groups=ELEMENTS, attributes=ELEMENTS, seed=seed
    )  # fmt: skip
    spread = code_statistics(torch.from_numpy(codes), tokenizer.network.quantizer.codes)
    ranks = [rankdata(each, axis=0).T for each in (sliders, numbers)]
    return DisentangledScores(
        error=np.abs(decoded - numbers).mean(axis=0),
        mean_error=np.abs(numbers - numbers.mean(axis=0)).mean(axis=0),
        correlation=np.array([_correlation(a, b) for a, b in zip(*ranks, strict=True)]),
        monotone=(np.diff(swept, axis=1) > -1e-6).mean(axis=(1, 2)),
        sweep=swept[:, [0, -1]].mean(axis=2),
        swaps=swaps,
        mig=mig(sliders, numbers),
        sap=sap(sliders, numbers),
        disentanglement=dci(sliders, numbers).disentanglement if len(bars) >= 6 else 0.0,
        usage=spread.usage,
        perplexity=spread.perplexity,
    )


def _correlation(a: Float64[np.ndarray, "item"], b: Float64[np.ndarray, "item"]) -> float:
    """Pearson's correlation; 0 when one of them never changes."""
    size = np.linalg.norm(a - a.mean()) * np.linalg.norm(b - b.mean())
    return float((a - a.mean()) @ (b - b.mean()) / size) if size > 0 else 0.0
