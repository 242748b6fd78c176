"""Readings of training speech for the motion networks: who said what when, and how the content network heard it.

Each clip gives two files: `SOURCE-NAME-oracle.npz`, in which every phone is exact, and `SOURCE-NAME-embedded.npz`, the
posteriors of the embedded content network for a slightly spoilt recording of the same length.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Float

from affetto.media.espeak import espeak
from affetto.runtime.errors import InvalidInputError, MissingResourceError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.speech import texts
from affetto.speech.augment import Augmentation, augment
from affetto.speech.content import SpeechContent, loudness_curve
from affetto.speech.content_data import (
    LANGUAGES,
    WORST_SCORE,
    aligned,
    babble_of,
    corpus_texts,
    sentence_clips,
)
from affetto.speech.corpus import Utterance, read_emodb, speak_espeak, speak_flite
from affetto.speech.phones import PHONES
from affetto.speech.reader import ContentReader

# Tempo stays, so that the phone times of the recording hold for the spoilt version too.
LIGHT = Augmentation(
    speed=0.0, colour_db=6.0, noise_chance=0.5, noise_db=(15.0, 35.0), room_chance=0.3, band_chance=0.2
)
_FLITE_VOICES = ("slt", "rms", "awb")
_ESPEAK_VOICES = ("de", "de+f3", "de+m3")
_FLITE_TEXTS, _ESPEAK_TEXTS = 200, 140
_VALIDATION_EVERY = 20  # of the synthesised clips


def is_corpora(data: Path) -> bool:
    """Whether `data` is the folder of the speech corpora (rather than one of readings)."""
    return (data / "speech" / "emodb").is_dir()


def readings_of(
    data: Path,
    output: Path,
    *,
    synthetic: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Path:
    """The folder of readings that training `output` on `data` uses: `data` itself unless it is the corpora folder.

    For the corpora they are made once, in `<output stem>-work/readings` beside the output; an interrupted attempt is
    begun again. See `write_readings` for `synthetic`.
    """
    if not is_corpora(data):
        return data
    folder = output.parent / f"{output.stem}-work" / "readings"
    if not folder.is_dir():
        unfinished = folder.with_name("readings-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_readings(data, unfinished, synthetic=synthetic, progress=progress, cancel=cancel)
        unfinished.rename(folder)
    return folder


def write_readings(
    data: Path,
    folder: Path,
    *,
    seed: int = 3,
    synthetic: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> int:
    """Write two readings of every training and validation clip to `folder`; returns the number of clips.

    `data` holds `speech/emodb`, `speech/english_kathleen` and `speech/german_kerstin`. Test speakers and Dutch are
    never read. `synthetic` adds sentences spoken by flite and espeak-ng. Raises InvalidInputError when a corpus is
    missing, MissingResourceError without espeak-ng, or flite where that is needed.
    """
    for name in ("emodb", *LANGUAGES):
        if not (data / "speech" / name / "index.csv").is_file():
            raise InvalidInputError(
                f"{data}: lacks speech/{name}/index.csv: name the folder that holds the corpora"
            )
    if synthetic and shutil.which("flite") is None:
        raise MissingResourceError("making readings needs the program flite: install it (apt install flite)")
    espeak()  # complains now rather than after the corpora when there is none
    reader = ContentReader.from_pretrained("embedded", device="cpu", dtype="fp32")
    babble = babble_of(data)
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for clip in training_clips(data, reader, seed=seed, synthetic=synthetic):
        if cancel is not None:
            cancel.check()
        write_clip(folder, clip, reader, rng=np.random.default_rng([seed, count]), babble=babble)
        count += 1
        if progress is not None:
            progress(
                ProgressEvent(stage="readings", done=count, total=0, message=f"{clip.source} {clip.name}")
            )
    return count


def training_clips(
    data: Path, reader: ContentReader, *, seed: int, synthetic: bool = True
) -> Iterator[Utterance]:
    """Every clip that the motion networks may learn from or be validated on, with timed phones, in a fixed order."""
    yield from (clip for clip in read_emodb(data / "speech" / "emodb") if clip.split != "test")
    yield from (clip for clip, score in aligned(sentence_clips(data), reader) if score > WORST_SCORE)
    if synthetic:
        yield from spoken_clips(corpus_texts(data), seed=seed)


def spoken_clips(lines: Mapping[str, Sequence[str]], *, seed: int) -> Iterator[Utterance]:
    """English lines by flite, then German ones by espeak-ng, at random tempo; every twentieth is validation."""
    rng = np.random.default_rng([seed, 1])
    for index, text in enumerate(lines["en-us"][:_FLITE_TEXTS]):
        voice = _FLITE_VOICES[index % len(_FLITE_VOICES)]
        clip = speak_flite(f"en{index:04d}{voice}", text, voice, stretch=float(rng.uniform(0.85, 1.2)))
        yield _shared_out(clip, index)
    german = [*lines["de"][:_ESPEAK_TEXTS], *texts.SENTENCES["de"]]
    speeds = [int(wpm) for wpm in rng.integers(125, 200, len(german))]
    # What espeak-ng said before changes, by a few samples, what it says next: a process of its own starts afresh.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for index, clip in enumerate(pool.map(_speak_german, range(len(german)), german, speeds)):
            yield _shared_out(clip, index)


def _speak_german(index: int, text: str, wpm: int) -> Utterance:
    voice = _ESPEAK_VOICES[index % len(_ESPEAK_VOICES)]
    return speak_espeak(espeak(), f"de{index:04d}", text, voice, wpm=wpm, pitch=50, spread=50)


def _shared_out(clip: Utterance, index: int) -> Utterance:
    last = index % _VALIDATION_EVERY == _VALIDATION_EVERY - 1
    return replace(clip, split="validation") if last else clip


def write_clip(
    folder: Path,
    clip: Utterance,
    reader: ContentReader,
    *,
    rng: np.random.Generator,
    babble: Sequence[Float[np.ndarray, "_"]],
) -> None:
    """Write the exact reading of a clip and what `reader` makes of a lightly spoilt version of it."""
    exact = SpeechContent.from_phones(clip.phones, clip.seconds, loudness_curve(clip.samples))
    write_reading(folder, clip, exact, "oracle")
    spoilt, _ = augment(clip.samples, clip.phones, rng, babble, LIGHT)
    length = len(clip.samples)
    spoilt = np.pad(spoilt, (0, max(length - len(spoilt), 0)))[:length]
    write_reading(folder, clip, reader(spoilt), "embedded")


def write_reading(folder: Path, clip: Utterance, content: SpeechContent, reader: str) -> Path:
    """Write `SOURCE-NAME-READER.npz`, one reading as `clips.read_clips` expects it; returns its path."""
    path = folder / f"{clip.source}-{clip.name}-{reader}.npz"
    phones = clip.phones
    releases = [np.nan if phone.release is None else phone.release for phone in phones]
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            phones=content.phones.astype(np.float16),
            closure=content.closure,
            loudness=content.loudness,
            speaking=content.speaking,
            phone_names=np.array([phone.phone for phone in phones], np.str_),
            starts=np.array([phone.start for phone in phones], np.float32),
            ends=np.array([phone.end for phone in phones], np.float32),
            stress=np.array([phone.stress for phone in phones], np.float32),
            releases=np.array(releases, np.float32),
            closes=np.array([phone.closes for phone in phones], np.bool_),
            seconds=np.array(clip.seconds),
            split=np.array(clip.split),
            source=np.array(clip.source),
            inventory=np.array(PHONES),
        )
    return path
