"""A project from the recipe within a file: for outputs whose render is gone, or that another studio made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from affetto.apps.studio.project import Project, keys_of
from affetto.conditioning.track import EmotionTrack
from affetto.provenance.recipes import embedded_recipe
from affetto.runtime.errors import AffettoError


def restored_project(file: Path) -> Project | None:
    """The settings of the scene of one speaker that made a file; None without a recipe in it, or for other scenes."""
    recipe = embedded_recipe(file) or {}
    scene = recipe.get("scene")
    speech = scene.get("speech") if isinstance(scene, dict) else None
    if not isinstance(scene, dict) or not isinstance(speech, dict):
        return None
    try:
        return Project.model_validate(_settings(scene, speech))
    except (ValidationError, AffettoError, TypeError, AttributeError):
        return None


def _settings(scene: Mapping[str, Any], speech: Mapping[str, Any]) -> dict[str, Any]:
    speaker, music = scene.get("speaker") or {}, scene.get("music")
    portrait = speaker.get("portrait") or {}
    parts = {"voice": speaker.get("voice"), "face": speaker.get("face"), "portrait": portrait, "music": music}
    trims = {name: _trim(part or {}) for name, part in parts.items()}
    keys = keys_of(EmotionTrack.parse(str(speech.get("emotion") or "neutral")))
    settings = {
        "title": scene.get("title"), "seed": scene.get("seed"), "size": scene.get("size"), "words": speech.get("text"),
        "language": speech.get("language"), "speech": speech.get("audio"), "portrait": portrait.get("image"),
        "music_key": (music or {}).get("key"),
    }  # fmt: skip
    known = {name: value for name, value in settings.items() if value is not None}
    convert = bool((speaker.get("voice") or {}).get("convert", True))
    return known | {"keys": keys, "trims": trims, "convert_voice": convert, "music": music is not None}


def _trim(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in ("gain", "lag") if name in part}
