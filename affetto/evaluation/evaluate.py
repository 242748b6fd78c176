"""`evaluate`: was it what was asked for? Files of any medium measured by critics, scored against a track and each other."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.evaluation import critics, preservation
from affetto.evaluation.measuring import Measured, target_course
from affetto.evaluation.scores import (
    AXES,
    agreement,
    calibration_error,
    ccc,
    js_divergence,
    overlap,
    plausible,
    top_k,
    transition,
    vad_error,
)
from affetto.media.animation.files import load_curves
from affetto.media.animation.gltf_curves import read_glb_curves
from affetto.media.audio import Audio, load_audio
from affetto.media.midi import load_midi
from affetto.media.video import read_sound
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.progress import ProgressCallback, ProgressEvent

SOUND = (".wav", ".flac", ".ogg", ".mp3")
CURVES = (".csv", ".json", ".npz", ".glb")
NOTES = (".mid", ".midi")
VIDEO = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
SUFFIXES = (*SOUND, *CURVES, *NOTES, *VIDEO)

_LANES = {"voice": "voice", "face": "face", "music": "music", "portrait": "portrait"}
_COMMON_HZ = 4.0


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What files are held against, and by whom; all may be left out."""

    target: EmotionTrack | None = None
    neutral: Path | None = None  # a neutral recording of the same speaker, for the critic of voices
    source: Path | None = None  # what a voice or a piece was made from
    audio: Path | None = None  # the sound that belongs to curves
    reference: Path | None = None  # a perfect version of the same kind of file
    encoder: str = "embedded"


@dataclass(frozen=True, kw_only=True, eq=False)
class FileReading:
    """One file: what each of its media expresses, and scores that need no target."""

    path: Path
    measured: tuple[Measured, ...]
    seconds: float
    kept: Mapping[str, float | str] = field(default_factory=dict)  # what was preserved, and quality


def evaluate(
    paths: Sequence[str | Path],
    options: EvaluateOptions | None = None,
    *,
    callback: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Everything about the files as plain values: readings, scores against the target, agreement between media.

    Every reading names its critic with the critic's own accuracy. Raises InvalidInputError for a file nobody can judge.
    """
    options = options or EvaluateOptions()
    readings = []
    for done, path in enumerate(paths):
        if callback is not None:
            callback(ProgressEvent(stage="evaluate", done=done, total=len(paths)))
        readings.append(read_file(Path(path), options))
    rows = [_file_document(reading, options.target) for reading in readings]
    parts = [part for reading in readings for part in reading.measured]
    document: dict[str, Any] = {"files": rows}
    if options.target is not None:
        document["target"] = str(options.target)
        document["calibration"] = _calibration(parts, options.target)
    pairs = _agreements(parts, options.target)
    if pairs:
        document["agreement"] = pairs
    return document


def read_file(path: Path, options: EvaluateOptions) -> FileReading:
    """What a file expresses, by the critics of its media."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: nobody here judges {suffix or 'a name without suffix'}: use {' '.join(SUFFIXES)}"
        )
    if suffix in SOUND:
        return _read_sound_file(path, options)
    if suffix in NOTES:
        return _read_notes(path, options)
    if suffix in VIDEO:
        return _read_video(path, options)
    curves = read_glb_curves(path) if suffix == ".glb" else load_curves(path)
    measured = critics.measure_face(curves, encoder=_encoder(options, "face"))
    kept: dict[str, float | str] = {}
    if options.audio is not None:
        kept |= preservation.lips(curves, load_audio(options.audio))
    if options.reference is not None:
        kept |= preservation.curve_quality(curves, load_curves(options.reference))
    return FileReading(path=path, measured=(measured,), seconds=curves.seconds, kept=kept)


def _encoder(options: EvaluateOptions, medium: str) -> str:
    """The critic asked for where the medium has it, else the embedded one."""
    return options.encoder if options.encoder in critics.ENCODERS[medium] else "embedded"


