"""Every reader of what comes from outside, as a target: whatever bytes it is given, a value or one of our own errors comes out.

Hypothesis (`test_readers.py`), the replay of kept files, and atheris (`run.py`) share these.
"""

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from affetto.runtime.errors import AffettoError
from affetto.runtime.limits import allow

from . import seeds

try:
    import resource
except ImportError:  # not on Windows
    resource = None

CORPUS = Path(__file__).parent / "corpus"
MEMORY = 3 << 29
REFUSALS = (2, 3, 4)  # exit codes of what is told to users; 1 would be a mistake of ours

_MADE: dict[Callable[[], seeds.Seeds], list[tuple[str, bytes]]] = {}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader `MODULE:NAME` or a function of this module, small good files to begin with, and how errors are told."""

    reader: str
    seeds: Callable[[], seeds.Seeds]
    names_file: bool = True  # whether its errors name the file

    def read(self, path: Path) -> object:
        """What the reader makes of a file."""
        module, _, name = self.reader.partition(":")
        if not name:
            return globals()[module](path)
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found(path)

    def good(self) -> list[tuple[str, bytes]]:
        """Suffix and content of the small good files."""
        if self.seeds not in _MADE:
            _MADE[self.seeds] = list(self.seeds())
        return _MADE[self.seeds]

    def kept(self, name: str) -> list[Path]:
        """Files that once broke the reader, or taught something about it."""
        return sorted((CORPUS / name).glob("*.*"))


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """As much memory as where untrusted files are looked at: what takes more is refused by the reader, or found."""
    if resource is None:
        yield
        return
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)}
    allow(memory=MEMORY, seconds=1 << 20)
    try:
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


def survives(target: Target, path: Path, content: bytes) -> bool:
    """Read `content` as the file `path`; whether it was accepted. Fails unless a refusal is one line that names the file."""
    path.write_bytes(content)
    refusal: AffettoError | None = None
    with _bounded():
        try:
            target.read(path)
        except AffettoError as error:
            refusal = error
    if refusal is None:
        return True
    told = str(refusal).strip()
    assert refusal.exit_code in REFUSALS, told
    assert "\n" not in told
    assert len(told) < 2000, told[:200]
    assert path.name in told or not target.names_file, told
    return False


def _track(path: Path) -> object:
    from affetto.conditioning.track import EmotionTrack

    return EmotionTrack.parse(path.read_bytes().decode("utf-8", "replace"))


def _manifest(path: Path) -> object:
    """Errors are collected; each job's own checks run too."""
    from affetto.apps.batch.manifest import read_manifest

    return read_manifest(path).errors


def _checkpoint(path: Path) -> object:
    """What the process with limits runs, here without them."""
    from affetto.weights import unpickle

    try:
        tensors, sources = unpickle.read(path)
        unpickle.write(tensors, sources, path, io.BytesIO())
    except (unpickle.RefusedError, *unpickle.DAMAGE):
        return None
    return tensors


def _landmarks(path: Path) -> object:
    from affetto.generators.portrait.landmark_files import read_landmarks

    return read_landmarks(path, (100, 100))


def _osc(path: Path) -> object:
    from affetto.media.animation.osc import parse_bundle

    return parse_bundle(path.read_bytes())


def _registry(path: Path) -> object:
    from affetto.weights.store import read_header

    return read_header(path)


def _sound_of_films(path: Path) -> object:
    from affetto.media.video import read_sound

    return read_sound(path)


TARGETS = {
    "sound": Target(reader="affetto.media.audio:load_audio", seeds=seeds.sound),
    "picture": Target(reader="affetto.media.image:load_image", seeds=seeds.picture),
    "video": Target(reader="affetto.media.video:probe_video", seeds=seeds.video),
    "film_sound": Target(reader="_sound_of_films", seeds=seeds.film_sound),
    "midi": Target(reader="affetto.media.midi:load_midi", seeds=seeds.midi),
    "mesh": Target(reader="affetto.media.mesh:load_mesh", seeds=seeds.mesh),
    "curves": Target(reader="affetto.media.animation.files:load_curves", seeds=seeds.curves),
    "curve_archive": Target(reader="affetto.media.animation.files:load_curves", seeds=seeds.zip_members),
    "glb_curves": Target(reader="affetto.media.animation.gltf_curves:read_glb_curves", seeds=seeds.glb_curves),
    "track_text": Target(reader="_track", seeds=seeds.track_text, names_file=False),
    "track_files": Target(reader="affetto.conditioning.formats:load_track", seeds=seeds.track_files),
    "scene": Target(reader="affetto.scene.loading:load_scene", seeds=seeds.scene),
    "manifest": Target(reader="_manifest", seeds=seeds.manifest),
    "safetensors": Target(reader="affetto.weights.store:read_arrays", seeds=seeds.safetensors),
    "tensor_header": Target(reader="_registry", seeds=seeds.safetensors),
    "checkpoint": Target(reader="_checkpoint", seeds=seeds.checkpoint),
    "flame": Target(reader="affetto.head.flame:load_flame", seeds=seeds.flame),
    "comment": Target(reader="affetto.media.notes:read_note", seeds=seeds.comment),
    "recipe": Target(reader="affetto.provenance.listings:read_recipe", seeds=seeds.json_documents),
    "landmarks": Target(reader="_landmarks", seeds=seeds.landmarks),
    "mesh_landmarks": Target(reader="affetto.head.transfer:load_landmarks", seeds=seeds.json_documents),
    "calibration": Target(reader="affetto.conditioning.calibration:Calibration.load", seeds=seeds.json_documents),
    "time_map": Target(reader="affetto.generators.voice.time_map:TimeMap.load", seeds=seeds.json_documents),
    "voice_bank": Target(reader="affetto.generators.voice.bank:VoiceBank.from_pretrained", seeds=seeds.bank),
    "osc": Target(reader="_osc", seeds=seeds.osc, names_file=False),
}  # fmt: skip
"""All targets by name."""
