"""The pictures of docs/voice.md: python benchmarks/voice_figures.py DATA FOLDER.

Reports of conversions of held-out voices, and the curve of asked strength against what the critic finds. The pictures are
reduced to 128 colours.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from affetto.evaluation.voice_sets import read_reader, read_takes
from affetto.evaluation.voice_trial import STRENGTHS, Trial
from affetto.generators.voice.pipeline import VoiceConverter

COLOURS = {"angry": "#dc4b40", "happy": "#f4b731", "sad": "#4f83cc", "fear": "#8460b5", "disgusted": "#6fa04b",
           "bored": "#9c7560"}  # fmt: skip


def draw_curve(trial, path):
    """Mean probability of the target over strength, for each emotion, affetto beside the linear bank."""
    figure = Figure(figsize=(7.6, 4.4), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.08, 0.12, 0.7, 0.84))
    for way, style in (("affetto", "-"), ("bank", ":")):
        samples = trial.sweep(way)
        for emotion, colour in COLOURS.items():
            means = [
                np.mean(
                    [each.wanted for each in samples if (each.emotion, each.strength) == (emotion, strength)]
                )
                for strength in STRENGTHS
            ]
            label = emotion if way == "affetto" else f"{emotion}, bank"
            axes.plot(
                STRENGTHS, means, style, color=colour, linewidth=2.2 if way == "affetto" else 1.4, label=label
            )
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="strength asked for", ylabel="probability of the target (critic)"
    )
    axes.grid(color="#e6e8ec")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, metadata={"Software": None})
    shrink(path)


def shrink(path):
    """Rewrite a PNG with 128 colours, for the documentation."""
    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    converter = VoiceConverter.from_pretrained("embedded")
    takes = [take for take in read_takes(options.data) if take.split == "test" and take.emotion == "neutral"]
    woman, man = (next(take for take in takes if take.sex == sex) for sex in "fm")
    readers = {
        name: read_reader(options.data, name, count=1)[0]
        for name in ("english_kathleen", "dutch_flemishguy", "german_kerstin")
    }
    cases = [
        ("voice_angry", woman, "angry"),
        ("voice_happy_man", man, "happy"),
        ("voice_sad_dutch", readers["dutch_flemishguy"], "sad"),
        ("voice_track_english", readers["english_kathleen"], "0:neutral; 0.8:neutral; 1.4:angry; 2.4:happy"),
        ("voice_fear_german", readers["german_kerstin"], "fear"),
    ]
    for name, take, emotion in cases:
        path = options.folder / f"{name}.png"
        converter(take.audio, emotion).report(path)
        shrink(path)
    draw_curve(Trial(converter, options.data), options.folder / "voice_asked_got.png")


if __name__ == "__main__":
    main()
