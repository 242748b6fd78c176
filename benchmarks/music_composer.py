"""What the shipped composer reaches: faders and emotion in the notes, validity, copies, speed.

Run `python benchmarks/music_composer.py [--clips N]`. Faders: eight bars (the last, a held chord, not counted) of a neutral piece, five levels, the
same seeds; Spearman of level and attribute over all pieces and of their means. Emotion: 25 points on the music chart's valence
and arousal, one piece each, the formula's reading against what was asked. Validity: clips of random
wishes, each read back by symusic and pretty_midi. Speed: a 30 s clip, wall clock on this machine.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pretty_midi
from scipy.stats import spearmanr

from affetto.generators.music.composer_net import FADERS
from affetto.generators.music.picture import draw_rolls
from affetto.generators.music.pipeline import MusicComposer
from affetto.media.midi import load_midi

LEVELS = (0.0, 2.0, 4.0, 6.0, 8.0)
POINTS = (-0.8, -0.4, 0.0, 0.4, 0.8)
EMOTIONS = ("happy", "sad", "angry", "relaxed", "fear", "tender", "excited", "surprised", None)


def faders(composer: MusicComposer, seeds: int) -> None:
    """Print a row for each fader."""
    for name in FADERS:
        found = np.zeros((seeds, len(LEVELS)))
        for seed in range(seeds):
            for column, level in enumerate(LEVELS):
                piece = composer(None, bars=8, seed=seed, faders={name: level})
                values = getattr(piece.attributes(), "major" if name == "mode" else name)
                found[seed, column] = values[:7].mean()
        every = spearmanr(np.tile(LEVELS, seeds), found.ravel()).statistic
        means = spearmanr(LEVELS, found.mean(axis=0)).statistic
        shown = " ".join(f"{value:.2f}" for value in found.mean(axis=0))
        print(f"fader {name:10} all {every:.3f}  means {means:.3f}  at 0 2 4 6 8: {shown}", flush=True)


def emotion(composer: MusicComposer) -> None:
    """Print how requested and measured emotion agree."""
    rows = []
    for seed, (valence, arousal) in enumerate((v, a) for v in POINTS for a in POINTS):
        curve = composer(f"vad({valence},{arousal},0)", bars=8, seed=seed).emotion_curve()
        rows.append(curve[:-1, 1:].mean(axis=0))
    found = np.array(rows)
    for axis, name in enumerate(("valence", "arousal")):
        rho = spearmanr(found[:, axis], found[:, 3 + axis]).statistic
        error = np.abs(found[:, axis] - found[:, 3 + axis]).mean()
        print(f"{name} rho {rho:.3f}  mean error {error:.3f}", flush=True)
    course = composer("0:excited; 12:sad; 24:excited", seconds=36.0, seed=1).emotion_curve()
    for axis, name in ((1, "valence"), (2, "arousal")):
        rho = spearmanr(course[:, axis], course[:, axis + 3]).statistic
        print(f"one course, bar by bar: {name} rho {rho:.3f}", flush=True)


def validity(composer: MusicComposer, clips: int) -> None:
    """Print how many clips of random wishes two readers open, and the longest stretch of a training tune."""
    good, longest, exact = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mid"
        for index in range(clips):
            rng = np.random.default_rng(index)
            seconds = float(rng.uniform(4.0, 14.0))
            piece = composer(
                EMOTIONS[index % len(EMOTIONS)],
                seconds=seconds,
                seed=index,
                metre=str(rng.choice(["4/4", "4/4", "3/4", "2/4"])),
                loop=bool(rng.random() < 0.2),
                ensemble=str(rng.choice(["piano", "ensemble"])),
            )
            piece.save(path)
            read = load_midi(path)
            other = pretty_midi.PrettyMIDI(str(path))
            good += (
                len(read.notes)
                == sum(len(track.notes) for track in other.instruments)
                == len(piece.score.notes)
            )
            exact += abs(piece.seconds - seconds) < 0.002
            longest = max(longest, piece.copy.longest)
    print(
        f"{clips} clips: {good} read alike by two readers, {exact} of the length asked, longest copy {longest} notes"
    )


def speed(composer: MusicComposer) -> None:
    """Print the time of 30 s clips."""
    for name in ("sad", "happy", "excited"):
        began, spent = time.perf_counter(), time.process_time()
        piece = composer(name, seconds=30.0, seed=1)
        wall, cpu = time.perf_counter() - began, time.process_time() - spent
        words = piece.composition.words
        print(
            f"30 s {name}: {wall:.2f} s wall, {cpu:.2f} s of processor, {words / cpu:.0f} words/s ({words} words)"
        )


def sheet(composer: MusicComposer, path: Path) -> None:
    """Draw eight clips, two for each quadrant of valence and arousal."""
    wishes = {
        "happy": 1,
        "excited": 3,
        "angry": 2,
        "fear": 1,
        "sad": 1,
        "bored": 4,
        "relaxed": 3,
        "tender": 2,
    }
    rolls = {}
    for name, seed in wishes.items():
        piece = composer(name, seconds=30.0, seed=seed)
        rolls[f"{name} (seed {seed})"] = (piece.plan, piece.composition, piece.emotion_curve())
    draw_rolls(path, rolls)


def main() -> None:
    """Run all four, or only draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100, help="clips for validity")
    parser.add_argument("--seeds", type=int, default=3, help="pieces for each fader level")
    parser.add_argument("--model", default="embedded", help="a file of the recipe instead of the shipped one")
    parser.add_argument("--sheet", type=Path, help="draw eight clips to this .png instead")
    options = parser.parse_args()
    composer = MusicComposer.from_pretrained(options.model)
    if options.sheet is not None:
        sheet(composer, options.sheet)
        return
    speed(composer)
    faders(composer, options.seeds)
    emotion(composer)
    validity(composer, options.clips)


if __name__ == "__main__":
    main()
