"""Cross-validate the embedded speech encoder's recipe by speaker against a linear model and the majority class.

python benchmarks/speech_emotion.py EMODB_FOLDER [--members 1] [--epochs 80] [--seed 0]
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from affetto.conditioning.train import SpeechRecipe, cross_validate

FOLDS = (("03", "08"), ("09", "10"), ("11", "13"), ("14", "15"), ("12", "16"))
"""Every speaker is unheard once; a woman and a man, or two of a kind, at a time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=SpeechRecipe().epochs)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = dataclasses.replace(SpeechRecipe(), members=options.members, epochs=options.epochs)
    scores = cross_validate(options.data, FOLDS, seed=options.seed, recipe=recipe)
    print(
        f"5 folds of two speakers, {scores['shipped'].clips} clips, first 2 s, seed {options.seed}, {recipe.members} network(s)"
    )
    print("model     UAR    CCC V   CCC A   CCC D")
    for name, found in scores.items():
        print(f"{name:9s} {found.uar:.3f}  " + "  ".join(f"{value:6.3f}" for value in found.ccc))
    print("recall as shipped: " + ", ".join(f"{k} {v:.2f}" for k, v in scores["shipped"].recall.items()))


if __name__ == "__main__":
    main()
