"""Acted speech to learn a voice bank from: readers of the usual corpora and of plain folders."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from affetto.conditioning.lexicon import find_term
from affetto.media.lablaut import read_marks, split_label
from affetto.runtime.errors import InvalidInputError, UsageError

PAUSE = "sil"
NEUTRAL = "neutral"
_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class SpokenPhone:
    """Something said between two times in seconds; `sil` where nothing is."""

    phone: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class VoiceClip:
    """One acted recording. Clips of one speaker with the same `text_id` say the same words.

    `emotion` is a lexicon term, `strength` how strongly it was acted (1 where the corpus has no levels), `phones` what
    is said when (None where unknown), `heard_s` how much of the recording exists where it was cut short.
    """

    path: Path
    speaker: str
    text_id: str
    emotion: str
    strength: float = 1.0
    phones: tuple[SpokenPhone, ...] | None = None
    heard_s: float | None = None


def read_emodb(folder: Path) -> Iterator[VoiceClip]:
    """EMO-DB: `wav/03a01Fa.wav` as published, or `index.csv` with `audio/*.flac`; phone marks from `phones` or `lablaut`."""
    cut: dict[str, float] = {}
    if (folder / "index.csv").is_file():
        with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                cut[row["name"]] = float(row["seconds"]) if row.get("extent", "whole") != "whole" else 0.0
        files = [folder / "audio" / f"{name}.flac" for name in cut]
    else:
        files = _sounds(folder / "wav")
    for path in files:
        found = re.fullmatch(r"(\d\d)([ab]\d\d)([WLEAFTN])\w*", path.stem)
        if found is None:
            continue
        labels = next(
            (p for p in (folder / kind / f"{path.stem}{tail}.lablaut" for kind in ("phones", "lablaut") for tail in ("xx", ""))
             if p.is_file()), None,
        )  # fmt: skip
        yield VoiceClip(
            path=path, speaker=found[1], text_id=found[2], emotion=_EMODB[found[3]],
            phones=spoken_phones(labels) if labels else None, heard_s=cut.get(path.stem) or None,
        )  # fmt: skip


_EMODB: Mapping[str, str] = {
    "W": "angry", "L": "bored", "E": "disgusted", "A": "fear", "F": "happy", "T": "sad", "N": NEUTRAL,
}  # fmt: skip


def spoken_phones(labels: Path) -> tuple[SpokenPhone, ...]:
    """Phones of an EMO-DB label file: closures, bursts and breath joined to the phone they belong to."""
    phones: list[SpokenPhone] = []
    marks = read_marks(labels)
    for index, (start, label) in enumerate(marks):
        end = marks[index + 1][0] if index + 1 < len(marks) else start
        mark, symbol, _ = split_label(label)
        name = PAUSE if symbol.startswith((".", "(")) else symbol.removesuffix("asp").replace(":", "")
        last = phones[-1] if phones else None
        goes_on = last is not None and (
            not name or (name == last.phone and (mark == "!" or symbol.endswith("asp") or name == PAUSE))
        )
        if last is not None and goes_on:
            phones[-1] = SpokenPhone(last.phone, last.start, max(end, last.end))
        elif name:
            phones.append(SpokenPhone(name, start, end))
    return tuple(phone for phone in phones if phone.end > phone.start)


def read_crema_d(folder: Path) -> Iterator[VoiceClip]:
    """CREMA-D: `AudioWAV/1001_IEO_ANG_HI.wav`, actor, sentence, emotion, level."""
    emotions = {
        "ANG": "angry", "DIS": "disgusted", "FEA": "fear", "HAP": "happy", "NEU": NEUTRAL, "SAD": "sad",
    }  # fmt: skip
    levels = {"LO": 0.4, "MD": 0.7, "HI": 1.0}
    for path in _sounds(folder / "AudioWAV" if (folder / "AudioWAV").is_dir() else folder):
        found = re.fullmatch(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{2})", path.stem)
        if found and found[3] in emotions:
            yield VoiceClip(
                path=path, speaker=found[1], text_id=found[2], emotion=emotions[found[3]],
                strength=levels.get(found[4], 0.8),
            )  # fmt: skip


def read_ravdess(folder: Path) -> Iterator[VoiceClip]:
    """RAVDESS speech: `Actor_01/03-01-06-02-01-01-01.wav`; the third number is the emotion, the fourth its strength."""
    emotions = (NEUTRAL, "calm", "happy", "sad", "angry", "fear", "disgusted", "surprised")
    for path in _sounds(folder):
        fields = path.stem.split("-")
        if len(fields) == 7 and all(re.fullmatch(r"\d\d", f) for f in fields) and fields[1] == "01":
            number = int(fields[2])
            if 1 <= number <= len(emotions):
                yield VoiceClip(
                    path=path, speaker=fields[6], text_id=fields[4], emotion=emotions[number - 1],
                    strength=1.0 if fields[3] == "02" else 0.7,
                )  # fmt: skip


def read_esd(folder: Path) -> Iterator[VoiceClip]:
    """ESD: `0011/Angry/0011_000351.wav`; of a speaker's 1750 takes, each 350 repeat the same sentences in an emotion."""
    emotions = (NEUTRAL, "angry", "happy", "sad", "surprised")
    for path in _sounds(folder):
        found = re.fullmatch(r"(\d{4})_(\d{6})", path.stem)
        if found and 1 <= int(found[2]) <= 1750:
            take = int(found[2]) - 1
            yield VoiceClip(
                path=path, speaker=found[1], text_id=f"{take % 350 + 1:03d}", emotion=emotions[take // 350]
            )


def read_nemo(folder: Path) -> Iterator[VoiceClip]:
    """nEMO: `samples/EB0_anger_12.wav`, speaker, emotion, sentence."""
    emotions = {
        "anger": "angry", "fear": "fear", "happiness": "happy", "neutral": NEUTRAL, "sadness": "sad",
        "surprise": "surprised",
    }  # fmt: skip
    for path in _sounds(folder / "samples" if (folder / "samples").is_dir() else folder):
        found = re.fullmatch(r"(\w+?)_([a-z]+)_(\d+)", path.stem)
        if found and found[2] in emotions:
            yield VoiceClip(path=path, speaker=found[1], text_id=found[3], emotion=emotions[found[2]])


def read_jl_corpus(folder: Path) -> Iterator[VoiceClip]:
    """JL-Corpus: `female1_angry_10a_1.wav`, speaker, emotion, sentence, session; its five primary emotions."""
    emotions = {"angry": "angry", "happy": "happy", "excited": "excited", "neutral": NEUTRAL, "sad": "sad"}
    for path in _sounds(folder):
        found = re.fullmatch(r"((?:fe)?male\d)_([a-z]+)_(\d+)[a-z]?_\d+", path.stem)
        if found and found[2] in emotions:
            yield VoiceClip(path=path, speaker=found[1], text_id=found[3], emotion=emotions[found[2]])


def read_thorsten(folder: Path) -> Iterator[VoiceClip]:
    """Thorsten-emotional: a folder for each style, the same file name for the same sentence; one speaker."""
    emotions = {
        "amused": "happy", "angry": "angry", "disgusted": "disgusted", "neutral": NEUTRAL,
        "surprised": "surprised",
    }  # fmt: skip
    for path in _sounds(folder):
        style = path.parent.name.lower()
        if style in emotions and path.parent.parent == folder:
            yield VoiceClip(path=path, speaker="thorsten", text_id=path.stem, emotion=emotions[style])


def read_folders(folder: Path) -> Iterator[VoiceClip]:
    """`SPEAKER/EMOTION/NAME.wav`; the same name means the same words. `angry@0.6` as EMOTION tells the strength."""
    for path in _sounds(folder):
        parts = path.relative_to(folder).parts
        if len(parts) != 3:
            continue
        label, _, level = parts[1].partition("@")
        term = find_term(label)
        strength = float(level) if re.fullmatch(r"\d*\.?\d+", level) else 1.0 if not level else 0.0
        if term is None or not 0.05 <= strength <= 2.0:
            raise InvalidInputError(
                f"{path.parent}: {parts[1]!r} is no emotion: name it such as angry or angry@0.6"
            )
        yield VoiceClip(path=path, speaker=parts[0], text_id=path.stem, emotion=term.name, strength=strength)


CORPORA: Mapping[str, Callable[[Path], Iterator[VoiceClip]]] = {
    "emodb": read_emodb,
    "crema-d": read_crema_d,
    "ravdess": read_ravdess,
    "esd": read_esd,
    "nemo": read_nemo,
    "jl-corpus": read_jl_corpus,
    "thorsten-emotional": read_thorsten,
    "dir": read_folders,
}
"""The readers by the name that `--data NAME:FOLDER` takes; the order in which a bare folder is tried."""


def read_corpus(data: str | Path) -> list[VoiceClip]:
    """The clips of `KIND:FOLDER`, or of a folder whose kind its file names tell.

    Raises UsageError for an unknown kind, InvalidInputError where no speaker has both neutral and emotional clips.
    """
    kind, _, rest = str(data).partition(":")
    folder = Path(rest) if kind in CORPORA and rest else Path(data)
    if not folder.is_dir():
        kinds = ", ".join(CORPORA)
        raise UsageError(f"{data}: no such folder: give a folder, or KIND:FOLDER with one of {kinds}")
    readers = [CORPORA[kind]] if kind in CORPORA and rest else CORPORA.values()
    for reader in readers:
        clips = sorted(reader(folder), key=lambda clip: str(clip.path))
        if clips:
            _check(clips, folder)
            return clips
    raise InvalidInputError(
        f"{folder}: holds no speech in a known layout: arrange it as SPEAKER/EMOTION/NAME.wav"
    )


def _check(clips: list[VoiceClip], folder: Path) -> None:
    spoken: dict[str, set[str]] = {}
    for clip in clips:
        spoken.setdefault(clip.speaker, set()).add(clip.emotion)
    if not any(NEUTRAL in emotions and len(emotions) > 1 for emotions in spoken.values()):
        raise InvalidInputError(
            f"{folder}: no speaker has neutral and emotional recordings: a bank needs both"
        )


def _sounds(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
