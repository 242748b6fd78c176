"""Clips for the content network: recorded, spoken by synthesisers, aligned to their texts; made into log-mel shards."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from affetto.media.espeak import espeak
from affetto.media.mel import log_mel
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path
from affetto.speech import texts
from affetto.speech.align import align_script, snap_closures
from affetto.speech.augment import Augmentation, augment, noise
from affetto.speech.content_net import LOUD_RMS, MEL
from affetto.speech.corpus import (
    RATE,
    Utterance,
    read_emodb,
    read_sentences,
    speak_espeak,
    speak_flite,
)
from affetto.speech.g2p import merge_silences, script
from affetto.speech.phones import (
    BILABIALS,
    SILENCE,
    TimedPhone,
    closure_windows,
    phone_frames,
)
from affetto.speech.reader import ContentReader, loud_level

IGNORED = 255
COVER = 100  # a closure label of 100 means that the whole frame is closed
HELD_OUT = {"english_kathleen": 40, "german_kerstin": 20}
LANGUAGES = {"english_kathleen": "en-us", "german_kerstin": "de"}
WORST_SCORE = -3.0  # nats a phone; below it the words are not those of the recording
ESPEAK_VARIANTS = (
    *("", "+f1", "+f2", "+f3", "+f4", "+f5", "+m1", "+m2", "+m3", "+m4", "+m5", "+m7"),
    *("+klatt2", "+klatt3", "+croak", "+Annie", "+Andrea", "+steph", "+linda", "+max"),
)


def coverage(windows: Iterable[tuple[float, float]], frames: int, fps: float) -> Float[np.ndarray, "frame"]:
    """The share 0..1 of each frame (centred on its time) that lies within the windows."""
    edges = (np.arange(frames + 1) - 0.5) / fps
    covered = np.zeros(frames)
    for start, end in windows:
        inside = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0.0, None)
        covered += inside * fps
    return np.clip(covered, 0.0, 1.0).astype(np.float32)


def clip_arrays(samples: Float[np.ndarray, "sample"], phones: Sequence[TimedPhone]) -> dict[str, np.ndarray]:
    """Log-mels (frames at 100 Hz, half precision, even count) and labels at 50 Hz of one clip."""
    scaled = (samples * (LOUD_RMS / max(loud_level(samples), 1e-5))).astype(np.float32)
    mels = log_mel(torch.from_numpy(scaled), MEL).T.numpy()
    mels = mels[: len(mels) // 2 * 2].astype(np.float16)
    frames = len(mels) // 2
    names = phone_frames(phones, frames, 50.0).astype(np.uint8)
    closed = np.round(COVER * coverage(closure_windows(phones), frames, 50.0)).astype(np.uint8)
    weak = [(phone.start, phone.end) for phone in phones if phone.phone in BILABIALS and not phone.closes]
    closed[(coverage(weak, frames, 50.0) > 0) & (closed == 0)] = IGNORED
    return {"mels": mels, "phones": names, "closed": closed}


class ClipStore:
    """Clips of one or more shard files, kept in memory in half precision and drawn in batches of crops."""

    def __init__(self, shards: Iterable[Path], share: Mapping[str, float], split: str = "train") -> None:
        self.clips: list[dict[str, np.ndarray]] = []
        weights: list[float] = []
        for shard in shards:
            with np.load(shard) as arrays:
                stops, sources, splits = arrays["stops"], arrays["sources"], arrays["splits"]
                mels, phones, closed = arrays["mels"], arrays["phones"], arrays["closed"]
            starts = np.concatenate([[0], stops[:-1]])
            for start, stop, source, part in zip(starts, stops, sources, splits, strict=True):
                if part != split or stop - start < 10:
                    continue
                self.clips.append(
                    {
                        "mels": mels[2 * start : 2 * stop],
                        "phones": phones[start:stop],
                        "closed": closed[start:stop],
                    }
                )
                weights.append(float(stop - start) * share.get(str(source), 1.0))
        self.chance = np.asarray(weights) / max(sum(weights), 1e-9)

    def __len__(self) -> int:
        return len(self.clips)

    def batch(self, rng: np.random.Generator, size: int, seconds: float) -> dict[str, Tensor]:
        """A batch of crops of equal length, shorter clips padded; times of silence are sometimes wholly noise."""
        half = int(seconds * 50)
        mels = np.zeros((size, 2 * half, MEL.bands), np.float32)
        present = np.zeros((size, 2 * half), bool)
        phones = np.full((size, half), IGNORED, np.int64)
        closed = np.full((size, half), IGNORED, np.int64)
        for row, index in enumerate(rng.choice(len(self.clips), size, p=self.chance)):
            clip = self.clips[int(index)]
            length = min(half, len(clip["phones"]))
            start = int(rng.integers(0, len(clip["phones"]) - length + 1))
            order, uncertain = shuffled(length, rng)
            order = start + order
            piece = rearrange(clip["mels"][2 * start : 2 * (start + length)], "(t n) c -> t n c", n=2)
            piece = rearrange(piece[order - start], "t n c -> (t n) c").astype(np.float32)
            mels[row, : 2 * length] = mask_spectrum(piece, rng)
            present[row, : 2 * length] = True
            phones[row, :length] = np.where(uncertain, IGNORED, clip["phones"][order])
            closed[row, :length] = np.where(uncertain, IGNORED, clip["closed"][order])
        return {
            "mels": rearrange(torch.from_numpy(mels), "b t c -> b c t"),
            "present": torch.from_numpy(present),
            "phones": torch.from_numpy(phones),
            "closed": torch.from_numpy(closed),
        }


def shuffled(
    frames: int, rng: np.random.Generator, *, chance: float = 0.6
) -> tuple[Int[np.ndarray, "frame"], Bool[np.ndarray, "frame"]]:
    """An order of the frames, and those too near a cut to be trusted.

    Often pieces of 0.3 to 0.8 s change places, so that a network must listen instead of knowing the sentence by heart.
    """
    order, uncertain = np.arange(frames), np.zeros(frames, bool)
    if rng.random() >= chance or frames < 60:
        return order, uncertain
    lengths = rng.integers(15, 40, frames // 15)
    cuts = np.cumsum(lengths)[np.cumsum(lengths) < frames - 15]
    pieces = np.split(order, cuts)
    order = np.concatenate([pieces[index] for index in rng.permutation(len(pieces))])
    jumps = np.flatnonzero(np.diff(order) != 1) + 1
    for reach in (-2, -1, 0, 1):
        uncertain[np.clip(jumps + reach, 0, frames - 1)] = True
    return order, uncertain


def warp_bands(mels: Float[np.ndarray, "frame band"], factor: float) -> Float[np.ndarray, "frame band"]:
    """The log-mels of a throat whose formants lie `factor` times as high on the mel scale; pitch and time stay."""
    place = np.clip(np.arange(mels.shape[1]) / factor, 0.0, mels.shape[1] - 1.001)
    below = place.astype(np.int64)
    share = (place - below).astype(mels.dtype)
    return mels[:, below] * (1 - share) + mels[:, below + 1] * share


def mask_spectrum(
    mels: Float[np.ndarray, "frame band"], rng: np.random.Generator
) -> Float[np.ndarray, "frame band"]:
    """Another throat, now and then a masked band, and noise under everything.

    Frames are never masked: what cannot be heard would have to be guessed from the sentence.
    """
    out = warp_bands(mels, float(rng.uniform(0.88, 1.12))) if rng.random() < 0.7 else mels.copy()
    width, start = int(rng.integers(0, 9)), int(rng.integers(0, MEL.bands))
    out[:, start : start + width] = float(out.mean())
    if rng.random() < 0.3:
        floor = float(np.percentile(out, 90)) - rng.uniform(4.0, 11.0)
        slope = np.linspace(rng.uniform(-1.5, 1.5), rng.uniform(-2.5, 1.0), MEL.bands)
        hiss = floor + slope + np.log(rng.gamma(3.0, 1.0 / 3.0, out.shape))
        out = np.logaddexp(out, hiss)
    return out.astype(np.float32)


def write_shard(path: Path, clips: Iterable[tuple[Utterance, dict[str, np.ndarray]]]) -> int:
    """Write the arrays of many clips as one file; returns how many there were."""
    kept = list(clips)
    if not kept:
        raise InvalidInputError(f"{path}: no clips to write: is the data folder complete?")
    joined = {
        name: np.concatenate([arrays[name] for _, arrays in kept]) for name in ("mels", "phones", "closed")
    }
    stops = np.cumsum([len(arrays["phones"]) for _, arrays in kept])
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            stops=stops,
            sources=np.array([clip.source for clip, _ in kept]),
            splits=np.array([clip.split for clip, _ in kept]),
            names=np.array([clip.name for clip, _ in kept]),
            **joined,  # pyright: ignore[reportArgumentType]
        )
    return len(kept)


def versions(
    clips: Iterable[Utterance], copies: Mapping[str, int], *, seed: int, babble: Sequence[np.ndarray]
) -> Iterator[tuple[Utterance, dict[str, np.ndarray]]]:
    """Every clip as it is, and training clips in `copies[source]` other versions too."""
    amount = Augmentation()
    for index, clip in enumerate(clips):
        rng = np.random.default_rng([seed, index])
        yield clip, clip_arrays(clip.samples, clip.phones)
        for _ in range(copies.get(clip.source, 0) if clip.split == "train" else 0):
            samples, phones = augment(clip.samples, clip.phones, rng, babble, amount)
            yield clip, clip_arrays(samples, phones)


def corpus_texts(data: Path) -> dict[str, list[str]]:
    """The training sentences of the recorded corpora by espeak-ng language, held-out ones left aside."""
    out: dict[str, list[str]] = {}
    for name, language in LANGUAGES.items():
        with (data / "speech" / name / "index.csv").open(encoding="utf-8") as file:
            out[language] = [row["text"] for row in csv.DictReader(file)][: -HELD_OUT[name]]
    return out


def flite_clips(lines: Sequence[str], jumbles: int, *, seed: int) -> Iterator[Utterance]:
    """Each line by two of flite's recorded voices, then long jumbles of words and pseudo-words; all at random tempo."""
    rng = np.random.default_rng(seed)
    for index in range(2 * len(lines) + jumbles):
        voice, pitch = str(rng.choice(["slt", "rms", "awb"])), float(rng.uniform(80, 250))
        if index < 2 * len(lines):
            text = (
                texts.pseudo_sentence(rng, int(rng.integers(4, 9)))
                if rng.random() < 0.25
                else lines[index // 2]
            )
        else:
            text = _jumble(rng, lines, int(rng.integers(12, 24)), pseudo=0.5)
        manner = {"stretch": float(rng.uniform(0.75, 1.3)), "pitch": pitch if rng.random() < 0.4 else 0.0}
        clip = speak_flite(f"flite-{index:04d}", text, voice, **manner)
        yield replace(clip, split="validation") if index % 60 == 59 else clip


def espeak_clips(lines: Mapping[str, Sequence[str]], count: int, *, seed: int) -> Iterator[Utterance]:
    """`count` clips by espeak-ng in many languages and voices: sentences, jumbled words, pseudo-words; no Dutch."""
    rng = np.random.default_rng(seed)
    engine = espeak()
    languages = list(texts.SENTENCES)
    for index in range(count):
        draw = rng.random()
        language = "de" if draw < 0.25 else "en-us" if draw < 0.42 else str(rng.choice(languages))
        known = [*texts.SENTENCES[language], *lines.get(language, ())]
        whole = rng.random() < 0.3
        text = str(rng.choice(known)) if whole else _jumble(rng, known, int(rng.integers(5, 11)), pseudo=0.6)
        voice = language + str(rng.choice(ESPEAK_VARIANTS))
        wpm, pitch, spread = int(rng.integers(110, 245)), int(rng.integers(10, 95)), int(rng.integers(20, 90))
        clip = speak_espeak(engine, f"espeak-{index:05d}", text, voice, wpm=wpm, pitch=pitch, spread=spread)
        if clip.seconds >= 1.0:
            yield replace(clip, split="validation") if index % 40 == 39 else clip


def _jumble(rng: np.random.Generator, lines: Sequence[str], words: int, *, pseudo: float) -> str:
    if rng.random() < pseudo:
        return texts.pseudo_sentence(rng, words)
    return texts.shuffled_words(rng, lines, words)


def noise_clips(count: int, *, seed: int) -> Iterator[Utterance]:
    """Six-second clips of hiss, chords and silence in which nobody says anything (crowds are left out)."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        samples = noise(6 * RATE, rng, ()) * rng.uniform(0.0, 1.0) ** 2
        if index % 8 == 0:
            samples = samples * 0.0
        quiet = (TimedPhone(SILENCE, 0.0, 6.0),)
        samples = samples.astype(np.float32)
        name = f"noise-{index:03d}"
        yield Utterance(name=name, samples=samples, phones=quiet, split="train", source="noise", language="")


def aligned(clips: Iterable[Utterance], reader: ContentReader) -> Iterator[tuple[Utterance, float]]:
    """The clips with phones aligned to their texts, and the score of each alignment (mean log posterior)."""
    for clip in clips:
        wanted = script(clip.text, clip.language)
        content = reader(clip.samples)
        try:
            alignment = align_script(np.log(content.phones + 1e-8), wanted, fps=content.fps)
        except InvalidInputError:
            yield clip, -np.inf
            continue
        phones = [
            replace(p, end=min(p.end, clip.seconds)) for p in alignment.phones if p.start < clip.seconds
        ]
        yield (
            replace(clip, phones=tuple(merge_silences(snap_closures(phones, clip.samples)))),
            alignment.score,
        )


def sentence_clips(data: Path) -> Iterator[Utterance]:
    """The recorded sentences that may be trained on, with their texts."""
    for name, language in LANGUAGES.items():
        yield from read_sentences(data / "speech" / name, language=language, held_out=HELD_OUT[name])


def babble_of(data: Path) -> list[np.ndarray]:
    """Some training voices to mix into murmurs."""
    return [clip.samples for clip in read_emodb(data / "speech" / "emodb") if clip.split == "train"][::9]
