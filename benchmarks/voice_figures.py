"""The pictures of docs/voice.md: python benchmarks/voice_figures.py DATA FOLDER [sheet|reports|curve ...].

A sheet of twelve conversions, reports of conversions of held-out voices, and the curve of asked strength against what the
critic finds. The pictures are reduced to 128 colours.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from affetto.evaluation.voice_sets import read_reader, read_takes
from affetto.evaluation.voice_trial import STRENGTHS, Trial
from affetto.generators.voice.controls import analyse
from affetto.generators.voice.pipeline import VoiceConverter
from affetto.media.mel import MelSpec, log_mel

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


SHEET = (
    ("woman", "angry"), ("woman", "happy"), ("woman", "sad"), ("man", "angry"), ("man", "fear"), ("man", "bored"),
    ("english_kathleen", "happy"), ("english_kathleen", "disgusted"), ("dutch_flemishguy", "angry"),
    ("dutch_flemishguy", "sad"), ("german_kerstin", "surprised"), ("german_kerstin", "sad"),
)  # fmt: skip


def draw_sheet(converter, voices, path):
    """Spectrogram and pitch of twelve conversions, each beneath its source, on one time axis each."""
    figure = Figure(figsize=(12.0, 11.2), dpi=84)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        8, 3, left=0.035, right=0.995, top=0.98, bottom=0.025, hspace=0.28, wspace=0.09
    )
    for index, (who, emotion) in enumerate(SHEET):
        before = voices[who].audio
        after = converter(before, emotion).audio
        span = max(before.seconds, after.seconds)
        for part, (sound, title) in enumerate(((before, f"{who}"), (after, f"{who}, {emotion}"))):
            axes = figure.add_subplot(grid[2 * (index // 3) + part, index % 3])
            draw_voice(axes, sound, title, span)
    figure.savefig(path, metadata={"Software": None})
    shrink(path, 64)


def draw_voice(axes, sound, title, span):
    """Log-mels up to 8 kHz in grey, the pitch as a line over them."""
    spec = MelSpec(
        rate=16_000, window=640, hop=160, fft=1024, bands=96, low_hz=50.0, high_hz=8000.0, floor=1e-9
    )
    mels = log_mel(torch.from_numpy(sound.resampled(spec.rate).mono()), spec).numpy()
    top = float(mels.max())
    axes.imshow(mels, origin="lower", aspect="auto", cmap="Greys", vmin=top - 10.5, vmax=top,
                extent=(0, sound.seconds, 0, spec.bands))  # fmt: skip
    controls = analyse(sound.mono(), sound.rate)
    hertz = np.where(controls.voiced > 0.5, np.exp(controls.log_f0.astype(np.float64)), np.nan)
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (spec.low_hz, spec.high_hz))
    place = (2595 * np.log10(1 + hertz / 700) - low) / (high - low) * (spec.bands + 1) - 1
    axes.plot(np.arange(len(place)) / 100, place, color="#dc4b40", linewidth=1.3)
    middle = float(np.nanmedian(hertz))
    axes.set(xlim=(0, span), ylim=(0, spec.bands), yticks=[])
    axes.tick_params(labelsize=7, length=2, pad=1)
    axes.set_title(f"{title}: {middle:.0f} Hz, {sound.seconds:.1f} s", fontsize=8.5, loc="left", pad=2)


def shrink(path, colours=128):
    """Rewrite a PNG with few colours, for the documentation."""
    Image.open(path).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", default=["sheet", "reports", "curve"])
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
    if "sheet" in options.parts:
        draw_sheet(converter, {"woman": woman, "man": man, **readers}, options.folder / "voice_sheet.png")
    for name, take, emotion in cases if "reports" in options.parts else ():
        path = options.folder / f"{name}.png"
        converter(take.audio, emotion).report(path)
        shrink(path)
    if "curve" in options.parts:
        draw_curve(Trial(converter, options.data), options.folder / "voice_asked_got.png")


if __name__ == "__main__":
    main()
