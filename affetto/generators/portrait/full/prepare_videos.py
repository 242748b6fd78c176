"""Videos of speaking people as training data: cropped about the face, tracked, listened to, labelled.

A folder of videos becomes a folder with `index.csv`, and for each clip a video, its sound, and the tracked points with the
emotional evidence. Nothing is sent anywhere; use only videos of people who agreed.
"""

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from affetto.conditioning.anchors import ANCHORS_8
from affetto.generators.portrait.full.clip import FPS
from affetto.generators.portrait.full.framing import FaceBox
from affetto.generators.portrait.full.synchro_emotion import Evidence, read_evidence
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.media.audio import Audio, save_audio
from affetto.media.cells import cell_of
from affetto.media.video import look_at_video, read_frames, read_sound
from affetto.media.video_writer import VideoWriter
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.weights.store import save_tensors

INDEX, LABELS = "index.csv", "labels.csv"
COLUMNS = ("clip", "emotion", "level", "transcript", "scene", "person", "frames", "source")
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
FORMAT = "affetto-talking-clip-1"

Finder = Callable[[UInt8[np.ndarray, "row column 3"]], Sequence[FaceLandmarks]]
"""Lists the faces of a picture; `affetto.generators.portrait.detect.FaceFinder` is one."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How clips are made. Times are seconds, `track_every` frames lie between two searches for the face."""

    size: int = 512
    fps: float = FPS
    track_every: int = 3
    least_s: float = 1.0
    longest_s: float = 20.0
    seen: float = 0.8  # share of searches in which the face must be found
    rate: int = 16_000

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 1024 or self.size % 64:
            raise UsageError(f"size {self.size} must be a multiple of 64 in 64..1024")
        if not 5 <= self.fps <= 60:
            raise UsageError(f"fps {self.fps:g} is out of range: use 5 to 60; the denoiser's own is 12.5")
        if self.track_every < 1 or not 0 < self.least_s < self.longest_s:
            raise UsageError("track_every must be at least 1, and least_s below longest_s")


