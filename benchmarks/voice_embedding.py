"""What training the speaker out of the voice embedding costs and brings: small twins of the network, with and without.

python benchmarks/voice_embedding.py SPEECH_FOLDER [--width 64] [--steps 600] [--adversary 0.5] [--seed 0]
"""

import argparse
import tempfile
from pathlib import Path

import torch

from affetto.conditioning.encoders.voice_embedding import VoiceNetworkConfig
from affetto.conditioning.train_voice_embedding import VoiceEmbeddingRecipe, train_voice_embedding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--adversary", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"width {options.width}, {options.steps} steps, seed {options.seed}")
    print("adversary  UAR test  UAR validation  speaker of ten  of the four unheard")
    for strength in (0.0, options.adversary):
        recipe = VoiceEmbeddingRecipe(
            network=VoiceNetworkConfig(width=options.width), steps=options.steps, adversary=strength
        )
        with tempfile.TemporaryDirectory() as folder:
            found = train_voice_embedding(
                options.data, Path(folder) / "twin.safetensors", seed=options.seed, seconds=1e6, recipe=recipe
            )
        uar, speaker = found["uar"], found["speaker"]["embedding"]
        print(
            f"{strength:9.2f}  {uar['test']['network']:8.3f}  {uar['validation']['network']:14.3f}"
            f"  {speaker['all']:14.3f}  {speaker['unheard']:19.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
