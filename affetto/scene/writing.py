"""Writing what a director made: sounds, curves, videos, subtitles, edit lists, contact sheet, sync report, recipe."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from affetto.media.animation.files import save_curves
from affetto.media.audio import Audio
from affetto.media.midi import save_midi
from affetto.media.previews import picture_preview
from affetto.media.shelf import Shelf, in_blocks
from affetto.provenance.manifests import Origin
from affetto.provenance.recipes import recorded
from affetto.provenance.sealing import marked_audio, marked_video, save_marked_audio, seal, sealed
from affetto.scene.edit_lists import MediaFiles, write_edit_lists
from affetto.scene.exports import write_subtitles, write_track
from affetto.scene.performers import person
from affetto.scene.pictures import picture_frames
from affetto.scene.recipe import input_files, recipe_document, settled, travelling_recipe, write_recipe
from affetto.scene.segments import canvas
from affetto.scene.sheet import SHEET_FRAMES, draw_sheet, moments

if TYPE_CHECKING:
    from affetto.scene.director import Director
    from affetto.scene.performance import Performance, Watch

Frame = UInt8[np.ndarray, "row column 3"]


def write_scene(director: "Director", performance: "Performance", folder: Path, watch: "Watch") -> list[Path]:
    """Everything the scene asks for, and the names of the files in the order they were written."""
    scene, origin = settled(director.scene, director.lines), _origin(director)
    with recorded(travelling_recipe(scene, director.loaded, performance.chosen)):
        written = _outputs(director, performance, folder, watch)
        written.append(seal(performance.sync.save(folder / "sync.json"), origin))
        document = recipe_document(
            scene,
            director.loaded,
            folder,
            written,
            models=director.models,
            seeds=performance.chosen,
            device=director.device.type,
        )
        written.append(seal(write_recipe(folder / "recipe.json", document), origin))
    return written


def _origin(director: "Director") -> Origin:
    """What each file of a scene says of itself: made from all that the scene names."""
    loaded = director.loaded
    sources = [loaded.base / name for name in input_files(loaded.scene)]
    return Origin(generator="scene", action="edited", ingredients=sources)


def _outputs(director: "Director", performance: "Performance", folder: Path, watch: "Watch") -> list[Path]:
    scene, timeline = director.scene, performance.timeline
    origin = _origin(director)
    written = _sounds(director, performance, folder)
    for name, curves in performance.curves.items():
        suffix = f"-{name}" if len(scene.speakers) > 1 else ""
        if scene.wants("curves"):
            written.append(seal(save_curves(folder / f"face{suffix}.csv", curves), origin))
        if scene.wants("mesh"):
            written.append(folder / f"face{suffix}.glb")
            with sealed(written[-1], origin) as temporary:
                save_curves(temporary, curves, mesh=person(scene.speakers[name].head).mesh)
    videos, frames = _videos(director, performance, folder, watch)
    written += videos
    told: list[Path] = []
    if scene.wants("subtitles"):
        told += write_subtitles(folder, timeline)
    if scene.wants("track"):
        score = performance.piece.score if performance.piece is not None else None
        told += write_track(folder, timeline.course, timeline.seconds, scene.fps, score)
    if scene.wants("timeline"):
        told += write_edit_lists(folder, timeline, _media(director, written), scene.fps, scene.title)
    written += [seal(path, origin) for path in told]
    if scene.wants("sheet"):
        written.append(folder / "sheet.png")
        with sealed(written[-1], origin) as temporary:
            draw_sheet(temporary, scene, performance, frames)
    return written


def _sounds(director: "Director", performance: "Performance", folder: Path) -> list[Path]:
    scene, origin = director.scene, _origin(director)
    written = []
    if scene.wants("voice"):
        for name, stem in performance.stems.items():
            suffix = f"-{name}" if len(scene.speakers) > 1 else ""
            written.append(_sound(folder / f"voice{suffix}.wav", _unclipped(stem), origin))
    if performance.piece is not None and performance.music is not None:
        if scene.wants("score"):
            written.append(folder / "score.mid")
            with sealed(written[-1], origin) as temporary:
                save_midi(temporary, performance.piece.score)
        if scene.wants("music"):
            written.append(_sound(folder / "music.wav", _unclipped(performance.music), origin))
    if scene.wants("mix"):
        written.append(_sound(folder / "mix.wav", performance.mix, origin))
    return written


def _sound(path: Path, audio: Audio, origin: Origin) -> Path:
    return save_marked_audio(path, audio, origin, subtype="PCM_24")


def _unclipped(audio: Audio) -> Audio:
    peak = max((float(np.abs(block).max(initial=0.0)) for block in in_blocks(audio.samples)), default=0.0)
    if peak <= 0.99:
        return audio
    softer = Shelf().empty(*audio.samples.shape)
    for block, place in zip(in_blocks(audio.samples), in_blocks(softer), strict=True):
        place += block * np.float32(0.99 / peak)
    return Audio(samples=softer, rate=audio.rate)


def _media(director: "Director", written: list[Path]) -> MediaFiles:
    names = {path.name for path in written}
    many = len(director.scene.speakers) > 1
    voices = {name: f"voice-{name}.wav" if many else "voice.wav" for name in director.scene.speakers}
    video = next((name for name in ("video.mp4", "talking.mp4", "head.mp4") if name in names), None)
    return MediaFiles(
        video=video,
        voices={name: file for name, file in voices.items() if file in names},
        music="music.wav" if "music.wav" in names else None,
    )


def _videos(
    director: "Director", performance: "Performance", folder: Path, watch: "Watch"
) -> tuple[list[Path], dict[str, list[Frame]]]:
    """The videos of a scene, every picture drawn once, and the frames of the contact sheet by kind of picture."""
    scene, timeline = director.scene, performance.timeline
    plan = director.segments(timeline)
    width, height = canvas(plan, (scene.size, scene.size))
    portraits = all(scene.speakers[name].portrait is not None for name in performance.curves)
    kinds = [kind for kind in ("talking", "head") if scene.wants(kind)]
    if scene.wants("video"):
        kinds = ["talking", "head"] if portraits else ["head"]
    total = round(timeline.seconds * scene.fps)
    marks = moments(timeline, scene.fps)
    shown: dict[str, list[Frame]] = {kind: [] for kind in kinds}
    if not kinds:
        if not scene.wants("sheet"):
            return [], {}
        shown["head"] = list(_single_frames(director, performance, marks, (width, height)))
        return [], shown
    files = {kind: (width, height) for kind in kinds if scene.wants(kind)}
    if scene.wants("video"):
        files["video"] = (width * len(kinds), height)
    sound, origin = marked_audio(performance.mix), _origin(director)
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(marked_video(folder / f"{name}.mp4", size, scene.fps, sound, origin))
            for name, size in files.items()
        }
        streams = []
        for kind in kinds:
            performers = director.performers(performance, kind)
            for performer in performers.values():
                stack.callback(performer.close)
            streams.append(picture_frames(performers, plan, (width, height)))
        for index, together in enumerate(zip(*streams, strict=True)):
            for kind, frame in zip(kinds, together, strict=True):
                if kind in writers:
                    writers[kind](frame)
                if index in marks:
                    shown[kind].append(frame)
            if "video" in writers:
                writers["video"](np.concatenate(together, axis=1))
            watch("pictures", index + 1, total, partial(_side_by_side, together))
    return [folder / f"{name}.mp4" for name in files], shown


def _side_by_side(together: tuple[Frame, ...]) -> dict[str, Any]:
    return picture_preview(np.concatenate(together, axis=1))


def _single_frames(
    director: "Director", performance: "Performance", marks: list[int], size: tuple[int, int]
) -> Iterator[Frame]:
    """The frames of the contact sheet alone, where no video is wanted."""
    performers = director.performers(performance, "head")
    plan = director.segments(performance.timeline)
    for mark in marks[:SHEET_FRAMES]:
        segment = next(each for each in plan if each.start <= mark < each.stop)
        one = type(segment)(start=mark, stop=mark + 1, names=segment.names)
        yield from picture_frames(performers, [one], size)
    for performer in performers.values():
        performer.close()
