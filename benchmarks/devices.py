"""The embedded generators on a processor and on a GPU, in one run: seconds of work for a second of media, and how far results differ.

Each generator makes the same thing (same speech, emotion, seed) on the CPU in fp32, then on the device in fp32 and under bf16
autocast. Differences: face and portrait, mean and largest of their curves (0..1); voice, mean of the mel spectrum in dB; music, share
of bars with the same notes (fp32: differing bars mean another draw of the same distribution, for a sum's last bit can turn a choice).

python benchmarks/devices.py [--device cuda] [--seconds 30] [--rounds 3]
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from affetto.evaluation.bench_parts import demo_speech
from affetto.generators.face.pipeline import FaceAnimator
from affetto.generators.music.pipeline import MusicComposer, MusicPiece
from affetto.generators.portrait.motion import MotionGenerator
from affetto.generators.voice.pipeline import VoiceConverter
from affetto.media.audio import Audio
from affetto.media.mel import MelSpec, log_mel

TRACK = "0:neutral; 10:happy; 20:sad"
SPEC = MelSpec()
RUNS = (("cpu", "fp32"), ("device", "fp32"), ("device", "bf16"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    speech = demo_speech(asked.seconds)
    print("| generator | where | s per s | difference |\n|---|---|---|---|")
    for name, make in generators(speech).items():
        reference: Any = None
        for where, dtype in RUNS:
            device = "cpu" if where == "cpu" else asked.device
            result, spent = timed(make(device, dtype), asked.rounds)
            reference = result if reference is None else reference
            print(
                f"| {name} | {device} {dtype} | {spent / asked.seconds:.4f} | {apart(reference, result)} |",
                flush=True,
            )


def generators(speech: Audio) -> dict[str, Callable[[str, str], Callable[[], Any]]]:
    """For each generator, what makes it on a device in a precision; that in turn does the work."""

    def face(device: str, dtype: str) -> Callable[[], np.ndarray]:
        animator = FaceAnimator.from_pretrained("embedded", device=device, dtype=dtype)
        return lambda: animator(speech, TRACK, seed=1).curves.weights

    def portrait(device: str, dtype: str) -> Callable[[], np.ndarray]:
        motion = MotionGenerator.from_pretrained("embedded", device=device, dtype=dtype)
        return lambda: motion(speech, TRACK, seed=1).weights

    def voice(device: str, dtype: str) -> Callable[[], Audio]:
        converter = VoiceConverter.from_pretrained("embedded", device=device, dtype=dtype)
        return lambda: converter(speech, TRACK, seed=1, keep_timing=True).audio

    def music(device: str, dtype: str) -> Callable[[], list[set[tuple[float, int]]]]:
        composer = MusicComposer.from_pretrained("embedded", device=device, dtype=dtype)
        return lambda: notes_by_bar(composer(TRACK, seconds=speech.seconds, seed=1))

    return {"face": face, "portrait motion": portrait, "voice": voice, "music": music}


def timed(work: Callable[[], Any], rounds: int) -> tuple[Any, float]:
    """What the work gives and the median of its seconds, after one warm-up."""
    result, spent = work(), []
    for _ in range(rounds):
        began = time.perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    return result, float(np.median(spent))


def notes_by_bar(piece: MusicPiece) -> list[set[tuple[float, int]]]:
    """Start (beats) and pitch of the notes of each bar."""
    notes, beats = piece.score.notes, piece.plan.beats
    bars: list[set[tuple[float, int]]] = [set() for _ in piece.plan.bars]
    for start, pitch in zip(notes["start"], notes["pitch"], strict=True):
        bars[min(int(start // beats), len(bars) - 1)].add((round(float(start), 3), int(pitch)))
    return bars


def apart(reference: Any, result: Any) -> str:
    """How far two results of a generator differ, in words."""
    if isinstance(result, np.ndarray):
        far = np.abs(result - reference)
        return f"mean {far.mean():.5f}, largest {far.max():.4f}"
    if isinstance(result, Audio):
        mels = [log_mel(torch.from_numpy(audio.mono()), SPEC) for audio in (reference, result)]
        return f"{float((mels[0] - mels[1]).abs().mean()) * 10 / np.log(10):.3f} dB"
    return f"{np.mean([one == other for one, other in zip(reference, result, strict=True)]):.0%} of bars the same"


if __name__ == "__main__":
    main()