@dataclass(frozen=True, kw_only=True)
class Label:
    """What is known of a video beside its content."""

    emotion: str = ""  # empty: as the voice sounds
    level: int = 3
    transcript: str = ""
    scene: str = ""
    person: str = ""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What became of a folder: clips by name, and why other videos were left out."""

    clips: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)


def prepare_videos(
    folder: str | Path,
    output: str | Path,
    *,
    finder: Finder | None = None,
    options: PrepareOptions | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Prepared:
    """Write clips of every video in `folder` (`labels.csv` beside them tells what is known) to `output`.

    Videos without a steady face, without sound, or damaged are left out and named. Raises InvalidInputError when nothing
    can be used.
    """
    folder, output = Path(folder), Path(output)
    options = options or PrepareOptions()
    videos = (
        sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if folder.is_dir()
        else []
    )
    if not videos:
        raise InvalidInputError(f"{folder}: holds no videos ({', '.join(SUFFIXES)}): check the folder")
    labels = read_labels(folder / LABELS)
    output.mkdir(parents=True, exist_ok=True)
    find = finder or _own_finder()
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for number, video in enumerate(videos):
        if cancel is not None:
            cancel.check()
        name = str(video.relative_to(folder).with_suffix("")).replace("/", "_")
        label = labels.get(video.relative_to(folder).as_posix(), Label())
        try:
            rows += list(_clips(video, name, label, output, find, options))
        except (InvalidInputError, UsageError) as error:
            refused[str(video)] = str(error)
        if progress is not None:
            progress(ProgressEvent(stage="videos", done=number + 1, total=len(videos), message=video.name))
    if not rows:
        raise InvalidInputError(
            f"{folder}: no video can be used, the first because: {next(iter(refused.values()))}"
        )
    _write_index(output / INDEX, rows)
    return Prepared(clips=tuple(row["clip"] for row in rows), refused=refused)


def _clips(
    video: Path, name: str, label: Label, output: Path, find: Finder, options: PrepareOptions
) -> Iterator[dict[str, Any]]:
    """The rows of the index for one video, cut into clips of at most the longest length."""
    look_at_video(video)
    sound = read_sound(video)
    if sound is None:
        raise InvalidInputError(f"{video}: holds no sound: speech is needed")
    longest = round(options.longest_s * options.fps)
    for part, frames in enumerate(_parts(sampled(video, options.fps), longest)):
        if len(frames) < options.least_s * options.fps:
            if part == 0:
                raise InvalidInputError(f"{video}: lasts less than {options.least_s:g} s: give a longer one")
            return
        start = part * options.longest_s
        heard = _cut(sound, start, len(frames) / options.fps).resampled(options.rate)
        if heard.is_silent:
            if part == 0:
                raise InvalidInputError(f"{video}: is silent: speech is needed")
            return
        yield _clip(video, f"{name}_{part:03d}", label, output, frames, heard, find, options)


def _clip(
    video: Path,
    name: str,
    label: Label,
    output: Path,
    frames: list[UInt8[np.ndarray, "row column 3"]],
    heard: Audio,
    find: Finder,
    options: PrepareOptions,
) -> dict[str, Any]:
    """One clip written, and its row of the index."""
    points = track(frames, find, options, str(video))
    cropped, inside = crop_frames(frames, points, options.size)
    evidence = read_evidence(heard, label.transcript, len(frames), options.fps)
    emotion = label.emotion or _as_heard(evidence)
    with VideoWriter(output / f"{name}.mp4", (options.size, options.size), options.fps, heard) as writer:
        for frame in cropped:
            writer.write(frame)
    save_audio(output / f"{name}.wav", Audio(samples=heard.mono()[None], rate=heard.rate))
    arrays = {each.name: getattr(evidence, each.name) for each in dataclasses.fields(Evidence)}
    metadata = {"format": FORMAT, "fps": str(options.fps), "label": json.dumps(dataclasses.asdict(label))}
    save_tensors(output / f"{name}.safetensors", {"points": inside, **arrays}, metadata)
    return {
        "clip": name, "emotion": emotion, "level": label.level, "transcript": label.transcript, "scene": label.scene,
        "person": label.person, "frames": len(frames), "source": video.name,
    }  # fmt: skip


def sampled(video: Path, fps: float) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
    """The frames shown at 0, 1/fps, 2/fps ... seconds after the first."""
    first, last, wanted, held = None, 0.0, 0, None
    for seconds, frame in read_frames(video):
        first = seconds if first is None else first
        last = seconds - first
        while held is not None and wanted / fps < last - 1e-6:
            yield held
            wanted += 1
        held = frame
    if held is not None and wanted / fps <= last + 1e-6:
        yield held


def track(
    frames: Sequence[UInt8[np.ndarray, "row column 3"]], find: Finder, options: PrepareOptions, where: str
) -> Float32[np.ndarray, "frame 68 2"]:
    """The 68 points of the same face in every frame, straight lines between the searches.

    The largest face of the first frame is followed. Raises InvalidInputError when it is lost too often.
    """
    asked = sorted({*range(0, len(frames), options.track_every), len(frames) - 1})
    times, found = [], []
    for index in asked:
        face = _nearest(find(frames[index]), found[-1] if found else None)
        if face is not None:
            times.append(index)
            found.append(face.points.astype(np.float64))
    if len(found) < max(options.seen * len(asked), 1):
        raise InvalidInputError(
            f"{where}: a face is seen in {len(found)} of {len(asked)} frames: use videos of one steady face"
        )
    stacked = np.stack(found).reshape(len(found), -1)
    everywhere = np.stack([np.interp(np.arange(len(frames)), times, column) for column in stacked.T], axis=1)
    return everywhere.reshape(-1, 68, 2).astype(np.float32)


def _nearest(
    faces: Sequence[FaceLandmarks], before: Float[np.ndarray, "68 2"] | None
) -> FaceLandmarks | None:
    """The largest face, or the one that lies where the last one lay; None when none does."""
    if before is None or not faces:
        return max(faces, key=lambda face: face.size) if faces else None
    middle, reach = before.mean(axis=0), np.ptp(before, axis=0).max()
    nearest = min(faces, key=lambda face: float(np.linalg.norm(face.points.mean(axis=0) - middle)))
    return nearest if np.linalg.norm(nearest.points.mean(axis=0) - middle) < 0.6 * reach else None


def crop_frames(
    frames: Sequence[UInt8[np.ndarray, "row column 3"]], points: Float32[np.ndarray, "frame 68 2"], size: int
) -> tuple[Iterator[UInt8[np.ndarray, "size size 3"]], Float32[np.ndarray, "frame 68 2"]]:
    """The frames cut to one square about the face as it moves and sized, and the points there."""
    low, high = points.reshape(-1, 2).min(axis=0), points.reshape(-1, 2).max(axis=0)
    box = FaceBox.about_points((float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    height, width = frames[0].shape[:2]
    left, top, right, bottom = box.square_crop(width, height)
    scale = size / (right - left)
    inside = ((points - np.array([left, top])) * scale).astype(np.float32)

    def cut() -> Iterator[UInt8[np.ndarray, "size size 3"]]:
        for frame in frames:
            part = Image.fromarray(frame).crop((left, top, right, bottom))
            yield np.asarray(part.resize((size, size), Image.Resampling.LANCZOS))

    return cut(), inside


def _parts(
    frames: Iterator[UInt8[np.ndarray, "row column 3"]], longest: int
) -> Iterator[list[UInt8[np.ndarray, "row column 3"]]]:
    """Consecutive stretches of at most `longest` frames, so that long videos never lie in memory whole."""
    held: list[UInt8[np.ndarray, "row column 3"]] = []
    for frame in frames:
        held.append(frame)
        if len(held) == longest:
            yield held
            held = []
    if held:
        yield held


def _cut(sound: Audio, start_s: float, seconds: float) -> Audio:
    first = round(start_s * sound.rate)
    samples = sound.samples[:, first : first + round(seconds * sound.rate)]
    return Audio(samples=np.ascontiguousarray(samples), rate=sound.rate, path=sound.path)


def _as_heard(evidence: Evidence) -> str:
    """The emotion that the voice expresses most of the time it is heard."""
    weight = evidence.confidence[:, 1:2] + 1e-6
    return ANCHORS_8[int(np.argmax((weight * evidence.speech).sum(axis=0)))]


def _own_finder() -> Finder:
    from affetto.generators.portrait.detect import (
        FaceFinder,  # its network is not wanted when a finder is given
    )

    return FaceFinder.from_pretrained()


def read_labels(path: Path) -> dict[str, Label]:
    """The labels of videos by their path in the folder; no file, no labels. Raises InvalidInputError for a wrong line."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(
            f"{path}: cannot be read ({error}): write a table with a column video"
        ) from error
    labels: dict[str, Label] = {}
    for number, row in enumerate(rows, start=2):
        given = {
            key: (row.get(key) or "").strip()
            for key in ("video", "emotion", "level", "transcript", "scene", "person")
        }
        if not given["video"]:
            raise InvalidInputError(
                f"{path}, line {number}: the video is missing: give its path in the folder"
            )
        if given["emotion"] and given["emotion"] not in ANCHORS_8:
            raise InvalidInputError(
                f"{path}, line {number}: unknown emotion {given['emotion']!r}: use {', '.join(ANCHORS_8)}"
            )
        if given["level"] and given["level"] not in ("1", "2", "3"):
            raise InvalidInputError(f"{path}, line {number}: level {given['level']!r} must be 1, 2 or 3")
        labels[given["video"]] = Label(
            emotion=given["emotion"],
            level=int(given["level"] or 3),
            transcript=given["transcript"],
            scene=given["scene"],
            person=given["person"],
        )
    return labels


def _write_index(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([cell_of(str(row[column])) for column in COLUMNS] for row in rows)
