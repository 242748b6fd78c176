"""The recipe of a render: everything needed to make the same bytes again, beside what was made."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from affetto import __version__
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path
from affetto.scene.lines import Line
from affetto.scene.loading import LoadedScene
from affetto.scene.model import Scene, Shot, Turn, is_track_file
from affetto.weights.registry import REGISTRY


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def input_files(scene: Scene) -> list[str]:
    """Every file the scene names, as it names them, each once."""
    found: list[str] = []
    for shot in scene.shot_list:
        for turn in shot.turns:
            found += [str(turn.audio)] if turn.audio is not None else []
            found += [turn.emotion] if turn.emotion and is_track_file(turn.emotion) else []
    emotions = [scene.emotion, *(speaker.listening for speaker in scene.speakers.values())]
    if scene.music is not None:
        emotions += [scene.music.emotion] if scene.music.emotion else []
        found += [str(scene.music.like)] if scene.music.like is not None else []
    found += [text for text in emotions if is_track_file(text)]
    found += [
        str(speaker.portrait.image) for speaker in scene.speakers.values() if speaker.portrait is not None
    ]
    found += [
        str(speaker.portrait.landmarks)
        for speaker in scene.speakers.values()
        if speaker.portrait is not None and speaker.portrait.landmarks is not None
    ]
    found += [str(scene.calibration_file)] if scene.calibration_file is not None else []
    return list(dict.fromkeys(found))


def settled(scene: Scene, lines: Sequence[Line]) -> Scene:
    """The scene with every reply written out, so that making it again asks nobody."""
    if all(line.answer is None for line in lines):
        return scene
    shots, spoken = [], iter(lines)
    for shot in scene.shot_list:
        turns = []
        for turn in shot.turns:
            line = next(spoken)
            changes: dict[str, Any] = {}
            if line.answer is not None:
                changes = {
                    "reply": None,
                    "text": line.answer.text,
                    "emotion": turn.emotion or line.answer.emotion,
                }
            turns.append(Turn(**{**turn.model_dump(), **changes}))
        shots.append(Shot(**{**shot.model_dump(), "turns": turns}))
    cast = dict(scene.speakers)
    return scene.model_copy(
        update={"speech": None, "speaker": None, "turns": [], "shots": shots, "cast": cast}
    )


def recipe_document(
    scene: Scene,
    loaded: LoadedScene,
    folder: Path,
    outputs: Sequence[Path],
    *,
    models: Sequence[str],
    seeds: Mapping[str, int],
    device: str,
) -> dict[str, Any]:
    """What was made of what, by which models and version; file names relative to where the recipe lies."""
    base = os.path.relpath(loaded.base.resolve(), folder.resolve())
    return {
        "recipe": 1,
        "affetto": __version__,
        "base": Path(base).as_posix(),
        "scene": scene.model_dump(mode="json", exclude_defaults=True),
        "inputs": {name: sha256_of(loaded.base / name) for name in input_files(scene)},
        "models": {name: REGISTRY[name].sha256 for name in sorted(models)},
        "seeds": dict(seeds),
        "device": device,
        "consent": {
            name: speaker.consent.model_dump(mode="json", exclude_none=True)
            for name, speaker in scene.speakers.items()
            if speaker.consent is not None
        },
        "outputs": {path.name: sha256_of(path) for path in sorted(outputs)},
    }


def travelling_recipe(scene: Scene, loaded: LoadedScene, seeds: Mapping[str, int]) -> dict[str, Any]:
    """The recipe that lies within each output: `affetto render` takes it where its inputs lie beside it, by name alone.

    Nothing in it depends on the machine or on where things lay.
    """
    inputs = input_files(scene)
    names = {name: Path(name).name for name in inputs}

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: moved(each) for key, each in value.items()}
        if isinstance(value, list):
            return [moved(each) for each in value]
        return names.get(value, value) if isinstance(value, str) else value

    return {
        "recipe": 1,
        "scene": moved(scene.model_dump(mode="json", exclude_defaults=True)),
        "inputs": {names[name]: sha256_of(loaded.base / name) for name in inputs},
        "seeds": dict(seeds),
    }


def write_recipe(path: Path, document: Mapping[str, Any]) -> Path:
    """Write recipe.json."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def check_inputs(loaded: LoadedScene) -> None:
    """Raise unless every input of a recipe is the file it was made from."""
    for name, expected in loaded.hashes.items():
        path = loaded.base / name
        if sha256_of(path) != expected:
            raise InvalidInputError(
                f"{path}: is not the file this recipe was made from: restore it, or render the scene itself"
            )
