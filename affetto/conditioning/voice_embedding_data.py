"""What the voice embedding learns from: acted speech (EMO-DB) and bursts of voice without words (EmoGator)."""

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from jaxtyping import Float, Int
from torch import Tensor

from affetto.conditioning.charts import transport
from affetto.conditioning.encoders.speech import CLASS_VAD
from affetto.conditioning.encoders.speech_features import SpeechSpec
from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES
from affetto.conditioning.lexicon import lookup
from affetto.conditioning.train_data import SpeechClips, SpeechFeatures, clip_features, disturbed, load_clips
from affetto.media.audio import load_audio
from affetto.runtime.errors import InvalidInputError

BURST_TERMS: tuple[str, ...] = (
    "loved", "enjoyment", "angry", "awed", "confused", "contempt", "relaxed", "in-love", "discouraged", "disgusted",
    "distressed", "elated", "elated", "embarrassed", "fear", "guilty", "interested", "neutral", "pain", "proud",
    "interested", "relaxed", "in-love", "sad", "serene", "shamed", "surprised", "surprised", "pity", "triumphant",
)  # fmt: skip
"""The lexicon term nearest to each of EmoGator's thirty categories, in their order (01 adoration ... 30 triumph)."""

NEGATIVE_SURPRISE = 26
"""The category whose valence is the opposite of the lexicon's surprise."""

BURST_CLASS: dict[int, str] = {
    1: "happiness", 2: "anger", 9: "disgust", 11: "happiness", 12: "happiness", 14: "fear", 17: "neutral",
    23: "sadness", 29: "happiness",
}  # fmt: skip
"""Categories that are one of the seven classes of the speech."""


def burst_vad() -> Float[np.ndarray, "category 3"]:
    """Where each category lies on the voice chart: its term's place in the lexicon, carried over."""
    places = np.array([lookup(term).vad for term in BURST_TERMS], np.float64)
    places[NEGATIVE_SURPRISE, 0] *= -1.0
    return transport(places, "lexical", "voice")


@dataclass(frozen=True, kw_only=True)
class Voices:
    """Clips of one corpus with all that they are asked for: a class (-1 for none), a category, VAD, a speaker."""

    features: SpeechFeatures
    speakers: tuple[str, ...]
    categories: Int[np.ndarray, "clip"]  # of the corpus itself
    classes: Int[np.ndarray, "clip"]  # of SPEECH_CLASSES, -1 for none
    vad: Float[np.ndarray, "clip 3"]  # on the voice chart

    def rows(self, held_out: tuple[str, ...], *, others: bool = False) -> Int[np.ndarray, "row"]:
        """The clips of the held-out speakers, or of all `others`."""
        belongs = np.isin(np.array(self.speakers), list(held_out))
        return np.flatnonzero(~belongs if others else belongs)

    def batch(
        self, chosen: Int[np.ndarray, "row"], spec: SpeechSpec, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features, active frames and statistics of a random variation of each chosen clip, disturbed once more."""
        features = self.features
        variation = rng.integers(0, len(features.frames), len(chosen))
        active = features.active[variation, chosen]
        frames = disturbed(features.frames[variation, chosen].float(), active, spec, rng)
        statistics = features.statistics[variation, chosen]
        return frames, active, statistics


def load_speech(data: Path, spec: SpeechSpec, *, variations: int, seed: int) -> Voices:
    """The first two seconds of every EMO-DB recording in `data` (its folder, or the one above it)."""
    clips = load_clips(data / "emodb" if (data / "emodb").is_dir() else data, spec)
    features = clip_features(clips, spec, variations=variations, seed=seed)
    return Voices(
        features=features, speakers=clips.speakers, categories=clips.labels, classes=clips.labels,
        vad=CLASS_VAD[clips.labels],
    )  # fmt: skip


def load_bursts(data: Path, spec: SpeechSpec, *, variations: int, seed: int) -> Voices | None:
    """The bursts of `data/emogator/bursts.zip` (names PERSON-CATEGORY-TAKE.mp3), None when there is no such file."""
    archive = data / "emogator" / "bursts.zip"
    if not archive.is_file():
        return None
    speakers, labels, sounds = [], [], []
    try:
        with zipfile.ZipFile(archive) as bundle, tempfile.TemporaryDirectory() as folder:
            for name in sorted(bundle.namelist()):
                person, _, category = name.rpartition(".")[0].rpartition("-")[0].rpartition("-")
                path = Path(folder) / "burst.mp3"
                path.write_bytes(bundle.read(name))
                speakers.append(person)
                labels.append(int(category) - 1)
                sounds.append(_trimmed(load_audio(path).mono(), load_audio(path).rate, spec))
    except (zipfile.BadZipFile, ValueError) as error:
        raise InvalidInputError(f"{archive}: is not the archive of EmoGator's bursts ({error})") from error
    samples = np.zeros((len(sounds), spec.samples), np.float32)
    for row, sound in enumerate(sounds):
        samples[row, : len(sound)] = sound
    categories = np.array(labels)
    clips = SpeechClips(
        samples=samples, lengths=np.array([len(sound) for sound in sounds]), labels=categories,
        speakers=tuple(speakers),
    )  # fmt: skip
    classes = np.array(
        [SPEECH_CLASSES.index(BURST_CLASS[k]) if k in BURST_CLASS else -1 for k in range(len(BURST_TERMS))]
    )
    return Voices(
        features=clip_features(clips, spec, variations=variations, seed=seed), speakers=clips.speakers,
        categories=categories, classes=classes[categories], vad=burst_vad()[categories],
    )  # fmt: skip


def _trimmed(sound: np.ndarray, rate: int, spec: SpeechSpec) -> np.ndarray:
    """The first window of a sound from shortly before it begins, at the front end's rate."""
    mono = np.asarray(soxr.resample(sound, rate, spec.mel.rate), np.float32)
    loud = np.flatnonzero(np.abs(mono) > 0.05 * np.abs(mono).max(initial=0.0))
    start = max(0, int(loud[0]) - spec.mel.rate // 20) if len(loud) else 0
    return mono[start : start + spec.samples]


def as_tensor(values: np.ndarray) -> Tensor:
    """A tensor of the kind that losses take: float32 for floats, int64 for integers."""
    return torch.from_numpy(values).float() if values.dtype.kind == "f" else torch.from_numpy(values).long()