def _read_sound_file(path: Path, options: EvaluateOptions) -> FileReading:
    audio = load_audio(path)
    neutral = load_audio(options.neutral) if options.neutral is not None else None
    measured = critics.measure_voice(audio, neutral=neutral, encoder=_encoder(options, "voice"))
    kept: dict[str, float | str] = {}
    if options.source is not None:
        kept |= preservation.words_and_speaker(audio, load_audio(options.source))
    if options.reference is not None:
        kept |= preservation.sound_quality(audio, load_audio(options.reference))
    return FileReading(path=path, measured=(measured,), seconds=audio.seconds, kept=kept)


def _read_notes(path: Path, options: EvaluateOptions) -> FileReading:
    score = load_midi(path)
    measured = critics.measure_music(score, encoder=_encoder(options, "music"))
    kept: dict[str, float | str] = {}
    if options.source is not None and options.source.suffix.lower() in NOTES:
        kept |= preservation.melody(score, load_midi(options.source))
    return FileReading(path=path, measured=(measured,), seconds=score.seconds, kept=kept)


def _read_video(path: Path, options: EvaluateOptions) -> FileReading:
    from affetto.evaluation.video_faces import read_faces  # loads the networks that find faces

    sound = read_sound(path)
    seen = read_faces(path)
    measured = [critics.measure_seen(seen, path, encoder=_encoder(options, "video"))]
    kept: dict[str, float | str] = {"faces found": seen.found}
    if sound is not None and not sound.is_silent:
        neutral = load_audio(options.neutral) if options.neutral is not None else None
        measured.append(
            critics.measure_voice(Audio(samples=sound.samples, rate=sound.rate, path=path), neutral=neutral)
        )
        kept |= preservation.lips(seen.curves, sound)
    kept |= preservation.identity(seen)
    if options.reference is not None:
        kept |= preservation.video_quality(path, options.reference)
    return FileReading(path=path, measured=tuple(measured), seconds=seen.curves.seconds, kept=kept)


def _file_document(reading: FileReading, target: EmotionTrack | None) -> dict[str, Any]:
    return {
        "file": str(reading.path),
        "seconds": round(reading.seconds, 3),
        "kept": {name: _plain(value) for name, value in reading.kept.items()},
        "media": [_medium_document(part, target) for part in reading.measured],
    }


def _medium_document(part: Measured, target: EmotionTrack | None) -> dict[str, Any]:
    overall = part.overall
    document: dict[str, Any] = {
        "medium": part.medium,
        "critic": asdict(part.critic),
        "measured": {
            "emotion": _short(overall),
            "vad": [round(float(axis), 3) for axis in overall.effective_vad()],
            "mixture": {
                name: round(share, 3)
                for name, share in sorted(part.mixture.items(), key=lambda item: -item[1])[:5]
            },
            "over_time": [
                {
                    "t": round(float(t), 2),
                    "vad": [round(float(axis), 3) for axis in vad],
                    "top": part.names[int(top)],
                }
                for t, vad, top in zip(part.times, part.vad, part.shares.argmax(axis=1), strict=True)
            ],
        },
    }
    if target is not None:
        document["scores"] = scores_of(part, target)
    return document


def _short(emotion: Emotion) -> str:
    """An emotion in the text form, its three strongest names and two digits."""
    best = sorted(emotion.mixture.items(), key=lambda item: -item[1])[:3]
    if not best or emotion.intensity == 0:
        return "neutral" if emotion.intensity == 0 else str(emotion)
    total = sum(share for _, share in best)
    kept = [(name, share / total) for name, share in best if share / total >= 0.05]
    names = kept[0][0] if len(kept) == 1 else "+".join(f"{name}:{share:.2f}" for name, share in kept)
    return f"{names}@{emotion.intensity:.2f}"


