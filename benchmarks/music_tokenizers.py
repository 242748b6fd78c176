"""Quantisers side by side, and what the codes of music keep apart: the figures of docs/tokenizers.md.

    python benchmarks/music_tokenizers.py [--seconds 5] [--data BARS] [--tokenizer embedded|FILE] [--plain 60]

Each quantiser stands in the middle of the same small autoencoder, trained as long as the others on correlated synthetic data;
with --data (an .npz of songs or a folder of MIDI files, as for `affetto train music-tokenizer`) on bars of music too. With
--tokenizer the music tokenizer is measured on the songs held out; --plain trains one without its disentangling losses for so
many seconds, to compare.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from affetto.tokenizers.disentangled import ELEMENTS, DisentangledMusicTokenizer
from affetto.tokenizers.perturbed import PerturbedQuantizer
from affetto.tokenizers.quantizers import (
    FSPQuantizer,
    FSQuantizer,
    JointQuantizer,
    QuantizerBase,
    RVQuantizer,
    SimVQuantizer,
    VQQuantizer,
)
from affetto.tokenizers.train_disentangled import (
    DisentangledRecipe,
    DisentangledScores,
    disentangled_scores,
    read_bars,
    train_music_tokenizer,
)

DIM = 4
QUANTIZERS = {
    "FSQ 8 5 5 5": lambda: FSQuantizer((8, 5, 5, 5)),
    "FSP 8 5 5 5": lambda: FSPQuantizer((8, 5, 5, 5)),
    "VQ-EMA 1000": lambda: VQQuantizer(DIM, 1000),
    "RVQ 2 x 32": lambda: RVQuantizer(DIM, 32, books=2),
    "SimVQ 1000": lambda: SimVQuantizer(DIM, 1000),
    "VP 256": lambda: PerturbedQuantizer(DIM, 256, cell=8),
    "OneVAE 8 5 5 5": lambda: JointQuantizer((8, 5, 5, 5), DIM),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of training for each quantiser, 0: none")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokenizer")
    parser.add_argument("--plain", type=float, default=0.0)
    options = parser.parse_args()
    sets = {"correlated": (synthetic(20_000, 0), synthetic(4_000, 1))}
    bars = read_bars(options.data) if options.data else None
    if bars is not None:
        sets["bars of music"] = bars
    for name, (train, test) in sets.items() if options.seconds > 0 else ():
        print(f"\n{name}: {train.shape[1]} values, {len(test)} items not trained on")
        print(
            "| quantiser | explained | usage | perplexity | bits | steps | ktok/s |\n|---|---|---|---|---|---|---|"
        )
        for label, make in QUANTIZERS.items():
            torch.manual_seed(0)
            print(row(label, make(), torch.from_numpy(train), torch.from_numpy(test), options.seconds))
    if bars is None:
        return
    if options.tokenizer:
        tokenizer = DisentangledMusicTokenizer.from_pretrained(options.tokenizer, device="cpu")
        report("music tokenizer", disentangled_scores(tokenizer, bars[1]))
    if options.plain:
        report("without its disentangling losses", plain_scores(options.data, bars[1], options.plain))


def synthetic(count: int, seed: int) -> np.ndarray:
    """Values (count, 16) that four hidden causes move, with a bend and a little noise."""
    mixing = np.random.default_rng(7).normal(size=(4, 16))
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(count, 4)) * [1.5, 1.0, 0.7, 0.4]
    values = np.tanh(causes @ mixing) + 0.02 * rng.normal(size=(count, 16))
    return values.astype(np.float32)


def row(label: str, quantizer: QuantizerBase, train: Tensor, test: Tensor, seconds: float) -> str:
    """One line of the table; time is processor time."""
    width = train.shape[1]
    encoder = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, DIM))
    decoder = nn.Sequential(nn.Linear(DIM, 64), nn.GELU(), nn.Linear(64, width))
    whole = nn.ModuleList([encoder, quantizer, decoder])
    optimiser = torch.optim.AdamW(whole.parameters(), lr=2e-3)
    scale, steps, begun = train.var(dim=0).mean(), 0, time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        if isinstance(quantizer, JointQuantizer):
            quantizer.discrete_share = min(spent / seconds, 0.5)
        batch = train[torch.randint(len(train), (256,))]
        out = quantizer(encoder(batch))
        loss = ((decoder(out.z) - batch) ** 2).mean() / scale + out.loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps += 1
    with torch.no_grad():
        if isinstance(quantizer, PerturbedQuantizer):
            quantizer.fit_codebook(encoder(train[:16_384]))
        whole.eval()
        latents = encoder(test)
        out = quantizer(latents)
        explained = 1 - float(((decoder(out.z) - test) ** 2).mean() / test.var(dim=0).mean())
        rounds, begun = 0, time.process_time()
        while time.process_time() - begun < 0.5:
            quantizer(latents)
            rounds += 1
        speed = rounds * len(latents) / (time.process_time() - begun) / 1000
    stats = out.stats
    return (
        f"| {label} | {explained:.3f} | {stats.usage:.2f} | {stats.perplexity:.0f} of {quantizer.codes} "
        f"| {stats.bits:.1f} | {steps} | {speed:.0f} |"
    )


def plain_scores(data: Path, test: np.ndarray, seconds: float) -> DisentangledScores:
    """The scores of the same network that only learns to reconstruct."""
    recipe = DisentangledRecipe(ordinal=0.0, muser=0.0, slid=0.0, crossed=0.0, adversarial=0.0)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "plain.safetensors"
        train_music_tokenizer(data, output, seconds=seconds, recipe=recipe)
        return disentangled_scores(DisentangledMusicTokenizer.from_pretrained(output, device="cpu"), test)


def report(name: str, scores: DisentangledScores) -> None:
    """Two tables and a line."""
    print(f"\n{name}, songs not trained on")
    print("| element | error | of the mean | Spearman | monotone | sweep |\n|---|---|---|---|---|---|")
    for index, element in enumerate(ELEMENTS):
        low, high = scores.sweep[index]
        print(
            f"| {element} | {scores.error[index]:.2f} | {scores.mean_error[index]:.2f} "
            f"| {scores.correlation[index]:.3f} | {scores.monotone[index]:.3f} | {low:.2f} to {high:.2f} |"
        )
    print(f"\n{scores.swaps.table()}")
    print(
        f"\nleakage {scores.swaps.leakage:.3f}, diagonal-dominant: {scores.swaps.diagonal_dominant}; of the sliders MIG "
        f"{scores.mig:.3f}, SAP {scores.sap:.3f}, DCI disentanglement {scores.disentanglement:.3f}; codes used "
        f"{scores.usage:.2f}, perplexity {scores.perplexity:.0f}"
    )


if __name__ == "__main__":
    main()
