"""The free detector: whether a file was made by affetto, and whether it was changed since."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affetto.media.audio import Audio, load_audio
from affetto.media.files import checked_size
from affetto.media.image import load_image
from affetto.media.video import probe_video, read_frames, read_sound
from affetto.provenance.audio_mark import MarkFound, find_audio_mark
from affetto.provenance.manifests import ManifestFound, can_sign, read_manifest
from affetto.provenance.picture_mark import find_picture_mark
from affetto.provenance.recipes import embedded_recipe
from affetto.provenance.settings import marking_settings

SOUND = (".wav", ".flac", ".mp3", ".ogg")
VIDEO = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
SPEEDS = (0.98, 0.99, 1.0, 1.01, 1.02)
_MOST_FRAMES = 150
_MOST_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All that was found in one file; `made` says whether any of it shows affetto's hand."""

    path: Path
    manifest: ManifestFound | None  # None: the package that reads manifests is missing
    sound: MarkFound | None
    picture: MarkFound | None
    recipe: dict[str, Any] | None

    @property
    def made(self) -> bool:
        """Whether a mark was found, or a sound manifest of affetto's."""
        signed = self.manifest is not None and self.manifest.state in ("trusted", "valid")
        marks = (self.sound, self.picture)
        return (signed and "affetto" in (self.manifest.software if self.manifest else "")) or any(
            mark is not None and mark.marked for mark in marks
        )

    @property
    def tampered(self) -> bool:
        """Whether a manifest is there that does not fit the file any more."""
        return self.manifest is not None and self.manifest.state == "invalid"

    def document(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "file": str(self.path),
            "made_by_affetto": self.made,
            "changed_since": self.tampered,
            "manifest": None if self.manifest is None else asdict(self.manifest),
            "sound_mark": None if self.sound is None else asdict(self.sound),
            "picture_mark": None if self.picture is None else asdict(self.picture),
            "recipe": self.recipe,
        }


def verify_file(path: str | Path, *, key: int | None = None) -> Verdict:
    """Look for a manifest, a mark in sound and pictures (of the public key, or `key`), and a recipe beside the file.

    Long media are looked at in part: two minutes of sound, 150 frames spread over a video.
    """
    path = Path(path)
    checked_size(path, kind="media")
    key = marking_settings().key if key is None else key
    suffix = path.suffix.lower()
    sound = picture = None
    if suffix in SOUND:
        sound = find_audio_mark(_beginning(load_audio(path)), key=key, speeds=SPEEDS)
    elif suffix in VIDEO:
        heard = read_sound(path)
        sound = None if heard is None else find_audio_mark(_beginning(heard), key=key, speeds=SPEEDS)
        picture = find_picture_mark(_spread(path), key=key)
    elif suffix in PICTURES:
        picture = find_picture_mark([load_image(path)], key=key)
    manifest = read_manifest(path) if can_sign() else None
    return Verdict(path=path, manifest=manifest, sound=sound, picture=picture, recipe=_recipe(path))


def _beginning(audio: Audio) -> Audio:
    return audio if audio.seconds <= _MOST_SECONDS else audio.sliced(0.0, _MOST_SECONDS)


def _spread(path: Path) -> Iterator[np.ndarray]:
    """Up to 150 frames of a video at equal distances."""
    info = probe_video(path)
    frames = info.frames or round(info.seconds * info.fps)
    step = max(1, frames // _MOST_FRAMES)
    for _, frame in itertools.islice(read_frames(path), 0, None, step):
        yield frame


def _recipe(path: Path) -> dict[str, Any] | None:
    """The recipe that lies beside a file, else the one within it."""
    beside = path.with_name(path.name + ".recipe.json")
    try:
        recipe = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        recipe = None
    return recipe if isinstance(recipe, dict) else embedded_recipe(path)
