"""Words per second of MusER decoded recurrently and as published, the whole sequence again for every word.

Both run in one process, at the published size with random weights, in rounds that alternate. Seconds are those of the
processor, which other programs on the machine change least; wall-clock seconds stand beside them.

python benchmarks/music_decoding.py [--words 24] [--rounds 3] [--full 1] [--threads 1] [--seed 0]
"""

import argparse
import time

import numpy as np
import torch

from affetto.generators.music.full.muser import Muser
from affetto.tokenizers.vocabulary import FAMILY


def clocks() -> np.ndarray:
    """Seconds of the processor and of the wall."""
    return np.array([time.process_time(), time.perf_counter()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=24, help="words decoded recurrently in each round")
    parser.add_argument("--full", type=int, default=1, help="words decoded as published in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network = Muser(regulariser=False).eval()
    config = network.config
    words = torch.stack([torch.randint(0, size, (1, config.length)) for size in config.sizes], dim=-1)
    latents = torch.randn(1, config.length, config.latent_width)
    family = words[..., FAMILY].roll(-1, dims=1)
    spent = {"recurrent": np.zeros(2), "published": np.zeros(2)}
    worst = 0.0
    with torch.inference_mode():
        for _ in range(options.rounds):
            began = clocks()
            state = network.start(latents)
            for place in range(options.words):
                heads, state = network.step(words[:, place], state)
                network.family_logits(heads)
                stepped = network.column_logits(heads, family[:, place : place + 1])
            spent["recurrent"] += clocks() - began
            began = clocks()
            for _ in range(options.full):
                whole = network.decode(words, latents, family)
            spent["published"] += clocks() - began
            errors = [(stepped[i][0, 0] - whole[i][0, options.words - 1]).abs().max() for i in stepped]
            worst = max(worst, float(torch.stack(errors).max()))
    recurrent = options.rounds * options.words / spent["recurrent"]
    published = options.rounds * options.full / spent["published"]
    times = recurrent / published
    print(
        f"{sum(each.numel() for each in network.parameters()) / 1e6:.2f} M parameters, {options.threads} threads"
    )
    print("           words per processor second    per second")
    for name, rate in (("recurrent", recurrent), ("published", published), ("times", times)):
        print(f"{name:<9} {rate[0]:27.2f} {rate[1]:13.2f}")
    print(f"logits differ by {worst:.1e} at most")


if __name__ == "__main__":
    main()
