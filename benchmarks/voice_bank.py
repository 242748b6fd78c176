"""Do the directions of a voice bank hold for speakers that neither bank nor embedder heard?

python benchmarks/voice_bank.py CORPUS [--bank FILE] [--speakers 12,16]

For each emotion: how far the speakers' own takes lie from their neutral ones along the direction (1 is its strength 1), the
cosine of both ways, and the probability of the emotion that the embedder reads in their neutral takes moved by 0, 0.25 ... 1.
"""

import argparse
import dataclasses

import numpy as np
import torch

from affetto.conditioning.encoders.speech import TERMS
from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES
from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder
from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.bank_data import NEUTRAL, read_corpus
from affetto.media.audio import load_audio

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--bank", default="embedded")
    parser.add_argument("--speakers", default="12,16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bank, embedder = VoiceBank.from_pretrained(options.bank), VoiceEmbedder.from_pretrained(device="cpu")
    speakers = options.speakers.split(",")
    places: dict[tuple[str, str], list[np.ndarray]] = {}
    for clip in read_corpus(options.data):
        if clip.speaker in speakers:
            audio = load_audio(clip.path)
            audio = audio if clip.heard_s is None else audio.sliced(0.0, clip.heard_s)
            sounding = np.flatnonzero(audio.samples.any(axis=0))
            audio = dataclasses.replace(audio, samples=audio.samples[:, : sounding[-1] + 1])
            places.setdefault((clip.speaker, clip.emotion), []).append(embedder(audio)[0].numpy())
    still = np.concatenate([places[speaker, NEUTRAL] for speaker in speakers])
    print(f"speakers {options.speakers}, {len(still)} neutral takes")
    print("emotion     along  cosine  probability at " + " ".join(f"{step:.2f}" for step in STEPS))
    for row, name in enumerate(bank.names):
        ways = [
            np.mean(places[speaker, name], axis=0) - np.mean(places[speaker, NEUTRAL], axis=0)
            for speaker in speakers
            if (speaker, name) in places
        ]
        if not ways:
            continue
        unit, scale = bank.directions.directions[row].numpy(), float(bank.directions.scale[row])
        along = np.mean([way @ unit / scale for way in ways])
        cosine = np.mean([way @ unit / np.linalg.norm(way) for way in ways])
        column = [TERMS[klass] for klass in SPEECH_CLASSES].index(name)
        ladder = []
        for step in STEPS:
            weights = step * np.eye(len(bank.names))[row]
            moved = np.stack([place + bank.direction(weights, place) for place in still]).astype(np.float32)
            ladder.append(float(embedder.read(torch.from_numpy(moved))[0][:, column].mean()))
        print(
            f"{name:10s}  {along:5.2f}  {cosine:6.2f}                 " + " ".join(f"{p:.2f}" for p in ladder)
        )


if __name__ == "__main__":
    main()