def scores_of(part: Measured, target: EmotionTrack) -> dict[str, Any]:
    """All modality-free scores of one medium against a track."""
    lane = target.for_modality(part.medium)
    window = critics.MUSIC_WINDOW_S if part.medium == "music" else critics.WINDOW_S
    vad, anchors = target_course(lane, part.times, window_s=window)
    measured = part.anchors()
    weight = np.ones(len(part.times)) if part.weights is None else part.weights + 1e-6
    weight = weight / weight.sum()
    rms, spread = vad_error(part.vad, vad)
    mean_wanted, mean_got = weight @ anchors, weight @ measured
    found: dict[str, Any] = {
        "vad_rms": round(rms, 3),
        "vad_sd": round(spread, 3),
        "ccc": {axis: _plain(ccc(part.vad[:, i], vad[:, i])) for i, axis in enumerate(AXES)},
        "mixture_js": round(js_divergence(measured, anchors), 3),
        "mixture_overlap": round(overlap(measured, anchors), 3),
        "top1": round(top_k(measured, anchors), 3),
        "top2": round(top_k(measured, anchors, 2), 3),
        "whole": {
            "wanted": ANCHORS_8[int(mean_wanted.argmax())],
            "measured": ANCHORS_8[int(mean_got.argmax())],
            "plausible": [
                name for name, hit in zip(ANCHORS_8, plausible(mean_wanted[None])[0], strict=True) if hit
            ],
            "hit": bool(plausible(mean_wanted[None])[0][int(mean_got.argmax())]),
            "probability_of_wanted": round(float(mean_got[plausible(mean_wanted[None])[0]].sum()), 3),
        },
        "windows": len(part.times),
    }
    if len(part.times) >= 8:
        fps = 1.0 / float(np.median(np.diff(part.times)))
        moved = transition(part.vad, vad, fps)
        if moved is not None:
            found["transition"] = {name: round(value, 3) for name, value in asdict(moved).items()}
    return found


def _calibration(parts: Sequence[Measured], target: EmotionTrack) -> dict[str, Any]:
    """ECE of each medium's critic over its windows, against what was plausibly asked for."""
    found = {}
    for medium in dict.fromkeys(part.medium for part in parts):
        sure: list[float] = []
        hit: list[bool] = []
        for part in (each for each in parts if each.medium == medium):
            _, anchors = target_course(target.for_modality(medium), part.times)
            measured = part.anchors()
            sure += measured.max(axis=1).tolist()
            allowed = plausible(anchors)
            hit += allowed[np.arange(len(measured)), measured.argmax(axis=1)].tolist()
        result = asdict(calibration_error(sure, hit))
        found[medium] = {name: v if isinstance(v, int) else round(v, 3) for name, v in result.items()}
    return found


def _agreements(parts: Sequence[Measured], target: EmotionTrack | None) -> list[dict[str, Any]]:
    """How alike any two media are, and whether a conflict that was asked for is there."""
    found = []
    for first, second in itertools.combinations(parts, 2):
        if first.medium == second.medium:
            continue
        start = max(first.times[0], second.times[0])
        stop = min(first.times[-1], second.times[-1])
        grid = np.arange(start, max(stop, start) + 1e-6, 1.0 / _COMMON_HZ)
        wanted_js = None
        if target is not None:
            one, two = (target_course(target.for_modality(each.medium), grid)[1] for each in (first, second))
            wanted_js = js_divergence(one, two)
        both = agreement(first.at(grid), second.at(grid), wanted_js=wanted_js)
        found.append(
            {
                "media": [first.medium, second.medium],
                "js": round(both.js, 3),
                "overlap": round(both.overlap, 3),
                "ccc": {axis: _plain(value) for axis, value in both.ccc.items()},
                "wanted_js": None if wanted_js is None else round(wanted_js, 3),
                "conflict_kept": both.conflict_kept,
            }
        )
    return found


def _plain(value: float | str) -> float | str | None:
    """A number for JSON: rounded, None where it does not exist."""
    if isinstance(value, str):
        return value
    return round(float(value), 4) if np.isfinite(value) else None


def check_files(paths: Sequence[Path]) -> None:
    """Raise before any work for a file that nobody judges or that is not there."""
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"{path}: nobody here judges {path.suffix or 'a name without suffix'}: use {' '.join(SUFFIXES)}"
            )
        if not path.is_file():
            raise InvalidInputError(f"{path}: no such file: check the path")
