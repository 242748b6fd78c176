"""What the benches of face and portrait share: rows, held-out clips, the naive baseline, sound and memory."""

import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from affetto.conditioning.emotion import Emotion
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.media.audio import Audio, load_audio, save_audio
from affetto.speech.content import loudness_curve
from affetto.speech.corpus import Utterance

FPS = 50.0
_CLIPS = 24

Row = dict[str, Any]


def chosen(utterances: Sequence[Utterance], seed: int, count: int = _CLIPS) -> list[Utterance]:
    """`count` of the utterances, chosen by `seed`, in their order."""
    order = np.random.default_rng(seed).permutation(len(utterances))[:count]
    return [utterances[index] for index in sorted(order)]


def row(
    measure: str,
    value: float,
    *,
    bar: str = "",
    holds: bool | None = None,
    baseline: float | str = "",
    ceiling: float | str = "",
) -> Row:
    """A line of a bench: a figure beside what is trivial and what is possible, its bar, and whether that holds."""
    return {
        "measure": measure,
        "affetto": round(float(value), 4),
        "baseline": baseline if isinstance(baseline, str) else round(float(baseline), 4),
        "rules (ceiling)": ceiling if isinstance(ceiling, str) else round(float(ceiling), 4),
        "bar": bar,
        "holds": "" if holds is None else bool(holds),
    }


def sound_of(utterance: Utterance) -> Audio:
    """The sound of an utterance."""
    return Audio(samples=utterance.samples[None], rate=16_000)


def energy_jaw(utterance: Utterance, emotion: Emotion) -> FaceCurves:
    """The baseline: a jaw that opens as loud as the voice is."""
    loudness = loudness_curve(utterance.samples)
    curves = FaceCurves.neutral(len(loudness), FPS)
    curves.weights[:, ARKIT_INDEX["jawOpen"]] = 0.5 * np.clip((loudness - 0.5) / 0.5, 0.0, 1.0)
    return curves


def speaking_frames(utterance: Utterance) -> np.ndarray:
    """Frames between the first and the last phone that are not silence."""
    times = np.arange(int(utterance.seconds * FPS)) / FPS
    spoken = np.zeros(len(times), bool)
    for phone in utterance.phones:
        if phone.phone != "sil":
            spoken |= (times >= phone.start) & (times < phone.end)
    return spoken


def demo_speech(seconds: float) -> Audio:
    """The sentence of the demo again and again, this long."""
    with resources.as_file(resources.files("affetto.media") / "data" / "hello.flac") as path:
        speech = load_audio(path)
    repeats = int(np.ceil(seconds / speech.seconds))
    return Audio(
        samples=np.tile(speech.samples, repeats)[:, : round(seconds * speech.rate)], rate=speech.rate
    )


def peak_mib(program: str, path: Path, seconds: float) -> float:
    """Peak memory in MiB of a process that runs `program` on `seconds` of speech at `path`; it prints kB last."""
    save_audio(path, demo_speech(seconds))
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1024
