"""What a change and its undoing leave of a voice, beside WORLD: python benchmarks/voice_roundtrip.py FOLDER.

Each recording is changed and changed back (nothing, 5 semitones up, 3 down, 1.3 times as long) by our rendering and
by WORLD (Harvest, CheapTrick, D4C), at 16 kHz. Printed per change: distance of the log-mel spectra in dB over frames
within 50 dB of the loudest (lower is better), intelligibility after Taal et al. 2011 (STOI, 0..1) and, where the
package `pesq` is installed, PESQ-WB; then seconds of one core per second of sound. Equal sound has 0 dB, 1, 4.64.
Before that, the pitch found against Harvest's, which carries voice on well beyond its ends.
"""

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import pyworld
import scipy.signal
import torch

from affetto.generators.voice.controls import CONTROL_FPS, ControlResidual, analyse, frame_count
from affetto.generators.voice.render import Rendered, render
from affetto.media.audio import Audio, load_audio
from affetto.media.mel import MelSpec, log_mel

RATE = 16_000
CHANGES = {"identity": (0.0, 1.0), "+5 st": (5.0, 1.0), "-3 st": (-3.0, 1.0), "x1.3": (0.0, 1.3)}
SPEC = MelSpec(rate=RATE, bands=64, floor=1e-12)


def ours(sound: np.ndarray, semitones: float, log_rate: float | np.ndarray) -> Rendered:
    controls = analyse(sound, RATE)
    stack = np.zeros((len(controls), 30), np.float32)
    stack[:, 0], stack[:, 29] = semitones, log_rate
    return render(Audio(samples=sound[None], rate=RATE), controls, ControlResidual.from_stack(stack))


def ours_and_back(sound: np.ndarray, semitones: float, stretch: float) -> np.ndarray:
    made = ours(sound, semitones, np.log(stretch))
    if (semitones, stretch) == (0.0, 1.0):
        return made.audio.samples[0]
    times = np.arange(frame_count(made.audio.samples.shape[1], RATE)) / CONTROL_FPS
    back = np.diff(made.time_map.to_source(np.append(times, times[-1] + 0.01)) * CONTROL_FPS)
    return ours(made.audio.samples[0], -semitones, np.log(back)).audio.samples[0]


def world(sound: np.ndarray, semitones: float, stretch: float) -> np.ndarray:
    wide = sound.astype(np.float64)
    f0, times = pyworld.harvest(wide, RATE, f0_floor=60.0, f0_ceil=800.0)
    envelope = pyworld.cheaptrick(wide, f0, times, RATE, f0_floor=60.0)
    noise = pyworld.d4c(wide, f0, times, RATE, fft_size=2 * (envelope.shape[1] - 1))
    made = pyworld.synthesize(f0 * 2 ** (semitones / 12), envelope, noise, RATE, 5.0 * stretch)
    return made.astype(np.float32)


def world_and_back(sound: np.ndarray, semitones: float, stretch: float) -> np.ndarray:
    made = world(sound, semitones, stretch)
    return made if (semitones, stretch) == (0.0, 1.0) else world(made, -semitones, 1 / stretch)


def distance_db(clean: np.ndarray, other: np.ndarray) -> float:
    spectra = [log_mel(torch.from_numpy(x), SPEC).numpy() * (10 / np.log(10)) for x in (clean, other)]
    loud = np.logaddexp.reduce(spectra[0], axis=0)
    kept = loud > loud.max() - 50.0
    floor = spectra[0].max() - 70.0
    apart = np.maximum(spectra[0], floor) - np.maximum(spectra[1], floor)
    return float(np.sqrt((apart[:, kept] ** 2).mean(0)).mean())


