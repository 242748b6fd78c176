"""Writing talking portraits: video with sound, video with transparency, pictures, curves."""

import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from affetto.media.animation.files import CURVE_SUFFIXES, MESH_SUFFIXES, save_curves
from affetto.media.image import png_bytes
from affetto.media.previews import picture_preview
from affetto.media.video_writer import AlphaVideoWriter
from affetto.provenance.manifests import Origin
from affetto.provenance.sealing import marked_frame, marked_video, sealed
from affetto.runtime.errors import UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    from affetto.generators.portrait.pipeline import TalkingVideo

Frame = UInt8[np.ndarray, "row column channel"]

VIDEO_SUFFIXES = (".mp4", ".mov")
SUFFIXES = (*VIDEO_SUFFIXES, ".png", *CURVE_SUFFIXES, *MESH_SUFFIXES)
"""What a talking portrait is written as; .png stands for numbered pictures, `frame_%05d.png`."""

_NUMBER = re.compile(r"%0?\d*d")
_AHEAD = 3  # frames drawn before they are asked for


def check_target(path: Path) -> None:
    """Raise UsageError unless a name says how a portrait is to be written: a known suffix, a numbered .png, a folder."""
    suffix = path.suffix.lower()
    if suffix == ".png" and not _NUMBER.search(path.name):
        raise UsageError(f"{path}: one picture for each frame needs a number: name it frame_%05d.png")
    if suffix and suffix not in SUFFIXES:
        raise UsageError(f"{path}: no portrait is written as {suffix}: use {', '.join(SUFFIXES)} or a folder")


def save_video(
    video: "TalkingVideo",
    path: Path,
    *,
    overwrite: bool,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Path:
    """Write a performance as its name says, see `TalkingVideo.save`; returns the path."""
    check_target(path)
    suffix = path.suffix.lower()
    origin = origin_of(video.plan.portrait.name, video.plan.audio.path)
    if suffix in CURVE_SUFFIXES + MESH_SUFFIXES:
        person = video.head.with_identity(video.plan.portrait.fit.identity)
        with sealed(path, origin, overwrite=overwrite) as temporary:
            save_curves(temporary, video.curves, mesh=person.mesh)
        return path
    if suffix in (".png", ""):
        pictures = _watched(video, video.plan.options.alpha, progress, cancel)
        return save_pictures(path, pictures, origin, overwrite=overwrite)
    fps, audio = video.curves.fps, video.plan.audio
    if suffix == ".mov":
        frames = _watched(video, True, progress, cancel)
        first = next(frames)
        with (
            sealed(path, origin, overwrite=overwrite) as temporary,
            AlphaVideoWriter(temporary, _size(first), fps, audio) as writer,
        ):
            _pour(first, frames, lambda frame: writer.write(marked_frame(frame)))
        return path
    frames = _watched(video, False, progress, cancel)
    first = next(frames)
    with marked_video(path, _size(first), fps, audio, origin, overwrite=overwrite) as write:
        _pour(first, frames, write)
    return path


def _pour(first: Frame, rest: Iterator[Frame], write: Callable[[Frame], None]) -> None:
    try:
        write(first)
        for frame in rest:
            write(frame)
    finally:
        close = getattr(rest, "close", None)
        if close is not None:
            close()


def origin_of(*sources: str | Path | None) -> Origin:
    """What the files of a talking portrait say of themselves: made from these files, as far as they are files."""
    known = [Path(source) for source in sources if source is not None]
    return Origin(generator="portrait", action="edited", ingredients=known)


def save_pictures(path: Path, frames: Iterable[Frame], origin: Origin, *, overwrite: bool) -> Path:
    """Write each frame, marked, as a PNG: `frame_00000.png` ... in a folder, or by the numbered name."""
    if path.suffix:
        pattern, folder = path.name, path.parent
    else:
        pattern, folder = "frame_%05d.png", path
        folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        with sealed(folder / (pattern % index), origin, overwrite=overwrite) as temporary:
            temporary.write_bytes(png_bytes(marked_frame(frame)))
    return path


def _watched(
    video: "TalkingVideo", alpha: bool, progress: ProgressCallback | None, cancel: CancelToken | None
) -> Iterator[Frame]:
    total = len(video)
    for index, frame in enumerate(drawn_ahead(video.frames(alpha=alpha))):
        if cancel is not None:
            cancel.check()
        yield frame
        if progress is not None:
            look = partial(picture_preview, frame)
            progress(ProgressEvent(stage="render", done=index + 1, total=total, preview=look))


def _size(frame: Frame) -> tuple[int, int]:
    return frame.shape[1], frame.shape[0]


def drawn_ahead(
    frames: Iterator[Frame],
) -> Iterator[Frame]:
    """The same frames, drawn by another thread while earlier ones are encoded; failures arrive here too."""
    waiting: queue.Queue[tuple[str, object]] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def hand_over(kind: str, value: object) -> bool:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def draw() -> None:
        try:
            for frame in frames:
                if not hand_over("frame", frame):
                    return
            hand_over("end", None)
        except BaseException as error:  # noqa: BLE001  # handed to the reader, who raises it
            hand_over("error", error)

    worker = threading.Thread(target=draw, name="affetto-draw", daemon=True)
    worker.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            if kind == "end":
                return
            assert isinstance(value, np.ndarray)
            yield value
    finally:
        stop.set()
        worker.join()
