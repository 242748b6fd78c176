"""What playing a score costs and how it sounds in figures: python benchmarks/music_synth.py [DATA] [--seconds 60].

Prints processor seconds per second of sound on one core (numba warmed up), loudness and true peak, for a seeded pianist
with pedal and a band of four; with DATA/music/pop909.zip also for its songs. Then, for piano keys, the first partial,
inharmonicity, time to -60 dB read off the first 10 dB and off 10 to 40 dB, and spectral centroids of three velocities.
"""

import argparse
import dataclasses
import time
import zipfile
from pathlib import Path

import numpy as np

from affetto.generators.music.synth import render
from affetto.generators.music.synth.piano import inharmonicity, partials, piano
from affetto.media.loudness import integrated_loudness, true_peak_db
from affetto.media.midi import CONTROL, SUSTAIN, Score, TrackInfo, note_array, parse_midi

RATE = 44_100


def pianist(seconds: float, seed: int = 0) -> Score:
    """Chords and a tune over the whole keyboard, about ten notes a second, the pedal changed every bar."""
    rng = np.random.default_rng(seed)
    beats = int(seconds * 2)
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    notes, controls = [], []
    for beat in range(beats):
        root = int(rng.integers(0, 7))
        for voice in range(3):
            degree = root + 2 * voice
            pitch = 48 + 12 * (degree // 7) + int(scale[degree % 7])
            notes.append((float(beat), 1.0, pitch, int(rng.integers(40, 90)), 0))
        notes.append((float(beat), 1.0, 31 + int(scale[root % 7]), 70, 0))
        for half in (0.0, 0.5):
            pitch = 67 + 12 * int(rng.integers(0, 2)) + int(scale[rng.integers(0, 7)])
            notes.append((beat + half, 0.5, pitch, int(rng.integers(50, 110)), 0))
        if beat % 4 == 0:
            controls += [(float(beat), 0, SUSTAIN, 0), (beat + 0.1, 0, SUSTAIN, 127)]
    return Score(notes=note_array(notes), controls=np.array(controls, CONTROL))


def band(seconds: float) -> Score:
    """The pianist's notes given to flute, strings and bass, with drums."""
    score = pianist(seconds)
    notes = score.notes.copy()
    notes["track"] = np.select([notes["pitch"] >= 67, notes["pitch"] >= 48], [0, 1], 2)
    hits = [(beat / 2, 0.25, (36, 42, 38, 42)[beat % 4], 70, 3) for beat in range(int(seconds * 4))]
    tracks = (TrackInfo(program=73), TrackInfo(program=48), TrackInfo(program=32), TrackInfo(is_drum=True))
    return Score(notes=note_array(notes.tolist() + hits), tracks=tracks)


def songs(archive: Path, seconds: float, count: int) -> dict[str, Score]:
    """The beginnings of some POP909 songs."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(n for n in file.namelist() if n.endswith(".mid") and "version" not in n)
        chosen = [names[i] for i in np.linspace(0, len(names) - 1, count).astype(int)]
        scores = {Path(name).name: parse_midi(file.read(name), name=name) for name in chosen}
    return {name: beginning(score, seconds) for name, score in scores.items()}


def beginning(score: Score, seconds: float) -> Score:
    stop = float(score.beats_of(seconds))
    return dataclasses.replace(
        score,
        notes=score.notes[score.notes["start"] < stop],
        controls=score.controls[score.controls["beat"] < stop],
    )


def fading(sound: np.ndarray) -> tuple[float, float]:
    """Seconds to -60 dB, from the first 10 dB and from -10 to -40 dB."""
    power = np.convolve(sound.astype(np.float64) ** 2, np.full(2205, 1 / 2205), "valid")[::441]
    level = 10 * np.log10(power / power.max() + 1e-12)[power.argmax() :]
    reached = [
        float(np.flatnonzero(level < fall)[0]) / 100 if level.min() < fall else np.nan for fall in (-10, -40)
    ]
    return 6 * reached[0], 2 * (reached[1] - reached[0])


def centroid(sound: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    return float((power * np.fft.rfftfreq(len(sound), 1 / RATE)).sum() / power.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--songs", type=int, default=3)
    options = parser.parse_args()
    scores = {"pianist": pianist(options.seconds), "band": band(options.seconds)}
    if options.data is not None:
        scores |= songs(options.data / "music" / "pop909.zip", options.seconds, options.songs)
    render(band(2.0))
    render(pianist(2.0))
    print("score          notes   s sound   CPU s/s    LUFS   dBTP")
    for name, score in scores.items():
        start = time.process_time()
        audio = render(score)
        cost = (time.process_time() - start) / audio.seconds
        lufs, peak = integrated_loudness([audio.samples], RATE), true_peak_db(audio.samples)
        print(f"{name:14s}{len(score.notes):6d}{audio.seconds:10.1f}{cost:10.4f}{lufs:8.2f}{peak:7.2f}")
    print("key   f1 Hz        B    T60 10 dB  10-40 dB   centroid Hz at velocity 24/64/112")
    for pitch in (21, 33, 45, 57, 69, 81, 93, 105):
        early, late = fading(piano(pitch, 0.5, 16 * RATE, RATE))
        bright = "/".join(f"{centroid(piano(pitch, v / 127, RATE // 2, RATE)):.0f}" for v in (24, 64, 112))
        print(
            f"{pitch:3d}{partials(pitch, RATE)[0]:9.2f}{inharmonicity(pitch):10.1e}{early:10.1f}{late:10.1f}   {bright}"
        )


if __name__ == "__main__":
    main()
