"""Reading a scene from YAML or JSON: safely, and with every problem at once, each with its line."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from affetto.conditioning.calibration import Calibration
from affetto.conditioning.formats import load_track
from affetto.media.audio import look_at_sound
from affetto.media.files import checked_size
from affetto.media.image import look_at_picture
from affetto.media.midi import look_at_midi
from affetto.runtime.errors import AffettoError, InvalidInputError
from affetto.scene.documents import read_document
from affetto.scene.model import SUGGEST, Scene, Speech, Turn, is_track_file
from affetto.scene.problems import Problem, SceneError, Where

MAX_BYTES = 2**20
SUFFIXES = (".yaml", ".yml", ".json")
_FILES = ("audio", "image", "landmarks", "like", "calibration")


@dataclass(frozen=True, kw_only=True)
class LoadedScene:
    """A scene, and the folder that its file names are relative to."""

    scene: Scene
    base: Path
    path: Path | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)  # expected SHA-256 by file name, from a recipe
    seeds: Mapping[str, int] = field(default_factory=dict)  # those that a judge chose, from a recipe


def load_scene(path: str | Path) -> LoadedScene:
    """The scene in a .yaml or .json file, or in the recipe.json of an earlier render; raises SceneError with all problems."""
    path = Path(path)
    checked_size(path, MAX_BYTES, kind="scene")
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInputError(f"{path}: a scene is {', '.join(SUFFIXES)}: rename it")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: is not UTF-8 text: save it as UTF-8") from error
    read = read_document(text, path)
    document, lines = read.values, read.lines
    base, hashes, seeds, prefix = path.parent, {}, {}, ()
    if isinstance(document, dict) and "recipe" in document:
        base = path.parent / str(document.get("base", "."))
        hashes = _named(document, "inputs", str, path, lines)
        seeds = _named(document, "seeds", int, path, lines)
        document, prefix = document.get("scene"), ("scene",)
    problems = list(read.problems)
    scene = _validated(document, lines, prefix, problems, whole=read.whole)
    if scene is not None:
        found = [((*prefix, *at), told) for at, told in scene_problems(scene, base)]
        if not read.whole:  # what was left out would be missed: only files that are named and cannot be used
            found = [(at, told) for at, told in found if at[-1] in _FILES and at in lines]
        problems += [Problem(_line(lines, at), told) for at, told in found]
    if problems or scene is None:
        raise SceneError(path, problems)
    return LoadedScene(scene=scene, base=base, path=path, hashes=hashes, seeds=seeds)


def _named(
    document: Mapping[str, Any], part: str, kind: type, path: Path, lines: Mapping[Where, int]
) -> dict[str, Any]:
    """A part of a recipe that maps names to values of one kind."""
    found = document.get(part) or {}
    if not isinstance(found, dict) or not all(type(value) is kind for value in found.values()):
        raise SceneError(
            path, [Problem(_line(lines, (part,)), f"{part}: is not what a render wrote: render it again")]
        )
    return {str(name): value for name, value in found.items()}


def check_scene(scene: Scene, base: Path) -> None:
    """Raise SceneError with everything that is wrong with a scene made in Python."""
    problems = [
        Problem(0, f"{'.'.join(str(part) for part in at)}: {told}")
        for at, told in scene_problems(scene, base)
    ]
    if problems:
        raise SceneError(None, problems)


def _validated(
    document: Any, lines: Mapping[Where, int], prefix: Where, problems: list[Problem], *, whole: bool
) -> Scene | None:
    """The scene, or None; what is wrong is added to `problems`, but of a document that is not whole not what it lacks."""
    if not isinstance(document, dict):
        if whole:
            problems.append(Problem(1, "a scene is a mapping with speech or turns: see docs/scene.md"))
        return None
    rest = copy.deepcopy(document)
    while True:  # what is wrong is told and left out, so that the rest can be looked at too
        try:
            return Scene.model_validate(rest)
        except ValidationError as error:
            removed = False
            for entry in reversed(
                error.errors(include_url=False)
            ):  # what is taken out of a list moves what follows
                at = tuple(part for part in entry["loc"] if not str(part).startswith("function-"))
                name = " ".join(".".join(str(part) for part in at).split())[:120] or "scene"
                told = Problem(_line(lines, (*prefix, *at)), f"{name}: {_told(entry)}")
                lacking = entry["type"] == "missing" or (
                    not whole and entry["type"] == "value_error" and not at
                )
                if (not lacking or not problems) and told not in problems:
                    problems.append(told)
                removed = _without(rest, at) or removed
            if not removed:
                return None


def _without(document: Any, at: Where) -> bool:
    """Take a value out of a document; whether it was there. Of lists only plain values go, as names of outputs."""
    for part in at[:-1]:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return False
    if not at:
        return False
    if isinstance(document, dict) and at[-1] in document:
        del document[at[-1]]
        return True
    index = at[-1]
    if not isinstance(document, list) or not isinstance(index, int) or index >= len(document):
        return False
    if isinstance(document[index], (dict, list)):
        return False
    del document[index]
    return True


def _told(entry: Any) -> str:
    """A problem found by pydantic, in one short line."""
    if entry["type"] == "extra_forbidden":
        return "nobody knows this field: look for a typing error"
    message = str(entry["msg"]).removeprefix("Value error, ")
    given = entry.get("input")
    shown = f" (got {given!r})" if isinstance(given, (str, int, float)) and len(repr(given)) < 60 else ""
    return f"{message[:1].lower()}{message[1:]}{shown if entry['type'] != 'value_error' else ''}"


def _line(lines: Mapping[Where, int], at: Where) -> int:
    """The line of a value, or of the nearest thing around it."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def scene_problems(scene: Scene, base: Path) -> Iterator[tuple[Where, str]]:
    """Everything that a look at one field alone does not show: who is missing, which files cannot be read."""
    ways = [name for name in ("speech", "turns", "shots") if getattr(scene, name)]
    if len(ways) != 1:
        yield ("speech",), f"give one of speech, turns or shots, not {' and '.join(ways) or 'none'}"
        return
    if scene.cast and scene.speaker is not None:
        yield ("speaker",), "a scene with a cast has no speaker of its own: move the settings into cast"
    if scene.cast and scene.speech is not None:
        yield ("cast",), "a scene with a cast needs turns or shots instead of speech"
    if scene.turns or scene.shots:
        yield from _cast_problems(scene)
    yield from _picture_problems(scene, base)
    for at, speech in _speeches(scene):
        yield from _speech_problems(speech, at, base)
    if scene.emotion == SUGGEST and not all(s.text or s.reply or s.emotion for _, s in _speeches(scene)):
        yield ("emotion",), "an emotion is suggested from words: give each speech its text"
    places: list[tuple[Where, str]] = [(("emotion",), scene.emotion)]
    if scene.music is not None and scene.music.emotion is not None:
        places.append((("music", "emotion"), scene.music.emotion))
        if scene.music.emotion == SUGGEST:
            yield ("music", "emotion"), "music is given an emotion, or follows the scene when there is none"
    for at, text in places:
        yield from _track_problems(at, text, base)
    if scene.music is None and scene.wants("score", "music"):
        yield ("outputs",), "score and music need music: add music: {}"
    for at, path, kind in _other_files(scene):
        yield from _file_problems(at, base / path, kind)


