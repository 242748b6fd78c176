"""What EmoReg learns from: mels, average-voice targets and embeddings of a corpus of acted speech."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from scipy.cluster.vq import kmeans2, vq
from scipy.fft import dct
from torch import Tensor

from affetto.generators.voice.bank_data import PAUSE, VoiceClip
from affetto.generators.voice.full.embedding import RATE, Sound
from affetto.generators.voice.full.mel import HIFIGAN_MEL, vocoder_mel
from affetto.media.audio import load_audio
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import ProgressCallback, ProgressEvent

_CEPSTRA = 13
_UNIT_FRAMES = 60_000  # frames from which units are found; more changes little
_SHORTEST = 16  # frames

Embed = Callable[[Sound], Float32[Tensor, "width"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterance:
    """One recording: log-mels, what the average voice would make of them, and its embedding (or a network's state)."""

    mel: Float[np.ndarray, "band frame"]
    target: Float[np.ndarray, "band frame"]
    embedding: Float32[np.ndarray, "width"]
    emotion: str
    speaker: str


@dataclass(frozen=True, kw_only=True)
class Crops:
    """A batch of equally long stretches: what is said, its average-voice target, and another stretch of the same take."""

    mel: Float[Tensor, "batch band frame"]
    target: Float[Tensor, "batch band frame"]
    reference: Float[Tensor, "batch band frame"]
    lengths: Int[Tensor, "batch"]
    reference_lengths: Int[Tensor, "batch"]
    embedding: Float[Tensor, "batch width"]


def read_utterances(
    clips: Sequence[VoiceClip],
    embed: Embed,
    folder: Path,
    *,
    tag: str,
    units: int,
    seed: int,
    progress: ProgressCallback | None = None,
) -> list[Utterance]:
    """The utterances of all clips; mels and embeddings are kept in `folder`, so that a second run reads them.

    `tag` names the embedding. Units are the clips' phones where every clip has marks, else `units` clusters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mels, vectors, kept = [], [], []
    for index, clip in enumerate(clips):
        mel, vector = _read(clip, embed, folder, tag)
        if mel.shape[1] >= _SHORTEST:
            kept.append(clip)
            mels.append(mel)
            vectors.append(vector)
        if progress is not None and index % 10 == 9:
            progress(ProgressEvent(stage="reading", done=index + 1, total=len(clips)))
    if not kept:
        raise InvalidInputError("no recording lasts 0.2 s: give longer ones")
    labels = (
        phone_units(kept, mels) if all(clip.phones for clip in kept) else sound_units(kept, mels, units, seed)
    )
    targets = average_voice(mels, labels)
    return [
        Utterance(
            mel=mel.astype(np.float16), target=target.astype(np.float16), embedding=vector, emotion=clip.emotion,
            speaker=clip.speaker,
        )
        for mel, target, vector, clip in zip(mels, targets, vectors, kept, strict=True)
    ]  # fmt: skip


def _read(
    clip: VoiceClip, embed: Embed, folder: Path, tag: str
) -> tuple[Float32[np.ndarray, "band frame"], Float32[np.ndarray, "width"]]:
    key = hashlib.sha256(f"{clip.path.resolve()}|{tag}".encode()).hexdigest()[:24]
    cache = folder / f"{key}.npz"
    if cache.is_file():
        with np.load(cache) as file:
            return file["mel"].astype(np.float32), file["embedding"]
    audio = load_audio(clip.path)
    if clip.heard_s is not None:
        audio = audio.sliced(0.0, clip.heard_s)
    samples = torch.from_numpy(audio.resampled(HIFIGAN_MEL.rate).mono())
    mel = vocoder_mel(samples).numpy()
    vector = embed(audio.resampled(RATE).mono()).numpy().astype(np.float32)
    with atomic_path(cache) as temporary:
        np.savez(temporary, mel=mel.astype(np.float16), embedding=vector)
    return mel.astype(np.float16).astype(np.float32), vector


def phone_units(clips: Sequence[VoiceClip], mels: Sequence[np.ndarray]) -> list[Int[np.ndarray, "frame"]]:
    """The number of the phone in each frame, from the clips' marks."""
    names = sorted({phone.phone for clip in clips for phone in clip.phones or ()} | {PAUSE})
    rows = []
    for clip, mel in zip(clips, mels, strict=True):
        labels = np.full(mel.shape[1], names.index(PAUSE))
        for phone in clip.phones or ():
            first, last = (round(second * HIFIGAN_MEL.fps) for second in (phone.start, phone.end))
            labels[max(first, 0) : last] = names.index(phone.phone)
        rows.append(labels)
    return rows


def sound_units(
    clips: Sequence[VoiceClip], mels: Sequence[np.ndarray], units: int, seed: int
) -> list[Int[np.ndarray, "frame"]]:
    """The nearest of `units` clusters in each frame: k-means on cepstra whose speaker mean and spread are removed."""
    features = [cepstra(mel) for mel in mels]
    for speaker in sorted({clip.speaker for clip in clips}):
        rows = [row for row, clip in enumerate(clips) if clip.speaker == speaker]
        together = np.concatenate([features[row] for row in rows])
        mean, spread = together.mean(axis=0), together.std(axis=0) + 1e-6
        for row in rows:
            features[row] = (features[row] - mean) / spread
    rng = np.random.default_rng(seed)
    pool = np.concatenate(features)
    chosen = pool[np.sort(rng.permutation(len(pool))[:_UNIT_FRAMES])]
    centres, _ = kmeans2(chosen, min(units, max(2, len(chosen) // 8)), minit="++", iter=20, rng=rng)
    return [vq(each, centres)[0].astype(np.int64) for each in features]


def cepstra(mel: Float[np.ndarray, "band frame"]) -> Float[np.ndarray, "frame cepstrum"]:
    """Mel cepstra and their change from frame to frame, the level left out."""
    coefficients = np.asarray(dct(mel.astype(np.float64), type=2, axis=0, norm="ortho"))[1 : _CEPSTRA + 1].T
    return np.concatenate([coefficients, np.gradient(coefficients, axis=0)], axis=1)


def average_voice(
    mels: Sequence[Float[np.ndarray, "band _"]], labels: Sequence[Int[np.ndarray, "_"]]
) -> list[Float32[np.ndarray, "band _"]]:
    """Each frame replaced by the mean mel of its unit over the whole corpus (DiffVC's average voice)."""
    count = int(max(label.max() for label in labels)) + 1
    total, frames = np.zeros((count, mels[0].shape[0])), np.zeros(count)
    for mel, label in zip(mels, labels, strict=True):
        np.add.at(total, label, mel.T)
        frames += np.bincount(label, minlength=count)
    table = (total / np.maximum(frames, 1)[:, None]).astype(np.float32)
    return [table[label].T for label in labels]


def crops(utterances: Sequence[Utterance], *, size: int, frames: int, rng: np.random.Generator) -> Crops:
    """Random stretches of `frames` frames at most of `size` random utterances."""
    chosen = [utterances[int(row)] for row in rng.integers(len(utterances), size=size)]
    bands = chosen[0].mel.shape[0]
    planes = np.zeros((3, len(chosen), bands, frames), np.float32)
    lengths = np.zeros((2, len(chosen)), np.int64)
    for row, each in enumerate(chosen):
        whole = each.mel.shape[1]
        length = min(frames, whole)
        starts = rng.integers(whole - length + 1, size=2)
        lengths[:, row] = length
        planes[0, row, :, :length] = each.mel[:, starts[0] : starts[0] + length]
        planes[1, row, :, :length] = each.target[:, starts[0] : starts[0] + length]
        planes[2, row, :, :length] = each.mel[:, starts[1] : starts[1] + length]
    mel, target, reference = torch.from_numpy(planes)
    return Crops(
        mel=mel, target=target, reference=reference, lengths=torch.from_numpy(lengths[0]),
        reference_lengths=torch.from_numpy(lengths[1]),
        embedding=torch.from_numpy(np.stack([each.embedding for each in chosen])),
    )  # fmt: skip