def intelligibility(clean: np.ndarray, other: np.ndarray) -> float:
    """STOI: correlation of third-octave envelopes over 384 ms, the other's clipped at -15 dB, pauses left out."""
    waves = [scipy.signal.resample_poly(x.astype(np.float64), 5, 8) for x in (clean, other)]
    window = np.hanning(258)[1:-1]
    frames = [np.lib.stride_tricks.sliding_window_view(x, 256)[::128] * window for x in waves]
    level = 20 * np.log10(np.linalg.norm(frames[0], axis=1) + 1e-9)
    kept = level > level.max() - 40.0
    power = [np.abs(np.fft.rfft(part[kept], 512)) ** 2 for part in frames]
    hertz = np.arange(257) * (10_000 / 512)
    edges = 150.0 * 2.0 ** ((np.arange(16) - 0.5) / 3)
    member = (hertz >= edges[:-1, None]) & (hertz < edges[1:, None])
    bands = [np.sqrt(part @ member.T) for part in power]
    if len(bands[0]) < 30:
        return float("nan")
    x, y = (np.lib.stride_tricks.sliding_window_view(part, 30, axis=0) for part in bands)
    y = y * np.linalg.norm(x, axis=2, keepdims=True) / (np.linalg.norm(y, axis=2, keepdims=True) + 1e-12)
    y = np.minimum(y, x * (1 + 10 ** (15 / 20)))
    x, y = (part - part.mean(2, keepdims=True) for part in (x, y))
    scale = np.linalg.norm(x, axis=2) * np.linalg.norm(y, axis=2) + 1e-12
    return float(((x * y).sum(2) / scale).mean())


def pitch_errors(sounds: list[np.ndarray]) -> str:
    """Our pitch and DIO's against Harvest's: shares of frames, and where all agree on voice the gross errors."""
    lines = []
    for name in ("ours", "DIO"):
        both = gross = missed = added = frames = 0
        for sound in sounds:
            wide = sound.astype(np.float64)
            harvest, _ = pyworld.harvest(wide, RATE, f0_floor=60.0, f0_ceil=800.0, frame_period=10.0)
            found = pyworld.stonemask(wide, *pyworld.dio(wide, RATE, 60.0, 800.0, frame_period=10.0), RATE)
            if name == "ours":
                controls = analyse(sound, RATE)
                found = np.exp(controls.log_f0) * (controls.voiced > 0.5)
            length = min(len(harvest), len(found))
            harvest, found = harvest[:length], found[:length]
            voiced = (harvest > 0) & (found > 0)
            both += voiced.sum()
            gross += (np.abs(found[voiced] / harvest[voiced] - 1) > 0.2).sum()
            missed += ((harvest > 0) & (found == 0)).sum()
            added += ((harvest == 0) & (found > 0)).sum()
            frames += length
        lines.append(
            f"{name:6s} pitch against Harvest: off by over 20 % {gross / both:.2%} of voiced frames, no voice where it"
            f" has {missed / frames:.1%}, voice where it has none {added / frames:.1%} of all"
        )
    return "\n".join(lines)


def judge(clean: np.ndarray, other: np.ndarray) -> list[float]:
    length = min(len(clean), len(other))
    clean, other = clean[:length], other[:length]
    scores = [distance_db(clean, other), intelligibility(clean, other)]
    if importlib.util.find_spec("pesq"):
        from pesq import pesq

        scores.append(pesq(RATE, clean, other, "wb"))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ours", action="store_true", help="leave WORLD out")
    parser.add_argument("--clips", type=int, default=12, help="how many recordings, evenly chosen")
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.rglob("*") if p.suffix in (".wav", ".flac"))
    if not paths:
        parser.error(f"{options.folder}: holds no .wav or .flac")
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(options.clips, len(paths))).astype(int)]
    sounds = [load_audio(path).resampled(RATE).mono() for path in chosen]
    seconds = sum(map(len, sounds)) / RATE
    print(f"{len(sounds)} recordings, {seconds:.1f} s")
    print(pitch_errors(sounds))
    for name, engine in (("ours", ours_and_back), ("WORLD", world_and_back))[: 1 if options.ours else 2]:
        engine(sounds[0], 1.0, 1.1)  # compiles
        for change, (semitones, stretch) in CHANGES.items():
            start = time.process_time()
            made = [engine(sound, semitones, stretch) for sound in sounds]
            trips = 1 if change == "identity" else 2
            spent = (time.process_time() - start) / (trips * seconds)
            scores = np.nanmean([judge(a, b) for a, b in zip(sounds, made, strict=True)], axis=0)
            pesq = f"  PESQ {scores[2]:.2f}" if len(scores) > 2 else ""
            print(
                f"{name:6s} {change:9s} {scores[0]:5.2f} dB  STOI {scores[1]:.3f}{pesq}  {spent:.3f} of real time"
            )


if __name__ == "__main__":
    main()
