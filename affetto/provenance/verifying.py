"""The free detector: whether a file was made by affetto, and whether it was changed since."""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affetto.media.audio import Audio, load_audio
from affetto.media.files import checked_size
from affetto.media.image import load_image
from affetto.media.looking import look_at_media
from affetto.media.video import probe_video, read_frames, read_sound
from affetto.provenance.audio_mark import MarkFound, find_audio_mark
from affetto.provenance.listings import (
    RECIPE_NAME,
    RECIPE_SUFFIX,
    Inventory,
    Listing,
    find_listing,
    read_recipe,
    take_stock,
)
from affetto.provenance.manifests import ManifestFound, can_sign, read_manifest
from affetto.provenance.picture_mark import find_picture_mark
from affetto.provenance.recipes import embedded_recipe
from affetto.provenance.settings import marking_settings
from affetto.runtime.errors import InvalidInputError

SOUND = (".wav", ".flac", ".mp3", ".ogg")
VIDEO = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
SPEEDS = (0.98, 0.99, 1.0, 1.01, 1.02)
_MOST_FRAMES = 150
_MOST_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All that was found in one file. `made`: proven by a signature or a mark; `says_so`: told by what anyone could write."""

    path: Path
    manifest: ManifestFound | None  # None: the package that reads manifests is missing
    sound: MarkFound | None
    picture: MarkFound | None
    recipe: dict[str, Any] | None
    listing: Listing | None = None  # in the recipe beside it
    inventory: Inventory | None = None  # of a recipe: the files that it lists
    unreadable: str = ""  # why no mark could be looked for

    @property
    def signed(self) -> bool:
        """Whether a manifest of affetto's fits the file."""
        found = self.manifest
        return found is not None and found.state in ("trusted", "valid") and "affetto" in found.software

    @property
    def marked(self) -> bool:
        """Whether a mark was found in sound or picture."""
        return any(mark is not None and mark.marked for mark in (self.sound, self.picture))

    @property
    def made(self) -> bool:
        """Whether a mark was found, or a sound manifest of affetto's."""
        return self.signed or self.marked

    @property
    def says_so(self) -> bool:
        """Whether the file, or the recipe beside it, says that affetto made it."""
        broken = self.manifest is not None and "affetto" in self.manifest.software
        listed = self.listing is not None or self.inventory is not None
        return self.made or broken or listed or self.recipe is not None

    @property
    def tampered(self) -> bool:
        """Whether the file is not what was signed, or, where nothing is signed, not what its recipe lists."""
        if self.manifest is not None and self.manifest.state != "none":
            return self.manifest.state == "invalid"
        return self.listing is not None and not self.listing.same

    def document(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "file": str(self.path),
            "made_by_affetto": self.made,
            "says_so": self.says_so,
            "changed_since": self.tampered,
            "manifest": None if self.manifest is None else asdict(self.manifest),
            "sound_mark": None if self.sound is None else asdict(self.sound),
            "picture_mark": None if self.picture is None else asdict(self.picture),
            "recipe": self.recipe,
            "listed": None if self.listing is None else asdict(self.listing),
            "lists": None if self.inventory is None else asdict(self.inventory),
            "unreadable": self.unreadable,
        }


def verify_file(path: str | Path, *, key: int | None = None) -> Verdict:
    """Look for a manifest, a mark in sound and pictures (of the public key, or `key`), and a recipe that tells of the file.

    Long media are looked at in part: two minutes of sound, 150 frames spread over a video. Raises InvalidInputError for a
    file that cannot be read and of which nothing tells.
    """
    path = Path(path)
    checked_size(path, kind="media")
    key = marking_settings().key if key is None else key
    manifest = read_manifest(path) if can_sign() else None
    recipe, listing, inventory = _recipe(path, manifest), find_listing(path), take_stock(path)
    sound, picture, unreadable = None, None, ""
    try:
        sound, picture = _marks(path, key)
    except InvalidInputError as error:
        if recipe is None and listing is None and not (manifest is not None and manifest.where):
            raise
        unreadable = str(error)
    return Verdict(path=path, manifest=manifest, sound=sound, picture=picture, recipe=recipe, listing=listing,
                   inventory=inventory, unreadable=unreadable)  # fmt: skip


def _marks(path: Path, key: int) -> tuple[MarkFound | None, MarkFound | None]:
    """What is found in sound and pictures; decoders see the file in a process with limits first."""
    look_at_media(path)
    suffix = path.suffix.lower()
    if suffix in SOUND:
        return find_audio_mark(_beginning(load_audio(path)), key=key, speeds=SPEEDS), None
    if suffix in VIDEO:
        heard = read_sound(path)
        sound = None if heard is None else find_audio_mark(_beginning(heard), key=key, speeds=SPEEDS)
        return sound, find_picture_mark(_spread(path), key=key)
    if suffix in PICTURES:
        return None, find_picture_mark([load_image(path)], key=key)
    return None, None


def _beginning(audio: Audio) -> Audio:
    return audio if audio.seconds <= _MOST_SECONDS else audio.sliced(0.0, _MOST_SECONDS)


def _spread(path: Path) -> Iterator[np.ndarray]:
    """Up to 150 frames of a video at equal distances."""
    info = probe_video(path)
    frames = info.frames or round(info.seconds * info.fps)
    step = max(1, frames // _MOST_FRAMES)
    for _, frame in itertools.islice(read_frames(path), 0, None, step):
        yield frame


def _recipe(path: Path, manifest: ManifestFound | None) -> dict[str, Any] | None:
    """The recipe that lies beside a file, else the one within it, else the one in its manifest."""
    if path.name.endswith(RECIPE_NAME):
        return read_recipe(path)
    told = read_recipe(path.with_name(path.name + RECIPE_SUFFIX)) or embedded_recipe(path)
    if told is None and manifest is not None and manifest.recipe is not None:
        return dict(manifest.recipe)
    return told
