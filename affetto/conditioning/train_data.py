"""Labelled speech for the speech encoder: clips that give nothing away but their sound, and variations of them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from affetto.conditioning.encoders.speech_features import SpeechSpec, frame_features, functionals
from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES
from affetto.media.audio import load_audio
from affetto.runtime.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class SpeechClips:
    """Clips of at most one window, silence after their end, with class and speaker."""

    samples: Float32[np.ndarray, "clip sample"]
    lengths: Int[np.ndarray, "clip"]  # samples of sound in each clip
    labels: Int[np.ndarray, "clip"]
    speakers: tuple[str, ...]

    def rows(self, speakers: Sequence[str], *, others: bool = False) -> Int[np.ndarray, "row"]:
        """The clips of the given speakers, or of all `others`."""
        belongs = np.isin(np.array(self.speakers), list(speakers))
        return np.flatnonzero(~belongs if others else belongs)


@dataclass(frozen=True, kw_only=True)
class SpeechFeatures:
    """Features of variations of clips: variation 0 is the clip itself."""

    frames: Float[Tensor, "variation clip channel frame"]  # float16 to save memory
    active: Bool[Tensor, "variation clip frame"]
    statistics: Float[Tensor, "variation clip statistic"]


def load_clips(data: Path, spec: SpeechSpec) -> SpeechClips:
    """The first window of every recording that `data/index.csv` lists (columns name, speaker, emotion).

    Some recordings of EMO-DB hold only their first two seconds, padded with zeros, and which ones goes with the
    emotion. So every recording is cut to its first window alike and the padding is taken off; features then see only
    what lies between the first and the last sound.
    """
    index = data / "index.csv"
    if not index.is_file():
        raise InvalidInputError(f"{data}: has no index.csv: give the folder of the emodb corpus")
    with index.open(newline="", encoding="utf-8") as file:
        entries = list(csv.DictReader(file))
    if not entries or not {"name", "speaker", "emotion"} <= set(entries[0]):
        raise InvalidInputError(f"{index}: needs the columns name, speaker and emotion")
    samples = np.zeros((len(entries), spec.samples), np.float32)
    lengths, labels = [], []
    for row, entry in enumerate(entries):
        if entry["emotion"] not in SPEECH_CLASSES:
            raise InvalidInputError(
                f"{index}: unknown emotion {entry['emotion']!r}: use {', '.join(SPEECH_CLASSES)}"
            )
        audio = load_audio(data / "audio" / f"{entry['name']}.flac").resampled(spec.mel.rate)
        mono = audio.mono()[: spec.samples]
        sounding = np.flatnonzero(mono)
        length = int(sounding[-1]) + 1 if len(sounding) else 0
        samples[row, :length] = mono[:length]
        lengths.append(length)
        labels.append(SPEECH_CLASSES.index(entry["emotion"]))
    return SpeechClips(
        samples=samples,
        lengths=np.array(lengths),
        labels=np.array(labels),
        speakers=tuple(entry["speaker"] for entry in entries),
    )


def varied(
    clip: Float32[np.ndarray, "sample"], spec: SpeechSpec, rng: np.random.Generator
) -> Float32[np.ndarray, "altered"]:
    """The clip played up to 16 % faster or slower (pitch and formants move along), perhaps cut, with noise and gain."""
    x = soxr.resample(clip, spec.mel.rate, spec.mel.rate * 2 ** rng.uniform(-0.22, 0.22))[: spec.samples]
    if rng.random() < 0.4:
        kept = int(len(x) * rng.uniform(0.65, 1.0))
        start = int(rng.integers(0, len(x) - kept + 1))
        x = x[start : start + kept]
    noise = rng.standard_normal(len(x))
    if rng.random() < 0.5:  # rumbling instead of hissing
        noise = np.cumsum(noise)
        noise = noise - np.convolve(noise, np.full(400, 1 / 400), "same")
    level = np.sqrt(np.mean(np.square(x)) + 1e-12) * 10 ** (-rng.uniform(12, 45) / 20)
    x = x + noise * level / np.sqrt(np.mean(np.square(noise)) + 1e-12)
    return np.asarray(x * 10 ** rng.uniform(-1, 0), np.float32)


def clip_features(clips: SpeechClips, spec: SpeechSpec, *, variations: int, seed: int) -> SpeechFeatures:
    """Features of every clip and of `variations` altered copies of it, drawn by `seed` for each copy."""
    frames, active, statistics = [], [], []
    for variation in range(variations + 1):
        rng = np.random.default_rng([seed, variation])
        block = np.zeros_like(clips.samples)
        for row, length in enumerate(clips.lengths):
            clip = clips.samples[row, :length]
            altered = varied(clip, spec, rng) if variation else clip
            block[row, : len(altered)] = altered
        for first in range(0, len(block), 64):
            features, sounding = frame_features(torch.from_numpy(block[first : first + 64]), spec)
            frames.append(features.half())
            active.append(sounding)
            statistics.append(functionals(features, sounding, spec))
    count = len(clips.samples)
    joined = (torch.cat(parts) for parts in (frames, active, statistics))
    parts = [part.reshape(variations + 1, count, *part.shape[1:]) for part in joined]
    return SpeechFeatures(frames=parts[0], active=parts[1], statistics=parts[2])


def disturbed(
    features: Float[Tensor, "clip channel frame"],
    active: Bool[Tensor, "clip frame"],
    spec: SpeechSpec,
    rng: np.random.Generator,
) -> Float[Tensor, "clip channel frame"]:
    """Features with other vocal tracts (VTLP), other microphones (a smooth curve over bands), gaps (SpecAugment), pitch."""
    clips, bands = len(features), spec.mel.bands
    rows = features[:, :bands]
    warp = torch.from_numpy(rng.uniform(0.9, 1.1, clips)).float()
    place = torch.arange(bands) * warp[:, None]
    low = place.floor().long().clamp(0, bands - 1)
    part = (place - low).clamp(0.0, 1.0)[..., None]
    above = (low + 1).clamp(max=bands - 1)
    rows = rows.gather(1, low[..., None].expand_as(rows)) * (1 - part) + part * rows.gather(
        1, above[..., None].expand_as(rows)
    )
    knots = torch.from_numpy(0.6 * rng.standard_normal((clips, 1, 5))).float()
    rows = rows + F.interpolate(knots, size=bands, mode="linear", align_corners=True)[:, 0, :, None]
    pitch = features[:, bands : bands + 1] + torch.from_numpy(rng.normal(0, 0.12, (clips, 1, 1))).float()
    joined = torch.cat([rows, pitch, features[:, bands + 1 :]], dim=1)
    frames = joined.shape[-1]
    for clip in range(clips):
        if rng.random() < 0.5:
            first = int(rng.integers(0, bands - 6))
            joined[clip, first : first + int(rng.integers(1, 7))] = -4.0
        if rng.random() < 0.5:
            first = int(rng.integers(0, frames - 20))
            gap = slice(first, first + int(rng.integers(1, 20)))
            joined[clip, :bands, gap] = -4.0
            joined[clip, bands:, gap] = 0.0
    return joined * active[:, None]