def _speeches(scene: Scene) -> Iterator[tuple[Where, Speech]]:
    if scene.speech is not None:
        yield ("speech",), scene.speech
    for index, turn in enumerate(scene.turns):
        yield ("turns", index), turn
    for number, shot in enumerate(scene.shots):
        for index, turn in enumerate(shot.turns):
            yield ("shots", number, "turns", index), turn


def _cast_problems(scene: Scene) -> Iterator[tuple[Where, str]]:
    if not scene.cast:
        yield ("cast",), "turns need a cast: name every speaker there"
        return
    known = ", ".join(scene.cast)
    for at, speech in _speeches(scene):
        if isinstance(speech, Turn) and speech.speaker not in scene.cast:
            yield (*at, "speaker"), f"nobody called {speech.speaker!r} is in the cast: use {known}"
    for number, shot in enumerate(scene.shots):
        if shot.view not in ("speaking", "all", *scene.cast):
            yield ("shots", number, "view"), f"unknown view {shot.view!r}: use speaking, all, {known}"


def _picture_problems(scene: Scene, base: Path) -> Iterator[tuple[Where, str]]:
    for name, speaker in scene.speakers.items():
        at: Where = ("cast", name) if scene.cast else ("speaker",)
        if speaker.portrait is None:
            if scene.wants("talking"):
                yield at, "talking needs a portrait: add portrait: {image: FILE}"
        else:
            yield from _file_problems((*at, "portrait", "image"), base / speaker.portrait.image, "picture")
            if speaker.portrait.landmarks is not None:
                path = base / speaker.portrait.landmarks
                yield from _file_problems((*at, "portrait", "landmarks"), path, "landmark")
        if speaker.listening == SUGGEST:
            yield (*at, "listening"), "a listener is given an emotion: suggest reads words"
        else:
            yield from _track_problems((*at, "listening"), speaker.listening, base)


def _speech_problems(speech: Speech, at: Where, base: Path) -> Iterator[tuple[Where, str]]:
    if speech.reply is not None and (speech.audio or speech.text):
        yield (*at, "reply"), "a reply writes its own text: leave audio and text away"
    elif not (speech.audio or speech.text or speech.reply):
        yield at, "give audio, text or reply"
    if speech.reply is not None and speech.reply.endpoint and not speech.reply.model:
        yield (*at, "reply", "model"), "name the model that the endpoint shall use"
    if speech.audio is not None:
        try:
            look_at_sound(base / speech.audio)
        except AffettoError as error:
            yield (*at, "audio"), str(error)
    if speech.emotion == SUGGEST and not (speech.text or speech.reply):
        yield (*at, "emotion"), "an emotion is suggested from words: give the text"
    if speech.emotion is not None:
        yield from _track_problems((*at, "emotion"), speech.emotion, base)


def _track_problems(at: Where, text: str, base: Path) -> Iterator[tuple[Where, str]]:
    if text != SUGGEST and is_track_file(text):
        try:
            load_track(base / text)
        except AffettoError as error:
            yield at, str(error)


def _other_files(scene: Scene) -> Iterator[tuple[Where, Path, str]]:
    if scene.music is not None and scene.music.like is not None:
        yield ("music", "like"), scene.music.like, "MIDI file"
    if scene.calibration_file is not None:
        yield ("calibration",), scene.calibration_file, "calibration"


_READERS: Mapping[str, Callable[[Path], object]] = {
    "picture": look_at_picture,
    "MIDI file": look_at_midi,
    "calibration": Calibration.load,
    "landmark": lambda path: checked_size(path, kind="landmark"),
}


def _file_problems(at: Where, path: Path, kind: str) -> Iterator[tuple[Where, str]]:
    try:
        checked_size(path, kind=kind)
        _READERS[kind](path)
    except AffettoError as error:
        yield at, str(error)
